"""IJB-B and IJB-C as InsightFace's scripts have them: text lists of images, pairs and galleries."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError
from evalkit.files import BLANKS, as_path, not_text, open_text, words_of
from evalkit.protocols.ijb import Enrolled

_BLOCK = 1 << 24
_MEDIA, _PAIRS = "_face_tid_mid.txt", "_template_pair_label.txt"
_DETECTIONS = "_name_5pts_score.txt"


@dataclass(frozen=True, slots=True)
class Media:
    """Image i, by name, belongs to a template and to a medium (a still or a video)."""

    names: tuple[str, ...]
    template: NDArray[np.int64]
    media: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Detections:
    """Image i, by name, has five landmarks, (N, 5, 2) x and y, and a detection score, (N,)."""

    names: tuple[str, ...]
    landmarks: NDArray[np.float32]
    score: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TemplatePairs:
    """Pairs of template ids, (P,) int32 each, and whether they are one subject."""

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    genuine: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaLists:
    """The lists of IJB's 1:1 in one folder; `detections` need not be there."""

    media: Path
    pairs: Path
    detections: Path | None = None


def find(folder: str | os.PathLike[str]) -> MetaLists | None:
    """Find the lists of 1:1 in a folder or in its `meta`; None where it has no list of media.

    DataError where it has those of two sets, or no pairs beside the media.
    """
    root = as_path(folder)
    for each in (root, root / "meta"):
        media, pairs, detections = (_only(each, kind) for kind in (_MEDIA, _PAIRS, _DETECTIONS))
        if media is not None and pairs is None:
            raise DataError(f"{each} has {media.name} and no list *{_PAIRS}")
        if media is not None and pairs is not None:
            return MetaLists(media=media, pairs=pairs, detections=detections)
    return None


def _only(folder: Path, ending: str) -> Path | None:
    found = sorted(folder.glob(f"*{ending}"))
    if len(found) > 1:
        raise DataError(
            f"{folder} has two sets: {found[0].name}, {found[1].name}", "give each its own folder"
        )
    return found[0] if found else None


def read_media(path: str | os.PathLike[str]) -> Media:
    """Read `ijbc_face_tid_mid.txt`: image, template and medium per line."""
    path = as_path(path)
    names, numbers = _columns(path, 2, np.int64)
    return Media(names, numbers[:, 0], numbers[:, 1])


def read_detections(path: str | os.PathLike[str]) -> Detections:
    """Read `ijbc_name_5pts_score.txt`: image, five x y, detection score per line."""
    path = as_path(path)
    names, numbers = _columns(path, 11, np.float64)
    landmarks = numbers[:, :10].reshape(-1, 5, 2).astype(np.float32)
    return Detections(names, landmarks, numbers[:, 10].astype(np.float32))


def _columns(path: Path, width: int, dtype: Any) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Read lines of a name and `width` numbers."""
    names: list[str] = []
    numbers = []
    try:
        with open_text(path) as f:
            for line in f:
                name, *values = words_of(line.rstrip("\r\n").strip(BLANKS))
                if len(values) != width:
                    raise DataError(
                        f"line {len(names) + 1} of {path.name} has {len(values)} numbers after the "
                        f"name, expected {width}"
                    )
                names.append(name)
                numbers.append(np.array(values, dtype))
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not a text file: {not_text(e)}") from e
    except (OSError, ValueError, OverflowError) as e:
        raise DataError(f"cannot read {path}: {e}") from e
    if not names:
        raise DataError(f"{path} is empty")
    return tuple(names), np.stack(numbers)


_PAIR = "expected: template template 0-or-1"


def read_pairs(path: str | os.PathLike[str]) -> TemplatePairs:
    """Read `ijbc_template_pair_label.txt`: two template ids and 0 or 1 per line."""
    path = as_path(path)
    blocks = list(_triples(path))
    if not blocks:
        raise DataError(f"{path} holds no pairs")
    left, right, label = (np.concatenate([b[:, c] for b in blocks]) for c in range(3))
    if not np.isin(label, (0, 1)).all():
        raise DataError(f"a label in {path.name} is neither 0 nor 1")
    return TemplatePairs(left, right, label == 1)


def _triples(path: Path) -> Iterator[NDArray[np.int32]]:
    """Yield (n, 3) numbers of some megabytes of text at a time."""
    line = 0
    try:
        with open_text(path) as f:
            while text := f.read(_BLOCK) + f.readline():
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # numpy's only word about text that is no number
                    numbers = np.fromstring(text, np.int64, sep=" ")
                lines = _lines_of_three(text.encode("ascii"))
                if len(numbers) != 3 * lines or not _are_ids(numbers):
                    raise DataError(f"{path.name} is no list of pairs after line {line}", _PAIR)
                line += lines
                yield numbers.reshape(-1, 3).astype(np.int32)
    except OSError as e:
        raise DataError(f"cannot read the pairs in {path}: {e}") from e
    except (ValueError, DeprecationWarning) as e:
        raise DataError(f"{path.name} is no list of pairs after line {line}", _PAIR) from e


def _lines_of_three(text: bytes) -> int:
    """Count the lines, or give -1 where one has not three numbers; blank ones may end the text."""
    byte = np.frombuffer(text.rstrip() + b"\n", np.uint8)
    digit = (byte >= ord("0")) & (byte <= ord("9"))
    first = digit & ~np.concatenate([[False], digit[:-1]])
    at_end = np.cumsum(first, dtype=np.int32)[byte == ord("\n")]
    if at_end[-1] == 0:
        return 0
    return len(at_end) if np.array_equal(at_end, 3 * np.arange(1, len(at_end) + 1)) else -1


def _are_ids(numbers: NDArray[np.int64]) -> bool:
    return bool(numbers.min(initial=0) >= 0 and numbers.max(initial=0) < 2**31)


def read_enrolled(path: str | os.PathLike[str]) -> Enrolled:
    """Read `ijbc_1N_gallery_G1.csv` and its like: a header, then template, subject, ... a line.

    A template has a line an image; each is listed once.
    """
    path = as_path(path)
    try:
        with open_text(path) as f:
            lines = csv.reader(f)
            head = next(lines, [])
            both = [(int(line[0]), int(line[1])) for line in lines if line]
    except (OSError, ValueError, IndexError, csv.Error) as e:
        raise DataError(f"cannot read {path} as template, subject, ...: {e}") from e
    if head and head[0].strip().isdecimal():
        raise DataError(f"{path.name} has no header: its first line is {','.join(head)[:100]!r}")
    subject: dict[int, int] = {}
    for template, who in both:
        if subject.setdefault(template, who) != who:
            raise DataError(f"template {template} in {path.name} has two subjects")
    if not subject:
        raise DataError(f"{path} lists no template")
    try:
        ids = np.array(list(subject), np.int64), np.array(list(subject.values()), np.int64)
    except OverflowError as e:
        raise DataError(f"a number in {path} is too large") from e
    return Enrolled(*ids)
