"""Choice of the batch size: the fastest in a trial, and how much the vectors change with it.

The embedder takes the batch that is asked for (`--batch`), else the one that the feature file was
begun with, else `best_batch`; a batch that finds no memory is halved.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from evalkit.adapters import Adapter, calling
from evalkit.images import Picture

_LARGEST = 1024  # pictures in a forward pass
_FIXED = 16  # pictures at a time for a model of a fixed batch below it
_TRIAL = 0.3  # seconds that a batch is tried for


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
    with ThreadPoolExecutor(streams) as pool:
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
    fit the memory, or noise has no finite vector.
    """
    shape = (batch, *adapter.spec.size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    try:
        together = calling.embed(adapter, noise)[:images]
        alone = np.concatenate([calling.embed(adapter, one[None]) for one in noise[:images]])
    except MemoryError:
        return None
    good = np.isfinite(together) & np.isfinite(alone)
    if not good.any():
        return None
    change = np.abs(together[good] - alone[good]).max()
    return float(change / max(float(np.abs(alone[good]).max()), 1e-30))


def _seconds(
    pool: ThreadPoolExecutor, adapter: Adapter, passes: Sequence[Picture], pictures: int
) -> float:
    """Time passes that run at once, as they will: the mean of some, after one."""
    times, enough = list[float](), 0.0
    while len(times) < 3 or sum(times) < enough:
        start = time.perf_counter()
        for _ in pool.map(partial(calling.embed, adapter), passes):
            pass
        times.append(time.perf_counter() - start)
        enough = min(_TRIAL, min(times) * pictures / sum(map(len, passes)) / 50)
    return float(np.mean(times[1:]))
