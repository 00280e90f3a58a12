"""Vectors of four fixed images: the proof of which model made the stored vectors.

A digest of weights does not see code, attributes, preprocessing or a file behind a service; the
vectors of images that never change see all of them.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import calling
from evalkit.adapters.calling import Forward
from evalkit.adapters.contract import Adapter
from evalkit.errors import ModelError
from evalkit.types import InputSpec

# Shares of the largest value.  One program on one kind of processor gives the same bits, in 32
# bits and in 16; a few roundings are let through.  A false alarm costs embedding again, and no
# number, so a runtime that chooses its kernels anew at each start may have one.
TOLERANCE = 1e-5
REPEAT = 1e-3  # two runs in one process: dropout and noise change tenths, a service's servers less
MIXED = 0.01  # an image alone and among others: kernels for other sizes round 16 bits differently
# Cosine of the two: MobileFaceNet quantised dynamically keeps 0.97, networks that take statistics
# of the pass mostly fall below 0.8.
_TURNED = 0.9
_ROUNDED = 1e-3  # of a sum of probabilities, in 16 bits too


class Probed(NamedTuple):
    """Dimension of a network; images per pass, None = any number; a warning, or empty."""

    dim: int
    batch: int | None
    doubt: str = ""


def pictures(spec: InputSpec) -> NDArray[np.uint8]:
    """Four fixed images of the model's size, (4, H, W, 3) RGB uint8.

    Noise; a smooth field of colours; gradients that differ by channel, with a black corner; a dark
    smooth field with a cast.  Made by integer arithmetic alone: no library can change them.  No
    two channels, halves or corners are alike, so that a swap, a flip or a shift shows.
    """
    height, width = spec.size
    y, x, c = np.ogrid[:height, :width, :3]
    noise = _hashed((y * 4099 + x) * 3 + c)
    ramp = np.stack(
        [
            np.broadcast_to(values, (height, width))
            for values in (
                255 * x[..., 0] // max(width - 1, 1),
                255 - 255 * y[..., 0] // max(height - 1, 1),
                255 * (x + y)[..., 0] // max(height + width - 2, 1),
            )
        ],
        axis=-1,
    )
    ramp = np.where((3 * y < height) & (4 * x < width), 0, ramp)
    dark = _field(spec.size, 1) * np.array([3, 2, 1]) // 8
    return np.stack([noise, _field(spec.size, 0), ramp, dark]).astype(np.uint8)


def answers(adapter: Adapter) -> NDArray[np.float32]:
    """Embed the four fixed images: (4, D), one by one where the memory is too small."""
    images = pictures(adapter.spec)
    try:
        return calling.embed(adapter, images)
    except MemoryError:
        pass
    try:
        return np.concatenate([calling.embed(adapter, one[None]) for one in images])
    except MemoryError as e:
        raise ModelError(f"one image does not fit the device's memory: {e}") from e


def prove(vectors: NDArray[np.float32]) -> bool:
    """Whether answers can identify the model that gave them.

    False where fewer than two are finite or all finite ones are equal: a model that detects faces
    itself finds none here.  Vectors of such a model rest on its fingerprint alone.
    """
    good = vectors[np.isfinite(vectors).all(axis=1)]
    return len(good) > 1 and bool((good != good[0]).any())


def agree(stored: NDArray[np.float32], vectors: NDArray[np.float32]) -> bool:
    """Whether two sets of answers are one model's: within `TOLERANCE` of the largest value.

    NaN equals NaN.  True of two sets that prove nothing; see `prove`.
    """
    return apart(stored, vectors) <= TOLERANCE


def apart(stored: NDArray[np.float32], vectors: NDArray[np.float32]) -> float:
    """Largest difference over the largest value of `stored`; inf where shapes or NaN differ."""
    good = np.isfinite(stored)
    if stored.shape != vectors.shape or not np.array_equal(
        np.where(good, 0, stored), np.where(np.isfinite(vectors), 0, vectors), equal_nan=True
    ):
        return np.inf
    a, b = stored[good].astype(np.float64), vectors[good].astype(np.float64)
    if np.array_equal(a, b):
        return 0.0
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30))


def refuse_random(adapter: Adapter, first: NDArray[np.float32]) -> str:
    """Refuse a model whose vector of an image depends on more than the image.

    first : its answers.

    ModelError where a second run differs by more than `REPEAT` (dropout is on, or noise is drawn),
    and where batch normalisation is in training mode: an image alone gets a vector of another
    direction than among others.  Returns a warning for stderr and the report: empty where the
    vector depends on the image alone, to `MIXED`, and is no output of a softmax.
    """
    called = calling.name(adapter)
    _refuse_chance(called, first, answers(adapter))
    if layer := _training(adapter):
        raise ModelError(f"{called} has {layer} in training mode", "call eval() on its network")
    alone = calling.embed(adapter, pictures(adapter.spec)[-1:])
    doubts = _mixing(called, first[-1:], alone), _probabilities(called, first)
    return "; ".join(filter(None, doubts)) or str(getattr(adapter, "doubt", ""))


def probe(forward: Forward, spec: InputSpec, batch: int | None, name: str) -> Probed:
    """Find the dimension of a network and its batch size, by two of the fixed images.

    batch : what the model declares; None is put to the test. Where two together fail, the batch is
    1; where they differ by over `MIXED` from each alone too, with a warning in `doubt`.
    ModelError as from `refuse_random`.
    """
    if batch is not None:
        images = np.resize(pictures(spec), (batch, *spec.size, 3))
        return Probed(forward(images).shape[1], batch)
    two = pictures(spec)[[0, -1]]
    alone = np.concatenate([forward(two[:1]), forward(two[1:])])
    try:
        together = forward(two)
    except ModelError:
        return Probed(alone.shape[1], 1)
    if apart(together, alone) <= MIXED:
        return Probed(alone.shape[1], None)
    _refuse_chance(name, together, forward(two))
    return Probed(alone.shape[1], 1, _mixing(name, together, alone) + "; fed one at a time")


def _refuse_chance(name: str, first: NDArray[np.float32], again: NDArray[np.float32]) -> None:
    differing = apart(first, again)
    if differing > REPEAT:
        raise ModelError(
            f"{name} answers differently to the same image, by {differing:.2g} times the largest "
            "value",
            "is dropout on? export it in evaluation mode, after model.eval()",
        )


def _mixing(name: str, among: NDArray[np.float32], alone: NDArray[np.float32]) -> str:
    """Describe how much vectors change with the other images of a pass; empty up to `MIXED`."""
    mixed = apart(among, alone)
    if mixed <= MIXED:
        return ""
    if not _parallel(among, alone):
        raise ModelError(
            f"{name} answers differently to an image alone and among others, by {mixed:.2g} times "
            "the largest value",
            "is batch normalisation in training mode? export it after model.eval()",
        )
    return (
        f"vectors of {name} change with the other images of a pass, by {mixed:.2g} times the "
        "largest value, as with dynamic quantisation, or batch normalisation in training mode"
    )


def _probabilities(name: str, vectors: NDArray[np.float32]) -> str:
    """Describe what looks like the output of a softmax; empty where it is none."""
    shares = vectors.shape[1] > 1 and (vectors >= 0).all()
    if not shares or (np.abs(vectors.sum(axis=1) - 1) > _ROUNDED).any():
        return ""
    return (
        f"vectors of {name} are probabilities, none below 0 and 1 in sum: take the output before "
        "its classifier"
    )


def _training(adapter: Adapter) -> str:
    """Name a layer of an adapter's torch network that is in training mode; else empty."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(adapter, "transient", False):  # such put it into evaluation mode
        return ""
    layers = torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd
    values = getattr(adapter, "__dict__", {}).values()
    networks = [v for v in values if isinstance(v, torch.nn.Module)]
    wrong = (m for n in networks for m in n.modules() if isinstance(m, layers) and m.training)
    return next((type(layer).__name__ for layer in wrong), "")


def _parallel(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether rows of (N, D) arrays point the same way, to a cosine of `_TURNED`."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    length = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return bool(((x * y).sum(axis=1) >= _TURNED * length).all() and (length > 0).all())


def _field(size: tuple[int, int], seed: int) -> NDArray[np.int64]:
    """Smooth colours: random at a 6 x 6 lattice, linear between its points; (H, W, 3), 0..255."""
    side = 6
    lattice = _hashed(np.arange(side * side * 3).reshape(side, side, 3) + 1000 * (seed + 1))
    (i, v), (j, u) = (np.divmod(np.arange(n) * (side - 1) * 256 // max(n, 2), 256) for n in size)
    v, u = v[:, None, None], u[None, :, None]
    upper = lattice[i][:, j] * (256 - u) + lattice[i][:, j + 1] * u
    lower = lattice[i + 1][:, j] * (256 - u) + lattice[i + 1][:, j + 1] * u
    colours: NDArray[np.int64] = (upper * (256 - v) + lower * v) // 65536
    return colours


def _hashed(number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hash whole numbers to 0..255: the finaliser of MurmurHash3."""
    h = np.asarray(number, np.uint64)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ (h >> np.uint64(shift))) * np.uint64(factor) & np.uint64(0xFFFFFFFF)
    return ((h ^ (h >> np.uint64(16))) & np.uint64(255)).astype(np.int64)
