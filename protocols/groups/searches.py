"""Identification by group of the probe: rank-k, and TPIR, FPIR, FNIR at thresholds of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.errors import ProtocolError
from evalkit.protocols.groups.grouping import Grouping
from evalkit.protocols.groups.partition import By
from evalkit.protocols.metrics import mean_estimate, rank_within, search_errors_at, threshold_at_far
from evalkit.protocols.metrics.vocabulary import resampling_of_part
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes
from evalkit.types import Bools, Estimate, Floats, Ints

_ERRORS = ("fpir", "fnir", "tpir")
_DECIDED = "0.5"  # threshold of searches that score 1 where they are accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRows:
    """Row in a grouping of the probe of every search, in the order of `SearchOutcomes`.

    mated : (Q,) of those with a mate.  other : (R,) of those without.
    """

    mated: Ints
    other: Ints


def searches_by_group(
    metrics: Mapping[str, Estimate],
    outcomes: SearchOutcomes,
    probes: ProbeRows,
    by: By,
    part: str,
    seed: int,
) -> dict[str, Estimate]:
    """Measure the searches of each group's probes, as a report's metrics measure all.

    Of a column `sex`: rank-k@sex=female; at the threshold of each FPIR over all searches of a
    gallery tpir@fpir=x,sex=female and fpir@fpir=x,sex=female; at each given one tpir, fnir and
    fpir@threshold=t,sex=female; the mean over galleries where there are several.  Intervals are by
    subject, the thresholds stay.  part : whose metrics and outcomes these are.
    ProtocolError where a column is of two images.
    """
    estimates: dict[str, Estimate] = {}
    for decided in decided_searches(metrics, outcomes, probes, of_probes(by), part):
        measured = with_intervals(decided.counted, decided.outcomes, seed=seed)
        estimates |= {decided.names[name]: m for name, m in measured.items()}
    return estimates


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedSearches:
    """Searches of one group's probes, decided at one point: 1 where they are accepted.

    counted : name that a draw understands -> rate.  names : the same -> name in the report.
    """

    outcomes: SearchOutcomes
    counted: dict[str, Estimate]
    names: dict[str, str]


def decided_searches(
    metrics: Mapping[str, Estimate],
    outcomes: SearchOutcomes,
    probes: ProbeRows,
    by: Grouping,
    part: str = "",
) -> Iterator[DecidedSearches]:
    """Give the searches of each group's probes, at each point that a report's metrics have."""
    kinds = [resampling_of_part(name, part) for name in metrics]
    points = {f"fpir={x}": _thresholds(outcomes, x) for kind, x in kinds if kind == "tpir"}
    given = {t: float(t) for kind, t in kinds if kind == "dir"}
    points |= {f"threshold={t}": dict.fromkeys(_galleries(outcomes), v) for t, v in given.items()}
    for place, group in enumerate(by.names):
        own = _chosen(outcomes, by.code[probes.mated] == place, by.code[probes.other] == place)
        ranks = {f"rank-{k}": rank_within(own.rank, int(k)) for kind, k in kinds if kind == "rank"}
        of = f"{by.column}={group}" + (f",{part}" if part else "")
        names = {name: f"{name}@{of}" for name in ranks}
        yield DecidedSearches(outcomes=own, counted=ranks, names=names)
        for point, thresholds in points.items():
            decided, counted = _decided(own, thresholds)
            rates = [r for r in _ERRORS if r != "fnir" or point.startswith("threshold")]
            names = {f"{rate}@threshold={_DECIDED}": f"{rate}@{point},{of}" for rate in rates}
            counted = {name: counted[name] for name in names}
            yield DecidedSearches(outcomes=decided, counted=counted, names=names)


def of_probes(by: By) -> Grouping:
    """Return a column that groups probes; ProtocolError where it is of two images."""
    if isinstance(by, Grouping):
        return by
    raise ProtocolError(
        f"column {by.column!r} is of two images, and a search is of its probe's group",
        "name the column alone, numbers in bins, as --by yaw:15,45",
    )


def mean_of_galleries(of: Sequence[Estimate]) -> Estimate:
    """Average over the galleries, `folds` is each; a note says which gallery it is of."""
    mean = mean_estimate(of)
    note = "; ".join(f"gallery {k}: {m.note}" for k, m in enumerate(of, 1) if m.note)
    return mean if mean.value is None else replace(mean, note=note)


def _galleries(outcomes: SearchOutcomes) -> list[int]:
    numbers = [g for g in (outcomes.mate_gallery, outcomes.nonmate_gallery) if g is not None]
    return [int(g) for g in np.unique(np.concatenate(numbers))] if numbers else [0]


def _of_gallery(gallery: Ints | None, number: int, count: int) -> Bools:
    return np.ones(count, bool) if gallery is None else gallery == number


def _thresholds(outcomes: SearchOutcomes, fpir: str) -> dict[int, float | None]:
    """Threshold of each gallery's own FPIR, over all its searches without a mate."""
    best = _scores(outcomes.nonmate_score)
    return {
        g: threshold_at_far(best[_of_gallery(outcomes.nonmate_gallery, g, len(best))], fpir)
        for g in _galleries(outcomes)
    }


def _scores(held: Floats | None) -> Floats:
    return np.empty(0) if held is None else held


def _chosen(outcomes: SearchOutcomes, mated: Bools, other: Bools) -> SearchOutcomes:
    """Keep the searches of some probes: (Q,) with a mate, (R,) without."""
    chosen = {
        name: values[other if name.startswith("nonmate") else mated]
        for name in SearchOutcomes.__slots__
        if (values := getattr(outcomes, name)) is not None
    }
    return replace(outcomes, **chosen)


def _decided(
    own: SearchOutcomes, thresholds: Mapping[int, float | None]
) -> tuple[SearchOutcomes, dict[str, Estimate]]:
    """Decide searches at each gallery's threshold; FPIR, FNIR and TPIR, mean over the galleries."""
    mate, best = _scores(own.mate_score), _scores(own.nonmate_score)
    hit, alarm = np.full(len(mate), -np.inf), np.full(len(best), -np.inf)
    of_each: list[dict[str, Estimate]] = []
    for g, t in thresholds.items():
        if t is None:
            missing = Estimate(value=None, note="too few searches without a mate for this FPIR")
            return own, {f"{rate}@threshold={_DECIDED}": missing for rate in _ERRORS}
        m, n = (
            _of_gallery(of, g, len(scores))
            for of, scores in ((own.mate_gallery, mate), (own.nonmate_gallery, best))
        )
        hit[m & (mate >= t)] = alarm[n & (best >= t)] = 1.0
        of_each.append(search_errors_at(hit[m], own.rank[m], alarm[n], float(_DECIDED)))
    several = len(of_each) > 1
    shared = None if several else next(iter(thresholds.values()))
    counted = {
        name: replace(
            mean_of_galleries([each[name] for each in of_each]) if several else of_each[0][name],
            threshold=shared,
        )
        for name in of_each[0]
    }
    return replace(own, mate_score=hit, nonmate_score=alarm), counted
