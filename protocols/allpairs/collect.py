"""What a pass keeps: the highest impostor pairs, or those around a wanted rank.

Both keep a little more than the answer and settle it afterwards by exact scores, so the order of
tiles and the rounding of the screen cannot change it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.definition import Pairs
from evalkit.protocols.allpairs.scan import Floats, Ints, Scan, above

_SPARE = 1000


class Highest:
    """The `count` highest impostor pairs, with every pair that may tie with the last of them."""

    def __init__(self, scan: Scan, subjects: tuple[Ints, Ints], count: int) -> None:
        self.scan, self.count = scan, count
        self._left, self._right = subjects
        self._cut = -np.inf
        self._kept: list[tuple[Ints, Ints, Floats]] = []
        self._size = 0

    def visit(self, screened: NDArray[np.float32], error: float, i0: int, j0: int) -> None:
        """Take the pairs of a tile that may be among the highest."""
        i, j = above(screened, max(self._cut - error, -3.0e38))
        if not len(i):
            return
        i, j = i + i0, j + j0
        other = ~same_subject(self._left[i], self._right[j])
        i, j = i[other], j[other]
        score = self.scan.approximate(i, j)
        good = score >= self._cut
        self._kept.append((i[good], j[good], score[good]))
        self._size += int(good.sum())
        if self._size > 1.5 * self.count + _SPARE:
            self._compact()

    def _compact(self) -> None:
        """Raise the cut to what `count` pairs reach for certain: it stays below the answer."""
        i, j, score = (np.concatenate(c) for c in zip(*self._kept, strict=True))
        if self.count and len(score) > self.count:
            place = len(score) - self.count
            bar = float(np.partition(score, place)[place]) - 2 * self.scan.settled
            self._cut = max(self._cut, bar)
        good = score >= self._cut if self.count else np.zeros(len(score), bool)
        self._kept, self._size = [(i[good], j[good], score[good])], int(good.sum())

    def pairs(self) -> Pairs:
        """Return them by (-score, i, j), scored exactly, under the rows that were given."""
        if self._kept:
            self._compact()
        i, j = self._kept[0][:2] if self._kept else (np.empty(0, np.int64),) * 2
        score = self.scan.exact(i, j)
        i, j = self.scan.x.rows[i], self.scan.y.rows[j]
        best = np.lexsort((j, i, -score))[: self.count]
        return Pairs(i[best], j[best], score[best])


class Bracket:
    """The impostor pair of one rank, known to score between `low` and `high` or to be missed."""

    def __init__(self, scan: Scan, subjects: tuple[Ints, Ints], low: float, high: float) -> None:
        self.scan, self.low, self.high = scan, low, high
        self._left, self._right = subjects
        self._surely_above = 0
        self._kept: list[tuple[Ints, Ints]] = []

    def visit(self, screened: NDArray[np.float32], error: float, i0: int, j0: int) -> None:
        """Count the pairs of a tile above the bracket, keep those that may be inside."""
        sure = np.nextafter(np.float32(self.high + error), np.float32(np.inf))
        over = screened > sure
        self._surely_above += int(np.count_nonzero(over))
        low = np.nextafter(np.float32(self.low - error), np.float32(-np.inf))
        inside = screened > low
        np.logical_xor(inside, over, out=inside)
        i, j = np.divmod(np.flatnonzero(inside), screened.shape[1])
        self._kept.append(((i + i0).astype(np.int32), (j + j0).astype(np.int32)))

    def ranked(self, rank: int, genuine_above: int) -> tuple[float, int] | None:
        """Exact score of the `rank`-th highest impostor pair and how many are strictly above it.

        None where it lies outside the bracket.

        genuine_above : genuine pairs scoring above `high`.  Every pair above `high` was counted or
        kept, so impostors above = counted - (genuine above - genuine kept above) + kept above.
        """
        i, j = (np.concatenate(c).astype(np.int64) for c in zip(*self._kept, strict=True))
        score = self.scan.approximate(i, j)
        near = np.abs(score - self.high) <= 2 * self.scan.settled
        score[near] = self.scan.exact(i[near], j[near])
        genuine = same_subject(self._left[i], self._right[j])
        counted = self._surely_above - (genuine_above - int((score[genuine] > self.high).sum()))
        i, j, score = i[~genuine], j[~genuine], score[~genuine]
        place = rank - counted
        inside = np.sort(score)[::-1]
        if not 1 <= place <= len(inside) or inside[place - 1] < self.low + 2 * self.scan.settled:
            return None
        value = inside[place - 1]
        if value > self.high and counted > 0:
            return None
        slack = 2 * self.scan.settled
        near = np.abs(score - value) <= slack
        higher = int((score > value + slack).sum())
        exact = np.sort(self.scan.exact(i[near], j[near]))[::-1]
        answer = float(exact[place - higher - 1])
        return answer, counted + higher + int((exact > answer).sum())


def same_subject(a: Ints, b: Ints) -> NDArray[np.bool_]:
    """Genuine: equal subjects, and not -1, which is nobody's mate."""
    same: NDArray[np.bool_] = (a == b) & (a >= 0)
    return same
