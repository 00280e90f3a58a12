"""A threshold to deploy: the measured one, and the one that is safe at a confidence.

The measured threshold lets through the FAR on these people; on others it exceeds it about as often
as not (of 3 false accepts, by a third on average).  The safe one is the lowest whose upper bound on
FAR is at most the one asked for (`false_matches`).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter

import numpy as np

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics import (
    error_estimates,
    false_accepts_allowed,
    threshold_above,
    threshold_text,
    tpr_of_highest,
)
from evalkit.protocols.uncertainty.false_matches import Sharing, sharing, upper_mean
from evalkit.protocols.uncertainty.intervals import (
    DRAWS,
    bounded,
    expands,
    independent,
    no_shorter,
    with_intervals,
)
from evalkit.protocols.uncertainty.outcomes import Outcomes
from evalkit.protocols.uncertainty.resampled_rates import reaching
from evalkit.protocols.uncertainty.resampling import metric_ends, threshold_draws
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.types import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedThreshold:
    """Threshold, FAR and TPR at it, with the ends of their 95 % intervals, None where not known.

    threshold_low, threshold_high : of the threshold for the same FAR on other people, whose upper
    end is open, None, where few false accepts bound it nowhere.  far_low, far_high : of the FAR of
    this threshold there.  false_accepts of `impostors` comparisons of
    `subjects` people, which weigh as so many `independent` ones; draws : of people.
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
    independent: float | None = None
    impostors: int | None = None
    subjects: int | None = None
    draws: int = 0
    note: str = ""


ALONE = "holds where no two comparisons share a person: nobody knows who is in them"


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeThreshold:
    """The lowest threshold whose FAR is at most the one asked for, with `confidence`.

    threshold : None where the comparisons support none, `note` says why.  far, false_accepts :
    measured there; far_high : the upper bound of the FAR.  fnmr : there, with its 95 % interval.
    bounded_at : the FAR, as text, at which the bound was kept: the one asked for or a lower one.
    largest : the most false accepts at that FAR that one person has part in.  people, impostors :
    about how many are needed, where there are too few.
    """

    confidence: float
    threshold: float | None = None
    far: float | None = None
    far_high: float | None = None
    false_accepts: int | None = None
    bounded_at: str | None = None
    largest: int = 1
    fnmr: float | None = None
    fnmr_low: float | None = None
    fnmr_high: float | None = None
    people: int | None = None
    impostors: int | None = None
    note: str = ""


def safe_threshold(
    outcomes: Outcomes, far: str, confidence: float = 0.95, *, draws: int = DRAWS
) -> SafeThreshold:
    """Find the lowest threshold whose upper bound on FAR is at most x.

    outcomes : of one set of comparisons.  far : x, decimal text.  confidence : one-sided, how often
    the FAR of such a threshold is at most x among samples of other people; draws : of people, for
    the interval of FNMR.  How people share false accepts is measured at the FAR asked for, so the
    bound rises with the accepts; where one person has part in too many of them, a threshold that is
    safe at x / 10, x / 100, ... is safe at x too, and the lowest of these is taken, so that the
    threshold falls as x rises.  It holds for people such as these: of a kind that is less than 3 in
    N of all people, N may hold none.
    ProtocolError unless 0.5 <= confidence < 1, or where the outcomes end before.
    """
    if not 0.5 <= confidence < 1:
        raise ProtocolError(f"a confidence of {confidence:g}", "give 0.95, or 0.5 to 1")
    sample = reaching(sample_of(outcomes), f"tpr@far={far}")
    allowed, stored = false_accepts_allowed(far, sample.impostors), len(sample.impostor)
    if allowed >= stored < sample.impostors:
        raise ProtocolError(f"the outcomes end before FAR {far}")
    found = [_lowest(sample, each, confidence) for each in _and_lower(far, sample.impostors)]
    lowest = max(found, key=attrgetter("accepts"))  # the first of equals
    count, shared = lowest.accepts, lowest.shared
    if count < 0:
        return _unsupported(sample, far, confidence, found[0].shared)
    threshold = threshold_above(sample.impostor[count] if count < stored else -np.inf)
    accepts = int(np.count_nonzero(sample.impostor >= threshold))
    true = int(np.count_nonzero(sample.genuine >= threshold))
    errors = error_estimates(threshold, true, accepts, len(sample.genuine), sample.impostors)
    name = f"fnmr@threshold={threshold_text(threshold)}"
    fnmr = with_intervals({name: errors[name]}, outcomes, draws=draws)[name]
    return SafeThreshold(
        confidence=confidence,
        threshold=threshold,
        far=accepts / sample.impostors,
        far_high=min(1.0, upper_mean(accepts, shared, confidence) / sample.impostors),
        false_accepts=accepts,
        bounded_at=lowest.far,
        largest=shared.largest,
        fnmr=fnmr.value,
        fnmr_low=fnmr.low,
        fnmr_high=fnmr.high,
        note=_note(sample, far, lowest, found[0].shared),
    )


@dataclass(frozen=True, slots=True)
class _Bound:
    """The most false accepts whose upper bound is at most a FAR, -1 where that of none is above."""

    far: str
    shared: Sharing
    accepts: int


def _lowest(sample: ComparisonSample, far: str, confidence: float) -> _Bound:
    """Find how many false accepts keep the bound at one FAR."""
    allowed = false_accepts_allowed(far, sample.impostors)
    most = float(Fraction(far) * sample.impostors)
    shared = sharing(sample, allowed)
    if upper_mean(0, shared, confidence) > most:
        return _Bound(far, shared, -1)
    count = bisect_right(range(allowed), most, key=lambda k: upper_mean(k + 1, shared, confidence))
    return _Bound(far, shared, count)


def _and_lower(far: str, impostors: int) -> list[str]:
    """List a FAR and the powers of ten below it at which a comparison may be accepted."""
    x = Fraction(far)
    powers = [f"1e-{k}" for k in range(1, len(str(impostors)))]
    return [far, *(each for each in powers if Fraction(each) < x)]


def _note(sample: ComparisonSample, far: str, kept: _Bound, shared: Sharing) -> str:
    """Say at which lower FAR the bound is kept, and what else limits it."""
    told = "" if sample.unit == "subject" else ALONE
    if kept.far != far:
        told = (
            f"that of FAR {kept.far}: one person has part in {shared.largest:,} of the "
            f"{false_accepts_allowed(far, sample.impostors):,} false accepts at {far}, too many "
            f"for a bound there{'; ' if told else ''}{told}"
        )
    return told


def _unsupported(
    sample: ComparisonSample, far: str, confidence: float, shared: Sharing
) -> SafeThreshold:
    """Say what is missing where the bound is above any FAR even without a false accept."""
    n, least = sample.impostors, upper_mean(0, shared, confidence)
    needed = math.ceil(least / Fraction(far))
    note = (
        f"without one false accept among {n:,} impostor comparisons FAR may still be "
        f"{least / max(n, 1):.2g}; {far} takes about {needed:,} of them"
    )
    people = None
    if sample.unit == "subject":
        seen = _compared(sample)
        people = math.ceil(needed / n * seen) if n else None
        note += f", and {people:,} people, not {seen:,}" if people else ""
    return SafeThreshold(
        confidence=confidence, largest=shared.largest, people=people, impostors=needed, note=note
    )


def measured_at(outcomes: Outcomes, far: str) -> Estimate | None:
    """TPR at a FAR off the comparisons themselves, with its interval; None where they end before.

    outcomes : of one set of comparisons.  far : decimal text.
    """
    sample = sample_of(outcomes)
    if false_accepts_allowed(far, sample.impostors) >= len(sample.impostor):
        return None
    tpr = tpr_of_highest(far, sample.genuine, sample.impostor, sample.impostors)
    return with_intervals({f"tpr@far={far}": tpr}, outcomes)[f"tpr@far={far}"]


def deployed_threshold(
    m: Estimate, threshold: float, far: str, sample: ComparisonSample | None
) -> DeployedThreshold:
    """Give the threshold of an estimate of TPR@FAR=x the intervals that draws of subjects yield.

    sample : the comparisons, or None where they are not at hand: no intervals then.
    """
    ends = None if sample is None else interval_of_threshold(sample, far)
    fmr = None if sample is None or ends is None else _far_at(sample, m, threshold)
    return DeployedThreshold(
        threshold=threshold,
        threshold_low=None if ends is None else ends[0],
        threshold_high=None if ends is None or ends[1] == np.inf else ends[1],
        far=m.far,
        far_low=None if fmr is None else fmr.low,
        far_high=None if fmr is None else fmr.high,
        tpr=m.value,
        tpr_low=m.low,
        tpr_high=m.high,
        false_accepts=m.false_accepts,
        independent=None if sample is None else _independent(sample, far, m.false_accepts or 0),
        impostors=sample.impostors if sample is not None else None,
        subjects=_compared(sample) if sample is not None and sample.unit == "subject" else None,
        draws=0 if ends is None else DRAWS,
        note=m.note,
    )


def _compared(sample: ComparisonSample) -> int:
    """Count the people who are compared; some are only searched for."""
    if sample.left_images is None or sample.right_images is None:
        return sample.subjects
    return int(np.count_nonzero((sample.left_images > 0) | (sample.right_images > 0)))


def _independent(sample: ComparisonSample, far: str, accepts: int) -> float:
    """How many independent false accepts would vary as these do."""
    return accepts / sharing(reaching(sample, f"tpr@far={far}"), accepts).per_accept


def interval_of_threshold(
    sample: ComparisonSample, far: str, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """Where the threshold for the same FAR would lie on other people, 95 %.

    No draw has a threshold above all impostors.  The upper end is infinite where even one that
    accepts none of them may have a greater FAR on other people (`upper_mean`).  None where fewer
    than two draws have a threshold.
    """
    drawn = threshold_draws(sample, far, draws, seed)
    finite = np.empty((0, 2)) if drawn is None else drawn[np.isfinite(drawn).all(axis=1)]
    if len(finite) < 2:
        return None
    low, high = (np.quantile(of, q) for of, q in zip(finite.T, (0.025, 0.975), strict=True))
    sample = reaching(sample, f"tpr@far={far}")
    shared = sharing(sample, false_accepts_allowed(far, sample.impostors))
    unbounded = upper_mean(0, shared, 0.975) > Fraction(far) * sample.impostors
    return float(low), np.inf if unbounded else float(high)


def _far_at(sample: ComparisonSample, m: Estimate, threshold: float) -> Estimate:
    """Give the FAR of a threshold that stays its interval, as `fmr@threshold` has it."""
    name, estimate = f"fmr@threshold={threshold_text(threshold)}", Estimate(value=m.far)
    drawn = metric_ends(sample, [name], DRAWS).get(name)
    if drawn is None:
        return estimate
    wide = expands(sample, name)
    found = bounded(estimate, drawn, independent(sample, name), expanded=wide)
    return no_shorter(found, sample, name)
