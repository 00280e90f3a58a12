"""The files that vectors come in: each reader gives an array and, where the file has them, keys."""

from __future__ import annotations

import csv
import os
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError, MissingPackageError

Held = tuple[NDArray[Any], list[str] | None]

# What damaged input makes the libraries below raise.
_DAMAGED: tuple[type[Exception], ...] = (
    DataError,
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OSError),
    *(
        OverflowError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        zlib.error,
        csv.Error,
        BadZipFile,
    ),
    *(SyntaxError, TokenError),  # numpy parses an .npy header as Python text
    struct.error,  # torch, of a cut pickle
    AssertionError,  # torch, of a storage that is not named as it names them
)
_UNPACKED, _PACKED = 256 << 20, 16  # an archive may unpack to these bytes, or so many times its own
_KEY_COLUMNS = ("key", "keys", "path", "name", "file", "image", "filename")


def read_npy(path: Path) -> Held:
    """Map an array; nothing is read yet."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False), None
    except _DAMAGED as e:
        raise DataError(f"{path.name} is not a usable .npy array: {e}") from e


def read_npz(path: Path) -> Held:
    """Read the arrays `features` and `keys`."""
    try:
        _refuse_bomb(path)
        with path.open("rb") as f, np.load(f, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files if name in ("features", "keys")}
    except _DAMAGED as e:
        raise DataError(f"{path.name} is not a usable .npz archive: {e}") from e
    return _named(arrays, path)


def _refuse_bomb(path: Path) -> None:
    with ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(_UNPACKED, _PACKED * path.stat().st_size):
        raise ValueError(f"it would unpack to {unpacked} bytes")


def read_mat(path: Path) -> Held:
    """Read the MATLAB variables `features` and `keys` (a cell or rows of text), up to 7.2."""
    from evalkit.datasets import matfile

    return _named(matfile.read(path), path)


def read_hdf5(path: Path) -> Held:
    """Read a feature file of evalkit's own, or the datasets `features` and `keys`."""
    import h5py

    from evalkit import hdf5
    from evalkit.features import FeatureStore

    try:
        hdf5.refuse_damaged_heap(path)
        with h5py.File(path, "r") as f:
            if not hdf5.is_feature_file(f):
                arrays = {"features": hdf5.dataset(f, "features")[:]}
                if "keys" in f:
                    arrays["keys"] = hdf5.texts(f, "keys")
                return _named(arrays, path)
    except _DAMAGED as e:
        raise DataError(f"{path.name} is not a usable HDF5 file: {e}") from e
    store = FeatureStore.open(path)
    return store.features, list(store.manifest.keys)


def read_csv(path: Path) -> Held:
    """Read a key and D numbers a line, between commas (.tsv: tabs); the first may be a header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as f:
            lines = csv.reader(f, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            keys, rows = _table(line for line in lines if line)
    except _DAMAGED as e:
        raise DataError(
            f"{path.name} is not a table of a key and numbers a line: {e!s:.200}"
        ) from e
    if not rows:
        raise DataError(f"{path.name} holds no rows of a key and numbers")
    return np.stack(rows), keys


def _table(lines: Any) -> tuple[list[str], list[NDArray[np.float32]]]:
    keys: list[str] = []
    rows: list[NDArray[np.float32]] = []
    for number, (key, *values) in enumerate(lines):
        try:
            row = np.array(values, np.float32)
        except ValueError:
            if number:
                raise
            continue  # the header
        if rows and len(row) != len(rows[0]):
            raise ValueError(f"{key!r} has {len(row)} numbers, the first line {len(rows[0])}")
        keys.append(key)
        rows.append(row)
    return keys, rows


def read_parquet(path: Path) -> Held:
    """Read a column of keys, and one column of lists or D columns of numbers."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingPackageError("pyarrow", "parquet", f"reading {path.name}") from None
    import pyarrow

    damaged: tuple[type[Exception], ...] = (*_DAMAGED, pyarrow.ArrowException)
    try:
        table = parquet.read_table(path)
        names = [n for n in table.column_names if n.lower() in _KEY_COLUMNS]
        keys = [str(k) for k in table[names[0]].to_pylist()] if names else None
        columns = [
            table[n].to_numpy(zero_copy_only=False) for n in table.column_names if n not in names
        ]
        if len(columns) == 1 and columns[0].dtype == object:
            return np.stack([np.asarray(row, np.float32) for row in columns[0]]), keys
        return np.column_stack(columns).astype(np.float32), keys
    except damaged as e:
        raise DataError(f"{path.name} is not a usable parquet table: {e}") from e


def read_torch(path: Path) -> Held:
    """Read a tensor, or a dict of `features` and `keys`; nothing but tensors is unpickled."""
    try:
        import torch
    except ImportError:
        raise MissingPackageError("torch", "torch", f"reading {path.name}") from None
    import pickle

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise DataError(
            f"{path.name} holds more than tensors, numbers and text",
            "save the tensor of features alone, or a dict of features and keys",
        ) from e
    except _DAMAGED as e:
        raise DataError(f"{path.name} is not a usable tensor file: {e}") from e
    arrays = held if isinstance(held, dict) else {"features": held}
    features = arrays.get("features")
    if not isinstance(features, torch.Tensor):
        raise DataError(f"{path.name} holds no tensor called 'features'")
    floats = features.detach().float() if features.is_floating_point() else features.detach()
    return _named({**arrays, "features": floats.numpy()}, path)


def read_matrix(path: Path) -> Held:
    """Map a one-file submission (`evalkit.datasets.matio`)."""
    from evalkit.datasets import matio

    return matio.map_matrix(path), None


def read_folder(path: Path) -> Held:
    """Read one vector a file: a MegaFace tree of .bin, or a FaceX-Zoo tree of .npy."""
    found, keys = list_folder(path)
    return read_vectors(found), keys


def list_folder(path: Path, ending: str | None = None) -> tuple[list[Path], list[str]]:
    """List the files of one vector each below a folder, in the order of their names, and keys.

    Keys are the paths below the folder, without ".npy", or from the image's suffix on without what
    the devkit's algorithm added: "a/b.jpg_foam.bin" is "a/b.jpg".  ending : take only files with
    this end of the name ("_foam.bin"), and their keys without it.
    """
    names = sorted(
        f"{folder}/{file}"[len(str(path)) + 1 :]
        for folder, _, files in os.walk(path)
        for file in files
        if file.endswith(ending or (".bin", ".npy"))
    )
    kinds = {name[-4:] for name in names}
    if len(kinds) != 1:
        has = " and ".join(sorted(kinds)) or "neither"
        raise DataError(f"{path} should hold files of one kind, .bin or .npy, it has {has}")
    if ending is not None:
        keys = [n.removesuffix(ending) for n in names]
    elif kinds == {".bin"}:
        keys = [re.sub(r"(\.\w{3,4})_[^/]*\.bin$|\.bin$", r"\1", n) for n in names]
    else:
        keys = [n.removesuffix(".npy") for n in names]
    return [path / n for n in names], keys


def read_vectors(paths: Sequence[Path]) -> NDArray[np.float32]:
    """Read one vector a file, all .bin or all .npy: (N, D) float32."""
    from evalkit.datasets import matio

    if paths[0].suffix == ".bin":
        return matio.read_features(paths)
    return _stack([read_npy(p)[0].ravel() for p in paths], paths)


def _stack(rows: Sequence[NDArray[Any]], paths: Sequence[Path]) -> NDArray[np.float32]:
    for row, path in zip(rows, paths, strict=True):
        if row.shape != rows[0].shape or row.dtype.kind != "f":
            raise DataError(
                f"{path} holds {row.size} values of {row.dtype}, {paths[0].name} {rows[0].size}"
            )
    return np.array(rows, np.float32)


def _named(arrays: Any, path: Path) -> Held:
    features, keys = arrays.get("features"), arrays.get("keys")
    if not isinstance(features, np.ndarray):
        raise DataError(f"{path.name} holds no array called 'features'")
    return features, None if keys is None else [str(k) for k in keys]


READERS = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".mat": read_mat,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".pt": read_torch,
    ".pth": read_torch,
    ".bin": read_matrix,
}


def read(path: Path) -> Held:
    """Read by suffix: the array, and the keys where it holds them."""
    if path.is_dir():
        return read_folder(path)
    if not path.is_file():
        raise DataError(f"no embeddings at {path}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"cannot read embeddings from {path.name!r}",
            f"expected one of {', '.join(READERS)}, or a folder of .bin or .npy",
        )
    return reader(path)
