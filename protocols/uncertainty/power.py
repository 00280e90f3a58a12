"""The smallest true drop that a paired test finds with power 0.8."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the difference of two models varies at a true drop.

    equal, freedom : its variance where the models are equally good, and the degrees of freedom.
    per_change : variance that each unit of drop adds because changes come in people: of the changes
    seen, over their share.  error : of the base; per_error : variance of that error beyond what
    single changes make, over the error.  People who err more lose more: a drop d adds d per_error
    as far as it makes the errors of both models, d / (2 error + d).
    thresholds : share of `equal` that impostors make by moving thresholds.  It grows with the
    density of genuine scores there, which is taken to be a normal one's at that rate of errors.
    """

    equal: float
    freedom: float
    per_change: float
    per_error: float
    error: float
    thresholds: float = 0.0

    def added(self, drop: float) -> float:
        """Variance that a true drop adds, by those who lose."""
        share = drop / (2 * self.error + drop) if drop else 0.0
        return drop * (self.per_change + share * self.per_error)

    def growth(self, drop: float) -> float:
        """How many times its variance at equal models the rest of it is, at a true drop."""
        if not self.thresholds or not 0 < self.error < 1:
            return 1.0
        z = ndtri([self.error, min(0.5, self.error + drop) if self.error < 0.5 else self.error])
        ratio = min(10.0, math.exp(float(z[0] ** 2 - z[1] ** 2)))  # of squared densities
        return 1 + self.thresholds * (ratio - 1) / 2

    def at(self, drop: float) -> float:
        """Give the standard deviation of the difference at a true drop."""
        return math.sqrt(self.equal * self.growth(drop) + self.added(drop))

    def quantile(self, chance: float, drop: float) -> float:
        """Quantile of Student's t with the degrees of freedom at a true drop.

        [Satterthwaite 1946]; the variance v that a drop d adds is of d^2 / v people.
        """
        v, equal = self.added(drop), self.equal * self.growth(drop)
        parts = equal**2 / self.freedom + (v**3 / drop**2 if drop else 0.0)
        freedom = (equal + v) ** 2 / parts if parts else self.freedom
        return float(stdtrit(max(freedom, 1.0), chance))

    def detectable(self, alpha: float, power: float = POWER) -> float:
        """Smallest true drop that a two-sided t test at alpha finds with `power`, at most 1.

        The test finds what is seen at d_c = t(1 - alpha/2) sd(d_c) or beyond, and sees that with
        `power` at the true drop d = d_c + t(power) sd(d).

        >>> equal = Spread(equal=1e-4, freedom=1e6, per_change=0, per_error=0, error=0.1)
        >>> round(equal.detectable(0.05), 4)  # (1.96 + 0.84) standard errors of 0.01
        0.028
        """
        critical = _root(lambda d: d - self.quantile(1 - alpha / 2, d) * self.at(d))
        return _root(lambda d: d - critical - self.quantile(power, d) * self.at(d))

    def margin(self, alpha: float, power: float = POWER) -> float:
        """Drop that an interval of level 1 - alpha of equal models excludes with `power`."""
        t = self.quantile(1 - alpha / 2, 0.0) + self.quantile(power, 0.0)
        return t * math.sqrt(self.equal)


def _root(rising: Callable[[float], float]) -> float:
    """Find where a function crosses 0 between 0 and 1; 1 where it does not reach it."""
    from scipy.optimize import brentq  # takes longer to import than numpy

    least = 1e-12
    return float(brentq(rising, least, 1.0)) if rising(1.0) > 0 > rising(least) else 1.0
