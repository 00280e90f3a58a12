"""Readers of score files: a score per line, with a label, or with the people in it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalkit.datasets.pair_list import GENUINE, IMPOSTOR, numbered, wrong_line
from evalkit.errors import DataError
from evalkit.files import as_path, read_text
from evalkit.protocols.claims import Claims

_EXPECTED = (
    "'label score' or 'label score fold' with a label of 1, 0 or -1, 'claimed real probe score', "
    "or 'claimed model real probe score'"
)


@dataclass(frozen=True, slots=True)
class ScoreList:
    """Scored pairs in the order of the file.

    score : (P,) float64, -inf for a comparison that failed.  genuine : (P,) bool.
    fold : (P,) int16, or None where the file has no third column.
    claims : who is in them, where the file has four columns or five.
    """

    score: NDArray[np.float64]
    genuine: NDArray[np.bool_]
    fold: NDArray[np.int16] | None
    claims: Claims | None = None


def read(path: str | os.PathLike[str], *, distance: bool = False) -> ScoreList:
    """Read a comparison per line, its fields between blanks, tabs, commas or semicolons.

    `label score [fold]`, label : 1 = genuine; 0 or -1 = impostor.  Or as bob writes them, `claimed
    real probe score` and `claimed model real probe score`: the person claimed, what was enrolled of
    him, the person who it is, and the probe.  All lines have as many fields as the first.
    A comma between digits beside another separator may be a decimal comma, and is refused.
    distance : lower is more alike, so the score is minus the number, and inf stands for a
    comparison that failed.
    """
    path = as_path(path)
    columns: list[list[str]] = []
    score: list[float] = []
    for number, line in numbered(read_text(path)):
        fields = _fields(path, number, line, len(columns))
        columns = columns or [[] for _ in fields[1:]]
        given = _number(fields.pop(-1 if len(fields) > 3 else 1))
        value = -given if distance else given
        if not value < np.inf:
            failed = "inf" if distance else "-inf"
            what = f"a finite number, or {failed} for a comparison that failed"
            raise wrong_line(str(path), number, what, line)
        score.append(value)
        for column, name in zip(columns, fields, strict=True):
            column.append(sys.intern(name))
    if not score:
        raise DataError(f"{path} holds no scores", f"expected lines of {_EXPECTED}")
    values = np.array(score, np.float64)
    if len(columns) > 2:
        claims = _claims(columns)
        return ScoreList(values, claims.genuine, None, claims)
    genuine = np.array([label in GENUINE for label in columns[0]], np.bool_)
    return ScoreList(values, genuine, np.array(columns[1], np.int16) if columns[1:] else None)


def _fields(path: Path, number: int, line: str, columns: int) -> list[str]:
    """Part a line; DataError where it is none of the kinds, or of another than the lines before.

    columns : of these, without the score; 0 = there are none.
    """
    if re.search(r"\d,\d", line) and re.search(r"[\s;]", line):
        raise wrong_line(str(path), number, "a decimal point, or one separator alone", line)
    fields = re.split(r"[\s,;]+", line)
    if len(fields) not in (2, 3, 4, 5):
        raise wrong_line(str(path), number, _EXPECTED, line)
    if len(fields) < 4 and fields[0] not in GENUINE + IMPOSTOR:
        raise wrong_line(str(path), number, _EXPECTED, line)
    if columns and len(fields) != columns + 1:
        folds = {len(fields), columns + 1} == {2, 3}
        what = "a fold on every line, or on none" if folds else f"{columns + 1} fields, as before"
        raise wrong_line(str(path), number, what, line)
    place = fields[2] if len(fields) == 3 else "0"
    if not (place.isascii() and place.isdigit() and len(place) < 5):
        raise wrong_line(str(path), number, "a fold from 0 to 9999", line)
    return fields


def _claims(columns: Sequence[Sequence[str]]) -> Claims:
    """Give people, models and probes numbers from 0, as they appear."""
    claimed, *model, real, probe = columns
    people = {name: n for n, name in enumerate(dict.fromkeys([*claimed, *real]))}
    models = list(zip(claimed, *model, strict=True))
    probes = list(zip(real, probe, strict=True))
    return Claims(
        claimed=np.array([people[name] for name in claimed]),
        real=np.array([people[name] for name in real]),
        model=_by_appearance(models),
        probe=_by_appearance(probes),
    )


def _by_appearance(names: Sequence[tuple[str, ...]]) -> NDArray[np.int64]:
    number = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], np.int64)


def _number(text: str) -> float:
    """Read a decimal number; NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
