"""Indices of how unequal groups are, under the names that the literature gives them.

Each takes the rates of two groups or more at one threshold, FMR within each group and FNMR of each:
(G,) float64.  Rates that differ by chance alone make every index unequal, the more the fewer people
there are: `equality` says whether they differ by more.  The ratios are ascribed to ISO/IEC
19795-10:2024 by the literature; its text was not at hand.
"""

from __future__ import annotations

import numpy as np
from scipy.special import fdtrc

from evalkit.protocols.metrics.elementary import log, rounded
from evalkit.types import Floats


def fdr(fmr: Floats, fnmr: Floats, alpha: float = 0.5) -> float:
    """Fairness discrepancy rate, 1 where all groups are alike.

    1 - (alpha max |FMR_i - FMR_j| + (1 - alpha) max |FNMR_i - FNMR_j|).
    Source: de Freitas Pereira and Marcel, IEEE T-BIOM 4(1), 2022, eq. 3-5.

    >>> fdr(np.array([0.1, 0.3]), np.array([0.2, 0.2]))
    0.9
    """
    return 1 - (alpha * float(np.ptp(fmr)) + (1 - alpha) * float(np.ptp(fnmr)))


def ineq(fmr: Floats, fnmr: Floats, alpha: float = 0.5) -> float:
    """Inequity, 1 where all groups are alike: (max/min FMR)^alpha (max/min FNMR)^(1 - alpha).

    Infinite where a rate is 0.  Source: Grother, NIST IR 8429, 2022 (draft), section 5.

    >>> ineq(np.array([0.1, 0.4]), np.array([0.2, 0.2]))
    2.0
    """
    return float(worst_over_best(fmr) ** alpha * worst_over_best(fnmr) ** (1 - alpha))


def gini(rates: Floats) -> float:
    """Gini coefficient of G rates, 0 where they are equal and 1 where one group has it all.

    G / (G - 1) sum_ij |x_i - x_j| / (2 G^2 mean x); of rates that are all 0 it is 0.
    Source: Howard, Laird, Sirotin, Rubin, Tipton, Vemury, ICPR workshops 2022, eq. 6.

    >>> gini(np.array([0.0, 0.2])), gini(np.array([0.1, 0.1, 0.1]))
    (1.0, 0.0)
    """
    n, mean = len(rates), float(rates.mean())
    if not mean:
        return 0.0
    gaps = float(np.abs(rates[:, None] - rates[None, :]).sum())
    return n / (n - 1) * gaps / (2 * n**2 * mean)


def garbe(fmr: Floats, fnmr: Floats, alpha: float = 0.5) -> float:
    """Gini aggregation rate for biometric equitability: alpha Gini(FMR) + (1 - alpha) Gini(FNMR).

    Source: Howard et al. as in `gini`, eq. 7.
    """
    return alpha * gini(fmr) + (1 - alpha) * gini(fnmr)


def worst_over_best(rates: Floats) -> float:
    """Highest rate over the lowest; infinite where that is 0 [ISO/IEC 19795-10:2024].

    >>> worst_over_best(np.array([0.1, 0.4]))
    4.0
    """
    low = float(rates.min())
    return float(rates.max()) / low if low else float("inf")


def over_geometric_mean(rates: Floats) -> Floats:
    """Each of G rates, all above 0, over their geometric mean: (G,) [ISO/IEC 19795-10:2024].

    >>> over_geometric_mean(np.array([0.1, 0.4])).tolist()
    [0.5, 2.0]
    """
    ratios: Floats = np.exp(log(rates) - log(rates).mean(axis=0))
    return np.round(ratios, 12)


def equality(drawn: Floats, rates: Floats, people: int) -> float:
    """P-value of the hypothesis that G rates, all above 0, are one.

    drawn : (G, draws) the rates as subjects are drawn, the same in all groups.  people : in the
    smallest group.  Wald's test of the G - 1 differences of log rates from the first, with the
    covariance of the draws: T / (G - 1) is F with G - 1 and people - 1 degrees of freedom
    [Hotelling 1931].  1 where nothing varies.
    """
    logs = log(drawn[:, (drawn > 0).all(axis=0)])
    if logs.shape[1] < 2:
        return 1.0
    covariance = np.atleast_2d(np.cov(logs[1:] - logs[0]))
    gaps = log(rates[1:]) - log(rates[0])
    if not gaps.any():
        return 1.0
    of = len(gaps)
    statistic = float(gaps @ np.linalg.pinv(covariance) @ gaps) / of
    return rounded(float(fdtrc(of, max(people - 1, 1), statistic)))
