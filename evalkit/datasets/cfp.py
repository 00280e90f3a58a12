"""CFP, Celebrities in Frontal-Profile: its own folders of pairs [Sengupta et al., WACV 2016].

`Protocol/Pair_list_F.txt` and `Pair_list_P.txt` number the frontal and the profile images from 1;
`Protocol/Split/FF` and `FP` hold ten folds, each with `same.txt` and `diff.txt` of `i,j` lines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from evalkit.datasets.pair_list import PairList, build, join_folds
from evalkit.errors import DataError
from evalkit.files import as_path, numbered_lines, read_text
from evalkit.tables import wrong_line

_FOLDS = 10
_IMAGE = re.compile(r"([0-9]{1,6})[ \t]+([^ \t].*)\Z")
_PAIR = re.compile(r"([0-9]{1,6})\s*,\s*([0-9]{1,6})\Z")


def read(root: str | os.PathLike[str], split: Literal["FF", "FP"]) -> PairList:
    """Read one of the two protocols: ten folds of 350 genuine and 350 impostor pairs.

    In FP the left image is frontal and the right one is in profile.  Keys are
    `person/frontal|profile/number.jpg`.
    """
    root = as_path(root)
    protocol = root if (root / "Split").is_dir() else root / "Protocol"
    if not (protocol / "Split" / split).is_dir():
        raise DataError(f"{root} has no Protocol/Split/{split}", "give the folder of CFP")
    left = _images(protocol / "Pair_list_F.txt")
    right = left if split == "FF" else _images(protocol / "Pair_list_P.txt")
    folds = (protocol / "Split" / split / f"{k:02d}" for k in range(1, _FOLDS + 1))
    return join_folds([_fold(folder, left, right) for folder in folds], f"{root} {split}")


def person(key: str) -> str:
    """Return the person's folder of a key.

    >>> person("001/frontal/02.jpg")
    '001'
    """
    return key.split("/", 1)[0]


def _images(path: Path) -> dict[int, str]:
    images: dict[int, str] = {}
    for number, line in numbered_lines(read_text(path)):
        match = _IMAGE.match(line)
        parts = match[2].replace("\\", "/").split("/") if match else []
        if match is None or len(parts) < 3:
            raise wrong_line(str(path), number, "'number folder/person/pose/image'", line)
        if int(match[1]) in images:
            raise wrong_line(str(path), number, "a number that is not given twice", line)
        images[int(match[1])] = "/".join(parts[-3:])
    return images


def _fold(folder: Path, left: dict[int, str], right: dict[int, str]) -> PairList:
    def rows() -> Iterator[tuple[str, str, bool, None, int]]:
        for name, genuine in (("same.txt", True), ("diff.txt", False)):
            source = str(folder / name)
            for number, line in numbered_lines(read_text(folder / name)):
                match = _PAIR.match(line)
                if match is None:
                    raise wrong_line(source, number, "'i,j'", line)
                i, j = int(match[1]), int(match[2])
                if i not in left or j not in right:
                    raise wrong_line(source, number, "numbers of listed images", line)
                if (person(left[i]) == person(right[j])) != genuine:
                    expected = "one person" if genuine else "two people"
                    raise wrong_line(source, number, expected, f"{left[i]},{right[j]}")
                yield left[i], right[j], genuine, None, number

    return build(rows(), str(folder), person)
