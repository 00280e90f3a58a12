"""BLUFR's configuration, `blufr_lfw_config.mat`: LFW's images in order, and ten trials of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError
from evalkit.files import as_path
from evalkit.protocols.blufr import Trial
from evalkit.vectors import matlab


@dataclass(frozen=True, slots=True)
class Config:
    """LFW's images by name, `Name_0001.jpg`, their subjects, (N,) int32, and the trials."""

    keys: tuple[str, ...]
    subject: NDArray[np.int32]
    trials: tuple[Trial, ...]


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read imageList, labels, testIndex, galIndex and probIndex; the file counts from 1."""
    path = as_path(path)
    variables = matlab.read(path)
    names = variables.get("imageList")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise DataError(f"{path.name} has no 'imageList' of texts", "is it BLUFR's configuration?")
    if len(set(names)) != len(names):
        raise DataError(f"'imageList' in {path.name} names an image twice")
    labels = variables.get("labels")
    if not isinstance(labels, np.ndarray) or labels.size != len(names):
        raise DataError(f"'labels' in {path.name} are not one for each of {len(names)} images")
    columns = [
        _rows(variables, name, len(names), path) for name in ("testIndex", "galIndex", "probIndex")
    ]
    if len({len(c) for c in columns}) != 1:
        raise DataError(f"the indices in {path.name} have {[len(c) for c in columns]} trials")
    subject = np.unique(labels.ravel(), return_inverse=True)[1].astype(np.int32)
    return Config(tuple(names), subject, tuple(Trial(*t) for t in zip(*columns, strict=True)))


def _rows(held: dict[str, Any], name: str, images: int, path: Path) -> list[NDArray[np.int64]]:
    """Give a cell of index vectors, counted from 0."""
    cells = held.get(name)
    if not isinstance(cells, list) or not all(isinstance(c, np.ndarray) for c in cells):
        raise DataError(f"{path.name} has no cell of indices {name!r}")
    rows = []
    for cell in cells:
        index = cell.ravel()
        if index.dtype.kind == "f" and not np.array_equal(index, np.floor(index)):
            raise DataError(f"{name!r} in {path.name} holds an index that is not whole")
        if len(index) and not (index.min() >= 1 and index.max() <= images):
            raise DataError(f"{name!r} in {path.name} holds an index outside 1 to {images}")
        rows.append(index.astype(np.int64) - 1)
    return rows
