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
_LEFT = 0.5  # of the distance may be left by what is named as the cause
_NEARER = 0.9  # of the images have to come nearer by it
_PIXELS = (128, 64, 32, 16, 8, 4, 2, 1)  # steps by which a zero point is sought
_OCTAVES = (4, 2, 1, 0.5, 0.25, 0.125)  # the same of a scale


@dataclass(frozen=True, slots=True)
class Fed:
    """A model, the spec by which it is fed, and (N, H, W, 3) RGB uint8 images of its size.

    load : makes the model for a spec; ModelError where it cannot take it.
    """

    load: Load
    spec: InputSpec
    images: Picture

    def vectors(self) -> NDArray[np.float32]:
        """Embed the images, as (N, D)."""
        return calling.embed(self.load(self.spec), self.images)


@dataclass(frozen=True, slots=True)
class DriftCause:
    """The mistake of an export that explains its vectors.

    name : of what differs.  spec : fed so, its vectors come as near as `after`; None for no such.
    error : of a zero point, in pixel values or, of the output, units of a vector; of a scale that
    is none of the usual ones, in octaves.
    cut : the zero point shifts no pixel, but cuts those above 255 - error, or below -error.
    before, after : median cosine with the first export's vectors, and what explaining leaves.
    """

    name: str
    spec: InputSpec | None
    error: float
    before: float
    after: float = math.nan
    cut: bool = False


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
    cosine = np.einsum("nd,nd->n", u, v).clip(-1, 1)
    return np.where(there, cosine, np.nan)


def cause(
    first: Fed, other: Fed, progress: Progress = lambda done, total: None
) -> DriftCause | None:
    """Find what makes the vectors of an export, `other`, differ from those of the first.

    Tried are the other channel order and the usual scales (`NORMALISATIONS`) in both, by feeding
    the export so, and a zero point of its output.  A zero point of the input off by up to 255 pixel
    values and numbers up to 200 times too large or small are tried by making the same mistake with
    the first: a quantised export cuts what leaves its range, and no feeding brings that back.  A
    zero point that is wrong in one place shifts all pixels; in all places, it cuts some.

    The nearest is the cause where the median distance 1 - cosine falls to a half and nine images of
    ten come nearer.  None where nothing does, or the median is within `SAME` of 1: what is left
    then is of weights and arithmetic.
    """
    reference, own = first.vectors(), other.vectors()
    at = _nearness(reference, own)
    before = float(np.median(at))
    if before >= 1 - SAME:
        return None
    ways, done = [*_known(other)], itertools.count(1)
    total = len(ways) + sum(2 * len(steps) + 1 for *_, steps in _SOUGHT)

    def near(model: Fed, to: NDArray[np.float32]) -> Floats:
        try:
            cosine = _nearness(to, model.vectors())
        except ModelError:
            cosine = np.full(len(to), -1.0)
        progress(next(done), total)
        return cosine

    def misled(planted: Callable[[Fed, float], Fed], amount: float) -> Floats:
        return near(planted(first, amount), own)

    constant = _constant(reference, own)
    moved = _nearness(reference, own - np.float32(constant))
    tried = [(DriftCause("zero point of the output", None, constant, before), moved)]
    for name, way in ways:
        tried.append((DriftCause(name, way.spec, 0.0, before), near(way, reference)))
    for name, planted, steps in _SOUGHT:
        amount, closest = _sought(partial(misled, planted), steps, at)
        undone = planted(other, -amount)
        back = np.median(near(undone, reference)) >= np.median(closest) - SAME
        spec = undone.spec if back else None
        tried.append((DriftCause(name, spec, amount, before, cut=planted is _cut), closest))
    nearest, closest = max(tried, key=lambda one: float(np.median(one[1])))
    after = float(np.median(closest))
    if 1 - after > _LEFT * (1 - before) or np.mean(closest > at) < _NEARER:
        return None
    return replace(nearest, after=after)


def _nearness(reference: NDArray[np.float32], vectors: NDArray[np.float32]) -> Floats:
    """Cosines, -1 where there is none."""
    return np.nan_to_num(cosines(reference, vectors), nan=-1.0)


def _sought(
    near: Callable[[float], Floats], steps: Sequence[float], at: Floats
) -> tuple[float, Floats]:
    """Seek the amount of a mistake that brings the median cosine nearest to 1, and the cosines."""
    amount = 0.0
    for step in steps:
        for other in (amount - step, amount + step):
            cosine = near(other)
            if np.median(cosine) > np.median(at):
                amount, at = other, cosine
    return amount, at


def _known(fed: Fed) -> Iterator[tuple[str, Fed]]:
    """Yield the other order and the usual scales in both, and what each changes."""
    spec = fed.spec
    own = _turned(spec.mean, spec.color), _turned(spec.std, spec.color)
    orders: tuple[Literal["rgb", "bgr", "grey"], ...] = ("rgb", "bgr")
    for color in ("grey",) if spec.color == "grey" else orders:
        for mean, std in (own, *NORMALISATIONS):
            way = replace(spec, color=color, mean=_turned(mean, color), std=_turned(std, color))
            other_order, other_scale = color != spec.color, (mean, std) != own
            changed = ["channel order"] * other_order + ["scale"] * other_scale
            if changed:
                yield " and ".join(changed), replace(fed, spec=way)


def _turned(values: tuple[float, float, float], color: str) -> tuple[float, float, float]:
    """Bring numbers of the channels from RGB to a spec's order, or back."""
    return (values[2], values[1], values[0]) if color == "bgr" else values


def _brighter(fed: Fed, pixels: float) -> Fed:
    """Feed images as if they were so many pixel values brighter: one constant for all channels."""
    unit_of = pixels / float(np.mean(fed.spec.std))
    x, y, z = (m - unit_of * s for m, s in zip(fed.spec.mean, fed.spec.std, strict=True))
    return replace(fed, spec=replace(fed.spec, mean=(x, y, z)))


def _stretched(fed: Fed, octaves: float) -> Fed:
    """Feed 2**octaves times the numbers."""
    x, y, z = (s / 2**octaves for s in fed.spec.std)
    return replace(fed, spec=replace(fed.spec, std=(x, y, z)))


def _cut(fed: Fed, pixels: float) -> Fed:
    """Feed images whose numbers end so many pixel values early: the high or, below 0, the low."""
    mean, std = (np.array(_turned(v, fed.spec.color)) for v in (fed.spec.mean, fed.spec.std))
    step = pixels / std.mean()
    low = (-mean / std).min() - min(step, 0)
    high = ((255 - mean) / std).max() - max(step, 0)
    ends = ((mean + std * end).round().clip(0, 255).astype(np.uint8) for end in (low, high))
    return replace(fed, images=fed.images.clip(*ends))


_SOUGHT = (
    ("zero point of the input", _brighter, _PIXELS),
    ("zero point of the input", _cut, _PIXELS),
    ("scale", _stretched, _OCTAVES),
)


def _constant(reference: NDArray[np.float32], vectors: NDArray[np.float32]) -> float:
    """Fit vectors = factor x reference + constant by least squares, and give the constant."""
    good = np.isfinite(reference).all(axis=1) & np.isfinite(vectors).all(axis=1)
    x, y = (v[good].ravel().astype(np.float64) for v in (reference, vectors))
    if len(x) == 0 or np.ptp(x) == 0:
        return 0.0
    return float(y.mean() - np.cov(x, y)[0, 1] / x.var(ddof=1) * x.mean())
