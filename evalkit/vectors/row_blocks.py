"""Embedding files read a block of rows at a time, for sets larger than the memory.

A table (.csv, .tsv, .parquet), an .npz, packed or not, and other programs' .h5 are gone through
from the front; keys are all in memory, vectors only `size` rows at a time.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import MissingPackageError
from evalkit.files import open_text
from evalkit.vectors import hdf5

KEY_COLUMNS = ("key", "keys", "path", "name", "file", "image", "filename")
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_LINE = 1 << 24  # characters: a line is in memory whole
_PACKED = 64  # bytes that one byte of a table may become, and
_ROOM = 16 << 20  # these in any case
_KEY = 64  # bytes that Python takes for a text, however short

Rows = NDArray[Any]


@dataclass(frozen=True, slots=True)
class RowBlocks:
    """N rows of `shape`, (D,) or (V, D), and `blocks(size)`: them in order, `size` at a time.

    keys : a name per row, or None where the file has none.  Reading a damaged file raises what its
    library raises, in `blocks` too.
    """

    keys: Sequence[str] | None
    rows: int
    shape: tuple[int, ...]
    blocks: Callable[[int], Iterator[Rows]]


def of_csv(path: Path) -> RowBlocks:
    """Read a key and D numbers a line, between commas (.tsv: tabs); the first line may be a header.

    Gone through twice: for the keys, then for the numbers, which are read as float32.
    """
    keys, dim = [], -1
    for key, values in _csv_lines(path):
        dim = len(values) if dim < 0 else dim
        if len(values) != dim:
            raise ValueError(f"{key!r} has {len(values)} numbers, the first line {dim}")
        keys.append(key)
    if not keys:
        raise ValueError("it holds no rows of a key and numbers")

    def blocks(size: int) -> Iterator[Rows]:
        lines = (np.array(values, np.float32) for _, values in _csv_lines(path))
        while block := list(islice(lines, size)):
            yield np.stack(block)

    return RowBlocks(keys, len(keys), (dim,), blocks)


def _csv_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    with open_text(path) as f:  # csv knows \r\n itself
        lines = csv.reader(_lines(f), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        rows = filter(None, lines)
        for key, *values in islice(
            rows, 1
        ):  # of a header, or not; a table's columns may be 0, 1...
            if key.lower() not in (*KEY_COLUMNS, "") and _numbers(values):
                yield key, values
        for key, *values in rows:
            yield key, values


def _lines(f: IO[str]) -> Iterator[str]:
    while line := f.readline(_LINE):
        if len(line) == _LINE:
            raise ValueError(f"a line is longer than {_LINE} characters")
        yield line


def _numbers(values: Sequence[str]) -> bool:
    try:
        np.array(values, np.float32)
    except ValueError:
        return False
    return True


def of_parquet(path: Path) -> RowBlocks:
    """Read a column of keys, and one column of lists or D columns of numbers.

    The index that pandas writes is no number; it is the keys where it is text and no column is.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingPackageError("pyarrow", "parquet", f"reading {path.name}") from None
    with parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as f:
        room = _PACKED * path.stat().st_size + _ROOM
        _refuse_bomb(f.metadata, room)
        names = [n for n in f.schema_arrow.names if n.lower() in KEY_COLUMNS]
        index = [n for n in f.schema_arrow.names if _PANDAS_INDEX.fullmatch(n)]
        numbers = [n for n in f.schema_arrow.names if n not in names + index]
        names += [n for n in index if "string" in str(f.schema_arrow.field(n).type)]
        rows = f.metadata.num_rows
    keys = _column_of_texts(path, names[0], room) if names else None

    def blocks(size: int) -> Iterator[Rows]:
        # Mapped, since a row group may be the whole file; a buffered stream of pyarrow 26 does not
        # come back from a damaged page size.
        with parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as f:
            for batch in f.iter_batches(size, columns=numbers, use_threads=False):
                yield _vectors(batch)

    first = next(blocks(1), np.empty((0, 0), np.float32))
    return RowBlocks(keys, rows, first.shape[1:], blocks)


def _refuse_bomb(about: Any, room: int) -> None:
    """Raise ValueError where a table says that it has more rows and numbers than fit in `room`.

    One value for a billion rows takes a few bytes.
    """
    groups = [about.row_group(k) for k in range(about.num_row_groups)]
    numbers = sum(g.column(c).num_values for g in groups for c in range(g.num_columns))
    if max(about.num_rows * _KEY, numbers * 4) > room:
        raise ValueError(f"it would unpack to {about.num_rows} rows, {numbers} values")


def _column_of_texts(path: Path, name: str, room: int) -> list[str]:
    """Read a column of keys, each text once until it is known how long all are."""
    import pyarrow as arrow
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    keys = list[str]()
    file = parquet.ParquetFile(path, memory_map=True, pre_buffer=False, read_dictionary=[name])
    with file as f:
        for batch in f.iter_batches(columns=[name], use_threads=False):
            column = batch.column(0)
            if arrow.types.is_dictionary(column.type):
                lengths = compute.binary_length(column.dictionary).cast(arrow.int64())
                room -= compute.sum(lengths.take(column.indices)).as_py() or 0
                if room < 0:
                    raise ValueError(f"the texts of {name!r} would unpack to far more than it is")
            keys += [str(k) for k in column.to_pylist()]
    return keys


def _vectors(batch: Any) -> Rows:
    import pyarrow.compute as compute
    import pyarrow.types as kinds

    column = batch.column(0) if batch.num_columns else None
    if column is None or not (kinds.is_list(column.type) or kinds.is_nested(column.type)):
        columns = [c.to_numpy(zero_copy_only=False) for c in batch.columns]
        return np.column_stack(columns).astype(np.float32)
    if batch.num_columns > 1:
        raise ValueError(f"expected one column of lists, or of numbers: {batch.schema.names}")
    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise ValueError(f"its lists have {lengths} numbers, expected the same everywhere")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(column), lengths[0])


def of_npz(path: Path) -> RowBlocks:
    """Read the arrays `features` and `keys`, stored or packed; columns first, whole."""
    with path.open("rb") as f, np.load(f, allow_pickle=False) as held:
        if "features" not in held.files:
            raise ValueError(f"it holds no array called 'features' but {held.files}")
        keys = held["keys"] if "keys" in held.files else None
        if keys is not None and keys.dtype.kind == "S":
            keys = np.char.decode(keys, "utf-8")
    with ZipFile(path) as archive, archive.open("features.npy") as member:
        shape, by_column, dtype = _npy_header(member)
    width = math.prod(shape[1:]) * dtype.itemsize
    if dtype.hasobject or not shape:
        raise ValueError(f"'features' is {dtype} of shape {shape}")

    def blocks(size: int) -> Iterator[Rows]:
        with ZipFile(path) as archive, archive.open("features.npy") as member:
            if by_column:
                whole = np.lib.format.read_array(member, allow_pickle=False)
                yield from (whole[o : o + size] for o in range(0, shape[0], size))
                return
            _npy_header(member)
            for o in range(0, shape[0], size):
                rows = min(size, shape[0] - o)
                yield np.frombuffer(member.read(rows * width), dtype).reshape(rows, *shape[1:])

    names = None if keys is None else [str(k) for k in keys]
    return RowBlocks(names, shape[0], shape[1:], blocks)


def _npy_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"its array has version {version}")
    shape, fortran, dtype = read(member)
    return shape, fortran, dtype


def of_hdf5(path: Path) -> RowBlocks:
    """Read the datasets `features` and `keys` of another program's file."""
    import h5py

    with h5py.File(path, "r") as f:
        held = hdf5.dataset(f, "features")
        keys = hdf5.texts(f, "keys") if "keys" in f else None
        shape = held.shape
        cache = hdf5.row_of_chunks(held) if held.chunks else None

    def blocks(size: int) -> Iterator[Rows]:
        with h5py.File(path, "r", rdcc_nbytes=cache) as f:
            held = hdf5.dataset(f, "features")
            for o in range(0, shape[0], size):
                yield held[o : o + size]

    return RowBlocks(keys, shape[0] if shape else 0, shape[1:], blocks)
