"""A report's values held against its own outcomes, which must give them.

A value edited by hand would pass any floor, and its difference be tested by the error of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from evalkit.errors import ReportError
from evalkit.protocols.metrics.vocabulary import part_of, resampling_of
from evalkit.protocols.uncertainty.outcomes import holds_searches, parts_of
from evalkit.protocols.uncertainty.resampled_rates import reaching
from evalkit.protocols.uncertainty.resampling import metric_draws
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.protocols.uncertainty.weights import SCALE
from evalkit.report import outcomes_of_strangers
from evalkit.types import Bools, Ints, Report

_ROUNDING = 2.0**-24  # of a mean over people, whose shares a draw rounds to this


def of_outcomes(sample: ComparisonSample, names: Iterable[str]) -> dict[str, float]:
    """Compute each named metric of a sample, by its draw in which everybody weighs the same.

    Accuracy is the mean of its folds' decisions.  Left out is what the sample does not hold whole:
    metrics drawn already, those of a random part of the impostors, and those by the rules of
    others, whose draws are by ours.
    """
    known = [
        name
        for name in names
        if name not in sample.drawn and ",rule=" not in name and reaching(sample, name) is sample
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


def refuse_contradicted(which: str, values: Mapping[str, float], sample: ComparisonSample) -> None:
    """ReportError where a value of the report, metric -> value, is not what its outcomes give."""
    for name, computed in of_outcomes(sample, values).items():
        if abs(computed - values[name]) > _ROUNDING:
            raise ReportError(
                f"the {which} report says {name} is {values[name]:.10g}, and by its outcomes it is "
                f"{computed:.10g}",
                "was it edited? measure again with --out, or delete the .npz to believe the report",
            )


def refuse_edited(which: str, report: Report, names: Iterable[str]) -> None:
    """As `refuse_contradicted`, for named metrics of a report; one without outcomes passes."""
    values, parts = report.flat(), parts_of(report.outcomes or {})
    searched = [part for part, outcomes in parts.items() if holds_searches(outcomes)]
    by_part: dict[str, dict[str, float]] = {}
    for name in names:
        part = part_of(name, parts, searched)
        if name in values and part in parts:
            by_part.setdefault(part, {})[name] = values[name]
    with outcomes_of_strangers():
        for part, of_part in by_part.items():
            refuse_contradicted(which, of_part, sample_of(parts[part]))
