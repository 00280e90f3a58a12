"""Image quality against error: FNMR without the images of lowest quality.

An image's quality is a number by whoever gives one, higher is better; the lengths of the vectors
themselves are one that needs no other model [MagFace, CVPR 2021].  `discarding` is the error versus
discard characteristic, `resampled` its intervals and the paired test of two qualities, `compat` the
rules by which papers draw it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import numbers, require, vectors
from evalkit.errors import ProtocolError
from evalkit.identity import Names, names_of
from evalkit.protocols import recipes, verification
from evalkit.protocols.metrics import Rates, exact_rate, rate_texts
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.metrics.similarity import failed
from evalkit.protocols.quality.discarding import (
    Discarding,
    by_image,
    by_pair,
    curve,
    fnmr_at,
    partial_area,
)
from evalkit.protocols.quality.resampled import EdcPoint, adjusted, difference, edc_draws
from evalkit.protocols.recipes.recipe import Recipe, recipe_of
from evalkit.protocols.uncertainty.intervals import DRAWS, WORK, affordable, bounded
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, from_arrays
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.types import Estimate, Floats, Ints, PairSet, Report

NAME = "quality"
VERSION = 1
FARS = ("1e-3",)
DISCARDED = ("0.05", "0.1", "0.2")
NORM = "norm"
WAYS = ("pairs-discarded", "images-discarded")
_SAME_LENGTH = 1e-4  # lengths that vary by less, relative to their mean, say nothing


def evaluate(
    features: NDArray[Any],
    pairs: PairSet,
    subject: NDArray[np.integer[Any]] | None = None,
    *,
    quality: Mapping[str, ArrayLike] | None = None,
    discard: Rates = DISCARDED,
    recipe: Recipe | None = None,
    fars: Rates = FARS,
    flip: Flip = "none",
    seed: int = 0,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Verify a pair list, and again without the images of lowest quality.

    features, pairs, subject, recipe, fars : as `verification.evaluate` takes them.
    quality : name -> (N,) quality of each row, higher is better.  "norm", the length of a row's
    vector, is added where lengths differ.  Of a row without a template it may be NaN, which
    is discarded first.
    discard : shares to discard, from the lowest quality on.  The partial area is up to the largest.
    flip, seed, keys, images, set_name : see `catalogue.Protocol`.
    Metrics, beside those of `verification`, of a quality Q at each FAR x and share d:
    fnmr@far=x,pairs-discarded=d,quality=Q with the threshold of all pairs (fixed before
    discarding), fnmr@far-of-kept=x,pairs-discarded=d,quality=Q with that of the pairs left (fixed
    after); the same with images-discarded=d; edc-area, the mean FNMR up to the largest d, threshold
    fixed before; of each two qualities edc-area-difference and edc-area-equality.
    ProtocolError where there is no quality, or an image that is compared has none.
    """
    features, fars = vectors(features), rate_texts(fars)
    require(quality, Mapping | None, "quality", 'qualities by name, {"sharpness": values}')
    shares = sorted(rate_texts(discard), key=exact_rate)
    if not shares:
        raise ProtocolError("no share to discard is given", 'give discard=["0.1"]')
    report = verification.evaluate(
        features,
        pairs,
        subject,
        recipe=recipe,
        fars=fars,
        flip=flip,
        seed=seed,
        keys=keys,
        images=images,
        set_name=set_name,
    )
    outcomes = from_arrays(report.outcomes or {})
    if not isinstance(outcomes, PairOutcomes):
        raise ProtocolError("qualities are of pairs of images", "give a list of pairs")
    sample, used = sample_of(outcomes), np.union1d(pairs.left, pairs.right)
    named = qualities(recipes.fused(recipe_of(flip, recipe), features), quality or {}, used, keys)
    discarded = {name: _ways(sample, pairs, q) for name, q in named.items()}
    estimates: dict[str, Estimate] = {}
    for far in fars:
        estimates |= _at_far(sample, discarded, far, shares, seed)
    curves = {
        f"edc@far={far},{way}=x,quality={name}": columns
        for far in fars
        for name, ways in discarded.items()
        for way, of in ways.items()
        if (columns := curve(sample, of, far))
    }
    return replace(
        report,
        protocol=NAME,
        protocol_version=VERSION,
        metrics={**report.metrics, **estimates},
        provenance={
            **report.provenance,
            "qualities": {n: _quantiles(q[used]) for n, q in named.items()},
        },
        curves={**report.curves, **curves},
    )


def qualities(
    features: NDArray[Any],
    given: Mapping[str, ArrayLike],
    used: Ints,
    keys: Names | None,
) -> dict[str, Floats]:
    """Return every quality by name: (N,) float64, -inf for a row without a template and without it.

    features : (N, D) as they are scored.  used : the rows that are compared.
    """
    length: Floats = np.linalg.norm(features.astype(np.float64), axis=1)
    lost = failed(features)
    by_name = {}
    for name, column in given.items():
        values = numbers(column, f"quality {name}")
        if values.shape != (len(features),):
            raise ProtocolError(
                f"quality {name!r} has shape {values.shape}, features {len(features)} rows"
            )
        if not isinstance(name, str) or not name or any(sign in name for sign in ",@=+"):
            raise ProtocolError(f"a quality is called {name!r}", "leave , @ = + out of its name")
        missing = used[np.isnan(values[used]) & ~lost[used]]
        if len(missing):
            one = f"row {missing[0]}" if keys is None else repr(*names_of(keys, missing[:1]))
            raise ProtocolError(
                f"{len(missing):,} of {len(used):,} images have no quality {name!r}, such as {one}",
                "give one for every image of the list",
            )
        by_name[name] = np.where(np.isnan(values), -np.inf, values)
    known = length[used][~lost[used]]
    if NORM not in by_name and len(known) and np.ptp(known) > _SAME_LENGTH * known.mean():
        by_name[NORM] = np.where(lost, -np.inf, length)
    if not by_name:
        raise ProtocolError(
            "no quality is given, and all vectors have the same length",
            "give a quality of each image",
        )
    return by_name


def _quantiles(quality: Floats) -> dict[str, float]:
    known = quality[np.isfinite(quality)]
    ends = np.quantile(known, [0, 0.5, 1]).tolist() if len(known) else []
    return dict(zip(("lowest", "median", "highest"), ends, strict=False))


def _ways(sample: ComparisonSample, pairs: PairSet, quality: Floats) -> dict[str, Discarding]:
    """Sort the pairs and the images of a sample by quality, by what the share is of."""
    if sample.order is None:
        raise ProtocolError("which pair is which is not known", "give the list of pairs")
    left, right = pairs.left[sample.order], pairs.right[sample.order]
    of_pair, n = np.minimum(quality[left], quality[right]), len(sample.genuine)
    person = np.full(int(max(left.max(), right.max())) + 1, -1)
    person[left[n:]], person[right[n:]] = sample.left, sample.right
    person[left[:n]] = person[right[:n]] = sample.genuine_subject
    used = np.flatnonzero(person >= 0)
    sides = of_pair[:n], of_pair[n:]
    return {
        WAYS[0]: by_pair(sample, *sides),
        WAYS[1]: by_image(quality[used], person[used], *sides),
    }


def _at_far(
    sample: ComparisonSample,
    discarded: Mapping[str, Mapping[str, Discarding]],
    far: str,
    shares: Sequence[str],
    seed: int,
) -> dict[str, Estimate]:
    """Measure every quality at one FAR, and the areas of each two against each other.

    discarded : by quality and way.
    """
    people = len(np.unique(sample.genuine_subject))
    draws = affordable(DRAWS, sample, WORK // (10 * len(discarded)))
    points: list[EdcPoint] = [(kind, share) for kind in ("before", "anew") for share in shares]
    points.append(("area", shares[-1]))
    estimates, areas = {}, {}
    for quality, ways in discarded.items():
        for way, of in ways.items():
            drawn = edc_draws(sample, of, far, points, draws, seed)
            for point, ends in drawn.items():
                name, m = _measured(sample, of, far, point, way, quality)
                m = bounded(m, ends[:, :2], people, seed, unit=sample.unit)
                estimates[name] = replace(m, people=people) if m.low is not None else m
                if point[0] == "area":
                    areas[way, quality] = estimates[name], ends[:, 2]
    return estimates | _tests(areas, [*discarded], far, shares[-1], people, seed)


def _measured(
    sample: ComparisonSample, of: Discarding, far: str, point: EdcPoint, way: str, quality: str
) -> tuple[str, Estimate]:
    kind, share = point
    at = f"{'far-of-kept' if kind == 'anew' else 'far'}={far},{way}={share},quality={quality}"
    if kind == "area":
        return f"edc-area@{at}", partial_area(sample, of, share, far)
    return f"fnmr@{at}", fnmr_at(sample, of, share, far, anew=kind == "anew")


def _tests(
    areas: Mapping[tuple[str, str], tuple[Estimate, Floats]],
    qualities: Sequence[str],
    far: str,
    share: str,
    people: int,
    seed: int,
) -> dict[str, Estimate]:
    """Difference of the areas of each two qualities, and p, adjusted over all of them."""
    estimates, raw = {}, {}
    for way, (base, other) in itertools.product(WAYS, itertools.combinations(qualities, 2)):
        (m, drawn), (n, drew) = areas[way, base], areas[way, other]
        at = f"@far={far},{way}={share},quality={other},from={base}"
        estimates[f"edc-area-difference{at}"], p = difference(m, n, drew - drawn, people, seed)
        raw[f"edc-area-equality{at}"] = p
    return estimates | adjusted(raw)
