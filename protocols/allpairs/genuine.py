"""Genuine pairs of two sets: listed, counted, and scored exactly near a threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.sides import Subjects
from evalkit.types import Floats, Ints


class Genuine:
    """Genuine pairs (i, j) of a scan and how many of them score above a bar, exactly.

    failed : genuine pairs with a failed row; not listed, they score -inf.
    """

    def __init__(self, scores: PairScores, i: Ints, j: Ints, failed: int) -> None:
        self._scores, self._i, self._j, self._score = scores, i, j, scores.rough(i, j)
        self.failed = failed

    def __len__(self) -> int:
        return self.failed + len(self._score)

    def above(self, bar: float) -> int:
        """Count the pairs that score strictly above the bar."""
        # At or above the next float64: an exact score is one.
        return self.at_least(float(np.nextafter(bar, np.inf)))

    def at_least(self, bar: float) -> int:
        """Count the pairs that score at least the bar; all of them at -inf."""
        if bar == -np.inf:
            return len(self)
        e = self._scores.error
        sure = int(np.count_nonzero(self._score > bar + e))
        near = np.flatnonzero((self._score >= bar - e) & (self._score <= bar + e))
        exact = self._scores.exact(self._i[near], self._j[near])
        return sure + int(np.count_nonzero(exact >= bar))

    def best(self, rows: int) -> Floats:
        """Exact score of the best mate per row, (rows,); -inf without one."""
        best = np.full(rows, -np.inf)
        np.maximum.at(best, self._i, self._score)
        near = self._score >= best[self._i] - 2 * self._scores.error
        best[:] = -np.inf
        np.maximum.at(best, self._i[near], self._scores.exact(self._i[near], self._j[near]))
        return best


def genuine_pairs(
    subject: Ints, y_subject: Ints | None = None, *, together: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the pairs (i, j) of equal subjects other than -1, by rising i; in one set i < j.

    together : by subject instead, whose vectors then stay in the cache.
    """
    a = np.asarray(subject)
    b = a if y_subject is None else np.asarray(y_subject)
    order = np.flatnonzero(b >= 0)
    order = order[np.argsort(b[order], kind="stable")]
    ordered = b[order]
    rows = np.argsort(a, kind="stable") if together else np.arange(len(a))
    start = np.searchsorted(ordered, a[rows], "left")
    count = np.searchsorted(ordered, a[rows], "right") - start
    i = np.repeat(rows, count)
    place = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    j = order[np.repeat(start, count) + place]
    keep = i < j if y_subject is None else np.ones(len(i), bool)
    return i[keep], j[keep]


def count_mates(probe_subject: Ints, gallery_subject: Ints) -> NDArray[np.int64]:
    """Count the gallery rows of each probe's subject, failures included."""
    gallery, own = np.asarray(gallery_subject), np.asarray(probe_subject)
    ordered = np.sort(gallery[gallery >= 0])
    return np.searchsorted(ordered, own, "right") - np.searchsorted(ordered, own, "left")


def count_genuine(subject: Ints, y_subject: Ints | None = None) -> int:
    """Count the genuine pairs of two sets, or of one with itself, failures included."""
    own = np.asarray(subject, np.int64)
    if y_subject is not None:
        return int(count_mates(own, y_subject).sum())
    images = np.unique(own[own >= 0], return_counts=True)[1].astype(np.int64)
    return int((images * (images - 1) // 2).sum())


def subjects_of(scores: PairScores, subject: Ints, y_subject: Ints | None) -> Subjects:
    """Return the subjects of both sides of a scan, by position."""
    right = subject if y_subject is None else y_subject
    return np.asarray(subject)[scores.x.rows], np.asarray(right)[scores.y.rows]
