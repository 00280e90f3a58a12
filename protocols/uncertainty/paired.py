"""Paired tests of two models on the same comparisons: one standard error, by subject, a row.

Interval, p and detectable drop are of the same error and the same Student's t.  What both models
find hard cancels in it.  The same people are drawn for both, each draw finds its thresholds, and
the difference of the draws varies.  Rank-k is a mean of decisions, without a threshold: the
cluster-robust variance of those that changed (`influence`), the limit of ever more draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import bdtr, stdtr, stdtrit

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.vocabulary import resampling_of
from evalkit.protocols.uncertainty.influence import Influence, decisions, influence, of_impostors
from evalkit.protocols.uncertainty.intervals import DRAWS, independent
from evalkit.protocols.uncertainty.intervals import spread as deviation
from evalkit.protocols.uncertainty.power import Spread
from evalkit.protocols.uncertainty.resampling import paired_draws
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.types import Bools, Floats

ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The metric of `other` minus that of `base`, on the same comparisons.

    error, freedom : its standard error by subject, and the degrees of freedom of Student's t.
    people : who could differ; of n no p is below 2^(1-n), the chance that all fall on one side.
    test : "subject bootstrap", or "subject t test" of decisions; of a "comparison" where nobody
    knows who is in them.  alpha : the level of `low`, `high` and `detectable`.
    spread : how it would vary at another true difference.
    lost, gained : decisions right only in base, only in other; None where the metric has none.
    mcnemar : McNemar's exact p of them where nobody is in two comparisons of a kind, else None.
    """

    value: float
    error: float
    freedom: float
    people: int
    test: str
    spread: Spread
    alpha: float = ALPHA
    lost: int | None = None
    gained: int | None = None
    mcnemar: float | None = None

    @property
    def p(self) -> float:
        """Two-sided p-value of "no difference"; below alpha where `interval(alpha)` excludes 0."""
        if not self.value:
            return 1.0
        tail = float(stdtr(self.freedom, -abs(self.value) / self.error))
        return min(1.0, max(2 * tail, 2.0 ** (1 - self.people)))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Interval of level 1 - alpha, by the error and the t that give `p`.

        Where so few people can prove nothing at alpha it reaches to 0.
        """
        half = float(stdtrit(self.freedom, 1 - alpha / 2)) * self.error if self.error else 0.0
        if alpha <= 2.0 ** (1 - self.people):
            half = max(half, abs(self.value))
        return max(-1.0, self.value - half), min(1.0, self.value + half)

    @property
    def low(self) -> float:
        """Lower end of the interval of level 1 - alpha."""
        return self.interval(self.alpha)[0]

    @property
    def high(self) -> float:
        """Upper end of the interval of level 1 - alpha."""
        return self.interval(self.alpha)[1]

    @property
    def detectable(self) -> float:
        """The true drop that the test at alpha finds 4 times in 5."""
        return self.spread.detectable(self.alpha)


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests so that all together err at most alpha [Holm 1979].

    The k-th smallest of m is multiplied by m - k + 1, is no smaller than those before it, and at
    most 1; in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(values), 0.0
    for k, n in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - k) * values[n]))
        adjusted[n] = largest
    return adjusted


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided exact p-value that `lost` and `gained` are equally likely [McNemar 1947].

    p = min(1, 2 P(X <= min(lost, gained))), X binomial of lost + gained trials at 1/2; 1 if both
    are 0.  Comparisons on which the models agree do not enter.  It takes them as independent: two
    of one person are not.

    >>> mcnemar(6, 0), round(mcnemar(12, 2), 4)
    (0.03125, 0.0129)
    """
    if lost < 0 or gained < 0:
        raise ProtocolError(f"{lost} decisions lost and {gained} gained", "counts are not negative")
    n = lost + gained
    return min(1.0, 2 * float(bdtr(min(lost, gained), n, 0.5))) if n else 1.0


def decision_difference(base: Bools, other: Bools) -> tuple[int, int, float]:
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
    alpha: float = ALPHA,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Difference]:
    """Compare two models on each named metric that both samples support.

    values : metric -> other minus base.  The samples must be of the same comparisons.
    """
    if base.subjects != other.subjects:
        raise ProtocolError(f"{base.subjects} subjects cannot be paired with {other.subjects}")
    names = list(names)
    ranks = [n for n in names if resampling_of(n)[0] == "rank" and decisions(base, n) is not None]
    drawn = paired_draws(base, other, [n for n in names if n not in ranks], draws, seed)
    known = [n for n in names if n in drawn or (n in ranks and decisions(other, n) is not None)]
    return {n: _difference(base, other, n, values[n], drawn.get(n), alpha) for n in known}


def _difference(
    base: ComparisonSample,
    other: ComparisonSample,
    name: str,
    value: float,
    drawn: Floats | None,
    alpha: float,
) -> Difference:
    before, after = influence(base, name), influence(other, name)
    change = after.minus(before) if before is not None and after is not None else None
    people = independent(base, name) or base.subjects if change is None else change.people
    kept = decisions(base, name) is not None
    impostors = None if drawn is None or kept else of_impostors(base, other, name)
    error, freedom = _error(change, impostors, drawn, people, kept=kept)
    lost, gained, exact = _flipped(base, other, name)
    difference = _made(before, change, value, (error, freedom), people, base.unit, alpha)
    return replace(
        difference,
        test=f"{base.unit} t test" if drawn is None else f"{base.unit} bootstrap",
        lost=lost,
        gained=gained,
        mcnemar=exact if change is not None and _once(change, base) else None,
    )


def of_decisions(
    before: Influence, after: Influence, value: float, unit: str, alpha: float = ALPHA
) -> Difference:
    """Compare two models whose metric is a mean of the same decisions, or 1 minus that.

    before, after : right decisions of base and other.  value : the metric of other minus base's.
    """
    change = after.minus(before)
    moments = _error(change, None, None, change.people, kept=True)
    difference = _made(before, change, value, moments, change.people, unit, alpha)
    lost, gained = (int(np.count_nonzero(of)) for of in (change.added < 0, change.added > 0))
    return replace(difference, lost=lost, gained=gained)


def _made(
    before: Influence | None,
    change: Influence | None,
    value: float,
    moments: tuple[float, float],
    people: int,
    unit: str,
    alpha: float,
) -> Difference:
    error, freedom = moments
    if value:  # where all change alike, nothing varies: room for one who would not
        error = max(error, abs(value) / max(people if change is None else change.nonzero, 1))
    return Difference(
        value=value,
        error=error,
        freedom=freedom,
        people=people,
        test=f"{unit} t test",
        spread=_spread(before, change, value, error, freedom, people),
        alpha=alpha,
    )


def _error(
    change: Influence | None,
    impostors: Influence | None,
    drawn: Floats | None,
    people: int,
    *,
    kept: bool,
) -> tuple[float, float]:
    """Find the standard error of a difference and its degrees of freedom.

    Of drawn ones, genuine side and impostors have freedoms of their own.  The same people make
    both, so that their errors add, not their squares: f^(-1/2) is the mean of theirs, weighted by
    their variances.
    kept : whether it is a mean of decisions.  Of accuracy the variance is the larger one of the
    draws, which choose the thresholds of its folds once more, and of the decisions as they are.
    """
    most = max(people - 1.0, 1.0)
    if drawn is None and change is not None:
        return math.sqrt(change.variance), min(change.freedom, most)
    error = deviation(drawn[np.isfinite(drawn)]) if drawn is not None else 0.0
    error *= _short_by(people)
    if change is not None and kept:
        return max(math.sqrt(change.variance), error), min(change.freedom, most)
    if change is None or not error:
        return error, most
    part = min(change.variance / error**2, 1.0)
    other = most if impostors is None else min(impostors.freedom, most)
    added = part / math.sqrt(change.freedom) + (1 - part) / math.sqrt(other)
    return error, min(most, added**-2)


def _short_by(people: int) -> float:
    """How many times the standard deviation of draws a standard error is.

    Exponential weights fall short by sqrt((n - 1) / (n + 1)); what two people share, of n, by
    (n - 2) / (n - 1) more [Arvesen 1969, of the jackknife of means over pairs].
    """
    few = max(people - 1, 1)
    return math.sqrt((people + 1) * few) / max(people - 2, 1)


def _spread(
    before: Influence | None,
    change: Influence | None,
    value: float,
    error: float,
    freedom: float,
    people: int,
) -> Spread:
    """Find how the difference would vary at another: without what the one just seen adds.

    Of that one the part beyond its own error counts, (1 - error^2 / value^2).  Where nothing
    changed, changes are taken to come as the base's errors do; where it has none, person by person.
    """
    changed = change.changed if change is not None else 0.0
    wrong = max(0.0, 1 - before.mean) if before is not None else 0.0
    per_error = before.variance / wrong if before is not None and wrong else 0.0
    per_error = per_error or 1 / people
    per_change = change.variance / changed if change is not None and changed else per_error
    spread = Spread(
        equal=error**2,
        freedom=freedom,
        per_change=per_change,
        per_error=max(0.0, per_error - per_change),
        error=wrong,
        thresholds=max(0.0, 1 - change.variance / error**2)
        if change is not None and error
        else 0.0,
    )
    seen = max(0.0, abs(value) - error**2 / abs(value)) if value else 0.0
    equal = max(error**2 - spread.added(seen), 0.0) / spread.growth(seen)
    return replace(spread, equal=equal)


def _flipped(
    base: ComparisonSample, other: ComparisonSample, name: str
) -> tuple[int | None, int | None, float | None]:
    a, b = decisions(base, name), decisions(other, name)
    return (None, None, None) if a is None or b is None else decision_difference(a, b)


def _once(change: Influence, sample: ComparisonSample) -> bool:
    """Whether every person is known, and in one comparison of each kind at most."""
    if sample.unit != "subject":
        return False
    own = change.left == change.right
    apart = np.concatenate([change.left[~own], change.right[~own]])
    return all(len(np.unique(who)) == len(who) for who in (change.left[own], apart))
