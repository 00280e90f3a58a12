"""Readers of score files: a label and a score per line."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.datasets.pair_list import GENUINE, IMPOSTOR, numbered, wrong_line
from evalkit.errors import DataError
from evalkit.files import as_path, read_text

_EXPECTED = "'label score' or 'label score fold' with a label of 1, 0 or -1"


@dataclass(frozen=True, slots=True)
class ScoreList:
    """Scored pairs in the order of the file.

    score : (P,) float64, -inf for a comparison that failed.  genuine : (P,) bool.
    fold : (P,) int16, or None where the file has no third column.
    """

    score: NDArray[np.float64]
    genuine: NDArray[np.bool_]
    fold: NDArray[np.int16] | None


def read(path: str | os.PathLike[str], *, distance: bool = False) -> ScoreList:
    """Read `label score [fold]` per line, between blanks, tabs, commas or semicolons.

    A comma between digits beside another separator may be a decimal comma, and is refused.

    label : 1 = genuine; 0 or -1 = impostor.  distance : lower is more alike, so the score is minus
    the number, and inf stands for a comparison that failed.
    """
    path = as_path(path)
    label: list[bool] = []
    score: list[float] = []
    fold: list[str | None] = []
    for number, line in numbered(read_text(path)):
        if re.search(r"\d,\d", line) and re.search(r"[\s;]", line):
            raise wrong_line(str(path), number, "a decimal point, or one separator alone", line)
        fields = re.split(r"[\s,;]+", line)
        if len(fields) not in (2, 3) or fields[0] not in GENUINE + IMPOSTOR:
            raise wrong_line(str(path), number, _EXPECTED, line)
        value, place = _number(fields[1]), fields[2] if len(fields) == 3 else None
        value = -value if distance else value
        if not value < np.inf:
            failed = "inf" if distance else "-inf"
            what = f"a finite number, or {failed} for a comparison that failed"
            raise wrong_line(str(path), number, what, line)
        if place is not None and not (place.isascii() and place.isdigit() and len(place) < 5):
            raise wrong_line(str(path), number, "a fold from 0 to 9999", line)
        if fold and (place is None) != (fold[0] is None):
            raise wrong_line(str(path), number, "a fold on every line, or on none", line)
        label.append(fields[0] in GENUINE)
        score.append(value)
        fold.append(place)
    if not label:
        raise DataError(f"{path} holds no scores", f"expected lines of {_EXPECTED}")
    folds = None if fold[0] is None else np.array(fold, np.int16)
    return ScoreList(np.array(score, np.float64), np.array(label, np.bool_), folds)


def _number(text: str) -> float:
    """Read a decimal number; NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
