"""Paired tests of two models on the same comparisons.

Accuracy and rank-1 count right decisions: McNemar's exact test on the comparisons where the two
models disagree.  TPR@FAR, EER and AUC: the same subjects are drawn for both, and the difference of
the two draws is what varies; what both find hard cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr, ndtri, pdtr

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.vocabulary import resampling_of
from evalkit.protocols.uncertainty.intervals import (
    DRAWS,
    LEVEL,
    clopper_pearson,
    independent,
    spread,
)
from evalkit.protocols.uncertainty.resampling import paired_draws
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.types import Bools, Floats

POWER = 0.8  # of the smallest difference a test is said to notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The metric of `other` minus that of `base`, on the same comparisons.

    low, high : its 95 % interval by subject.  p : two-sided, of "no difference", by `test`; of n
    people never below 2^(1-n), the chance that all fall on one side.  Where no draw differs, or
    that chance is above 5 %, the ends leave room for those people that Clopper-Pearson's of n
    leaves unseen.
    noticeable : the smallest true difference that the test would notice 4 times in 5 at `alpha`.
    lost, gained : decisions right only in base, only in other (McNemar), else None.
    """

    value: float
    low: float
    high: float
    p: float
    test: Literal["McNemar", "subject bootstrap", "comparison bootstrap"]
    noticeable: float
    lost: int | None = None
    gained: int | None = None


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided exact p-value that `lost` and `gained` are equally likely [McNemar 1947].

    p = min(1, 2 P(X <= min(lost, gained))), X binomial of lost + gained trials at 1/2; 1 if both
    are 0.  Comparisons on which the models agree do not enter.

    >>> mcnemar(6, 0), round(mcnemar(12, 2), 4)
    (0.03125, 0.0129)
    """
    if lost < 0 or gained < 0:
        raise ProtocolError(f"{lost} decisions lost and {gained} gained", "counts are not negative")
    n = lost + gained
    return min(1.0, 2 * float(bdtr(min(lost, gained), n, 0.5))) if n else 1.0


def mcnemar_noticeable(disagreements: int, alpha: float = 0.05, power: float = POWER) -> int:
    """Fewest decisions lost, net, that McNemar's test notices with `power`.

    Lost ~ Poisson(d/2 + k), gained ~ Poisson(d/2), where d are the `disagreements` that the two
    models show anyway; the smallest k with P(p <= alpha) >= power.

    >>> mcnemar_noticeable(0), mcnemar_noticeable(40)
    (8, 23)
    """
    k = 1
    while _mcnemar_power(disagreements / 2, k, alpha) < power:
        k += 1 if k < 100 else k // 50
    return k


def _mcnemar_power(background: float, k: int, alpha: float) -> float:
    mean = 2 * background + k
    reach = int(mean + 6 * math.sqrt(mean) + 10)
    total = np.arange(reach)
    chance = np.diff(pdtr(total, mean), prepend=0.0)
    # At n disagreements the test rejects when those gained are at most `few`.
    few = _critical(total, alpha)
    rejects = np.where(few >= 0, bdtr(np.maximum(few, 0), total, background / mean), 0.0)
    return float(chance @ rejects)


def _critical(n: NDArray[np.int64], alpha: float) -> NDArray[Any]:
    """Largest x with 2 P(X <= x) <= alpha, X binomial(n, 1/2); -1 where there is none."""
    x: NDArray[Any] = np.floor(n / 2 - ndtri(1 - alpha / 2) * np.sqrt(n) / 2).astype(np.int64) + 2
    x = np.minimum(x, n // 2)
    for _ in range(6):
        x = np.where((x >= 0) & (2 * bdtr(np.maximum(x, 0), n, 0.5) > alpha), x - 1, x)
    return x


def decision_difference(base: Bools, other: Bools, alpha: float = 0.05) -> tuple[int, int, float]:
    """Count the decisions that only one model has right: lost, gained, McNemar's p."""
    if base.shape != other.shape:
        raise ProtocolError(f"{base.size} decisions cannot be paired with {other.size}")
    lost, gained = int((base & ~other).sum()), int((other & ~base).sum())
    return lost, gained, mcnemar(lost, gained)


def differences(
    base: ComparisonSample,
    other: ComparisonSample,
    names: Iterable[str],
    values: dict[str, float],
    *,
    alpha: float = 0.05,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Difference]:
    """Compare two models on each named metric that both samples support.

    values : metric -> other minus base.  The samples must be of the same comparisons.
    """
    if base.subjects != other.subjects:
        raise ProtocolError(f"{base.subjects} subjects cannot be paired with {other.subjects}")
    drawn = paired_draws(base, other, list(names), draws, seed)
    return {
        name: _difference(base, other, name, values[name], drew, alpha)
        for name, drew in drawn.items()
    }


def _difference(
    base: ComparisonSample,
    other: ComparisonSample,
    name: str,
    value: float,
    drawn: Floats,
    alpha: float,
) -> Difference:
    drawn = drawn[np.isfinite(drawn)]
    error = spread(drawn)
    half = float(ndtri((1 + LEVEL) / 2)) * error
    decided = _decisions(base, name), _decisions(other, name)
    if decided[0] is not None and decided[1] is not None:
        lost, gained, p = decision_difference(decided[0], decided[1])
        return Difference(
            value=value,
            low=value - half,
            high=value + half,
            p=p,
            test="McNemar",
            noticeable=mcnemar_noticeable(lost + gained, alpha) / len(decided[0]),
            lost=lost,
            gained=gained,
        )
    p = 2 * float(ndtr(-abs(value) / error)) if error else float(value == 0)
    people = independent(base, name) or base.subjects
    surest = min(1.0, 2.0 ** (1 - people))
    if value and (not error or surest > 1 - LEVEL):
        half = max(half, 1 - clopper_pearson(people, people)[0])
    factor = float(ndtri(1 - alpha / 2) + ndtri(POWER))
    # Single errors cannot be noticed below this number, even if nothing else varies.
    least = factor**2 / max(1, len(base.genuine) or base.subjects)
    noticeable, of_tail = factor * error, resampling_of(name)[0] == "tpr"
    return Difference(
        value=value,
        low=max(-1.0, value - half),
        high=min(1.0, value + half),
        p=max(p, surest),
        test="subject bootstrap" if base.unit == "subject" else "comparison bootstrap",
        noticeable=max(noticeable, least) if of_tail else noticeable or least,
    )


def _decisions(sample: ComparisonSample, name: str) -> Bools | None:
    """Right or wrong of each comparison behind `name`, in an order shared by every model."""
    kind, k = resampling_of(name)
    if kind == "accuracy":
        return sample.decided
    if kind == "rank" and sample.rank is not None:
        return (sample.rank >= 1) & (sample.rank <= int(k)) if k.isdigit() else None
    return None
