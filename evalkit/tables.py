"""Tables in text: what parts their columns, whether they have a header, what each column holds.

A layout is a row of roles, such as `("left", "right", "label")`; a role is what every cell of its
column must be.  The separators are tried in turn, and of each the names of a header, then the
layouts; what fits every line is taken.  Nothing is skipped and nothing guessed: where none fits,
the error names the first line that is not as the lines before it, and where two columns could be
the labels both are named.
"""

from __future__ import annotations

import csv
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import DataError
from evalkit.files import BLANKS, numbered_lines, read_text, words_of
from evalkit.keys import IMAGES
from evalkit.table_headers import INDEX, MISSING, TURNED, is_header, roles_of, word

Roles = tuple[str, ...]
_HEAD = 1000  # lines that tell which readings are worth trying on all
_SEPARATORS = ("\t", ";", ",", " ", "after an image")
_AFTER_IMAGE = re.compile(rf"({'|'.join(map(re.escape, IMAGES))})[{BLANKS}]+", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
# What labels say, genuine and impostor, each kind of them as `word` spells them.
_LABELS = tuple(
    {**dict.fromkeys(yes.split(), True), **dict.fromkeys(no.split(), False)}
    for yes, no in (
        ("1 +1 1.0", "0 -1 0.0 -1.0"),
        ("true t", "false f"),
        ("yes y", "no n"),
        ("same sameperson", "different diff differ notsame"),
        (
            "genuine gen mated mate match matched target client positive pos",
            "impostor imposter imp nonmated nonmate nonmatch mismatch unmatched nontarget negative "
            "neg",
        ),
    )
)
_NO_ROLE = ("-", "index")
_SHOWN = {"left": "path", "right": "path", "label": "0|1", "-": "..."}

Lines = Sequence[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class ReadTable:
    """Columns by role, in the order of the file, and how it was read.

    columns : of a label True = genuine, of a fold int, of a score float (NaN where it is missing),
    else text.  line : the number of each row's line.  layout : the role of every column, "-" for
    one that was left out.  told : its header and what was left out, "" where there is neither.
    """

    columns: Mapping[str, Sequence[Any]]
    line: Sequence[int]
    layout: Roles
    told: str
    header: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read lines: what parts them, a role per column, and the header, if any."""

    separator: str
    layout: Roles
    header: Sequence[str] | None
    numbers_name: bool

    def read(self, lines: Lines) -> tuple[int, ReadTable]:
        """Read the lines up to the first that does not fit; also how many those are."""
        width, data = len(self.layout), lines[self.header is not None :]
        roles = [(c, role) for c, role in enumerate(self.layout) if role != "-"]
        columns: dict[str, list[Any]] = {role: [] for _, role in roles}
        values = [(c, columns[role], self._value(role)) for c, role in roles]
        count = 0
        for _, line in data:
            fields = parted(line, self.separator, width)
            try:
                if len(fields) != width:
                    break
                row = [value(fields[c]) for c, _, value in values]
            except ValueError:
                break
            for (_, column, _), cell in zip(values, row, strict=True):
                column.append(cell)
            count += 1
        numbers = [n for n, _ in data[:count]]
        return count, ReadTable(columns, numbers, self.layout, self._note(), self.header or ())

    def _value(self, role: str) -> Callable[[str], Any]:
        """Give what reads a cell of this role; ValueError for one that cannot stand there."""
        if role in ("label", "index"):
            return _label_reader() if role == "label" else _index_reader()
        if role == "fold":
            return _fold
        if role == "score":  # a comma where nothing is parted may part two columns
            return number if len(self.layout) > 1 else float
        return _name if self.numbers_name or role not in ("left", "right") else _name_of_image

    def _note(self) -> str:
        head = self.header or [""] * len(self.layout)
        names = [name or f"column {c}" for c, name in enumerate(head, start=1)]
        left_out = [n for n, role in zip(names, self.layout, strict=True) if role in _NO_ROLE]
        notes = [f"header {', '.join(self.header)}"] if self.header else []
        notes += [f"left out: {', '.join(left_out)}"] if left_out else []
        return "; ".join(notes)


def read(
    text: str,
    source: str,
    layouts: Sequence[Roles],
    required: Roles,
    optional: Roles = (),
    *,
    columns: Mapping[str, str] | None = None,
    numbers_name: bool = False,
    accept: Callable[[ReadTable], bool] | None = None,
) -> ReadTable:
    """Read a table in one of the layouts, or with a header that names the required columns.

    columns : role -> number of a column from 1, or its name, as the user says; instead of layouts.
    numbers_name : an image may be called by a number alone, also where no header says so.
    accept : what else must hold of a table.
    DataError that quotes the first wrong line, or says among which columns it cannot choose.
    """
    lines = numbered_lines(text)
    if not lines:
        raise DataError(f"{source} is empty", f"expected lines of {_spelled(layouts)}")
    if columns is None and "label" in required and len(lines) > 1:
        _refuse_turned(lines, source)
    wanted = {*required, *optional}
    best, tables, found_by = (0, None), list[ReadTable](), ""
    for reading in _readings(lines, layouts, required, wanted, columns, numbers_name):
        if tables and (found_by != reading.separator or reading.header is not None):
            break
        count, table = reading.read(lines[:_HEAD])
        headers = int(reading.header is not None)
        if count + headers == min(len(lines), _HEAD) < len(lines):
            count, table = reading.read(lines)
        if count and count + headers == len(lines):
            if accept is None or accept(table):
                tables.append(table)
                found_by = reading.separator
        elif best[1] is None or count > best[0]:
            best = (count, reading)  # type: ignore[assignment]
    if not tables:
        raise _refusal(lines, *best, source, layouts, required)
    _refuse_two_labels(tables, source)
    return tables[0]


def with_header(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Read a table whose first line names its columns: those names, the rows, their line numbers.

    Between tabs, semicolons or commas, quoted or not.  An empty file has no columns.  DataError
    where a line has other cells than the header.
    """
    lines = numbered_lines(read_text(path))
    if not lines:
        return [], [], []
    separator = separator_of(lines[0][1])
    header = parted(lines[0][1], separator, 1)
    rows = [parted(line, separator, len(header)) for _, line in lines[1:]]
    for (number, _), row in zip(lines[1:], rows, strict=True):
        if len(row) != len(header):
            raise DataError(
                f"line {number} of {path.name} has {len(row)} cells, its header {len(header)}"
            )
    return header, rows, [number for number, _ in lines[1:]]


def _readings(
    lines: Lines,
    layouts: Sequence[Roles],
    required: Roles,
    wanted: set[str],
    columns: Mapping[str, str] | None,
    numbers_name: bool,
) -> Iterator[_Reading]:
    """Yield what may be tried on the lines, the likeliest first."""
    for separator in _SEPARATORS:
        width = len(parted(lines[1][1], separator, 1)) if len(lines) > 1 else 1
        head = parted(lines[0][1], separator, width)  # its last cell may be a missing score
        if len(head) == 1 and all(len(layout) > 1 for layout in layouts):
            continue
        if columns is not None:
            layout, by_name = _chosen(head, columns)
            if {*required} <= {*layout}:
                if not by_name:
                    yield _Reading(separator, layout, None, True)
                yield _Reading(separator, layout, head, True)
            continue
        second = parted(lines[1][1], separator, len(head)) if len(lines) > 1 else []
        named = roles_of(head, second, wanted)
        if {*required} <= {*named} and len(head) > 1:
            yield _Reading(separator, named, head, True)
        has_header = is_header(head)
        index = has_header and word(head[0]) in INDEX and second[:1] and second[0].isdecimal()
        counted = head[0] in ("", "0") and has_header and any("." in cell for cell in second)
        for layout in layouts:
            if len(layout) == len(head):
                if not counted:
                    yield _Reading(separator, layout, None, numbers_name)
                if has_header and _agree(layout, named, head):
                    yield _Reading(separator, layout, head, numbers_name)
            elif index and len(layout) + 1 == len(head) and _agree(("-", *layout), named, head):
                yield _Reading(separator, ("-", *layout), head, numbers_name)


def _agree(layout: Roles, named: Roles, head: Sequence[str]) -> bool:
    """Whether roles by place are none but what the header names, where that is words."""
    return all(
        cell.isdecimal() or name == role or (name == "-" and role != "fold")
        for role, name, cell in zip(layout, named, head, strict=True)
    )


def separator_of(line: str) -> str:
    """Tell what parts a line: the first of tab, semicolon and comma that it has, or blanks."""
    return next((mark for mark in "\t;," if mark in line), " ")


def fields_of(line: str) -> list[str]:
    """Part a line at its own separator; empty cells at its end are no cells."""
    return parted(line, separator_of(line), 1)


def fields_of_lines(lines: Iterable[tuple[int, str]]) -> list[list[str]]:
    """Part numbered lines, each as `fields_of` does."""
    return [fields_of(line) for _, line in lines]


def parted(line: str, separator: str, width: int) -> list[str]:
    """Part a line; empty cells at its end that are more than `width` are no cells."""
    if separator == "after an image":
        fields = _AFTER_IMAGE.sub("\\1\t", line).split("\t")
    elif '"' in line:
        fields = _unquoted(line, separator)
    else:
        fields = words_of(line) if separator == " " else line.split(separator)
    while len(fields) > width and not fields[-1].strip(BLANKS):
        fields.pop()
    return [field.strip(BLANKS) for field in fields]


def _unquoted(line: str, separator: str) -> list[str]:
    line = line.replace("\t", " ") if separator == " " else line
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [""])
    except csv.Error:
        return [line]


def _chosen(head: Sequence[str], columns: Mapping[str, str]) -> tuple[Roles, bool]:
    """Roles of the columns that the user chose, and whether one is called as the header does.

    No roles where a column is not there.
    """
    roles, by_name = ["-"] * len(head), False
    for role, name in columns.items():
        if name in head:
            roles[head.index(name)], by_name = role, True
        elif name.isdecimal() and 0 < int(name) <= len(head):
            roles[int(name) - 1] = role
        else:
            return (), False
    return tuple(roles), by_name


def _label_reader() -> Callable[[str], bool]:
    """Read labels of one kind: that of the first."""
    kind, seen = dict[str, bool](), dict[str, bool]()

    def label(cell: str) -> bool:
        if cell not in seen:
            said = word(cell)
            if not kind:
                kind.update(next((k for k in _LABELS if said in k), {}))
            if said not in kind:
                raise ValueError("no label, or one of another kind than the first")
            seen[cell] = kind[said]
        return seen[cell]

    return label


def _index_reader() -> Callable[[str], int]:
    """Read numbers that count the rows, from 0 or 1."""
    may_be = ["0", "1"]

    def index(cell: str) -> int:
        if cell not in may_be:
            raise ValueError("expected the number of the row")
        may_be[:] = [str(int(cell) + 1)]
        return int(cell)

    return index


def _fold(cell: str) -> int:
    cell = cell.removesuffix(".0")  # as pandas writes a column in which one is missing
    if not (cell.isascii() and cell.isdecimal() and len(cell) < 5):
        raise ValueError("expected a fold from 0 to 9999")
    return int(cell)


def _name(cell: str) -> str:
    if not cell:
        raise ValueError("no name")
    return sys.intern(cell)


def _name_of_image(cell: str) -> str:
    if is_number(cell):
        raise ValueError("a number may be anything")
    return _name(cell)


def is_number(text: str) -> bool:
    """Whether a text is a decimal number, infinity or NaN."""
    try:
        number(text)
    except ValueError:
        return False
    return bool(text)


def number(text: str) -> float:
    """Read a number, NaN where it is missing; ValueError for all else.

    Its comma is a decimal one, but in "1,234", which may be a thousand and more.
    """
    if text.lower() in MISSING:
        return math.nan
    if "_" in text or _THOUSANDS.fullmatch(text):
        raise ValueError("no number")
    return float(text.replace(",", ".") if text.count(",") == 1 else text)


def _refuse_turned(lines: Lines, source: str) -> None:
    """Raise DataError where a header calls numbers or truths as what they are of impostors."""
    mark = separator_of(lines[0][1])
    for name, cell in zip(*(parted(line, mark, 1) for _, line in lines[:2]), strict=False):
        if word(name) in TURNED and any(word(cell) in kind for kind in _LABELS[:2]):
            raise DataError(
                f"{source} has labels called {name!r}: 1 where faces differ?",
                "labels are 1 where they are the same: turn them round; if they are so already, "
                f"--columns label={name}, and the others",
            )


def _refuse_two_labels(found: Sequence[ReadTable], source: str) -> None:
    """Raise DataError where other columns could as well be the labels, as folds of 0 and 1."""
    places = {t.layout.index("label"): t for t in found if "label" in t.layout}
    if len(places) > 1:
        one, other = sorted(places)[:2]
        raise DataError(
            f"{source} has labels in column {one + 1}, or in column {other + 1}: "
            f"{_spelled([t.layout for t in places.values()])}",
            f"say which: --columns label={one + 1}, and the others",
        )


def _refusal(
    lines: Lines,
    count: int,
    reading: _Reading | None,
    source: str,
    layouts: Sequence[Roles],
    required: Roles,
) -> DataError:
    if reading is not None and (count or len(layouts) == 1 or reading.header is not None):
        at, line = lines[min((reading.header is not None) + count, len(lines) - 1)]
        return wrong_line(source, at, _spelled([reading.layout]), line)
    (at, line), options = lines[0], " ".join(f"--columns {role}=COLUMN" for role in required)
    expected = _spelled(layouts) or "columns " + " ".join(required)
    return DataError(
        wrong_line(source, at, expected, line).message,
        f"say which columns these are, by name or number: {options}",
    )


def _spelled(layouts: Iterable[Roles]) -> str:
    """Spell layouts for an error: 'path path 0|1' or 'path path 0|1 fold'."""
    return " or ".join(f"'{' '.join(_SHOWN.get(r, r) for r in roles)}'" for roles in layouts)


def wrong_line(source: str, number: int, expected: str, line: str) -> DataError:
    """Return the error for a line that does not read as it should: where, what, and the line."""
    shown = line if len(line) <= 100 else line[:100] + "..."
    return DataError(f"{source} line {number}: expected {expected}, got {shown!r}")
