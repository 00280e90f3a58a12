"""Distances of all pairs as inner products, for the all-pairs engine.

Angles come from the inner products of unit rows.  For Euclidean distances
-|x - y|^2 = 2 x.y - |x|^2 - |y|^2 is the inner product of (2x, -|x|^2, 1) and (y, 1, -|y|^2), where
each squared length, taken in float64, is written as three float32 numbers; a squared distance is
therefore exact to about 2e-16 (|x|^2 + |y|^2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols import allpairs
from evalkit.protocols.metrics.elementary import arccos
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.types import Floats, Ints

Matrix = NDArray[np.float32]
L2_BINS = 1000
ANGLE_BINS = 720  # a quarter of a degree each


@dataclass(frozen=True, slots=True)
class Space:
    """One way to measure distance; the score of a pair is left[i] . right[j].

    vectors : (N, D), whose squared Euclidean distances `squares` makes of distances.
    subject : (N,), -1: unlabelled.  edges : (B + 1,) rising, for a histogram of distances.
    distance, score : from scores to distances, which fall as scores rise, and back.
    zero_rows : rows of length 0, at `squares` 2 from all others, which the vectors do not show.
    """

    vectors: Matrix
    subject: Ints
    left: Matrix
    right: Matrix
    edges: Floats
    distance: Callable[[Floats], Floats]
    score: Callable[[Floats], Floats]
    squares: Callable[[Floats], Floats]
    zero_rows: int = 0

    def between(self, i: Ints, j: Ints) -> Floats:
        """Distance of each pair of rows, (P,)."""
        return self.distance(exact_scores(self.left, i, self.right, j))

    def nearest_impostor(self, anchors: Ints, engine: allpairs.Engine | None = None) -> Floats:
        """Distance from each anchor to the nearest row of another subject; inf without one."""
        if not len(anchors):
            return np.empty(0)
        score = allpairs.search(
            self.left[anchors],
            self.right,
            probe_subject=self.subject[anchors],
            gallery_subject=self.subject,
            engine=engine,
        ).impostor_score
        alone = score == -np.inf
        return np.where(alone, np.inf, self.distance(np.where(alone, 0.0, score)))

    def impostor_shares(self, engine: allpairs.Engine | None = None) -> Floats:
        """Share of all impostor pairs in each bin of `edges`, (B,); zeros where there are none."""
        # Where the sides differ a row meets itself, and each pair counts twice: so that an
        # unlabelled row is no impostor of itself, each gets a subject of its own.
        alone = self.subject < 0
        own = np.where(alone, self.subject.max() + 1 + np.arange(len(alone)), self.subject)
        bars = self.score(self.edges)[::-1]
        bars[-1] = max(2 * abs(bars[-1]), abs(bars[0]), 1.0)  # a screen may pass distance 0
        other = () if self.left is self.right else (self.right, own)
        counts = allpairs.histogram(self.left, own, *other, bins=bars.tolist(), engine=engine)
        share = counts.impostor[::-1].astype(np.float64)
        return share / max(1.0, float(share.sum()))

    def total_squares(self, chunk: int = 8192) -> float:
        """Sum of `squares` over all unordered pairs, as N sum |x - mean|^2."""
        n, mean = len(self.vectors), self.vectors.mean(axis=0, dtype=np.float64)
        blocks = (self.vectors[o : o + chunk] - mean for o in range(0, n, chunk))
        unseen = self.zero_rows * (n - 1)  # 1 to each row with a direction, 2 to each other without
        return n * sum(float(np.sum(block * block)) for block in blocks) + unseen


def l2(x: Matrix, subject: Ints) -> Space:
    """Euclidean distances of rows as they are."""
    square = np.einsum("ij,ij->i", x, x, dtype=np.float64)
    parts = []
    rest = square
    for _ in range(3):
        parts.append(rest.astype(np.float32))
        rest = rest - parts[-1]
    length = np.stack(parts, axis=1)
    ones = np.ones_like(length)
    reach = 2 * float(np.sqrt(square.max())) or 1.0
    # What float32 may make of distance 0 stays in the first bin.
    d = x.shape[1] + 6
    noise = np.sqrt(d * 2.0**-23 * (4 * float(square.max()) + 3))
    first = min(max(reach / L2_BINS, float(noise)), reach / 2)
    return Space(
        vectors=x,
        subject=subject,
        left=np.hstack([2 * x, -length, ones]),
        right=np.hstack([x, ones, -length]),
        edges=np.concatenate([[0.0], np.linspace(first, reach * (1 + 1e-6), L2_BINS)]),
        distance=lambda s: np.sqrt(np.maximum(-s, 0)),
        score=lambda d: -(d**2),
        squares=lambda d: d**2,
    )


def angle(x: Matrix, subject: Ints) -> Space:
    """Degrees between rows, 0 to 180; `squares` are of the chord between unit rows: 2 - 2 cos."""
    unit = normalise(x)
    edges = np.linspace(0, 180, ANGLE_BINS + 1)
    return Space(
        vectors=unit,
        subject=subject,
        left=unit,
        right=unit,
        edges=edges,
        distance=lambda s: np.degrees(arccos(np.clip(s, -1, 1))),
        score=lambda d: np.where(d < 180, np.cos(np.radians(d)), -1.001),
        squares=lambda d: 2 - 2 * np.cos(np.radians(d)),
        zero_rows=int(np.count_nonzero(~unit.any(axis=1))),
    )


SPACES: Mapping[str, Callable[[Matrix, Ints], Space]] = {"l2": l2, "angle": angle}
