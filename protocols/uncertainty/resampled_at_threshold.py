"""FMR and FNMR at a given threshold in a draw of subjects: shares, for the threshold stays."""

from __future__ import annotations

import numpy as np

from evalkit.protocols.uncertainty.bootstrap import Draw, Statistic, share
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.types import Floats


def accepted_at(sample: ComparisonSample, threshold: str) -> int | None:
    """Count the stored impostors that score >= a threshold; None where more may, not stored."""
    count = _reaching(sample.impostor, threshold)
    return None if count == len(sample.impostor) < sample.impostors else count


def fmr_statistic(sample: ComparisonSample, threshold: str, c: float) -> Statistic | None:
    """Share of impostor weight at or above a threshold, each pair 1 + c (w_i w_j - 1)."""
    count = accepted_at(sample, threshold)
    if count is None or not sample.impostors:
        return None

    def fmr(draw: Draw) -> float:
        accepted = (1 - c) * count + c * draw.product[count]
        return share(accepted, (1 - c) * sample.impostors + c * draw.products)

    return fmr


def fnmr_statistic(sample: ComparisonSample, threshold: str) -> Statistic | None:
    """Share of genuine weight below a threshold."""
    count = _reaching(sample.genuine, threshold)
    if count is None or not len(sample.genuine):
        return None

    def fnmr(draw: Draw) -> float:
        every = draw.genuine[-1]
        return share(every - draw.genuine[count], every)

    return fnmr


def _reaching(descending: Floats, threshold: str) -> int | None:
    """Count the scores at or above the threshold of a metric's name; None where it is no number."""
    try:
        t = float(threshold)
    except ValueError:
        return None
    return None if np.isnan(t) else int(np.searchsorted(-descending, -t, "right"))
