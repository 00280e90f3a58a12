"""Drift of an export: cosines with the first one's vectors, and the likely cause by trial."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import calling
from evalkit.embedding.input_check import NORMALISATIONS, Load, unit
from evalkit.errors import ModelError
from evalkit.images import Picture
from evalkit.types import Floats, InputSpec, Progress

SAME = 1e-4  # of a cosine, by which float16 and another runtime's kernels may differ
_LEFT = 0.25  # of the distance may be left by what is named as the cause
_NEARER = 0.9  # of the images have to come nearer by it
_PIXELS = (128, 64, 32, 16, 8, 4, 2, 1)  # steps by which a zero point is sought
_OCTAVES = (4, 2, 1, 0.5, 0.25, 0.125)  # the same of a scale


@dataclass(frozen=True, slots=True)
class DriftCause:
    """The change that brings an export's vectors back.

    name : of what differs.  spec : feeding it so is the change; None where it is its vectors'.
    error : of a zero point, in pixel values or, of the output, units of a vector; of a scale that
    is none of the usual ones, in octaves.
    before, after : median cosine with the first export's vectors.
    """

    name: str
    spec: InputSpec | None
    error: float
    before: float
    after: float = math.nan


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> Floats:
    """Cosine of each image's two vectors, (N, D) and (N, D): (N,) float64.

    NaN where either has no finite length above 0.  ModelError where the dimensions differ.
    """
    if a.shape != b.shape:
        raise ModelError(
            f"vectors of {a.shape[-1]} and of {b.shape[-1]} numbers have no cosine",
            "give two exports of one network, and --output NAME where they have several",
        )
    u, v = unit(a), unit(b)
    there = u.any(axis=1) & v.any(axis=1)
    found = np.einsum("nd,nd->n", u, v).clip(-1, 1)
    return np.where(there, found, np.nan)


def cause(
    load: Load,
    spec: InputSpec,
    images: Picture,
    reference: NDArray[np.float32],
    progress: Progress = lambda done, total: None,
) -> DriftCause | None:
    """Find what makes an export's vectors differ from another's, by feeding it otherwise.

    load : makes the export for a spec; ModelError where it cannot take it.  spec : as it was fed.
    images : (N, H, W, 3) RGB uint8 of its size.  reference : (N, D), the other export's vectors.

    Tried are the other channel order and the usual scales (`NORMALISATIONS`) in both, a zero point
    of the input off by up to 255 pixel values, its numbers up to 200 times too large or small, and
    a zero point of the output.  The nearest is the cause where the median distance 1 - cosine falls
    to a quarter and nine images of ten come nearer.  None where nothing does, or the median is
    within `SAME` of 1: what is left then is of weights and arithmetic.
    """
    own = calling.embed(load(spec), images)
    at = _nearness(reference, own)
    before = float(np.median(at))
    if before >= 1 - SAME:
        return None
    ways, done = [*_known(spec)], itertools.count(1)
    searches = (
        ("zero point of the input", partial(_brighter, spec), _PIXELS),
        ("scale", partial(_stretched, spec), _OCTAVES),
    )
    total = len(ways) + sum(2 * len(steps) for *_, steps in searches)

    def fed(way: InputSpec) -> Floats:
        try:
            found = _nearness(reference, calling.embed(load(way), images))
        except ModelError:
            found = np.full(len(images), -1.0)
        progress(next(done), total)
        return found

    constant = _constant(reference, own)
    moved = _nearness(reference, own - np.float32(constant))
    tried = [(DriftCause(name, known, 0.0, before), fed(known)) for name, known in ways]
    tried.append((DriftCause("zero point of the output", None, constant, before), moved))
    for name, way, steps in searches:
        amount, found = _sought(fed, way, steps, at)
        tried.append((DriftCause(name, way(amount), -amount, before), found))
    nearest, found = max(tried, key=lambda one: float(np.median(one[1])))
    after = float(np.median(found))
    if 1 - after > _LEFT * (1 - before) or np.mean(found > at) < _NEARER:
        return None
    return replace(nearest, after=after)


def _nearness(reference: NDArray[np.float32], vectors: NDArray[np.float32]) -> Floats:
    """Cosines, -1 where there is none."""
    return np.nan_to_num(cosines(reference, vectors), nan=-1.0)


def _sought(
    fed: Callable[[InputSpec], Floats],
    way: Callable[[float], InputSpec],
    steps: Sequence[float],
    at: Floats,
) -> tuple[float, Floats]:
    """Seek the amount of a change that brings the median cosine nearest to 1, and the cosines."""
    amount = 0.0
    for step in steps:
        for other in (amount - step, amount + step):
            found = fed(way(other))
            if np.median(found) > np.median(at):
                amount, at = other, found
    return amount, at


def _known(spec: InputSpec) -> Iterator[tuple[str, InputSpec]]:
    """Yield the other order and the usual scales in both, and what each changes."""
    own = _turned(spec.mean, spec.color), _turned(spec.std, spec.color)
    orders: tuple[Literal["rgb", "bgr", "grey"], ...] = ("rgb", "bgr")
    for color in ("grey",) if spec.color == "grey" else orders:
        for mean, std in (own, *NORMALISATIONS):
            way = replace(spec, color=color, mean=_turned(mean, color), std=_turned(std, color))
            other_order, other_scale = color != spec.color, (mean, std) != own
            if other_order or other_scale:
                yield " and ".join(["channel order"] * other_order + ["scale"] * other_scale), way


def _turned(values: tuple[float, float, float], color: str) -> tuple[float, float, float]:
    """Bring numbers of the channels from RGB to a spec's order, or back."""
    return (values[2], values[1], values[0]) if color == "bgr" else values


def _brighter(spec: InputSpec, pixels: float) -> InputSpec:
    """Feed images as if they were so many pixel values brighter: one constant for all channels."""
    unit_of = pixels / float(np.mean(spec.std))
    x, y, z = (m - unit_of * s for m, s in zip(spec.mean, spec.std, strict=True))
    return replace(spec, mean=(x, y, z))


def _stretched(spec: InputSpec, octaves: float) -> InputSpec:
    """Feed 2**octaves times the numbers."""
    x, y, z = (s / 2**octaves for s in spec.std)
    return replace(spec, std=(x, y, z))


def _constant(reference: NDArray[np.float32], vectors: NDArray[np.float32]) -> float:
    """Fit vectors = factor x reference + constant by least squares, and give the constant."""
    good = np.isfinite(reference).all(axis=1) & np.isfinite(vectors).all(axis=1)
    x, y = (v[good].ravel().astype(np.float64) for v in (reference, vectors))
    if len(x) == 0 or np.ptp(x) == 0:
        return 0.0
    return float(y.mean() - np.cov(x, y)[0, 1] / x.var(ddof=1) * x.mean())
