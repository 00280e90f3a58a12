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
from evalkit.files import as_path, numbered_lines, read_text, refuse_lfs_pointer, whole_file
from evalkit.images import alignment
from evalkit.keys import other_folders, rows_of
from evalkit.replacing import LANDMARKS, refuse_replacing
from evalkit.strict_json import parsed
from evalkit.tables import is_number, parted, separator_of
from evalkit.vectors import readers

ORDERS = {"xy": "x1 y1 ... x5 y5", "mtcnn": "MTCNN's x1 ... x5 y1 ... y5"}
UNUSABLE = np.inf
_STRANGE = 15  # pixels of a template of 112
_SAMPLE = 1000  # faces of a file that are looked at
_POINTS = "left eye, right eye, nose, left and right mouth corner as seen, x and y in pixels"
_LINE = "'key x1 y1 ... x5 y5', with commas, semicolons, tabs or blanks"
_TEXTS = (".csv", ".tsv", ".txt")


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Points of N faces: keys, and (N, 5, 2) float32 pixel positions (x, y); NaN = no face."""

    keys: tuple[str, ...]
    points: NDArray[np.float32]

    def of(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """Points of these images, in this order; DataError names those without."""
        return self.points[rows_of(keys, self.keys, "landmarks", same_folders=True)]

    def folder_note(self, keys: Sequence[str]) -> str:
        """Say that these images have points under other outer folders; "" where they have not."""
        rows = rows_of(keys, self.keys, "landmarks")
        other = other_folders(keys, self.keys, rows)
        return other and f"landmarks are matched {other}"


def read(path: str | os.PathLike[str], order: str = "xy") -> Landmarks:
    """Read the landmarks of many images, one face each.

    .npz : arrays `landmarks` (N, 5, 2) or (N, 10), and `paths` (or `keys`), N names.
    .json : {key: [[x, y] * 5]}, perhaps under "points".
    .csv, .tsv, .txt : a line `key x1 y1 ... x5 y5`, perhaps with a label, a whole number, behind
    the key (RFW); a first line without numbers is a header, a number before it the count (CelebA).
    order : of the ten numbers of a face, "xy" as above, or "mtcnn": x1 ... x5 y1 ... y5.

    Points: left eye, right eye, nose, left and right mouth corner, as seen in the image.  Ten NaN,
    or ten empty fields of a line, say that no face was found.  A face with some NaN, or crossed as
    no face is (its mouth above its eyes), has `UNUSABLE` for all its points; its image fails.
    DataError where the faces of the file are not like a face: another order, or other points.
    """
    path = as_path(path)
    if not path.is_file():
        raise DataError(f"no landmarks at {path}")
    refuse_lfs_pointer(path)
    readers_of = {".npz": _npz, ".json": _json, **dict.fromkeys(_TEXTS, _lines)}
    reader = readers_of.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"cannot read landmarks from {path.name!r}", f"give {' '.join(readers_of)}")
    keys, points = reader(path)
    if not keys:
        raise DataError(f"{path.name} holds no landmarks")
    if points.shape not in ((len(keys), 5, 2), (len(keys), 10)):
        raise DataError(
            f"{path.name}: landmarks of shape {points.shape} for {len(keys)} keys",
            f"expected ({len(keys)}, 5, 2): {_POINTS}",
        )
    numbers = points.reshape(len(keys), 10)
    _refuse_strange(numbers, order, path.name)
    points = _in_order(numbers, order)
    nobody = np.isnan(points).all(axis=(1, 2))
    points[~nobody & (~np.isfinite(points).all(axis=(1, 2)) | _crossed(points))] = UNUSABLE
    return Landmarks(tuple(keys), points)


def write(path: str | os.PathLike[str], marks: Landmarks) -> None:
    """Write landmarks as .csv, with empty fields where there is no face; `read` gives the same."""
    to, text = as_path(path), io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["key", *(f"{axis}{n}" for n in range(1, 6) for axis in "xy")])
    for key, points in zip(marks.keys, marks.points, strict=True):
        rows.writerow([key, *("" if np.isnan(v) else f"{v:.9g}" for v in points.ravel())])
    refuse_replacing(to, LANDMARKS)
    with whole_file(to) as f:
        f.write(text.getvalue().encode())


def _in_order(numbers: NDArray[np.float32], order: str) -> NDArray[np.float32]:
    """Take the ten numbers of each face, (N, 10), in an order: (N, 5, 2), a copy."""
    if order == "mtcnn":
        return numbers.reshape(-1, 2, 5).transpose(0, 2, 1).copy()
    return numbers.reshape(-1, 5, 2).copy()


def _crossed(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether the mouth of each face lies above the line from eye to eye; never in a face.

    However the head is turned, it lies on one side of that line.
    """
    (lx, ly), (rx, ry), (mx, my) = (
        p.T for p in (points[:, 0], points[:, 1], points[:, 3:].mean(1))
    )
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(~((rx - lx) * (my - ly) - (ry - ly) * (mx - lx) > 0))


def _refuse_strange(numbers: NDArray[np.float32], order: str, name: str) -> None:
    """Refuse (N, 10) numbers that are not like faces in this order, with the evidence.

    The points of 13,233 photographs of LFW are 3.0 pixels from the template in the median, at most
    12.2, those of 3,500 profiles of CFP 10.1; with two points exchanged or x for y 17 or more.
    Of crops, whose x and y are of one range, the other order may be below 15, yet twice as far.
    """
    off = {o: _median_off(_in_order(numbers, o)) for o in ORDERS}
    other = min(off, key=off.__getitem__)
    if off[order] <= min(_STRANGE, 2 * off[other]) or not np.isfinite(off[order]):
        return
    said = (
        f"{name}: taken as {ORDERS[order]}, its faces are {off[order]:.1f} pixels of 112 from one"
    )
    if off[other] <= _STRANGE:
        raise DataError(
            f"{said} in the median, as {ORDERS[other]} {off[other]:.1f}",
            f"--landmark-order {other} reads it so",
        )
    raise DataError(
        f"{said} in the median (at most {_STRANGE}): mirrored, or in another order",
        f"expected {_POINTS}",
    )


def _median_off(points: NDArray[np.float32]) -> float:
    """Median distance of faces' points from the template's, in its pixels; inf where none has one.

    That of a face is the root of the mean square after the similarity that brings it nearest.
    """
    _, target = alignment.TEMPLATES["arcface-112"]
    finite = np.flatnonzero(
        np.isfinite(points).all(axis=(1, 2)) & (np.ptp(points, axis=1) > 0).any(1)
    )
    if not len(finite):
        return np.inf
    sample = finite[np.linspace(0, len(finite) - 1, min(len(finite), _SAMPLE)).astype(int)]
    moved = []
    for face in points[sample].astype(np.float64):
        matrix = alignment.similarity(face, target)
        moved.append(face @ matrix[:, :2].T + matrix[:, 2])
    off = ((np.array(moved) - target) ** 2).sum(axis=2).mean(axis=1)
    return float(np.sqrt(np.median(off)))


def _npz(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    arrays = readers.read_arrays(path)
    keys, points = arrays.get("paths", arrays.get("keys")), arrays.get("landmarks")
    if keys is None or points is None:
        raise DataError(
            f"{path.name} has arrays {', '.join(arrays)}",
            "expected landmarks (N, 5, 2) and paths (N names)",
        )
    if points.dtype.kind not in "fiu" or keys.ndim != 1:
        raise DataError(f"{path.name}: landmarks of {points.dtype}, names of shape {keys.shape}")
    return list(map(str, keys)), points.astype(np.float32)


def _json(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    try:
        document = parsed(read_text(path))
    except ValueError as e:
        raise DataError(f"{path.name} is not JSON: {str(e)[:100]}") from e
    document = document.get("points", document) if isinstance(document, dict) else document
    if not isinstance(document, dict):
        raise DataError(
            f"{path.name} holds a {type(document).__name__}", "expected {key: [[x, y] * 5]}"
        )
    return list(document), _stacked(
        [(key, key, value) for key, value in document.items()], path.name
    )


def _lines(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    lines, rows = numbered_lines(read_text(path)), []
    said = int(lines.pop(0)[1]) if lines and lines[0][1].isdecimal() else None  # as CelebA counts
    for place, (number, line) in enumerate(lines):
        key, *cells = parted(line, separator_of(line), 11)
        if place or any(map(is_number, cells)):  # else it is a header
            points = [cell.replace(",", ".") for cell in cells]  # commas that part nothing
            numbers = points if any(points) else ["nan"] * len(points)
            rows.append((key, f"line {number}", numbers))
    if said not in (None, len(rows)):
        raise DataError(f"{path.name}: line 1 says {said}, {len(rows)} follow", "get it whole")
    if rows and all(len(cells) == 11 and cells[0].isdecimal() for _, _, cells in rows):
        rows = [(key, where, cells[1:]) for key, where, cells in rows]  # RFW's, behind a label
    return [key for key, _, _ in rows], _stacked(rows, path.name)


def _stacked(rows: Sequence[tuple[str, str, Any]], name: str) -> NDArray[np.float32]:
    points = np.empty((len(rows), 10), np.float32)
    for r, (_, where, value) in enumerate(rows):
        try:
            numbers = np.array(value, np.float64).ravel()
        except (TypeError, ValueError) as e:
            raise DataError(f"{name} {where}: not all numbers", f"expected {_LINE}") from e
        if numbers.size != 10:
            raise DataError(
                f"{name} {where}: {numbers.size} numbers, not 10", "expected x and y of 5 points"
            )
        points[r] = numbers
    return points
