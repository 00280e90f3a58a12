"""Error rates by group over trials that share people: BLUFR's ten trials, IJB-A's ten splits.

A rate is the mean over the trials, each at its own threshold; the same people are drawn for all of
them (`resampled_trials`), and the thresholds stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evalkit.protocols.groups.cells import cells_of
from evalkit.protocols.groups.conditions import PairCondition
from evalkit.protocols.groups.grouping import Grouping
from evalkit.protocols.groups.partition import By, ComparedRows, parted
from evalkit.protocols.groups.rates import counted_at, points_of
from evalkit.protocols.groups.report import failures_to_enrol, group_counts
from evalkit.protocols.groups.searches import ProbeRows, decided_searches
from evalkit.protocols.metrics import threshold_text
from evalkit.protocols.uncertainty.intervals import bounded
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SearchOutcomes, SetOutcomes
from evalkit.protocols.uncertainty.resampling import metric_ends
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.protocols.uncertainty.weights import Weights
from evalkit.types import Estimate, Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRate:
    """A rate of one trial.  drawn : (draws, 2) as `metric_ends`, or None.  people : behind it."""

    estimate: Estimate
    drawn: Floats | None
    people: Ints


_LACKING = TrialRate(
    estimate=Estimate(value=None, note="a trial has no such comparison"),
    drawn=None,
    people=np.empty(0, np.int64),
)


def trial_rates(
    metrics: Mapping[str, Estimate],
    outcomes: PairOutcomes | SetOutcomes | SearchOutcomes,
    by: By,
    people: Ints,
    weights: Sequence[Weights],
    *,
    sides: Sequence[ComparedRows] = (),
    probes: ProbeRows | None = None,
) -> dict[str, TrialRate]:
    """Measure the groups of one column in a trial's pairs, or by group of the probe its searches.

    metrics : of the trial, whose thresholds are taken.  people : numbers of those in the outcomes,
    ascending; weights : of all people.  A condition of two images has no searches.
    """
    if isinstance(outcomes, SearchOutcomes):
        if probes is None or not isinstance(by, Grouping):
            return {}
        return dict(_of_searches(metrics, outcomes, by, probes, weights))
    return dict(_of_pairs(metrics, outcomes, by, people, weights, sides))


def _of_pairs(
    metrics: Mapping[str, Estimate],
    outcomes: PairOutcomes | SetOutcomes,
    by: By,
    people: Ints,
    weights: Sequence[Weights],
    sides: Sequence[ComparedRows],
) -> Iterator[tuple[str, TrialRate]]:
    whole, points = sample_of(outcomes), points_of(metrics)
    own = [(weight[people], unseen) for weight, unseen in weights]
    for cell in cells_of(parted(outcomes, by, sides, whole.subjects), outcomes, whole):
        texts = {point: threshold_text(t) for point, t in points.items()}
        names = [f"{rate}@threshold={t}" for t in texts.values() for rate in ("fmr", "fnmr")]
        drawn = cell.draws(own, names) if own else {}
        shown = np.union1d(*cell.people), np.unique(cell.sample.genuine_subject)
        for point, text in texts.items():
            rates = counted_at(cell.sample, points[point], text)
            for rate, m, who in zip(("fmr", "fnmr"), rates, shown, strict=True):
                if rate == "fmr" or m.n or cell.within:
                    ends = drawn.get(f"{rate}@threshold={text}")
                    of_cell = TrialRate(estimate=m, drawn=ends, people=people[who])
                    yield f"{rate}@{point},{by.column}={cell.name}", of_cell


def _of_searches(
    metrics: Mapping[str, Estimate],
    outcomes: SearchOutcomes,
    by: Grouping,
    probes: ProbeRows,
    weights: Sequence[Weights],
) -> Iterator[tuple[str, TrialRate]]:
    for decided in decided_searches(metrics, outcomes, probes, by):
        held = decided.outcomes
        known = (held.rank_subject, held.mate_subject, held.nonmate_subject)
        who = np.unique(np.concatenate([each for each in known if each is not None]))
        own = [(weight[who], unseen) for weight, unseen in weights]
        names = [name for name, m in decided.counted.items() if m.value is not None]
        drawn = metric_ends(sample_of(held), names, weights=own) if own and len(who) else {}
        for name, m in decided.counted.items():
            others = held.nonmate_subject if name.startswith("fpir") else None
            shown = held.rank_subject if others is None else others
            of_cell = TrialRate(estimate=m, drawn=drawn.get(name), people=np.unique(shown))
            yield decided.names[name], of_cell


def over_trials(
    trials: Sequence[Mapping[str, TrialRate]],
    mean: Callable[[Sequence[Estimate]], Estimate],
    seed: int,
) -> dict[str, Estimate]:
    """Average each rate over the trials, with the interval of its draws; TPR beside each FNMR.

    mean : of the estimates of all trials; a rate that some trial lacks has no value.
    """
    means: dict[str, Estimate] = {}
    for name in dict.fromkeys(name for trial in trials for name in trial):
        each = [trial.get(name, _LACKING) for trial in trials]
        m = replace(mean([rate.estimate for rate in each]), threshold=None)
        ends = [rate.drawn for rate in each if rate.drawn is not None]
        if m.value is not None and len(ends) == len(each):
            people = len(np.unique(np.concatenate([rate.people for rate in each])))
            m = replace(bounded(m, np.mean(ends, axis=0), people, seed), people=people)
        means[name] = m
        if name.startswith("fnmr@far=") and m.value is not None:
            means[name.replace("fnmr", "tpr", 1)] = _complement(m)
    return means


def _complement(m: Estimate) -> Estimate:
    value, low, high = (None if v is None else 1 - v for v in (m.value, m.high, m.low))
    folds = tuple(1 - v for v in m.folds)
    return replace(m, value=value, low=low, high=high, folds=folds)


def rows_by_group(
    groups: Sequence[By], side: ComparedRows, seed: int
) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """Failures to enrol by group, and counts for the provenance, of the rows of all trials."""
    counts = {
        by.column: group_counts(by, [side]) for by in groups if not isinstance(by, PairCondition)
    }
    lost = [failures_to_enrol(by, [side], seed) for by in groups if isinstance(by, Grouping)]
    return {name: m for of in lost for name, m in of.items()}, counts
