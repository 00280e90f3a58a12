"""Error rates by group as text: a table for each column and threshold, made for 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evalkit.protocols.metrics.operating_point import FEW_ERRORS, threshold_text
from evalkit.protocols.metrics.vocabulary import read
from evalkit.report.spelling import row
from evalkit.report.sub_tables import SubTable, with_mark
from evalkit.types import Estimate, Report

_COUNTED = {"fmr": "false", "fnmr": "missed", "fte": "failed", "fpir": "alarms"}  # else found
_MANY = "one person has"  # of a note on the genuine pairs


@dataclass(slots=True)
class Point:
    """The metrics of a column's groups at one threshold.

    rates : "fmr", "fnmr" -> group -> estimate.  ratios : the same, to the geometric mean.
    every : of all groups, by name.
    """

    column: str
    label: str
    rates: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    ratios: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    every: dict[str, Estimate] = field(default_factory=dict)

    @property
    def fmr_within(self) -> list[Estimate]:
        """FMR of each group, without those between groups."""
        return [m for group, m in self.rates.get("fmr", {}).items() if "+" not in group]

    @property
    def threshold(self) -> float | None:
        """The threshold of all its rates."""
        thresholds = (m.threshold for of in self.rates.values() for m in of.values())
        return next((t for t in thresholds if t is not None), None)


def is_by_group(name: str) -> bool:
    """Tell whether a metric is of a group, or of all groups of a column."""
    reading = read(name)
    return reading is not None and reading.group is not None


def points_of(metrics: Mapping[str, Estimate]) -> list[Point]:
    """Sort the metrics that are by group: a point for each column and threshold, in their order.

    Its label is all that names say beside the group: of failures to enrol, and of ranks, "" or the
    set that is searched.
    """
    points: dict[tuple[str, str], Point] = {}
    for name, m in metrics.items():
        reading = read(name)
        if reading is None or reading.group is None:
            continue
        column, group = reading.group
        base, _, parameters = name.partition("@")
        of = f"{column}={group}" if group else f"by={column}"
        label = ",".join(each for each in parameters.split(",") if each != of)
        point = points.setdefault((column, label), Point(column, label))
        if not group:
            point.every[base] = m
        elif base.endswith("-ratio"):
            point.ratios.setdefault(base.removesuffix("-ratio"), {})[group] = m
        else:
            point.rates.setdefault(base, {})[group] = m
    return list(points.values())


def tables(report: Report) -> list[SubTable]:
    """Lay out a report's error rates by group; nothing where it has none."""
    sub_tables = []
    points = points_of(report.metrics)
    of_all = {(p.column, p.label): p for p in points}
    for point in points:
        pooled = of_all.get((point.column, point.label.replace("far-of-each", "far")), point)
        sub_tables.append(SubTable(title=_title(point, report)))
        sub_tables += [_rates(point, r, pooled) for r in point.rates if r not in ("tpr", "fnir")]
        sub_tables.append(SubTable(below=_unequal(point)))
    return with_mark(sub_tables, f"fewer than {FEW_ERRORS} errors: unreliable")


def _title(point: Point, report: Report) -> str:
    of = f"by {point.column}"
    kind, _, rest = point.label.partition("=")
    at, _, part = rest.partition(",")
    named = {
        "far": f"FAR {at} of all pairs",
        "far-of-each": f"FAR {at} in every group",
        "fpir": f"FPIR {at} of all searches",
    }
    if not point.label or "fte" in point.rates:
        counts = report.provenance.get("groups", {}).get(point.column, {})
        images = (f"{name} {n['images']:,} ({n['people']:,})" for name, n in counts.items())
        return f"{of}, images (people): {', '.join(images)}"
    if kind in named or kind == "threshold":
        shown = "" if point.threshold is None else f"threshold {threshold_text(point.threshold)}"
        part = "" if part in ("pairs=all", "mean=split") else part
        return ", ".join(filter(None, (of, part, named.get(kind), shown)))
    return f"{of}, {point.label}"


def _rates(point: Point, rate: str, pooled: Point) -> SubTable:
    """Lay out one rate of every group, with what it rests on.

    pooled : the point at the FAR of all pairs, from which FNMR has its cost.
    """
    ratios, costs = point.ratios.get(rate, {}), rate == "fnmr" and pooled is not point
    head = [rate.upper(), "value", "95 % interval", *["ratio"] * bool(ratios)]
    head += ["cost"] * costs + [_COUNTED.get(rate, "found"), "of", "people"]
    cells, reasons = [head], []
    for group, m in point.rates[rate].items():
        spelled = row(f"{rate}@{point.label}", m)
        counted = None if m.value is None else round(m.value * m.n)
        errors = counted if counted is None or rate in _COUNTED else m.n - counted
        few = errors is not None and errors < FEW_ERRORS and rate != "fte"
        mark = "* " if few else ""
        line = [mark + group, spelled.value, spelled.interval]
        if ratios:
            ratio = ratios[group].value if group in ratios else None
            line.append("" if ratio is None else f"{ratio:.2f}")
        if costs:
            before = (
                pooled.rates[rate][group].value if group in pooled.rates.get(rate, {}) else None
            )
            known = m.value is not None and before is not None
            line.append(f"{100 * ((m.value or 0) - (before or 0)):+.2f}" if known else "")
        cells.append([*line, "" if counted is None else f"{counted:,}", spelled.n, spelled.people])
        note = (
            m.note if m.value is None else next((n for n in m.note.split("; ") if _MANY in n), "")
        )
        reasons += [f"{group}: {note}"] * bool(note)
    return SubTable(cells=cells, left=(0, 2), below=reasons)


def _unequal(point: Point) -> list[str]:
    """Say how unequal the groups are, or why that is not said."""
    named = {
        "fmr-worst/best": "FMR worst/best",
        "fmr-equality": "p",
        "fnmr-worst/best": "FNMR worst/best",
        "fnmr-equality": "p",
        "fdr": "FDR",
        "ineq": "INEQ",
        "garbe": "GARBE",
    }
    measures = [(named[n], m) for n, m in point.every.items() if n in named]
    said = [f"{what} {m.value:.3g}" for what, m in measures if m.value is not None]
    notes = dict.fromkeys(m.note for _, m in measures if m.value is None)
    return [", ".join(said)] * bool(said) + [f"no index: {note}" for note in notes]
