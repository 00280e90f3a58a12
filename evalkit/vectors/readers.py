"""The files that vectors come in: each reader gives an array and, where the file has them, keys.

A new format is a function and its line in `_AS_ARRAY`, or, where a file is read in blocks of rows,
in `row_blocks` and `_IN_BLOCKS`; the suffixes that commands accept follow from these tables.
"""

from __future__ import annotations

import csv
import math
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray

from evalkit.bfloat16 import Bfloat16
from evalkit.errors import DataError, first_few, needing
from evalkit.files import as_path, refuse_lfs_pointer
from evalkit.keys import IMAGES
from evalkit.vectors import (
    devkit_matrix,
    hdf5,
    json_vectors,
    matlab,
    row_blocks,
    safetensors,
    text_tables,
)
from evalkit.vectors.columns import choose_arrays, shape_and_kind
from evalkit.vectors.row_blocks import RowBlocks
from evalkit.vectors.store import FeatureStore

# An array or `Bfloat16`, its keys where the file has them, and what is told of what else there is.
Held = tuple[Any, list[str] | None, str]

# What damaged input makes the libraries below raise.
DAMAGED: tuple[type[Exception], ...] = (
    DataError,
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OSError),
    *(OverflowError, MemoryError, NotImplementedError, RuntimeError),
    *(zlib.error, csv.Error, BadZipFile),
    *(SyntaxError, TokenError),  # numpy parses an .npy header as Python text
    struct.error,  # torch, of a cut pickle
    AssertionError,  # torch, of a storage that is not named as it names them
)
_ONE_VECTOR = (".bin", ".npy", ".feat")
# After an image's suffix, what the devkit's algorithms add to its name.
_ALGORITHM = re.compile(rf"(.*(?:{'|'.join(map(re.escape, IMAGES))}))_[^/]*", re.IGNORECASE)
_UNPACKED, _PACKED = 256 << 20, 16  # an archive may unpack to these bytes, or so many times its own
_WHOLE = 2 << 30  # bytes of a file that cannot be mapped or read in pieces


def read_npy(path: str | os.PathLike[str]) -> Held:
    """Map an array; nothing is read yet."""
    path = as_path(path)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False), None, ""
    except DAMAGED as e:
        if "Object arrays" in str(e) or "Python objects" in str(e):
            raise DataError(
                f"{path.name} holds Python objects, which are never unpickled",
                "save numbers, np.save(FILE, np.stack(vectors)), or texts, np.array(labels, str)",
            ) from e
        raise DataError(f"{path.name} is not a usable .npy array: {e}") from e


def _read_vectors(path: Path) -> Held:
    """Map an array; numbers of two bytes without a type (V2), as ml_dtypes writes, are bfloat16."""
    x, keys, told = read_npy(path)
    return (Bfloat16(x.view(np.uint16)) if x.dtype == "V2" else x), keys, told


def _read_safetensors(path: Path) -> Held:
    """Map the tensor of vectors: `features`, or the only one of its shape and type."""
    tensors = safetensors.map_tensors(path)
    name, _, told = _chosen(tensors, path)
    return tensors[name], None, told


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz or HDF5 file whole, by name; that of an .npy is called "".

    DataError where it is damaged, or holds objects.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return {"": read_npy(path)[0]}
    with _as_data_error(path, f"a whole {suffix} file of numbers"):
        if suffix == ".npz":
            _refuse_bomb(path)
            with path.open("rb") as f, np.load(f, allow_pickle=False) as packed:
                # numpy gives the bytes of what does not begin as an array: text, not numbers
                return {name: np.asarray(packed[name]) for name in packed.files}
        import h5py

        hdf5.refuse_damaged_heap(path)
        with h5py.File(path, "r") as file:
            return {name: np.asarray(hdf5.dataset(file, name)) for name in hdf5.names(file)}


def _refuse_bomb(path: Path) -> None:
    """Raise ValueError where an archive would unpack to far more than it is."""
    with ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(_UNPACKED, _PACKED * path.stat().st_size):
        raise ValueError(f"it would unpack to {unpacked} bytes")


def read_mat(path: str | os.PathLike[str]) -> Held:
    """Read the MATLAB variables of vectors and of names (a cell or rows of text), up to 7.2.

    They are called `features` and `keys`, or told by their shapes.
    """
    path = as_path(path)
    _refuse_large(path)
    arrays = matlab.read(path)
    name, keys, told = _chosen(arrays, path)
    return _in_rows(arrays[name], keys, told)


def read_torch(path: str | os.PathLike[str]) -> Held:
    """Read a tensor, or a dict of vectors and names as `read_mat` tells them, or a vector a key.

    Nothing but tensors, numbers and texts is unpickled.
    """
    path = as_path(path)
    with needing("torch", "torch", f"reading {path.name}"):
        import torch
    import pickle

    try:
        mapped = is_zipfile(path)  # what torch writes since 1.6
        (_refuse_program if mapped else _refuse_large)(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except DataError:
        raise
    except pickle.UnpicklingError as e:
        raise DataError(
            f"{path.name} holds more than tensors, numbers and text",
            "save the tensor of features alone, or a dict of features and keys",
        ) from e
    except DAMAGED as e:
        raise DataError(f"{path.name} is not a usable tensor file: {e}") from e
    arrays = content if isinstance(content, dict) else {"features": content}
    if "features" not in arrays and all(isinstance(name, str) for name in arrays):
        arrays = _by_key(arrays, path)
    name, keys, told = _chosen(arrays, path)
    features = arrays[name]
    if features.layout is not torch.strided:
        raise DataError(f"{path.name} holds a sparse tensor", "save features.to_dense()")
    if features.untyped_storage().nbytes() < features.nbytes:
        raise DataError(
            f"{path.name} says {tuple(features.shape)} of {features.untyped_storage().nbytes()} "
            "bytes: its rows overlap",
            "save features.contiguous()",
        )
    features = features.detach()  # still in the file, where numpy has its type
    vectors = features.float() if features.dtype == torch.bfloat16 else features
    return _in_rows(vectors.numpy(), keys, told)


def _by_key(held: dict[str, Any], path: Path) -> dict[str, Any]:
    """Stack a dict of a vector per key, (D,) or (1, D); None is an image without a template."""
    import torch

    rows = {key: row.ravel() for key, row in held.items() if isinstance(row, torch.Tensor)}
    lengths = {len(row) for row in rows.values()}
    if len(lengths) != 1 or any(k not in rows and row is not None for k, row in held.items()):
        return held
    if any(held[key].numel() != max(held[key].shape, default=0) for key in rows):
        raise DataError(f"{path.name} holds arrays of several vectors", "save one per key, (D,)")
    missing = torch.full((lengths.pop(),), torch.nan)
    stacked = torch.stack([rows.get(key, missing).float() for key in held])
    return {"features": stacked, "keys": list(held)}


def _first(held: dict[Any, Any]) -> str:
    """Say what a dict holds, by its first names."""
    shown = [f"{str(name)[:60]!r}: {type(value).__name__}" for name, value in held.items()]
    return first_few(shown, 3) or "nothing"


def _refuse_program(path: Path) -> None:
    with ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise DataError(
                f"{path.name} is a TorchScript model and holds no embeddings",
                f"make them with it: evalkit embed --model {path.name}",
            )


def _refuse_large(path: Path) -> None:
    size = path.stat().st_size
    if size > _WHOLE:
        raise DataError(
            f"{path.name} has {size / 2**30:.1f} GiB and would be read whole",
            "save the array as .npy, which is mapped",
        )


def read_raw(path: str | os.PathLike[str], shape: tuple[int, int]) -> NDArray[Any]:
    """Map numbers as `ndarray.tofile` writes them, (N, D): float16, 32 or 64 by the file's size."""
    path = as_path(path)
    size, count = path.stat().st_size, math.prod(shape)
    if size not in (2 * count, 4 * count, 8 * count):
        raise DataError(
            f"{path.name} has {size:,} bytes, and {shape[0]:,} x {shape[1]:,} numbers of float32 "
            f"{4 * count:,}",
            "whole numbers and other types are not read: save float32",
        )
    return np.memmap(path, f"<f{size // count}", "r", shape=shape)


def _of_folder(path: Path, ending: str | None) -> RowBlocks:
    """Read one vector per file: a MegaFace tree of .bin or .feat, or a FaceX-Zoo tree of .npy."""
    files, keys = _listed(path, ending)
    dim = _vectors_of(files[:1]).shape[1]

    def blocks(size: int) -> Iterator[NDArray[Any]]:
        for o in range(0, len(files), size):
            x = _vectors_of(files[o : o + size])
            if x.shape[1] != dim:
                raise DataError(f"{files[o]} holds {x.shape[1]} values, {files[0].name} {dim}")
            yield x

    return RowBlocks(keys, len(files), (dim,), blocks)


def _listed(path: Path, ending: str | None) -> tuple[list[Path], list[str]]:
    """List the files of one vector each below a folder, in the order of their names, and keys.

    Keys are the paths below the folder, without ".npy", or from the image's suffix on without what
    the devkit's algorithm added: "a/b.jpg_foam.bin" is "a/b.jpg".  ending : take only files with
    this end of the name ("_foam.bin"), and their keys without it.
    """
    names = sorted(
        f"{folder}/{file}"[len(str(path)) + 1 :]
        for folder, _, files in os.walk(path)
        for file in files
        if file.endswith(ending or _ONE_VECTOR)
    )
    kinds = {Path(name).suffix for name in names}
    if len(kinds) != 1:
        has = " and ".join(sorted(kinds)) or f"no file {ending or ' or '.join(_ONE_VECTOR)}"
        raise DataError(f"{path} should hold vectors of one kind, .bin or .npy, it has {has}")
    if ending is not None:
        return [path / n for n in names], [n.removesuffix(ending) for n in names]
    keys = [n.removesuffix(*kinds) for n in names]
    if kinds == {".bin"}:
        keys = [_ALGORITHM.sub(r"\1", key) for key in keys]
    return [path / n for n in names], keys


def _vectors_of(files: Sequence[Path]) -> NDArray[np.float32]:
    """Read one vector per file: (N, D) float32; all of the devkit's or all of numpy's format."""
    with files[0].open("rb") as f:
        is_npy = f.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
    if not is_npy and files[0].suffix != ".npy":
        return devkit_matrix.read_features(files)
    return _stack([read_npy(file)[0] for file in files], files)


def _stack(rows: Sequence[NDArray[Any]], paths: Sequence[Path]) -> NDArray[np.float32]:
    """Stack the vectors of as many files, (D,), or (1, D) as a batch of one gives."""
    for row, path in zip(rows, paths, strict=True):
        if row.size != max(row.shape, default=0):
            raise DataError(
                f"{path} holds {row.dtype} of shape {row.shape}",
                "expected one vector, (D,) or (1, D)",
            )
        if row.size != rows[0].size or row.dtype.kind != "f":
            raise DataError(
                f"{path} holds {row.size} values of {row.dtype}, {paths[0].name} {rows[0].size}"
            )
    return np.array([row.ravel() for row in rows], np.float32)


def _chosen(arrays: dict[str, Any], path: Path) -> tuple[str, list[str] | None, str]:
    """Choose the vectors among named arrays, by name; their keys, and what is left out."""
    about = {name: kind for name, value in arrays.items() if (kind := shape_and_kind(value))}
    try:
        name, key, told = choose_arrays(about)
    except DataError as e:
        told = e.message if about else f"it holds no array but {_first(arrays)}"
        raise DataError(
            f"{path.name}: {told}",
            "save features, (N, D), and keys, or of torch a dict of a vector for every key",
        ) from e
    if name not in about or isinstance(arrays[name], list | tuple):
        raise DataError(f"{path.name} holds {name!r} as a {type(arrays[name]).__name__}")
    return name, None if key is None else [str(k) for k in arrays[key]], told


def _in_rows(features: NDArray[Any], keys: list[str] | None, told: str) -> Held:
    """Turn the vectors that MATLAB's users keep as columns."""
    by_column = keys is not None and features.ndim == 2 and len(features) != len(keys)
    if by_column and keys is not None and features.shape[1] == len(keys):
        features = features.T
    return features, keys, told


# Each with what a damaged file is said not to be.
_IN_BLOCKS = {
    ".npz": (row_blocks.of_npz, "a usable .npz archive"),
    **dict.fromkeys(hdf5.SUFFIXES, (row_blocks.of_hdf5, "a usable HDF5 file")),
    **dict.fromkeys(
        (".csv", ".tsv", ".txt", ".list"),
        (text_tables.of_text, "a table of a key and numbers per line"),
    ),
    ".parquet": (row_blocks.of_parquet, "a usable parquet table"),
}
_AS_ARRAY: dict[str, Callable[[Path], Held]] = {
    ".npy": _read_vectors,
    ".safetensors": _read_safetensors,
    ".mat": read_mat,
    ".pt": read_torch,
    ".pth": read_torch,
    ".bin": lambda path: (devkit_matrix.map_matrix(path), None, ""),
    ".json": json_vectors.read,
}
SUFFIXES = (*_AS_ARRAY, *_IN_BLOCKS)


def read(path: str | os.PathLike[str]) -> Held:
    """Read by suffix: the array, mapped where it lies in the file as it is; keys where it has them.

    Also the columns or arrays that were left out, "" where none was.  DataError, in one line, for
    whatever is wrong with the file.
    """
    rows = in_blocks(path)
    keys = None if rows.keys is None else list(rows.keys)
    if rows.whole is not None:
        return rows.whole, keys, rows.told
    blocks = list(rows.blocks(65536)) or [np.empty((0, *rows.shape), np.float32)]
    return np.concatenate(blocks), keys, rows.told


def in_blocks(path: str | os.PathLike[str], ending: str | None = None) -> RowBlocks:
    """Open a file of vectors, or a folder of one per file, to be read a block at a time.

    A folder, .csv, .parquet, .npz and others' .h5 are; .npy, .safetensors, .bin, .pt and evalkit's
    own .h5 are mapped; .mat (2 GiB at most) is unpacked whole.  ending : of the names in a folder,
    "_foam.bin".  DataError as for `read`, also from the blocks.
    """
    path = as_path(path)
    if path.is_dir():
        return _of_folder(path, ending)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"no embeddings at {path}")
    if suffix not in SUFFIXES:
        raise DataError(
            f"cannot read embeddings from {path.name!r}",
            f"expected one of {', '.join(SUFFIXES)}, or a folder of .bin or .npy; bare numbers: "
            "evalkit import --shape N D",
        )
    refuse_lfs_pointer(path)
    if suffix in _AS_ARRAY:
        return row_blocks.of_array(*_AS_ARRAY[suffix](path))
    reader, what = _IN_BLOCKS[suffix]
    with _as_data_error(path, what):
        if suffix == ".npz":
            _refuse_bomb(path)
        rows = None if hdf5.is_feature_file(path) else reader(path)
    if rows is None:
        store = FeatureStore.open(path)
        return row_blocks.of_array(store.features, store.manifest.keys)

    def blocks(size: int) -> Iterator[NDArray[Any]]:
        with _as_data_error(path, what):
            yield from rows.blocks(size)

    return replace(rows, blocks=blocks)


@contextmanager
def _as_data_error(path: Path, what: str) -> Iterator[None]:
    """Turn what libraries raise of a damaged file into one DataError."""
    arrow = sys.modules.get("pyarrow")
    damaged = DAMAGED if arrow is None else (*DAMAGED, arrow.ArrowException)
    try:
        yield
    except damaged as e:
        if isinstance(e, DataError) and e.hint:  # whole, and not what is wanted
            raise DataError(f"{path.name}: {e.message}", e.hint) from e
        raise DataError(f"{path.name} is not {what}: {e!s:.200}") from e
