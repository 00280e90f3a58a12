"""A report's table as HTML, which a notebook shows for a report by itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from evalkit.escaping import printable
from evalkit.report.table import cells, footnotes
from evalkit.types import Report

_STYLE = {  # of each column
    "metric": "text-align: left; white-space: nowrap",
    "value": "text-align: right; white-space: nowrap",
    "95 % interval": "text-align: right; white-space: nowrap",
    "support": "text-align: left",
}


def html_table(report: Report) -> str:
    """Lay out a report's metrics as a `<table>`; every text of the report is escaped."""
    head = _row("th", tuple(_STYLE))
    rows = "".join(_row("td", cells(name, m)) for name, m in report.metrics.items())
    notes = "".join(f"<div>{_text(line)}</div>" for line in footnotes(report))
    return (
        '<div class="tex2jax_ignore">'  # a name with dollar signs is no formula
        f"<table><caption>{_text(report.protocol)}</caption>"
        f"<thead>{head}</thead><tbody>{rows}</tbody></table>{notes}</div>"
    )


def _row(tag: str, texts: Sequence[str]) -> str:
    cells_of = zip(_STYLE.values(), texts, strict=True)
    made = (f'<{tag} style="{style}">{_text(text)}</{tag}>' for style, text in cells_of)
    return f"<tr>{''.join(made)}</tr>"


def _text(text: str) -> str:
    return escape(printable(text))
