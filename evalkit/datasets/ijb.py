"""IJB-A, IJB-B and IJB-C: NIST's CSVs, and the text lists of InsightFace's scripts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit import tables
from evalkit.datasets.pair_list import OF_ONE_IMAGE, TWICE
from evalkit.errors import DataError, first_few
from evalkit.files import as_path, numbered_lines, open_text, read_text, words_of
from evalkit.memory import give_back
from evalkit.protocols.ahead import each_ahead
from evalkit.protocols.ijb import Enrolled
from evalkit.table_headers import place_of

_BLOCK, _LINES = 1 << 22, 4096  # read together: bytes, lines
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
    paths = sorted(folder.glob(f"*{ending}"))
    if len(paths) > 1:
        raise DataError(
            f"{folder} has two sets: {paths[0].name}, {paths[1].name}", "give each its own folder"
        )
    return paths[0] if paths else None


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces of NIST's metadata, a line each: line i shows a face of `names[i]` in a template.

    template, subject, media : (N,) int64; an image has a line for each template that it is in.
    columns : every column as it is written, by its name: "GENDER", "SKIN_TONE", "FACE_X" ...
    """

    names: tuple[str, ...]
    template: NDArray[np.int64]
    subject: NDArray[np.int64]
    media: NDArray[np.int64]
    columns: Mapping[str, tuple[str, ...]]


def read_media(path: str | os.PathLike[str]) -> Media:
    """Read `ijbc_face_tid_mid.txt`: image, template and medium per line."""
    path = as_path(path)
    names, numbers = _columns(path, 2, np.int64)
    return Media(names, numbers[:, 0], numbers[:, 1])


def read_detections(path: str | os.PathLike[str]) -> Detections:
    """Read `ijbc_name_5pts_score.txt`: image, five x y, detection score per line.

    DataError for a score outside 0..1: it weighs an image, and may be a coordinate.
    """
    path = as_path(path)
    names, numbers = _columns(path, 11, np.float64)
    wrong = np.flatnonzero((numbers[:, 10] < 0) | (numbers[:, 10] > 1))
    if len(wrong):
        raise DataError(
            f"{path.name} gives {names[wrong[0]]} the detection score {numbers[wrong[0], 10]:g}, "
            "expected 0 to 1",
            "a line is: image x y x y x y x y x y score",
        )
    landmarks = numbers[:, :10].reshape(-1, 5, 2).astype(np.float32)
    return Detections(names, landmarks, numbers[:, 10].astype(np.float32))


def _columns(path: Path, width: int, dtype: Any) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Read lines of a name and `width` numbers."""
    names, blocks = list[str](), []
    lines = iter(numbered_lines(read_text(path)))
    while some := [(number, words_of(line)) for number, line in islice(lines, _LINES)]:
        names += [words[0] for _, words in some]
        blocks.append(_block(path, some, width, dtype))
    if not names:
        raise DataError(f"{path} is empty")
    return tuple(names), np.concatenate(blocks)


def _block(
    path: Path, some: Sequence[tuple[int, list[str]]], width: int, dtype: Any
) -> NDArray[Any]:
    """Read the numbers after the names in some lines, (L, width)."""
    if all(len(words) == width + 1 for _, words in some):
        read = int if dtype is np.int64 else float
        with suppress(ValueError, OverflowError):  # the line of which is told below
            return np.array([read(n) for _, words in some for n in words[1:]], dtype).reshape(
                -1, width
            )
    return np.stack([_numbers(path, number, words, width, dtype) for number, words in some])


def _numbers(path: Path, line: int, words: Sequence[str], width: int, dtype: Any) -> NDArray[Any]:
    """Read the numbers after the name in a line."""
    if len(words) != width + 1:
        raise DataError(
            f"line {line} of {path.name} has {len(words) - 1} numbers after the name, expected "
            f"{width}"
        )
    try:
        return np.array(words[1:], dtype)
    except (ValueError, OverflowError) as e:
        raise DataError(f"cannot read line {line} of {path.name}: {e}") from e


_PAIR = "expected: template template 0-or-1"


def read_pairs(path: str | os.PathLike[str]) -> TemplatePairs:
    """Read `ijbc_template_pair_label.txt`: two template ids and 0 or 1 per line."""
    path = as_path(path)
    left, right, label = _columns_of(path, 3, _PAIR)
    if label.max() > 1:
        raise DataError(f"a label in {path.name} is neither 0 nor 1")
    return TemplatePairs(left, right, label == 1)


def doubts(pairs: TemplatePairs, name: str) -> dict[str, str]:
    """Say for the report which pairs are a template with itself, and how many stand twice.

    name : of their list; DataError where it calls two templates one subject and two subjects.
    """
    told = dict[str, str]()
    if len(own := pairs.left[pairs.left == pairs.right]):
        told[OF_ONE_IMAGE] = (
            f"{len(own):,} pairs are a template with itself, first {own[0]}: their scores are the "
            "highest"
        )
    word = np.minimum(pairs.left, pairs.right).astype(np.int64)
    word <<= 31
    word |= np.maximum(pairs.left, pairs.right)
    word <<= 1
    word |= pairs.genuine
    halves = (word[(word >> 32 & 1) == bit] for bit in (0, 1))  # sorted side by side
    found = [*each_ahead(_repeated, halves, 2)]
    again, contradicted = sum(n for n, _ in found), max(first for _, first in found)
    if contradicted >= 0:
        a, b = contradicted >> 32, contradicted >> 1 & (1 << 31) - 1
        raise DataError(
            f"{name} calls templates {a} and {b} one subject, and two in another line",
            "leave one of the two lines out",
        )
    if again:
        told[TWICE] = (
            f"{again:,} of {len(word):,} pairs repeat another one: each counts as often as it "
            "stands there"
        )
    return told


def _repeated(word: NDArray[np.int64]) -> tuple[int, int]:
    """Count the pairs that repeat another one, and give one of both labels, -1 where none is.

    word : (P,) two ids and, the last bit, the label; it is sorted in place.
    """
    word.sort()
    again, contradicted = 0, -1
    for o in range(0, len(word) - 1, _BLOCK):
        one = word[o : o + _BLOCK + 1]
        alike = one[1:] ^ one[:-1]  # 0 for one pair and label, 1 for one pair
        again += int(np.count_nonzero(alike <= 1))
        if contradicted < 0 and (alike == 1).any():
            contradicted = int(one[np.argmax(alike == 1)])
    return again, contradicted


def read_matches(path: str | os.PathLike[str], templates: Sequence[Enrolled]) -> TemplatePairs:
    """Read NIST's `verify_comparisons_1.csv`, `ijbc_11_G1_G2_matches.csv`: two template ids a line.

    templates : whom each of them shows, see `read_enrolled`.  A pair is genuine where both show one
    subject; DataError where a template is not among them.
    """
    path = as_path(path)
    left, right = _columns_of(path, 2, "expected: template,template")
    ids, place = np.unique(np.concatenate([t.template for t in templates]), return_index=True)
    subject = np.concatenate([t.subject for t in templates])[place]
    sides = []
    for side in (left, right):
        at = np.minimum(np.searchsorted(ids, side), len(ids) - 1)
        if (missing := np.flatnonzero(ids[at] != side)).size:
            raise DataError(
                f"{path.name} compares the template {side[missing[0]]}, whose subject is not known",
                "give every list of templates: those of both galleries and of the probes",
            )
        sides.append(subject[at])
    return TemplatePairs(left, right, sides[0] == sides[1])


def _columns_of(path: Path, width: int, expected: str) -> list[NDArray[np.int32]]:
    """Read `width` columns of ids, (P,) each."""
    blocks = list(_blocks(path, width, expected))
    if not blocks:
        raise DataError(f"{path} holds no pairs")
    columns = [[block[c] for block in blocks] for c in range(width)]
    del blocks
    whole = [np.concatenate(columns.pop(0)) for _ in range(width)]
    give_back()  # the text and its numbers took twice as much
    return whole


def _blocks(path: Path, width: int, expected: str) -> Iterator[list[NDArray[np.int32]]]:
    """Yield `width` columns of ids, (n,) each, of some megabytes of text at a time.

    Between ids stand blanks or commas.
    """
    line = 0
    try:
        with open_text(path) as f, warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy's only word about text that is no number
            texts = iter(lambda: f.read(_BLOCK) + f.readline(), "")
            for lines, numbers in each_ahead(partial(_parsed, width), texts):
                if lines < 0:
                    raise DataError(f"{path.name} is not a pair list{_after(line)}", expected)
                line += lines
                yield numbers
    except OSError as e:
        raise DataError(f"cannot read the pairs in {path}: {e}") from e
    except (ValueError, DeprecationWarning) as e:
        raise DataError(f"{path.name} is not a pair list{_after(line)}", expected) from e


def _after(line: int) -> str:
    return f" after line {line}" if line else ""


def _parsed(width: int, text: str) -> tuple[int, list[NDArray[np.int32]]]:
    """Count the lines of a text and read its columns; -1 where it is no list of ids."""
    text = text.replace(",", " ")
    numbers = np.fromstring(text, np.int64, sep=" ")
    lines = _lines_of(text.encode("ascii"), width)
    if len(numbers) != width * lines or not _are_ids(numbers):
        return -1, []
    return lines, [column.astype(np.int32) for column in numbers.reshape(-1, width).T]


def _lines_of(text: bytes, width: int) -> int:
    """Count the lines, or give -1 where one lacks a number; blank ones may end the text."""
    byte = np.frombuffer(text.rstrip() + b"\n", np.uint8)
    digit = (byte >= ord("0")) & (byte <= ord("9"))
    first = digit & ~np.concatenate([[False], digit[:-1]])
    at_end = np.cumsum(first, dtype=np.int32)[byte == ord("\n")]
    if at_end[-1] == 0:
        return 0
    return len(at_end) if np.array_equal(at_end, width * np.arange(1, len(at_end) + 1)) else -1


def _are_ids(numbers: NDArray[np.int64]) -> bool:
    return bool(numbers.min(initial=0) >= 0 and numbers.max(initial=0) < 2**31)


def read_faces(path: str | os.PathLike[str]) -> Faces:
    """Read NIST's metadata of IJB-A: `verify_metadata_1.csv`, `search_gallery_1.csv` and the like.

    Its header names TEMPLATE_ID, SUBJECT_ID, FILE, MEDIA_ID and what else is known of a face.
    """
    path = as_path(path)
    header, rows, _ = tables.with_header(path)
    at = {role: place_of(role, header) for role in ("template", "subject", "media", "file")}
    if absent := [role for role, place in at.items() if place < 0]:
        raise DataError(
            f"{path.name} has no {absent[0]} column; its columns are {first_few(header, 8)}",
            "NIST's metadata begins TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID",
        )
    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    template, subject, media = (
        _ids(columns[at[role]], path) for role in ("template", "subject", "media")
    )
    _refuse_subjects(template, subject, path)
    by_name = dict(zip(header, columns, strict=True))
    return Faces(columns[at["file"]], template, subject, media, by_name)


def read_enrolled(path: str | os.PathLike[str]) -> Enrolled:
    """Read `ijbc_1N_gallery_G1.csv` and its like: a header, then template, subject, ... a line.

    The columns stand where the header names them, else first.  A template has a line per image;
    each is listed once.
    """
    path = as_path(path)
    header, rows, _ = tables.with_header(path)
    if header and header[0].isdecimal():
        raise DataError(f"{path.name} has no header: its first line is {','.join(header)[:100]!r}")
    if len(header) < 2:
        raise DataError(f"cannot read {path} as template, subject, ...")
    if not rows:
        raise DataError(f"{path} lists no template")
    named = [place_of(role, header) for role in ("template", "subject")]
    places = (0, 1) if min(named) < 0 else named
    template, subject = (_ids([row[c] for row in rows], path) for c in places)
    _refuse_subjects(template, subject, path)
    first = np.sort(np.unique(template, return_index=True)[1])
    return Enrolled(template[first], subject[first])


def _ids(cells: Sequence[str], path: Path) -> NDArray[np.int64]:
    try:
        return np.array([int(cell) for cell in cells], np.int64)
    except ValueError as e:
        raise DataError(f"cannot read the ids in {path}: {e}") from e
    except OverflowError as e:
        raise DataError(f"a number in {path} is too large") from e


def _refuse_subjects(template: NDArray[np.int64], subject: NDArray[np.int64], path: Path) -> None:
    _, first, row = np.unique(template, return_index=True, return_inverse=True)
    other = np.flatnonzero(subject[first][row] != subject)
    if len(other):
        raise DataError(f"template {template[other[0]]} in {path.name} has two subjects")
    if len(nobody := np.flatnonzero(subject < 0)):
        raise DataError(
            f"template {template[nobody[0]]} in {path.name} has the subject {subject[nobody[0]]}, "
            "which names nobody",
            "give each unknown person a number of its own, or leave their templates out",
        )
