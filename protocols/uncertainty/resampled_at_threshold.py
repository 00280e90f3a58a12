"""FMR and FNMR at a given threshold in a draw of subjects: shares, for the threshold stays.

FNMR has room for one person unseen, FMR for one pair of people unseen: where no two people are
compared twice, and no one with many, that is Clopper and Pearson's interval of FMR, too.  Of two
sets FMR has room for a person who is taken for others as often as the worst seen.
"""

from __future__ import annotations

import numpy as np

from evalkit.protocols.uncertainty.bootstrap import (
    Draws,
    Statistic,
    beyond_average,
    impostor_weight,
    shares,
    unseen_genuine,
    unseen_impostor,
)
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.protocols.uncertainty.weights import SCALE
from evalkit.types import Floats


def accepted_at(sample: ComparisonSample, threshold: str) -> int | None:
    """Count the stored impostors that score >= a threshold; None where more may, or none are."""
    if not sample.impostors:
        return None
    count = reaching_threshold(sample.impostor, threshold)
    if sample.complete_above is not None and float(threshold) > sample.complete_above:
        return count
    return None if count == len(sample.impostor) < sample.impostors else count


def fmr_statistic(sample: ComparisonSample, threshold: str, c: float) -> Statistic | None:
    """Share of impostor weight at or above a threshold, each pair 1 + c (w_i w_j - 1)."""
    count = accepted_at(sample, threshold)
    if count is None or not sample.impostors:
        return None

    size = unseen_impostor(sample)
    most = max(size, float(beyond_average(sample, count)[-1]))

    def fmr(draws: Draws) -> Floats:
        accepted = impostor_weight(c, count, draws.product[:, count])
        every = impostor_weight(c, sample.impostors, draws.products)
        unseen = SCALE * draws.unseen
        return shares(accepted, every, size * unseen, most * unseen)

    return fmr


def fnmr_statistic(sample: ComparisonSample, threshold: str) -> Statistic | None:
    """Share of genuine weight below a threshold."""
    count = reaching_threshold(sample.genuine, threshold)
    if count is None or not len(sample.genuine):
        return None

    size = unseen_genuine(sample)

    def fnmr(draws: Draws) -> Floats:
        every = draws.genuine[:, -1]
        return shares(every - draws.genuine[:, count], every, size * draws.unseen)

    return fnmr


def reaching_threshold(descending: Floats, threshold: str) -> int | None:
    """Count the scores at or above the threshold of a metric's name; None where it is no number."""
    t = threshold_of(threshold)
    return None if t is None else int(np.searchsorted(-descending, -t, "right"))


def threshold_of(text: str) -> float | None:
    """Read the threshold in a metric's name; None where it is no number."""
    try:
        t = float(text)
    except ValueError:
        return None
    return None if np.isnan(t) else t
