"""Groups of people or images, and conditions of pairs: a CSV with a header, a column per kind.

The header begins with key, subject or pair (docs/groups.md shows each).  An empty cell is an
unknown group, as are `_UNKNOWN` and a row that no line names.  A subject is the folder of a row's
key, or the line of a list of subjects.  A pair is its place in the list from 1, or the names of
both images, `left,right`, as a list of pairs with a header has them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, pairwise
from typing import cast
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from evalkit import tables
from evalkit.errors import DataError, first_few
from evalkit.files import as_path
from evalkit.keys import by_last_parts, canonical, require_folders, sharing
from evalkit.protocols.groups import By, Condition, Grouping, PairCondition
from evalkit.protocols.groups.conditions import RULES, PairRule, bin_names
from evalkit.table_headers import MISSING, is_path, roles_of, word
from evalkit.types import Floats, PairSet

Use = tuple[str, str, tuple[float, ...]]  # a column, the rule for two images, and edges

# In any case of letters; "none" (of glasses) and "NA" (a country) may be groups.
_UNKNOWN = (MISSING | {"unknown"}) - {"none", "na"}
NAMED_BY = ("key", "subject", "pair", "left")  # the first column, or another word for it


@dataclass(frozen=True, slots=True)
class GroupFile:
    """A file of a table, and how its columns are used (`GroupTable.used`): () is all, as words."""

    path: str | os.PathLike[str]
    by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", as_path(self.path))


@dataclass(frozen=True, slots=True)
class GroupTable:
    """The lines of a table of groups.

    source : name of the file.  named_by : what a line names, of `NAMED_BY`.  names : (L,), those of
    two images joined.  columns : by name, a group per line, "" = unknown.
    """

    source: str
    named_by: str
    names: tuple[str, ...]
    columns: dict[str, tuple[str, ...]]

    @property
    def of_pairs(self) -> bool:
        """Whether a line names a pair."""
        return self.named_by in ("pair", "left")

    def of_rows(
        self,
        keys: Sequence[str] | None,
        subjects: Sequence[str] | None = None,
        by: Sequence[str] = (),
    ) -> tuple[By, ...]:
        """Group the rows that have these keys, by the columns `used`.

        subjects : (N,) who each row shows, else the folder of its key.  DataError where the table
        names none of the rows, or they have no names.
        """
        of_subjects = self.named_by == "subject"
        if of_subjects and subjects is None and keys is not None:
            subjects = [canonical(key).rpartition("/")[0] or "." for key in keys]
        rows = subjects if of_subjects else keys
        if rows is None:
            what = "subject" if of_subjects else "key"
            raise DataError(f"{self.source} names each {what}, and the rows have none", "add keys")
        used = self.used(by)
        columns = {column: self.columns[column] for column, _, _ in used.values()}
        return _made(
            used, self.source, columns, lines_of_rows(replace(self, columns=columns), rows)
        )

    def of_list(
        self, pairs: PairSet | None, keys: Sequence[str] | None, by: Sequence[str] = ()
    ) -> tuple[By, ...]:
        """Give each pair of a list its conditions, by the columns `used`.

        keys : names of the rows that the pairs name.  DataError where there is no list, or the
        table names none of its pairs.
        """
        if pairs is None or (self.named_by == "left" and keys is None):
            raise DataError(f"{self.source} is a table of pairs, but no list of pairs is given")
        line: dict[str | int, int] = {
            self._place(name, len(pairs)) if self.named_by == "pair" else name: k
            for k, name in enumerate(self.names)
        }
        if len(line) < len(self.names):
            raise DataError(f"{self.source} names a pair twice", "leave one of the lines out")
        if self.named_by == "pair":
            lines = [line.get(k, -1) for k in range(1, len(pairs) + 1)]
        else:
            names = [canonical(key) for key in keys or ()]
            sides = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
            lines = [
                line.get(_joined(names[a], names[b]), line.get(_joined(names[b], names[a]), -1))
                for a, b in sides
            ]
        if max(lines, default=-1) < 0:
            raise DataError(f"{self.source} names none of the {len(pairs):,} pairs of the list")
        return _made(self.used(by), self.source, self.columns, np.array(lines), pairs=True)

    def _place(self, name: str, count: int) -> int:
        """Read the place of a pair, from 1 to `count`, in any spelling: "7", "007", "7.0"."""
        try:
            place = tables.number(name)
        except ValueError:
            place = math.nan
        if not (1 <= place <= count and place.is_integer()):
            raise DataError(
                f"{self.source} names pair {name!r}, and the list has pairs 1 to {count}",
                "a pair is its place in the list, from 1",
            )
        return int(place)

    def used(self, by: Sequence[str] = ()) -> dict[str, Use]:
        """Read `--by`: name of each grouping -> its column, the rule for two images, and edges.

        by : "sex" takes words as groups, "age:20,40" numbers in bins; "age-gap:5,10" the gap of two
        numbers, "quality-min:0.5" the lower and "yaw-max:30,60" the higher one by magnitude,
        "camera-same" whether two words are the same.  () is every column, as words.
        """
        uses: dict[str, Use] = {}
        for text in by or self.columns:
            name, _, edges = text.partition(":") if by else (text, "", "")
            column, _, rule = name.rpartition("-")
            if name in self.columns:
                column, rule = name, ""
            if column not in self.columns or rule not in ("", *RULES):
                raise DataError(
                    f"{self.source} has no column {name!r} for --by",
                    f"its columns are {', '.join(self.columns)}; of two images' values say "
                    f"COLUMN-{', COLUMN-'.join(RULES)}",
                )
            if rule and self.of_pairs:
                raise DataError(f"{name!r} is of two images, and {self.source} names pairs")
            uses[name] = column, rule, _edges(name, rule, edges)
        return uses


def _edges(name: str, rule: str, given: str) -> tuple[float, ...]:
    """Read the edges of bins; DataError where they are missing, or no ascending numbers."""
    needed = rule in ("gap", "min", "max")
    try:
        edges = tuple(float(edge) for edge in given.split(",")) if given else ()
    except ValueError:
        edges = (float("nan"),)
    rising = all(a < b for a, b in pairwise(edges)) and all(map(math.isfinite, edges))
    if not rising or (needed and not edges) or (rule == "same" and edges):
        shown = f"{name}:{given}" if given else name
        hint = "leave the numbers out" if rule == "same" else f"as --by {name}:5,10,20"
        raise DataError(f"--by {shown} has no edges that ascend", hint)
    return edges


def _made(
    used: Mapping[str, Use],
    source: str,
    columns: Mapping[str, Sequence[str]],
    line: NDArray[np.int64],
    *,
    pairs: bool = False,
) -> tuple[By, ...]:
    """Group rows, or pairs, by the line that each has."""
    groups: list[By] = []
    for name, (column, rule, edges) in used.items():
        cells = [columns[column][k] if k >= 0 else "" for k in line.tolist()]
        if rule in ("", "same"):
            words = _binned(name, source, cells, edges) if edges else cells
            _refuse_spellings(name, source, words)
            make = Condition.alike if rule else PairCondition.of if pairs else Grouping.of
            groups.append(make(name, words))
        else:
            values = _numbers(name, source, cells)
            groups.append(Condition.of(name, values, cast(PairRule, rule), edges))
    return tuple(groups)


def _refuse_spellings(name: str, source: str, words: Sequence[str]) -> None:
    """Raise DataError where two groups differ in case alone, as "F" and "f" do."""
    first: dict[str, str] = {}
    for group in dict.fromkeys(words):
        other = first.setdefault(group.casefold(), group)
        if other != group:
            raise DataError(
                f"{name} in {source} has the groups {other!r} and {group!r}",
                "spell each group one way: they would be two groups",
            )


def number_of(cell: str, where: str) -> float:
    """Read the number of a cell, NaN where it is empty; DataError for all else."""
    try:
        value = tables.number(cell) if cell else math.nan
    except ValueError:
        raise DataError(f"{where} is {cell!r}", "expected a number") from None
    if math.isinf(value):
        raise DataError(f"{where} is {cell!r}", "expected a finite number")
    return value


def _numbers(name: str, source: str, cells: Sequence[str]) -> Floats:
    return np.array([number_of(cell, f"a cell of {source} for --by {name}") for cell in cells])


def _binned(name: str, source: str, cells: Sequence[str], edges: Sequence[float]) -> list[str]:
    values, names = _numbers(name, source, cells), bin_names(edges)
    places = np.searchsorted(edges, values, "left").tolist()
    return ["" if np.isnan(v) else names[k] for v, k in zip(values, places, strict=True)]


def _joined(left: str, right: str) -> str:
    return f"{left}\0{right}"


def read(path: str | os.PathLike[str], columns: Sequence[str] = ()) -> GroupTable:
    """Read a table of groups; DataError says where it is none.

    columns : what its columns are called where its first line has a number already, not names.
    """
    path = as_path(path)
    header, rows, numbers = tables.with_header(path)
    if len(header) == len(columns) and any(map(tables.is_number, header[1:])):
        header, rows, numbers = [*columns], [header, *rows], [1, *numbers]
    first = _named_by(header, rows[0] if rows else ())
    names = 2 if first == "left" else 1
    if not first or len(header) <= names:
        raise DataError(
            f"{path.name} starts with {', '.join(header) or 'nothing'}",
            "a table of groups starts with a line such as key,sex or subject,sex, of pairs with "
            "pair,weather or left,right,weather",
        )
    if len(set(header)) < len(header):
        raise DataError(f"{path.name} has two columns of one name: {', '.join(header)}")
    for number, row in zip(numbers, rows, strict=True):
        if not all(row[:names]):
            raise DataError(f"line {number} of {path.name} names nothing")
    lines = [[*row[:names], *map(_group, row[names:])] for row in rows]
    lines = [[normalize("NFC", cell) for cell in row] for row in lines]
    cells = list(zip(*lines, strict=True)) if lines else [()] * len(header)
    named = cells[0]
    if names == 2:
        named = tuple(_joined(canonical(a), canonical(b)) for a, b in zip(*cells[:2], strict=True))
    return GroupTable(
        path.name, first, named, dict(zip(header[names:], cells[names:], strict=True))
    )


def _group(cell: str) -> str:
    return "" if cell.casefold() in _UNKNOWN else cell


def _named_by(header: Sequence[str], line: Sequence[str]) -> str:
    """Say what the first column names, of `NAMED_BY`, by what headers call it; "" for nothing."""
    if roles_of(header[:2], line[:2], {"left"}) == ("left", "right"):
        return "left"
    (role,) = roles_of(header[:1], line[:1], {"image", "person"}) or ("-",)
    if role == "person" and line and is_path(line[0]):
        role = "image"  # a file's name
    named = {"image": "key", "person": "subject"}.get(role, "")
    return named or ("pair" if header and word(header[0]) == "pair" else "")


def lines_of_rows(table: GroupTable, rows: Sequence[str]) -> NDArray[np.int64]:
    """Line of the table for each row, -1 without one.

    Matched by `keys.by_last_parts`; two lines of one name serve where they give the same groups.
    DataError where no row is named, a line would serve two images, two name one otherwise, or
    images match by name alone, in other folders.
    """
    spelled = (lambda name: normalize("NFC", name)) if table.named_by == "subject" else canonical
    have, wanted = [spelled(n) for n in table.names], [spelled(str(row)) for row in rows]
    groups, first = list(zip(*table.columns.values(), strict=True)), dict[str, int]()
    twice = [k for k, name in enumerate(have) if groups[first.setdefault(name, k)] != groups[k]]
    if twice:
        names = first_few([repr(table.names[k]) for k in twice])
        raise DataError(
            f"{table.source} names {names} twice, with other groups",
            f"leave one line of each out: {len(twice)} too many",
        )
    line, tails, _ = by_last_parts(wanted, have, lambda a, b: groups[a] == groups[b])
    if not (line >= 0).any():
        raise DataError(
            f"{table.source} names none of the {len(rows):,} rows",
            f"its first line is of {table.names[0]!r}, the first row is {rows[0]!r}"
            if table.names and len(rows)
            else "the table has no lines, or the vectors no rows",
        )
    named = (line >= 0).tolist() if table.named_by != "subject" else [False] * len(line)
    images, ends = [*compress(wanted, named)], [*compress(tails, named)]
    if both := sharing(images, ends):
        raise DataError(
            f"{both[0]!r} and {both[1]!r} would share line {both[2]!r} of {table.source}",
            "name the images with their folders",
        )
    found = [have[k] for k in compress(line.tolist(), named)]
    require_folders(images, found, ends, f"lines of {table.source}")
    return line
