"""The EDC in draws of subjects: its intervals, and the paired test of two qualities.

A draw weighs people, so that it discards other images, chooses another threshold and misses other
pairs; of the person unseen as large a share of pairs is discarded as of all people, and of the
others all fail or none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from evalkit.protocols.metrics.elementary import inner
from evalkit.protocols.metrics.operating_point import false_accepts_allowed
from evalkit.protocols.quality.discarding import Discarding, left_at, widths
from evalkit.protocols.uncertainty.bootstrap import impostor_weight, shrinkage, unseen_genuine
from evalkit.protocols.uncertainty.intervals import LEVEL, spread
from evalkit.protocols.uncertainty.paired import holm
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.protocols.uncertainty.weights import subject_draws
from evalkit.types import Bools, Estimate, Floats

EdcPoint = tuple[str, str]  # "before", "anew" or "area", and the share discarded


def edc_draws(
    sample: ComparisonSample,
    discarding: Discarding,
    far: str,
    points: Sequence[EdcPoint],
    draws: int,
    seed: int,
) -> dict[EdcPoint, Floats]:
    """Draw subjects; return each point: (draws, 3).

    In turn the person unseen fails in everything, succeeds in everything, and is not there.
    The same people are drawn for every quality, so that two can be compared draw by draw.
    """
    everything = np.ones(len(sample.impostor), bool)
    c = {
        point: _shrinkage(sample, discarding.impostor >= discarding.level(point[1]), far)
        for point in points
        if point[0] == "anew"
    }
    plain, x = _shrinkage(sample, everything, far), float(Fraction(far))
    shares = np.array([float(Fraction(share)) for _, share in points])
    size = unseen_genuine(sample)
    ends = np.empty((draws, len(points), 3))
    for d, (weight, unseen) in enumerate(subject_draws(sample, draws, seed)):
        own = weight[sample.genuine_subject]
        product = weight[sample.left] * weight[sample.right]
        below, total = discarding.below(weight), int(weight[discarding.item_subject].sum())
        border = _border(sample.impostor, impostor_weight(plain, 1, product), everything, x)
        missed, left = left_at(discarding, sample.genuine <= border, own)
        more = size * unseen / own.sum()  # of each pair that is left
        levels = np.searchsorted(below, shares * total * (1 + 1e-12), "right") - 1
        for n, (point, k) in enumerate(zip(points, levels.tolist(), strict=True)):
            misses, pairs, width = missed[k], left[k], None
            if point[0] == "area":
                misses, pairs = missed[: k + 1], left[: k + 1]
                width = widths(below[: k + 1], total, shares[n])
            elif point[0] == "anew":
                weights, kept = impostor_weight(c[point], 1, product), discarding.impostor >= k
                at = _border(sample.impostor, weights, kept, x)
                misses = own[(discarding.genuine >= k) & (sample.genuine <= at)].sum()
            ends[d, n] = _ends(misses, pairs, more, width)
    return {point: ends[:, n] for n, point in enumerate(points)}


def _ends(misses: Any, pairs: Any, more: float, width: Floats | None) -> tuple[float, ...]:
    """FNMR, or its mean over steps of these widths, with the person unseen and without.

    more : the weight of that person's pairs, of each that is left.
    """
    if not np.all(pairs):
        return (float("nan"),) * 3
    unseen = more * pairs
    counts = (misses + unseen, pairs + unseen), (misses, pairs + unseen), (misses, pairs)
    if width is None:
        return tuple(float(m / n) for m, n in counts)
    return tuple(inner(width, m / n) / float(width.sum()) for m, n in counts)


def _border(impostor: Floats, weight: Floats, kept: Bools, far: float) -> float:
    """Score of the highest impostor that is rejected where FAR is at most x; -inf for none.

    impostor : (I,) descending.  weight : (I,) in a draw; kept : (I,) those that count.
    """
    accepted = (np.maximum(weight, 0) * kept).cumsum()
    if not len(accepted):
        return -np.inf
    k = int(accepted.searchsorted(far * accepted[-1] * (1 + 1e-12), "right"))
    return float(impostor[k]) if k < len(impostor) else -np.inf


def _shrinkage(sample: ComparisonSample, kept: Bools, far: str) -> float:
    """Shrinkage of the weights of the impostor pairs that choose a threshold."""
    left, right, n = sample.left[kept], sample.right[kept], int(np.count_nonzero(kept))
    if not n:
        return 1.0
    accepted: Floats = np.where(np.arange(n) < false_accepts_allowed(far, n), 1.0, 0.0)
    some = replace(sample, impostor=sample.impostor[kept], left=left, right=right, impostors=n)
    return shrinkage(some, accepted - accepted.mean())


def difference(
    base: Estimate, other: Estimate, drawn: Floats, people: int, seed: int = 0
) -> tuple[Estimate, float]:
    """Compare one number of two qualities: `other` minus `base`, its interval, and p.

    drawn : (draws,) differences in the same draws.  Interval and p are of one error and one t of
    people - 1 degrees of freedom, so that p is below 0.05 where the interval excludes 0.
    """
    if base.value is None or other.value is None:
        note = base.note if base.value is None else other.note
        return Estimate(value=None, n=other.n, note=note), float("nan")
    value = other.value - base.value
    error = spread(drawn[np.isfinite(drawn)]) * math.sqrt((people + 1) / max(people - 1, 1))
    error = max(error, abs(value) / people)  # room for one person who would not differ
    freedom = max(people - 1.0, 1.0)
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(value) / error)) if error else 1.0
    p = min(1.0, max(p, 2.0 ** (1 - people)))
    half = max(half, abs(value)) if p >= 1 - LEVEL else half
    m = Estimate(
        value=value,
        low=max(-1.0, value - half),
        high=min(1.0, value + half),
        n=other.n,
        people=people,
        interval=f"{LEVEL:.0%} by subject, {len(drawn):,} draws, seed {seed}, t of {freedom:g}",
    )
    return m, p


def adjusted(values: Mapping[str, float]) -> dict[str, Estimate]:
    """Estimates of p-values, adjusted together [Holm 1979]; the one alone stands in the note."""
    known = {name: p for name, p in values.items() if not math.isnan(p)}
    estimates = {}
    for (name, p), by_holm in zip(known.items(), holm(list(known.values())), strict=True):
        note = f"one of {len(known)} tests, alone p = {p:.2g}" if len(known) > 1 else ""
        estimates[name] = Estimate(value=by_holm, note=note)
    return estimates
