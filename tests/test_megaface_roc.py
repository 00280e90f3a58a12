"""The devkit's TPR@FAR from the highest scores alone is what its whole curve says."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evalkit.protocols.megaface import devkit
from evalkit.protocols.megaface.devkit import roc

GOLDEN = Path(__file__).parent / "golden" / "megaface"
FARS = ("1e-1", "1e-2", "1e-4", "1e-6")
_VALUES = st.integers(-3, 3).map(lambda v: v / 4) | st.sampled_from([np.nan, np.inf, 1e30])


def _agree(x: np.ndarray, subject: np.ndarray, d: np.ndarray) -> None:
    p, q = devkit.project(x), devkit.project(d)
    far, tpr = devkit.evaluate(p, subject, q).roc
    found, curve = roc.read_off(p, subject, q, FARS)
    impostors = min(len(x), 100) * len(d)
    for text, m in found.items():
        last = max(k for k, f in enumerate(far) if round(f * impostors) <= float(text) * impostors)
        assert (m.value, m.false_accepts) == (tpr[last], round(far[last] * impostors))
        assert m.low is None and "no interval" in m.note
    kept = sum(round(f * impostors) <= 0.1 * impostors for f in far)
    assert curve == (far[:kept], tpr[:kept])


@pytest.mark.parametrize("name", ["a", "tie"])
def test_the_official_programs_curve(name: str) -> None:
    held = np.load(GOLDEN / f"{name}.npz")
    subject = np.unique(held["ids"], return_inverse=True)[1]
    _agree(held["probe"], subject, held["distractor"])
    official = json.loads((GOLDEN / f"{name}.cmc.json").read_text())["roc"]
    p, d = devkit.project(held["probe"]), devkit.project(held["distractor"])
    curve = roc.read_off(p, subject, d, ["1"])[1]
    for ours, theirs in zip(curve, official, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-7)


@settings(deadline=None, max_examples=80)
@given(
    hnp.arrays(np.float32, (7, 3), elements=_VALUES.map(np.float32)),
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=_VALUES.map(np.float32)
    ),
)
def test_few_values_many_ties_failures_and_overflows(x: np.ndarray, d: np.ndarray) -> None:
    _agree(x, np.array([0, 0, 0, 1, 1, 2, 2]), d)


def test_scores_that_a_matrix_product_cannot_tell_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roc, "_BLOCK", 64)
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(12), 10)
    x = rng.normal(size=(12, 96))[subject] + rng.normal(size=(120, 96))
    d = x[rng.integers(0, 120, 900)] + 1e-7 * rng.normal(size=(900, 96))
    _agree(devkit_unit(x), subject, devkit_unit(d))


def devkit_unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_the_error_bounds_what_the_products_order_can_do() -> None:
    rng = np.random.default_rng(1)
    x, y = (devkit.project(rng.normal(size=(40, 256)) * s) for s in (3, 0.1))
    product = 2 * (x.vector @ y.vector.T) + np.add.outer(x.constant, y.constant)
    away = np.abs(product.astype(np.float64) - devkit.scores(x, y))
    error = roc._error(x, y)
    assert away.max() > 0 and (away <= error).all()
