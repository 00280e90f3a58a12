"""Batches of a model: passes of the size it takes, checked images in, checked vectors out."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import users_code
from evalkit.errors import ModelError
from evalkit.types import InputSpec

Forward = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_images(images: NDArray[np.uint8], spec: InputSpec) -> None:
    """Refuse images that are not (N, H, W, 3) uint8 of the model's size."""
    if images.dtype != np.uint8 or images.shape[1:] != (*spec.size, 3):
        raise ModelError(
            f"images of {images.dtype} {images.shape}",
            f"the model expects (N, {spec.size[0]}, {spec.size[1]}, 3) uint8",
        )


def in_order(images: NDArray[np.uint8], color: str) -> NDArray[np.uint8]:
    """Bring the channels of (N, H, W, 3) RGB uint8 to a network's order; grey is (N, H, W, 1).

    Grey is Pillow's "L", ITU-R 601 luma rounded: (19595 R + 38470 G + 7471 B + 32768) / 65536.
    """
    if color == "grey":
        luma = images @ np.array([19595, 38470, 7471], np.uint32) + 32768 >> 16
        return luma[..., None].astype(np.uint8)
    return images if color == "rgb" else images[..., ::-1]


def fed_as(spec: InputSpec) -> str:
    """Describe the input of a network that fails, for a hint."""
    return f"it was fed {spec.size[0]}x{spec.size[1]} {spec.layout}; is that what it wants?"


def embed(adapter: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed (N, H, W, 3) with any adapter: (N, D) float32; every call of an adapter is made here.

    One that has a `batch` gets exactly so many images at a time, padded with black; those with
    `fills_passes` pad themselves.  What it raises is a ModelError that names it, and so is anything
    but `dim` real numbers per image.  A vector of zeros has no direction: NaN, as a failure.
    """
    rows = _called(adapter, images)
    nowhere = np.asarray(~rows.any(axis=1))
    return np.where(nowhere[:, None], np.float32(np.nan), rows) if nowhere.any() else rows


def _called(adapter: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    if getattr(adapter, "fills_passes", False):
        rows: NDArray[np.float32] = adapter.embed(images)
        return rows

    def forward(some: NDArray[np.uint8]) -> NDArray[np.float32]:
        with users_code.blamed(name(adapter), f"failed on {len(some)} images"):
            output = np.asarray(adapter.embed(some.copy()))  # some write into what they are fed
        return vectors(output, len(some), name(adapter), adapter.dim)

    return in_batches(forward, images, getattr(adapter, "batch", None))


def name(adapter: Any) -> str:
    """Name an adapter for a message: as it calls itself, else its class with its module."""
    kind = type(adapter)
    return str(getattr(adapter, "name", f"{kind.__module__}.{kind.__qualname__}"))


def vectors(
    made: NDArray[Any], images: int, name: str, dim: int | None = None
) -> NDArray[np.float32]:
    """Convert a model's output for N images to (N, D) float32; ModelError for anything else.

    (N, D, 1, 1) is (N, D) too, and so is (D,) of one image.  dim : the D that it must be.
    Always a copy: runtimes answer the next images in the same memory.
    """
    if made.dtype == object and made.ndim == 0:
        what = type(made.item()).__name__
        raise ModelError(f"{name} returned {what}", "expected one vector per image, (N, D)")
    made = made[None] if made.ndim == 1 and images == 1 else made
    message = f"{name} returned {made.dtype} of shape {made.shape} for {images} images"
    if made.ndim < 2 or len(made) != images:
        raise ModelError(message, "rows out must equal rows in: export it with a free batch, or 1")
    if made.size != images * max(made.shape[1:]):
        hint = "a feature map is not an embedding: pool or flatten it in the model, or take another"
        raise ModelError(message, f"{hint} output; one vector per image, (N, D), is expected")
    if made.dtype.kind not in "fiu" or made.size == 0 or (dim or made[0].size) != made[0].size:
        raise ModelError(message, f"expected real numbers of shape ({images}, {dim or 'D'})")
    return made.reshape(images, -1).astype(np.float32)


def in_batches(
    forward: Forward, images: NDArray[np.uint8], batch: int | None
) -> NDArray[np.float32]:
    """Embed (N, H, W, 3) in passes of exactly `batch` images, the last one padded."""
    if batch is None or len(images) == batch:
        return forward(images)
    whole = filled(images, batch)
    rows = [forward(whole[o : o + batch]) for o in range(0, len(whole), batch)]
    return np.concatenate(rows)[: len(images)]


def filled(images: NDArray[np.uint8], batch: int) -> NDArray[np.uint8]:
    """Pad with black images to a whole number of passes."""
    short = -len(images) % batch
    if not short:
        return images
    return np.concatenate([images, np.zeros((short, *images.shape[1:]), np.uint8)])
