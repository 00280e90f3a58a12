"""Five landmarks per face, from the files that detectors' users keep: .npz, .json, .csv or .txt."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError
from evalkit.files import (
    BLANKS,
    as_path,
    lines_of,
    read_text,
    refuse_lfs_pointer,
    whole_file,
    words_of,
)
from evalkit.keys import rows_of
from evalkit.strict_json import parsed
from evalkit.vectors import readers

_ORDER = "left eye, right eye, nose, left and right mouth corner as seen, x and y in pixels"
_LINE = "'key x1 y1 ... x5 y5', with commas, tabs or blanks"


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Points of N faces: keys, and (N, 5, 2) float32 pixel positions (x, y); NaN = no face."""

    keys: tuple[str, ...]
    points: NDArray[np.float32]

    def of(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """Points of these images, in this order; DataError names those without."""
        return self.points[rows_of(keys, self.keys, "landmarks")]


def read(path: str | os.PathLike[str]) -> Landmarks:
    """Read the landmarks of many images, one face each.

    .npz : arrays `landmarks` (N, 5, 2) and `paths` (or `keys`), N names.
    .json : {key: [[x, y] * 5]}, perhaps under "points".
    .csv, .txt : a line `key x1 y1 ... x5 y5`; a first line without numbers is a header.

    Order: left eye, right eye, nose, left and right mouth corner, as seen in the image.  Ten NaN,
    or ten empty fields of a line, say that no face was found.
    DataError where a face has not five finite points in that order.
    """
    path = as_path(path)
    if not path.is_file():
        raise DataError(f"no landmarks at {path}")
    refuse_lfs_pointer(path)
    reader = {".npz": _npz, ".json": _json, ".csv": _lines, ".txt": _lines}.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"cannot read landmarks from {path.name!r}", "give .npz, .json, .csv, .txt")
    keys, points = reader(path)
    if not keys:
        raise DataError(f"{path.name} holds no landmarks")
    _check(keys, points, path.name)
    return Landmarks(tuple(keys), points)


def write(path: Path, marks: Landmarks) -> None:
    """Write landmarks as .csv, with empty fields where there is no face; `read` gives the same."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["key", *(f"{axis}{n}" for n in range(1, 6) for axis in "xy")])
    for key, points in zip(marks.keys, marks.points, strict=True):
        rows.writerow([key, *("" if np.isnan(v) else f"{v:.9g}" for v in points.ravel())])
    with whole_file(path) as f:
        f.write(text.getvalue().encode())


def _check(keys: Sequence[str], points: NDArray[np.float32], name: str) -> None:
    if points.shape != (len(keys), 5, 2):
        raise DataError(
            f"{name}: landmarks of shape {points.shape} for {len(keys)} keys",
            f"expected ({len(keys)}, 5, 2): {_ORDER}",
        )
    (lx, ly), (rx, ry), (mx, my) = (
        p.T for p in (points[:, 0], points[:, 1], points[:, 3:].mean(1))
    )
    # however the head is turned, the mouth lies on one side of the line from eye to eye
    upright = (rx - lx) * (my - ly) - (ry - ly) * (mx - lx) > 0
    none = np.isnan(points).all(axis=(1, 2))
    finite = np.isfinite(points).all(axis=(1, 2))
    for good, what in (
        (finite, "NaN or infinity among its points"),
        (upright, "its points mirrored or in another order"),
    ):
        bad = np.flatnonzero(~(good | none))
        if len(bad):
            raise DataError(
                f"{name}: {keys[bad[0]]} has {what} ({len(bad):,} of {len(keys):,} faces)",
                f"expected {_ORDER}",
            )


def _npz(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    try:
        readers.refuse_bomb(path)
        with path.open("rb") as f, np.load(f, allow_pickle=False) as held:
            names = next((n for n in ("paths", "keys") if n in held.files), None)
            if names is None or "landmarks" not in held.files:
                raise DataError(
                    f"{path.name} has arrays {', '.join(held.files)}",
                    "expected landmarks (N, 5, 2) and paths (N names)",
                )
            keys, points = (np.asarray(held[n]) for n in (names, "landmarks"))
    except DataError:
        raise
    except readers.DAMAGED as e:
        raise DataError(f"{path.name} is not a whole .npz file without objects") from e
    if points.dtype.kind not in "fiu" or keys.ndim != 1:
        raise DataError(f"{path.name}: landmarks of {points.dtype}, names of shape {keys.shape}")
    return list(map(str, keys)), points.astype(np.float32)


def _json(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    try:
        held = parsed(read_text(path))
    except ValueError as e:
        raise DataError(f"{path.name} is not JSON: {str(e)[:100]}") from e
    held = held.get("points", held) if isinstance(held, dict) else held
    if not isinstance(held, dict):
        raise DataError(
            f"{path.name} holds a {type(held).__name__}", "expected {key: [[x, y] * 5]}"
        )
    return list(held), _stacked([(key, key, value) for key, value in held.items()], path.name)


def _lines(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    rows = []
    for number, line in enumerate(lines_of(read_text(path)), start=1):
        fields = _fields(line)
        header = number == 1 and not any(map(_is_number, fields[1:]))
        if line and not header:
            numbers = fields[1:] if any(fields[1:]) else ["nan"] * len(fields[1:])
            rows.append((fields[0], f"line {number}", numbers))
    return [key for key, _, _ in rows], _stacked(rows, path.name)


def _fields(line: str) -> list[str]:
    apart = "," if "," in line else "\t" if "\t" in line else None
    return [field.strip(BLANKS) for field in (line.split(apart) if apart else words_of(line))]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _stacked(rows: Sequence[tuple[str, str, Any]], name: str) -> NDArray[np.float32]:
    points = np.empty((len(rows), 5, 2), np.float32)
    for r, (_, where, value) in enumerate(rows):
        try:
            numbers = np.array(value, np.float64).ravel()
        except (TypeError, ValueError) as e:
            raise DataError(f"{name} {where}: not all numbers", f"expected {_LINE}") from e
        if numbers.size != 10:
            raise DataError(
                f"{name} {where}: {numbers.size} numbers, not 10", "expected x and y of 5 points"
            )
        points[r] = numbers.reshape(5, 2)
    return points
