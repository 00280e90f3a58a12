"""What a pass keeps a row: its highest pairs, how many pairs lie above a bar, and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.collectors import State
from evalkit.protocols.allpairs.collectors.kept import Kept
from evalkit.protocols.allpairs.kernels.scratch import scratch
from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.resume import digest
from evalkit.protocols.allpairs.screening.tiles import Found, Interval, Tile
from evalkit.protocols.allpairs.sides import Floats, Ints, Subjects, same_subject

_SPARE = 1000
_CELLS = 1 << 14


class Best:
    """The k highest of every row; equal scores by rising column.

    Keeps what may be among them by scores that err by at most scores.error, and scores exactly only
    what is left in the end.

    start : (m,) scores that at least k pairs of the row reach, or -inf.
    """

    def __init__(
        self,
        scores: PairScores,
        k: int,
        subjects: Subjects | None = None,
        start: Floats | None = None,
    ) -> None:
        self.scores, self.k, self._subjects = scores, k, subjects
        m = len(scores.x)
        self._cut = np.full(m, -np.inf) if start is None else start  # k pairs reach it for certain
        self._top = np.full((m, k), -np.inf)  # as screened, rising
        self._kept = Kept()
        self._room = 4 * m * k + _SPARE

    def intervals(self, i0: int, i1: int) -> list[Interval]:
        """Want what may reach the cut of its row."""
        return [Interval(self._cut[i0:i1] - self.scores.error)]

    def examine(self, tile: Tile, sifted: Sequence[tuple[Found, int]]) -> Found:
        """Find the pairs of a tile that may be among the k highest of their row."""
        found, _ = sifted[0]
        found = found.at(found.score >= self._cut[found.i] - self.scores.error)
        if self._subjects is not None:
            left, right = self._subjects
            found = found.at(~same_subject(left[found.i], right[found.j]))
        # Only the k highest of a row here, and what may tie with them, can be among its k highest.
        order = np.lexsort((-found.score, found.i))
        found = found.at(order)
        first = np.searchsorted(found.i, found.i, "left")
        kth = np.minimum(first + self.k, np.searchsorted(found.i, found.i, "right")) - 1
        return found.at(found.score >= found.score[kth] - 2 * self.scores.error)

    def absorb(self, found: Found) -> None:
        """Keep them, and raise the cuts of their rows."""
        i, j, score = found
        if not len(i):
            return
        self._kept.add(i, j, score)
        rows = np.unique(i)
        i = np.concatenate([np.repeat(rows, self.k), i])
        score = np.concatenate([self._top[rows].ravel(), score])
        order = np.lexsort((score, i))
        last = np.searchsorted(i[order], rows, "right")
        self._top[rows] = score[order][last[:, None] + np.arange(-self.k, 0)]
        self._cut[rows] = np.maximum(self._cut[rows], self._top[rows, 0] - self.scores.error)
        if self._kept.size > self._room:
            self._compact()
            self._room = max(self._room, 2 * self._kept.size)  # ties can fill it

    def _compact(self) -> None:
        i, _, score = self._kept.joined()
        self._kept.keep(score >= self._cut[i] - self.scores.error)

    def answer(self, given: int) -> tuple[Floats, NDArray[np.int64]]:
        """Exact scores and columns under the rows that were given, (given, k) each."""
        self._compact()
        i, j, _ = self._kept.joined()
        exact = self.scores.exact(i, j)
        order = np.lexsort((j, -exact, i))
        i, j, exact = i[order], j[order], exact[order]
        place = np.arange(len(i)) - np.searchsorted(i, i, "left")
        best = place < self.k
        score, column = np.full((given, self.k), -np.inf), np.full((given, self.k), -1, np.int64)
        where = self.scores.x.rows[i[best]], place[best]
        score[where], column[where] = exact[best], self.scores.y.rows[j[best]]
        return score, column

    def question(self) -> str:
        """Name k and who is a mate."""
        return f"the {self.k} highest of every row, {digest(*self._subjects or ())}"

    def state(self) -> State:
        """Return what is kept."""
        self._compact()
        i, j, score = self._kept.joined()
        return {"i": i, "j": j, "score": score}

    def merge(self, state: State) -> None:
        """Add what another pass over other tiles kept."""
        self.absorb(Found(state["i"], state["j"], state["score"]))


class Bars(NamedTuple):
    """Questions: how many columns score above `bar` in row `row` of the scan?  Sorted by both."""

    row: Ints
    bar: Floats


class Above:
    """For each bar, the pairs of its row strictly above it and exactly equal to it.

    easy : (m,) a score a row that few of its pairs reach, from a sample.  Bars at or above it are
    answered by listing those few; the others, few themselves, by counting over whole rows.
    subjects : where no mate scores above the bar of its row, mates need not be looked at.
    """

    def __init__(
        self, scores: PairScores, bars: Bars, easy: Floats, subjects: Subjects | None = None
    ) -> None:
        self.scores, self.bars, self._subjects = scores, bars, subjects
        self.above = np.zeros(len(bars.row), np.int64)
        self.equal = np.zeros(len(bars.row), np.int64)
        low = bars.bar < easy[bars.row]
        self._counted = np.flatnonzero(low)
        self._listed = np.flatnonzero(~low)
        listed = bars.row[self._listed]
        self._first = np.searchsorted(listed, np.arange(len(scores.x)), "left")
        self._last = np.searchsorted(listed, np.arange(len(scores.x)), "right")
        self._lowest = np.full(len(scores.x), np.inf)
        asked = self._first < self._last
        self._lowest[asked] = bars.bar[self._listed][self._first[asked]]

    def intervals(self, i0: int, i1: int) -> list[Interval]:
        """Want what may reach the lowest listed bar of its row."""
        lowest = self._lowest[i0:i1]
        asked = np.isfinite(lowest)
        if not asked.any():
            return []
        return [Interval(np.where(asked, lowest - self.scores.error, 3.0e38))]

    def examine(
        self, tile: Tile, sifted: Sequence[tuple[Found, int]]
    ) -> list[tuple[Ints, Ints, Ints]]:
        """(bar, pairs above, pairs equal) of a tile, for the bars that any pair may reach."""
        out = []
        i1 = tile.i0 + len(tile.left)
        for found, _ in sifted:
            found = found.at(found.score >= self._lowest[found.i] - self.scores.error)
            if self._subjects is not None:
                left, right = self._subjects
                found = found.at(~same_subject(left[found.i], right[found.j]))
            out.append(self._count_listed(found))
        rows = self.bars.row[self._counted]
        lo, hi = np.searchsorted(rows, (tile.i0, i1))
        for o in range(lo, hi, 256):
            bar = self._counted[o : min(o + 256, hi)]
            counts, question, found = tile.around(self.bars.row[bar] - tile.i0, self.bars.bar[bar])
            wanted, score = self.bars.bar[bar][question], found.score.copy()
            near = np.abs(score - wanted) <= self.scores.error
            score[near] = self.scores.exact(found.i[near], found.j[near])
            more = np.bincount(question[score > wanted], minlength=len(bar))
            same = np.bincount(question[score == wanted], minlength=len(bar))
            out.append((bar, counts + more, same))
        return out

    def _count_listed(self, found: Found) -> tuple[Ints, Ints, Ints]:
        bar, e = self.bars.bar[self._listed], self.scores.error
        below = self._place(found.i, found.score, "left")
        first, last = self._first[found.i], self._last[found.i]
        padded = np.append(bar, np.inf)
        unsure = (below < last) & (padded[below] - found.score <= e)
        unsure |= (below > first) & (found.score - padded[below - 1] <= e)
        score = found.score.copy()
        score[unsure] = self.scores.exact(found.i[unsure], found.j[unsure])
        below = self._place(found.i, score, "left")
        upto = self._place(found.i, score, "right")
        n = len(bar)
        # A pair above some bars of its row raises each: add at the first, take back after the last.
        step = np.bincount(first, minlength=n + 1) - np.bincount(below, minlength=n + 1)
        same = np.bincount(below, minlength=n + 1) - np.bincount(upto, minlength=n + 1)
        return self._listed, np.cumsum(step)[:n], np.cumsum(same)[:n]

    def _place(self, i: Ints, score: Floats, side: str) -> NDArray[np.int64]:
        """Search each score among the listed bars of its row, like numpy.searchsorted."""
        bar = self.bars.bar[self._listed]
        lo, hi = self._first[i].copy(), self._last[i].copy()
        while (lo < hi).any():
            middle = np.minimum((lo + hi) // 2, max(0, len(bar) - 1))
            right = bar[middle] < score if side == "left" else bar[middle] <= score
            right &= lo < hi
            lo, hi = np.where(right, middle + 1, lo), np.where(right, hi, np.minimum(hi, middle))
            hi = np.maximum(hi, lo)
        return lo

    def absorb(self, found: list[tuple[Ints, Ints, Ints]]) -> None:
        """Add the counts of a tile."""
        for bar, above, equal in found:
            self.above[bar] += above
            self.equal[bar] += equal

    def question(self) -> str:
        """Name the bars."""
        return f"the pairs above {digest(*self.bars)}"

    def state(self) -> State:
        """Return both counts of the bars that have any."""
        bar = np.flatnonzero(self.above | self.equal)
        return {"bar": bar, "above": self.above[bar], "equal": self.equal[bar]}

    def merge(self, state: State) -> None:
        """Add the counts of another pass over other tiles."""
        self.above[state["bar"]] += state["above"]
        self.equal[state["bar"]] += state["equal"]


class Bins:
    """Pairs a bin of the screened score, for pictures: one may fall into the neighbouring bin.

    Scores are counted in cells much finer than bins; those of cells that an edge may touch are
    placed one by one.
    """

    def __init__(self, edges: Floats) -> None:
        self._edges, self.count = edges, np.zeros(len(edges) - 1, np.int64)
        low, high = float(edges[0]), float(edges[-1])
        self._low, self._scale = np.float32(low), np.float32(_CELLS / (high - low))
        ends = np.linspace(low, high, _CELLS + 1)
        bin_of = np.searchsorted(edges, ends, "right") - 1
        # float32 errs by less than a cell, where the edges are not all far from nought.
        near = 2.0**-21 * max(abs(low), abs(high)) * float(self._scale) < 1
        clear = np.zeros(_CELLS + 2, bool)  # with a cell on either side for what lies outside
        clear[2:-2] = near & (bin_of[:-3] == bin_of[3:])
        self._bin = np.where(clear, np.append(0, np.append(bin_of[:-1], 0)), len(self.count))
        self._unsure = ~clear

    def intervals(self, i0: int, i1: int) -> list[Interval]:
        """Want none: every key is counted."""
        return []

    def examine(self, tile: Tile, sifted: Sequence[tuple[Found, int]]) -> NDArray[np.int64]:
        """Count the screened scores of a tile."""
        factor, count = tile.factor[:, None].astype(np.float32), np.zeros_like(self.count)
        for rows, band in tile.bands():
            once = tile.once(np.arange(rows.start, rows.stop)) if tile.diagonal else None
            for o in range(0, len(band), 64):  # which stay in the cache
                score = scratch("score", band[o : o + 64].shape, np.dtype(np.float32))
                np.multiply(band[o : o + 64], factor[rows][o : o + 64], out=score)
                count += self._counted(score.ravel() if once is None else score[once[o : o + 64]])
        return count

    def _counted(self, score: NDArray[np.float32]) -> NDArray[np.int64]:
        n = len(self.count)
        place = scratch("place", score.shape, np.dtype(np.float32))
        cell = scratch("cell", score.shape, np.dtype(np.intp))
        np.subtract(score, self._low, out=place)
        np.multiply(place, self._scale, out=place)
        np.add(place, np.float32(1), out=place)
        np.clip(place, 0, _CELLS + 1, out=place)
        np.copyto(cell, place, casting="unsafe")
        cells = np.bincount(cell, minlength=_CELLS + 2)
        # Counts stay whole in float64.
        count = np.bincount(self._bin, weights=cells, minlength=n + 1)[:n].astype(np.int64)
        one = score[self._unsure[cell]]
        bins = np.searchsorted(self._edges, one, "right") - 1
        bins[one == self._edges[-1]] = n - 1  # the last bin holds its upper end
        return count + np.bincount(bins[(bins >= 0) & (bins < n)], minlength=n)

    def absorb(self, found: NDArray[np.int64]) -> None:
        """Add the counts of a tile."""
        self.count += found

    def question(self) -> str:
        """Name the edges."""
        return f"the pairs between {digest(self._edges)}"

    def state(self) -> State:
        """Return the counts."""
        return {"count": self.count}

    def merge(self, state: State) -> None:
        """Add the counts of another pass over other tiles."""
        self.count += state["count"]
