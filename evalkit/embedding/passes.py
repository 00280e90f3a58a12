"""Forward passes of a model: images decoded by threads ahead of it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import Adapter, calling
from evalkit.errors import DataError, ModelError, NoFaceError, SeveralFacesError
from evalkit.identity import DIGEST
from evalkit.images import ImageSource, Picture
from evalkit.images.source import Decoded
from evalkit.vectors.layout import DONE, NO_FACE, SEVERAL_FACES, UNREADABLE

READERS = min(8, os.cpu_count() or 1)
Passes = Sequence[NDArray[np.int64]]  # of the passes through the model
# rows, vectors, DONE or why there is none (see `layout.FAILURES`), digests of their bytes
Embedded = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]
_WHY = {NoFaceError: NO_FACE, SeveralFacesError: SEVERAL_FACES}
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class FedModel:
    """A model, and how it is fed.

    decode : gives an image as `ImageSource.decoded` of `images` does, which None takes.
    """

    adapter: Adapter
    images: ImageSource
    views: int
    batch: int
    workers: int
    decode: Callable[[int], Decoded] | None = None

    def embed(self, passes: Passes) -> Iterator[Embedded]:
        """Embed the images of each pass, in order."""
        adapter, memory = self.adapter, _Memory(self.batch)
        streams = getattr(adapter, "streams", 1)

        def forward(chunk: _Chunk) -> Embedded:
            x = np.full((len(chunk.rows), self.views, adapter.dim), np.nan, np.float32)
            if len(chunk.images):
                good = chunk.state == DONE
                x[good] = _forward(adapter, chunk.images, self.views, memory)
            return chunk.rows, x, chunk.state, chunk.digests

        def read(rows: NDArray[np.int64]) -> _Chunk:
            return _read(rows, self.decode or self.images.decoded, self.images, adapter)

        with _threads(self.workers) as readers, _threads(streams) as models:
            decoded = _ahead(readers, read, passes, self.workers + streams)
            yield from _ahead(models, forward, decoded, streams + 1)


@dataclass(frozen=True, slots=True)
class _Chunk:
    rows: NDArray[np.int64]
    state: NDArray[np.uint8]  # DONE, or why an image could not be had
    digests: NDArray[np.uint8]  # (n, 32), of their bytes; 0 where there are none
    images: Picture  # those that could be read


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


def _read(
    rows: NDArray[np.int64],
    decode: Callable[[int], Decoded],
    images: ImageSource,
    adapter: Adapter,
) -> _Chunk:
    size = adapter.spec.size
    stack, state = np.empty((len(rows), *size, 3), np.uint8), np.full(len(rows), DONE, np.uint8)
    digests = np.zeros((len(rows), DIGEST), np.uint8)
    for i, row in enumerate(rows.tolist()):
        digest, picture = decode(row)
        if digest:
            digests[i] = np.frombuffer(digest, np.uint8)
        if isinstance(picture, DataError):
            state[i] = _WHY.get(type(picture), UNREADABLE)
            continue
        if picture.shape[:2] != size:
            raise DataError(
                f"{images.keys[row]} is {picture.shape[0]}x{picture.shape[1]}, "
                f"the model expects {size[0]}x{size[1]} crops aligned as {adapter.spec.crop}",
                "give aligned crops, or --landmarks FILE or --align mtcnn; --resize only squashes",
            )
        stack[i] = picture
    good = state == DONE
    return _Chunk(rows, state, digests, stack if good.all() else stack[good])


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
            x[o : o + len(some)] = calling.embed(adapter, some)
        except MemoryError as e:
            if len(some) == 1:
                raise ModelError(f"one image does not fit the device's memory: {e}") from e
            memory.batch = len(some) // 2
            continue
        o += len(some)
    return x.reshape(views, len(images), adapter.dim).transpose(1, 0, 2)
