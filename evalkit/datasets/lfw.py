"""Labeled Faces in the Wild: its lists of pairs, and the lists made in their image.

The official lists of View 2 and of View 1's training ship with evalkit, byte for byte as the site
has them.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from evalkit.datasets.pair_list import PairList, build, join_folds
from evalkit.errors import DataError
from evalkit.files import as_path, numbered_lines, read_text
from evalkit.table_headers import is_header
from evalkit.tables import fields_of, fields_of_lines, wrong_line

# What the LFW site's errata call wrong among View 2's genuine pairs (its sentence says six, its
# list has seven), with the 0-based rows at which pairs.txt has them.
ERRATA = (
    ("Janica_Kostelic", 1, 2),
    ("Nora_Bendijo", 1, 2),
    ("Martha_Bowen", 1, 2),
    ("Jim_OBrien", 1, 2),
    ("Jim_OBrien", 1, 3),
    ("Elisabeth_Schumacher", 1, 2),
    ("Debra_Messing", 1, 2),
)

_HEADER = re.compile(r"[0-9]{1,9}([\s,;]+[0-9]{1,9})?\Z")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_PAIR = "'name n1 n2' or 'name1 n1 name2 n2'"
_FLAT_FILES = tuple(f"pairs_{k:02d}.txt" for k in range(1, 11))


def key(name: str, number: int) -> str:
    """Return the key of a person's n-th image, as LFW's folders have it.

    >>> key("Zach_Parise", 1)
    'Zach_Parise/Zach_Parise_0001.jpg'
    """
    return f"{name}/{name}_{number:04d}.jpg"


def subject(image: str) -> str:
    """Return the person whose folder holds the image."""
    return image.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]


def official_pairs() -> PairList:
    """View 2: 6,000 pairs in ten folds, 7,701 images of 4,281 people."""
    return _shipped("lfw_pairs.txt.gz", "pairs.txt")


def development_pairs() -> PairList:
    """View 1's training part: 2,200 pairs without folds, for choosing and never for measuring."""
    return _shipped("lfw_dev_train.txt.gz", "pairsDevTrain.txt")


@cache  # a command asks several times, and nobody changes a list
def _shipped(name: str, source: str) -> PairList:
    file = files("evalkit.datasets") / "data" / name
    return parse_pairs(gzip.decompress(file.read_bytes()).decode(), source)


def errata(pairs: PairList) -> NDArray[np.bool_]:
    """Flag the pairs that the LFW site lists as wrongly labelled: (P,) bool."""
    wrong = {frozenset((key(name, a), key(name, b))) for name, a, b in ERRATA}
    joined = zip(pairs.left, pairs.right, pairs.genuine, strict=True)
    return np.array([bool(g) and frozenset((a, b)) in wrong for a, b, g in joined], np.bool_)


def is_official(pairs: PairList) -> bool:
    """Whether a list has the very pairs and folds of the official View 2, in its order."""
    own = official_pairs()
    return (pairs.left, pairs.right) == (own.left, own.right) and np.array_equal(
        pairs.fold if pairs.fold is not None else [], own.fold if own.fold is not None else []
    )


def read_pairs(path: str | os.PathLike[str]) -> PairList:
    """Read a list of pairs: a file in LFW's layout, or the folder with pairs_01..pairs_10.txt."""
    path = as_path(path)
    if path.is_dir():
        present = [name for name in _FLAT_FILES if (path / name).is_file()]
        if len(present) != len(_FLAT_FILES):
            absent = next(name for name in _FLAT_FILES if name not in present)
            raise DataError(f"{path} has no {absent}", "the flat layout is pairs_01..pairs_10.txt")
        parts = [parse_flat(read_text(path / name), str(path / name)) for name in _FLAT_FILES]
        return join_folds(parts, str(path))
    return parse_pairs(read_text(path), str(path))


def parse_pairs(text: str, source: str) -> PairList:
    """Read LFW's own layout, its fields apart as `fields_of` parts them.

    The first line tells the folds: `10 300` means ten folds of 300 genuine, then 300 impostor
    pairs each; `1100` (pairsDevTrain, pairsDevTest) that many genuine, then impostor pairs without
    folds; none (RFW) no folds, nor names of columns, as in tables made of it.
    A list that is shorter or longer than it says is a DataError, and
    so is a fold whose genuine and impostor pairs are not those announced.
    """
    lines = numbered_lines(text)
    if not lines:
        raise DataError(f"{source} is empty", f"expected lines of {_PAIR}")
    header = []
    if _HEADER.match(lines[0][1]):
        header = [int(n) for n in re.findall(r"[0-9]+", lines.pop(0)[1])]
    elif is_header(fields_of(lines[0][1])):
        lines.pop(0)
    rows = zip(lines, fields_of_lines(lines), strict=True)
    pairs = build((_pair(source, *line, fields) for line, fields in rows), source, subject)
    if not header:
        return pairs
    sets, per_class = header if len(header) == 2 else (1, header[0])
    _check_announced(pairs, sets, per_class)
    if len(header) == 1:
        return pairs
    fold = np.repeat(np.arange(sets, dtype=np.int16), 2 * per_class)
    return PairList(pairs.left, pairs.right, pairs.genuine, fold, source, pairs.line, pairs.subject)


def _check_announced(pairs: PairList, sets: int, per_class: int) -> None:
    announced = 2 * sets * per_class
    if len(pairs) != announced or sets > np.iinfo(np.int16).max:
        raise DataError(
            f"{pairs.source} holds {len(pairs)} pairs, its first line announces {announced} "
            f"({sets} x ({per_class} + {per_class})); it ends at line {pairs.line[-1]}",
            "the file is cut or has lines too many: get it again",
        )
    expected = np.tile(np.repeat([True, False], per_class), sets)
    wrong = np.flatnonzero(expected != pairs.genuine)
    if len(wrong):
        p = wrong[0]
        of_class, got = ("genuine", "impostor") if expected[p] else ("impostor", "genuine")
        raise DataError(
            f"{pairs.source} line {pairs.line[p]}: expected a {of_class} pair, this one is {got}",
            f"each set is {per_class} genuine pairs, then {per_class} impostor pairs",
        )


def _pair(
    source: str, number: int, line: str, fields: list[str]
) -> tuple[str, str, bool, None, int]:
    match fields:
        case [a, m, n]:
            b = a
        case [a, m, b, n]:
            pass
        case _:
            raise wrong_line(source, number, _PAIR, line)
    if not (a and b and _NUMBER.match(m) and _NUMBER.match(n)):
        raise wrong_line(source, number, _PAIR, line)
    if len(fields) == 4 and a == b:
        raise wrong_line(source, number, "two people, or 'name n1 n2' of one", line)
    return key(a, int(m)), key(b, int(n)), len(fields) == 3, None, number


def parse_flat(text: str, source: str) -> PairList:
    """Read one fold of the flat layout: groups of two image paths of one person, then two others.

    As in the site's lfw_funneled/pairs_01.txt: genuine and impostor pairs alternate, each image on
    its own line, a blank line after every group of four.
    """
    lines = numbered_lines(text)
    if len(lines) % 4:
        raise DataError(
            f"{source} holds {len(lines)} image lines, which is not a multiple of four",
            "each group is a genuine pair and an impostor pair, one image per line",
        )

    def rows() -> Iterator[tuple[str, str, bool, None, int]]:
        for p in range(0, len(lines), 2):
            (number, left), (_, right) = lines[p : p + 2]
            genuine = p % 4 == 0
            if (subject(left) == subject(right)) != genuine:
                expected = "two images of one person" if genuine else "images of two people"
                raise wrong_line(source, number, expected, f"{left} {right}")
            yield left, right, genuine, None, number

    return build(rows(), source, subject)
