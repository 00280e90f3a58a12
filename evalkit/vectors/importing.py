"""Import of other programs' embeddings into one feature file, a block at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit import locks
from evalkit.arrays import refuse_unwritten
from evalkit.errors import DataError, first_few
from evalkit.files import as_path, hidden, named
from evalkit.keys import rows_of
from evalkit.types import Manifest, Progress
from evalkit.vectors import embeddings, readers, row_blocks
from evalkit.vectors.row_blocks import RowBlocks
from evalkit.vectors.store import FeatureStore

BLOCK = 8192


def open_source(
    path: str | os.PathLike[str],
    ending: str | None = None,
    shape: tuple[int, int] | None = None,
) -> RowBlocks:
    """Open what `readers.in_blocks` reads, and see by its first row that it holds embeddings.

    shape : (N, D) of a file of numbers alone.
    """
    path = as_path(path)
    if shape is not None:
        return row_blocks.of_array(readers.read_raw(path, shape))
    blocks = readers.in_blocks(path, ending)
    first = blocks.whole
    if first is None:
        first = next(blocks.blocks(1), np.empty((0, *blocks.shape), np.float32))
    embeddings.check(first, path)
    return blocks


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
        shown = first_few([keys[r] for r in extra.tolist()])
        raise DataError(
            f"{len(extra)} of {len(keys)} embeddings are not on the list: {shown}",
            "--subset leaves them out",
        )
    return at


def write(
    source: RowBlocks,
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
    views, dim = (1, *source.shape)[-2:]
    key = {"imported": name, "manifest": manifest.digest()}
    with suppress(FileNotFoundError), partial.open("rb") as left:  # by a killed writer
        locks.take(left, path)
        partial.unlink()
    try:
        with named(path):
            store = FeatureStore.create(
                partial, manifest, dim=dim, views=views, key=key, dtype=dtype, provenance={}
            )
        with store:
            for rows, x in _blocks(source, at):
                if allow_failures:
                    x = embeddings.without_zeros(x)
                else:
                    written = [manifest.keys[row] for row in rows.tolist()]
                    embeddings.refuse_failures(x, written, name)
                    refuse_unwritten(x, name, written)
                store.write(rows, x)
                if progress is not None:
                    progress(len(store.done) - len(store.pending()), len(store.done))
            store.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _blocks(
    source: RowBlocks, at: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Yield (places, ascending; their rows, (n, V, D)), a block of the source at a time."""
    read = 0
    for x in source.blocks(BLOCK):
        place = at[read : read + len(x)]
        read += len(x)
        order = np.argsort(place, kind="stable")
        order = order[place[order] >= 0]
        if len(order):
            yield place[order], np.asarray(x)[order].reshape(len(order), -1, source.shape[-1])
    if read != source.rows:
        raise DataError(f"the file holds {read} rows, it says {source.rows}")
