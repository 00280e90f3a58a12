"""Searches for every mate: ordered genuine pairs, their scores, TPR among all distractors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import vectors
from evalkit.protocols import allpairs, metrics
from evalkit.protocols.metrics.flip_fusion import Flip, fuse
from evalkit.protocols.uncertainty.columns import counts_of
from evalkit.types import Estimate, Floats, Ints

_TOGETHER = 4096  # rows whose mates are listed together
_SCORED = 1 << 21  # ordered pairs scored together


def fused(features: ArrayLike, flip: Flip, what: str = "features") -> NDArray[Any]:
    """Fuse the views of (N, V, D) features as `fuse` does; one view stays as it is, and mapped."""
    rows = vectors(features, what)
    if flip == "none":
        return rows if rows.ndim == 2 else rows[:, 0]
    return fuse(rows, flip)


def fusion(flip: Flip) -> dict[str, str]:
    """Return what a report keeps of `fused`: nothing where one view was taken as it is."""
    return {} if flip == "none" else {"flip": flip}


def ordered_genuine_pairs(subject: Ints) -> tuple[Ints, Ints]:
    """Return all ordered pairs (i, j), i != j, of one subject, by i, then j.

    subject : (N,); -1 is a subject as every other (`allpairs.genuine_pairs`: in no genuine pair).
    int32 where that is enough: of 274,000 images of 5,700 people there are 13 million.
    """
    kind: Any = np.int32 if len(subject) < 2**31 else np.int64
    subject = np.unique(subject, return_inverse=True)[1]
    order = np.argsort(subject, kind="stable").astype(kind)  # a subject's rows lie together
    count = np.bincount(subject)
    first, others = (np.cumsum(count) - count)[subject], count[subject] - 1
    ends = np.cumsum(others)
    i, j = (np.empty(ends[-1] if len(ends) else 0, kind) for _ in range(2))
    for a in range(0, len(subject), _TOGETHER):
        rows = slice(a, a + _TOGETHER)
        some, of_some = others[rows], slice(ends[a] - others[a], ends[rows][-1])
        row = np.repeat(np.arange(a, a + len(some)), some)
        mate = np.arange(len(row)) - np.repeat(np.cumsum(some) - some - first[rows], some)
        i[of_some], j[of_some] = row, order[mate + (order[mate] >= row)]
    return i, j


def mate_scores(
    probe: allpairs.Rows,
    mate: allpairs.Rows,
    i: Ints,
    j: Ints,
    engine: allpairs.Engine | None,
) -> NDArray[np.float64]:
    """Score `ordered_genuine_pairs` (probe[i], mate[j]), each unordered pair once.

    The exact score of (i, j) is that of (j, i): for one set with itself, and for the two forms of a
    Joint Bayesian model too.
    """
    score, mates = np.empty(len(i)), counts_of(i)
    first = np.cumsum(mates) - mates  # of the pairs of each row
    before = counts_of(i, i > j, len(mates))  # of the mates of each row, those before it
    for o in range(0, len(i), _SCORED):
        part = slice(o, o + _SCORED)
        once = i[part] < j[part]
        a, b = i[part][once], j[part][once]
        scored = allpairs.exact(probe, a, mate, b, engine)
        score[part][once] = scored
        score[first[b] + before[a]] = scored
    return score


def found_first(score: Floats, best: Floats, i: Ints) -> NDArray[np.bool_]:
    """Whether each mate's score, (M,), reaches the best other score, (Q,), of its probe, i."""
    found = np.isfinite(score)
    for o in range(0, len(score), _SCORED):
        part = slice(o, o + _SCORED)
        found[part] &= score[part] >= best[i[part]]
    return found


def tpr_by_far(genuine: NDArray[np.float64], seen: allpairs.Verification) -> dict[str, Estimate]:
    """TPR of genuine scores at the thresholds that the engine found among the impostors."""
    return {
        far: metrics.tpr_estimate(
            far,
            m.threshold,
            0 if m.threshold is None else int(np.count_nonzero(genuine >= m.threshold)),
            len(genuine),
            m.false_accepts or 0,
            seen.n_impostor,
        )
        for far, m in seen.points.items()
    }
