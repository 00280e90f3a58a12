import contextlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evalkit import cli
from evalkit.datasets import ijb as files
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import ijb
from evalkit.protocols.ijb import pair_scores, templates
from evalkit.protocols.metrics import tpr_at_far
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.uncertainty.resampling import metric_draws
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.types import PairSet


def _slow_templates(
    x: np.ndarray, template: np.ndarray, media: np.ndarray, det: np.ndarray, how: ijb.Pooling
) -> np.ndarray:
    """Pool as InsightFace's scripts do, in their loops."""
    feats = x.astype(np.float64)
    feats = feats[:, 0] + feats[:, 1] if how.flip == "sum" else feats[:, 0]
    if not how.keep_norm:
        feats = feats / np.linalg.norm(feats, axis=1, keepdims=True)
    if how.detector_score:
        feats = feats * det[:, None]
    out = []
    for t in np.unique(template):
        of = feats[template == t]
        if how.media:
            medium = media[template == t]
            of = np.array([of[medium == m].mean(axis=0) for m in np.unique(medium)])
        total = of.sum(axis=0)
        out.append(total / np.linalg.norm(total))
    return np.array(out)


@pytest.mark.parametrize("flip", ["none", "sum"])
@pytest.mark.parametrize("keep_norm", [True, False])
@pytest.mark.parametrize("detector_score", [True, False])
@pytest.mark.parametrize("media", [True, False])
def test_every_switch_of_the_pooling(
    flip: str, keep_norm: bool, detector_score: bool, media: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "_IMAGES", 7)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2, 8)).astype(np.float32)
    template, medium = rng.integers(5, 15, 60), rng.integers(0, 4, 60)
    det = rng.uniform(0.1, 1, 60)
    how = ijb.Pooling(flip, keep_norm, detector_score, media)  # type: ignore[arg-type]
    pooled = ijb.pool(x, template, medium, det, how)
    assert pooled.ids.tolist() == np.unique(template).tolist()
    expected = _slow_templates(x, template, medium, det, how)
    np.testing.assert_allclose(pooled.vectors, expected, atol=1e-6)


def test_the_poolings_name_is_insightfaces() -> None:
    assert ijb.Pooling().name == "N1D1F1"
    assert ijb.Pooling("none", False, False, False).name == "N0D0F0M0"
    assert ijb.Pooling("concat").name == "N1D1Fconcat"


def test_images_without_a_vector_are_left_out_and_counted() -> None:
    x = np.array([[1, 0], [np.nan, 0], [np.nan, 1]], np.float32)
    how = ijb.Pooling("none", detector_score=False)
    pooled = ijb.pool(x, np.array([1, 1, 2]), np.arange(3), None, how)
    assert pooled.failed_images == 2
    assert pooled.vectors[0].tolist() == [1, 0] and np.isnan(pooled.vectors[1]).all()
    report = ijb.verify(pooled, np.array([1]), np.array([2]), np.array([True]), fars=["0.1"])
    assert (report.failures.images, report.failures.genuine) == (2, 1)


_COARSE = st.integers(-2, 2).map(float) | st.just(np.nan)  # many ties, and failures


@settings(deadline=None, max_examples=150)
@given(
    hnp.arrays(np.float32, (8, 3), elements=_COARSE),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.booleans()), min_size=1),
    st.sampled_from(["0.05", "0.3", "0.5", "1"]),
)
def test_long_lists_give_what_exact_scores_give(
    x: np.ndarray, pairs: list[tuple[int, int, bool]], far: str
) -> None:
    unit = normalise(x)
    left, right, genuine = (np.array(c) for c in zip(*pairs, strict=True))
    s = exact_scores(unit, left, unit, right)
    screened = pair_scores.screen(unit, PairSet(left, right, genuine))
    assert pair_scores.tpr_at_far(screened, far) == tpr_at_far(s[genuine], s[~genuine], far)
    for threshold in (-0.5, 0.0, *s[np.isfinite(s)][:5].tolist()):
        accepted = np.count_nonzero(s[~genuine] >= threshold)
        assert pair_scores.false_accepts(screened, threshold) == accepted


def test_long_lists_settle_what_float32_cannot_tell() -> None:
    rng = np.random.default_rng(0)
    x = normalise(rng.normal(size=(200, 64)))
    x[100:] = normalise(x[:100] + 1e-7 * rng.normal(size=(100, 64)).astype(np.float32))
    left, right = rng.integers(0, 200, (2, 5000))
    genuine = np.arange(5000) < 500
    s = exact_scores(x, left, x, right)
    scored = pair_scores.screen(x, PairSet(left, right, genuine))
    for far in ("1e-3", "1e-2", "0.1", "0.9"):
        assert pair_scores.tpr_at_far(scored, far) == tpr_at_far(s[genuine], s[~genuine], far)


def test_rows_of_a_template_are_summed_in_one_order() -> None:
    rng = np.random.default_rng(0)
    for width in (1, 3, 64):
        count = np.append(rng.integers(1, 12, 300), [40, 200, 1])
        x = rng.normal(size=(count.sum(), width)) / 3
        first = np.cumsum(count) - count
        np.testing.assert_array_equal(templates._sums(x, first), np.add.reduceat(x, first))


@pytest.mark.parametrize("rows", [2, 30, 200])
def test_a_screen_of_all_products_is_one_of_each_pair(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_scores, "_CELLS", 1000)  # several bands
    monkeypatch.setattr(pair_scores, "_MOST", 1 << 20)
    rng = np.random.default_rng(rows)
    x = normalise(rng.normal(size=(rows, 64)))
    x[rows // 2] = np.nan
    left, right = rng.integers(0, rows // 2 + 1, 5000), rng.integers(rows // 3, rows, 5000)
    pairs = PairSet(left, right, rng.random(5000) < 0.1)
    of_all, of_each = (pair_scores.screen(x, pairs, 2, by_pair=each) for each in (False, True))
    assert np.isneginf(of_all.impostor).any()
    np.testing.assert_array_equal(np.isneginf(of_all.impostor), np.isneginf(of_each.impostor))
    same = np.isfinite(of_each.impostor)
    off = np.abs(of_all.impostor[same] - of_each.impostor[same]).max(initial=0)
    assert off <= 2 * of_all.error
    for of in (of_all, of_each):
        k = [1, 7, len(of.impostor)]
        assert [of.highest(i) for i in k] == np.sort(of.impostor)[::-1][np.array(k) - 1].tolist()


def _listed(seed: int = 0) -> tuple[np.ndarray, PairSet]:
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(40), 5)
    x = normalise(rng.normal(size=(40, 8))[subject] + 0.8 * rng.normal(size=(200, 8)))
    x[7] = np.nan
    left, right = rng.integers(0, 200, (2, 6000))
    left, right = left[left != right], right[left != right]
    return x, PairSet(left, right, subject[left] == subject[right])


def test_a_list_kept_whole_gives_the_draws_of_its_pairs() -> None:
    x, pairs = _listed()
    kept = pair_scores.outcomes(pair_scores.screen(x, pairs), pairs, ["0.6", "0.01"])
    score = exact_scores(x, pairs.left, x, pairs.right)
    whole = {"score": score, "genuine": pairs.genuine, "left": pairs.left, "right": pairs.right}
    np.testing.assert_array_equal(sample_of(kept).impostor, sample_of(whole).impostor)
    names = ["tpr@far=0.01", "tpr@far=0.1"]
    a, b = (metric_draws(sample_of(o), names, 400) for o in (kept, whole))
    for name in names:  # people are numbered in another order, so other people are drawn
        assert a[name].std() == pytest.approx(b[name].std(), rel=0.2)
        assert a[name].mean() == pytest.approx(b[name].mean(), abs=0.01)


def test_a_long_list_keeps_its_exact_tail_and_nearly_the_same_spread() -> None:
    x, pairs = _listed()
    kept = pair_scores.outcomes(pair_scores.screen(x, pairs), pairs, ["0.01"])
    score = exact_scores(x, pairs.left, x, pairs.right)[~pairs.genuine]
    top = np.sort(score)[::-1][: 2 * (len(score) // 100) + 100]
    np.testing.assert_array_equal(kept.impostor_score, top)
    assert kept.left_images is not None and kept.right_images is not None
    assert kept.left_images.sum() == kept.right_images.sum() == len(score)
    whole = pair_scores.outcomes(pair_scores.screen(x, pairs), pairs, ["1"])
    a, b = (metric_draws(sample_of(o), ["tpr@far=0.01"], 400) for o in (kept, whole))
    assert a["tpr@far=0.01"].std() == pytest.approx(b["tpr@far=0.01"].std(), rel=0.1)


def test_every_number_of_both_reports_has_its_interval() -> None:
    templates, galleries, probe = _searched()
    how = {"threshold": 0.3, "insightface": True}
    found = ijb.evaluate(templates, galleries=galleries, probe=probe, fpirs=["0.2"], **how)
    x, pairs = _listed()
    held = ijb.evaluate(ijb.Templates(np.arange(200), x, 0), pairs, fars=["0.01"], **how)
    assert {"fpir@threshold=0.3", "fnir@threshold=0.3"} < set(found.metrics)
    assert {"fmr@threshold=0.3", "fnmr@threshold=0.3"} < set(held.metrics)
    for name, m in {**found.metrics, **held.metrics}.items():
        assert m.value is not None and m.low is not None and m.high is not None, name
        assert m.low <= m.value <= m.high, name


def test_a_high_far_of_a_long_list_is_drawn_from_some_of_its_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, pairs = _listed()
    scored = pair_scores.screen(x, pairs)
    whole = pair_scores.outcomes(scored, pairs, ["0.5"])
    monkeypatch.setattr(pair_scores, "LONGEST_TAIL", 300)
    monkeypatch.setattr(pair_scores, "SAMPLED", 5000)
    kept = pair_scores.outcomes(scored, pairs, ["0.5", "0.01"])
    n = kept.impostors
    assert len(kept.impostor_score) == 2 * int(0.01 * n) + 100
    k = kept.sampled_place
    exact = exact_scores(x, scored.left[k], x, scored.right[k])
    np.testing.assert_array_equal(kept.sampled_score, exact)
    a, b = (metric_draws(sample_of(o), ["tpr@far=0.5"], 200)["tpr@far=0.5"] for o in (whole, kept))
    assert abs(a.mean() - b.mean()) < a.std() and 0.7 < b.std() / a.std() < 1.5


def test_rows_of_another_length_are_refused() -> None:
    pairs = PairSet(np.array([0]), np.array([1]), np.array([True]))
    with pytest.raises(ProtocolError, match="not of unit length"):
        pair_scores.screen(np.full((2, 2), 3, np.float32), pairs)


def _searched(seed: int = 0) -> tuple[ijb.Templates, list[ijb.Enrolled], ijb.Enrolled]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, 6))
    subject = np.concatenate([np.arange(20), rng.integers(0, 20, 60)])
    x = normalise(centres[subject] + 0.7 * rng.normal(size=(80, 6)))
    templates = ijb.Templates(np.arange(80) * 3, x, 0)
    enrolled = [ijb.Enrolled(np.arange(a, a + 10) * 3, subject[a : a + 10]) for a in (0, 10)]
    return templates, enrolled, ijb.Enrolled(np.arange(20, 80) * 3, subject[20:])


def test_searches_in_two_galleries_are_what_loops_give() -> None:
    templates, galleries, probe = _searched()
    report = ijb.identify(
        templates, galleries, probe, fpirs=["0.1"], threshold=0.4, insightface=True
    )
    x = templates.vectors
    tpir, theirs, ranks, fpir, fnir = [], [], [], [], []
    for g in galleries:
        rows = g.template // 3
        mates, nonmates = [], []
        for p, who in zip(probe.template // 3, probe.subject, strict=True):
            s = exact_scores(x, np.full(10, p), x, rows)
            if who in g.subject:
                own = s[g.subject == who][0]
                mates.append((own, 1 + (s > own).sum(), s[g.subject != who].max()))
                ranks.append(mates[-1][1])
            else:
                nonmates.append(s.max())
        fpir.append(np.mean([s >= 0.4 for s in nonmates]))
        fnir.append(np.mean([not (s >= 0.4 and r == 1) for s, r, _ in mates]))
        nonmates.sort(reverse=True)
        k = int(0.1 * len(nonmates))
        tpir.append(np.mean([s > nonmates[k] and r == 1 for s, r, _ in mates]))
        theirs.append(np.mean([s > other and s > nonmates[k - 1] for s, _, other in mates]))
    assert report.metrics["tpir@fpir=0.1"].folds == tuple(tpir)
    assert report.metrics["fpir@threshold=0.4"].value == pytest.approx(np.mean(fpir))
    assert report.metrics["fnir@threshold=0.4"].value == pytest.approx(np.mean(fnir))
    assert report.metrics["tpir@fpir=0.1"].value == np.mean(tpir)
    assert report.metrics["tpir@fpir=0.1,rule=insightface"].folds == tuple(theirs)
    for k in ijb.DEPTHS:
        assert report.metrics[f"rank-{k}"].value == np.mean(np.array(ranks) <= k)
        assert report.metrics[f"rank-{k}"].n == 60


LOST = [2, 13, 25, 50]  # two enrolled templates and two probes


def test_a_template_without_a_vector_only_misses_in_comparisons() -> None:
    templates, _, _ = _searched()
    x, subject = templates.vectors.copy(), np.concatenate([np.arange(20), _searched()[2].subject])
    x[LOST] = np.nan
    i, j = np.triu_indices(80, 1)
    genuine = subject[i] == subject[j]
    broken = ijb.Templates(templates.ids, x, 7)
    report = ijb.verify(broken, i * 3, j * 3, genuine, fars=["0.1", "0.02"])
    scores = exact_scores(x, i, x, j)
    impostor = np.sort(scores[~genuine])[::-1]
    for far in (0.1, 0.02):
        accepted = scores > impostor[int(far * len(impostor))]
        m = report.metrics[f"tpr@far={far}"]
        assert (m.value, m.n) == (accepted[genuine].mean(), len(i))
        assert m.far == accepted[~genuine].mean() <= far
        assert not accepted[np.isin(i, LOST) | np.isin(j, LOST)].any()
    lost = np.isin(i, LOST) | np.isin(j, LOST)
    told = report.failures
    assert told.images == 7
    assert (told.genuine, told.impostor) == ((lost & genuine).sum(), (lost & ~genuine).sum())


def test_a_template_without_a_vector_only_misses_in_searches() -> None:
    templates, galleries, probe = _searched()
    x = templates.vectors.copy()
    x[LOST] = np.nan
    report = ijb.identify(ijb.Templates(templates.ids, x, 7), galleries, probe, fpirs=["0.1"])
    hit, tpir = {k: [] for k in ijb.DEPTHS}, []
    for g in galleries:
        mates, nonmates = [], []
        for p, who in zip(probe.template // 3, probe.subject, strict=True):
            s = exact_scores(x, np.full(10, p), x, g.template // 3)
            if who not in g.subject:
                nonmates.append(s.max())
                continue
            own = s[g.subject == who][0]
            above = int((s > own).sum()) if np.isfinite(own) else 10**6
            mates.append((own, above))
            for k in ijb.DEPTHS:
                hit[k].append(above < k)
        bar = np.sort(nonmates)[::-1][int(0.1 * len(nonmates))]
        tpir.append(np.mean([own > bar and above == 0 for own, above in mates]))
    assert report.metrics["tpir@fpir=0.1"].folds == tuple(tpir)
    for k, hits in hit.items():
        assert (report.metrics[f"rank-{k}"].value, report.metrics[f"rank-{k}"].n) == (
            np.mean(hits),
            len(hits),
        )
    whole = ijb.identify(templates, galleries, probe, fpirs=["0.1"])
    assert report.metrics["rank-1"].value < whole.metrics["rank-1"].value
    lost = np.isin(np.arange(80), LOST)
    searches = [
        (who in g.subject, bool(lost[p] or lost[g.template // 3][g.subject == who].any()))
        for g in galleries
        for p, who in zip(probe.template // 3, probe.subject, strict=True)
    ]
    told = report.failures
    assert (told.images, told.genuine) == (7, searches.count((True, True)))
    assert told.impostor == searches.count((False, True)) > 0


@pytest.mark.parametrize("shift", [-7, 10**12])
def test_subjects_may_have_any_numbers(shift: int) -> None:
    templates, galleries, probe = _searched()
    moved = [ijb.Enrolled(e.template, e.subject + shift) for e in (*galleries, probe)]
    found = ijb.identify(templates, moved[:-1], moved[-1], fpirs=["0.1"]).metrics
    assert found == ijb.identify(templates, galleries, probe, fpirs=["0.1"]).metrics


def test_a_template_without_images_is_named() -> None:
    templates, galleries, _ = _searched()
    with pytest.raises(ProtocolError, match="1 templates have no images, the first is 7"):
        ijb.identify(templates, galleries, ijb.Enrolled(np.array([3, 7]), np.array([0, 1])))


@pytest.mark.parametrize("far_apart", [1, 10**12])
def test_templates_are_found_by_a_table_and_without(
    far_apart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "_BAND", 7)
    rng = np.random.default_rng(0)
    ids = far_apart * np.unique(rng.integers(-500, 500, 100))
    made = ijb.Templates(ids, np.empty((len(ids), 2), np.float32), 0)
    row = rng.integers(0, len(ids), 50)
    assert made.rows(ids[row]).tolist() == row.tolist()
    for missing in (ids[0] - 1, ids[-1] + 1, *np.setdiff1d(ids + 1, ids)[:3]):
        with pytest.raises(ProtocolError, match=f"2 templates .* the first is {missing}"):
            made.rows(np.insert(ids[row], [20, 30], missing))


def test_a_long_list_of_pairs_holds_few_bytes_per_pair() -> None:
    rng, pairs = np.random.default_rng(0), 400_000
    x = normalise(rng.normal(size=(300, 8)))
    left, right = rng.integers(0, 300, (2, pairs)).astype(np.int32)
    held = ijb.Templates(np.arange(300), x, 0)
    how = {"fars": ["1e-2", "1e-4"], "threshold": 0.9}
    ijb.verify(held, left[:99], right[:99], (left % 30 == right % 30)[:99], **how)  # imports
    tracemalloc.start()
    try:
        ijb.verify(held, left, right, left % 30 == right % 30, **how)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 45 * pairs


def test_a_gallery_given_twice_is_refused() -> None:
    templates, galleries, probe = _searched()
    with pytest.raises(ProtocolError, match=r"subject \d+ is enrolled in 2 galleries"):
        ijb.identify(templates, [galleries[0], galleries[0]], probe)


MATCHES = ["--pairs", "matches.csv", *("--subjects", "G1.csv", "--subjects", "G2.csv")]
MATCHES += ["--subjects", "P.csv"]


def _on_disk(folder: Path) -> list[str]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2, 8)).astype(np.float32)
    np.save(folder / "F.npy", x)
    template = np.repeat(np.arange(10), 4)
    media = "".join(f"{i}.jpg {t} {i // 2}\n" for i, t in enumerate(template))
    (folder / "media.txt").write_text(media)
    others = [9, 8, 7, 6, 5, 1, 2, 3, 4]
    lines = "".join(f"{a} {b} {a % 2}\n" for a, b in enumerate(others))
    (folder / "pairs.txt").write_text(lines)
    box = " ".join("1" * 10)
    (folder / "det.txt").write_text("".join(f"{i}.jpg {box} 0.{i % 9 + 1}\n" for i in range(40)))
    for name, ids in (("G1", range(3)), ("G2", range(3, 6)), ("P", range(6, 10))):
        lines = "".join(f"{t},{t if t < 6 else t % 4},x\n" for t in ids)
        (folder / f"{name}.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n" + lines)
    (folder / "matches.csv").write_text("0,8\n1,9\n2,6\n0,9\n1,8\n4,9\n")
    return ["--features", "F.npy", "--media", "media.txt", "--json", "-"]


@pytest.mark.parametrize(
    ("more", "metric", "pooling"),
    [
        (["--pairs", "pairs.txt", "--far", "0.3", "--compat"], "tpr@far=0.3", "N1D0F0"),
        (["--pairs", "pairs.txt", "--threshold", "0.1"], "fmr@threshold=0.1", "N1D0F0"),
        (
            [*MATCHES, "--far", "0.4"],
            "tpr@far=0.4",
            "N1D0F0",
        ),
        (
            ["--pairs", "pairs.txt", "--far", "0.3", "--flip", "sum", "--detections", "det.txt"],
            "tpr@far=0.3",
            "N1D1F1",
        ),
        (
            ["--gallery", "G1.csv", "--gallery", "G2.csv", "--probe", "P.csv", "--unit-images"],
            "rank-1",
            "N0D0F0",
        ),
    ],
)
def test_the_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    metric: str,
    pooling: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.cli, ["ijb", *_on_disk(tmp_path), *more])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["metrics"][metric]["value"] is not None
    assert report["provenance"]["pooling"] == pooling
    assert CliRunner().invoke(cli.cli, ["ijb", *_on_disk(tmp_path)]).exit_code == 2


@pytest.mark.parametrize(
    ("more", "table", "metric"),
    [
        (["--pairs", "pairs.txt"], "key,sex\n0.jpg,f\n36.jpg,f\n4.jpg,m\n", "fmr@far=0.5,sex=f"),
        (MATCHES, "subject,sex\n0,f\n1,f\n2,m\n", "fnmr@far=0.5,sex=f"),
        (
            [*("--gallery", "G1.csv", "--gallery", "G2.csv", "--probe", "P.csv")],
            "subject,sex\n0,f\n1,f\n2,m\n",
            "rank-1@sex=f",
        ),
        (["--pairs", "pairs.txt"], "subject,sex\n0,f\n", "names subjects, and no list says whom"),
        (["--pairs", "pairs.txt"], "pair,rain\n1,f\n", "names pairs, and IJB's are of templates"),
    ],
)
def test_the_command_by_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], table: str, metric: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "groups.csv").write_text(table)
    asked = [*_on_disk(tmp_path), *more, "--groups", "groups.csv"]
    asked += ["--far", "0.5"] if "--pairs" in more else []
    done = CliRunner().invoke(cli.cli, ["ijb", *asked])
    if "@" not in metric:
        assert done.exception is not None and metric in str(done.exception)
        return
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metrics"][metric]["n"] > 0


def test_rows_that_were_never_written_are_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = _on_disk(tmp_path)
    x = np.load("F.npy")
    x[7] = 0
    np.save("F.npy", x)
    with pytest.raises(DataError, match=r"1 of 40 rows of F.npy were never written: 7"):
        cli.cli(["ijb", *given, "--pairs", "pairs.txt"], standalone_mode=False)
    done = CliRunner().invoke(cli.cli, ["ijb", *given, "--pairs", "pairs.txt", "--allow-failures"])
    assert done.exit_code == 0, done.output


def test_a_template_with_itself_is_told_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = _on_disk(tmp_path)
    with (tmp_path / "pairs.txt").open("a") as f:
        f.write("3 3 1\n")
    done = CliRunner().invoke(cli.cli, ["ijb", *given, "--pairs", "pairs.txt"])
    told = "1 pairs are a template with itself, first 3: their scores are the highest"
    assert f"warning: {told}" in done.stderr
    assert json.loads(done.stdout)["provenance"]["of one image"] == told
    first = (tmp_path / "pairs.txt").read_text().split("\n")[0].split()
    for label, code in ((first[2], 0), (str(1 - int(first[2])), 3)):
        with (tmp_path / "pairs.txt").open("a") as f:
            f.write(f"{first[1]} {first[0]} {label}\n")
        done = CliRunner().invoke(cli.cli, ["ijb", *given, "--pairs", "pairs.txt"])
        if code == 0:
            assert "repeat another one: each counts as often" in done.stderr
            assert "1 of " in json.loads(done.stdout)["provenance"]["listed twice"]
        else:
            assert isinstance(done.exception, DataError)
            assert "one subject, and two in another line" in str(done.exception)
    search = ["--gallery", "G1.csv", "--gallery", "G2.csv", "--probe", "P.csv"]
    with (tmp_path / "P.csv").open("a") as f:
        f.write("2,2,x\n")
    with pytest.raises(DataError, match=r"P\.csv searches for 1 templates that are enrolled, .* 2"):
        cli.cli(["ijb", *given, *search], standalone_mode=False)


@pytest.mark.parametrize("score", ["-1", "57.3"])
def test_a_detection_score_is_from_0_to_1(tmp_path: Path, score: str) -> None:
    """A list with the score first ends in a coordinate, which would weigh the images."""
    path = tmp_path / "det.txt"
    path.write_text(f"1.jpg {' 5' * 10} 0.9\n2.jpg {' 5' * 10} {score}\n")
    with pytest.raises(DataError, match=rf"det\.txt gives 2\.jpg the detection score {score}"):
        files.read_detections(path)


def test_a_gallery_in_place_of_the_pairs_is_told_what_pairs_look_like(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,2,x\n")
    with pytest.raises(DataError) as e:
        files.read_pairs(tmp_path / "g.csv")
    told = "g.csv is not a pair list (expected: template template 0-or-1)"
    assert str(e.value) == told


def test_the_scripts_lists(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("1.jpg 1 69544\n2.jpg 1 69544\n")
    media = files.read_media(path)
    assert media.names == ("1.jpg", "2.jpg") and media.template.tolist() == [1, 1]
    path.write_text("1.jpg 46.06 62.0 87.7 60.3 68.8 77.6 52.1 99.8 86.4 98.6 0.999\n")
    found = files.read_detections(path)
    assert found.landmarks[0, 0].tolist() == pytest.approx([46.06, 62.0])
    assert found.score.tolist() == pytest.approx([0.999])
    path.write_text("1 11065 1\n1 11066 0\n\n")
    pairs = files.read_pairs(path)
    assert pairs.right.tolist() == [11065, 11066] and pairs.genuine.tolist() == [True, False]
    path.write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n5,9,a\n5,9,b\n6,8,c\n")
    assert files.read_enrolled(path).template.tolist() == [5, 6]
    path.write_text("5,9,a\n6,8,c\n")
    with pytest.raises(DataError, match="list has no header: its first line is '5,9,a'"):
        files.read_enrolled(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n1 2 0 1\n", "cannot read|is not a pair list"),
        ("1 2 x\n", "cannot read|is not a pair list"),
        ("1 2 2\n", "neither 0 nor 1"),
        ("1 99999999999999999999 0\n", "is not a pair list"),
        ("", "holds no pairs"),
    ],
)
def test_what_is_no_list_of_pairs_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        files.read_pairs(path)


METADATA = (
    "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,GENDER\n5,9,a.jpg,1,0\n5,9,b.jpg,2,\n6,8,c.jpg,3,1\n"
)


def test_matches_of_nist_are_genuine_where_both_templates_show_one_subject(tmp_path: Path) -> None:
    (tmp_path / "meta.csv").write_text(METADATA + "7,9,d.jpg,4,0\n")
    faces = files.read_faces(tmp_path / "meta.csv")
    assert faces.names == ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    assert faces.template.tolist() == [5, 5, 6, 7] and faces.media.tolist() == [1, 2, 3, 4]
    assert faces.columns["GENDER"] == ("0", "", "1", "0")
    templates = [files.read_enrolled(tmp_path / "meta.csv")]
    path = tmp_path / "matches.csv"
    path.write_text("5,6\n5,7\n")
    made = files.read_matches(path, templates)
    assert made.left.tolist() == [5, 5] and made.genuine.tolist() == [False, True]
    path.write_text("5,6\n4,7\n")
    with pytest.raises(DataError, match="compares the template 4, whose subject is not known"):
        files.read_matches(path, templates)
    path.write_text("5,6,1\n")
    with pytest.raises(DataError, match=r"is not a pair list \("):
        files.read_matches(path, templates)
    (tmp_path / "meta.csv").write_text(METADATA + "6,9,d.jpg,4,0\n")
    with pytest.raises(DataError, match=r"template 6 in meta\.csv has two subjects"):
        files.read_faces(tmp_path / "meta.csv")
    (tmp_path / "meta.csv").write_text(METADATA + "7,-1,d.jpg,4,0\n")
    for read in (files.read_faces, files.read_enrolled):
        with pytest.raises(DataError, match=r"7 in meta\.csv has the subject -1, which names no"):
            read(tmp_path / "meta.csv")
    (tmp_path / "meta.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="has no template column; its columns are a, b"):
        files.read_faces(tmp_path / "meta.csv")


@pytest.mark.parametrize(
    ("split", "expected"), [(1, (17997, 1970, 11787, 1803)), (2, (18715, 1952, 11779, 1779))]
)
def test_ijb_a_as_nist_publishes_it(
    split: int, expected: tuple[int, ...], shared_data: Path
) -> None:
    faces = files.read_faces(shared_data / "ijba" / f"verify_metadata_{split}.csv")
    templates = files.read_enrolled(shared_data / "ijba" / f"verify_metadata_{split}.csv")
    compared = shared_data / "ijba" / f"verify_comparisons_{split}.csv"
    pairs = files.read_matches(compared, [templates])
    counts = (len(faces.names), len(templates.template), len(pairs.left), pairs.genuine.sum())
    assert counts == expected and len({*templates.subject}) == 167


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60) | st.text("0123456789 ,.-x\n\r", max_size=60).map(str.encode))
def test_any_bytes_give_lists_or_one_clear_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(data)
    of_media = (files.read_media, files.read_detections, files.read_pairs)
    for read in (*of_media, files.read_enrolled, files.read_faces):
        with contextlib.suppress(DataError):
            read(path)


@pytest.mark.parametrize(
    "text",
    [
        "TEMPLATE_ID,SUBJECT_ID,FILENAME\n5,1,a\n6,2,b\n6,2,c\n",
        "SUBJECT_ID,TEMPLATE_ID,FILENAME\n1,5,a\n2,6,b\n",
        ",TEMPLATE_ID,SUBJECT_ID,FILENAME\n0,5,1,a\n1,6,2,b\n",
        "tid,sid\n5,1\n6,2\n",
    ],
)
def test_the_columns_of_a_gallery_stand_where_its_header_names_them(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "g.csv").write_text(text)
    found = files.read_enrolled(tmp_path / "g.csv")
    assert (found.template.tolist(), found.subject.tolist()) == ([5, 6], [1, 2])
