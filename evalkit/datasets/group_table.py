"""Groups of people or images: a CSV with a header, a key or subject per line, a column per kind.

    key,sex,age                          subject,sex
    Ann_Lee/Ann_Lee_0001.jpg,female,40   Ann_Lee,female
    Bo_Wu/Bo_Wu_0001.jpg,male,           Bo_Wu,male

An empty cell is an unknown group, and so is a row that no line names.  A subject is the folder of a
row's key, or the line of a list of subjects.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from evalkit import tables
from evalkit.errors import DataError
from evalkit.files import as_path
from evalkit.keys import canonical, last_parts
from evalkit.protocols.groups import Grouping

NAMED_BY = ("key", "subject")


@dataclass(frozen=True, slots=True)
class GroupTable:
    """The lines of a table of groups.

    source : name of the file.  of_subjects : whether a line names a subject, or the key of an
    image.  names : (L,).  columns : by name, a group per line, "" = unknown.
    """

    source: str
    of_subjects: bool
    names: tuple[str, ...]
    columns: dict[str, tuple[str, ...]]

    def of_rows(
        self, keys: Sequence[str] | None, subjects: Sequence[str] | None = None
    ) -> tuple[Grouping, ...]:
        """Group the rows that have these keys: a grouping per column.

        subjects : (N,) who each row shows, else the folder of its key.  DataError where the table
        names none of the rows, or they have no names.
        """
        if self.of_subjects and subjects is None and keys is not None:
            subjects = [str(PurePosixPath(canonical(key)).parent) for key in keys]
        rows = subjects if self.of_subjects else keys
        if rows is None:
            what = "subject" if self.of_subjects else "key"
            raise DataError(f"{self.source} names each {what}, and the rows have none", "add keys")
        line = lines_of_rows(self, rows)
        return tuple(
            Grouping.of(column, [groups[k] if k >= 0 else "" for k in line.tolist()])
            for column, groups in self.columns.items()
        )


def read(path: str | os.PathLike[str]) -> GroupTable:
    """Read a table of groups; DataError says where it is none."""
    path = as_path(path)
    header, rows, numbers = tables.with_header(path)
    if not header or header[0].lower() not in NAMED_BY or len(header) < 2:
        raise DataError(
            f"{path.name} starts with {', '.join(header) or 'nothing'}",
            "a table of groups starts with a line such as key,sex or subject,sex",
        )
    if len(set(header)) < len(header):
        raise DataError(f"{path.name} has two columns of one name: {', '.join(header)}")
    for number, row in zip(numbers, rows, strict=True):
        if not row[0]:
            raise DataError(f"line {number} of {path.name} names nothing")
    lines = [[normalize("NFC", cell) for cell in row] for row in rows]
    names, *columns = zip(*lines, strict=True) if lines else [()] * len(header)
    by_name = dict(zip(header[1:], columns, strict=True))
    return GroupTable(path.name, header[0].lower() == "subject", names, by_name)


def lines_of_rows(table: GroupTable, rows: Sequence[str]) -> NDArray[np.int64]:
    """Line of the table for each row, -1 without one.

    With or without leading folders and a suffix, as in `keys.rows_of`: by as many trailing parts as
    name the most rows.
    """
    spelled = (lambda name: normalize("NFC", name)) if table.of_subjects else canonical
    have, wanted = [spelled(n) for n in table.names], [spelled(str(row)) for row in rows]
    best, found_at = np.full(len(wanted), -1), 0
    for depth in range(max((n.count("/") + 1 for n in [*have, *set(wanted)]), default=1), 0, -1):
        line = _at_depth(table, have, wanted, depth)
        if np.count_nonzero(line >= 0) > np.count_nonzero(best >= 0):
            best, found_at = line, depth
    if not found_at:
        raise DataError(
            f"{table.source} names none of the {len(rows):,} rows",
            f"its first line is of {table.names[0]!r}, the first row is {rows[0]!r}"
            if table.names and len(rows)
            else "there are no lines, or no rows",
        )
    _refuse_shared(table, rows, wanted, best, found_at)
    return best


def _at_depth(
    table: GroupTable, have: Sequence[str], wanted: Sequence[str], depth: int
) -> NDArray[np.int64]:
    """Find rows by their last `depth` parts; none by a name that two lines give other groups."""
    groups = list(zip(*table.columns.values(), strict=True))
    line: dict[str, int] = {}
    for k, name in enumerate(have):
        tail = last_parts(name, depth)
        before = line.setdefault(tail, k)
        if before >= 0 and groups[before] != groups[k]:
            if have[before] == name:
                raise DataError(
                    f"{table.source} names {table.names[k]!r} twice, with other groups",
                    "leave one of the lines out",
                )
            line[tail] = -1
    return np.array([line.get(last_parts(name, depth), -1) for name in wanted], np.int64)


def _refuse_shared(
    table: GroupTable,
    rows: Sequence[str],
    wanted: Sequence[str],
    line: NDArray[np.int64],
    depth: int,
) -> None:
    """Refuse that one line of an image serves two."""
    if table.of_subjects:
        return
    first: dict[str, int] = {}
    for row in np.flatnonzero(line >= 0).tolist():
        other = first.setdefault(last_parts(wanted[row], depth), row)
        if wanted[other] != wanted[row]:
            raise DataError(
                f"{rows[other]!r} and {rows[row]!r} would share line {table.names[line[row]]!r} of "
                f"{table.source}",
                "name the images with their folders",
            )
