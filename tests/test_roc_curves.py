"""Published ROC curves read as scores: the curve comes back, and three of LFW's site."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evalkit.cli import run
from evalkit.datasets import roc_curves
from evalkit.errors import DataError
from evalkit.protocols import metrics
from evalkit.protocols.metrics.kfold import best_threshold, kfold_accuracy

pytestmark = pytest.mark.once


@pytest.mark.parametrize("turned", [False, True])
def test_the_curve_comes_back(tmp_path: Path, turned: bool) -> None:
    rng = np.random.default_rng(0)
    genuine, impostor = np.round(rng.normal(1, 1, 40), 1), np.round(rng.normal(0, 1, 40), 1)
    lines = []
    for t in np.unique(np.append(genuine, impostor))[::-1]:
        lines.append(f"{np.mean(genuine >= t):.6f} {np.mean(impostor >= t):.6f}")
    lines.insert(7, "0.5 NaN")
    path = tmp_path / "curve.txt"
    path.write_text("\n".join(lines[::-1] if turned else lines))
    held = roc_curves.read(path, 40)
    assert held.genuine is not None and held.told.endswith("lines with NaN left out: 1")
    g, i = held.score[held.genuine], held.score[~held.genuine]
    assert metrics.auc(g, i).value == pytest.approx(metrics.auc(genuine, impostor).value)
    assert metrics.eer(g, i).value == pytest.approx(metrics.eer(genuine, impostor).value)
    for far in ("0.1", "0.3"):
        assert (
            metrics.tpr_at_far(g, i, far).value == metrics.tpr_at_far(genuine, impostor, far).value
        )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.1 0\n0.2\n", "line 2 of c.txt: expected 'TPR FPR', got '0.2'"),
        ("0.1 0\n1.2 0\n", "line 2 of c.txt: expected"),
        ("0.1 0.5\n0.9 0.1\n0.95 0.6", "not a curve: a rate falls"),
        ("nan nan\n", "holds 0 points"),
    ],
)
def test_what_is_no_curve_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(DataError, match=told):
        roc_curves.read(tmp_path / "c.txt")


@pytest.mark.parametrize(
    ("name", "published", "best", "drawn"),
    [
        ("dlib_LFW_roc_curve", 0.9938, 0.99383, 0.99365),
        ("eigenfaces-original-roc", 0.6002, 0.61067, 0.6075),
        ("funneled-v1-like-roc", 0.7935, 0.79500, 0.7903),
    ],
)
def test_the_official_curves(
    name: str, published: float, best: float, drawn: float, shared_data: Path
) -> None:
    path = shared_data / "lfw_official_roc" / f"{name}.txt"
    held = roc_curves.read(path)
    assert held.genuine is not None
    rng, accuracy = np.random.default_rng(0), []
    for _ in range(4):
        fold = np.concatenate([rng.permutation(3000) // 300 for _ in range(2)])
        accuracy.append(kfold_accuracy(held.score, held.genuine, fold).value or 0)
    assert np.mean(accuracy) == pytest.approx(drawn, abs=3e-3)
    right = (held.score >= best_threshold(held.score, held.genuine)) == held.genuine
    assert right.mean() == pytest.approx(best, abs=1e-5)
    assert best - published < (2e-4 if name.startswith("dlib") else 0.011)


def test_the_command_takes_a_curve_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roc_curves, "read", partial(roc_curves.read, pairs=40))
    (tmp_path / "c.txt").write_text("0.5 0\n1 1\n")
    words = ["score", str(tmp_path / "c.txt"), "--roc"]
    assert run([*words, "--distance"]) == 2
    assert "--roc reads a curve" in capsys.readouterr().err
    assert run([*words, "--json", "-", "--quiet"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["metrics"]["auc"]["value"] == 0.75
    assert made["provenance"]["score"] == "minus the step of the curve"
