"""Collectors per row: the k highest pairs, the count of pairs above a bar; and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.collectors import State
from evalkit.protocols.allpairs.collectors.candidate_pool import CandidatePool
from evalkit.protocols.allpairs.kernels.scratch import scratch
from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.resume import digest
from evalkit.protocols.allpairs.screening.tiles import Candidates, Interval, Tile
from evalkit.protocols.allpairs.sides import Subjects, same_subject
from evalkit.types import Floats, Ints

_SPARE = 1000
_CELLS = 1 << 15
_TOGETHER = 128  # rows whose scores stay in the cache
_PLACED = 1 << 16  # pairs that are placed one by one at once


class Best:
    """The k highest pairs of every row; equal scores by rising column.

    Stores the pairs that may be among them, by scores that err by at most scores.error, and scores
    exactly only the remaining ones in the end.

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
        self._candidates = CandidatePool()
        self._room = 4 * m * k + _SPARE

    def intervals(self, i0: int, i1: int) -> list[Interval]:
        """Request the pairs whose score may reach their row's cut."""
        return [Interval(self._cut[i0:i1] - self.scores.error)]

    def examine(self, tile: Tile, sifted: Sequence[tuple[Candidates, int]]) -> Candidates:
        """Select the pairs of a tile that may be among the k highest of their row."""
        candidates, _ = sifted[0]
        candidates = candidates.at(candidates.score >= self._cut[candidates.i] - self.scores.error)
        if self._subjects is not None:
            left, right = self._subjects
            candidates = candidates.at(~same_subject(left[candidates.i], right[candidates.j]))
        # Only the k highest of a row here, and what may tie with them, can be among its k highest.
        order = np.lexsort((-candidates.score, candidates.i))
        candidates = candidates.at(order)
        first = np.searchsorted(candidates.i, candidates.i, "left")
        kth = np.minimum(first + self.k, np.searchsorted(candidates.i, candidates.i, "right")) - 1
        return candidates.at(candidates.score >= candidates.score[kth] - 2 * self.scores.error)

    def absorb(self, candidates: Candidates) -> None:
        """Store the pairs, and raise the cuts of their rows."""
        i, j, score = candidates
        if not len(i):
            return
        self._candidates.add(i, j, score)
        rows = np.unique(i)
        i = np.concatenate([np.repeat(rows, self.k), i])
        score = np.concatenate([self._top[rows].ravel(), score])
        order = np.lexsort((score, i))
        last = np.searchsorted(i[order], rows, "right")
        self._top[rows] = score[order][last[:, None] + np.arange(-self.k, 0)]
        self._cut[rows] = np.maximum(self._cut[rows], self._top[rows, 0] - self.scores.error)
        if self._candidates.size > self._room:
            self._compact()
            self._room = max(self._room, 2 * self._candidates.size)  # ties can fill it

    def _compact(self) -> None:
        i, _, score = self._candidates.joined()
        self._candidates.keep(score >= self._cut[i] - self.scores.error)

    def answer(self, rows: int) -> tuple[Floats, NDArray[np.int64]]:
        """Exact scores and columns of the k highest per row of x, (rows, k) each."""
        self._compact()
        i, j, _ = self._candidates.joined()
        exact = self.scores.exact(i, j)
        order = np.lexsort((j, -exact, i))
        i, j, exact = i[order], j[order], exact[order]
        place = np.arange(len(i)) - np.searchsorted(i, i, "left")
        best = place < self.k
        score, column = np.full((rows, self.k), -np.inf), np.full((rows, self.k), -1, np.int64)
        where = self.scores.x.row(i[best]), place[best]
        score[where], column[where] = exact[best], self.scores.y.row(j[best])
        return score, column

    def question(self) -> str:
        """Name k, and digest the subjects."""
        return f"the {self.k} highest of every row, {digest(*self._subjects or ())}"

    def state(self) -> State:
        """Return the stored pairs."""
        self._compact()
        i, j, score = self._candidates.joined()
        return {"i": i, "j": j, "score": score}

    def merge(self, state: State) -> None:
        """Add the pairs of another pass over other tiles."""
        self.absorb(Candidates(state["i"], state["j"], state["score"]))


class Bars(NamedTuple):
    """Queries "how many columns score above `bar` in row `row` of the scan", sorted by both."""

    row: Ints
    bar: Floats


class Above:
    """For each bar, the pairs of its row strictly above it and exactly equal to it.

    few_above : (m,) for each row, a score that only a few of its pairs exceed, from a sample.  Bars
    at or above it are answered by listing those few; the others, few themselves, by counting over
    whole rows.
    subjects : excludes mates, where all of them score at most the bar of their row.
    """

    def __init__(
        self, scores: PairScores, bars: Bars, few_above: Floats, subjects: Subjects | None = None
    ) -> None:
        self.scores, self.bars, self._subjects = scores, bars, subjects
        self.above = np.zeros(len(bars.row), np.int64)
        self.equal = np.zeros(len(bars.row), np.int64)
        low = bars.bar < few_above[bars.row]
        self._by_counting = np.flatnonzero(low)
        self._by_listing = np.flatnonzero(~low)
        listed = bars.row[self._by_listing]
        self._first = np.searchsorted(listed, np.arange(len(scores.x)), "left")
        self._last = np.searchsorted(listed, np.arange(len(scores.x)), "right")
        self._lowest = np.full(len(scores.x), np.inf)
        has_bar = self._first < self._last
        self._lowest[has_bar] = bars.bar[self._by_listing][self._first[has_bar]]

    def intervals(self, i0: int, i1: int) -> list[Interval]:
        """Request the pairs whose score may reach the lowest listed bar of their row."""
        lowest = self._lowest[i0:i1]
        has_bar = np.isfinite(lowest)
        if not has_bar.any():
            return []
        return [Interval(np.where(has_bar, lowest - self.scores.error, 3.0e38))]

    def examine(
        self, tile: Tile, sifted: Sequence[tuple[Candidates, int]]
    ) -> list[tuple[Ints, Ints, Ints]]:
        """Count per bar the pairs above and equal in a tile, for bars that any pair may reach."""
        out = []
        i1 = tile.i0 + len(tile.left)
        for candidates, _ in sifted:
            candidates = candidates.at(
                candidates.score >= self._lowest[candidates.i] - self.scores.error
            )
            if self._subjects is not None:
                left, right = self._subjects
                candidates = candidates.at(~same_subject(left[candidates.i], right[candidates.j]))
            out.append(self._count_listed(candidates))
        rows = self.bars.row[self._by_counting]
        lo, hi = np.searchsorted(rows, (tile.i0, i1))
        for o in range(lo, hi, 256):
            bar = self._by_counting[o : min(o + 256, hi)]
            counts, question, candidates = tile.around(
                self.bars.row[bar] - tile.i0, self.bars.bar[bar]
            )
            bars, score = self.bars.bar[bar][question], candidates.score.copy()
            near = np.abs(score - bars) <= self.scores.error
            score[near] = self.scores.exact(candidates.i[near], candidates.j[near])
            more = np.bincount(question[score > bars], minlength=len(bar))
            same = np.bincount(question[score == bars], minlength=len(bar))
            out.append((bar, counts + more, same))
        return out

    def _count_listed(self, candidates: Candidates) -> tuple[Ints, Ints, Ints]:
        bar, e = self.bars.bar[self._by_listing], self.scores.error
        below = self._place(candidates.i, candidates.score, "left")
        first, last = self._first[candidates.i], self._last[candidates.i]
        padded = np.append(bar, np.inf)
        unsure = (below < last) & (padded[below] - candidates.score <= e)
        unsure |= (below > first) & (candidates.score - padded[below - 1] <= e)
        score = candidates.score.copy()
        score[unsure] = self.scores.exact(candidates.i[unsure], candidates.j[unsure])
        below = self._place(candidates.i, score, "left")
        upto = self._place(candidates.i, score, "right")
        n = len(bar)
        # A pair above some bars of its row raises each: add at the first, take back after the last.
        step = np.bincount(first, minlength=n + 1) - np.bincount(below, minlength=n + 1)
        same = np.bincount(below, minlength=n + 1) - np.bincount(upto, minlength=n + 1)
        return self._by_listing, np.cumsum(step)[:n], np.cumsum(same)[:n]

    def _place(self, i: Ints, score: Floats, side: str) -> NDArray[np.int64]:
        """Position of each score among the listed bars of its row, as numpy.searchsorted."""
        bar = self.bars.bar[self._by_listing]
        lo, hi = self._first[i].copy(), self._last[i].copy()
        while (lo < hi).any():
            middle = np.minimum((lo + hi) // 2, max(0, len(bar) - 1))
            right = bar[middle] < score if side == "left" else bar[middle] <= score
            right &= lo < hi
            lo, hi = np.where(right, middle + 1, lo), np.where(right, hi, np.minimum(hi, middle))
            hi = np.maximum(hi, lo)
        return lo

    def absorb(self, results: list[tuple[Ints, Ints, Ints]]) -> None:
        """Add the counts of a tile."""
        for bar, above, equal in results:
            self.above[bar] += above
            self.equal[bar] += equal

    def question(self) -> str:
        """Digest the bars."""
        return f"the pairs above {digest(*self.bars)}"

    def state(self) -> State:
        """Return both counts, of the bars where either is positive."""
        bar = np.flatnonzero(self.above | self.equal)
        return {"bar": bar, "above": self.above[bar], "equal": self.equal[bar]}

    def merge(self, state: State) -> None:
        """Add the counts of another pass over other tiles."""
        self.above[state["bar"]] += state["above"]
        self.equal[state["bar"]] += state["equal"]


class Bins:
    """Histogram of the exact score.

    Screened scores are counted in cells much finer than bins; those of cells that an edge may touch
    are placed one by one, and where the screen's error reaches an edge by the exact score.
    """

    def __init__(self, scores: PairScores, edges: Floats) -> None:
        self._scores, self._edges = scores, edges
        self.count = np.zeros(len(edges) - 1, np.int64)
        low, high = float(edges[0]), float(edges[-1])
        self._low, self._scale = low, _CELLS / (high - low)
        ends = np.linspace(low, high, _CELLS + 1)
        bin_of = np.searchsorted(edges, ends, "right") - 1
        self._float32 = 2.0**-21 * max(abs(low), abs(high))  # what a product with the factor loses
        # The screen errs by less than a cell, where the edges are not all far from nought.
        near = (self._float32 + scores.rounding) * self._scale < 0.99
        clear = np.zeros(_CELLS, bool)
        clear[1:-1] = near & (bin_of[:-3] == bin_of[3:])
        # On either side a cell for what may lie outside, and one for what does.
        self._bin = np.pad(np.where(clear, bin_of[:-1], len(self.count)), 2, constant_values=-1)
        self._bin[[1, -2]] = len(self.count)
        if not near:
            self._bin[[0, -1]] = len(self.count)
        self._unsure = self._bin == len(self.count)

    def intervals(self, i0: int, i1: int) -> list[Interval]:
        """Request no interval: every key is counted."""
        return []

    def examine(self, tile: Tile, sifted: Sequence[tuple[Candidates, int]]) -> NDArray[np.int64]:
        """Count the screened scores of a tile; masked pairs have the lowest key, and no bin."""
        n, factor = len(self.count), tile.factor[:, None].astype(np.float32)
        cells, ones = np.zeros(len(self._bin), np.int64), np.zeros(n, np.int64)
        waiting = list[tuple[NDArray[Any], ...]]()  # row, column, score; placed together
        for rows, band in tile.bands():
            for o in range(0, len(band), _TOGETHER):
                keys, of_row = band[o : o + _TOGETHER], factor[rows][o : o + _TOGETHER]
                cell = self._cells(keys, of_row)
                cells += np.bincount(cell, minlength=len(cells))
                row, column = np.divmod(np.flatnonzero(self._unsure.take(cell)), keys.shape[1])
                waiting.append((row + rows.start + o, column, keys[row, column] * of_row[row, 0]))
                if sum(len(row) for row, *_ in waiting) > _PLACED:
                    ones += self._placed(tile, waiting)
                    waiting.clear()
        if waiting:
            ones += self._placed(tile, waiting)
        sure = (self._bin >= 0) & ~self._unsure
        # Counts stay whole in float64.
        whole = np.bincount(self._bin[sure], weights=cells[sure], minlength=n)
        return ones + whole.astype(np.int64)

    def _placed(self, tile: Tile, waiting: Sequence[tuple[NDArray[Any], ...]]) -> NDArray[np.int64]:
        """Count pairs of a tile, given in parts by row, column and screened score, in each bin."""
        row, column, score = map(np.concatenate, zip(*waiting, strict=True))
        error = np.maximum(tile.up, tile.down)[row] + self._float32
        return self.placed(tile.i0 + row, tile.j0 + column, score.astype(np.float64), error)

    def placed(self, i: Ints, j: Ints, score: Floats, error: Floats | float) -> NDArray[np.int64]:
        """Count pairs in each bin, of scores that are right within `error` and that this settles.

        i, j, score : (P,), error : (P,) or one.
        """
        near = np.flatnonzero(self._gap(score) <= error)
        score[near] = self._scores.approximate(i[near], j[near])
        near = near[self._gap(score[near]) <= self._scores.settled]
        score[near] = self._scores.exact(i[near], j[near])
        return np.histogram(score, self._edges)[0]

    def _gap(self, score: Floats) -> Floats:
        """Distance of each score from the nearest edge."""
        above = np.clip(np.searchsorted(self._edges, score), 1, len(self.count))
        gap: Floats = np.minimum(
            np.abs(score - self._edges[above - 1]), np.abs(score - self._edges[above])
        )
        return gap

    def _cells(self, keys: NDArray[Any], factor: NDArray[np.float32]) -> NDArray[np.intp]:
        """Find the number of each score's cell, row after row, within one of the right one."""
        place = scratch("place", keys.shape, np.dtype(np.float32))
        cell = scratch("cell", (keys.size,), np.dtype(np.intp))
        with np.errstate(over="ignore"):
            np.multiply(keys, factor * np.float32(self._scale), out=place)
        np.add(place, np.float32(2 - self._low * self._scale), out=place)
        np.clip(place, 0, _CELLS + 3, out=place)
        np.copyto(cell, place.ravel(), casting="unsafe")
        return cell

    def absorb(self, counts: NDArray[np.int64]) -> None:
        """Add the counts of a tile."""
        self.count += counts

    def question(self) -> str:
        """Digest the edges."""
        return f"the pairs between {digest(self._edges)}"

    def state(self) -> State:
        """Return the counts."""
        return {"count": self.count}

    def merge(self, state: State) -> None:
        """Add the counts of another pass over other tiles."""
        self.count += state["count"]
