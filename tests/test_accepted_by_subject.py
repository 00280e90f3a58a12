"""Accepted comparisons of each subject: counted from near places, in any order, by any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from evalkit.protocols.uncertainty import accepted_by_subject
from evalkit.protocols.uncertainty.accepted_by_subject import AcceptedBySubject


def by_hand(who: np.ndarray, highest: np.ndarray) -> np.ndarray:
    people = np.unique(who)
    return np.array([[(who[:n] == person).sum() for person in people] for n in highest])


@pytest.mark.parametrize(("people", "rows"), [(3, 5000), (40, 5000), (4000, 5000), (1, 1)])
def test_counts_are_those_of_a_plain_loop(people: int, rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(accepted_by_subject, "_LEAST", 16)
    rng = np.random.default_rng(0)
    who = rng.integers(0, people, rows) * 2 + 1  # numbers that have nobody, too
    accepted = AcceptedBySubject(who)
    assert accepted.subject.tolist() == np.unique(who).tolist()
    highest = np.concatenate([rng.integers(0, rows + 1, 30), [0, rows, 0, rows]])
    assert np.array_equal(accepted.among(highest), by_hand(who, highest))


def test_threads_count_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(accepted_by_subject, "_LEAST", 4)
    rng = np.random.default_rng(1)
    who = rng.integers(0, 5, 3000)
    places = rng.integers(0, 3001, (64, 8))
    accepted = AcceptedBySubject(who)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(accepted.among, places))
    assert all(np.array_equal(one, by_hand(who, at)) for one, at in zip(made, places, strict=True))


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(accepted_by_subject, "_LEAST", 1)
    who = np.random.default_rng(2).integers(0, 100, 2000)
    accepted = AcceptedBySubject(who)
    accepted.among(np.arange(2001))
    assert len(accepted._kept) <= 2000 // (4 * 100)
