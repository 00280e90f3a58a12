"""A report's values held against its own outcomes, which must give them.

A value edited by hand would pass any floor, and its difference be tested by the error of another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from evalkit.errors import ReportError
from evalkit.protocols.groups.cells import cells_of
from evalkit.protocols.groups.partition import Partition, partitions_in
from evalkit.protocols.groups.rates import counted_at
from evalkit.protocols.metrics import threshold_text
from evalkit.protocols.metrics.vocabulary import part_of, read, resampling_of
from evalkit.protocols.uncertainty.outcomes import (
    Outcomes,
    PairOutcomes,
    SetOutcomes,
    holds_searches,
    parts_of,
)
from evalkit.protocols.uncertainty.resampled_rates import reaching
from evalkit.protocols.uncertainty.resampling import metric_draws
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.protocols.uncertainty.weights import SCALE
from evalkit.report import outcomes_of_strangers
from evalkit.types import Bools, Estimate, Floats, Ints, Report

_ROUNDING = 2.0**-24  # of a mean over people, whose shares a draw rounds to this


def of_outcomes(sample: ComparisonSample, names: Iterable[str]) -> dict[str, float]:
    """Compute each named metric of a sample, by its draw in which everybody weighs the same.

    Accuracy is the mean of its folds' decisions; AUC and EER may be of a random part of the
    impostors.  Left out are metrics drawn already, TPR at thresholds of such a part, and those by
    the rules of others, whose draws are by ours.
    """
    known = [
        name
        for name in names
        if name not in sample.drawn
        and ",rule=" not in name
        and (reaching(sample, name) is sample or resampling_of(name)[0] in ("auc", "eer"))
    ]
    ones = np.full(sample.subjects, SCALE, np.int64), 0
    drawn = metric_draws(sample, known, weights=iter([ones]))
    computed = {name: float(of[0]) for name, of in drawn.items()}
    for name in computed:
        if resampling_of(name)[0] == "accuracy" and sample.decided is not None:
            computed[name] = mean_of_folds(sample.decided, sample.fold)
    return computed


def mean_of_folds(decided: Bools, fold: Ints | None) -> float:
    """Mean over the folds of the share of their pairs that were decided rightly; of one fold too.

    decided, fold : (P,).
    """
    of = np.zeros(len(decided), np.int64) if fold is None else fold
    return float((np.bincount(of, decided) / np.bincount(of)).mean())


def at_threshold(name: str, m: Estimate, sample: ComparisonSample) -> dict[str, float]:
    """Count a sample anew at the threshold that an estimate states: field -> what it must be.

    Of rates of pairs and of EER; a field is left out where the sample does not store what decides.
    """
    rate = name.partition("@")[0]
    if m.threshold is None or m.value is None or rate not in ("tpr", "fnmr", "fmr", "eer"):
        return {}
    part = reaching(sample, name) if rate == "eer" else sample  # of random impostors, where many
    fmr, fnmr = counted_at(part, m.threshold, threshold_text(m.threshold))
    counted: dict[str, float | None] = {"far": fmr.value, "false_accepts": fmr.false_accepts}
    if rate in ("fnmr", "fmr"):
        counted["value"] = fnmr.value if rate == "fnmr" else fmr.value
        counted["n"] = fnmr.n if rate == "fnmr" else fmr.n
    elif rate == "tpr" and ",mean=" not in name and fnmr.value is not None:
        counted["value"] = 1 - fnmr.value
    if fmr.value is None:  # more may be accepted than are stored
        counted["false_accepts"] = None
    held = {field: n for field, n in counted.items() if getattr(m, field) is not None}
    return {field: n for field, n in held.items() if n is not None}


def refuse_contradicted(
    which: str,
    metrics: Mapping[str, Estimate],
    outcomes: Outcomes,
    sample: ComparisonSample,
    by: Mapping[str, Partition],
) -> None:
    """ReportError where an estimate, of metric -> estimate, is not what its outcomes give.

    sample : of the outcomes.  by : column -> how its groups part them.
    """
    values = {name: m.value for name, m in metrics.items() if m.value is not None}
    for name, computed in of_outcomes(sample, values).items():
        part = reaching(sample, name)
        within = _ROUNDING if part is sample else _error_of_random(len(part.impostor))
        _refuse(which, name, "value", values[name], computed, within)
    for name, drawn in sample.drawn.items():
        if name in values:
            _refuse_far_from_draws(which, name, values[name], drawn)
    for name, m, own in _samples(metrics, outcomes, sample, by):
        for field, counted in at_threshold(name, m, own).items():
            _refuse(which, name, field, getattr(m, field), counted)


def _samples(
    metrics: Mapping[str, Estimate],
    outcomes: Outcomes,
    whole: ComparisonSample,
    by: Mapping[str, Partition],
) -> Iterator[tuple[str, Estimate, ComparisonSample]]:
    """Yield each metric of pairs with the sample that it is of: the whole, or one of a group."""
    cells = {
        (column, cell.name): cell.sample
        for column, partition in by.items()
        if isinstance(outcomes, PairOutcomes | SetOutcomes)
        for cell in cells_of(partition, outcomes, whole)
    }
    for name, m in metrics.items():
        reading = read(name)
        group = None if reading is None else reading.group
        sample = whole if group is None else cells.get(group)
        elsewhere = group is None and resampling_of(name)[0] is None  # of other comparisons
        if sample is None or elsewhere or ",rule=" in name:  # others accept otherwise
            continue
        if len(sample.genuine) or sample.impostors:
            yield name, m, sample


def _error_of_random(count: int) -> float:
    """How far a share of so many random impostors may be from that of all, but once in 10^12.

    [Dvoretzky, Kiefer and Wolfowitz 1956; Massart 1990]: AUC and EER differ by no more.
    """
    return math.sqrt(math.log(2e12) / (2 * count))


def _refuse(
    which: str, name: str, field: str, stated: float, computed: float, within: float = _ROUNDING
) -> None:
    if abs(computed - stated) > within:
        said = name if field == "value" else f"{field} of {name}"
        raise ReportError(
            f"the {which} report says {said} is {stated:.10g}, and by its outcomes it is "
            f"{computed:.10g}",
            "was it edited? measure again with --out, or delete the .npz to believe the report",
        )


def _refuse_far_from_draws(which: str, name: str, value: float, drawn: Floats) -> None:
    """ReportError for a value farther from its draws, (D,), than these are from each other."""
    low, high = np.nanmin(drawn), np.nanmax(drawn)
    width = max(high - low, _ROUNDING)
    if not low - width <= value <= high + width:
        raise ReportError(
            f"the {which} report says {name} is {value:.10g}, and its draws lie between {low:.10g} "
            f"and {high:.10g}",
            "was it edited? measure again with --out, or delete the .npz to believe the report",
        )


def refuse_edited(which: str, report: Report, names: Iterable[str]) -> None:
    """As `refuse_contradicted`, for named metrics of a report; one without outcomes passes."""
    parts = parts_of(report.outcomes or {})
    searched = [part for part, outcomes in parts.items() if holds_searches(outcomes)]
    by_part: dict[str, dict[str, Estimate]] = {}
    for name in names:
        part = part_of(name, parts, searched)
        if name in report.metrics and part in parts:
            by_part.setdefault(part, {})[name] = report.metrics[name]
    with outcomes_of_strangers():
        for part, of_part in by_part.items():
            by = partitions_in(report.outcomes or {}, part)
            outcomes = parts[part]
            refuse_contradicted(which, of_part, outcomes, sample_of(outcomes), by)
