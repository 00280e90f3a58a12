"""Retrieval against its brute-force twin, and through the command that its record makes."""

import numpy as np
import pytest

from evalkit.protocols import retrieval


def brute_force(x: np.ndarray, subject: np.ndarray, k: int) -> float:
    hits = []
    for i, row in enumerate(x):
        others = [j for j in range(len(x)) if j != i]
        mates = [x[j] @ row for j in others if subject[j] == subject[i]]
        if mates:
            better = sum(x[j] @ row > max(mates) for j in others if subject[j] != subject[i])
            hits.append(better < k)
    return float(np.mean(hits))


@pytest.mark.parametrize("k", [1, 5])
def test_equals_the_brute_force(k: int) -> None:
    rng = np.random.default_rng(3)
    subject = rng.integers(0, 12, 40)
    centre = rng.normal(size=(12, 6))
    x = (centre[subject] + rng.normal(0, 1.0, (40, 6))).astype(np.float32)
    unit = x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
    report = retrieval.evaluate(x, subject)
    assert 0 < report["rank-1"].value < 1
    assert report[f"rank-{k}"].value == pytest.approx(brute_force(unit, subject, k), abs=1e-12)


def test_nobody_with_a_mate_has_no_rate() -> None:
    report = retrieval.evaluate(np.eye(3, dtype=np.float32), np.arange(3))
    assert report["rank-1"].value is None and report["rank-1"].n == 0


def test_a_failed_row_is_never_found() -> None:
    x = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    x[0] = np.nan
    assert retrieval.evaluate(x, np.array([0, 0, 1, 1]))["rank-1"].value == 0.5
