"""Images become features: decoded by threads ahead of the model, written as they are made."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import Adapter
from evalkit.adapters.presets import describe
from evalkit.errors import DataError, ModelError
from evalkit.features import FeatureStore, cache_path
from evalkit.images import ImageSource, Picture
from evalkit.types import Manifest

BATCH = 32
_AHEAD = 3  # batches decoded before the model asks for them
Progress = Callable[[int, int], None]


def feature_key(
    adapter: Adapter, source: ImageSource, manifest: Manifest, views: int
) -> dict[str, str]:
    """Name everything that the features depend on, part by part."""
    return {
        "model": adapter.fingerprint,
        "runtime": str(getattr(adapter, "runtime", type(adapter).__name__)),
        "input spec": describe(adapter.spec),
        "manifest": manifest.digest(),
        "decoder": source.identity,
        "views": "original" if views == 1 else "original, mirrored",
    }


def embed(
    adapter: Adapter,
    source: ImageSource,
    manifest: Manifest,
    path: Path | None = None,
    *,
    views: int = 1,
    batch: int = BATCH,
    workers: int | None = None,
    progress: Progress | None = None,
) -> FeatureStore:
    """Embed every image of the manifest once and return its finished feature file.

    path : where to keep it; None is the user's cache, under the features' key.  A file that holds
    these features, whole or begun, is used and finished; one of another key is refused.
    views : 1, or 2 to embed the mirror image too.  batch : images in a forward pass, halved where
    memory runs out.  progress : called with (images done, images in all).
    An image that cannot be read is a failed row.  DataError where an image has not the model's
    size; DataError where `source` lacks an image of the manifest.
    """
    images = source.select(manifest.keys)
    key = feature_key(adapter, images, manifest, views)
    path = path or cache_path(key)
    if not path.exists():
        FeatureStore.create(path, manifest, dim=adapter.dim, key=key, views=views).close()
    store = FeatureStore.open(path, expect=key)
    if not len(store.pending()):
        return store
    with FeatureStore.open(path, expect=key, write=True) as store:
        total = len(manifest.keys)
        for chunk in _decoded(images, store.pending(), batch, workers):
            good = np.array([picture is not None for picture in chunk.pictures])
            x = np.full((len(good), views, adapter.dim), np.nan, np.float32)
            if good.any():
                stack = _stack(chunk, manifest, adapter)
                batch, x[good] = _forward(adapter, stack, views, batch)
            store.write(chunk.rows, x, good)
            if progress is not None:
                progress(total - len(store.pending()), total)
    return FeatureStore.open(path, expect=key)


@dataclass(frozen=True, slots=True)
class _Chunk:
    rows: NDArray[np.int64]
    pictures: list[Picture | None]  # None could not be read


def _decoded(
    images: ImageSource, rows: NDArray[np.int64], batch: int, workers: int | None
) -> Iterator[_Chunk]:
    """Yield the rows in chunks of `batch`, the next ones being decoded meanwhile."""

    def read(row: int) -> Picture | None:
        try:
            return images.read(row)
        except DataError:
            return None

    chunks = iter(np.split(rows, range(batch, len(rows), batch)))
    waiting: deque[tuple[NDArray[np.int64], list[Future[Picture | None]]]] = deque()
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        try:
            while True:
                while len(waiting) < _AHEAD and (chunk := next(chunks, None)) is not None:
                    waiting.append((chunk, [pool.submit(read, int(row)) for row in chunk]))
                if not waiting:
                    return
                chunk, futures = waiting.popleft()
                yield _Chunk(chunk, [future.result() for future in futures])
        finally:
            pool.shutdown(cancel_futures=True)


def _stack(chunk: _Chunk, manifest: Manifest, adapter: Adapter) -> Picture:
    wanted = adapter.spec.size
    for row, picture in zip(chunk.rows, chunk.pictures, strict=True):
        if picture is not None and picture.shape[:2] != wanted:
            raise DataError(
                f"{manifest.keys[row]} is {picture.shape[0]}x{picture.shape[1]}, "
                f"the model wants {wanted[0]}x{wanted[1]} crops aligned as {adapter.spec.crop}",
                "give aligned crops, or --landmarks to align; --resize only squashes",
            )
    return np.stack([picture for picture in chunk.pictures if picture is not None])


def _forward(
    adapter: Adapter, images: Picture, views: int, batch: int
) -> tuple[int, NDArray[np.float32]]:
    """Embed (n, H, W, 3) in passes of at most `batch`; return the batch that fitted, (n, V, D)."""
    both = images if views == 1 else np.concatenate([images, images[:, :, ::-1]])
    x = np.empty((len(both), adapter.dim), np.float32)
    o = 0
    while o < len(both):
        some = both[o : o + batch]
        try:
            made = adapter.embed(some)
        except MemoryError as e:
            if batch == 1:
                raise ModelError(f"one image does not fit the device's memory: {e}") from e
            batch //= 2
            continue
        if made.shape != (len(some), adapter.dim):
            raise ModelError(
                f"the model returned shape {made.shape} for {len(some)} images",
                f"expected ({len(some)}, {adapter.dim})",
            )
        x[o : o + len(some)] = made
        o += len(some)
    return batch, x.reshape(views, len(images), adapter.dim).transpose(1, 0, 2)
