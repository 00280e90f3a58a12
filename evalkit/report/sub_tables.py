"""Tables of their own for metrics that are many: by group, by quality, by gallery size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.escaping import laid_out, printable
from evalkit.report.spelling import wrapped


@dataclass(frozen=True, slots=True, kw_only=True)
class SubTable:
    """One table below that of all other metrics.

    title : empty where it goes on with the table before it.  cells : rows, the first the headings.
    left : columns of words.  below : lines that explain it.  mark : what "* " before a row means,
    here and in the tables above.
    """

    title: str = ""
    cells: Sequence[Sequence[str]] = ()
    left: tuple[int, ...] = (0,)
    below: Sequence[str] = ()
    mark: str = ""


def lines(tables: Sequence[SubTable]) -> list[str]:
    """Lay tables out as text of at most 80 columns."""
    text_lines: list[str] = []
    for table in tables:
        text_lines += ["", *wrapped(table.title, 2, 0)] if table.title else []
        text_lines += [f"  {line}" for line in laid_out(table.cells, left=table.left)]
        text_lines += [line for text in dict.fromkeys(table.below) for line in wrapped(text, 4, 2)]
        text_lines += ["", f"* {table.mark}"] if table.mark else []
    return [*map(printable, text_lines)]


def with_mark(tables: Sequence[SubTable], meaning: str) -> list[SubTable]:
    """Say below tables what "* " before a row means, where one has it."""
    marked = any(row and row[0].startswith("* ") for table in tables for row in table.cells)
    return [*tables, *[SubTable(mark=meaning)] * marked]
