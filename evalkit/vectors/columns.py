"""Columns of a table of vectors: the key of each row, the coordinates, and what is neither.

A label, a fold or a detection score beside the coordinates would be one of them by its numbers
alone.  So the names decide where there are any: the largest group of numbered names, e0 e1 ... or
0 1 ..., or the one column of lists, are the vector; without such, all that is called as nothing
else (`table_headers.stands_beside`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from evalkit.bfloat16 import Bfloat16
from evalkit.errors import DataError, first_few
from evalkit.table_headers import (
    INDEX,
    names_points,
    names_rows,
    names_vectors,
    stands_beside,
    word,
)

Kind = Literal["text", "whole", "number", "zero", "list"]
_NUMBERED = re.compile(r"(.*?)(\d+)\D?")
_HINT = "name the columns in a first line: key,e0,e1,...; a label is then left out"


@dataclass(frozen=True, slots=True)
class Columns:
    """Place of the key, None where no column names the rows, and those of the coordinates.

    told : the columns that are neither, "" where there are none.
    """

    key: int | None
    coordinates: tuple[int, ...]
    told: str


def choose(
    kinds: Sequence[Kind], names: Sequence[str] | None, distinct: Callable[[int], bool]
) -> Columns:
    """Choose among columns by what they hold and how they are called.

    kinds : of each: text, lists, whole numbers, zeros alone, or numbers of which some are broken.
    names : None without a header; names that only count the columns say nothing of a label.
    distinct : whether the cells of a column all differ.
    DataError that names the columns where several could be meant.
    """
    counted = names is not None and all(name.isdecimal() for name in names if name)
    if counted and names is not None and all(names):
        names = None
    key = _key(kinds, names, distinct)
    lists = [c for c, kind in enumerate(kinds) if kind == "list"]
    if len(lists) > 1 and names is not None:
        lists = [c for c in lists if names_vectors(names[c])] or lists
    vector = lists[:1] if len(lists) == 1 else _group(kinds, names)
    if len(lists) > 1:
        raise DataError(
            f"{_shown(lists, names)} hold lists, and one is the vector", "call it features"
        )
    if not vector:
        vector = [c for c, kind in enumerate(kinds) if kind not in ("text", "list") and c != key]
        if names is not None:
            vector = [
                c for c in vector if word(names[c]) not in INDEX and not stands_beside(names[c])
            ]
        _refuse_labels(vector, kinds, names)
    elif counted:
        _refuse_labels(vector, kinds, names)
    if key in vector:
        key = None
    rest = [c for c in range(len(kinds)) if c != key and c not in vector]
    return Columns(key, tuple(vector), f"left out: {_shown(rest, names)}" if rest else "")


def _refuse_labels(
    vector: Sequence[int], kinds: Sequence[Kind], names: Sequence[str] | None
) -> None:
    whole = [c for c in vector if kinds[c] == "whole"]
    if whole and any(kinds[c] == "number" for c in vector):
        raise DataError(
            f"{_shown(whole, names)} of whole numbers among columns of fractions is not a "
            "coordinate, but a label, a fold or the like",
            _HINT,
        )


def choose_arrays(
    held: Mapping[str, tuple[tuple[int, ...], str]],
) -> tuple[str, str | None, str]:
    """Choose among a file's arrays: the vectors, the names of their rows, and what is left out.

    held : shape and kind of dtype ("f", "U", ...) of each.  "features" and "keys" are these; else
    the only array of fractions, (N, D) or (N, V, D), and the only texts (N,), or those of several
    that are called as vectors and names are.  DataError where several could be meant, or none is.
    """
    shown = ", ".join(f"{name!r} {shape}" for name, (shape, _) in list(held.items())[:8])
    wide = [n for n, (shape, kind) in held.items() if kind == "f" and len(shape) in (2, 3)]
    if len(wide) > 1:
        wide = [n for n in wide if names_vectors(n)]
    vectors = ["features"] if "features" in held else wide
    if len(vectors) != 1:
        raise DataError(
            f"no array is called 'features'; it holds {shown or 'no arrays'}",
            "call the vectors, (N, D), features, and the names of their rows keys",
        )
    rows = held[vectors[0]][0][:1]
    texts = [n for n, (shape, kind) in held.items() if kind in ("S", "U") and shape == rows]
    names = ["keys"] if "keys" in held else texts
    if len(names) > 1:
        names = [n for n in texts if names_rows(n)]
    if len(texts) > 1 and len(names) != 1:
        raise DataError(f"{', '.join(texts)} could each name the rows", "call the names 'keys'")
    rest = [name for name in held if name not in (*vectors, *names)]
    return vectors[0], next(iter(names), None), f"left out: {', '.join(rest)}" if rest else ""


def shape_and_kind(value: Any) -> tuple[tuple[int, ...], str] | None:
    """Tell an array's shape and its numpy kind; None of what is no array."""
    if isinstance(value, list | tuple):
        return (len(value),), "U" if all(isinstance(x, str) for x in value) else "O"
    if isinstance(value, Bfloat16):
        return value.shape, "f"
    if isinstance(value, np.ndarray):  # MATLAB's lists of numbers have a second axis, of 1
        flat = value.ndim == 2 and 1 in value.shape
        return (value.size,) if flat else value.shape, value.dtype.kind
    if hasattr(value, "is_floating_point"):  # of torch
        return tuple(value.shape), "f" if value.is_floating_point() else "i"
    return None


def _group(kinds: Sequence[Kind], names: Sequence[str] | None) -> list[int]:
    """Find the largest group of columns whose names count from 0 or 1; empty where none does."""
    groups: dict[str, dict[int, str]] = {}
    for c, name in enumerate(names or ()):
        match = _NUMBERED.fullmatch(name)
        if match and kinds[c] not in ("text", "list") and not names_points(match[1]):
            groups.setdefault(match[1], {})[c] = match[2]
    counted = [[*g] for g in groups.values() if len(g) > 1 and counts([*g.values()])]
    counted.sort(key=len, reverse=True)
    if len(counted) > 1 and len(counted[0]) == len(counted[1]):
        both = " and ".join(_shown(group[:1], names) + " ..." for group in counted[:2])
        raise DataError(f"{both} are {len(counted[0])} columns each, and one is the vector", _HINT)
    return counted[0] if counted else []


def counts(numbers: Sequence[str]) -> bool:
    """Whether whole numbers count from 0 or from 1."""
    return [int(n) if n.isdecimal() else -1 for n in numbers] in (
        list(range(len(numbers))),
        list(range(1, len(numbers) + 1)),
    )


def _key(
    kinds: Sequence[Kind], names: Sequence[str] | None, distinct: Callable[[int], bool]
) -> int | None:
    """Place of the column that names the rows: by its own name, or the only one that can."""
    if names is not None:
        called = [c for c, name in enumerate(names) if names_rows(name)]
        called.sort(key=lambda c: kinds[c] != "text")
        for c in called:
            if kinds[c] in ("text", "whole") and (len(called) == 1 or distinct(c)):
                return c
    texts = [c for c, kind in enumerate(kinds) if kind == "text"]
    able = texts if len(texts) == 1 else [c for c in texts if distinct(c)]
    if len(able) == 1:
        return able[0]
    if texts:
        raise DataError(f"{_shown(texts, names)} could each name the rows", _HINT)
    if names is None and kinds[0] == "whole" and "number" in kinds and distinct(0):
        return 0
    return None


def _shown(columns: Sequence[int], names: Sequence[str] | None) -> str:
    called = [names[c] if names and names[c] else f"column {c + 1}" for c in columns]
    return first_few(called, 8)
