"""Images become features: decoded by threads ahead of the model, written as they are made."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import Adapter, fingerprint
from evalkit.adapters.presets import describe
from evalkit.errors import DataError, ModelError
from evalkit.features import PENDING, FeatureStore, cache_path, difference
from evalkit.images import ImageSource, Picture
from evalkit.types import Manifest

if TYPE_CHECKING:
    from evalkit.cluster import Cluster

_READERS = min(8, os.cpu_count() or 1)
_LARGEST = 1024  # pictures in a forward pass
_FIXED = 16  # pictures at a time for a model of a fixed batch below it
_TRIAL = 0.3  # seconds that a batch is tried for
_PIECE = 1024  # images that a worker of a cluster embeds at a time
Progress = Callable[[int, int], None]
Rows = Sequence[NDArray[np.int64]]  # of the passes through the model
Embedded = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]  # rows, vectors, good
In = TypeVar("In")
Out = TypeVar("Out")


def feature_key(
    adapter: Adapter, source: ImageSource, manifest: Manifest, views: int
) -> dict[str, str]:
    """Name everything that the features depend on, part by part."""
    return {
        "model": fingerprint(adapter),
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
    batch: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
    load: Callable[[], Adapter] | None = None,
) -> FeatureStore:
    """Embed every image of the manifest once and return its finished feature file.

    path : where to keep it; None is the user's cache, under the features' key.  A file that holds
    these features, whole or begun, is used and finished; one of another key is refused.
    views : 1, or 2 to embed the mirror image too, in the same forward pass.
    batch : pictures in a forward pass, None = the fastest found; halved where memory runs out.
    workers : threads that read images.  progress : called with (images done, images in all).
    cluster : whose workers embed, each with the model that `load` makes there; this process alone
    writes.  A worker with another model, runtime or decoder is a DataError.

    Threads read and decode ahead, one (or as many as the adapter has `streams`) runs the model,
    this one writes; a few batches are in memory at a time, however many images there are.  Images
    meet in the same batches in every run, interrupted or not, so they get the same bits; what
    another batch would change is measured and kept (`batch_difference`).
    An image that cannot be read is a failed row.  DataError where an image has not the model's
    size; DataError where `source` lacks an image of the manifest.
    """
    images = source.select(manifest.keys)
    key = feature_key(adapter, images, manifest, views)
    path = path or cache_path(key)
    begun = path.exists()
    if begun:
        store = FeatureStore.open(path, expect=key)
        if not len(store.pending()):
            return store
        batch = batch or store.provenance.get("batch")
    batch = batch or best_batch(adapter, views * len(manifest.keys))
    if not begun:
        made = {"batch": batch, "batch difference": batch_difference(adapter, batch)}
        FeatureStore.create(
            path, manifest, dim=adapter.dim, key=key, views=views, provenance=made
        ).close()
    with FeatureStore.open(path, expect=key, write=True) as store:
        try:
            fed = images, views, batch, workers or _READERS
            model = _Model(adapter, *fed).embed
            if cluster is not None and load is not None:
                model = partial(_elsewhere, cluster, _Piece(load, key, manifest, fed))
            _fill(store, max(1, batch // views), model, progress)
        except BaseException:
            if not begun and store.done.max() == PENDING:
                path.unlink()
            raise
    return FeatureStore.open(path, expect=key)


def best_batch(adapter: Adapter, pictures: int = 1_000_000) -> int:
    """Find the number of pictures in a forward pass that the model embeds fastest.

    Doubles from 1 until passes are clearly slower a picture, fail for want of memory or take more
    than half a second (two, where so many pictures take ten minutes), and takes the smallest within
    2 % of the fastest; a model of one fixed batch gets whole ones.  Each size runs for as long, so
    that other work on the machine slows all alike: a fiftieth of what so many pictures will take,
    and 0.3 seconds at most.
    """
    fixed = getattr(adapter, "batch", None)
    if fixed is not None:
        return int(fixed * max(1, _FIXED // fixed))
    noise = np.random.default_rng(0).integers(0, 256, (1, *adapter.spec.size, 3), dtype=np.uint8)
    rates: dict[int, float] = {}
    size, streams = 1, getattr(adapter, "streams", 1)
    with _threads(streams) as pool:
        while size <= _LARGEST:
            passes = [np.repeat(noise, size, axis=0)] * streams
            try:
                seconds = _seconds(pool, adapter, passes, pictures)
            except MemoryError:
                break
            rates[size] = size / seconds
            job = pictures / rates[size] / streams
            longest = min(max(0.5, job / 300), 2.0)
            if seconds > longest or rates[size] < 0.8 * max(rates.values()):
                break
            size *= 2
    return min((n for n, rate in rates.items() if rate >= 0.98 * max(rates.values())), default=1)


def batch_difference(adapter: Adapter, batch: int, images: int = 2) -> float | None:
    """Measure what embedding in batches changes: 0.0 where every image gets the same bits.

    The largest difference between a vector made in a pass of `batch` pictures of noise and made
    alone, over the first `images`, as a share of the largest value; None where the batch does not
    fit the memory.
    """
    shape = (batch, *adapter.spec.size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    try:
        together = adapter.embed(noise)[:images]
        alone = np.concatenate([adapter.embed(noise[i : i + 1]) for i in range(len(together))])
    except MemoryError:
        return None
    return float(np.abs(together - alone).max() / max(float(np.abs(alone).max()), 1e-30))


def _seconds(
    pool: ThreadPoolExecutor, adapter: Adapter, passes: Sequence[Picture], pictures: int
) -> float:
    """Time passes that run at once, as they will: the mean of some, after one."""
    times, enough = list[float](), 0.0
    while len(times) < 3 or sum(times) < enough:
        start = time.perf_counter()
        for _ in pool.map(adapter.embed, passes):
            pass
        times.append(time.perf_counter() - start)
        enough = min(_TRIAL, min(times) * pictures / sum(map(len, passes)) / 50)
    return float(np.mean(times[1:]))


@dataclass(frozen=True, slots=True)
class _Chunk:
    rows: NDArray[np.int64]
    good: NDArray[np.bool_]  # which of them could be read
    images: Picture  # those


def _fill(
    store: FeatureStore,
    size: int,
    embed: Callable[[Rows], Iterator[Embedded]],
    progress: Progress | None,
) -> None:
    """Write the pending rows as they are made, in any order, from passes of `size` images."""
    total = len(store.done)
    passes = np.split(np.arange(total), range(size, total, size))
    done = total - len(store.pending())
    if progress is not None:
        progress(done, total)
    for rows, x, good in embed([p for p in passes if (store.done[p] == PENDING).any()]):
        new = store.done[rows] == PENDING
        store.write(rows[new], x[new], good[new])
        done += int(new.sum())
        if progress is not None:
            progress(done, total)


@dataclass(frozen=True, slots=True)
class _Model:
    """A model, and how it is fed."""

    adapter: Adapter
    images: ImageSource
    views: int
    batch: int
    workers: int

    def embed(self, passes: Rows) -> Iterator[Embedded]:
        """Embed the images of each pass, in order."""
        adapter, memory = self.adapter, _Memory(self.batch)
        streams = getattr(adapter, "streams", 1)

        def forward(chunk: _Chunk) -> Embedded:
            x = np.full((len(chunk.rows), self.views, adapter.dim), np.nan, np.float32)
            if chunk.good.any():
                x[chunk.good] = _forward(adapter, chunk.images, self.views, memory)
            return chunk.rows, x, chunk.good

        def read(rows: NDArray[np.int64]) -> _Chunk:
            return _read(self.images, rows, adapter)

        with _threads(self.workers) as readers, _threads(streams) as models:
            decoded = _ahead(readers, read, passes, self.workers + streams)
            yield from _ahead(models, forward, decoded, streams + 1)


@dataclass
class _Piece:
    """The job of a cluster's worker: some passes in, what they gave out."""

    load: Callable[[], Adapter]
    key: dict[str, str]
    manifest: Manifest
    fed: tuple[ImageSource, int, int, int]

    def __call__(self, passes: Rows) -> list[Embedded]:
        return list(self._model.embed(passes))

    @cached_property
    def _model(self) -> _Model:
        model = _Model(self.load(), *self.fed)
        key = feature_key(model.adapter, model.images, self.manifest, model.views)
        if key != self.key:
            raise DataError(
                f"a worker would make other features: {difference(key, self.key)}",
                "give every worker the same model, packages and kind of device",
            )
        return model


def _elsewhere(cluster: Cluster, piece: _Piece, passes: Rows) -> Iterator[Embedded]:
    """Embed on the workers of a cluster, in pieces of several passes."""
    some = max(1, _PIECE // max((len(p) for p in passes), default=1))
    items = {o: passes[o : o + some] for o in range(0, len(passes), some)}
    with closing(cluster.run(piece, items)) as finished:
        for _, embedded in finished:
            yield from embedded


@contextmanager
def _threads(n: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(n)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[In], Out], items: Iterable[In], depth: int
) -> Iterator[Out]:
    """Yield work(item) in order, with up to `depth` items under way in the pool."""
    waiting: deque[Future[Out]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _read(images: ImageSource, rows: NDArray[np.int64], adapter: Adapter) -> _Chunk:
    size = adapter.spec.size
    stack, good = np.empty((len(rows), *size, 3), np.uint8), np.zeros(len(rows), np.bool_)
    for i, row in enumerate(rows.tolist()):
        try:
            picture = images.read(row)
        except DataError:
            continue
        if picture.shape[:2] != size:
            raise DataError(
                f"{images.keys[row]} is {picture.shape[0]}x{picture.shape[1]}, "
                f"the model wants {size[0]}x{size[1]} crops aligned as {adapter.spec.crop}",
                "give aligned crops; --resize only squashes",
            )
        stack[i], good[i] = picture, True
    return _Chunk(rows, good, stack if good.all() else stack[good])


class _Memory:
    """How many pictures fit in a forward pass, as far as is known."""

    def __init__(self, batch: int) -> None:
        self.batch = batch


def _forward(adapter: Adapter, images: Picture, views: int, memory: _Memory) -> NDArray[np.float32]:
    """Embed (n, H, W, 3) and its mirror image: (n, V, D)."""
    both = images if views == 1 else np.concatenate([images, images[:, :, ::-1]])
    x = np.empty((len(both), adapter.dim), np.float32)
    o = 0
    while o < len(both):
        some = both[o : o + memory.batch]
        try:
            made = adapter.embed(some)
        except MemoryError as e:
            if len(some) == 1:
                raise ModelError(f"one image does not fit the device's memory: {e}") from e
            memory.batch = len(some) // 2
            continue
        if made.shape != (len(some), adapter.dim):
            raise ModelError(
                f"the model returned shape {made.shape} for {len(some)} images",
                f"expected ({len(some)}, {adapter.dim})",
            )
        x[o : o + len(some)] = made
        o += len(some)
    return x.reshape(views, len(images), adapter.dim).transpose(1, 0, 2)
