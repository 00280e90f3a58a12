"""Layouts of pair lists and verification sets: readers by name, recognition of a file's layout.

A new table is its row of roles in `_TABLES`.  Another layout is a function from the path to a
`PairList` (`pair_list.build` makes one of parsed lines, `tables.wrong_line` names a bad one) and
its line in `_LISTS`, or in `_SETS` where the file holds the images too; `recognise` tells it from
the others, where only it looks so.  `--format` follows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

from evalkit import tables
from evalkit.datasets import agedb, bcolz, cfp, lfw, youtube_faces
from evalkit.datasets import bin as bin_sets
from evalkit.datasets.pair_list import LABEL_FIRST, LABELLED, PairList, of_table, parse_two_line
from evalkit.errors import DataError, first_few
from evalkit.files import as_path, numbered_lines, read_text
from evalkit.images import ImageSource
from evalkit.keys import IMAGES
from evalkit.table_headers import is_header, names_scores
from evalkit.tables import Roles, fields_of
from evalkit.vectors import matlab


@dataclass(frozen=True, slots=True)
class VerificationSet:
    """Pairs, the images where the file holds them itself, and the layout it was read in."""

    pairs: PairList
    images: ImageSource | None
    layout: str


# Tables of names by the role of each column.
_TABLES: dict[str, tuple[Roles, ...]] = {
    "labelled": (LABELLED, (*LABELLED, "fold"), ("index", *LABELLED)),
    "label-first": (LABEL_FIRST, (*LABEL_FIRST, "fold")),
    # YouTube Faces' splits.txt, and others that give the fold first.
    "fold-first": (
        ("fold", *LABELLED),
        ("fold", "-", *LABELLED),
        ("left", "right", "fold", "label"),
    ),
}


def _text(parse: Callable[[str, str], PairList], path: Path) -> PairList:
    return parse(read_text(path), str(path))


def _table(
    path: Path,
    layouts: Sequence[Roles],
    columns: Mapping[str, str] | None = None,
    *,
    numbers_name: bool = True,
) -> tables.ReadTable:
    return tables.read(
        read_text(path),
        str(path),
        layouts,
        LABELLED,
        ("fold",),
        columns=columns,
        numbers_name=numbers_name,
        accept=partial(_labels_are_no_scores, str(path)) if columns is None else None,
    )


def _labels_are_no_scores(source: str, held: tables.ReadTable) -> bool:
    """Raise DataError where the header calls the labels as scores, of which 0 may be the nearest.

    Predictions are so too: 1 where a model, not the list, says that the faces are the same.
    """
    name = held.header[held.layout.index("label")] if held.header else ""
    if names_scores(name):
        raise DataError(
            f"{source} has no labels but a column called {name!r}, of two values",
            f"if it is 1 where faces are the same: --columns label={name}, and the others",
        )
    return True


def _in_layout(path: Path, layouts: Sequence[Roles]) -> PairList:
    return of_table(_table(path, layouts), str(path))


# Lists of names: the images lie elsewhere.
_LISTS: dict[str, Callable[[Path], PairList]] = {
    "lfw": lfw.read_pairs,
    **{name: partial(_in_layout, layouts=layouts) for name, layouts in _TABLES.items()},
    "two-line": partial(_text, parse_two_line),
    "agedb": agedb.read,
    "cfp-ff": partial(cfp.read, split="FF"),
    "cfp-fp": partial(cfp.read, split="FP"),
    "ytf": youtube_faces.read_splits,
}
# Sets that hold their images.
_SETS: dict[str, Callable[[Path], tuple[ImageSource, PairList]]] = {
    "bin": bin_sets.read,
    "bcolz": bcolz.read,
}
LAYOUTS = (*_LISTS, *_SETS)
TABLE = "table"  # what a report calls a layout that a header or the user names


def read(
    path: str | os.PathLike[str],
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> VerificationSet:
    """Read a verification set, in the layout given or, if it can be told for sure, its own.

    columns : role -> name or number of a table's column: left, right, label, fold.
    """
    path = as_path(path)
    if not path.exists():
        raise DataError(f"no pair list at {path}")
    if columns is not None:
        return VerificationSet(of_table(_table(path, (), columns), str(path)), None, TABLE)
    layout = layout or _of_file(path)
    if layout == TABLE:
        table, layout = _any_table(path)
        return VerificationSet(of_table(table, str(path)), None, layout)
    if layout in _LISTS:
        return VerificationSet(_LISTS[layout](path), None, layout)
    images, pairs = _SETS[layout](path)
    return VerificationSet(pairs, images, layout)


_NUMBERS = re.compile(r"[0-9]+(\s+[0-9]+)?\Z")


def recognise(path: str | os.PathLike[str]) -> str:
    """Name the layout of a file or folder by what only that layout has, or raise DataError."""
    layout = _of_file(as_path(path))
    return _any_table(as_path(path))[1] if layout == TABLE else layout


def _any_table(path: Path) -> tuple[tables.ReadTable, str]:
    """Read a table whose layout is not known, and name that."""
    known = {row: name for name, rows in _TABLES.items() for row in rows}
    try:
        table = _table(path, list(known), numbers_name=False)
    except DataError:
        _refuse_images(path)
        raise
    return table, known.get(table.layout, TABLE)


def _refuse_images(path: Path) -> None:
    """Raise DataError where the first line names one image, as lists of images do."""
    line = next((line for _, line in numbered_lines(read_text(path))), "")
    if sum(PurePath(field).suffix.lower() in IMAGES for field in fields_of(line)) == 1:
        raise DataError(
            f"{path.name} line 1: expected two images and a label, got one image, {line[:100]!r}",
            "InsightFace's .lst lists images, not pairs; of a list whose lines are pairs by two, "
            "as SLLFW's, join each two: 'path path 0|1'",
        )


def _of_file(path: Path) -> str:
    """Name a layout that shows in the first lines; TABLE for all other texts."""
    if path.is_dir():
        if bcolz.is_carray(path):
            return "bcolz"
        if (path / "pairs_01.txt").is_file():
            return "lfw"
        if (path / "Protocol").is_dir() or (path / "Split").is_dir():
            raise DataError(f"{path} holds two protocols", "--format cfp-ff or --format cfp-fp")
        raise DataError(f"{path} is a folder without a list of pairs", "give the list itself")
    if path.suffix.lower() == ".bin":
        return "bin"
    if path.suffix.lower() == ".mat":
        return _of_variables(matlab.read(path), path.name)
    return _of_lines([fields_of(line) for _, line in numbered_lines(read_text(path))[:3]])


def _of_variables(held: Mapping[str, object], name: str) -> str:
    """Tell the layout from what a MATLAB file holds."""
    if youtube_faces.splits_of(dict(held)) is not None:
        return "ytf"
    if isinstance(held.get("splits"), list):
        return "agedb"
    shown = [f"{n!r} {getattr(value, 'shape', type(value).__name__)}" for n, value in held.items()]
    raise DataError(
        f"{name} has no list of pairs: it holds {first_few(shown) or 'no arrays'}",
        "expected AgeDB's cell 'splits', or YouTube Faces' array of splits, (500, 3, 10)",
    )


def _of_lines(lines: list[list[str]]) -> str:
    """Tell the layout from the fields of the first three lines."""
    if lines and is_header(lines[0]):
        lines = lines[1:]
    first = lines[0] if lines else []
    numeric = [field.isdecimal() for field in first]
    if _NUMBERS.match(" ".join(first)) or numeric in ([False, True, True], [False, True] * 2):
        return "lfw"
    second = [field.isdecimal() for field in lines[1][:2]] if len(lines) > 1 else []
    return "two-line" if numeric == second == [False, True] else TABLE
