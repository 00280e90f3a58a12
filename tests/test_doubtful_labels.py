"""Doubtful labels against their brute-force twin, and on labels that were exchanged on purpose."""

from importlib.resources import as_file, files

import numpy as np
import pytest

from evalkit.errors import ProtocolError
from evalkit.protocols.doubtful_labels import doubtful_labels
from evalkit.vectors.store import FeatureStore


def brute_force(x: np.ndarray, subject: np.ndarray) -> list[tuple[float, int]]:
    unit = x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
    s = unit @ unit.T
    n = range(len(x))
    stranger = [max(s[i, j] for j in n if subject[j] != subject[i]) for i in n]
    mates = [[s[i, j] for j in n if j != i and subject[j] == subject[i] >= 0] for i in n]
    means = sorted(float(np.mean(m)) for m in mates if m)
    lowest = means[int(0.05 * (len(means) - 1))]
    doubts = [
        (stranger[i] - (np.mean(mates[i]) if mates[i] else lowest), i) for i in n if subject[i] >= 0
    ]
    return sorted(doubts, key=lambda d: (-d[0], d[1]))


def faces(seed: int, people: int = 12, images: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    subject = rng.integers(-1, people, images)
    centre = rng.normal(size=(people + 1, 16))
    return (centre[subject] + rng.normal(0, 0.6, (images, 16))).astype(np.float32), subject


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_brute_force(seed: int) -> None:
    x, subject = faces(seed)
    found = doubtful_labels(x, subject)
    expected = brute_force(x, subject)
    assert found.row.tolist() == [i for _, i in expected]
    assert found.doubt == pytest.approx([d for d, _ in expected], abs=1e-6)
    assert (subject[found.stranger] != subject[found.row]).all()


def test_one_image_of_everybody_is_judged_by_its_closest_stranger() -> None:
    x = np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32)
    found = doubtful_labels(x, np.arange(3))
    assert found.row.tolist() == [0, 1, 2] and found.stranger.tolist() == [1, 0, 1]
    assert np.isnan(found.mate_mean).all()


def test_a_failed_row_is_neither_judged_nor_a_stranger() -> None:
    x, subject = faces(1)
    lost = int(np.flatnonzero(subject >= 0)[0])
    x[lost] = np.nan
    found = doubtful_labels(x, subject)
    assert lost not in found.row and lost not in found.stranger
    assert len(found.row) == np.count_nonzero(subject >= 0) - 1


@pytest.mark.parametrize("subject", [[-1, -1, -1], [3, 3, 3]])
def test_without_two_subjects_nothing_is_doubtful(subject: list[int]) -> None:
    assert not len(doubtful_labels(np.eye(3, dtype=np.float32), np.array(subject)).row)


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(ProtocolError):
        doubtful_labels(np.eye(3, dtype=np.float32), np.arange(2))


@pytest.mark.once
def test_exchanged_labels_of_lfw_come_first() -> None:
    """1 % of the labels exchanged, among people with several images: within the first 2 %."""
    shipped = files("evalkit.datasets").joinpath("data", "lfw_mobilefacenet.h5")
    with as_file(shipped) as path:
        store = FeatureStore.open(path)
        x, who = np.array(store.features[:, 0]), store.manifest.subject
    rng = np.random.default_rng(0)
    several = np.flatnonzero(np.bincount(who)[who] > 1)
    wrong = rng.choice(several, len(x) // 100 // 2 * 2, replace=False)
    labels = who.copy()
    labels[wrong] = np.roll(who[wrong], len(wrong) // 2)
    wrong = wrong[labels[wrong] != who[wrong]]
    first = doubtful_labels(x, labels).row[: len(x) // 50]
    assert np.isin(wrong, first).mean() >= 0.9
