"""Tables of vectors in text: a key and D numbers a line, gone through twice."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from evalkit.files import names_separator, open_text
from evalkit.table_headers import MISSING
from evalkit.tables import is_number
from evalkit.vectors.columns import Kind, choose, counts
from evalkit.vectors.row_blocks import RowBlocks, Rows

_LINE = 1 << 24  # characters: a line is in memory whole
_HEAD = 100  # rows that tell the separator and the header
_SEPARATORS = "\t;, "
_NONE = "no line has both (names alone go to --keys)"
# [0.5, 1], (0.5, 1), array([0.5, 1]) or 0.5 1
_LIST = re.compile(
    r"\s*(?:[\w.]*\()?\[|\s*\(\s*[-+]?\d*\.\d|\s*[-+]?\d*\.\d+(?:e[-+]?\d+)?\s+[-+.\d]",
    re.IGNORECASE,
)
_AROUND = re.compile(r"[\w.]*\(|\s*,\s*(?:dtype|device|grad_fn)=.*", re.DOTALL)
_DECIMALS = re.compile(r"\d+ +[+-]?\d+")
_BROKEN = re.compile(r"-0|[+-]?0\d+")  # what a decimal comma leaves on its either side


def of_text(path: Path) -> RowBlocks:
    """Read a key and D numbers a line, or a list, between tabs, semicolons, commas or blanks.

    The first line may be a header, see `columns`, or word2vec's, `N D`.  An empty cell, or NaN,
    None and the like, is NaN.  Gone through twice: for the keys, then for the numbers, which are
    read as float32.
    """
    separator = _separator(path)
    head = list(islice(_rows(path, separator), _HEAD))
    announced, has_header = _announced(head), _has_header(head)
    skipped = has_header or announced is not None
    names = head[0] if has_header and announced is None else None
    seen, count = _looked_at(path, separator, names, skipped)
    if announced not in (None, count):
        raise ValueError(f"its first line says {announced} rows, and it has {count}: was it cut?")
    kinds = [column.kind for column in seen]

    def distinct(c: int) -> bool:
        return len(set(seen[c].cells)) == count

    chosen = choose(kinds, names, distinct)
    if not chosen.coordinates:
        raise ValueError(_NONE)
    broken = [seen[c].broken for c in chosen.coordinates if seen[c].broken]
    if broken and not any(seen[c].has_point for c in chosen.coordinates):
        raise ValueError(
            f"{broken[0]!r} is not a whole number: are commas decimal ones? "
            "part columns by semicolons"
        )
    is_list = kinds[chosen.coordinates[0]] == "list"
    dim = len(chosen.coordinates)
    if is_list:
        cells = (row[chosen.coordinates[0]] for row in _rows(path, separator, skipped))
        dim = next(len(_listed(cell)) for cell in cells if not _is_missing(cell))

    def blocks(size: int) -> Iterator[Rows]:
        rows = _rows(path, separator, skipped)
        vectors = (_vector(row, chosen.coordinates, dim, is_list) for row in rows)
        while block := list(islice(vectors, size)):
            yield np.stack(block)

    keys = None if chosen.key is None else seen[chosen.key].cells
    odd = names is None and dim > 64 and (dim - 1).bit_count() == 1
    doubt = f"{dim} numbers a row without a header: is one of them no coordinate?" if odd else ""
    return RowBlocks(keys, count, (dim,), blocks, chosen.told or doubt)


def _rows(path: Path, separator: str, skipped: bool = False) -> Iterator[list[str]]:
    with open_text(path) as f:
        lines = csv.reader(
            _lines(f), delimiter=separator, skipinitialspace=separator in ", ", strict=False
        )
        rows = (row for row in lines if row and any(row))
        yield from islice(rows, int(skipped), None)


def _lines(f: IO[str]) -> Iterator[str]:
    for number, line in enumerate(iter(lambda: f.readline(_LINE), "")):
        if len(line) == _LINE:
            raise ValueError(f"a line is longer than {_LINE} characters")
        if not number:
            line = line.removeprefix("# ")  # as numpy.savetxt begins a header
        if number or not names_separator(line.strip()):
            yield line.rstrip(" \r\n") + "\n"  # a blank there would part off one column more


def _separator(path: Path) -> str:
    """Tell what parts the columns: the first mark by which the first lines are equally long."""
    heads = {mark: list(islice(_rows(path, mark), _HEAD)) for mark in _SEPARATORS}
    parting = [mark for mark, head in heads.items() if head and len(head[0]) > 1]
    even = [mark for mark in parting if len(heads[mark][0]) == len(heads[mark][-1])]
    if not parting:
        raise ValueError(_NONE)
    separator = (even or parting)[0]
    between = heads[","][0][1:-1] if separator == "," else []
    decimal = between and all(_DECIMALS.fullmatch(cell) for cell in between)  # a.jpg 0,53 -0,12
    return " " if decimal else separator


def _announced(head: Sequence[Sequence[str]]) -> int | None:
    """Read the rows that word2vec's first line says, `N D`, before a row of a key and D numbers."""
    first, second = (*head[:2], [], [])[:2]
    whole = len(first) == 2 < len(second) and all(map(str.isdecimal, first))
    return int(first[0]) if whole and int(first[1]) + 1 == len(second) else None


def _has_header(head: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has words where others have numbers, or counts where these are broken.

    It counts from 0 or 1, as tables without names of their own are written.
    """
    first, others = head[0], head[1:]
    columns = range(min(map(len, head)))
    numeric = [c for c in columns if any(_is_vector(row[c]) for row in others)]
    if any(not _is_vector(first[c]) and not _is_missing(first[c]) for c in numeric):
        return True
    counted = [first[c] for c in numeric if first[c]]  # pandas' index has no name
    broken = any(_kind(row[c], "zero") == "number" for row in others for c in numeric)
    return broken and len(counted) > 1 and counts(counted)


def _is_vector(cell: str) -> bool:
    return _LIST.match(cell) is not None or (is_number(_point(cell)) and not _is_missing(cell))


def _is_missing(cell: str) -> bool:
    return cell.strip("[] \t").lower() in MISSING


def _point(cell: str) -> str:
    """Write a decimal comma, which the columns are not parted at, as a point."""
    return cell.replace(",", ".") if cell.count(",") == 1 else cell


@dataclass(slots=True)
class _Column:
    """What the cells seen so far are; the cells while none is a fraction.

    broken : a cell that is no whole number.  has_point : whether the first fraction has a point.
    """

    kind: Kind
    cells: list[str]
    broken: str = ""
    has_point: bool = False


def _looked_at(
    path: Path, separator: str, names: Sequence[str] | None, skipped: bool
) -> tuple[list[_Column], int]:
    """Go through the rows: what the columns hold, and how many rows there are."""
    count, seen = 0, [_Column("zero", []) for _ in names or ()]
    for row in _rows(path, separator, skipped):
        if not seen:
            seen = [_Column("zero", []) for _ in row]
        if len(row) != len(seen):
            raise ValueError(
                f"{row[0]!r} has {len(row) - 1} numbers, the first line {len(seen) - 1}"
            )
        for column, cell in zip(seen, row, strict=True):
            if column.kind in ("number", "list"):
                continue
            column.kind = _kind(cell, column.kind)
            if column.kind in ("number", "list"):
                column.cells.clear()
                column.has_point = "." in cell or column.kind == "list"
                continue
            column.cells.append(sys.intern(cell))
            if separator == "," and _BROKEN.fullmatch(cell):
                column.broken = cell
        count += 1
    if not count:
        raise ValueError(_NONE)
    return seen, count


def _kind(cell: str, before: Kind) -> Kind:
    if before == "text" or _is_missing(cell):
        return before
    if _LIST.match(cell):
        return "list"
    if not is_number(plain := _point(cell)):
        return "text"
    value = float(plain)
    if value == 0:
        return before
    return "whole" if value.is_integer() and "e" not in cell.lower() else "number"


def _listed(cell: str) -> list[str]:
    return re.split(r"[\s,]+", _AROUND.sub("", cell).strip("[]() \t\r\n,"))


def _vector(row: Sequence[str], coordinates: Sequence[int], dim: int, is_list: bool) -> Rows:
    cells = [row[c] for c in coordinates]
    if is_list:
        cells = ["nan"] * dim if _is_missing(cells[0]) else _listed(cells[0])
    if len(cells) != dim:
        raise ValueError(f"a list has {len(cells)} numbers, the first {dim}")
    numbers = ["nan" if _is_missing(cell) else _point(cell) for cell in cells]
    try:
        with np.errstate(over="ignore"):  # beyond float32 is infinity, which is refused as such
            return np.array(numbers, np.float32)
    except ValueError:
        wrong = next(cell for cell in numbers if not is_number(cell))
        raise ValueError(f"{wrong!r} in the row of {row[0]!r} is not a number") from None
