"""The MegaFace devkit's matrix files (`.bin`): its features, its models, one-file submissions.

Layout, little-endian: four int32 (rows, columns, bytes from row to row, OpenCV type: 5 = float32,
6 = float64), then the rows.  A feature of D dimensions is a (D, 1) matrix.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError
from evalkit.files import as_path, whole_file

HEADER = struct.Struct("<4i")
_TYPES: dict[int, np.dtype[Any]] = {5: np.dtype("<f4"), 6: np.dtype("<f8")}
_PAGE = 1024  # files a thread reads in one go


def _layout(header: bytes, room: int, where: str) -> tuple[int, int, int, np.dtype[Any]]:
    """Give (rows, columns, row stride, dtype) that fit in `room` bytes, or say why not."""
    if len(header) < HEADER.size:
        raise DataError(f"{where} ends within its 16-byte header", "was it cut?")
    rows, columns, stride, kind = HEADER.unpack(header)
    if rows == 0 or columns == 0:
        return 0, 0, 0, _TYPES[5]
    if rows < 0 or columns < 0 or kind not in _TYPES:
        raise DataError(
            f"{where} starts with {rows}, {columns}, {stride}, {kind}: not a devkit matrix",
            "expected rows, columns, row stride in bytes, and type 5 (float32) or 6 (float64)",
        )
    dtype = _TYPES[kind]
    width = columns * dtype.itemsize
    if stride == columns * 4 and rows * width == room:
        stride = width  # the devkit's own writer says 4 bytes a column for float64 too
    if stride < width or stride % dtype.itemsize:
        raise DataError(f"{where} has {stride} bytes per row for {columns} columns of {dtype.name}")
    if rows * stride > room:
        raise DataError(f"{where} needs {rows * stride} bytes after its header and has {room}")
    return rows, columns, stride, dtype


def read_matrices(data: bytes, count: int, where: str) -> list[NDArray[Any]]:
    """Read `count` matrices that follow each other; bytes left over are an error."""
    matrices, at = [], 0
    for _ in range(count):
        header = data[at : at + HEADER.size]
        at += HEADER.size
        rows, columns, stride, dtype = _layout(header, len(data) - at, where)
        raw = np.frombuffer(data, np.uint8, rows * stride, at).reshape(rows, stride)
        used = np.ascontiguousarray(raw[:, : columns * dtype.itemsize])
        matrices.append(used.view(dtype).reshape(rows, columns))
        at += rows * stride
    if at != len(data):
        raise DataError(f"{where} has {len(data) - at} bytes after its last matrix")
    return matrices


def read_matrix(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read one matrix: (rows, columns) float32 or float64."""
    path = as_path(path)
    return read_matrices(path.read_bytes(), 1, path.name)[0]


def map_matrix(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Map one matrix of any size read-only: (rows, columns), nothing is read yet."""
    path = as_path(path)
    with path.open("rb") as f:
        header = f.read(HEADER.size)
    room = path.stat().st_size - HEADER.size
    rows, columns, stride, dtype = _layout(header, room, path.name)
    if rows * stride != room:
        raise DataError(f"{path.name} has {room - rows * stride} bytes after its last row")
    if not rows:
        return np.empty((0, 0), np.float32)
    wide = (rows, stride // dtype.itemsize)
    return np.memmap(path, dtype, "r", HEADER.size, wide)[:, :columns]


def header(rows: int, columns: int) -> bytes:
    """Give the 16 bytes before a float32 matrix; DataError where int32 cannot say its size."""
    if max(rows, columns * 4) > 2**31 - 1:
        raise DataError(f"a devkit file cannot hold {rows} rows of {columns} columns")
    return HEADER.pack(rows, columns, columns * 4, 5)


def write_feature(path: str | os.PathLike[str], x: NDArray[Any]) -> None:
    """Write one feature, (D,), as the devkit reads it."""
    path = as_path(path)
    with whole_file(path) as f:
        f.write(header(len(x), 1) + np.ascontiguousarray(x, "<f4").tobytes())


def read_features(paths: Sequence[str | os.PathLike[str]], threads: int = 4) -> NDArray[np.float32]:
    """Read one feature per file: (N, D) float32, row i from paths[i].

    All files have the dimension of the first.  A file that is missing, cut or of another
    dimension is an error that says which, and how many there are.
    """
    files = [as_path(path) for path in paths]
    if not files:
        return np.empty((0, 0), np.float32)
    first = read_matrix(files[0])
    if first.shape[1:] != (1,):
        raise DataError(f"{files[0]} is a matrix of shape {first.shape}", "a feature is (D, 1)")
    out = np.empty((len(files), len(first)), np.float32)
    if first.dtype == np.float64:
        for row, file in zip(out, files, strict=True):
            row[:] = read_matrix(file).reshape(out.shape[1:])
        return out
    starts = range(0, len(files), _PAGE)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda o: _read_page(files[o : o + _PAGE], out[o : o + _PAGE]), starts))
    return out


def _read_page(paths: Sequence[Path], out: NDArray[np.float32]) -> None:
    wanted = header(out.shape[1], 1)
    size = len(wanted) + out.shape[1] * 4
    for row, path in zip(out, paths, strict=True):
        with path.open("rb", buffering=0) as f:
            data = f.read(size + 1)
        if len(data) != size or not data.startswith(wanted):
            raise DataError(f"{path} is not a feature of {len(row)} float32 values like the first")
        row[:] = np.frombuffer(data, "<f4", offset=len(wanted))
