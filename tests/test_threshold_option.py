"""--threshold and --threshold-from: a threshold chosen on one set, judged on another."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from evalkit.cli import run
from evalkit.errors import ProtocolError
from evalkit.protocols import score
from evalkit.protocols.metrics.score_unit import MINUS_DISTANCE, as_given
from evalkit.types import Report

pytestmark = pytest.mark.once

DEV, TEST = 0, 1


@pytest.fixture
def sets(tmp_path: Path) -> list[Path]:
    """Distances of two samples of pairs, a development and a test set."""
    paths = []
    for seed in (DEV, TEST):
        rng = np.random.default_rng(seed)
        genuine = np.arange(2000) < 1000
        distance = np.where(genuine, 0.5, 1.3) + 0.25 * rng.normal(size=2000)
        paths.append(tmp_path / f"{seed}.txt")
        lines = (f"{int(g)} {d!r}" for g, d in zip(genuine, distance.tolist(), strict=True))
        paths[-1].write_text("\n".join(lines))
    return paths


def rates(path: Path, threshold: float) -> tuple[float, float]:
    """FMR and FNMR where a distance is accepted at or below a threshold."""
    label, distance = np.loadtxt(path).T
    accepted = distance <= threshold
    return accepted[label == 0].mean(), 1 - accepted[label == 1].mean()


def measured(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    return {name: m["value"] for name, m in metrics.items() if name.startswith(("fmr@", "fnmr@"))}


def test_a_typed_threshold_is_in_the_users_unit(
    sets: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["score", str(sets[TEST]), "--distance", "--threshold", "0.738", "--threshold", "0.9"]
    assert run([*line, "--json"]) == 0
    found = measured(capsys)
    for t in (0.738, 0.9):
        fmr, fnmr = rates(sets[TEST], t)
        assert found[f"fmr@distance={t!r}"] == pytest.approx(fmr)
        assert found[f"fnmr@distance={t!r}"] == pytest.approx(fnmr)


def test_the_threshold_of_another_report_is_judged_here(
    sets: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = tmp_path / "dev.json"
    assert run(["score", str(sets[DEV]), "--distance", "--out", str(dev), "--quiet"]) == 0
    assert run(["threshold", str(dev), "--far", "1e-2", "--json"]) == 0
    capsys.readouterr()
    line = ["score", str(sets[TEST]), "--distance", "--threshold-from", str(dev)]
    assert run([*line, "--far", "1e-2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    at = json.loads(dev.read_text())["metrics"]["tpr@far=1e-2"]["threshold"]
    fmr, fnmr = rates(sets[TEST], -at)
    held = document["metrics"]
    assert held[f"fmr@distance={-at!r}"]["value"] == pytest.approx(fmr)
    assert held[f"fnmr@distance={-at!r}"]["value"] == pytest.approx(fnmr)
    assert document["provenance"]["thresholds"] == "dev.json at FAR 1e-2"

    assert run(line) == 2
    assert "add --far FAR" in capsys.readouterr().err
    assert run(["score", str(sets[TEST]), *line[3:], "--far", "1e-2"]) == 3
    assert "are of a distance, these scores of a score" in capsys.readouterr().err


def test_whatever_shows_a_distance_shows_no_score(
    sets: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [str(tmp_path / f"{name}.json") for name in ("a", "b")]
    line = ["--distance", "--threshold", "0.738", "--set", "mine"]
    for path in kept:
        assert run(["score", str(sets[TEST]), *line, "--out", path, "--quiet"]) == 0
    rules = tmp_path / "gates.toml"
    rules.write_text('[[rule]]\nmetric = "fmr@distance=0.738"\nmax-drop = 0.01\n')
    page = str(tmp_path / "page.html")
    shown = {
        "report": ["report", *kept],
        "Markdown": ["report", kept[0], "--markdown"],
        "compare": ["compare", *kept],
        "row": ["threshold", kept[0], "--metric", "eer"],
        "threshold": ["threshold", kept[0], "--far", "1e-2"],
        "gate": ["gate", kept[0], "--baseline", kept[1], "--rules", str(rules)],
    }
    negative = re.compile(r"(?<![\w.e])-\d+\.\d")
    for what, words in shown.items():
        capsys.readouterr()
        assert run(words) == 0, what
        text = capsys.readouterr().out
        assert what == "compare" or not negative.search(text), (what, text)
        assert ("distance=0.738" in text) == (what not in ("row", "threshold"))
        if what in ("report", "Markdown", "row", "threshold"):
            assert re.search(r"accept.* if and only if distance \\?<= ", text)
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    assert run(["report", kept[0], "-o", page]) == 0
    numbers = Path(page).read_text().partition("<svg")[0]
    assert "its distance is at or below the threshold" in numbers
    assert not re.search(r">-\d", numbers)


def test_a_picture_of_distances_runs_from_small_to_large() -> None:
    bins = {"low": [-3, -2], "high": [-2, -1], "genuine": [0.1, 0.9], "impostor": [0.6, 0.4]}
    made = {"score": MINUS_DISTANCE}
    turned = as_given(
        Report(
            protocol="score",
            protocol_version=1,
            metrics={},
            provenance=made,
            curves={"histogram": bins},
        )
    )
    assert turned.curves["histogram"] == {
        "low": [1, 2],
        "high": [2, 3],
        "genuine": [0.9, 0.1],
        "impostor": [0.4, 0.6],
    }


def test_a_threshold_is_a_finite_number(
    sets: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("nan", "inf", "high"):
        assert run(["score", str(sets[DEV]), "--threshold", text]) == 2
        assert "Invalid value for '--threshold'" in capsys.readouterr().err
    with pytest.raises(ProtocolError, match="a threshold is nan"):
        score.evaluate([1.0, 0.0], [1, 0], threshold=[0.5, float("nan")])


@pytest.mark.parametrize("protocol", ["lfw", "verify"])
def test_pairs_of_images_take_a_threshold(
    protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 8))[np.repeat(np.arange(40), 2)] + 0.3 * rng.normal(size=(80, 8))
    np.save(tmp_path / "x.npy", x.astype("f4"))
    (tmp_path / "keys.txt").write_text(
        "".join(f"P{n // 2}/P{n // 2}_{n % 2 + 1:04}.jpg\n" for n in range(80))
    )
    lines = ["10\t2"]
    for fold in range(0, 40, 4):
        lines += [f"P{n}\t1\t2" for n in (fold, fold + 1)]
        lines += [f"P{fold}\t{n}\tP{fold + 2}\t{n}" for n in (1, 2)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    pairs = ["--pairs", str(tmp_path / "pairs.txt")][protocol == "verify" :]
    vectors = ["--features", str(tmp_path / "x.npy"), "--keys", str(tmp_path / "keys.txt")]
    squared = ["--recipe", "insightface", "--flip", "none"]
    for recipe, shown in (([], "threshold"), (squared, "squared-distance")):
        line = [protocol, *pairs, *vectors, *recipe, "--threshold", "0.5", "--json"]
        assert run(line) == 0, capsys.readouterr().err
        assert set(measured(capsys)) == {f"f{n}mr@{shown}=0.5" for n in ("", "n")}


@pytest.mark.parametrize("one_set", [False, True])
def test_sets_take_a_threshold(
    one_set: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    who = np.concatenate([np.repeat(np.arange(20), 3), np.full(60, -1)])
    x = rng.normal(size=(21, 8))[who] * (who >= 0)[:, None] + 0.4 * rng.normal(size=(120, 8))
    np.save(tmp_path / "x.npy", x.astype("f4"))
    (tmp_path / "who.txt").write_text("".join(f"{s}\n" if s >= 0 else "-\n" for s in who))
    line = ["trillion", "--features", str(tmp_path / "x.npy"), "--far", "1e-2"]
    line += ["--subjects", str(tmp_path / "who.txt"), *(["--one-set"] if one_set else [])]
    dev, point = tmp_path / "dev.json", tmp_path / "p"
    assert run([*line, "--out", str(dev), "--quiet"]) == 0
    capsys.readouterr()
    given = ["--threshold-from", str(dev), "--checkpoint", str(point), "--json"]
    assert run([*line, *given]) == 0, capsys.readouterr().err
    held = json.loads(capsys.readouterr().out)["metrics"]
    at = held["tpr@far=1e-2"]
    kinds = {name.partition("@")[0] for name in held if name.endswith(f"={at['threshold']!r}")}
    assert kinds == {"fmr", "fnmr"} | (set() if one_set else {"fpir", "fnir", "tpir"})
    assert held[f"fmr@threshold={at['threshold']!r}"]["value"] == at["far"]
    assert held[f"fnmr@threshold={at['threshold']!r}"]["value"] == pytest.approx(1 - at["value"])
