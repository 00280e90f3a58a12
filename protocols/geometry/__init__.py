"""The geometry of embeddings: compactness, separation, norms, spectrum and hubs of classes.

What losses claim of classes, as numbers (docs/protocols/geometry.md).  Two spaces: `l2`, Euclidean
distances of the vectors as they are; `angle`, degrees between them (a zero row stands at 90 degrees
from everything).

All pairs go through the all-pairs engine tile by tile; memory holds a few copies of the features
and the list of genuine pairs, never a matrix of distances.  Ratios of squared distances, norms and
the spectrum are sums in float64 over the rows: their last digits follow the order of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities, whole_number
from evalkit.errors import ProtocolError
from evalkit.identity import Names, numbered, of_rows
from evalkit.protocols import allpairs
from evalkit.protocols.geometry.spaces import SPACES, Space
from evalkit.protocols.geometry.vectors import (
    EQUAL_LENGTHS,
    QUANTILES,
    dimensions,
    histogram,
    hubness,
    neighbours,
    norms,
    spectrum,
)
from evalkit.protocols.metrics.elementary import inner
from evalkit.protocols.metrics.flip_fusion import Flip, fuse
from evalkit.protocols.metrics.similarity import failed
from evalkit.types import Estimate, Failures, Floats, Ints, Progress, Report

NAME = "geometry"
VERSION = 1
K = 10

NO_GENUINE = "no subject has two images"
NO_IMPOSTOR = "no impostor pairs"


def evaluate(
    features: NDArray[Any],
    subject: Ints,
    *,
    k: int = K,
    flip: Flip = "none",
    progress: Progress | None = None,
    engine: allpairs.Engine | None = None,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Measure (N, D) or (N, V, D) features, as they are: not normalised.

    subject : (N,) identity of each row; -1: unlabelled.  k : neighbours for hubness.
    A failed row (not finite) is excluded and counted.
    flip, progress, engine, keys, images, set_name : see `catalogue.Protocol`.
    ProtocolError where the arrays do not fit together or fewer than two rows are left.
    Metrics, in each space S: within@space=S,quantile=q and between@..., within/between@space=S,
    farther-than-nearest-impostor@space=S, compactness, separation and separation-ratio@space=S,
    region-samples-correlation@space=S; and norm@quantile=q, norm-variation, norm-auc@errors=rank-1,
    participation-ratio, entropy-dimension, hubness-skewness@k=k, antihubs@k=k.
    """
    rows, engine = fuse(features, flip), allpairs.reporting(engine, progress)
    k = whole_number(k, "k", least=1)
    who = identities(subject, len(rows)).astype(np.int64)
    columns = {"subject": numbered(who)}
    made_on = of_rows(columns, len(rows), keys=keys, images=images, set_name=set_name)
    bad = failed(rows)
    x, who = (rows[~bad], who[~bad]) if bad.any() else (rows, who)
    if len(x) < 2:
        raise ProtocolError(f"{len(x)} rows have a template", "geometry needs at least two")
    pairs = allpairs.genuine_pairs(who)
    metrics: dict[str, Estimate] = {}
    curves: dict[str, dict[str, list[float]]] = {}
    wrong = np.zeros(0, bool)
    for name, make in SPACES.items():
        space = make(x, who)
        measured, drawn, wrong = _in_space(name, space, pairs, engine)
        metrics |= measured
        curves |= drawn
    norm = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))
    anchors = np.unique(np.concatenate(pairs))
    of_vectors = norms(norm, norm[anchors], wrong)
    if (of_vectors["norm-variation"].value or 0) > EQUAL_LENGTHS:  # equal lengths make no picture
        curves["norms"] = histogram(norm)
    values = spectrum(x)
    curves["spectrum"] = {"rank": list(range(1, len(values) + 1)), "share": _share(values)}
    of_vectors |= dimensions(values) | hubness(neighbours(x, k, engine), k)
    metrics |= {name: replace(m, people=people(who)) for name, m in of_vectors.items()}
    provenance = {"images": len(x), "dimensions": x.shape[1], "flip": flip}
    return Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=metrics,
        failures=Failures(images=int(bad.sum())),
        provenance={**provenance, "subjects": people(who)},
        curves=curves,
        identity=made_on,
    )


def people(subject: Ints) -> int:
    """Count the subjects of rows, without the unlabelled."""
    return len(np.unique(subject[subject >= 0]))


def _in_space(
    name: str, space: Space, pairs: tuple[Ints, Ints], engine: allpairs.Engine
) -> tuple[dict[str, Estimate], dict[str, dict[str, list[float]]], NDArray[np.bool_]]:
    """Measure one space: metrics, curves, and which anchors have an impostor nearest."""
    i, j = pairs
    n = len(space.subject)
    impostors = n * (n - 1) // 2 - len(i)
    within = space.between(i, j)
    edges, between = space.edges, space.impostor_shares(engine)
    metrics = distribution(
        "within", name, np.quantile(within, QUANTILES) if len(i) else None, len(i)
    )
    at = _binned_quantiles(edges, between, QUANTILES) if impostors else None
    apart = distribution("between", name, at, impostors)
    metrics |= apart
    squares = float(np.sum(space.squares(within)))
    metrics[f"within/between@space={name}"] = ratio(
        squares, len(i), space.total_squares(), impostors
    )
    anchors = np.unique(np.concatenate([i, j]))
    nearest = space.nearest_impostor(anchors, engine)
    metrics |= crossings(name, i, j, within, anchors, nearest)
    size, samples = regions(within, space.subject[i], space.subject)
    metrics |= compactness(name, size, nearest)
    metrics[f"region-samples-correlation@space={name}"] = spearman(samples, size)
    mates, everyone = people(space.subject[anchors]), people(space.subject)
    metrics = {
        name: replace(m, people=everyone if name in apart else mates) for name, m in metrics.items()
    }
    best = np.full(n, np.inf)
    np.minimum.at(best, i, within)
    np.minimum.at(best, j, within)
    inside = np.histogram(within, edges)[0] / max(1, len(i))
    return (
        metrics,
        {
            f"distances-{name}": {
                "low": edges[:-1].tolist(),
                "high": edges[1:].tolist(),
                "within": inside.tolist(),
                "between": between.tolist(),
            },
            f"regions-{name}": _thinned(samples, size),
        },
        nearest <= best[anchors],
    )


def distribution(kind: str, space: str, at: Floats | None, n: int) -> dict[str, Estimate]:
    """Quantiles of one kind of distance, by metric name.

    Within: of all genuine pairs, exact, interpolated as NumPy does by default.  Between: of all
    impostor pairs, interpolated inside the bin of the histogram it falls into (1,000 bins for l2,
    a quarter of a degree for angle).
    """
    note = NO_GENUINE if kind == "within" else NO_IMPOSTOR
    return {
        f"{kind}@space={space},quantile={q:g}": Estimate(
            value=None if at is None else float(at[p]), n=n, note=note if at is None else ""
        )
        for p, q in enumerate(QUANTILES)
    }


def _binned_quantiles(edges: Floats, share: Floats, quantiles: Sequence[float]) -> Floats:
    below = np.concatenate([[0.0], np.cumsum(share)])
    at: Floats = np.interp(np.asarray(quantiles) * below[-1], below, edges)
    return at


def ratio(within: float, genuine: int, total: float, impostors: int) -> Estimate:
    """Mean squared distance of genuine pairs over that of impostor pairs.

    within, total : sums of squared distances over genuine and over all pairs.  In space angle the
    distance is the chord, whose square is 2 - 2 cos.  1 = no separation, 0 = every class a point.
    """
    if not genuine or not impostors:
        return Estimate(value=None, note=NO_IMPOSTOR if genuine else NO_GENUINE)
    between = (total - within) / impostors
    if between <= 0:
        return Estimate(value=None, n=genuine + impostors, note="all vectors are equal")
    return Estimate(value=within / genuine / between, n=genuine + impostors)


def crossings(
    space: str, i: Ints, j: Ints, within: Floats, anchors: Ints, nearest: Floats
) -> dict[str, Estimate]:
    """Share of genuine pairs farther apart than the anchor's nearest impostor.

    Each genuine pair counts twice, once anchored at either image.  i, j : (G,) rows and within :
    (G,) their distance; nearest : (A,) distance from each anchor to the nearest image of
    another subject.  Equal distances do not cross.
    """
    name = f"farther-than-nearest-impostor@space={space}"
    if not len(i) or not np.isfinite(nearest).all():
        return {name: Estimate(value=None, note=NO_IMPOSTOR if len(i) else NO_GENUINE)}
    bar = (nearest[np.searchsorted(anchors, side)] for side in (i, j))
    crossed = sum(int(np.count_nonzero(within > b)) for b in bar)
    return {name: Estimate(value=crossed / (2 * len(i)), n=2 * len(i))}


def regions(within: Floats, pair_subject: Ints, subject: Ints) -> tuple[Floats, Ints]:
    """Size of each class's region and its samples, of classes with two images or more.

    Size: the mean distance between two of its images.  Unlike a radius around the sample mean its
    expectation does not grow with the number of samples.  within : (G,), pair_subject : (G,).
    """
    order = np.lexsort((within, pair_subject))  # one order of adding, whatever that of rows
    within = within[order]
    names, at = np.unique(pair_subject[order], return_inverse=True)
    if not len(names):
        return np.empty(0), np.empty(0, np.int64)
    subjects, images = np.unique(subject, return_counts=True)
    size = np.bincount(at, within) / np.bincount(at)
    return size, images[np.searchsorted(subjects, names)]


def compactness(space: str, size: Floats, nearest: Floats) -> dict[str, Estimate]:
    """Compactness, separation and their ratio.

    compactness : mean region size, each class counted once; small is compact.  separation : mean
    distance from an image that has a mate to the nearest image of another subject; it falls as a
    set grows.  separation-ratio : separation / compactness; above 1 the nearest impostor is farther
    away than a typical mate.
    """
    alone = len(nearest) > 0 and not np.isfinite(nearest).all()
    note = NO_IMPOSTOR if alone else NO_GENUINE
    c = math.fsum(size) / len(size) if len(size) else None
    s = math.fsum(nearest) / len(nearest) if len(nearest) and not alone else None
    r, why = None, note
    if c is not None and s is not None:
        r, why = (s / c, "") if c > 0 else (None, "every class is a point")
    return {
        f"compactness@space={space}": Estimate(
            value=c, n=len(size), note=NO_GENUINE if c is None else ""
        ),
        f"separation@space={space}": Estimate(
            value=s, n=len(nearest), note=note if s is None else ""
        ),
        f"separation-ratio@space={space}": Estimate(value=r, n=len(size), note=why),
    }


def spearman(a: NDArray[Any], b: NDArray[Any]) -> Estimate:
    """Spearman's rank correlation, ties at their mean rank, with a 95 % interval.

    Interval: tanh(artanh(r) +- 1.96 sqrt((1 + r^2 / 2) / (n - 3))) [Bonett and Wright,
    Psychometrika 65, 2000]; classes are taken as independent.  None below four classes, or where
    either side does not vary.
    """
    from scipy.stats import rankdata

    n = len(a)
    if n < 4:
        return Estimate(value=None, n=n, note=f"{n} classes have two images, four are needed")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        what = "samples" if np.ptp(a) == 0 else "region sizes"
        return Estimate(value=None, n=n, note=f"all classes have equal {what}")
    x, y = (rank - rank.mean() for rank in (rankdata(a), rankdata(b)))
    r = inner(x, y) / math.sqrt(inner(x, x) * inner(y, y))
    if abs(r) >= 1 - 1e-12:
        return Estimate(value=float(np.sign(r)), n=n, note="perfectly ranked: no interval")
    half = 1.959963984540054 * math.sqrt((1 + r * r / 2) / (n - 3))
    low, high = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
    return Estimate(value=r, low=low, high=high, n=n, interval="Bonett and Wright, by class")


def _share(values: Floats) -> list[float]:
    total = float(values.sum())
    return [] if total == 0 else (values / total).tolist()


def _thinned(samples: Ints, size: Floats, most: int = 2000) -> dict[str, list[float]]:
    """Points of a scatter plot: every class, or at most `most`, evenly spaced."""
    take = np.unique(np.linspace(0, len(size) - 1, min(most, len(size))).round().astype(int))
    return {"samples": samples[take].tolist(), "size": size[take].tolist()}
