"""Embedding files read a block of rows at a time, for sets larger than the memory.

A table (.csv, .tsv, .parquet), an .npz, packed or not, and other programs' .h5 are gone through
from the front; keys are all in memory, vectors only `size` rows at a time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError, needing
from evalkit.keys import texts_of
from evalkit.vectors import hdf5, parquet_footer
from evalkit.vectors.columns import Kind, choose, choose_arrays

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_SAVE = "save a list of float32 per row, (D,), or a column per coordinate"
_PACKED = 64  # bytes that one byte of a table may become, and
_ROOM = 16 << 20  # these in any case
_KEY = 64  # bytes that Python takes for a text, however short

Rows = NDArray[Any]


@dataclass(frozen=True, slots=True)
class RowBlocks:
    """N rows of `shape`, (D,) or (V, D), and `blocks(size)`: them in order, `size` at a time.

    keys : a name per row, or None where the file has none.  told : the columns left out, see
    `columns`.  whole : all rows at once, where they need no copy, else None.
    Reading a damaged file raises what its library raises, in `blocks` too.
    """

    keys: Sequence[str] | None
    rows: int
    shape: tuple[int, ...]
    blocks: Callable[[int], Iterator[Rows]]
    told: str = ""
    whole: Rows | None = None


def of_array(x: Rows, keys: Sequence[str] | None = None, told: str = "") -> RowBlocks:
    """Take the rows of an array, (N, ...), mapped or in memory."""

    def blocks(size: int) -> Iterator[Rows]:
        yield from (x[o : o + size] for o in range(0, len(x), size))

    return RowBlocks(keys, len(x) if x.ndim else 0, x.shape[1:], blocks, told, x)


def of_parquet(path: Path) -> RowBlocks:
    """Read a column of keys, and one column of lists or D columns of numbers, see `columns`.

    The index that pandas writes is no number; it is the keys where it is text and no column is.
    A null is NaN.
    """
    with needing("pyarrow", "parquet", f"reading {path.name}"):
        import pyarrow.parquet as parquet
    with parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as f:
        room = _PACKED * path.stat().st_size + _ROOM
        schema, rows = f.schema_arrow, f.metadata.num_rows
    _refuse_bomb(rows, parquet_footer.values(path), room)

    def distinct(c: int) -> bool:
        return bool(len({*_column_of_texts(path, schema.names[c], room)}) == rows)

    names = [_PANDAS_INDEX.sub("index", name) for name in schema.names]
    chosen = choose([_kind(field.type) for field in schema], names, distinct)
    if not chosen.coordinates:
        held = ", ".join(f"{field.name!r} of {field.type}" for field in list(schema)[:8])
        raise DataError(f"no column holds numbers or lists of them; it holds {held}", _SAVE)
    keys = None
    if chosen.key is not None:
        keys = _column_of_texts(path, schema.names[chosen.key], room)
    numbers = [schema.names[c] for c in chosen.coordinates]

    def batches(size: int) -> Iterator[Any]:
        # Mapped, since a row group may be the whole file; a buffered stream of pyarrow 26 does not
        # come back from a damaged page size.
        with parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as f:
            yield from f.iter_batches(size, columns=numbers, use_threads=False)

    is_list = len(numbers) == 1 and _kind(schema.field(numbers[0]).type) == "list"
    dim = next(filter(None, map(_list_length, batches(1))), 0) if is_list else len(numbers)

    def blocks(size: int) -> Iterator[Rows]:
        for batch in batches(size):
            yield _lists(batch.column(0), dim) if is_list else _vectors(batch)

    return RowBlocks(keys, rows, (dim,), blocks, chosen.told)


def _kind(type_: Any) -> Kind:
    import pyarrow.types as kinds

    if kinds.is_list(type_) or kinds.is_large_list(type_) or kinds.is_fixed_size_list(type_):
        number = kinds.is_floating(type_.value_type) or kinds.is_integer(type_.value_type)
        return "list" if number else "text"
    if kinds.is_floating(type_):
        return "number"
    return "whole" if kinds.is_integer(type_) else "text"


def _refuse_bomb(rows: int, numbers: int, room: int) -> None:
    """Raise ValueError where a table says that it has more rows and numbers than fit in `room`.

    One value for a billion rows takes a few bytes.
    """
    if max(rows * _KEY, numbers * 4) > room:
        raise ValueError(f"it would unpack to {rows} rows, {numbers} values")


def _column_of_texts(path: Path, name: str, room: int) -> list[str]:
    """Read a column of keys, each text once until it is known how long all are."""
    import pyarrow as arrow
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    keys = list[str]()
    file = parquet.ParquetFile(path, memory_map=True, pre_buffer=False, read_dictionary=[name])
    with file as f:
        for batch in f.iter_batches(columns=[name], use_threads=False):
            batch.validate(full=True)  # a damaged index into the texts ends the process
            column = batch.column(0)
            if arrow.types.is_dictionary(column.type):
                lengths = compute.binary_length(column.dictionary).cast(arrow.int64())
                room -= compute.sum(lengths.take(column.indices)).as_py() or 0
                if room < 0:
                    raise ValueError(f"the texts of {name!r} would unpack to far more than it is")
            texts = column.to_pylist()
            keys += [k.decode() if isinstance(k, bytes) else str(k) for k in texts]
    return keys


def _vectors(batch: Any) -> Rows:
    columns = [c.to_numpy(zero_copy_only=False) for c in batch.columns]
    return np.column_stack(columns).astype(np.float32)


def _list_length(batch: Any) -> int:
    import pyarrow.compute as compute

    return int(compute.max(compute.list_value_length(batch.column(0))).as_py() or 0)


def _lists(column: Any, dim: int) -> Rows:
    """Give the lists of a column as rows; NaN for one that is null or empty."""
    import pyarrow.compute as compute

    length = compute.fill_null(compute.list_value_length(column), 0)
    if {*compute.unique(length).to_pylist()} - {0, dim}:
        lengths = sorted(compute.unique(length).to_pylist())
        raise ValueError(f"its lists have {lengths} numbers, expected the same everywhere")
    rows = np.full((len(column), dim), np.nan, np.float32)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    rows[length.to_numpy(zero_copy_only=False) == dim] = flat.reshape(-1, dim)
    return rows


def of_npz(path: Path) -> RowBlocks:
    """Read the arrays of vectors and of names, stored or packed; columns first, whole.

    They are called `features` and `keys`, or told by their shapes (`columns.choose_arrays`).
    Several arrays of one vector each, (D,) or (1, D), are called as they are.
    """
    arrays = dict[str, tuple[tuple[int, ...], bool, np.dtype[Any]]]()
    with ZipFile(path) as archive:
        for name in (n for n in archive.namelist() if n.endswith(".npy")):
            with archive.open(name) as member:
                arrays[name.removesuffix(".npy")] = _npy_header(member)
    about = {name: (shape, dtype.kind) for name, (shape, _, dtype) in arrays.items()}
    lengths = {max(shape, default=0) for shape, _ in about.values()}
    single = all(
        kind == "f" and shape in ((n,), (1, n)) for shape, kind in about.values() for n in lengths
    )
    if single and len(lengths) == 1 < len(about) and "features" not in about:
        return _of_members(path, list(about), lengths.pop())
    vectors, key, told = choose_arrays(about)
    names = None
    if key is not None:
        with path.open("rb") as f, np.load(f, allow_pickle=False) as held:
            names = texts_of(held[key])
    shape, by_column, dtype = arrays[vectors]
    file = f"{vectors}.npy"
    width = math.prod(shape[1:]) * dtype.itemsize
    if dtype.hasobject or not shape:
        raise ValueError(f"{vectors!r} is {dtype} of shape {shape}")

    def blocks(size: int) -> Iterator[Rows]:
        with ZipFile(path) as archive, archive.open(file) as member:
            if by_column:
                whole = np.lib.format.read_array(member, allow_pickle=False)
                yield from (whole[o : o + size] for o in range(0, shape[0], size))
                return
            _npy_header(member)
            for o in range(0, shape[0], size):
                rows = min(size, shape[0] - o)
                yield np.frombuffer(member.read(rows * width), dtype).reshape(rows, *shape[1:])

    return RowBlocks(names, shape[0], shape[1:], blocks, told)


def _of_members(path: Path, names: list[str], dim: int) -> RowBlocks:
    def blocks(size: int) -> Iterator[Rows]:
        with path.open("rb") as f, np.load(f, allow_pickle=False) as held:
            for o in range(0, len(names), size):
                yield np.stack([held[name].ravel() for name in names[o : o + size]])

    return RowBlocks(names, len(names), (dim,), blocks)


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
    """Read the datasets of vectors and of names of another program's file.

    They are called `features` and `keys`, or told by their shapes.  Without these and without texts
    every dataset is a vector, (D,), called as it is, or the vectors of a person, (N, D), called
    PERSON/0, PERSON/1 ...
    """
    import h5py

    with h5py.File(path, "r") as f:
        vectors, key, told = _arrays_of(f)
        if not vectors:
            return _of_datasets(f)
        array = hdf5.dataset(f, vectors)
        keys = hdf5.texts(f, key) if key is not None else None
        shape = array.shape
        cache = hdf5.row_of_chunks(array) if array.chunks else None

    def blocks(size: int) -> Iterator[Rows]:
        with h5py.File(path, "r", rdcc_nbytes=cache) as f:
            array = hdf5.dataset(f, vectors)
            for o in range(0, shape[0], size):
                yield array[o : o + size]

    return RowBlocks(keys, shape[0] if shape else 0, shape[1:], blocks, told)


def _arrays_of(f: Any) -> tuple[str, str | None, str]:
    """Choose the datasets of vectors and names; none where each is the vectors of a person."""
    import h5py

    arrays = {
        name: (f[name].shape, "U" if h5py.check_string_dtype(f[name].dtype) else f[name].dtype.kind)
        for name in f
        if isinstance(f.get(name, getlink=True), h5py.HardLink)
        and isinstance(f[name], h5py.Dataset)
    }
    if "features" in f and "features" not in arrays:
        return "features", None, ""  # which `hdf5.dataset` refuses
    if "features" in arrays or any(kind == "U" for _, kind in arrays.values()):
        return choose_arrays(arrays)
    return "", None, ""


def _of_datasets(f: Any) -> RowBlocks:
    names = hdf5.names(f)
    arrays = [np.asarray(hdf5.dataset(f, name)) for name in names]
    rows = [np.atleast_2d(x) for x in arrays]
    if not rows or any(x.ndim != 2 or x.dtype.kind != "f" for x in rows):
        shown = ", ".join(
            f"{n!r} {x.dtype} {x.shape}" for n, x in zip(names[:3], arrays, strict=False)
        )
        raise ValueError(
            f"no dataset is called 'features'; it holds {shown or 'no datasets'}; expected "
            "features (N, D) and keys, or a vector per dataset"
        )
    keys = [
        name if len(x) == 1 else f"{name}/{n}"
        for name, x in zip(names, rows, strict=True)
        for n in range(len(x))
    ]
    if len({x.shape[1] for x in rows}) != 1:
        raise ValueError(
            f"its datasets hold vectors of {sorted({x.shape[1] for x in rows})} numbers"
        )
    return of_array(np.concatenate(rows), keys)
