"""Sifting of tiles and scoring of listed pairs, in numpy.

`by_numba` has the same three functions, compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.kernels.scratch import scratch
from evalkit.protocols.allpairs.sides import Side
from evalkit.protocols.metrics.similarity import exact_scores
from evalkit.types import Floats, Ints

_PIECE = 1 << 19  # keys compared together: they stay in the cache for every level
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
    m, n = keys.shape
    over = [[_exceeding(keys, cut) for cut in level if cut is not None] for level in levels]
    counts = np.zeros((sum(len(cuts) > 1 for cuts in over), m), np.int64)
    flat, step = [np.empty(0, np.intp)], max(1, _PIECE // max(1, n))
    for o in range(0, m, step):
        rows = slice(o, o + step)
        for k, cuts in enumerate(over):
            inside = cuts[0](rows, "inside" if k else "found")
            if k < len(counts):
                above = cuts[1](rows, "over")
                if by_row:
                    counts[k, rows] = [np.count_nonzero(row) for row in above]
                else:
                    counts[k, o] = np.count_nonzero(above)
                np.logical_xor(inside, above, out=inside)
            if not k:
                found = inside
            else:
                np.logical_or(found, inside, out=found)
        flat.append(np.flatnonzero(found) + o * n)
    places = np.concatenate(flat)
    above_each: Any = counts if by_row else counts.sum(axis=1)
    return Sifted.of(places, n, keys.ravel()[places], above_each)


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


def _exceeding(keys: NDArray[Any], cut: NDArray[Any]) -> Callable[[slice, str], NDArray[np.bool_]]:
    """Find how to mask the keys > cut in some rows, one cut per row.

    Positive float32 compare as bits, twice as fast, and all with one number sooner than by row.
    """
    every = cut == ANY if cut.dtype == np.int16 and ANY in cut else None
    if keys.dtype == np.float32 and cut.min(initial=1) > 0:
        keys, cut = keys.view(np.int32), cut.view(np.int32)
    same = len(cut) and (cut == cut[0]).all()

    def over(rows: slice, name: str) -> NDArray[np.bool_]:
        some = keys[rows]
        out = scratch(name, some.shape, np.dtype(bool))
        np.greater(some, cut[0] if same else cut[rows, None], out=out)
        return out if every is None else np.logical_or(out, every[rows, None], out=out)

    return over
