"""Trillion pairs' files: the one-file submission, and the list of subjects.

A submission is one devkit matrix with a float32 row per image, in the order of the list
that was handed out.  The challenge's identities were never public: the list of subjects is one's
own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError, first_few
from evalkit.files import BLANKS, as_path, each_line, numbered_lines, read_text, whole_file
from evalkit.keys import by_last_parts, canonical, rows_of, spelled_alike, texts_of
from evalkit.replacing import SUBMISSION, refuse_replacing
from evalkit.table_headers import is_header
from evalkit.tables import fields_of, fields_of_lines
from evalkit.vectors import devkit_matrix
from evalkit.vectors.readers import read_npy

ALIKE = "subjects alike"  # what a report's provenance calls `doubts`
_LONGEST = 1 << 26  # bytes of a list that is looked through for names that are nearly alike
_BELOW_0 = re.compile(r"-[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?\Z")


def write_submission(
    path: str | os.PathLike[str], blocks: Iterable[NDArray[Any]], rows: int, dim: int
) -> None:
    """Write blocks of (n, dim) features as one submission of exactly `rows` rows."""
    path = as_path(path)
    done = 0
    refuse_replacing(path, SUBMISSION)
    with whole_file(path) as f:
        f.write(devkit_matrix.header(rows, dim))
        for block in blocks:
            if block.ndim != 2 or block.shape[1] != dim:
                raise DataError(f"a block of shape {block.shape} in a submission of {dim} columns")
            f.write(np.ascontiguousarray(block, "<f4").data)
            done += len(block)
        if done != rows:
            raise DataError(f"a submission of {rows} rows was given {done}")


def read_subjects(
    path: str | os.PathLike[str], keys: Sequence[str] | Sequence[int] | None = None
) -> NDArray[np.int32]:
    """Read the subject of each row: (N,) int32, -1 for a distractor (- or a number below 0).

    path : text, one line per row, or an .npy of (N,) whole numbers or texts, never unpickled.
    keys : the names of the rows, or numbers where they have none.  By names a text of lines `key
    subject` is matched, such as CelebA's identities, in any order and with other images' too.
    Names are numbered in the order of their first appearance.
    """
    path = as_path(path)
    number: dict[str, int] = {}
    spelled = dict[str, int]()  # number of each label as it is written

    def subjects() -> Iterator[int]:
        if path.suffix.lower() == ".npy":
            labels = _labels(path)
        else:
            text = read_text(path)
            labels = _by_key(text, keys, path.name) or each_line(text)
        for row, label in enumerate(labels, 1):
            if label not in spelled:
                name = normalize("NFC", label)
                if not name or name.lower() == "nan":
                    what = repr(label) if name else "empty"
                    raise DataError(f"line {row} of {path} is {what}", "write - for a distractor")
                spelled[label] = -1 if _is_nobody(name) else number.setdefault(name, len(number))
            yield spelled[label]

    return np.fromiter(subjects(), np.int32)


def _by_key(text: str, keys: Sequence[str] | Sequence[int] | None, name: str) -> list[str]:
    """Subject of each key by lines `key subject`, perhaps below a header; empty for other lines."""
    if not keys or isinstance(keys[0], int) or len(fields_of(next(each_line(text), ""))) != 2:
        return []
    rows = fields_of_lines(numbered_lines(text))
    if any(len(fields) != 2 for fields in rows):
        return []
    rows = rows[is_header(rows[0]) :]
    asked, named = [*map(str, keys)], [fields[0] for fields in rows]
    if (by_last_parts([*map(canonical, asked)], [*map(canonical, named)])[0] < 0).all():
        return []
    return [rows[row][1] for row in rows_of(asked, named, f"subjects in {name}").tolist()]


def doubts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Say for the report which subjects of a list differ in case and blanks alone.

    Empty where none do, and for lists of over 64 MiB.
    """
    path = as_path(path)
    if path.stat().st_size > _LONGEST:
        return {}
    labels = _labels(path) if path.suffix.lower() == ".npy" else each_line(read_text(path))
    pairs = [f"{a} and {b}" for a, b in spelled_alike(labels)]
    if not pairs:
        return {}
    return {
        ALIKE: f"subjects in {path.name} that differ in case or blanks alone count as two people: "
        f"{first_few(pairs, 3)}"
    }


def _is_nobody(name: str) -> bool:
    """Whether a label is - or a number below 0, as `numpy.savetxt` spells it too."""
    return name == "-" or (_BELOW_0.match(name) is not None and float(name) < 0)


def _labels(path: Path) -> Iterable[str]:
    """Read an .npy of (N,) whole numbers or texts as texts."""
    labels = read_npy(path)[0]
    if labels.ndim != 1 or labels.dtype.kind not in "iuSU":
        raise DataError(
            f"{path.name} holds {labels.dtype} of shape {labels.shape}",
            "expected (N,) whole numbers or texts, one per row",
        )
    if labels.dtype.kind in "iu":
        return map(str, labels.tolist())
    try:
        return (text.strip(BLANKS) for text in texts_of(labels))
    except ValueError as e:
        raise DataError(f"{path.name} is not an array of texts: {e}") from e
