"""Escaping of untrusted names and texts: control characters, CI commands."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

WIDTH = 80  # columns of a terminal
# GitHub obeys a line that begins with "::", blanks before it or not, and "##[error]" anywhere in
# one; Azure "##vso[", TeamCity "##teamcity[".
_COMMAND = re.compile(r"^( *):(?=:)|#(?=#\w*\[)")


def printable(text: str) -> str:
    r"""Spell a text on one line that neither drives a terminal nor commands a CI system.

    Line breaks, control characters, marks of writing direction, signs without width and the bytes
    of a name that is not UTF-8 are spelled as Python spells them; of a workflow command, the first
    character is.  A text that holds none of these, and one escaped before, stay as they are.

    >>> print(printable("a\n::error::b"), printable("::error::b"), printable("##vso[task"))
    a\n::error::b \x3a:error::b \x23#vso[task
    """
    one_line = "".join(c if c.isprintable() else _spelled(c) for c in text)
    return _COMMAND.sub(lambda found: rf"{found[1] or ''}\x{ord(found[0][-1]):x}", one_line)


def annotation(kind: str, title: str, text: str) -> str:
    """Spell a workflow command of evalkit's own, GitHub's `::error title=...::...`."""
    return f"::{kind} title={_data(title, ':,')}::{_data(text)}"


def laid_out(rows: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """Lay out rows of cells as lines, each cell printable; columns not in `left` end together.

    rows : all of one length; none give no line.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if place in left else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def narrow(rows: Sequence[Sequence[str]], left: Collection[int], key: int = 1) -> list[list[str]]:
    """Lay out rows as `laid_out` does, each in as many lines as keep to 80 columns.

    Columns without room on the first line go on below it, two places in; empty lines are left out.
    key : how many columns stand together at the start, however wide.
    """
    widths = [max(len(printable(cell)) for cell in column) for column in zip(*rows, strict=True)]
    blocks, used = [list(range(key))], sum(widths[:key]) + 2 * (key - 1)
    for place, width in enumerate(widths[key:], key):
        if used + 2 + width > WIDTH:
            blocks.append([])
            used = 0
        blocks[-1].append(place)
        used += 2 + width
    laid = []
    for block in blocks:
        inside = [k for k, place in enumerate(block) if place in left]
        laid.append(laid_out([[row[place] for place in block] for row in rows], inside))
    first, *more = laid
    return [
        [line, *(f"  {below[k]}" for below in more if below[k])] for k, line in enumerate(first)
    ]


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _data(text: str, also: str = "") -> str:
    return "".join(f"%{ord(c):02X}" if c in "%" + also else c for c in printable(text))
