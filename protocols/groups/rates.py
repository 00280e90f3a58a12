"""Error rates of groups at thresholds: FMR, FNMR, TPR, with intervals by subject and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.protocols.groups.cells import GroupCell
from evalkit.protocols.metrics import error_estimates, threshold_text
from evalkit.protocols.metrics.operating_point import false_accepts_allowed, threshold_above
from evalkit.protocols.metrics.vocabulary import resampling_of_part
from evalkit.protocols.subject_means import DOMINANT
from evalkit.protocols.uncertainty.intervals import bounded
from evalkit.protocols.uncertainty.resampled_at_threshold import accepted_at, reaching_threshold
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.protocols.uncertainty.weights import subject_draws
from evalkit.types import Estimate, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRates:
    """FMR and FNMR of a cell at one threshold, and both in each draw of subjects.

    fmr_drawn, fnmr_drawn : (draws,), without the person unseen; None where there is no rate.
    """

    cell: GroupCell
    fmr: Estimate
    fnmr: Estimate
    fmr_drawn: Floats | None
    fnmr_drawn: Floats | None


def points_of(metrics: Mapping[str, Estimate], part: str = "") -> dict[str, float]:
    """Thresholds of a part by what they are called in a metric's name: "far=1e-4"."""
    points = {}
    for name, m in metrics.items():
        kind, at = resampling_of_part(name, part)
        if m.threshold is not None and m.value is not None and kind in ("tpr", "fmr"):
            points[f"{'far' if kind == 'tpr' else 'threshold'}={at}"] = m.threshold
    return points


def rates_at(
    cells: Sequence[GroupCell],
    whole: ComparisonSample,
    thresholds: Sequence[float],
    draws: int,
    seed: int,
) -> dict[float, list[CellRates]]:
    """Measure every cell at every threshold; thresholds stay where they are in the draws."""
    texts = {t: threshold_text(t) for t in thresholds}
    names = [f"{rate}@threshold={text}" for text in texts.values() for rate in ("fmr", "fnmr")]
    by_threshold: dict[float, list[CellRates]] = {t: [] for t in thresholds}
    for cell in cells:
        drawn = cell.draws(subject_draws(whole, draws, seed), names)
        for t, text in texts.items():
            by_threshold[t].append(_rates(cell, t, text, drawn, seed))
    return by_threshold


def _rates(
    cell: GroupCell, threshold: float, text: str, drawn: Mapping[str, Floats], seed: int
) -> CellRates:
    sample, names = cell.sample, (f"fmr@threshold={text}", f"fnmr@threshold={text}")
    fmr, fnmr = counted_at(sample, threshold, text)
    few = len(cell.sides) == 2  # between groups those of the smaller one make most of the accepts
    fmr = _bounded(fmr, drawn.get(names[0]), cell.impostor_people, seed, sample.unit, few)
    genuine_people = len(np.unique(sample.genuine_subject))
    fnmr = _bounded(fnmr, drawn.get(names[1]), genuine_people, seed, sample.unit)
    most = np.unique(sample.genuine_subject, return_counts=True)[1]
    if most.max(initial=0) > max(DOMINANT * fnmr.n, most.min(initial=fnmr.n)):
        note = f"one person has {most.max() / fnmr.n:.0%} of the {fnmr.n:,} genuine pairs"
        fnmr = replace(fnmr, note="; ".join(filter(None, (note, fnmr.note))))
    return CellRates(
        cell=cell,
        fmr=fmr,
        fnmr=fnmr,
        fmr_drawn=None if fmr.value is None else _seen(drawn[names[0]]),
        fnmr_drawn=None if fnmr.value is None else _seen(drawn[names[1]]),
    )


def counted_at(sample: ComparisonSample, threshold: float, text: str) -> tuple[Estimate, Estimate]:
    """FMR and FNMR of a cell's comparisons; no FMR where more may be accepted than are kept."""
    false, true = accepted_at(sample, text), reaching_threshold(sample.genuine, text) or 0
    counts = error_estimates(threshold, true, false or 0, len(sample.genuine), sample.impostors)
    fmr, fnmr = (counts[f"{rate}@threshold={text}"] for rate in ("fmr", "fnmr"))
    if false is None and sample.impostors:
        note = "more impostor pairs score above this threshold than are kept: take a lower FAR"
        fmr = Estimate(value=None, n=sample.impostors, threshold=threshold, note=note)
    return fmr, fnmr


def _bounded(
    m: Estimate,
    drawn: Floats | None,
    people: int,
    seed: int,
    unit: str,
    expanded: bool = False,
) -> Estimate:
    if m.value is None or drawn is None:
        return m
    return replace(bounded(m, drawn, people, seed, unit=unit, expanded=expanded), people=people)


def _seen(drawn: Floats) -> Floats:
    """Take the person unseen out of both ends of a rate's draws: (draws,).

    With p errors of weight w and the unseen one's u the ends are p / (w + u), (p + u) / (w + u).
    """
    low, high = drawn.min(axis=1), drawn.max(axis=1)
    known = 1 - (high - low)
    seen: Floats = np.divide(low, known, out=np.zeros_like(low), where=known > 0)
    return seen


def threshold_of_each(cells: Sequence[GroupCell], far: str) -> tuple[float | None, str]:
    """Lowest threshold whose FAR is at most x within every group; None and why where there is none.

    cells : those within a group.  In a group of N impostor pairs K = floor(x N) may be accepted, as
    in `metrics.threshold_at_far`; the threshold is the highest of the groups'.
    """
    borders = []
    for cell in cells:
        sample = cell.sample
        allowed = false_accepts_allowed(far, sample.impostors)
        if not allowed:
            few = f"FAR {far} needs more than the {sample.impostors:,} impostor pairs"
            return None, f"{few} of {cell.name}"
        stored = len(sample.impostor)
        border = float(sample.impostor[allowed]) if allowed < stored else -np.inf
        borders.append(border)
    highest = max(borders)
    if highest == -np.inf and cells[0].sample.complete_above != -np.inf:
        return None, "it lies below the impostor pairs that are kept: take a lower FAR"
    return threshold_above(highest), ""
