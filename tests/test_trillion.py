import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evalkit import cli, evaluate, synth
from evalkit.datasets import trillion as files
from evalkit.errors import DataError, ProtocolError, ReportError
from evalkit.protocols import trillion
from evalkit.protocols.metrics import tpr_at_far
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.vectors import devkit_matrix, matching


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth")
    faces = synth.FaceSet(subjects=12, images=4, distractors=500, dim=128, seed=1)
    for kind in ("npy", "bin"):
        list(synth.write(faces, folder, kind))  # type: ignore[arg-type]
    return folder


def _run(folder: Path, *options: str) -> tuple[int, str, BaseException | None]:
    options = tuple(str(folder / o) if (folder / o).exists() else o for o in options)
    done = CliRunner().invoke(cli.cli, ["trillion", *options])
    return done.exit_code, done.stdout, done.exception


@pytest.mark.parametrize("kind", ["npy", "bin"])
def test_a_synthetic_set_gives_its_answer(small: Path, kind: str) -> None:
    options = ["--features", f"features.{kind}", "--subjects", "subjects.txt"]
    options += ["--memory", "1e-4"] if kind == "bin" else []
    code, out, error = _run(small, *options, "--expect", "answer.json", "--json", "-")
    assert code == 0, error
    found, known = json.loads(out)["metrics"], json.loads((small / "answer.json").read_text())
    known = {k: m for k, m in known["metrics"].items() if m["value"] is not None}
    assert len(known) >= 3
    for name, m in known.items():
        ends = dict.fromkeys(("low", "high", "interval", "people"))
        assert {**found[name], **ends} == {**m, **ends}, name
        assert found[name]["low"] <= m["value"] <= found[name]["high"], name


def test_another_answer_is_noticed(small: Path) -> None:
    other = json.loads((small / "answer.json").read_text())
    other["metrics"]["rank-1@distractors=500"]["value"] = 0.5
    (small / "other.json").write_text(json.dumps(other))
    options = ["--features", "features.npy", "--subjects", "subjects.txt"]
    _, _, error = _run(small, *options, "--expect", "other.json")
    assert isinstance(error, ReportError) and "expected 0.5" in str(error)


_COARSE = st.integers(-3, 3).map(float) | st.just(np.nan)


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float32, (9, 3), elements=_COARSE),
    st.permutations([0, 0, 0, 1, 1, -1, -1, -1, -1]),
)
def test_both_readings_are_what_loops_give(x: np.ndarray, who: list[int]) -> None:
    subject = np.array(who)
    with pytest.MonkeyPatch.context() as without_intervals:
        without_intervals.setattr(trillion, "with_intervals", lambda metrics, _, seed: metrics)
        found = trillion.evaluate(x, subject, fars=["0.3"], fpir="0.4").metrics
    unit = normalise(x)
    i, j = np.indices((9, 9))
    s = exact_scores(unit, i.ravel(), unit, j.ravel()).reshape(9, 9)
    probes, others = np.flatnonzero(subject >= 0), np.flatnonzero(subject < 0)
    genuine = [s[a, b] for a in probes for b in probes if a < b and subject[a] == subject[b]]
    assert found["tpr@far=0.3"] == tpr_at_far(genuine, s[np.ix_(probes, others)].ravel(), "0.3")
    best = {a: max(s[a, d] for d in others) for a in probes}
    pairs = [(a, b) for a in probes for b in probes if a != b and subject[a] == subject[b]]
    # two of five searches may find somebody: the threshold is just above the third highest
    bar = sorted(best.values())[-3]
    hits = [s[a, b] > bar and s[a, b] >= best[a] for a, b in pairs]
    assert found["tpir@fpir=0.4"].value == np.mean(hits)
    first = [np.isfinite(s[a, b]) and s[a, b] >= best[a] for a, b in pairs]
    assert found["rank-1@distractors=4"].value == np.mean(first)


def test_one_set_compares_every_two_rows() -> None:
    rng = np.random.default_rng(0)
    x, subject = rng.normal(size=(40, 5)), np.repeat(np.arange(8), 5)
    subject[-3:] = -1
    x[4] = np.nan
    report = trillion.evaluate_one_set(x, subject, fars=["0.1"])
    unit, (i, j) = normalise(x), np.triu_indices(40, 1)
    s = exact_scores(unit, i, unit, j)
    same = (subject[i] == subject[j]) & (subject[i] >= 0)
    found = report.metrics["tpr@far=0.1"]
    assert found.low is not None and found.high is not None and found.low < found.high
    bare = replace(found, low=None, high=None, interval="", people=None)
    assert bare == tpr_at_far(s[same], s[~same], "0.1")
    assert (report.failures.images, report.failures.genuine, report.failures.impostor) == (1, 4, 35)


def test_rows_never_written_are_found(tmp_path: Path) -> None:
    x = np.ones((9, 4), np.float32)
    x[[2, 5]] = 0
    path = tmp_path / "s.bin"
    path.write_bytes(devkit_matrix.header(9, 4) + x.tobytes())
    with pytest.raises(DataError, match=r"2 of 9 rows of s\.bin were never written: 2, 5"):
        matching.by_position(path)


def test_a_submission_comes_back_as_written(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    files.write_submission(tmp_path / "s.bin", [x[:5], x[5:]], 9, 4)
    assert np.array_equal(matching.by_position(tmp_path / "s.bin").features, x)
    with pytest.raises(DataError, match="of 9 rows was given 5"):
        files.write_submission(tmp_path / "t.bin", [x[:5]], 9, 4)
    assert not (tmp_path / "t.bin").exists()


def test_subjects_are_numbered_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text("Bo\n-\nAl\nBo\n-1\n")
    assert files.read_subjects(path).tolist() == [0, -1, 1, 0, -1]
    for wrong in ("Bo\n\nAl\n", "1.0\nnan\n"):
        path.write_text(wrong)
        with pytest.raises(DataError, match="line 2 of"):
            files.read_subjects(path)


def test_subjects_that_differ_in_case_alone_are_told(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    for second, told in (("bo", 1), ("B o", 0), ("Bo", 0)):
        path.write_text("\n".join(["Bo", second, "Al", "Al", "-", "-"]))
        assert len(files.doubts(path)) == told
        provenance = evaluate("all-vs-all", x, path).provenance
        assert (provenance.get(files.ALIKE, "").endswith(": Bo and bo")) == bool(told)


@pytest.mark.parametrize("spelled", ["%.18e", "%d", "%.1f", "%g"])
def test_numbers_below_0_are_distractors_however_they_are_spelled(
    tmp_path: Path, spelled: str
) -> None:
    labels = np.array([7, -1, 3, 7, -1, -2, 0])
    np.savetxt(tmp_path / "s.txt", labels, spelled)
    np.save(tmp_path / "s.npy", labels)
    for path in tmp_path.iterdir():
        assert files.read_subjects(path).tolist() == [0, -1, 1, 0, -1, -1, 2]


@pytest.mark.parametrize(
    "labels",
    [
        np.array([7, -1, 3, 7, -1]),
        np.array([7, 2**64 - 1, 3, 7, 3], np.uint64),
        np.array(["Bo", "-", "Al", "Bo", "-1"]),
        np.array([b"Bo", b"-", b"Al", b"Bo", b"-1"]),
    ],
    ids=lambda labels: labels.dtype.str,
)
def test_labels_in_an_array_are_subjects(tmp_path: Path, labels: np.ndarray) -> None:
    np.save(tmp_path / "s.npy", labels)
    (tmp_path / "s.txt").write_text("\n".join(labels.astype(str)))
    read = files.read_subjects(tmp_path / "s.npy").tolist()
    assert read == files.read_subjects(tmp_path / "s.txt").tolist() and len(read) == 5


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.zeros(3), r"s\.npy holds float64 of shape \(3,\)"),
        (np.zeros((3, 1), int), r"s\.npy holds int64 of shape \(3, 1\)"),
        (np.array(["a", 1], object), "never unpickled"),
        (np.array(["a", ""]), "line 2 of .* is empty"),
        (np.array([b"\xff"]), "not an array of texts"),
    ],
)
def test_an_array_of_anything_else_holds_no_labels(
    tmp_path: Path, labels: np.ndarray, reason: str
) -> None:
    np.save(tmp_path / "s.npy", labels)
    with pytest.raises(DataError, match=reason):
        files.read_subjects(tmp_path / "s.npy")


def test_what_does_not_fit_is_refused(small: Path, tmp_path: Path) -> None:
    (small / "short.txt").write_text("a\na\n")
    _, _, error = _run(small, "--features", "features.npy", "--subjects", "short.txt")
    assert isinstance(error, DataError) and "548 rows, the list 2 subjects" in str(error)
    assert _run(small, "--features", "features.npy")[0] == 2
    with pytest.raises(ProtocolError, match="no distractors"):
        trillion.evaluate(np.ones((2, 2)), np.zeros(2, int))
    with pytest.raises(ProtocolError, match="no pair is genuine"):
        trillion.evaluate(np.ones((2, 2)), np.array([0, -1]))
    with pytest.raises(ProtocolError, match="have subjects of shape"):
        trillion.evaluate(np.ones((2, 2)), np.zeros(3, int))


def test_one_set_has_no_search_and_no_set_is_overwritten(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--features", str(small / "features.npy"), "--subjects", str(small / "subjects.txt")]
    assert cli.run(["trillion", *words, "--one-set", "--fpir", "1e-2"]) == 2
    assert "leave --fpir out" in capsys.readouterr().err
    assert cli.run(["synth", str(small), "--subjects", "3", "--distractors", "5"]) == 3
    assert "is not empty" in capsys.readouterr().err


def test_a_submission_is_written_and_gives_the_same_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "who.txt").write_text("a\na\nb\nb\n-\n-\n-\n-\n-\n")
    words = ["--subjects", str(tmp_path / "who.txt"), "--far", "0.1", "--json", "-", "--quiet"]
    out = tmp_path / "out.bin"
    npy = ["trillion", "--features", str(tmp_path / "x.npy"), *words]
    assert cli.run([*npy, "--submission", str(out)]) == 0
    plain = json.loads(capsys.readouterr().out)["metrics"]
    np.testing.assert_array_equal(matching.by_position(out).features, normalise(x))
    assert out.read_bytes()[:16] == np.array([9, 4, 16, 5], "<i4").tobytes()
    assert cli.run(["trillion", "--features", str(out), *words]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == plain
    x[5] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert cli.run([*npy, "--submission", str(tmp_path / "other.bin")]) == 3
    assert "row 5 has no template" in capsys.readouterr().err
    assert not (tmp_path / "other.bin").exists()
