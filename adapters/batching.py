"""Feeding a model: passes of the size that it takes, and rows out for rows in."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ModelError
from evalkit.types import InputSpec

Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def cores() -> int:
    """Count the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_images(images: NDArray[np.uint8], spec: InputSpec) -> None:
    """Refuse images that are not (N, H, W, 3) uint8 of the size that the model wants."""
    if images.dtype != np.uint8 or images.shape[1:] != (*spec.size, 3):
        raise ModelError(
            f"images of {images.dtype} {images.shape}",
            f"the model wants (N, {spec.size[0]}, {spec.size[1]}, 3) uint8",
        )


def fed_as(spec: InputSpec) -> str:
    """Say what a network that fails was given, for a hint."""
    return f"it was fed {spec.size[0]}x{spec.size[1]} {spec.layout}; is that what it wants?"


def embed(adapter: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed (N, H, W, 3) with any adapter: (N, D) float32; every call of an adapter is made here.

    One that has a `batch` gets exactly so many images at a time, the last ones black; those with
    `fills_passes` see to that themselves.
    """
    batch = None if getattr(adapter, "fills_passes", False) else getattr(adapter, "batch", None)
    return in_batches(adapter.embed, images, batch)


def name(adapter: Any) -> str:
    """Name an adapter for a message: as it calls itself, else its class with its module."""
    kind = type(adapter)
    return str(getattr(adapter, "name", f"{kind.__module__}.{kind.__qualname__}"))


def probe(forward: Forward, spec: InputSpec, batch: int | None) -> tuple[int, int | None]:
    """Find the dimension of a model, and the batch it must be fed in: (dim, batch or None = any).

    batch : what the model declares; None is put to the test with two images of noise. Where two
    together fail, or differ by over a hundredth from what each gives alone, the batch is 1.
    """
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (batch or 2, *spec.size, 3), dtype=np.uint8)
    if batch is not None:
        return forward(noise).shape[1], batch
    alone = np.concatenate([forward(noise[:1]), forward(noise[1:])])
    try:
        together = forward(noise)
    except ModelError:
        return alone.shape[1], 1
    near = np.abs(together - alone).max() <= 0.01 * np.abs(alone).max()
    return alone.shape[1], None if near else 1


def in_batches(
    forward: Forward, images: NDArray[np.uint8], batch: int | None
) -> NDArray[np.float32]:
    """Embed (N, H, W, 3) in passes of exactly `batch` images, the last one filled up."""
    if batch is None or len(images) == batch:
        return forward(images)
    whole = filled(images, batch)
    rows = [forward(whole[o : o + batch]) for o in range(0, len(whole), batch)]
    return np.concatenate(rows)[: len(images)]


def filled(images: NDArray[np.uint8], batch: int) -> NDArray[np.uint8]:
    """Add black images up to a whole number of passes."""
    short = -len(images) % batch
    if not short:
        return images
    return np.concatenate([images, np.zeros((short, *images.shape[1:]), np.uint8)])
