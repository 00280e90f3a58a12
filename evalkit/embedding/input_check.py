"""Trial of input specs: sanity of a model's vectors, and which spec separates best."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from evalkit.adapters import Adapter, calling
from evalkit.adapters.presets import PRESETS, alike, usual
from evalkit.errors import DataError, ModelError
from evalkit.images import Picture
from evalkit.types import Floats, InputSpec

Load = Callable[[InputSpec], Adapter]
FedFaces = Callable[[InputSpec], Picture]

# (pixel - mean) / std on 0..255: -1..1, 0..1, untouched, ImageNet's in RGB order
NORMALISATIONS = (
    ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    (PRESETS["imagenet"].mean, PRESETS["imagenet"].std),
)
SIZES = ((112, 112), (112, 96), (160, 160))
CROPS = {known.size: known.crop for known in PRESETS.values()}
DRAWS, LEVEL = 1000, 0.95
_NEGLIGIBLE = 0.05  # of d': 127.5 or 128, a filter's rounding; nobody's accuracy changes by it
_SEPARATES = 1.0  # a d' below this is no face recognition
_COLLAPSED = 1e-6  # of a unit vector: rounding
_SAME = 1e-3  # of the median norm, by which a row may differ with its neighbours


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a model does with N images.

    norms : lowest, median, highest length of a vector.
    failed : vectors of zeros, or with NaN or infinity.
    batch_difference : largest absolute difference between vectors made alone and among others.
    flip : median and lowest cosine of an image's vector and its mirror image's.
    speed : images a second by batch size, one pass at a time, the better of two.
    collapsed : all have one direction or its opposite.
    """

    norms: tuple[float, float, float]
    failed: int
    batch_difference: float
    flip: tuple[float, float]
    speed: dict[int, float]
    collapsed: bool = False

    @property
    def rows_are_independent(self) -> bool:
        """Whether a vector is the same, but for rounding, whatever shares its batch."""
        return self.batch_difference <= _SAME * self.norms[1]


@dataclass(frozen=True, slots=True)
class SpecTrial:
    """One way to feed the model.

    d_prime : separation of genuine and impostor scores, None where the model refused.
    behind, error : how far below the best, and that difference's standard error by subject.
    verdict : best, "as good" (cannot be told from the best), worse, or refused.
    """

    spec: InputSpec
    d_prime: float | None
    behind: float = 0.0
    error: float = 0.0
    verdict: str = "best"


def behaviour(adapter: Adapter, images: Picture, seconds: float = 3.0) -> Behaviour:
    """Measure what a model does with (N, H, W, 3) RGB uint8 images; speed for `seconds` at most."""
    together = calling.embed(adapter, images)
    some = min(len(images), 32)
    alone = np.concatenate([calling.embed(adapter, images[i : i + 1]) for i in range(some)])
    mirrored = calling.embed(adapter, np.ascontiguousarray(images[:some, :, ::-1]))
    length = np.linalg.norm(together.astype(np.float64), axis=1)
    good = np.isfinite(length)
    norms = np.quantile(length[good], [0, 0.5, 1]) if good.any() else np.full(3, np.nan)
    cosine = (unit(together[:some]) * unit(mirrored)).sum(axis=1)
    return Behaviour(
        norms=(float(norms[0]), float(norms[1]), float(norms[2])),
        failed=int((~good).sum()),
        batch_difference=float(np.abs(together[:some] - alone).max()),
        flip=(float(np.median(cosine)), float(cosine.min())),
        speed=_speed(adapter, images, seconds),
        collapsed=bool(good.all() and _on_one_line(unit(together))),
    )


def _on_one_line(rows: Floats) -> bool:
    same_way = np.where(rows @ rows[:1].T < 0, -rows, rows)
    return bool(np.ptp(same_way, axis=0).max() <= _COLLAPSED)


def _speed(adapter: Adapter, images: Picture, seconds: float) -> dict[int, float]:
    rates: dict[int, float] = {}
    end = time.perf_counter() + seconds
    for size in (1, 8, 32, 128):
        batch = np.resize(images, (size, *images.shape[1:]))
        times = list[float]()
        try:
            while len(times) < 2:  # the first of a size also finds its memory
                start = time.perf_counter()
                calling.embed(adapter, batch)
                times.append(time.perf_counter() - start)
        except MemoryError:
            break
        rates[size] = size / min(times)
        if time.perf_counter() > end:
            break
    return rates


def candidates(declared: InputSpec) -> list[InputSpec]:
    """List the ways to feed a model of the declared size: each order with each normalisation.

    Mean and std go with the colours: for BGR they are ImageNet's turned round.  The declared spec
    is first.  A network of one channel has no order, and no mean by colour.
    """
    specs = [declared]
    grey = declared.color == "grey"
    colors: tuple[Literal["rgb", "bgr", "grey"], ...] = ("grey",) if grey else ("rgb", "bgr")
    for color in colors:
        for mean, std in (*NORMALISATIONS[: -1 if grey else None], (declared.mean, declared.std)):
            m, s = mean, std
            if color == "bgr" and (mean, std) in NORMALISATIONS:
                m, s = (m[2], m[1], m[0]), (s[2], s[1], s[0])
            spec = usual(replace(declared, color=color, mean=m, std=s))
            if not any(alike(spec, other) for other in specs):
                specs.append(spec)
    return specs


def compare_specs(
    load: Load,
    declared: InputSpec,
    images: Picture,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seed: int = 0,
    of_size: FedFaces | None = None,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> list[SpecTrial]:
    """Feed a model in every likely way and compare how well it tells people apart, best first.

    load : makes the model for a spec; ModelError where it cannot take it, which is a finding.
    images : (2 P, H, W, 3) RGB uint8 of the declared size; rows 2 i and 2 i + 1 are one person.
    The P genuine scores and the 2 P (P - 1) impostor scores are cosines.  Separation is
    d' = (mean_g - mean_i) / sqrt((var_g + var_i) / 2) [Green and Swets 1966]: unlike AUC and
    accuracy it does not stop at 1 where a good model makes no mistake.
    A spec is worse where it is behind the best by more than z standard errors (`DRAWS` draws of
    people, the same for all specs) and by 0.05; z is the 95 % point, two-sided, divided among the
    comparisons [Bonferroni].
    The other `sizes` are tried with the best of the colours and normalisations, on what `of_size`
    makes of the images, or refuses by a DataError; None: as `resized` does.
    """
    specs = candidates(declared)
    others = [size for size in sizes if size != declared.size]
    total = len(specs) + len(others)
    weights = np.random.default_rng(seed).multinomial(
        len(images) // 2, np.full(len(images) // 2, 2 / len(images)), DRAWS
    )
    per_spec: list[tuple[InputSpec, Floats | None]] = []
    for spec in specs:
        per_spec.append((spec, _separations(load, spec, images, weights)))
        progress(len(per_spec), total)
    d_primes = [(float(d[0]), k) for k, (_, d) in enumerate(per_spec) if d is not None]
    best = per_spec[max(d_primes)[1]][0] if d_primes else declared
    for size in others:
        spec = replace(best, size=size, crop=CROPS.get(size, best.crop))
        try:
            brought = resized(images, size) if of_size is None else of_size(spec)
            per_spec.append((spec, _separations(load, spec, brought, weights)))
        except DataError:
            per_spec.append((spec, None))
        progress(len(per_spec), total)
    return _ranked(per_spec)


def _separations(
    load: Load, spec: InputSpec, images: Picture, weights: NDArray[np.int64]
) -> Floats | None:
    """D' of all people, then of each draw: (1 + draws,); None where the model refuses."""
    try:
        x = calling.embed(load(spec), images)
    except ModelError:
        return None
    everybody = np.ones((1, weights.shape[1]))
    return d_prime(x, np.concatenate([everybody, weights]))


def d_prime(x: NDArray[Any], weights: NDArray[Any]) -> Floats:
    """Separation of genuine from impostor cosines, for each weighting of the people.

    x : (2 P, D), rows 2 i and 2 i + 1 are person i.  weights : (W, P), how often each counts; an
    impostor pair counts by the product, a person's own copies are not compared.  A row without a
    finite length scores 0.  Returns (W,); 0 where all scores are equal.
    """
    u = unit(x)
    score = u @ u.T
    people = len(u) // 2
    genuine = score[0::2, 1::2].diagonal()
    blocks = score.reshape(people, 2, people, 2)
    first, second = blocks.sum(axis=(1, 3)), (blocks**2).sum(axis=(1, 3))
    for sums in (first, second):
        np.fill_diagonal(sums, 0)
    w = np.asarray(weights, np.float64)
    n, cross = w.sum(axis=1), 4 * (w.sum(axis=1) ** 2 - (w**2).sum(axis=1))
    mean_g, mean_i = w @ genuine / n, ((w @ first) * w).sum(axis=1) / cross
    var_g = w @ genuine**2 / n - mean_g**2
    var_i = ((w @ second) * w).sum(axis=1) / cross - mean_i**2
    spread = np.sqrt(np.maximum((var_g + var_i) / 2, 0))
    return np.where(spread > 1e-9, (mean_g - mean_i) / np.maximum(spread, 1e-9), 0.0)


def _ranked(made: Sequence[tuple[InputSpec, Floats | None]]) -> list[SpecTrial]:
    tried = [(spec, d) for spec, d in made if d is not None]
    refused = [SpecTrial(spec, None, verdict="refused") for spec, d in made if d is None]
    if not tried:
        return refused
    tried.sort(key=lambda t: -float(t[1][0]))
    top = tried[0][1]
    z = float(ndtri(1 - (1 - LEVEL) / 2 / max(len(tried) - 1, 1)))
    trials = [SpecTrial(tried[0][0], float(top[0]))]
    for spec, d in tried[1:]:
        behind, error = float(top[0] - d[0]), float((top[1:] - d[1:]).std(ddof=1))
        worse = behind > z * error and behind > _NEGLIGIBLE
        trials.append(SpecTrial(spec, float(d[0]), behind, error, "worse" if worse else "as good"))
    return trials + refused


def separates(trials: Sequence[SpecTrial]) -> bool:
    """Whether any way to feed the model tells people apart at all."""
    return (trials[0].d_prime or 0.0) >= _SEPARATES


def unit(x: NDArray[Any]) -> Floats:
    """Rows at length 1 in float64; zeros where a row has no finite length."""
    x = np.where(np.isfinite(x).all(axis=1, keepdims=True), x, 0).astype(np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def resized(images: Picture, size: tuple[int, int]) -> Picture:
    """Bring aligned crops to another size; 112x112 and 112x96 differ by 8 columns on each side."""
    h, w = images.shape[1:3]
    if h == size[0] == 112 and {w, size[1]} == {112, 96}:
        if w > size[1]:
            return np.ascontiguousarray(images[:, :, 8:-8])
        return np.pad(images, ((0, 0), (0, 0), (8, 8), (0, 0)))
    from PIL import Image

    shape = (size[1], size[0])
    return np.stack(
        [np.asarray(Image.fromarray(i).resize(shape, Image.Resampling.BILINEAR)) for i in images]
    )
