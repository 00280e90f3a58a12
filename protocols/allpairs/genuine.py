"""The genuine pairs of two sets: few, listed one by one; scored exactly where it matters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.scan import Scan
from evalkit.protocols.allpairs.sides import Ints


class Genuine:
    """Genuine pairs (i, j) of a scan and how many of them score above a bar, exactly.

    failed : genuine pairs that are not listed because a row of theirs failed: they score -inf.
    """

    def __init__(self, scan: Scan, i: Ints, j: Ints, failed: int) -> None:
        score = scan.rough(i, j)
        order = np.argsort(score)
        self._scan, self._i, self._j, self._score = scan, i[order], j[order], score[order]
        self.failed = failed

    def __len__(self) -> int:
        return self.failed + len(self._score)

    def above(self, bar: float) -> int:
        """Count the pairs that score strictly above the bar."""
        # At or above the next float64: an exact score is one.
        return self.at_least(float(np.nextafter(bar, np.inf)))

    def at_least(self, bar: float) -> int:
        """Count the pairs that score the bar or more; all of them at -inf."""
        if bar == -np.inf:
            return len(self)
        e = self._scan.error
        first = int(np.searchsorted(self._score, bar - e, "left"))
        last = int(np.searchsorted(self._score, bar + e, "right"))
        exact = self._scan.exact(self._i[first:last], self._j[first:last])
        return len(self._score) - last + int(np.count_nonzero(exact >= bar))


def genuine_pairs(
    subject: Ints, y_subject: Ints | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (i, j) of equal subjects other than -1, by rising i; in one set each once, i < j."""
    a = np.asarray(subject, np.int64)
    b = a if y_subject is None else np.asarray(y_subject, np.int64)
    order = np.argsort(b, kind="stable")
    start = np.searchsorted(b[order], a, "left")
    count = np.where(a >= 0, np.searchsorted(b[order], a, "right") - start, 0)
    i = np.repeat(np.arange(len(a)), count)
    place = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    j = order[np.repeat(start, count) + place]
    keep = i < j if y_subject is None else np.ones(len(i), bool)
    return i[keep], j[keep]
