"""AgeDB: its MATLAB files of pairs that are 5, 10, 20 or 30 years apart [Moschoglou et al. 2017].

`splits` is a cell of ten folds; each is a struct of two fields, by position: a 2 x P cell of images
(structs whose first field is the name, without suffix) and P labels, 1 or -1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from evalkit.datasets.pair_list import PairList, build
from evalkit.errors import DataError
from evalkit.files import as_path
from evalkit.vectors import matlab


def read(path: str | os.PathLike[str]) -> PairList:
    """Read a protocol such as `04_FINAL_protocol_30_years.mat`: ten folds of 300 + 300 pairs."""
    path = as_path(path)
    splits = matlab.read(path).get("splits")
    try:
        folds = [_fold(struct) for struct in splits]  # type: ignore[union-attr]
    except (TypeError, ValueError, AttributeError, IndexError) as e:
        raise DataError(
            f"{path.name} is not an AgeDB protocol", "expected a cell 'splits' of folds"
        ) from e

    def rows() -> Iterator[tuple[str, str, bool, int, int]]:
        number = 0
        for k, (images, labels) in enumerate(folds):
            if len(images) != 2 * len(labels):
                raise DataError(
                    f"{path.name} fold {k} has {len(images)} images for {len(labels)} labels"
                )
            for left, right, label in zip(images[::2], images[1::2], labels, strict=True):
                number += 1
                if label not in (1, -1):
                    raise DataError(f"{path.name} pair {number} has the label {label}, not 1 or -1")
                yield f"{left}.jpg", f"{right}.jpg", label == 1, k, number

    return build(rows(), str(path))


def _fold(struct: Any) -> tuple[list[str], list[float]]:
    """Take the names (left, right, left, ...) and the labels out of a fold."""
    images, labels = list(struct.values())[:2]
    names = [next(iter(image.values())) for image in images]
    if not all(isinstance(name, str) and name for name in names):
        raise TypeError("a name is not text")
    return names, np.asarray(labels, np.float64).reshape(-1).tolist()
