"""Error rates by group in the report of any protocol that keeps its comparisons or searches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.protocols.groups import indices
from evalkit.protocols.groups.cells import GroupCell, cells_of
from evalkit.protocols.groups.conditions import Condition, PairCondition
from evalkit.protocols.groups.grouping import Grouping
from evalkit.protocols.groups.partition import By, ComparedRows, parted, refuse_other_rows
from evalkit.protocols.groups.rates import CellRates, points_of, rates_at, threshold_of_each
from evalkit.protocols.groups.searches import ProbeRows, searches_by_group
from evalkit.protocols.metrics.operating_point import FEW_ERRORS, few_errors
from evalkit.protocols.uncertainty.intervals import (
    DRAWS,
    LEVEL,
    WORK,
    affordable,
    bounded,
    independent,
)
from evalkit.protocols.uncertainty.outcomes import (
    Outcomes,
    PairOutcomes,
    SearchOutcomes,
    SetOutcomes,
)
from evalkit.protocols.uncertainty.paired import holm
from evalkit.protocols.uncertainty.resampling import metric_ends
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.types import Estimate, Floats, PairSet, Report

Metrics = dict[str, Estimate]
FEWEST_PEOPLE = 10  # of a group, for an index


def with_groups(
    report: Report,
    outcomes: Outcomes,
    groups: Sequence[By],
    *,
    sides: Sequence[ComparedRows] = (),
    listed: PairSet | None = None,
    probes: ProbeRows | None = None,
    part: str = "",
    seed: int = 0,
) -> Report:
    """Add the error rates of groups to a report, at each threshold that its metrics have.

    outcomes : its own.  groups : a column each; none leaves the report as it is.  sides : rows that
    are compared, of a set with itself one, of two sets two; of a list those whose images it names;
    of searches the probes.  listed : the pairs, where sets are of a list.  probes : of searches.
    part : of the report's outcomes (`outcomes.parts_of`).  seed : of the people drawn.
    Metrics, of a column `sex`, at each FAR of the report (`far=x`) and each given threshold
    (`threshold=t`): fmr@far=x,sex=female within a group, fmr@far=x,sex=female+male between two;
    fnmr and tpr; fmr-ratio and fnmr-ratio to the geometric mean; fmr-worst/best, fnmr-worst/best,
    fdr, ineq, garbe, gini-fmr, gini-fnmr, fmr-equality and fnmr-equality of all groups, ",by=sex";
    at each FAR fmr@far-of-each=x and fnmr@far-of-each=x, the threshold then being one that holds
    the FAR within every group; fte@sex=female where `sides` are given; of searches those of
    `searches_by_group`.  Of a part its parameters follow: fmr@far=x,sex=female,distractors=10.
    Rows of an unknown group are in no rate, and counted in the provenance.
    ProtocolError where nobody knows who is compared, or a column knows no group of these rows.
    """
    refuse_other_rows(groups, None)
    if not groups:
        return report
    if probes is None and not isinstance(outcomes, PairOutcomes | SetOutcomes):
        raise ProtocolError("searches alone have no pairs of groups", "give the list of pairs")
    estimates: Metrics = {}
    counts: dict[str, Any] = {}
    parts: dict[str, NDArray[Any]] = {}
    known = [side for side in sides if side.row.max(initial=-1) >= 0]
    for by in groups:
        if known and not isinstance(by, PairCondition):
            counts[by.column] = group_counts(by, known)
        if isinstance(outcomes, PairOutcomes | SetOutcomes):
            whole = sample_of(outcomes)
            partition = parted(outcomes, by, sides, whole.subjects, listed)
            cells = list(cells_of(partition, outcomes, whole))
            estimates |= _of_column(report.metrics, by.column, cells, whole, part, seed)
            parts |= partition.arrays(part)
        searches = outcomes.searches if isinstance(outcomes, SetOutcomes) else outcomes
        if probes is not None and isinstance(searches, SearchOutcomes):
            estimates |= searches_by_group(report.metrics, searches, probes, by, part, seed)
        if known and isinstance(by, Grouping):
            estimates |= failures_to_enrol(by, known, seed)
    return replace(
        report,
        metrics={**report.metrics, **estimates},
        provenance={**report.provenance, "groups": counts},
        outcomes={**(report.outcomes or {}), **parts},
    )


def _of_column(
    metrics: Mapping[str, Estimate],
    column: str,
    cells: Sequence[GroupCell],
    whole: ComparisonSample,
    part: str,
    seed: int,
) -> Metrics:
    """Measure the groups of one column at every threshold of the report, or of a part of it."""
    within = [cell for cell in cells if cell.within]
    points, refused = points_of(metrics, part), {}
    for far in [point.removeprefix("far=") for point in points if point.startswith("far=")]:
        threshold, note = threshold_of_each(within, far)
        if threshold is None:
            refused[f"far-of-each={far}"] = note
        else:
            points[f"far-of-each={far}"] = threshold
    draws = affordable(DRAWS, whole, WORK if whole.unit == "subject" else WORK // 10)
    rates = rates_at(cells, whole, list(dict.fromkeys(points.values())), draws, seed)
    estimates: Metrics = {}
    for point, threshold in points.items():
        of_each = point.startswith("far-of-each")
        shown = [r for r in rates[threshold] if r.cell.within or not of_each]
        estimates |= _spelled(shown, point, column)
        if not of_each:
            estimates |= _unequal([r for r in shown if r.cell.within], point, column)
    for point, note in refused.items():
        missing = Estimate(value=None, note=note)
        estimates |= {f"{r}@{point},{column}={c.name}": missing for c in within for r in _RATES}
    end = f",{part}" if part else ""
    return {name + end: m for name, m in _adjusted(estimates).items()}


_RATES = "fmr", "fnmr"


def _spelled(rates: Sequence[CellRates], point: str, column: str) -> Metrics:
    """Name the rates of every cell; FNMR, and at a FAR TPR, of cells with genuine comparisons."""
    estimates: Metrics = {}
    for r in rates:
        at = f"@{point},{column}={r.cell.name}"
        estimates[f"fmr{at}"] = r.fmr
    for r in rates:
        if r.fnmr.n or r.cell.within:
            estimates[f"fnmr@{point},{column}={r.cell.name}"] = r.fnmr
    for r in rates:
        if point.startswith("far=") and r.fnmr.value is not None:
            estimates[f"tpr@{point},{column}={r.cell.name}"] = _complement(r.fnmr)
    return estimates


def _complement(m: Estimate) -> Estimate:
    """Turn FNMR into TPR: 1 - v, by the counts behind it."""
    if m.value is None or m.low is None or m.high is None:
        return m
    hits = m.n - round(m.value * m.n)
    return replace(m, value=hits / m.n, low=1 - m.high, high=1 - m.low)


def _unequal(within: Sequence[CellRates], point: str, column: str) -> Metrics:
    """Ratios, indices and tests of equality of the rates within groups at one threshold."""
    every = f"@{point},by={column}"
    estimates: Metrics = {}
    reasons = {rate: _too_few(within, rate) for rate in _RATES}
    values = {rate: np.array([getattr(r, rate).value or 0.0 for r in within]) for rate in _RATES}
    for rate in _RATES:
        n = sum(getattr(r, rate).n for r in within)
        if reasons[rate]:
            missing = Estimate(value=None, n=n, note=reasons[rate])
            estimates |= {f"{rate}-ratio@{point},{column}={r.cell.name}": missing for r in within}
            names = (f"{rate}-worst/best", f"gini-{rate}", f"{rate}-equality")
            estimates |= {f"{name}{every}": missing for name in names}
            continue
        drawn = np.stack([getattr(r, f"{rate}_drawn") for r in within])
        for name, m in _ratios(within, values[rate], drawn, n).items():
            estimates[f"{rate}-ratio@{point},{column}={name}"] = m
        smallest = min(getattr(r, rate).people for r in within)
        measured = {
            f"{rate}-worst/best": indices.worst_over_best(values[rate]),
            f"gini-{rate}": indices.gini(values[rate]),
            f"{rate}-equality": indices.equality(drawn, values[rate], smallest),
        }
        estimates |= {f"{name}{every}": Estimate(value=v, n=n) for name, v in measured.items()}
    both: dict[str, Callable[[Floats, Floats], float]] = {
        "fdr": indices.fdr,
        "ineq": indices.ineq,
        "garbe": indices.garbe,
    }
    reason = reasons["fmr"] or reasons["fnmr"]
    for name, index in both.items():
        value = None if reason else index(values["fmr"], values["fnmr"])
        n = sum(r.fmr.n + r.fnmr.n for r in within)
        estimates[f"{name}{every}"] = Estimate(value=value, n=n, note=reason)
    return estimates


def _too_few(within: Sequence[CellRates], rate: str) -> str:
    """Say why groups cannot be held against each other; empty where they can."""
    if len(within) < 2:
        return "there is one group"
    for r in within:
        m: Estimate = getattr(r, rate)
        if m.value is None:
            return f"{r.cell.name} has no {rate.upper()}: {m.note}"
        errors, what = round(m.value * m.n), "false matches" if rate == "fmr" else "misses"
        if errors < FEW_ERRORS:
            return f"{r.cell.name} has {errors} {what}, and fewer than {FEW_ERRORS} show chance"
        if (m.people or 0) < FEWEST_PEOPLE:
            return (
                f"{r.cell.name} has {m.people} people, and fewer than {FEWEST_PEOPLE} show chance"
            )
    return ""


def _ratios(within: Sequence[CellRates], values: Floats, drawn: Floats, n: int) -> Metrics:
    """Each group's rate over the geometric mean of all, with the quantiles of the draws."""
    drawn = drawn[:, (drawn > 0).all(axis=0)]
    of_draws = indices.over_geometric_mean(drawn)
    tail = (1 - LEVEL) / 2
    ends = np.quantile(of_draws, [tail, 1 - tail], axis=1, method="weibull")
    ratios = indices.over_geometric_mean(values)
    return {
        r.cell.name: Estimate(
            value=float(ratio),
            low=min(float(low), float(ratio)),
            high=max(float(high), float(ratio)),
            n=n,
            people=r.fmr.people,
            interval=f"{LEVEL:.0%} by subject, {drawn.shape[1]:,} draws",
        )
        for r, ratio, low, high in zip(within, ratios, *ends, strict=True)
    }


def _adjusted(found: Metrics) -> Metrics:
    """Adjust the p-values of a column together [Holm 1979]."""
    tests = [name for name, m in found.items() if "-equality@" in name and m.value is not None]
    raw = [found[name].value or 0.0 for name in tests]
    for name, p, adjusted in zip(tests, raw, holm(raw), strict=True):
        note = f"one of {len(tests)} tests, alone p = {p:.2g}"
        found[name] = replace(found[name], value=adjusted, note=note if len(tests) > 1 else "")
    return found


def failures_to_enrol(by: Grouping, sides: Sequence[ComparedRows], seed: int) -> Metrics:
    """Share of each group's images without a template, by subject."""
    shares = {}
    for place, group in enumerate(by.names):
        mine = [by.code[side.row] == place for side in sides]
        lost = np.concatenate([side.lost[m] for side, m in zip(sides, mine, strict=True)])
        who = np.concatenate([side.person[m] for side, m in zip(sides, mine, strict=True)])
        shares[f"fte@{by.column}={group}"] = _share_lost(lost, who, seed)
    return shares


def _share_lost(lost: Any, who: Any, seed: int) -> Estimate:
    """Share of images lost, drawn as the FNMR of comparisons that are lost or score 1."""
    n, failed = len(lost), int(np.count_nonzero(lost))
    if not n:
        return Estimate(value=None, note="no images")
    nobody, nothing = np.empty(0, np.int64), np.empty(0)
    sample = sample_of(
        SetOutcomes(
            genuine_score=np.where(lost, -np.inf, 1.0),
            genuine_subject=np.unique(who, return_inverse=True)[1],
            impostor_score=nothing,
            impostor_left=nobody,
            impostor_right=nobody,
            impostors=0,
        )
    )
    m = Estimate(value=failed / n, n=n, note=few_errors(errors=failed) if failed else "")
    name, people = "fnmr@threshold=0.5", independent(sample, "fnmr@threshold=0.5")
    drawn = metric_ends(sample, [name], affordable(DRAWS, sample, WORK), seed)
    return replace(bounded(m, drawn[name], people, seed), people=people)


def group_counts(
    by: Grouping | Condition, sides: Sequence[ComparedRows]
) -> dict[str, dict[str, int]]:
    """Images and people of each group, and of none; of a condition, those with a number."""
    of_rows = by.code if isinstance(by, Grouping) else np.where(np.isnan(by.value), -1, 0)
    names = by.names if isinstance(by, Grouping) else ("known",)
    for total in (side.total for side in sides if side.total is not None):
        refuse_other_rows([by], total)
    if (last := max(int(side.row.max(initial=-1)) for side in sides)) >= len(of_rows):
        raise ProtocolError(
            f"column {by.column!r} groups {len(of_rows)} rows, and row {last} is compared"
        )
    counts: dict[str, dict[str, int]] = {}
    for place, name in [*enumerate(names), (-1, "unknown")]:
        mine = [of_rows[side.row] == place for side in sides]
        who = [side.person[m] for side, m in zip(sides, mine, strict=True)]
        images = sum(int(np.count_nonzero(m)) for m in mine)
        counts[name] = {"images": images, "people": len(np.unique(np.concatenate(who)))}
    if not any(counts[name]["images"] for name in names):
        raise ProtocolError(f"column {by.column!r} knows the group of no image that is compared")
    return counts
