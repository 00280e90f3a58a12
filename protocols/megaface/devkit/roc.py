"""TPR@FAR as read off the devkit's own curve, at any size, without its whole matrix of scores.

The curve is `megaface_devkit`'s, of which a low FAR needs the highest impostor scores alone.  They
are found with a matrix product: a float32 sum of d products errs by at most 1.01 d u |x| |y| in any
order (u = 2^-24), so the devkit's own score, summed first dimension to last, lies within `_error`
of the product's; what may be among the highest is then scored as the devkit does.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.ahead import each_ahead
from evalkit.protocols.blas import can_be_one_thread, one_thread
from evalkit.protocols.megaface.devkit import ROC_PROBES, Points, Projected, pair_scores, roc_counts
from evalkit.protocols.metrics import Rates, false_accepts_allowed, rate_texts
from evalkit.types import Estimate, Ints

_ROUNDOFF = 2.0**-24
_BLOCK = 4096  # distractors at a time


def genuine_scores(probe: Projected, subject: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Score all pairs of probes of one subject, (G,), once for all lists of distractors."""
    i, j = np.nonzero(np.triu(np.equal.outer(subject, subject), 1))
    return pair_scores(probe, i, probe, j)


def read_off(
    probe: Projected,
    subject: NDArray[np.integer[Any]],
    distractor: Projected,
    fars: Rates,
    genuine: NDArray[np.float32] | None = None,
) -> tuple[dict[str, Estimate], Points]:
    """TPR at each FAR as published tables read it, and the curve's points ([FAR], [TPR]) to there.

    Impostors are those of the first 100 probes of the list, and a point follows after each step of
    1 %; read is the last point at or below x [InsightFace, issue 409].  There is no interval: the
    people of 100 probes are too few to draw from (FaceScrub's list: three).  Unlike
    evalkit's own rule, the devkit always has a point: its first, with no false accept.
    genuine : `genuine_scores`, where they are known.
    """
    first = probe[:ROC_PROBES]
    impostors = len(first) * len(distractor)
    allowed = {far: false_accepts_allowed(far, impostors) for far in rate_texts(fars)}
    count = min(max(allowed.values(), default=0) + 1, impostors)
    top = highest(first, distractor, count)
    genuine = genuine_scores(probe, subject) if genuine is None else genuine
    above = count - np.searchsorted(top, genuine, "right")  # exact below `count`
    at, tpr = roc_counts(above, impostors)
    people = len(np.unique(subject[:ROC_PROBES]))
    note = f"the devkit's curve: its first {len(first)} probes, of {people} people: no interval"
    estimates = {}
    for far, k in allowed.items():
        last = int(np.searchsorted(at, k, "right")) - 1
        false = int(at[last])
        estimates[far] = Estimate(
            value=float(tpr[last]),
            n=len(genuine),
            far=false / impostors,
            false_accepts=false,
            note=note,
        )
    known = at <= count - 1 if count < impostors else at <= impostors
    far_of = at[known].astype(np.float32) / np.float32(impostors)
    return estimates, (far_of.tolist(), tpr[known].tolist())


def highest(x: Projected, y: Projected, count: int) -> NDArray[np.float32]:
    """Give the `count` highest scores of all x with all y, ascending, as `scores` makes them."""
    i, j = np.empty(0, np.int64), np.empty(0, np.int64)
    low, high = np.empty(0, np.float32), np.empty(0, np.float32)
    bar = np.float32(-np.inf)  # rises while parts are made: what an older one lets in, goes below
    lost = _lost(x)

    def above(o: int) -> tuple[Ints, Ints, NDArray[np.float32], NDArray[np.float32]]:
        """Find what may reach the bar in a part of y: places, and the least and most it scores."""
        part = y[o : o + _BLOCK]
        with np.errstate(invalid="ignore", over="ignore"):
            s = 2 * (x.vector @ part.vector.T) + np.add.outer(x.constant, part.constant)
            error = _error(x, part)
            least, most = s - error, s + error
        unknown = np.isnan(least) | np.isnan(most)  # an overflow, or no template at all
        least[unknown], most[unknown] = -np.inf, np.inf
        most[lost], most[:, _lost(part)] = -np.inf, -np.inf
        p, q = np.nonzero((most >= bar) & (most > -np.inf))
        return p, q + o, least[p, q], most[p, q]

    with one_thread():  # in each part: parts are made side by side
        threads = (os.cpu_count() or 1) if can_be_one_thread() else 1
        for found in each_ahead(above, range(0, len(y), _BLOCK), threads):
            p, q, least, most = found
            i, j = np.append(i, p), np.append(j, q)
            low, high = np.append(low, least), np.append(high, most)
            if len(low) > count:
                bar = np.partition(low, len(low) - count)[len(low) - count]
                keep = high >= bar
                i, j, low, high = i[keep], j[keep], low[keep], high[keep]
    score = np.append(np.full(count, -np.inf, np.float32), pair_scores(x, i, y, j))
    return np.sort(score)[len(i) :]


def _lost(x: Projected) -> NDArray[np.bool_]:
    """Rows that score -inf with everybody."""
    lost: NDArray[np.bool_] = ~(np.isfinite(x.vector).all(axis=1) & np.isfinite(x.constant))
    return lost


def _error(x: Projected, y: Projected) -> NDArray[np.float32]:
    """Bound the distance of any two float32 ways to a score: (len(x), len(y))."""
    a, b = (np.sqrt(np.einsum("ij,ij->i", v.vector, v.vector, dtype=np.float64)) for v in (x, y))
    d = x.vector.shape[1]
    norms = np.multiply.outer(a, b)
    constants = np.add.outer(np.abs(x.constant), np.abs(y.constant))
    bound = _ROUNDOFF * (4.1 * (d + 1) * norms + 2.1 * constants) + 1e-35
    return np.asarray(1.001 * bound, np.float32)
