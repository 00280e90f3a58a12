"""A tile of screened products, and the questions that a collector may ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.screens import Screen
from evalkit.protocols.allpairs.sides import Floats, Ints, Side

_INT = np.iinfo(np.int32)
_ANY = -(2**15)  # as a cut on the bits of bfloat16: every key is higher
_FEW = 64  # pairs below which gathering rows is cheaper than a sampled product


class Found(NamedTuple):
    """P pairs (i, j) of positions in the scan and their scores, each within the scan's error."""

    i: Ints
    j: Ints
    score: Floats

    def at(self, which: NDArray[Any]) -> Found:
        """Select some of them, by a mask or by places."""
        return Found(self.i[which], self.j[which], self.score[which])


@dataclass(slots=True)
class Tile:
    """Rows i0.. of one side against columns j0.. of the other: keys, and how to read them."""

    screen: Screen
    keys: NDArray[Any]  # (m, n)
    factor: Floats  # (m,) key * factor is the screened product
    up: Floats  # (m,) the score is at most the screened product + up
    down: Floats  # (m,) and at least the screened product - down
    i0: int
    j0: int
    x: Side
    y: Side
    diagonal: bool = False  # pairs with j <= i are masked by the lowest key, and never handed out
    tensors: tuple[Any, Any] | None = None  # the rows themselves, where torch scores candidates

    def candidates(self, low: Floats | float, high: float = np.inf) -> tuple[Found, int]:
        """Pairs whose score may lie in [low, high], and how many more are surely above high.

        low : one for all rows, or (m,).  What is left out is surely below low or counted.
        """
        cut = self._cut_below(np.broadcast_to(low, len(self.factor)))
        if high == np.inf:
            flat, surely = _positions(self.keys, cut), 0
        else:
            over = _exceeds(self.keys, self._cut_above(np.full(len(self.factor), high)))
            inside, surely = _exceeds(self.keys, cut), int(np.count_nonzero(over))
            if surely:
                np.logical_xor(inside, over, out=inside)
            flat = np.flatnonzero(inside)
        i, j = np.divmod(flat, self.keys.shape[1])
        if self.diagonal:
            once = j + self.j0 > i + self.i0
            i, j = i[once], j[once]
        return Found(i + self.i0, j + self.j0, self._scores(i, j)), surely

    def around(self, row: Ints, bar: Floats) -> tuple[NDArray[np.int64], Ints, Found]:
        """For (row of the tile, bar) questions: pairs surely above each bar, and the undecided.

        Returns the counts (R,), and the undecided pairs with the question that each belongs to.
        """
        part = self.keys[row]
        over = _exceeds(part, self._cut_above(bar, row))
        inside = _exceeds(part, self._cut_below(bar, row))
        np.logical_xor(inside, over, out=inside)
        question, j = np.divmod(np.flatnonzero(inside), inside.shape[1])
        i = row[question]
        if self.diagonal:
            once = j + self.j0 > i + self.i0
            question, i, j = question[once], i[once], j[once]
        counts = np.array([np.count_nonzero(r) for r in over], np.int64)
        return counts, question, Found(i + self.i0, j + self.j0, self._scores(i, j))

    def once(self) -> NDArray[np.bool_]:
        """Where a pair of one set with itself counts: j > i."""
        m, n = self.keys.shape
        over: NDArray[np.bool_] = np.arange(n)[None, :] + self.j0 > np.arange(m)[:, None] + self.i0
        return over

    def _scores(self, i: Ints, j: Ints) -> Floats:
        if self.screen.arithmetic in ("float32", "torch-float32", "float64") and (
            self.screen.projection is None
        ):
            return self.keys[i, j].astype(np.float64)
        if self.tensors is not None and len(i) >= _FEW and (np.diff(i) >= 0).all():
            from evalkit.protocols.allpairs import by_torch

            return by_torch.scores(*self.tensors, i, j)
        out = np.empty(len(i))
        for o in range(0, len(i), 512):
            a, b = self.x.pick(i[o : o + 512] + self.i0), self.y.pick(j[o : o + 512] + self.j0)
            out[o : o + 512] = np.einsum("ij,ij->i", a, b)
        return out

    def _cut_below(self, low: Floats, row: Ints | None = None) -> NDArray[Any]:
        """Find a key a row such that every pair whose score is >= low has a higher one."""
        factor, up = self._of(row, self.factor, self.up)
        with np.errstate(over="ignore"):
            w = (low - up) / factor
        w = w - np.abs(w) * 1e-12
        if self.keys.dtype == np.int32:
            return np.asarray(np.clip(np.ceil(w) - 1, _INT.min, _INT.max), np.int32)
        if self.keys.dtype == np.float64:
            return np.asarray(np.nextafter(w, -np.inf))
        cut = np.nextafter(_float32(w), np.float32(-np.inf))
        if self.keys.dtype == np.int16:  # bits of bfloat16: below the next lower one
            return np.where(cut > 0, (_bits(cut) >> 16) - 1, _ANY).astype(np.int16)
        return np.asarray(cut)

    def _cut_above(self, high: Floats, row: Ints | None = None) -> NDArray[Any]:
        """Find a key a row such that every pair with a higher one scores > high."""
        factor, down = self._of(row, self.factor, self.down)
        with np.errstate(over="ignore"):
            w = (high + down) / factor
        w = w + np.abs(w) * 1e-12
        if self.keys.dtype == np.int32:
            return np.asarray(np.clip(np.floor(w), _INT.min, _INT.max), np.int32)
        if self.keys.dtype == np.float64:
            return np.asarray(np.nextafter(w, np.inf))
        cut = np.nextafter(_float32(w), np.float32(np.inf))
        if self.keys.dtype == np.int16:
            bits = np.minimum((_bits(np.maximum(cut, 0)) + 0xFFFF) >> 16, 2**15 - 1)
            return np.asarray(bits, np.int16)
        return np.asarray(cut)

    @staticmethod
    def _of(row: Ints | None, *columns: Floats) -> tuple[Floats, ...]:
        return columns if row is None else tuple(c[row] for c in columns)


def _float32(w: Floats) -> NDArray[np.float32]:
    return np.clip(w, -3.0e38, 3.0e38).astype(np.float32)


def _bits(x: NDArray[np.float32]) -> NDArray[np.int64]:
    return x.view(np.int32).astype(np.int64)


def _exceeds(keys: NDArray[Any], cut: NDArray[Any]) -> NDArray[np.bool_]:
    """Where keys > cut, a cut a row: positive float32 compare as their bits do, twice as fast."""
    if not len(cut):
        return np.zeros(keys.shape, bool)
    if keys.dtype == np.float32 and cut.min() > 0:
        keys, cut = keys.view(np.int32), cut.view(np.int32)
    one = cut[0] if (cut == cut[0]).all() else cut[:, None]
    over: NDArray[np.bool_] = keys > one
    if cut.dtype == np.int16 and cut.min() == _ANY:
        over |= (cut == _ANY)[:, None]
    return over


def _positions(keys: NDArray[Any], cut: NDArray[Any]) -> NDArray[np.intp]:
    """Flat positions with keys > cut.  The highest key of a row spares most rows the comparison."""
    if not keys.size:
        return np.empty(0, np.intp)
    if cut.dtype == np.int16 and cut.min() == _ANY:
        return np.flatnonzero(_exceeds(keys, cut))
    rows = np.flatnonzero(keys.max(axis=1) > cut)
    if 2 * len(rows) > len(keys):
        return np.flatnonzero(_exceeds(keys, cut))
    r, j = np.divmod(np.flatnonzero(keys[rows] > cut[rows, None]), keys.shape[1])
    return np.asarray(rows[r] * keys.shape[1] + j, np.intp)
