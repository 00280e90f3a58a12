"""Sifting of tiles and scoring of listed pairs, compiled by numba.

One read of a tile serves every level, and resident rows are scored in place.  Compiled on first
use, and cached beside this file.  The loops release Python's lock, so tiles run in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evalkit.protocols.allpairs.kernels.by_numpy import ANY, Level, Sifted
from evalkit.protocols.allpairs.kernels.scratch import scratch
from evalkit.protocols.allpairs.sides import Side
from evalkit.protocols.metrics.similarity import exact_scores, rounded_once
from evalkit.types import Floats, Ints

_PIECE = 512  # columns processed together: they stay in the nearest cache
_GATHERED = 512  # pairs whose rows are read together: they stay in a cache
_NEAR = 1 << 12  # rows, as those of a tile: where pairs are of no more, rows return often
_ONE, _NOUGHT = np.float32(1), np.float32(0)
# Sums may be taken in any order, which lets the compiler use wide registers.
_any_order = {"reassoc", "nsz", "contract"}


def sift(keys: NDArray[Any], levels: Sequence[Level], *, by_row: bool = False) -> Sifted:
    """Select the keys (m, n) inside any level, closed ones first; count those above each."""
    m = len(keys)
    below = np.stack([level.below for level in levels])
    closed = [level.above for level in levels if level.above is not None]
    above = np.array(closed, below.dtype).reshape(len(closed), m)
    if below.dtype == np.int16:
        below = np.where(below == ANY, ANY - 1, below.astype(np.int32))
    counts = np.zeros(above.shape, np.int64)
    room = max(1024, keys.size // 64)
    while True:
        i, j = (scratch(name, (room,), np.dtype(np.int32)) for name in ("row", "column"))
        key = scratch("key" + keys.dtype.name, (room,), keys.dtype)
        counts[:] = 0
        n = _sift(keys, below, above, i, j, key, counts)
        if n <= room:
            over = counts if by_row else counts.sum(axis=1)
            return Sifted(i[:n].copy(), j[:n].copy(), key[:n].copy(), over)
        room = n


def products(x: Side, i: Ints, y: Side, j: Ints) -> Floats:
    """Multiply rows i of x with rows j of y in float64, (P,)."""
    out = np.empty(len(i))
    for part, a, p, b, q in _read(x, i, y, j):
        _products(a, b, p, q, out[part])
    return out


def exact(x: Side, i: Ints, y: Side, j: Ints) -> Floats:
    """Score rows i of x against rows j of y exactly, rounded once, (P,)."""
    out = np.empty(len(i))
    for part, a, p, b, q in _read(x, i, y, j):
        out[part] = exact_rows(a, p, b, q)
    return out


def exact_rows(
    x: NDArray[np.float32], i: Ints, y: NDArray[np.float32], j: Ints
) -> NDArray[np.float64]:
    """Score pairs (x[i], y[j]) as `similarity.exact_scores` does, to the same bits."""
    high, error, size = np.zeros((3, len(i)))
    if x.shape[1]:
        _sums(x, y, i, j, high, error, size)
    with np.errstate(invalid="ignore"):
        score, unsure = rounded_once(high, error, size, x.shape[1])
    rest = np.flatnonzero(unsure | ~np.isfinite(high))  # a row that is not finite, too
    if len(rest):
        score[rest] = exact_scores(x, i[rest], y, j[rest])
    return score


def _read(
    x: Side, i: Ints, y: Side, j: Ints
) -> Iterator[tuple[slice, NDArray[np.float32], Ints, NDArray[np.float32], Ints]]:
    """Yield parts of the pairs, and for both sides rows and the places of the part among them.

    Resident rows are used where they lie, others read into the cache, each of a part once.
    """
    if x.resident and y.resident:
        yield slice(None), x.band(0, len(x)), i, y.band(0, len(y)), j
        return
    near = max(np.ptp(r) if len(r) else 0 for r in (i, j)) < _NEAR
    together = 4 * _NEAR if near else _GATHERED
    for o in range(0, len(i), together):
        part = slice(o, min(o + together, len(i)))
        yield part, *x.distinct(i[part]), *y.distinct(j[part])


@njit(nogil=True, cache=True, fastmath=_any_order)
def _count(row: Any, cut: Any) -> Any:
    """Count the keys of a piece above a cut; a float32 sum of ones is exact, and of 16 at once."""
    total = _NOUGHT
    for c in range(row.size):
        total += _ONE if row[c] > cut else _NOUGHT
    return total


@njit(nogil=True, cache=True)
def _mark(inside: Any, row: Any, below: Any) -> None:
    for c in range(row.size):
        inside[c] |= row[c] > below


@njit(nogil=True, cache=True)
def _mark_between(inside: Any, row: Any, below: Any, above: Any) -> None:
    for c in range(row.size):
        inside[c] |= (row[c] > below) & (row[c] <= above)


@njit(nogil=True, cache=True)
def _sift(keys: Any, below: Any, above: Any, i: Any, j: Any, key: Any, counts: Any) -> int:
    """Fill i, j, key as far as there is room; return the number of candidates."""
    n = 0
    inside = np.zeros(_PIECE, np.bool_)
    words = inside.view(np.uint64)
    for r in range(keys.shape[0]):
        for o in range(0, keys.shape[1], _PIECE):
            row = keys[r, o : min(o + _PIECE, keys.shape[1])]
            some = False
            for level in range(below.shape[0]):
                cut = below[level, r]
                over = _count(row, cut)
                if level >= counts.shape[0]:
                    if over > _NOUGHT:
                        some = True
                        _mark(inside, row, cut)
                    continue
                higher = _count(row, above[level, r])
                counts[level, r] += np.int64(higher)
                if over > higher:
                    some = True
                    _mark_between(inside, row, cut, above[level, r])
            if not some:
                continue
            for w in range(words.size):
                if not words[w]:
                    continue
                for c in range(8 * w, 8 * w + 8):
                    if inside[c]:
                        if n < i.size:
                            i[n], j[n], key[n] = r, o + c, row[c]
                        n += 1
                words[w] = 0
    return n


@njit(nogil=True, cache=True, fastmath=_any_order)
def _products(x: Any, y: Any, i: Any, j: Any, out: Any) -> None:
    for p in range(i.size):
        a, b = x[i[p]], y[j[p]]
        total = 0.0
        for c in range(a.size):
            total += np.float64(a[c]) * np.float64(b[c])
        out[p] = total


@njit(nogil=True, cache=True)
def _sums(x: Any, y: Any, i: Any, j: Any, high: Any, error: Any, size: Any) -> None:
    """Sum products by halves, as `similarity.exact_scores` does; nothing is reordered or fused."""
    dim, width = x.shape[1], 2
    while width < dim:
        width *= 2
    p, e, positive = np.zeros(width), np.zeros(width // 2), np.zeros(width // 2)
    for k in range(i.size):
        a, b = x[i[k]], y[j[k]]
        for c in range(dim):
            p[c] = np.float64(a[c]) * np.float64(b[c])
        e[:], positive[:] = 0.0, 0.0
        half = width // 2
        while half:
            _fold(p[:half], p[half : 2 * half], e[:half], positive[:half])
            half //= 2
        high[k], error[k], size[k] = p[0], _total(e), _total(positive)


@njit(nogil=True, cache=True)
def _fold(u: Any, v: Any, e: Any, positive: Any) -> None:
    """Add v to u; add each rounding error, exactly, to e and its size to `positive`."""
    for c in range(u.size):
        s = u[c] + v[c]
        t = s - u[c]
        dropped = (u[c] - (s - t)) + (v[c] - t)
        u[c] = s
        e[c] += dropped
        positive[c] += abs(dropped)


@njit(nogil=True, cache=True, fastmath=_any_order)
def _total(e: Any) -> float:
    total = 0.0
    for c in range(e.size):
        total += e[c]
    return total
