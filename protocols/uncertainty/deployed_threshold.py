"""A threshold to deploy: where it would lie on other people, and what it lets through there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalkit.protocols.metrics import false_accepts_allowed, tpr_of_highest
from evalkit.protocols.uncertainty.intervals import DRAWS, logit_interval, with_intervals
from evalkit.protocols.uncertainty.outcomes import Outcomes
from evalkit.protocols.uncertainty.resampling import threshold_draws
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.types import Estimate, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedThreshold:
    """Threshold, FAR and TPR at it, with the ends of their 95 % intervals, None where not known.

    threshold_low, threshold_high : of the threshold for the same FAR on other people; far_low,
    far_high : of the FAR of this threshold there.  false_accepts of `impostors` comparisons of
    `subjects` people; draws : of them.
    """

    threshold: float
    threshold_low: float | None = None
    threshold_high: float | None = None
    far: float | None = None
    far_low: float | None = None
    far_high: float | None = None
    tpr: float | None = None
    tpr_low: float | None = None
    tpr_high: float | None = None
    false_accepts: int | None = None
    impostors: int | None = None
    subjects: int | None = None
    draws: int = 0
    note: str = ""


def measured_at(outcomes: Outcomes, far: str) -> Estimate | None:
    """TPR at a FAR off the comparisons themselves, with its interval; None where they end before.

    outcomes : of one set of comparisons.  far : decimal text.
    """
    sample = sample_of(outcomes)
    if false_accepts_allowed(far, sample.impostors) >= len(sample.impostor):
        return None
    found = tpr_of_highest(far, sample.genuine, sample.impostor, sample.impostors)
    return with_intervals({f"tpr@far={far}": found}, outcomes)[f"tpr@far={far}"]


def deployed_threshold(
    m: Estimate, threshold: float, far: str, sample: ComparisonSample | None
) -> DeployedThreshold:
    """Give the threshold of an estimate of TPR@FAR=x the intervals that draws of subjects yield.

    sample : the comparisons, or None where they are not at hand: no intervals then.
    """
    drawn = threshold_draws(sample, far) if sample is not None else None
    low, high, far_low, far_high = (None,) * 4 if drawn is None else _ends(m, *drawn)
    return DeployedThreshold(
        threshold=threshold,
        threshold_low=low,
        threshold_high=high,
        far=m.far,
        far_low=far_low,
        far_high=far_high,
        tpr=m.value,
        tpr_low=m.low,
        tpr_high=m.high,
        false_accepts=m.false_accepts,
        impostors=sample.impostors if sample is not None else None,
        subjects=sample.subjects if sample is not None and sample.unit == "subject" else None,
        draws=DRAWS if drawn is not None else 0,
        note=m.note,
    )


def _ends(
    m: Estimate, thresholds: Floats, fars: Floats
) -> tuple[float | None, float | None, float | None, float | None]:
    finite, fars = thresholds[np.isfinite(thresholds)], fars[np.isfinite(fars)]
    if len(finite) < 2 or len(fars) < 2:
        return None, None, None, None
    low, high = (float(q) for q in np.quantile(finite, [0.025, 0.975]))
    error = float(fars.std(ddof=1))
    if not m.far or not 0 < m.far < 1 or error == 0:
        return low, high, None, None
    return low, high, *logit_interval(m.far, error)
