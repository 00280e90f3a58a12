"""Leaderboards as text of 80 columns, Markdown, CSV and one HTML page."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Callable, Sequence

from evalkit.escaping import WIDTH, laid_out, printable
from evalkit.report.markdown import escaped, table_of
from evalkit.report.page import rendered
from evalkit.report.spelling import Row, row
from evalkit.types import Estimate
from evalkit.verdict.leaderboard import MEANING, Column, Leaderboard, Standing, heading

MARKS: dict[Standing, str] = {"best": "+", "tied": "=", "not compared": "?"}
_OF_A_CELL = ("low", "high", "n", "people", "standing", "note")  # beside its value, in CSV
_FORMULA = ("=", "+", "-", "@")  # a spreadsheet computes a text that begins so


def text(board: Leaderboard) -> str:
    """Lay out a leaderboard as text; what is wider than 80 columns goes on below, names again."""
    names = ["", "", *map(printable, board.names)]
    room = WIDTH - max(map(len, names))
    blocks: list[list[list[str]]] = [[]]
    left = room
    for column in board.columns:
        cells = _laid(board, column)
        width = 2 + max(map(len, cells))
        if width > left and blocks[-1]:
            blocks.append([])
            left = room
        blocks[-1].append(cells)
        left -= width
    lines = []
    for block in blocks:
        rows = laid_out([*zip(names, *block, strict=True)], left=range(len(block) + 1))
        lines += [line for line in rows if line]
    for note in [*legend(board), *board.notes()]:
        lines += textwrap.wrap(
            note, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    return "\n".join(map(printable, lines))


def markdown(board: Leaderboard) -> str:
    """Write a leaderboard as a Markdown table, and its notes as a list below it."""
    head = ["", *(escaped(heading(column)) for column in board.columns)]
    rows = [[name, *(_cell(board, name, c) for c in board.columns)] for name in board.names]
    below = [f"- {escaped(note)}" for note in [*legend(board), *board.notes()]]
    return "\n".join([*table_of(head, rows), "", *below])


def csv_text(board: Leaderboard) -> str:
    """Write a leaderboard as CSV: a row a name, and for each column value, interval, n and notes.

    Values are fractions of 1, empty where there is none.  Before a text that a spreadsheet would
    compute stands an apostrophe.
    """
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    names = [heading(column) for column in board.columns]
    fields = [f"{name} {field}".strip() for name in names for field in ("", *_OF_A_CELL)]
    table.writerow(map(_safe, ["name", *fields, "note"]))
    for name in board.names:
        cells = (value for column in board.columns for value in _plain(board, name, column))
        table.writerow([_safe(name), *cells, _safe("; ".join(board.cautions[name]))])
    return buffer.getvalue().rstrip("\n")


def html(board: Leaderboard) -> str:
    """Write a leaderboard as one HTML page without network."""
    heads = [*zip(*board.columns, strict=True)]
    rows = [
        {"name": name, "cells": [_html_cell(board, name, column) for column in board.columns]}
        for name in board.names
    ]
    return rendered(
        "leaderboard.html",
        title="Reports in one table",
        head=[head for head in heads if any(head)],
        rows=rows,
        notes=[*legend(board), *board.notes()],
    ).rstrip("\n")


def _html_cell(board: Leaderboard, name: str, column: Column) -> dict[str, str]:
    cell, standing = _spelled(board, name, column), board.standings.get((name, column), "")
    shown = {"value": cell.value, "interval": cell.interval}
    return {**shown, "standing": standing, "mark": MARKS.get(standing, "")}


FORMATS: dict[str, Callable[[Leaderboard], str]] = {
    "text": text,
    "markdown": markdown,
    "csv": csv_text,
    "html": html,
}


def legend(board: Leaderboard) -> list[str]:
    """Say what the brackets and marks mean that the leaderboard has."""
    standings = set(board.standings.values())
    lines = [
        f"{MARKS[standing]} {MEANING[standing]}" for standing in MARKS if standing in standings
    ]
    intervals = any(m.low is not None for m in board.estimates.values())
    return ["[ ] 95 % interval", *lines] if intervals else lines


def _laid(board: Leaderboard, column: Column) -> list[str]:
    """Lay out a column: set, metric, then a line per row."""
    of_set, metric = column
    cells = [_spelled(board, name, column) for name in board.names]
    marks = [MARKS.get(board.standings.get((name, column), ""), "") for name in board.names]
    rows = [(c.value, c.interval, mark) for c, mark in zip(cells, marks, strict=True)]
    return [printable(of_set), printable(metric), *laid_out(rows, left=(2,))]


def _cell(board: Leaderboard, name: str, column: Column) -> str:
    cell = _spelled(board, name, column)
    mark = MARKS.get(board.standings.get((name, column), ""), "")
    return " ".join(filter(None, (cell.value, cell.interval, mark)))


def _spelled(board: Leaderboard, name: str, column: Column) -> Row:
    """Spell a cell; one that no report has is empty."""
    m = board.estimates.get((name, column))
    return Row(name="", value="") if m is None else row(column[1], m, counted=False)


def _plain(board: Leaderboard, name: str, column: Column) -> Sequence[object]:
    m = board.estimates.get((name, column), Estimate(value=None))
    standing = board.standings.get((name, column), "")
    note = "; ".join(filter(None, (m.note, board.refusals.get((name, column)))))
    return m.value, m.low, m.high, m.n or None, m.people, standing, _safe(note)


def _safe(cell: str) -> str:
    shown = printable(cell)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
