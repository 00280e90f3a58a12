"""Layouts of pair lists and verification sets: readers by name, recognition of a file's layout.

A new layout is a function from the path to a `PairList` (`pair_list.build` makes one of parsed
lines, `wrong_line` names a bad one) and its line in `_LISTS`, or in `_SETS` where the file holds
the images too; `recognise` tells it from the others, where only it looks so.  `--format` follows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evalkit.datasets import agedb, bcolz, cfp, lfw
from evalkit.datasets import bin as bin_sets
from evalkit.datasets.pair_list import (
    GENUINE,
    IMPOSTOR,
    PairList,
    fields_of,
    numbered,
    parse_labelled,
    parse_two_line,
)
from evalkit.errors import DataError
from evalkit.files import as_path, read_text
from evalkit.images import ImageSource


@dataclass(frozen=True, slots=True)
class VerificationSet:
    """Pairs, the images where the file holds them itself, and the layout it was read in."""

    pairs: PairList
    images: ImageSource | None
    layout: str


def _text(parse: Callable[[str, str], PairList], path: Path) -> PairList:
    return parse(read_text(path), str(path))


# Lists of names: the images lie elsewhere.
_LISTS: dict[str, Callable[[Path], PairList]] = {
    "lfw": lfw.read_pairs,
    "labelled": partial(_text, parse_labelled),
    "label-first": partial(_text, partial(parse_labelled, label_first=True)),
    "two-line": partial(_text, parse_two_line),
    "agedb": agedb.read,
    "cfp-ff": partial(cfp.read, split="FF"),
    "cfp-fp": partial(cfp.read, split="FP"),
}
# Sets that hold their images.
_SETS: dict[str, Callable[[Path], tuple[ImageSource, PairList]]] = {
    "bin": bin_sets.read,
    "bcolz": bcolz.read,
}
LAYOUTS = (*_LISTS, *_SETS)


def read(path: str | os.PathLike[str], layout: str | None = None) -> VerificationSet:
    """Read a verification set, in the layout given or, if it can be told for sure, its own."""
    path = as_path(path)
    if not path.exists():
        raise DataError(f"there is no pair list {path}")
    layout = layout or recognise(path)
    if layout in _LISTS:
        return VerificationSet(_LISTS[layout](path), None, layout)
    images, pairs = _SETS[layout](path)
    return VerificationSet(pairs, images, layout)


_NUMBERS = re.compile(r"[0-9]+(\s+[0-9]+)?\Z")


def recognise(path: str | os.PathLike[str]) -> str:
    """Name the layout of a file or folder by what only that layout has, or raise DataError."""
    path = as_path(path)
    if path.is_dir():
        if bcolz.is_carray(path):
            return "bcolz"
        if (path / "pairs_01.txt").is_file():
            return "lfw"
        if (path / "Protocol").is_dir() or (path / "Split").is_dir():
            raise DataError(f"{path} holds two protocols", "--format cfp-ff or --format cfp-fp")
        raise DataError(f"{path} is a folder without a list of pairs", "give the list itself")
    by_suffix = {".bin": "bin", ".mat": "agedb"}.get(path.suffix.lower())
    if by_suffix is not None:
        return by_suffix
    lines = [line for _, line in zip(range(2), numbered(read_text(path)), strict=False)]
    layout = _of_lines([fields_of(line) for _, line in lines])
    if layout is None:
        shown = lines[0][1][:100] if lines else ""
        raise DataError(
            f"{path} starts with {shown!r}, which is no layout that is known",
            f"name it: --format {'|'.join(LAYOUTS)}",
        )
    return layout


def _of_lines(lines: list[list[str]]) -> str | None:
    """Tell the layout from the fields of the first two lines, or None."""
    if not lines:
        return None
    first = lines[0]
    numeric = [field.strip().isdecimal() for field in first]
    if _NUMBERS.match(" ".join(first)) or len(first) == 4:
        return "lfw"
    if len(first) == 3:
        if not numeric[0] and numeric[1] and numeric[2]:
            return "lfw"
        if not numeric[1] and first[2] in GENUINE + IMPOSTOR:
            return "labelled"
        if first[0] in GENUINE + IMPOSTOR and not numeric[1] and not numeric[2]:
            return "label-first"
    if len(first) == 2 and len(lines) == 2 and len(lines[1]) == 2 and numeric == [False, True]:
        return "two-line"
    return None
