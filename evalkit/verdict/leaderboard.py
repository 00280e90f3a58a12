"""Leaderboards: any number of reports in one table, ties with the best by a paired test.

Each report is a row, each metric a column; where a name stands for the reports of several sets, the
columns are those of each set.  `leaderboard_formats` writes it as text, Markdown, CSV and HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evalkit.errors import ReportError, UnknownMetricError
from evalkit.escaping import printable
from evalkit.protocols.metrics.vocabulary import better, canonical, resampling_of
from evalkit.protocols.uncertainty.paired import ALPHA, holm
from evalkit.report.spelling import row
from evalkit.report.table import caveat, failures, glossary, rests_on
from evalkit.types import Estimate, Report
from evalkit.verdict.compare import compare
from evalkit.verdict.rules import near

Column = tuple[str, str]  # set, "" where a row is of one; metric
Cell = tuple[str, Column]  # name of the row, column
Standing = Literal["best", "tied", "behind", "not compared", ""]
MEANING: dict[Standing, str] = {
    "best": "best of its column",
    "tied": f"not told from the best (paired test, Holm's p of the column >= {ALPHA})",
    "not compared": "not compared with the best",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Numbers of reports under the names of rows and columns.

    estimates : of the cells that a report has.
    standings : "best" of its column, "tied" with it (a paired test does not tell them apart),
    "behind" it, "not compared" with it; no entry where the column has no best: of one row, without
    a direction, or where no two reports may be compared.
    refusals : why a cell is not compared.
    cautions : of whole reports, by row: images without a template, intervals too short.
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    estimates: Mapping[Cell, Estimate]
    standings: Mapping[Cell, Standing]
    refusals: Mapping[Cell, str]
    cautions: Mapping[str, tuple[str, ...]]

    def sorted_by(self, metric: str) -> Leaderboard:
        """Order the rows by a metric, of several sets in their first, the best first.

        Rows without a number there come last, equal ones stay in their order.  UnknownMetricError
        where it is no column; ReportError where nothing says which way it is better.
        """
        name = canonical(metric)
        column = next((c for c in self.columns if c[1] == name), None)
        if column is None:
            known = dict.fromkeys(of for _, of in self.columns)
            raise UnknownMetricError(f"no such column: {metric!r}", near(name, [*known]))
        way = better(name)
        if way is None:
            raise ReportError(
                f"nothing says whether {name} is better high or low", "sort by another"
            )
        sign = -1 if way == "higher" else 1

        def place(row: str) -> tuple[bool, float]:
            cell = self.estimates.get((row, column))
            value = None if cell is None else cell.value
            return value is None, sign * (value or 0.0)

        return replace(self, names=tuple(sorted(self.names, key=place)))

    def notes(self) -> list[str]:
        """Say what stands below it: what numbers rest on, what makes them doubtful, what they are.

        A text is said once, after the rows, columns or cells that it is said of, if not of all.
        """
        cells = self.estimates
        lines = [
            *_gathered({at: rests_on(row(at[1][1], m)) for at, m in cells.items()}),
            *_gathered({at: row(at[1][1], m, counted=False).note for at, m in cells.items()}),
            *_gathered({at: self.refusals.get(at, "") for at in cells}),
            *(f"{name}: {text}" for name, texts in self.cautions.items() for text in texts),
            *glossary(dict.fromkeys(metric for _, metric in self.columns)),
        ]
        return [printable(line) for line in lines]


def leaderboard(
    reports: Sequence[Report],
    names: Sequence[str],
    *,
    sets: Sequence[str] | None = None,
    metrics: Iterable[str] = (),
    ranked: bool = True,
) -> Leaderboard:
    """Put reports into one table: a row per name, a column per metric, or per metric of a set.

    names : of the reports; one may stand for reports of several sets.  sets : what each report's
    set is called there; None takes the name that the report holds.
    metrics : the columns; without any, accuracy and TPR@FAR that all reports of a set have, else
    all metrics that they have in common.  ranked : compare the reports of a column.
    ReportError where two reports have one name and one set, or have no metric in common;
    UnknownMetricError for a metric that no report has.
    """
    called = [report.identity.set or "" for report in reports] if sets is None else sets
    if len(set(names)) == len(names):
        called = [""] * len(names)
    cells: dict[tuple[str, str], Report] = {}
    for name, of_set, report in zip(names, called, reports, strict=True):
        if (name, of_set) in cells:
            which = f" of {of_set}" if of_set else ""
            raise ReportError(
                f"two reports{which} are called {name!r}", "give each its own --name NAME"
            )
        cells[name, of_set] = report
    wanted = [_known(metric, reports) for metric in metrics]
    columns: list[Column] = []
    estimates: dict[Cell, Estimate] = {}
    standings: dict[Cell, Standing] = {}
    refusals: dict[Cell, str] = {}
    for of_set in dict.fromkeys(called):
        group = {name: report for (name, of), report in cells.items() if of == of_set}
        for metric, column in ((m, (of_set, m)) for m in wanted or _shared([*group.values()])):
            columns.append(column)
            estimates |= {(n, column): r[metric] for n, r in group.items() if metric in r}
        if not ranked:
            continue
        of_group, why = _standings(group, [metric for of, metric in columns if of == of_set])
        standings |= {(name, (of_set, metric)): s for (name, metric), s in of_group.items()}
        refusals |= {(name, (of_set, metric)): text for (name, metric), text in why.items()}
    return Leaderboard(
        names=tuple(dict.fromkeys(names)),
        columns=tuple(columns),
        estimates=estimates,
        standings=standings,
        refusals=refusals,
        cautions=_cautions(cells),
    )


def _cautions(held: Mapping[tuple[str, str], Report]) -> dict[str, tuple[str, ...]]:
    """Say of each row what no column says: intervals that are too short, failed images."""
    cautions: dict[str, tuple[str, ...]] = {}
    for (name, of_set), report in held.items():
        of = f" of {of_set}" if of_set else ""
        short = f"95 % intervals{of} {caveat(report)}" if caveat(report) else ""
        failed = f"{failures(report)}{of}" if failures(report) else ""
        cautions[name] = (*cautions.get(name, ()), *filter(None, (short, failed)))
    return cautions


def _known(metric: str, reports: Sequence[Report]) -> str:
    """Spell a metric as reports do; UnknownMetricError where none has it."""
    name, known = canonical(metric), dict.fromkeys(n for r in reports for n in r.metrics)
    if name not in known:
        raise UnknownMetricError(f"no such metric: no report has {metric!r}", near(name, [*known]))
    return name


def _shared(reports: Sequence[Report]) -> list[str]:
    """Name the metrics that all reports have: accuracy and TPR@FAR, or all where none of these."""
    shared = [n for n in reports[0].metrics if all(n in report for report in reports)]
    if not shared:
        raise ReportError(
            f"the {len(reports)} reports have no metric in common",
            "choose the columns by --metric, which one report need not have",
        )
    return [name for name in shared if headline(name)] or shared


def headline(name: str) -> bool:
    """Tell whether a metric is a column without being asked for: accuracy and TPR@FAR."""
    return name == "accuracy" or resampling_of(name)[0] == "tpr"


def _standings(
    reports: Mapping[str, Report], metrics: Sequence[str]
) -> tuple[dict[tuple[str, str], Standing], dict[tuple[str, str], str]]:
    """Hold each report against the best of each metric; and why not, where that cannot be."""
    best = {m: name for m in metrics if (name := _best(reports, m)) is not None}
    p: dict[str, dict[str, float]] = {metric: {} for metric in best}
    refused: dict[tuple[str, str], str] = {}
    for leader in dict.fromkeys(best.values()):
        led = [metric for metric, name in best.items() if name == leader]
        for name, report in reports.items():
            here = [metric for metric in led if metric in report.flat()]
            if name == leader or not here:
                continue
            paired, why = _paired(reports[leader], report, here)
            for metric in here:
                if metric in paired:
                    p[metric][name] = paired[metric]
                else:
                    refused[name, metric] = f"not compared with {leader} (the first report): {why}"
    if refused and not any(p.values()):
        why = f"no best is marked; {next(iter(refused.values()))}"
        return {}, {(name, metric): why for name in reports for metric in metrics}
    standings: dict[tuple[str, str], Standing] = dict.fromkeys(refused, "not compared")
    for metric, of in p.items():
        if of:  # else nothing says that it is the best
            standings[best[metric], metric] = "best"
        for name, adjusted in zip(of, holm([*of.values()]), strict=True):
            standings[name, metric] = "tied" if adjusted >= ALPHA else "behind"
    return standings, refused


def _best(reports: Mapping[str, Report], metric: str) -> str | None:
    """Name the report with the best value, the first of equal ones; None where none is better."""
    way = better(metric)
    values = {name: v for name, r in reports.items() if (v := r.flat().get(metric)) is not None}
    if way is None or len(values) < 2:
        return None
    choose: Callable[..., str] = max if way == "higher" else min
    return choose(values, key=lambda name: values[name])


def _paired(base: Report, other: Report, metrics: Sequence[str]) -> tuple[dict[str, float], str]:
    """Give the p of each metric with a paired test, and why others have none."""
    try:
        comparison = compare(base, other, names=metrics)
    except ReportError as e:
        return {}, e.message
    p = {
        metric: comparison.differences[metric].p
        for metric in metrics
        if metric in comparison.differences
    }
    return p, comparison.why_unpaired or "it cannot be resampled"


def _gathered(said: Mapping[Cell, str]) -> list[str]:
    lines = []
    for text in dict.fromkeys(filter(None, said.values())):
        of = [at for at, each in said.items() if each == text]
        others = [at for at, each in said.items() if each != text]
        rows = dict.fromkeys(name for name, _ in of)
        columns = dict.fromkeys(column for _, column in of)
        if not others:
            labels = []
        elif rows.keys().isdisjoint(name for name, _ in others):
            labels = [*rows]
        elif columns.keys().isdisjoint(column for _, column in others):
            labels = [heading(column) for column in columns]
        else:
            labels = [f"{name} {heading(column)}" for name, column in of]
        lines.append(": ".join(filter(None, (", ".join(labels), text))))
    return lines


def heading(column: Column) -> str:
    """Spell what a column is of."""
    return " ".join(filter(None, column))
