"""A tile of screened products, and the questions that collectors ask of it, answered together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.screens import Screen, scratch
from evalkit.protocols.allpairs.sides import Floats, Ints, Side, products

_INT = np.iinfo(np.int32)
_ANY = -(2**15)  # as a cut on 16 bits: every key is higher
_SPREAD = 0.02  # of cuts that may be taken for one, which costs a few more candidates
_FEW = 64  # pairs below which gathering rows is cheaper than a sampled product


class Found(NamedTuple):
    """P pairs (i, j) of positions in the scan and their scores, each within the scan's error."""

    i: Ints
    j: Ints
    score: Floats

    def at(self, which: NDArray[Any]) -> Found:
        """Select some of them, by a mask or by places."""
        return Found(self.i[which], self.j[which], self.score[which])


class Interval(NamedTuple):
    """Scores that a collector wants to see: low, one or (m,) a row, up to high."""

    low: Floats | float
    high: float = np.inf


class Level(NamedTuple):
    """An interval as keys, (m,) each: inside is above `below` and, if closed, not above `above`."""

    below: NDArray[Any]
    above: NDArray[Any] | None = None


@dataclass(slots=True)
class Tile:
    """Rows i0.. of one side against columns j0.. of the other: codes, and how to read their keys.

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
    x: Side
    y: Side
    diagonal: bool = False  # pairs with j <= i are masked by the lowest key, and never handed out
    tensors: tuple[Any, Any] | None = None  # the rows themselves, where torch scores candidates
    stretched: bool = False  # keys fill the range of int16
    _keys: NDArray[Any] | None = field(default=None)

    @property
    def pairs(self) -> int:
        """Entries of the tile."""
        return len(self.left) * len(self.right)

    @property
    def keys(self) -> NDArray[Any]:
        """(m, n) keys; the next tile of the same thread overwrites them."""
        if self._keys is None:
            self._keys = self.screen.product(self.left, self.right)
            if self.diagonal:
                self._keys[~self.once()] = self._lowest()
        return self._keys

    def _rows(self, row: Ints) -> NDArray[Any]:
        """Keys of these rows, (R, n)."""
        if not self.screen.on_gpu:
            return self.keys[row]
        part = self.screen.product(self.left[row], self.right)  # all of them would fill the host
        if self.diagonal:
            part[np.arange(len(self.right)) + self.j0 <= row[:, None] + self.i0] = self._lowest()
        return part

    def _lowest(self) -> float:
        return (
            -np.inf
            if self.screen.key in (np.float32, np.float64)
            else np.iinfo(self.screen.key).min
        )

    def once(self) -> NDArray[np.bool_]:
        """Where a pair of one set with itself counts: j > i."""
        m, n = len(self.left), len(self.right)
        over: NDArray[np.bool_] = np.arange(n)[None, :] + self.j0 > np.arange(m)[:, None] + self.i0
        return over

    def sift(self, wanted: Sequence[Interval]) -> list[tuple[Found, int]]:
        """For each interval the pairs that may lie in it, and how many more surely lie above it.

        Pairs left out surely lie below, or are counted.  Intervals without an upper end share one
        list, of what may lie in any of them.
        """
        if not wanted:
            return []
        m = len(self.left)
        lows = [np.broadcast_to(w.low, m) for w in wanted]
        levels = [
            Level(self._cut_below(low), self._cut_above(np.full(m, w.high)))
            for low, w in zip(lows, wanted, strict=True)
            if w.high < np.inf
        ]
        open_ended = [low for low, w in zip(lows, wanted, strict=True) if w.high == np.inf]
        if open_ended:
            levels.append(Level(self._cut_below(np.minimum.reduce(open_ended))))
        flat, key, surely = self._sift(levels)
        i, j = np.divmod(flat, len(self.right))
        if self.diagonal:
            once = j + self.j0 > i + self.i0
            i, j, key = i[once], j[once], key[once]
        every = Found(i + self.i0, j + self.j0, self._scores(i, j))
        closed = iter(zip(levels, surely, strict=True))
        out = []
        for w in wanted:
            if w.high == np.inf:
                out.append((every, 0))
            else:
                level, count = next(closed)
                out.append((every.at(_inside(key, level, i)), count))
        return out

    def around(self, row: Ints, bar: Floats) -> tuple[NDArray[np.int64], Ints, Found]:
        """For (row of the tile, bar) questions: pairs surely above each bar, and the undecided.

        Returns the counts (R,), and the undecided pairs with the question that each belongs to.
        """
        part = self._rows(row)
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

    def _sift(self, levels: list[Level]) -> tuple[Ints, NDArray[Any], list[int]]:
        """Flat positions inside any level, their keys, and the pairs above each closed level."""
        if self.screen.on_gpu:
            from evalkit.protocols.allpairs import on_gpu

            sift = on_gpu.sift(self.screen.arithmetic)
            return sift(self.left, self.right, levels, self.j0 - self.i0 if self.diagonal else None)
        keys = self.keys
        if self.stretched:
            short = scratch("short", keys.shape, np.dtype(np.int16))
            with np.errstate(invalid="ignore"):  # the masked ones, which are not finite
                np.copyto(short, keys, casting="unsafe")
            if self.diagonal:
                short[~self.once()] = _ANY
            keys = short
        if len(levels) == 1 and levels[0].above is None:
            flat = _positions(keys, levels[0].below)
            return flat, keys.ravel()[flat], []
        surely: list[int] = []
        any_level = _mask(keys, levels[0], "any", surely)
        for level in levels[1:]:
            np.logical_or(any_level, _mask(keys, level, "inside", surely), out=any_level)
        flat = _places(any_level)
        return flat, keys.ravel()[flat], surely

    def _scores(self, i: Ints, j: Ints) -> Floats:
        if self.screen.plain_float:
            return self.keys[i, j] * self.factor[i]
        if self.tensors is not None and len(i) >= _FEW and (np.diff(i) >= 0).all():
            from evalkit.protocols.allpairs import by_torch

            return by_torch.scores(*self.tensors, i, j)
        return products(self.x, i + self.i0, self.y, j + self.j0)

    def _cut_below(self, low: Floats, row: Ints | None = None) -> NDArray[Any]:
        """Find a key a row such that every pair whose score is >= low has a higher one."""
        factor, up = self._of(row, self.factor, self.up)
        with np.errstate(over="ignore"):
            w = (low - up) / factor
        w = w - np.abs(w) * 1e-12
        if self.stretched and row is None:  # keys are cut towards nought
            return _alike(np.clip(np.trunc(w) - 1, _ANY, -_ANY - 1).astype(np.int16), np.min)
        kind = self.screen.key
        if kind == np.int32:
            return np.asarray(np.clip(np.ceil(w) - 1, _INT.min, _INT.max), np.int32)
        if kind == np.float64:
            return np.asarray(np.nextafter(w, -np.inf))
        cut = np.nextafter(_float32(w), np.float32(-np.inf))
        if kind == np.int16:  # bits of bfloat16: below the next lower one
            return np.where(cut > 0, (_bits(cut) >> 16) - 1, _ANY).astype(np.int16)
        return np.asarray(cut)

    def _cut_above(self, high: Floats, row: Ints | None = None) -> NDArray[Any]:
        """Find a key a row such that every pair with a higher one scores > high."""
        factor, down = self._of(row, self.factor, self.down)
        with np.errstate(over="ignore"):
            w = (high + down) / factor
        w = w + np.abs(w) * 1e-12
        if self.stretched and row is None:
            return _alike(np.clip(np.ceil(w), _ANY, -_ANY - 1).astype(np.int16), np.max)
        kind = self.screen.key
        if kind == np.int32:
            return np.asarray(np.clip(np.floor(w), _INT.min, _INT.max), np.int32)
        if kind == np.float64:
            return np.asarray(np.nextafter(w, np.inf))
        cut = np.nextafter(_float32(w), np.float32(np.inf))
        if kind == np.int16:
            bits = np.minimum((_bits(np.maximum(cut, 0)) + 0xFFFF) >> 16, 2**15 - 1)
            return np.asarray(bits, np.int16)
        return np.asarray(cut)

    @staticmethod
    def _of(row: Ints | None, *columns: Floats) -> tuple[Floats, ...]:
        return columns if row is None else tuple(c[row] for c in columns)


def _alike(cut: NDArray[np.int16], safest: Callable[[Any], Any]) -> NDArray[np.int16]:
    """One cut for all rows where they hardly differ: comparing with a scalar is twice as fast."""
    if len(cut) and int(cut.max()) - int(cut.min()) <= 8:
        cut[:] = safest(cut)
    return cut


def _float32(w: Floats) -> NDArray[np.float32]:
    return np.clip(w, -3.0e38, 3.0e38).astype(np.float32)


def _bits(x: NDArray[np.float32]) -> NDArray[np.int64]:
    return x.view(np.int32).astype(np.int64)


def _exceeds(keys: NDArray[Any], cut: NDArray[Any], name: str | None = None) -> NDArray[np.bool_]:
    """Where keys > cut, a cut a row: positive float32 compare as their bits do, twice as fast."""
    out = None if name is None else scratch(name, keys.shape, np.dtype(bool))
    if not len(cut):
        return np.zeros(keys.shape, bool)
    if keys.dtype == np.float32 and cut.min() > 0:
        keys, cut = keys.view(np.int32), cut.view(np.int32)
    one = cut[0] if (cut == cut[0]).all() else cut[:, None]
    over: NDArray[np.bool_] = np.greater(keys, one, out=out)
    if cut.dtype == np.int16 and cut.min() == _ANY:
        over |= (cut == _ANY)[:, None]
    return over


def _mask(keys: NDArray[Any], level: Level, name: str, surely: list[int]) -> NDArray[np.bool_]:
    """Where keys lie inside a level; of a closed one, how many lie above is appended."""
    inside = _exceeds(keys, level.below, name)
    if level.above is not None:
        over = _exceeds(keys, level.above, "over")
        surely.append(int(np.count_nonzero(over)))
        np.logical_xor(inside, over, out=inside)
    return inside


def _places(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """numpy.flatnonzero of a contiguous mask that is true in few places, twice as fast."""
    if mask.size % 8:
        return np.flatnonzero(mask)
    some = scratch("some", (mask.size // 8,), np.dtype(bool))
    words = np.flatnonzero(np.not_equal(mask.ravel().view(np.uint64), 0, out=some))
    word, byte = np.divmod(np.flatnonzero(mask.reshape(-1, 8)[words]), 8)
    return np.asarray(8 * words[word] + byte)


def _inside(key: NDArray[Any], level: Level, i: Ints) -> NDArray[np.bool_]:
    """Which of these keys of rows i lie inside a closed level."""
    cut = level.below[i]
    inside: NDArray[np.bool_] = key > cut
    if cut.dtype == np.int16:
        inside |= cut == _ANY
    return inside if level.above is None else inside & ~(key > level.above[i])


def _positions(keys: NDArray[Any], cut: NDArray[Any]) -> NDArray[np.intp]:
    """Flat positions with keys > cut.  The highest key of a row spares most rows the comparison."""
    if not keys.size:
        return np.empty(0, np.intp)
    if cut.dtype == np.int16 and cut.min() == _ANY:
        return np.flatnonzero(_exceeds(keys, cut))
    low, high = cut.min(), cut.max()
    if low > 0 and high - low <= low * _SPREAD:
        return _places(_exceeds(keys, np.full_like(cut, low), "inside"))
    rows = np.flatnonzero(keys.max(axis=1) > cut)
    if 2 * len(rows) > len(keys):
        return np.flatnonzero(_exceeds(keys, cut))
    r, j = np.divmod(np.flatnonzero(keys[rows] > cut[rows, None]), keys.shape[1])
    return np.asarray(rows[r] * keys.shape[1] + j, np.intp)
