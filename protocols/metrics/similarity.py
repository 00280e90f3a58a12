"""Similarity scores: rows made unit length, the exact inner product rounded once.

Every rule here gives the same bits on every machine: sums have a fixed order or no order at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import vectors

_UNIT_ROUNDOFF = 2.0**-53
_BLOCK = 1 << 17  # products that are summed together
_SQUARED = 1 << 17  # values that are squared together, in the processor's cache


def single(x: NDArray[Any]) -> NDArray[np.float32]:
    """Round (N, D) rows to float32: one of doubles beyond its range, or all below it, is no vector.

    The first have infinities, the others become NaN.
    """
    with np.errstate(over="ignore", under="ignore"):
        rounded = widened(x) if x.dtype == np.float16 else np.ascontiguousarray(x, np.float32)
    if x.dtype.itemsize > rounded.dtype.itemsize:
        lost = ~rounded.any(axis=1) & x.any(axis=1)
        rounded[lost] = np.nan
    return rounded


def normalise(x: NDArray[Any], chunk: int = 1024) -> NDArray[np.float32]:
    """Rows of unit L2 length: (N, D) float -> (N, D) float32.

    Squares are exact in float64, their sum has a fixed order, the quotient is rounded once to
    float32.  A zero row stays zero.  A row with a NaN or an infinity has no template and becomes
    all NaN (see `failed`).
    """
    x = vectors(x, dimensions=(2,))
    out = np.empty(x.shape, np.float32)
    for o in range(0, len(x), chunk):
        rows = single(x[o : o + chunk])
        out[o : o + chunk] = over(rows, divisors(rows))
    return out


def divisors(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Lengths that `normalise` divides by, (N,): 1 of a zero row, NaN of one without a template."""
    together = max(1, _SQUARED // max(1, rows.shape[1]))
    square, room = np.empty(len(rows)), np.empty((min(len(rows), together), rows.shape[1]))
    with np.errstate(invalid="ignore", over="ignore"):
        for o in range(0, len(rows), together):
            some = rows[o : o + together]
            wide = room[: len(some)]
            wide[:] = some
            square[o : o + together] = _halving_sum(np.multiply(wide, wide, out=wide))
        norm = np.sqrt(square, out=square)
    norm[norm == 0] = 1.0
    norm[~np.isfinite(norm)] = np.nan
    return norm


def _halving_sum(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum squares over the last axis by repeated halving, in place.

    Elementwise adds, so one order everywhere: as if zeros followed up to a power of two.
    """
    n = p.shape[1]
    while n > 1:
        half = 1 << (n - 1).bit_length() - 1
        p[:, : n - half] += p[:, half:n]
        n = half
    return p[:, 0] if n else np.zeros(len(p))


def over(rows: NDArray[np.float32], norm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Divide rows, (N, D), by their `divisors`: each quotient rounded once to float32."""
    out = np.empty_like(rows)
    with np.errstate(invalid="ignore"):
        return np.divide(rows, norm[:, None], out=out, casting="same_kind")


def failed(x: NDArray[Any]) -> NDArray[np.bool_]:
    """Rows without a template: any value that is not finite as float32.  (N, D) -> (N,) bool."""
    bad = np.empty(len(x), np.bool_)
    for o in range(0, len(x), 4096):
        bad[o : o + 4096] = ~np.isfinite(single(x[o : o + 4096])).all(axis=1)
    return bad


def exact_scores(
    x: NDArray[np.float32],
    i: NDArray[np.integer[Any]],
    y: NDArray[np.float32],
    j: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """Score pairs (x[i], y[j]): the exact real inner product rounded once to float64.

    x : (N, D), y : (M, D) float32; i, j : (P,) rows.  Returns (P,) float64.
    A pair with a failed row scores -inf: it can neither be accepted nor raise FAR.

    The product of two float32 is exact in float64.  It is parted so that the high parts have an
    exact sum, and that of the low ones errs by at most d^2 u^2 of a bound of all such sums.  Where
    this could move the final rounding, and low parts have bits that their sum may not hold,
    `math.fsum` decides.
    """
    out = np.empty(len(i), np.float64)
    for part in _blocks(len(i), x.shape[1]):
        out[part] = _exact_block(x.take(i[part], axis=0), y.take(j[part], axis=0))
    return out


def minus_squared_distances(
    x: NDArray[np.float32],
    i: NDArray[np.integer[Any]],
    y: NDArray[np.float32],
    j: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """Score pairs by -|x[i] - y[j]|^2: the exact real value rounded once to float64.

    Same arguments and failures as `exact_scores`.  With a = x[i] and b = y[j] it is the inner
    product of (2a, -a, b) and (b, a, -b).
    """
    out = np.empty(len(i), np.float64)
    for part in _blocks(len(i), 3 * x.shape[1]):
        a, b = x[i[part]], y[j[part]]
        out[part] = _exact_block(np.hstack([2 * a, -a, b]), np.hstack([b, a, -b]))
    return out


def _blocks(pairs: int, width: int) -> Iterator[slice]:
    """Part pairs of `width` products each into blocks."""
    step = max(1, _BLOCK // max(1, width))
    return (slice(o, o + step) for o in range(0, pairs, step))


def _exact_block(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    d = a.shape[1]
    largest = _largest(a) * _largest(b)
    bad = ~np.isfinite(largest)
    largest[bad] = 0.0
    products = a.astype(np.float64) * b
    products[bad] = 0.0
    power = np.ldexp(np.sign(largest), np.frexp(largest)[1] + d.bit_length())
    high, low = _parted(products, power)
    size = d * _UNIT_ROUNDOFF * power
    score, unsure = rounded_once(np.einsum("ij->i", high), np.einsum("ij->i", low), size, d)
    rows = np.flatnonzero(unsure)
    _, rest = _parted(low[rows], np.ldexp(_UNIT_ROUNDOFF * power[rows], d.bit_length()))
    for k in rows[rest.any(axis=1)]:  # of the others the low parts have an exact sum too
        score[k] = math.fsum([*high[k].tolist(), *low[k].tolist()])
    score[bad] = -np.inf
    return score


def _parted(
    x: NDArray[np.float64], power: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Part numbers (P, D) exactly in high and, in place, low [ExtractVector].

    power : (P,) of two, at least D times each number of the row.  The high parts are multiples of
    2^-53 of it, so that their sums are exact in any order; no low part exceeds that.
    Source: Rump, Ogita, Oishi 2008.
    """
    high = x + power[:, None]
    high -= power[:, None]
    x -= high
    return high, x


def _largest(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Largest magnitude in each row, not finite where a value is not: (N,)."""
    largest: NDArray[np.float32] = np.abs(x).max(axis=1, initial=0)
    return largest.astype(np.float64)


def rounded_once(
    high: NDArray[np.float64], error: NDArray[np.float64], size: NDArray[np.float64], terms: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Round sums of so many terms, and tell where the rounding may be wrong.  (P,) each.

    The true sum is high + sum(e_k); `error` is a float64 sum of the e_k in any order, `size` one of
    the |e_k|.
    """
    score = high + error
    part = score - high
    rest = (high - (score - part)) + (error - part)  # exact: what the last rounding dropped
    slack = 4 * terms * _UNIT_ROUNDOFF * size
    ulp = np.spacing(np.abs(score))
    # Below a power of two the neighbours are half as far apart, so both halves are boundaries.
    unsure = (slack > 0) & (
        (np.abs(np.abs(rest) - ulp / 2) <= slack) | (np.abs(np.abs(rest) - ulp / 4) <= slack)
    )
    return score, unsure


def widened(x: NDArray[Any]) -> NDArray[np.float32]:
    """Widen float16 of any shape to float32, contiguous, without any rounding.

    NumPy's own values, looked up in a fraction of its time: its conversion goes value by value, and
    slowly where one is below 6e-5, as many of a unit vector are.
    """
    bits = np.ascontiguousarray(x, np.float16).view(np.uint16)
    return np.take(_all_values(), bits)


@cache
def _all_values() -> NDArray[np.float32]:
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
