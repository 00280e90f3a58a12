"""A tile of screened products, sifted for the intervals of all collectors at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.kernels import by_numpy
from evalkit.protocols.allpairs.kernels.by_numpy import ANY, Level, Sifted, inside
from evalkit.protocols.allpairs.screening import screens
from evalkit.protocols.allpairs.screening.screens import Screen
from evalkit.protocols.allpairs.sides import Subjects, same_subject
from evalkit.types import Floats, Ints

_INT = np.iinfo(np.int32)
_NEAR = 2.0**-20  # of a cut


class Candidates(NamedTuple):
    """P pairs (i, j) of positions in the scan and their scores, each within the scan's error."""

    i: Ints
    j: Ints
    score: Floats

    def at(self, which: NDArray[Any]) -> Candidates:
        """Select pairs by a mask or by positions."""
        if which.dtype == bool:
            which = np.flatnonzero(which)  # once, not for each of the three
        return Candidates(self.i[which], self.j[which], self.score[which])


class Interval(NamedTuple):
    """Scores that a collector requests: from low, one value or (m,) per row, up to high.

    unmated : subjects, where mates may be excluded.
    """

    low: Floats | float
    high: float = np.inf
    unmated: Subjects | None = None


@dataclass(slots=True)
class Tile:
    """Rows i0.. of one side against columns j0.. of the other: codes, and the scale of their keys.

    A key is an entry of the product of the codes; key * factor is the screened score.
    """

    screen: Screen
    left: Any  # (m, k) codes
    right: Any  # (n, k)
    factor: Floats  # (m,)
    up: Floats  # (m,) the score is at most the screened one + up
    down: Floats  # (m,) and at least the screened one - down
    i0: int
    j0: int
    score: Callable[[Ints, Ints], Floats]  # of pairs (i, j) of the scan, within its error
    diagonal: bool = False  # pairs with j <= i are masked by the lowest key, and never returned
    good: bool = False  # screened scores are within the scan's error
    loops: ModuleType = by_numpy  # or by_numba

    @property
    def pairs(self) -> int:
        """Entries of the tile."""
        return len(self.left) * len(self.right)

    def bands(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield rows of the tile and their (r, n) keys, which the next iteration overwrites.

        Rows are left out from where on all of their pairs are masked.
        """
        end = len(self.left)
        if self.diagonal:
            end = min(end, self.j0 + len(self.right) - 1 - self.i0)
        for o in range(0, end, screens.ROWS):
            rows = slice(o, min(o + screens.ROWS, len(self.left)))
            yield rows, self._keys(np.arange(rows.start, rows.stop), self.left[rows])

    def _keys(self, row: Ints, codes: Any) -> NDArray[Any]:
        keys = self.screen.product(codes, self.right)
        if self.diagonal:
            ends, lowest = row + (self.i0 + 1 - self.j0), self._lowest()
            for of_row, masked in zip(keys, ends.clip(0).tolist(), strict=True):
                of_row[:masked] = lowest
        return keys

    def _lowest(self) -> float:
        return (
            -np.inf
            if self.screen.key in (np.float32, np.float64)
            else np.iinfo(self.screen.key).min
        )

    def sift(self, requests: Sequence[Interval]) -> list[tuple[Candidates, int]]:
        """Return for each interval its candidate pairs, and the count of pairs surely above it.

        Pairs that are neither surely lie below.  Intervals without an upper end share one list, of
        the candidates of any of them.
        """
        if not requests:
            return []
        m = len(self.left)
        lows = [np.broadcast_to(w.low, m) for w in requests]
        levels = [
            Level(self._cut_below(low), self._cut_above(np.full(m, w.high)))
            for low, w in zip(lows, requests, strict=True)
            if w.high < np.inf
        ]
        open_ended = [low for low, w in zip(lows, requests, strict=True) if w.high == np.inf]
        if open_ended:
            levels.append(Level(self._cut_below(np.minimum.reduce(open_ended))))
        sifted = self._sift(levels)
        subjects = requests[0].unmated
        if subjects is not None and all(w.unmated is not None for w in requests):
            sifted = self._without_mates(sifted, subjects)
        candidates = self._scored(sifted.i, sifted)
        closed = iter(zip(levels, sifted.above.tolist(), strict=False))
        out = []
        for w in requests:
            if w.high == np.inf:
                out.append((candidates, 0))
            else:
                level, above = next(closed)
                out.append((candidates.at(inside(sifted.key, level, sifted.i)), above))
        return out

    def around(self, row: Ints, bar: Floats) -> tuple[NDArray[np.int64], Ints, Candidates]:
        """Count the pairs surely above each (row of the tile, bar) query, and list the undecided.

        Returns the counts (R,), the query of each undecided pair, and those pairs.
        """
        level = Level(self._cut_below(bar, row), self._cut_above(bar, row))
        sifted = self.loops.sift(self._keys(row, self.left[row]), [level], by_row=True)
        sifted = self._once(row[sifted.i], sifted)
        return sifted.above[0], sifted.i, self._scored(row[sifted.i], sifted)

    def _sift(self, levels: list[Level]) -> Sifted:
        if self.screen.on_gpu:
            from evalkit.protocols.allpairs.kernels import on_gpu

            offset = self.j0 - self.i0 if self.diagonal else None
            return on_gpu.sift(self.screen.arithmetic, self.left, self.right, levels, offset)
        parts = []
        for rows, keys in self.bands():
            cut = [Level(w.below[rows], None if w.above is None else w.above[rows]) for w in levels]
            part = self.loops.sift(keys, cut)
            parts.append(part._replace(i=part.i + rows.start))
        i, j, key = (np.concatenate([part[c] for part in parts]) for c in range(3))
        above = np.sum([part.above for part in parts], axis=0)
        return self._once(i, Sifted(i, j, key, above))

    def _once(self, i: Ints, sifted: Sifted) -> Sifted:
        """Drop masked pairs (j <= i) that the sift returned; i : their rows of the tile."""
        if not self.diagonal:
            return sifted
        once = sifted.j + self.j0 > i + self.i0
        return Sifted(sifted.i[once], sifted.j[once], sifted.key[once], sifted.above)

    def _without_mates(self, sifted: Sifted, subjects: Subjects) -> Sifted:
        i, j = sifted.i + self.i0, sifted.j + self.j0
        unmated = ~same_subject(subjects[0][i], subjects[1][j])
        return Sifted(sifted.i[unmated], sifted.j[unmated], sifted.key[unmated], sifted.above)

    def _scored(self, i: Ints, sifted: Sifted) -> Candidates:
        """Return the sifted pairs as scored positions in the scan; i : their rows of the tile."""
        i, j = i + self.i0, sifted.j + self.j0
        if self.good:
            return Candidates(i, j, sifted.key * self.factor[i - self.i0])
        return Candidates(i, j, self.score(i, j))

    def _cut_below(self, low: Floats, row: Ints | None = None) -> NDArray[Any]:
        """Find a key per row such that every pair whose score is >= low has a higher one."""
        factor, up = self._of(row, self.factor, self.up)
        with np.errstate(over="ignore"):
            w = (low - up) / factor
        w = w - np.abs(w) * 1e-12
        kind = self.screen.key
        if kind == np.int32:
            return np.asarray(np.clip(np.ceil(w) - 1, _INT.min, _INT.max), np.int32)
        if kind == np.float64:
            return np.asarray(np.nextafter(w, -np.inf))
        cut = np.nextafter(_float32(w), np.float32(-np.inf))
        if kind == np.int16:  # bits of bfloat16: below the next lower one
            return np.where(cut > 0, (_bits(cut) >> 16) - 1, ANY).astype(np.int16)
        return _evened(cut, cut.min(initial=np.inf))

    def _cut_above(self, high: Floats, row: Ints | None = None) -> NDArray[Any]:
        """Find a key per row such that every pair with a higher one scores > high."""
        factor, down = self._of(row, self.factor, self.down)
        with np.errstate(over="ignore"):
            w = (high + down) / factor
        w = w + np.abs(w) * 1e-12
        kind = self.screen.key
        if kind == np.int32:
            return np.asarray(np.clip(np.floor(w), _INT.min, _INT.max), np.int32)
        if kind == np.float64:
            return np.asarray(np.nextafter(w, np.inf))
        cut = np.nextafter(_float32(w), np.float32(np.inf))
        if kind == np.int16:
            bits = np.minimum((_bits(np.maximum(cut, 0)) + 0xFFFF) >> 16, 2**15 - 1)
            return np.asarray(bits, np.int16)
        return _evened(cut, cut.max(initial=-np.inf))

    @staticmethod
    def _of(row: Ints | None, *columns: Floats) -> tuple[Floats, ...]:
        return columns if row is None else tuple(c[row] for c in columns)


def _evened(cut: NDArray[np.float32], one: np.float32) -> NDArray[np.float32]:
    """Give every row the outermost cut where they differ by the rounding of unit lengths alone.

    NumPy compares a tile with one number three times as fast as with one per row.
    """
    near = np.abs(cut - one).max(initial=0) <= _NEAR * abs(one)
    return np.full_like(cut, one) if near else cut


def _float32(w: Floats) -> NDArray[np.float32]:
    return np.clip(w, -3.0e38, 3.0e38).astype(np.float32)


def _bits(x: NDArray[np.float32]) -> NDArray[np.int64]:
    return x.view(np.int32).astype(np.int64)
