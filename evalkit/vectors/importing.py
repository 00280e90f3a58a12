"""Import of other programs' embeddings into one feature file, a block at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit import locks
from evalkit.errors import DataError
from evalkit.files import as_path, hidden
from evalkit.keys import rows_of
from evalkit.types import Manifest, Progress
from evalkit.vectors import embeddings, readers
from evalkit.vectors.row_blocks import RowBlocks
from evalkit.vectors.store import FeatureStore

BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Source:
    """Rows in order: a key for each, if known, their (V, D), and rows a to b as `read(a, b)`."""

    keys: Sequence[str] | None
    rows: int
    shape: tuple[int, int]
    read: Callable[[int, int], NDArray[Any]]
    told: str = ""  # the columns of a table that were left out


def open_source(
    path: str | os.PathLike[str],
    ending: str | None = None,
    shape: tuple[int, int] | None = None,
) -> Source:
    """Open a folder of one vector per file, or a file that `readers` reads.

    A folder, .csv, .parquet, .npz and others' .h5 are read a block at a time; .npy, .bin, .pt and
    evalkit's own .h5 are mapped; .mat (2 GiB at most) is unpacked whole.
    ending : of the names in a folder, "_foam.bin".  shape : (N, D) of a file of numbers alone.
    """
    path = as_path(path)
    if shape is not None:
        return _of_array(readers.read_raw(path, shape), None)
    if path.is_dir():
        files, keys = readers.list_folder(path, ending)
        first = readers.read_vectors(files[:1])
        embeddings.check(first, path)
        dim = first.shape[1]

        def read(a: int, b: int) -> NDArray[Any]:
            x = readers.read_vectors(files[a:b])
            if x.shape[1] != dim:
                raise DataError(f"{files[a]} holds {x.shape[1]} values, {files[0].name} {dim}")
            return x[:, None]

        return Source(keys, len(files), (1, dim), read)
    blocks = readers.in_blocks(path)
    if blocks is not None:
        embeddings.check(next(blocks.blocks(1), np.empty((0, *blocks.shape), np.float32)), path)
        views, dim = (1, *blocks.shape)[-2:]
        return Source(
            blocks.keys, blocks.rows, (views, dim), _in_turn(blocks, (views, dim)), blocks.told
        )
    x, held = readers.read(path)
    embeddings.check(x, path)
    return _of_array(x, held)


def _of_array(x: NDArray[Any], held: Sequence[str] | None) -> Source:
    rows = x if x.ndim == 3 else x[:, None]
    return Source(held, len(x), (rows.shape[1], rows.shape[2]), lambda a, b: rows[a:b])


def _in_turn(held: RowBlocks, shape: tuple[int, int]) -> Callable[[int, int], NDArray[Any]]:
    """Give `Source.read` of blocks of BLOCK rows, asked for in order; some may be left out."""
    blocks, at = held.blocks(BLOCK), 0

    def read(a: int, b: int) -> NDArray[Any]:
        nonlocal at
        for x in blocks:
            first, at = at, at + len(x)
            if first == a and len(x) == b - a:
                return x.reshape(len(x), *shape)
        raise DataError(f"the file holds {at} rows, it says {held.rows}")

    return read


def places(keys: Sequence[str], wanted: Sequence[str] | None, subset: bool) -> NDArray[np.int64]:
    """Place in the feature file of each row called `keys`: (N,) int64, -1 = left out.

    wanted : the keys in the file's order, or None for `keys` as they are.  DataError names keys
    that are missing or double, and, unless `subset`, rows that nobody asked for.
    """
    if wanted is None:
        return np.arange(len(keys))
    at = np.full(len(keys), -1, np.int64)
    at[rows_of(wanted, keys, "embeddings")] = np.arange(len(wanted))
    extra = np.flatnonzero(at < 0)
    if len(extra) and not subset:
        shown = ", ".join(keys[int(r)] for r in extra[:5]) + (", ..." if len(extra) > 5 else "")
        raise DataError(
            f"{len(extra)} of {len(keys)} embeddings are not on the list: {shown}",
            "--subset leaves them out",
        )
    return at


def write(
    source: Source,
    path: str | os.PathLike[str],
    manifest: Manifest,
    at: NDArray[np.int64],
    *,
    name: str,
    dtype: str = "<f4",
    allow_failures: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write row r of the source to place at[r] of a new feature file; nothing is left on failure.

    A row with NaN or infinity, or of zeros, is a DataError that names it, or, with
    `allow_failures`, an image without a template.
    """
    path = as_path(path)
    if path.exists():
        raise DataError(f"{path} exists already", "give another name, or delete it")
    partial = hidden(path, "new")
    views, dim = source.shape
    key = {"imported": name, "manifest": manifest.digest()}
    with suppress(FileNotFoundError), partial.open("rb") as left:  # by a killed writer
        locks.take(left, path)
        partial.unlink()
    try:
        with FeatureStore.create(
            partial, manifest, dim=dim, views=views, key=key, dtype=dtype, provenance={}
        ) as store:
            for rows, x in _blocks(source, at):
                if allow_failures:
                    x = embeddings.without_zeros(x)
                else:
                    _check(x, rows, manifest)
                store.write(rows, x)
                if progress is not None:
                    progress(len(store.done) - len(store.pending()), len(store.done))
            store.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _blocks(
    source: Source, at: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Yield (places, ascending; their rows as float32), a block of the source at a time."""
    for o in range(0, source.rows, BLOCK):
        place = at[o : o + BLOCK]
        order = np.argsort(place, kind="stable")
        order = order[place[order] >= 0]
        if len(order):
            x = source.read(o, min(o + BLOCK, source.rows))
            yield place[order], np.asarray(x)[order]


def _check(x: NDArray[Any], rows: NDArray[np.int64], manifest: Manifest) -> None:
    flat = x.reshape(len(x), -1)
    bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
    if len(bad):
        raise DataError(
            f"the embedding of {manifest.keys[rows[bad[0]]]!r} holds NaN or infinity",
            "--allow-failures counts such as images without a template",
        )
    empty = np.flatnonzero(~flat.any(axis=1))
    if len(empty):
        raise DataError(
            f"the embedding of {manifest.keys[rows[empty[0]]]!r} is all zero: never written",
            "the program that wrote it had fewer images than rows, or was stopped; where zeros "
            "stand for an image without a face, --allow-failures",
        )
