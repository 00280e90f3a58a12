"""Bounds of the FAR of a fixed threshold, where false accepts share people.

One person whom everybody is taken for (a "wolf") brings many false accepts at once, so these are
no independent events.  Let k be the false accepts of N impostor comparisons, v the variance of k
when comparisons depend on each other if and only if they share a person, sum S_i^2 - sum E_b^2 with
the excesses of `bootstrap.shrinkage` [Fafchamps and Gubert 2007], and w the most that one person
has.  As a sum of Poisson counts of unequal weights, the mean of k has the upper bound

    (v'/y') G(c; y'^2 / v'),   y' = k + w,  v' = v + w^2,

G the quantile of the gamma distribution [Fay and Feuer, Statistics in Medicine 16, 1997]: one more
person as bad as the worst is always reckoned with.  Where no two false accepts share a person it is
the exact Poisson bound [Garwood 1936], and of none among N comparisons 3.0 / N, the rule of three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from evalkit.protocols.metrics.elementary import inner
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.types import Floats, Ints

FEWEST = 20  # false accepts that say how people share them; `benchmarks/deployed_threshold.py`


@dataclass(frozen=True, slots=True)
class Sharing:
    """How false accepts are shared among people.

    per_accept : variance of their number over the number, 1 where they are independent.
    largest : the most that one person has part in, at least 1.
    """

    per_accept: float = 1.0
    largest: int = 1


def sharing(sample: ComparisonSample, accepted: int) -> Sharing:
    """Measure how the `accepted` highest impostors share people, on FEWEST of them at least.

    A lower threshold shows more of it: what people have in common weighs less in the far tail, but
    for those who are unlike the others.
    """
    count = min(max(accepted, FEWEST), len(sample.impostor))
    if sample.unit != "subject" or not count:
        return Sharing()
    left, right = sample.left[:count], sample.right[:count]
    accepts = _by_subject(sample.subjects, left, right)
    excess = accepts - count / sample.impostors * _comparisons(sample)
    low, high = np.minimum(left, right), np.maximum(left, right)
    _, together = np.unique(low.astype(np.int64) * sample.subjects + high, return_counts=True)
    variance = inner(excess, excess) - float(together @ together)
    return Sharing(max(1.0, variance / count), int(accepts.max()))


def upper_mean(count: int, shared: Sharing, confidence: float) -> float:
    """Upper bound of the mean number of false accepts, of which `count` were seen: one-sided.

    Never below that of none seen, as the gamma of a few accepts beside one large person can be.
    """
    worst = max(shared.largest, shared.per_accept)
    mean, variance = count + worst, count * shared.per_accept + worst**2
    of_count = variance / mean * float(gammaincinv(mean**2 / variance, confidence))
    return max(of_count, worst * float(gammaincinv(1, confidence)))


def _by_subject(subjects: int, left: Ints, right: Ints) -> Floats:
    both = np.bincount(left, minlength=subjects) + np.bincount(right, minlength=subjects)
    return both.astype(np.float64)


def _comparisons(sample: ComparisonSample) -> Floats:
    """Impostor comparisons of each person, (S,), stored or not."""
    a, b = sample.left_images, sample.right_images
    if a is None or b is None:
        return _by_subject(sample.subjects, sample.left, sample.right)
    met: Floats = a * (b.sum() - b) + b * (a.sum() - a)
    return met * (2 * sample.impostors / (float(met.sum()) or 1.0))
