"""Sifting of tiles and scoring of listed pairs, in numpy.

`by_numba` has the same three functions, compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.kernels.scratch import scratch
from evalkit.protocols.allpairs.sides import Side
from evalkit.protocols.metrics.similarity import exact_scores
from evalkit.types import Floats, Ints

_PICKED = 4096  # pairs whose rows are read together
ANY = -(2**15)  # as a cut on 16 bits: every key is higher


class Level(NamedTuple):
    """An interval as keys, (m,) each: inside is above `below` and, if closed, not above `above`."""

    below: NDArray[Any]
    above: NDArray[Any] | None = None


class Sifted(NamedTuple):
    """P positions (i, j) of a tile inside any level, and their keys.

    above : (C,) int64, or (C, m) by row, pairs above each closed level.
    """

    i: Ints
    j: Ints
    key: NDArray[Any]
    above: NDArray[np.int64]

    @classmethod
    def of(cls, flat: Ints, columns: int, key: NDArray[Any], above: Sequence[Any]) -> Sifted:
        """Build from flat positions in a tile of `columns` columns."""
        i, j = np.divmod(flat, max(1, columns))
        return cls(i, j, key, np.array(above, np.int64))


def sift(keys: NDArray[Any], levels: Sequence[Level], *, by_row: bool = False) -> Sifted:
    """Select the keys (m, n) inside any level, closed ones first; count those above each."""
    above: list[Any] = []
    inside = _mask(keys, levels[0], "any", above, by_row)
    for level in levels[1:]:
        np.logical_or(inside, _mask(keys, level, "inside", above, by_row), out=inside)
    flat = np.flatnonzero(inside)
    return Sifted.of(flat, keys.shape[1], keys.ravel()[flat], above)


def products(x: Side, i: Ints, y: Side, j: Ints) -> Floats:
    """Multiply rows i of x with rows j of y in float32, (P,), in parts that stay in the cache."""
    out = np.empty(len(i))
    for o in range(0, len(i), 512):
        out[o : o + 512] = np.einsum("ij,ij->i", x.pick(i[o : o + 512]), y.pick(j[o : o + 512]))
    return out


def exact(x: Side, i: Ints, y: Side, j: Ints) -> Floats:
    """Score rows i of x against rows j of y exactly, rounded once, (P,)."""
    out = np.empty(len(i))
    for o in range(0, len(i), _PICKED):
        part = slice(o, o + _PICKED)
        out[part] = exact_scores(*x.distinct(i[part]), *y.distinct(j[part]))
    return out


def inside(key: NDArray[Any], level: Level, i: Ints) -> NDArray[np.bool_]:
    """Mask of the keys, of rows i, that lie inside a closed level."""
    cut = level.below[i]
    over: NDArray[np.bool_] = key > cut
    if cut.dtype == np.int16:
        over |= cut == ANY
    return over if level.above is None else over & ~(key > level.above[i])


def _mask(
    keys: NDArray[Any], level: Level, name: str, above: list[Any], by_row: bool
) -> NDArray[np.bool_]:
    """Mask of the keys inside a level; for a closed one, append the count above it."""
    inside = _exceeds(keys, level.below, name)
    if level.above is not None:
        over = _exceeds(keys, level.above, "over")
        count = [np.count_nonzero(row) for row in over] if by_row else np.count_nonzero(over)
        above.append(count)
        np.logical_xor(inside, over, out=inside)
    return inside


def _exceeds(keys: NDArray[Any], cut: NDArray[Any], name: str | None = None) -> NDArray[np.bool_]:
    """Mask of keys > cut, one cut per row; positive float32 compare as bits, twice as fast."""
    out = None if name is None else scratch(name, keys.shape, np.dtype(bool))
    if not len(cut):
        return np.zeros(keys.shape, bool)
    if keys.dtype == np.float32 and cut.min() > 0:
        keys, cut = keys.view(np.int32), cut.view(np.int32)
    one = cut[0] if (cut == cut[0]).all() else cut[:, None]
    over: NDArray[np.bool_] = np.greater(keys, one, out=out)
    if cut.dtype == np.int16 and cut.min() == ANY:
        over |= (cut == ANY)[:, None]
    return over
