"""`evalkit score`: the numbers of plain scores."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import binomtest

from evalkit import cli, run
from evalkit import report as reports
from evalkit.datasets import score_lists
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import score
from evalkit.protocols.metrics import auc, eer, tpr_at_far
from evalkit.protocols.uncertainty.resampling import metric_draws
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.report.markdown import report_markdown
from evalkit.report.table import table
from evalkit.verdict.compare import compare
from evalkit.verdict.threshold import operating_point


def metrics(*words: object) -> dict[str, dict]:
    done = CliRunner().invoke(cli.cli, ["score", *map(str, words), "--json", "-"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)["metrics"]


def test_labels_and_separators_in_every_spelling(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    for separator in (" ", ",", "\t", ";", "  ", ", "):
        path.write_text("1 0.5\n0 0.25\n-1 -inf\n1 1e-3\n".replace(" ", separator))
        held = score_lists.read(path)
        assert held.genuine is not None and held.fold is None
        assert held.genuine.tolist() == [True, False, False, True]
        assert held.score.tolist() == [0.5, 0.25, -np.inf, 0.001]
    path.write_text("1, 0.5, 3\n0,2,4\n")
    held = score_lists.read(path)
    assert held.score.tolist() == [0.5, 2] and held.fold is not None
    path.write_text("1 0.5 3\n0 inf 4\n")
    held = score_lists.read(path, distance=True)
    assert held.score.tolist() == [-0.5, -np.inf]
    assert held.fold is not None and held.fold.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 0.5\n0.7 1\n", "line 2: expected '0.1 score'"),
        ("1 nan\n", "line 1: expected a finite number, or -inf"),
        ("1 inf\n", "line 1: expected a finite number"),
        ("1 abc\n", "line 1: expected '0.1 score'"),
        ("1 0.5 1\n0 0.5\n", "line 2: expected '0.1 score fold'"),
        ("1 0.5 -1\n", "line 1: expected '0.1 score' or '0.1 score fold'"),
        ("1;1,234\n", "line 1: expected '0.1 score'"),  # a thousand and more, or 1.234
        ("1,0,53\n0,1,7\n", "line 1: expected"),  # a comma that parts, and one that does not
        ("\n", "holds no scores"),
    ],
)
def test_a_wrong_line_is_quoted(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "s.txt").write_text(text)
    with pytest.raises(DataError, match=told):
        score_lists.read(tmp_path / "s.txt")


COMPARED = [
    ("a/1.jpg", "b/2.jpg", 1, 0.9),
    ("c/1.jpg", "d/2.jpg", 0, 0.25),
    ("a/3.jpg", "c/2.jpg", 0, -0.5),
]


@pytest.mark.parametrize(
    ("line", "head"),
    [
        ("{s} {y}", ""),
        ("{y} {a} {b} {s}", ""),
        ("{a},{b},{s},{y}", ""),
        ("{a};{b};{y};{s}", ""),
        ("{s}\t{target}", ""),
        ("{n},{s},{truth}", ",similarity,same"),
        ("{a},{b},{s},{y},x", "file1,file2,cosine,is_match,model"),
        ("{y},{s}", "0,1"),
    ],
)
def test_tables_of_scores_as_people_have_them(tmp_path: Path, line: str, head: str) -> None:
    words = {"truth": (False, True), "target": ("nontarget", "target")}
    lines = [head] if head else []
    for n, (a, b, y, s) in enumerate(COMPARED):
        named = {name: both[y] for name, both in words.items()}
        lines.append(line.format(a=a, b=b, y=y, s=s, n=n, **named))
    (tmp_path / "s.csv").write_text("\n".join(lines))
    held = score_lists.read(tmp_path / "s.csv")
    assert held.genuine is not None and held.genuine.tolist() == [True, False, False]
    assert held.score.tolist() == [0.9, 0.25, -0.5] and held.claims is None
    assert bool(held.told) == bool(head)


@pytest.mark.parametrize("line", ["{a} {b} {s} {y}", "{a} {b} {y} {s}"])
def test_an_image_compared_with_itself_makes_no_claims_of_pairs(tmp_path: Path, line: str) -> None:
    pairs = [*COMPARED, ("a/1.jpg", "a/1.jpg", 1, 0.99)]
    lines = [line.format(a=a, b=b, y=y, s=s) for a, b, y, s in pairs]
    (tmp_path / "s.txt").write_text("\n".join(lines))
    held = score_lists.read(tmp_path / "s.txt")
    assert held.claims is None and held.score.tolist() == [0.9, 0.25, -0.5, 0.99]
    assert held.genuine is not None and held.genuine.tolist() == [True, False, False, True]


@pytest.mark.parametrize("text", ["1;0,53\n0;-1,2\n", "1\t0,53\n0\t-1,2\n", "1 0,53\n0 -1,2\n"])
def test_a_decimal_comma_is_read_where_commas_part_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.txt").write_text(text)
    assert score_lists.read(tmp_path / "s.txt").score.tolist() == [0.53, -1.2]


def test_one_of_many_models_is_chosen_by_its_column(tmp_path: Path) -> None:
    path = tmp_path / "bfw.csv"
    path.write_text(
        "p1,p2,label,vgg16,resnet50\na/1.jpg,b/2.jpg,1,0.5,0.25\na/1.jpg,b/3.jpg,0,0,1\n"
    )
    with pytest.raises(DataError, match=r'p1,p2,label,vgg16,resnet50.*columns={.*"score": COLUMN'):
        score_lists.read(path)
    for column in ("resnet50", "5"):
        held = score_lists.read(path, columns={"score": column, "label": "label"})
        assert held.score.tolist() == [0.25, 1]
        assert held.told.endswith("left out: p1, p2, vgg16")


def test_a_second_score_is_no_fold(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("label,score,pred\n1,0.5,1\n0,0.25,0\n")
    with pytest.raises(DataError, match=r"got 'label,score,pred'.*columns={.*\"score\": COLUMN"):
        score_lists.read(path)


def test_pairs_that_several_models_score_are_told(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    pairs = [("a/1.jpg,a/2.jpg,1", 0.9), ("a/1.jpg,b/1.jpg,0", 0.1)]
    for models, told in (("AB", "2 lines give a pair another score: split"), ("A", "")):
        rows = [f"{m},{pair},{s + n}" for n, m in enumerate(models) for pair, s in pairs]
        path.write_text("\n".join(["model,img1,img2,label,score", *rows]))
        held = score_lists.read(path)
        assert "left out: model" in held.told and (told in held.told)
        assert ("another" in held.told) == bool(told)


def test_labels_from_elsewhere(tmp_path: Path) -> None:
    scores, truth = scored()
    np.save(tmp_path / "s.npy", scores)
    np.save(tmp_path / "y.npy", truth)
    np.savez(tmp_path / "both.npz", scores=scores, labels=truth.astype(int))
    with h5py.File(tmp_path / "both.h5", "w") as f:
        f["similarity"], f["label"] = scores, truth.astype(int)
    both = [(truth, "g.txt"), (~truth, "i.txt")]
    for part, name in both:
        (tmp_path / name).write_text("\n".join(map(str, scores[part])))
    (tmp_path / "y.txt").write_text("\n".join("same" if y else "different" for y in truth))
    expected = auc(scores[truth], scores[~truth]).value
    for words in (
        ("s.npy", "--labels", tmp_path / "y.npy"),
        ("s.npy", "--labels", tmp_path / "y.txt"),
        ("both.npz",),
        ("both.h5",),
        ("g.txt", "--impostors", tmp_path / "i.txt"),
    ):
        assert metrics(tmp_path / words[0], *words[1:])["auc"]["value"] == expected


def test_missing_scores_are_failures_where_they_may_be(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("label,score\n1,0.5\n1,\n0,NaN\n0,0.25\n")
    with pytest.raises(DataError, match=r"line 3: expected a finite number.*allow_failures=True"):
        score_lists.read(path)
    held = score_lists.read(path, allow_failures=True)
    assert held.score.tolist() == [0.5, -np.inf, -np.inf, 0.25]
    path.write_text("1,\n0,0.5\n1,0.25\n")  # the first line may be the one
    with pytest.raises(DataError, match=r"line 1: expected a finite number.*allow_failures=True"):
        score_lists.read(path)
    assert score_lists.read(path, allow_failures=True).score.tolist() == [-np.inf, 0.5, 0.25]


def test_a_matrix_of_scores_has_each_pair_once(tmp_path: Path) -> None:
    who = np.array([0, 0, 1, 1], np.int32)
    rng = np.random.default_rng(0)
    one_way = rng.random((4, 4))
    path = tmp_path / "m.npy"
    for matrix, left, right in (
        (one_way + one_way.T, *np.triu_indices(4, 1)),
        (one_way, *np.nonzero(~np.eye(4, dtype=bool))),
    ):
        np.save(path, matrix)
        held = score_lists.read_matrix(path, who)
        assert held.score.tolist() == matrix[left, right].tolist()
        assert held.genuine is not None
        assert held.genuine.tolist() == (who[left] == who[right]).tolist()
    np.save(path, one_way[:1, :3])
    held = score_lists.read_matrix(path, who)
    assert held.genuine is not None and held.genuine.tolist() == [True, False, False]
    with pytest.raises(DataError, match=r"shape \(1, 3\), and there are 3 subjects"):
        score_lists.read_matrix(path, who[:3])


@pytest.mark.parametrize("column", ["model", "Backbone", "epoch"])
def test_lines_of_several_models_are_told(tmp_path: Path, column: str) -> None:
    lines = [f"{m},{k % 2},{k / 8 + (m == 'B')}" for m in "AB" for k in range(8)]
    path = tmp_path / "s.csv"
    path.write_text("\n".join([f"{column},label,score", *lines]))
    told = score_lists.read(path).told
    assert f"lines of 2 values of {column!r} are taken together, A, B: split the file" in told
    path.write_text("\n".join([f"{column},label,score", *lines[:8]]))
    assert "together" not in score_lists.read(path).told


def test_halves_that_differ_by_rounding_are_one_comparison(tmp_path: Path) -> None:
    who = np.array([0, 0, 1, 1], np.int32)
    scores = np.random.default_rng(0).random((4, 4))
    scores += scores.T
    scores[0, 1] += 1e-9
    scores[2, 3] = scores[3, 2] = -np.inf
    np.save(tmp_path / "m.npy", scores)
    held = score_lists.read_matrix(tmp_path / "m.npy", who, allow_failures=True)
    assert held.score.tolist() == scores[np.triu_indices(4, 1)].tolist()
    assert held.told == "symmetric to within 1e-09: the half above the diagonal is compared"
    scores[0, 1] += 0.1
    np.save(tmp_path / "m.npy", scores)
    held = score_lists.read_matrix(tmp_path / "m.npy", who, allow_failures=True)
    assert len(held.score) == 12
    assert held.told == "not symmetric: both halves are compared, each pair in two ways"


@pytest.mark.parametrize("fill", [0.0, np.nan, -1.0])
@pytest.mark.parametrize("lower", [False, True])
def test_a_half_of_a_matrix_that_is_filled_is_no_comparison(
    tmp_path: Path, fill: float, lower: bool
) -> None:
    who = np.repeat(np.arange(4), 2)
    matrix = np.random.default_rng(0).normal(size=(8, 8)) + 2 * (who[:, None] == who)
    matrix = np.triu(matrix) + np.triu(matrix, 1).T
    (tmp_path / "who.txt").write_text("\n".join(map(str, who)))
    np.save(tmp_path / "whole.npy", matrix)
    matrix[np.triu_indices(8, 1)[::-1] if not lower else np.triu_indices(8, 1)] = fill
    np.save(tmp_path / "half.npy", matrix)
    whole, half = (
        metrics(tmp_path / name, "--subjects", tmp_path / "who.txt")
        for name in ("whole.npy", "half.npy")
    )
    assert half["auc"]["n"] == 28
    assert half["auc"]["value"] == whole["auc"]["value"]


def test_a_matrix_in_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "who.txt").write_text("a\nb\n")
    np.savez(tmp_path / "m.npz", m=np.eye(2))
    words = ["score", str(tmp_path / "m.npz"), "--subjects", str(tmp_path / "who.txt")]
    done = CliRunner().invoke(cli.cli, words)
    assert isinstance(done.exception, DataError) and "m.npz is no .npy" in str(done.exception)


@pytest.mark.parametrize(
    "fold",
    [[0, 65_536, 0, 65_537], [0.1, 0.2, 0.1, 0.2], [0, 1, 0, np.nan], list("abab"), [-1] * 4],
)
def test_folds_that_are_no_small_whole_numbers_are_refused(
    tmp_path: Path, fold: list[object]
) -> None:
    np.savez(tmp_path / "s.npz", score=[0.9, 0.8, 0.1, 0.2], label=[1, 1, 0, 0], fold=fold)
    with pytest.raises(DataError, match=r"s\.npz has folds .* no number from 0"):
        score_lists.read(tmp_path / "s.npz")


def test_the_best_accuracy_is_that_of_every_threshold_tried() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        scores = rng.integers(0, 8, 30) / 4
        genuine = rng.random(30) < 0.5
        tried = [np.mean((scores >= t) == genuine) for t in [*scores, np.inf]]
        assert score.best_accuracy(scores, genuine).value == max(tried)


@pytest.mark.parametrize("scores", [[0.3, np.nextafter(0.3, 1)], [5e-324, 0], [1e308, -1e308]])
def test_scores_next_to_each_other_and_worlds_apart_make_a_histogram(scores: list[float]) -> None:
    report = score.evaluate(np.array(scores * 20), np.arange(40) % 2 == 0)
    assert {report.metrics["auc"].value, report.metrics[score.BEST].value} <= {0.0, 0.5, 1.0}
    held = report.curves["histogram"]
    assert sum(held["genuine"]) == sum(held["impostor"]) == 1
    ends = [*held["low"], held["high"][-1]]
    assert np.isfinite(ends).all() and ends[0] <= min(scores) and ends[-1] >= max(scores)


def test_ten_folds_only_where_folds_are_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    scores = label + rng.normal(size=200)
    lines = [f"{y} {float(s)!r}" for y, s in zip(label, scores, strict=True)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_text("\n".join(f"{x} {i // 20}" for i, x in enumerate(lines)))
    without, with_ = metrics(tmp_path / "a.txt"), metrics(tmp_path / "b.txt")
    assert "accuracy" not in without and len(with_["accuracy"]["folds"]) == 10
    assert {n: m for n, m in with_.items() if n != "accuracy"} == without
    one_class = np.repeat([0, 1], 100)
    with pytest.raises(ProtocolError, match="only"):
        score.evaluate(scores, one_class == 1, one_class)


def scored(pairs: int = 400, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping scores, rounded so that some tie."""
    rng = np.random.default_rng(seed)
    genuine = np.arange(pairs) % 2 == 0
    return np.round(np.where(genuine, 1.5, 0.0) + rng.normal(size=pairs), 2), genuine


def test_every_number_of_plain_scores_has_an_interval_named_for_what_it_is() -> None:
    scores, genuine = scored()
    report = score.evaluate(scores, genuine, np.arange(400) // 40)
    assert set(report.metrics) >= {"accuracy", "auc", "eer", score.BEST, "tpr@far=1e-2"}
    for name, m in report.metrics.items():
        if m.value is not None:
            assert m.low is not None and m.high is not None and m.low < m.value < m.high, name
            assert m.interval == (
                "95% by comparison, 1,000 draws, seed 0, room for one unseen beside 200: "
                "too short where people recur"
            )
    for text in (table(report), report_markdown(report)):
        assert "95 % intervals by comparison: too short where people recur" in text
    certain = score.evaluate(genuine.astype(float), genuine).metrics["auc"]
    assert certain.low == pytest.approx(binomtest(200, 200).proportion_ci().low, abs=0.002)
    assert certain.high == 1


def test_a_long_list_gets_fewer_draws_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, genuine = scored()
    monkeypatch.setattr("evalkit.protocols.uncertainty.intervals.WORK", 400 * 2500)
    assert "by comparison, 250 draws" in score.evaluate(scores, genuine).metrics["auc"].interval


def test_drawing_comparisons_spreads_as_drawing_them_one_by_one_does() -> None:
    """The usual bootstrap by loops; for AUC also the closed form of DeLong et al. 1988."""
    scores, genuine = scored()
    g, i = scores[genuine], scores[~genuine]
    rng = np.random.default_rng(5)
    names = ["auc", "eer", "tpr@far=1e-1", score.BEST]
    looped = []
    for _ in range(1500):
        a, b = rng.choice(g, len(g)), rng.choice(i, len(i))
        both = np.concatenate([a, b]), np.arange(400) < 200
        found = [auc(a, b), eer(a, b), tpr_at_far(a, b, "1e-1"), score.best_accuracy(*both)]
        looped.append([m.value for m in found])
    ours = metric_draws(sample_of({"score": scores, "genuine": genuine}), names, 1500)
    for name, spread in zip(names, np.std(looped, axis=0), strict=True):
        assert ours[name].std() == pytest.approx(spread, rel=0.15), name
    wins = (g[:, None] > i) + 0.5 * (g[:, None] == i)
    delong = wins.mean(axis=1).var(ddof=1) / 200 + wins.mean(axis=0).var(ddof=1) / 200
    assert ours["auc"].std() == pytest.approx(np.sqrt(delong), rel=0.06)


def test_two_score_files_are_paired_line_by_line(tmp_path: Path) -> None:
    scores, genuine = scored()
    worse = scores - 0.8 * genuine * (np.arange(400) % 3 == 0)
    fold = np.arange(400) // 40
    reports = [score.evaluate(s, genuine, fold, set_name="mine") for s in (scores, worse)]
    found = compare(*reports, draws=100)
    assert found.differences["auc"].test == "comparison bootstrap"
    assert found.differences["auc"].p < 0.01 and not found.why_unpaired
    assert found.flips and found.flips[0].left.startswith("line ")
    k = int(found.flips[0].left.removeprefix("line ")) - 1
    assert found.flips[0].base_score == scores[k]
    point = operating_point(reports[0], "1e-1")
    assert point["threshold_low"] < point["threshold"] and point["subjects"] is None
    assert "people recur" in point["note"]


def test_the_real_list_of_mobilefacenet(shared_data: Path) -> None:
    """2,700 genuine pairs, AUC 0.998699, 98.94 % at 0.274: as measured with other code."""
    folder = shared_data / "score_lists"
    held = score_lists.read(folder / "rs_lfw_99.50.txt")
    assert len(held.score) == 5474 and int(held.genuine.sum()) == 2700
    plain = metrics(folder / "rs_lfw_99.50.txt")
    assert plain["auc"]["value"] == pytest.approx(0.998699, abs=5e-7)
    best = plain[score.BEST]
    assert round(best["value"], 4) == 0.9894
    at = (held.score >= 0.274) == held.genuine
    assert abs(at.mean() - best["value"]) < 1 / 5474
    listed = metrics(folder / "rs_lfw_99.50.txt", "--pairs", folder / "pairs_1.txt")
    assert "by subject" in listed["auc"]["interval"]
    assert {n: m["value"] for n, m in listed.items()} == {n: m["value"] for n, m in plain.items()}


def test_scores_of_pairs_have_the_intervals_of_verify(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    who = np.repeat(np.arange(30), 3)
    x = rng.normal(size=(30, 8))[who] + 0.8 * rng.normal(size=(90, 8))
    names = [f"p{w}/{k}.jpg" for k, w in enumerate(who)]
    pairs = [(k, k + 1) for k in range(90) if k % 3 < 2]
    pairs += [(k, int(rng.choice(np.flatnonzero(who != who[k])))) for k in range(90)]
    listed, scores, order = tmp_path / "pairs.txt", tmp_path / "s.txt", rng.permutation(90)
    lines = [f"{names[a]} {names[b]} {int(who[a] == who[b])}" for a, b in pairs]
    listed.write_text("\n".join(lines))
    verified = run.evaluate("verification", x[order], listed, keys=[names[k] for k in order])
    assert verified.outcomes is not None
    np.savetxt(scores, verified.outcomes["score"])
    scored = metrics(scores, "--pairs", listed)
    told = reports.to_json(verified)["metrics"]
    shared = [name for name in told if name in scored]
    assert {"auc", "eer", "tpr@far=1e-1"} <= set(shared)
    assert [scored[name] for name in shared] == [told[name] for name in shared]


def test_scores_of_named_images_resample_the_people_of_their_folders(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    scored, plain, listed = (tmp_path / name for name in ("s.txt", "plain.txt", "p.txt"))
    lines = []
    for k in range(200):
        a, b = rng.integers(12, size=2)
        b = a if k % 2 else b + (a == b)
        one, other = (f"p{who}/{rng.integers(1000)}.jpg" for who in (a, b))
        lines.append((one, other, f"{rng.normal(0.3 * (k % 2)):.6f}", str(k % 2)))
    scored.write_text("\n".join(" ".join(line) for line in lines))
    plain.write_text("\n".join(f"{label} {value}" for *_, value, label in lines))
    listed.write_text("\n".join(f"{one} {other} {label}" for one, other, _, label in lines))
    found = metrics(scored)
    assert "by subject" in found["auc"]["interval"]
    assert found == metrics(plain, "--pairs", listed)
    for label, path in (("1", plain), ("0", listed)):
        path.write_text("\n".join(" ".join(line[:3]) for line in lines if line[3] == label))
    assert "by subject" in metrics(plain, "--impostors", listed)["auc"]["interval"]
    scored.write_text(
        "\n".join(f"{k}.jpg {k + 1}.jpg {v} {y}" for k, (*_, v, y) in enumerate(lines))
    )
    assert "by subject" not in metrics(scored)["auc"]["interval"]


def test_a_pair_list_in_another_order_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("1 0.9\n0 0.1\n")
    for text, told in (("a,b,0\na,c,1\n", "score 1 .* genuine, .* line 1"), ("a,b,1\n", "1 pairs")):
        (tmp_path / "p.txt").write_text(text)
        words = ["score", str(tmp_path / "s.txt"), "--pairs", str(tmp_path / "p.txt")]
        done = CliRunner().invoke(cli.cli, words)
        assert isinstance(done.exception, DataError)
        with pytest.raises(DataError, match=told):
            raise done.exception


@pytest.mark.parametrize(
    ("scores", "option", "other", "told"),
    [
        ("0 .9\n1 .1\n", "--labels", "1\n0\n", "score 1 of s.txt is impostor there, genuine in o"),
        ("1 .9\n0 .1\n", "--impostors", ".2\n", "score 2 of s.txt is labelled impostor, and with"),
        ("1 .9\n1 .8\n", "--impostors", "1 .1\n", "score 1 of o.txt is labelled genuine, and wit"),
    ],
)
def test_labels_that_two_sources_contradict_are_refused(
    tmp_path: Path, scores: str, option: str, other: str, told: str
) -> None:
    (tmp_path / "s.txt").write_text(scores)
    (tmp_path / "o.txt").write_text(other)
    done = CliRunner().invoke(
        cli.cli, ["score", str(tmp_path / "s.txt"), option, str(tmp_path / "o.txt")]
    )
    assert isinstance(done.exception, DataError) and told in str(done.exception)


def test_distances_and_thresholds_below_0_are_doubted(tmp_path: Path) -> None:
    path = tmp_path / "d.txt"
    path.write_text("1 .2\n1 .3\n0 .9\n0 .7\n1 -1\n")
    done = CliRunner().invoke(cli.cli, ["score", str(path), "--distance"])
    assert "warning: 1 of 5 distances lie below 0, the first is -1: of a" in done.stderr
    path.write_text("1 .2\n1 -1e-7\n0 .9\n0 .7\n")
    words = ["score", str(path), "--distance", "--threshold"]
    done = CliRunner().invoke(cli.cli, [*words, "0.5"])
    assert done.exit_code == 0 and "warning" not in done.stderr
    done = CliRunner().invoke(cli.cli, [*words, "-0.5"])
    assert done.exit_code == 2 and "accepts nobody: give the distance itself, 0.5" in done.stderr


@pytest.mark.parametrize("name", ["distance", "Cosine Distance", "euclidean"])
def test_scores_called_distances_are_not_taken_for_similarities(tmp_path: Path, name: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f"label,{name}\n1,.2\n1,.3\n0,.9\n0,.7\n")
    with pytest.raises(DataError, match=f"has scores called '{name}': lower") as e:
        score_lists.read(path)
    assert "--distance if so" in str(e.value.hint)
    assert score_lists.read(path, distance=True).score.tolist() == [-0.2, -0.3, -0.9, -0.7]
    meant = score_lists.read(path, columns={"label": "label", "score": name})
    assert meant.score.tolist() == [0.2, 0.3, 0.9, 0.7]
    np.savez(tmp_path / "d.npz", distance=[0.2, 0.9], label=[1, 0])
    with pytest.raises(DataError, match="'distance'"):
        score_lists.read(tmp_path / "d.npz")
    assert score_lists.read(tmp_path / "d.npz", distance=True).score.tolist() == [-0.2, -0.9]


def test_folds_of_two_files_are_joined(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("1 .9 0\n1 .2 1\n")
    (tmp_path / "i.txt").write_text("0 .1 0\n0 .3 1\n")
    (tmp_path / "both.txt").write_text("1 .9 0\n1 .2 1\n0 .1 0\n0 .3 1\n")
    joined = metrics(tmp_path / "g.txt", "--impostors", tmp_path / "i.txt")
    assert joined == metrics(tmp_path / "both.txt") and "accuracy" in joined


LISTED = "a/1.jpg a/2.jpg 1\na/1.jpg b/1.jpg 0\nb/1.jpg b/2.jpg 1\nb/2.jpg c/1.jpg 0\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a/1 a/2 .9\nb/1 a/1 .1\nb/1 b/2 .8\nb/2 c/1 .2\n", ""),  # no suffix, one pair turned
        ("x/a/1.png a/2.jpg .9\na/1 b/1 .1\nb/1 b/2 .8\nb/2 c/1 .2\n", ""),
        ("t1 t2 .9\nt1 t3 .1\nt3 t4 .8\nt4 t5 .2\n", ""),  # numbers of templates
        (
            "a/1.jpg a/2.jpg .9\nb/1.jpg b/2.jpg .8\nb/2.jpg c/1.jpg .2\na/1.jpg b/1.jpg .1\n",
            "score 2 of s.txt is of b/1.jpg and b/2.jpg, the pair on line 2 of ",
        ),
        ("img1,img2,score\na/1,a/2,.9\na/1,z/1,.1\nb/1,b/2,.8\nb/2,c/1,.2\n", "of a/1 and z/1"),
    ],
)
def test_scores_that_name_other_pairs_than_the_list_are_refused(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "s.txt").write_text(text)
    (tmp_path / "p.txt").write_text(LISTED)
    if not told:
        assert metrics(tmp_path / "s.txt", "--pairs", tmp_path / "p.txt")["auc"]["value"] == 1
        return
    words = ["score", str(tmp_path / "s.txt"), "--pairs", str(tmp_path / "p.txt")]
    done = CliRunner().invoke(cli.cli, words)
    assert isinstance(done.exception, DataError) and told in str(done.exception)


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("dlib_LFW_roc_curve.txt", 0.9938),
        ("eigenfaces-original-roc.txt", 0.6107),
        ("funneled-v1-like-roc.txt", 0.7950),
    ],
)
def test_the_curves_on_lfws_site_as_scores(shared_data: Path, name: str, best: float) -> None:
    """A curve of 3,000 + 3,000 pairs as scores that have it: its best accuracy comes out."""
    tpr, far = np.genfromtxt(shared_data / "lfw_official_roc" / name).T
    known = np.isfinite(tpr) & np.isfinite(far)
    counts = np.unique(np.rint(np.column_stack([tpr, far])[known] * 3000).astype(int), axis=0)
    counts = np.concatenate([[[0, 0]], counts[np.lexsort((counts[:, 0], counts[:, 1]))]])
    counts = np.maximum.accumulate(np.concatenate([counts, [[3000, 3000]]]))
    step = np.diff(counts, axis=0)
    rank = -np.arange(len(step), dtype=float)
    scores = np.concatenate([np.repeat(rank, step[:, 0]), np.repeat(rank, step[:, 1])])
    report = score.evaluate(scores, np.arange(6000) < 3000)
    value = report.metrics[score.BEST].value
    assert value is not None and round(value, 4) == pytest.approx(best, abs=2e-4)


def test_scores_that_fall_where_faces_are_alike_are_doubted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.txt").write_text("1 0.2\n1 0.3\n0 0.8\n0 0.9\n")
    told = "warning: genuine pairs score below impostors, AUC 0.00000: for distances say --distance"
    for more, expected in (([], told), (["--distance"], "")):
        assert cli.run(["score", str(tmp_path / "s.txt"), *more]) == 0
        shown = capsys.readouterr()
        assert shown.err.strip() == expected
        assert ("4 scored pairs, score = minus distance\n" in shown.out) == bool(more)
