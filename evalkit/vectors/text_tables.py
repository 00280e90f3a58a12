"""Tables of vectors in text: a key and D numbers a line, gone through twice."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from evalkit.files import open_text
from evalkit.table_headers import MISSING
from evalkit.tables import is_number
from evalkit.vectors.columns import Columns, Kind, choose
from evalkit.vectors.row_blocks import RowBlocks, Rows

_LINE = 1 << 24  # characters: a line is in memory whole
_HEAD = 100  # rows that tell the separator and the header
_SEPARATORS = "\t;, "


def of_text(path: Path) -> RowBlocks:
    """Read a key and D numbers a line, or a list, between tabs, semicolons, commas or blanks.

    The first line may be a header, see `columns`.  An empty cell, or NaN, None and the like, is
    NaN.  Gone through twice: for the keys, then for the numbers, which are read as float32.
    """
    separator, has_header = _layout(path)
    names, kinds, held, count = _looked_at(path, separator, has_header)

    def distinct(c: int) -> bool:
        return c in held and len(set(held[c])) == count

    chosen = choose(kinds, names, distinct)
    if not chosen.coordinates:
        raise ValueError("it holds no rows of a key and numbers")
    dim = _width(path, separator, has_header, kinds, chosen)

    def blocks(size: int) -> Iterator[Rows]:
        rows = _rows(path, separator, has_header)
        vectors = (_vector(row, chosen, kinds, dim, separator) for row in rows)
        while block := list(islice(vectors, size)):
            yield np.stack(block)

    keys = None if chosen.key is None else held[chosen.key]
    return RowBlocks(keys, count, (dim,), blocks, chosen.told)


def _rows(path: Path, separator: str, skip: bool = False) -> Iterator[list[str]]:
    with open_text(path) as f:
        lines = csv.reader(
            _lines(f), delimiter=separator, skipinitialspace=separator in ", ", strict=False
        )
        rows = (row for row in lines if row and any(row))
        yield from islice(rows, int(skip), None)


def _lines(f: IO[str]) -> Iterator[str]:
    while line := f.readline(_LINE):
        if len(line) == _LINE:
            raise ValueError(f"a line is longer than {_LINE} characters")
        yield line.rstrip(" \r\n") + "\n"  # a blank there would part off one column more


def _layout(path: Path) -> tuple[str, bool]:
    """Tell what parts the columns, and whether the first row names them."""
    heads = {mark: list(islice(_rows(path, mark), _HEAD)) for mark in _SEPARATORS}
    parting = [mark for mark, head in heads.items() if head and len(head[0]) > 1]
    even = [mark for mark in parting if len(heads[mark][0]) == len(heads[mark][-1])]
    if not parting:
        raise ValueError("it holds no rows of a key and numbers")
    separator = (even or parting)[0]
    return separator, _has_header(heads[separator], separator)


def _has_header(head: Sequence[Sequence[str]], separator: str) -> bool:
    """Whether the first row has words where others have numbers, or counts where these are broken.

    It counts from 0 or 1, as tables without names of their own are written.
    """
    first, others = head[0], head[1:]
    columns = range(min(map(len, head)))
    numeric = [c for c in columns if any(_is_vector(row[c], separator) for row in others)]
    if any(not _is_vector(first[c], separator) and first[c] for c in numeric):
        return True
    counted = [first[c] for c in numeric if first[c]]  # pandas' index has no name
    broken = any(_kind(row[c], "zero", separator) == "number" for row in others for c in numeric)
    return (
        broken
        and len(counted) > 1
        and counted
        in (
            [str(n) for n in range(len(counted))],
            [str(n + 1) for n in range(len(counted))],
        )
    )


def _is_vector(cell: str, separator: str) -> bool:
    return cell.startswith("[") or (is_number(_plain(cell, separator)) and not _is_missing(cell))


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def _plain(cell: str, separator: str) -> str:
    """Write a decimal comma, which leaves the semicolon to part columns, as a point."""
    return cell.replace(",", ".") if separator == ";" else cell


def _looked_at(
    path: Path, separator: str, has_header: bool
) -> tuple[list[str] | None, list[Kind], dict[int, list[str]], int]:
    """Go through the rows: names, kinds, the cells of columns that have no fraction, the count."""
    rows = _rows(path, separator)
    names = next(rows) if has_header else None
    width, count = 0, 0
    kinds: list[Kind] = []
    held: dict[int, list[str]] = {}
    for row in rows:
        if not count:
            width = len(row) if names is None else len(names)
            kinds, held = ["zero"] * width, {c: [] for c in range(width)}
        if len(row) != width:
            raise ValueError(f"{row[0]!r} has {len(row) - 1} numbers, the first line {width - 1}")
        for c, cells in list(held.items()):
            kinds[c] = _kind(row[c], kinds[c], separator)
            if kinds[c] in ("number", "list"):
                del held[c]
            else:
                cells.append(sys.intern(row[c]))
        count += 1
    if not count:
        raise ValueError("it holds no rows of a key and numbers")
    return names, kinds, held, count


def _kind(cell: str, before: Kind, separator: str) -> Kind:
    if before == "text" or _is_missing(cell):
        return before
    if cell.startswith("["):
        return "list"
    if not is_number(plain := _plain(cell, separator)):
        return "text"
    value = float(plain)
    if value == 0:
        return before
    return "whole" if value.is_integer() and "e" not in cell.lower() else "number"


def _width(
    path: Path, separator: str, has_header: bool, kinds: Sequence[Kind], chosen: Columns
) -> int:
    """Count the numbers of a vector, of a list those of the first that is not missing."""
    first = chosen.coordinates[0]
    if kinds[first] != "list":
        return len(chosen.coordinates)
    rows = _rows(path, separator, has_header)
    return next(len(_listed(row[first])) for row in rows if not _is_missing(row[first]))


def _listed(cell: str) -> list[str]:
    return re.split(r"[\s,]+", cell.strip("[] \t\r\n,"))


def _vector(
    row: Sequence[str], chosen: Columns, kinds: Sequence[Kind], dim: int, separator: str
) -> Rows:
    cells: Sequence[str] = [row[c] for c in chosen.coordinates]
    if kinds[chosen.coordinates[0]] == "list":
        cells = ["nan"] * dim if _is_missing(cells[0]) else _listed(cells[0])
    if len(cells) != dim:
        raise ValueError(f"a list has {len(cells)} numbers, the first {dim}")
    numbers = ["nan" if _is_missing(cell) else _plain(cell, separator) for cell in cells]
    with np.errstate(over="ignore"):  # beyond float32 is infinity, which is refused as such
        return np.array(numbers, np.float32)
