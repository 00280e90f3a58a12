"""A report's metrics spelled: the table that every command prints, and that of a notebook."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape

from evalkit.escaping import WIDTH, laid_out, printable
from evalkit.protocols.metrics.score_unit import SCORE, as_given, score_unit
from evalkit.protocols.metrics.vocabulary import metric_of
from evalkit.protocols.uncertainty.intervals import WITHOUT_PEOPLE
from evalkit.report import group_table, quality_table, size_table
from evalkit.report.spelling import Row, row, wrapped
from evalkit.report.sub_tables import SubTable, lines
from evalkit.types import Report

FEW_PEOPLE = 100  # fewer do not rule out that one in thirty is hardly recognised
_MOST_MEANINGS, _MOST_NAMES = 6, 3  # below a table


HEADINGS = {
    "name": "metric",
    "value": "value",
    "error": "standard error",
    "interval": "95 % interval",
    "n": "n",
    "people": "people",
    "threshold": "threshold",
    "false_accepts": "false accepts",
    "note": "note",
}
_BESIDE = ("value", "interval", "threshold", "false_accepts")  # a name, in a terminal


def columns(report: Report) -> dict[str, list[str]]:
    """Lay out a report's metrics by column: heading -> a cell per metric; no empty columns."""
    rows = [row(name, m) for name, m in as_given(report).metrics.items()]
    of = {heading: [getattr(r, field) for r in rows] for field, heading in HEADINGS.items()}
    return {heading: cells for heading, cells in of.items() if any(cells)}


def table(report: Report, title: str = "") -> str:
    """Lay out a report's metrics as text of at most 80 columns.

    A line says how many comparisons of how many people the metrics below it rest on; a name that
    leaves no room stands on a line of its own; "*" before it marks a note below the table.
    """
    report = as_given(report)
    metrics = {name: m for name, m in report.metrics.items() if not is_in_sub_table(name)}
    rows = [row(name, m) for name, m in metrics.items()]
    above = [printable(title)] if title else []
    below = [*footnotes(replace(report, metrics=metrics)), *lines(sub_tables(report))]
    return "\n".join([*above, *_grouped(rows), *below])


def is_in_sub_table(name: str) -> bool:
    """Tell whether a metric stands in one of `sub_tables`, and not among the others."""
    kinds = group_table.is_by_group, quality_table.is_of_quality, size_table.is_by_size
    return any(is_one(name) for is_one in kinds)


def sub_tables(report: Report) -> list[SubTable]:
    """Lay out the metrics that are too many for one list, each kind as a table of its own."""
    kinds = size_table.tables, group_table.tables, quality_table.tables
    return [table for tables in kinds for table in tables(report)]


def _grouped(rows: Sequence[Row]) -> list[str]:
    """Lay out the rows under their headings and, wherever it changes, what they rest on."""
    if not rows:
        return []
    shown = [field for field in _BESIDE if any(getattr(r, field) for r in rows)]
    cells = [[HEADINGS[f] for f in shown], *([getattr(r, f) for f in shown] for r in rows)]
    room = WIDTH - 2 - sum(2 + max(map(len, column)) for column in zip(*cells, strict=True))
    names = [r.name if len(r.name) <= room else "" for r in rows]
    beside = zip(["", *names], cells, strict=True)
    head, *laid = laid_out([[name, *of] for name, of in beside], left=(0, 2))
    lines, last = [f"  {head}"], ""
    for r, name, line in zip(rows, names, laid, strict=True):
        if (rests := rests_on(r)) not in ("", last):
            lines.append(rests)
            last = rests
        mark = "* " if r.note and r.value != "-" else "  "
        lines += [mark + r.name] * (not name)
        lines += [(mark if name else "  ") + line] if r.value != "-" else _reason(line, r.note)
    return lines


def rests_on(r: Row) -> str:
    """Say how many comparisons of how many people a metric rests on."""
    metric = metric_of(r.name)
    what = f"n={r.n} {metric.counts}" if metric else f"n={r.n}"
    return (f"{what}, {r.people} people" if r.people else what) if r.n else ""


def _reason(line: str, note: str) -> list[str]:
    """Put the reason for a missing value beside its "-"."""
    first, *more = wrapped(note, len(line) + 4) or [""]
    return [f"  {line}  {first.strip()}".rstrip(), *more]


def footnotes(report: Report) -> list[str]:
    """Say below the text table what its marks mean, and what stands below any."""
    rows = [row(name, m) for name, m in report.metrics.items()]
    errors = [r for r in rows if r.error and r.value != "-"]
    over = "splits" if any("mean=split" in r.name for r in errors) else "folds"
    shown = "; ".join(f"{r.name} {r.value} ± {r.error}" for r in errors)
    lines = [f"± standard error over {over}: {shown}"] if errors else []
    lines += [f"* {note}" for note in notes({"": report}, counted=True)]
    lines += below_columns(report)
    return [part for line in lines for part in wrapped(line, 4, 0 if line[0] == "*" else 2)]


def below_columns(report: Report) -> list[str]:
    """Say below any table what no column says: its intervals, failed images, what metrics mean."""
    lines = [f"95 % intervals {why}" for why in (caveat(report), few_people(report)) if why]
    unit = score_unit(report.provenance)
    if unit != SCORE and any(m.threshold is not None for m in report.metrics.values()):
        lines.append(f"accepted if and only if {unit} <= threshold")
    if failed := failures(report):
        keys = report.failures.keys
        shown = ", ".join(keys[:3]) + (", ..." if report.failures.images > 3 else "")
        lines.append(f"{failed} ({shown})" if keys else failed)
    return [*map(printable, lines), *glossary(report.metrics)]


def notes(reports: Mapping[str, Report], *, counted: bool = False) -> list[str]:
    """Collect what makes values of reports doubtful: "metrics: note", the report's name before it.

    reports : by the name that tells one from the others.  counted : false accepts are shown beside
    the values.  Any table of several reports ends with these.
    """
    by_note: dict[str, list[str]] = {}
    for label, report in reports.items():
        for name, m in report.metrics.items():
            if m.note and m.value is not None:
                note = row(name, m, counted=counted).note
                by_note.setdefault(note, []).append(printable(f"{label} {name}".strip()))
    return [f"{_listed(names)}: {note}" for note, names in by_note.items()]


def support(reports: Mapping[str, Report], names: Collection[str]) -> tuple[str, ...]:
    """Say what metrics of several reports rest on, and what makes them doubtful: lines of text.

    reports : of the same comparisons, by the name that tells one from the others.  names : of the
    metrics shown.  Any table that sets reports side by side ends with these.
    """
    shown = {
        label: replace(report, metrics={n: m for n, m in report.metrics.items() if n in names})
        for label, report in reports.items()
    }
    by_support: dict[str, dict[str, None]] = {}
    for report in shown.values():
        for name, m in report.metrics.items():
            if m.value is not None and (rests := rests_on(row(name, m))):
                by_support.setdefault(rests, {}).setdefault(printable(name))
    return (*(f"{rests}: {', '.join(of)}" for rests, of in by_support.items()), *notes(shown))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def glossary(names: Iterable[str], most: int = _MOST_MEANINGS) -> list[str]:
    """Say what each metric is, one line each, or where that is said if there are more than most."""
    meanings = {metric.grammar: metric.means for name in names if (metric := metric_of(name))}
    if len(meanings) > most:
        return ["what each of these is: evalkit list --metrics"]
    return [f"{grammar}: {means}" for grammar, means in meanings.items()]


def failures(report: Report) -> str:
    """Count the images without a template, and the comparisons rejected for them; "" for none."""
    f = report.failures
    counted = f"{f.genuine:,} genuine and {f.impostor:,} impostor comparisons rejected"
    images = "1 image" if f.images == 1 else f"{f.images:,} images"
    return f"{images} without a template: {counted}" if f.images else ""


def caveat(report: Report) -> str:
    """Say what is wrong with a report's intervals; empty where they are by subject."""
    ignorant = any(m.interval.endswith(WITHOUT_PEOPLE) for m in report.metrics.values())
    return f"by comparison: {WITHOUT_PEOPLE}" if ignorant else ""


def few_people(report: Report) -> str:
    """Say why a report's intervals are wide; empty where none is of fewer than a hundred people."""
    counted = [m.people for m in report.metrics.values() if m.people and m.low is not None]
    fewest = min(counted, default=FEW_PEOPLE)
    return f"leave room for one person unseen beside {fewest}" if fewest < FEW_PEOPLE else ""


def accepts(n: int) -> str:
    """Count false accepts in words."""
    return f"{n:,} false accept{'' if n == 1 else 's'}"


_ALIGNED = {"metric": "left", "note": "left"}  # of a notebook's columns; others end together


def html_table(report: Report) -> str:
    """Lay out a report's metrics as a `<table>`; every text of the report is escaped."""
    of = columns(report)
    rows = "".join(_html_row("td", of, cells) for cells in zip(*of.values(), strict=True))
    below = "".join(f"<div>{_text(line)}</div>" for line in below_columns(report))
    return (
        '<div class="tex2jax_ignore">'  # a name with dollar signs is no formula
        f"<table><caption>{_text(report.protocol)}</caption>"
        f"<thead>{_html_row('th', of, of)}</thead><tbody>{rows}</tbody></table>{below}</div>"
    )


def _html_row(tag: str, headings: Iterable[str], cells: Iterable[str]) -> str:
    made = (
        f'<{tag} style="text-align: {_ALIGNED.get(heading, "right")}">{_text(cell)}</{tag}>'
        for heading, cell in zip(headings, cells, strict=True)
    )
    return f"<tr>{''.join(made)}</tr>"


def _text(text: str) -> str:
    return escape(printable(text))
