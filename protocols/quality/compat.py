"""How papers draw FNMR against the share discarded, each by its name, to explain their curves.

All take the same arrays: genuine and impostor scores, (G,) and (I,), higher is more alike, and the
quality of each pair (of its worse image), higher is better.  They return two columns, the shares
discarded and FNMR there.  Ties of quality are broken by place (the projects leave them to
`numpy.argsort`), except where a rule keeps them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evalkit.arrays import numbers
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.elementary import inner
from evalkit.types import Floats

RATES = np.arange(0, 0.98, 0.05)  # MagFace and CR-FIQA: 0, 5 ... 95 %


@dataclass(frozen=True, slots=True)
class PublishedCurve:
    """discarded, fnmr : (D,) float64; area : as the rule's authors integrate it."""

    discarded: Floats
    fnmr: Floats
    area: float


def _kept(
    genuine: ArrayLike, impostor: ArrayLike, of_genuine: ArrayLike, of_impostor: ArrayLike
) -> Iterator[tuple[float, Floats, Floats]]:
    """Scores left at each of `RATES`: genuine ones, and impostor ones in ascending order."""
    g, i = numbers(genuine, "genuine"), numbers(impostor, "impostor")
    quality = np.concatenate([numbers(of_genuine, "quality"), numbers(of_impostor, "quality")])
    if len(quality) != len(g) + len(i) or not len(g) or not len(i):
        raise ProtocolError(
            f"{len(g)} genuine and {len(i)} impostor pairs, {len(quality)} qualities"
        )
    order = np.argsort(quality, kind="stable")
    score, same = np.concatenate([g, i])[order], order < len(g)
    for rate in RATES:
        left = int(rate * len(order))
        yield rate, score[left:][same[left:]], np.sort(score[left:][~same[left:]])


def magface(
    genuine: ArrayLike, impostor: ArrayLike, of_genuine: ArrayLike, of_impostor: ArrayLike
) -> PublishedCurve:
    """MagFace at FMR 0.001: pairs discarded of both kinds together, threshold anew each time.

    Of I impostors left the threshold is the score at place (I - 1) // 1000 from the highest on,
    counted from 0, and a genuine pair has to score strictly above it.  Of 100
    impostors or fewer there is no point, which shifts the rest of the authors' curve.
    Reference: IrvingMeng/MagFace eval/eval_quality/eval_quality.py.
    """
    points = []
    for rate, g, i in _kept(genuine, impostor, of_genuine, of_impostor):
        place = len(i) - 1
        for _ in range(3):
            place = place // 10 if place > 0 else -1
        if place >= 0 and len(g):
            points.append((rate, 1 - np.count_nonzero(g > i[-1 - place]) / len(g)))
    return _published(points)


def crfiqa(
    genuine: ArrayLike,
    impostor: ArrayLike,
    of_genuine: ArrayLike,
    of_impostor: ArrayLike,
    fmr: float = 1e-3,
) -> PublishedCurve:
    """CR-FIQA: as `magface` discards; the threshold with the nearest FMR, also if it is above.

    Tried are all scores of both kinds; of equally near ones the lowest is taken, and a genuine pair
    has to score strictly above it, though FMR counts those at it.  Area by trapezoids, not divided.
    Reference: fdbtrs/CR-FIQA ERC/erc.py, ERC/roc.py.
    """
    points = []
    for rate, g, i in _kept(genuine, impostor, of_genuine, of_impostor):
        if not len(g) or not len(i):
            continue
        tried = np.unique(np.append(g, i))
        accepted = (len(i) - np.searchsorted(i, tried, "left")) / len(i)
        threshold = tried[np.argmin(np.abs(accepted - fmr))]
        points.append((rate, 1 - np.count_nonzero(g > threshold) / len(g)))
    return _published(points)


def serfiq(
    image: ArrayLike,
    left: ArrayLike,
    right: ArrayLike,
    score: ArrayLike,
    genuine: ArrayLike,
    fmr: float = 1e-3,
) -> PublishedCurve:
    """SER-FIQ's figures: images discarded, and the rates of all pairs of the images left.

    image : (N,) quality of each.  left, right : (P,) images of each pair; score, genuine : (P,).
    The paper states the axis ("unconsidered images", those of lowest quality, error on the
    remaining ones) and FMR 0.001, not how the threshold is found; here it is the lowest with FMR at
    most that on the pairs left.  Its authors released no script for it.
    Reference: Terhörst et al., CVPR 2020, section 4; pterhoer/FaceImageQuality README.
    """
    quality, s = numbers(image, "quality"), numbers(score, "score")
    a, b, same = np.asarray(left), np.asarray(right), np.asarray(genuine, bool)
    order, points = np.argsort(quality, kind="stable"), []
    for rate in RATES:
        there = np.zeros(len(quality), bool)
        there[order[int(rate * len(order)) :]] = True
        kept = there[a] & there[b]
        g, i = s[kept & same], np.sort(s[kept & ~same])[::-1]
        allowed = int(fmr * len(i) * (1 + 1e-12))
        if len(g) and 0 < allowed < len(i):
            points.append((rate, 1 - np.count_nonzero(g > i[allowed]) / len(g)))
    return _published(points)


def ofiq(
    genuine: ArrayLike, of_genuine: ArrayLike, starting_error: float = 0.05, limit: float = 0.2
) -> PublishedCurve:
    """EDC as OFIQ's authors draw it: genuine pairs alone, and the threshold by its starting error.

    The threshold is the quantile `starting_error` of the genuine scores, interpolated; no impostor
    counts.  Equal qualities are discarded together.  Steps; the area up to `limit` is not divided
    by its width.
    Reference: dasec/quality-assessment-evaluation edc.py; Schlett et al., T-BIOM 6(1), 2024.
    """
    score, quality = numbers(genuine, "genuine"), numbers(of_genuine, "quality")
    order = np.argsort(quality, kind="stable")
    threshold = np.quantile(score, starting_error)
    missed, n = score[order] < threshold, len(score)
    first = np.flatnonzero(np.append(True, np.diff(quality[order]) > 0))
    fnmr = np.cumsum(missed[::-1])[::-1][first] / (n - first)
    ends = np.minimum(np.append(first, n) / n, limit)
    return PublishedCurve(first / n, fnmr, inner(np.diff(ends), fnmr))


def _published(points: Sequence[tuple[float, float]]) -> PublishedCurve:
    from scipy.integrate import trapezoid  # takes longer to import than numpy

    rates, fnmr = np.array(points, np.float64).reshape(-1, 2).T
    return PublishedCurve(rates, fnmr, float(trapezoid(fnmr, rates)))
