"""Embeddings from other programs: arrays with a key for every row.

Rows are kept as they are given; protocols make them unit length (`metrics.similarity.normalise`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import unwritten
from evalkit.errors import DataError
from evalkit.files import as_path
from evalkit.keys import read_keys
from evalkit.protocols.metrics.similarity import failed
from evalkit.table_headers import is_header
from evalkit.vectors import hdf5, readers

_READ = 1 << 24  # bytes digested together, without Python's lock, which other threads may hold


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Row i of `features`, (N, D) or (N, V, D) with V views per image, belongs to `keys[i]`."""

    keys: tuple[str, ...]
    features: NDArray[Any]
    digest: str  # SHA-256 of the files read; of the rows, for a folder
    told: str = ""  # the columns of a table that were left out


def read(
    path: str | os.PathLike[str],
    keys: str | os.PathLike[str] | None = None,
    *,
    allow_failures: bool = False,
    numbered: bool = False,
) -> Embeddings:
    """Read embeddings, and their keys from the same file or from a text file with one line per row.

    .npy, .bin (a one-file submission) : (N, D) or (N, V, D) float, memory-mapped; need `keys`.
    .safetensors : one tensor of vectors, mapped too; needs `keys`.
    .npz, .h5 : arrays `features` and `keys`, or the only ones of their shapes; .h5 also a dataset
    per person, or a feature file of evalkit's own.  .mat, .pt : `features` and `keys`.
    .csv, .tsv, .list, .txt, .parquet : a key and D numbers a row, see `columns`.
    .json : an object of a key and its D numbers.
    A folder : one vector per file, MegaFace's .bin or FaceX-Zoo's .npy.
    numbered : rows without a key are called by their number, from 0.
    A row that is not finite is a DataError, unless `allow_failures` says that it stands for an
    image without a template, and then a row of zeros does too, and becomes NaN; evalkit's own files
    say so themselves.
    """
    path = as_path(path)
    keys = None if keys is None else as_path(keys)
    features, own_keys, told = readers.read(path)
    names = own_keys if keys is None else read_keys(keys)
    if names is None and numbered:
        width = len(str(len(features) - 1))  # in the order of their names rows keep theirs
        names = [f"{row:0{width}d}" for row in range(len(features))]
    if names is None:
        besides = f" ({told})" if told else ""
        raise DataError(
            f"{path.name} does not say which row is which image{besides}",
            "add --keys LIST.txt, a name per row; of rows without names --subjects LIST.txt says "
            "whom they show, where a command has it",
        )
    check(features, path)
    if len(features) != len(names):
        hint = "line i names row i: both of one run, in one order?"
        if len(names) == len(features) + 1 and is_header([names[0]]):
            hint = f"is the first line, {names[0]!r}, a header? leave it out"
        elif len(names) in features.shape[1:]:
            hint = f"its shape is {features.shape}: transpose it, a row per key"
        raise DataError(
            f"{path.name} has {len(features)} rows, the list has {len(names)} keys", hint
        )
    files = [path] if keys is None else [path, keys]
    with ThreadPoolExecutor(1) as pool:  # a file is digested while its rows are looked at
        digest = None if path.is_dir() else pool.submit(_digest, files)
        if not hdf5.is_feature_file(path):
            if allow_failures:
                features = without_zeros(features)
            else:
                refuse_failures(features, names, path.name)
    of_all = _digest_rows(features, names) if digest is None else digest.result()
    return Embeddings(tuple(names), features, of_all, told)


def check(features: NDArray[Any], path: str | os.PathLike[str]) -> None:
    """Raise DataError unless an array can hold embeddings."""
    path = as_path(path)
    no_vectors = 0 in features.shape[1:] or (features.ndim == 3 and features.shape[2] == 1)
    if features.ndim not in (2, 3) or features.dtype.kind != "f" or no_vectors:
        raise DataError(
            f"{path.name} holds {features.dtype} of shape {features.shape}",
            "expected floating point of shape (N, D) or (N, V, D)",
        )


def without_zeros(features: NDArray[Any]) -> NDArray[Any]:
    """Make NaN of every row with a vector of zeros, which no model gives; no copy without one.

    Scripts write zeros where their detector found no face.
    """
    empty = unwritten(features)
    if not len(empty):
        return features
    rows = np.array(features)
    rows[empty] = np.nan
    return rows


def refuse_failures(features: NDArray[Any], keys: Sequence[str], name: str) -> None:
    """Raise DataError where rows, (N, ...), hold NaN or infinity, as float32.  name : of the file.

    A double beyond float32 is infinity there, and a row of doubles all below it is no vector.
    """
    bad: list[int] = []
    for o in range(0, len(features), 65536):
        block = np.asarray(features[o : o + 65536])
        bad += (o + np.flatnonzero(failed(block.reshape(len(block), -1)))).tolist()
    if bad:
        what = "1 row holds" if len(bad) == 1 else f"{len(bad):,} rows hold"
        finite = np.isfinite(np.asarray(features[bad[0]])).all()
        held = "numbers that float32 cannot hold" if finite else "NaN or infinity"
        raise DataError(
            f"{name}: {what} {held}, the first is {keys[bad[0]]!r}",
            "scale the vectors: directions alone are compared"
            if finite
            else "--allow-failures counts them as images without a template",
        )


def _digest(paths: list[Path]) -> str:
    h = hashlib.sha256()
    room = memoryview(bytearray(_READ))
    for path in paths:
        with path.open("rb", buffering=0) as f:
            while n := f.readinto(room):
                h.update(room[:n])
    return h.hexdigest()


def _digest_rows(features: NDArray[Any], keys: list[str]) -> str:
    h = hashlib.sha256("\n".join(keys).encode())
    h.update(np.ascontiguousarray(features).data)
    return h.hexdigest()
