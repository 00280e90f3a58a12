"""Doubtful labels: images that look like somebody else rather than like their own subject.

The doubt of an image is the highest score that it has with an image of another subject, minus its
mean score with the other images of its own: a wrong label raises the one and lowers the other.  An
only image has no such mean, and is taken to have that of the lowest twentieth of all images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import identities, vectors
from evalkit.protocols import allpairs
from evalkit.types import Floats, Ints

_LOWEST = 0.05  # of the means with mates: what an only image is taken to have


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtfulLabels:
    """Images of a set, the most doubtful label first; failed and unlabelled ones are left out.

    row : (R,) of the set.  doubt : (R,) falling.  stranger, stranger_score : (R,) the row of the
    most similar image of another subject, and its score.  mate_mean : (R,) mean score with the
    other images of the subject, NaN for an only image.
    """

    row: Ints
    doubt: Floats
    stranger: Ints
    stranger_score: Floats
    mate_mean: Floats


def doubtful_labels(
    features: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    *,
    engine: allpairs.Engine | None = None,
) -> DoubtfulLabels:
    """Order the labelled images of a set by how doubtful their labels are.

    features : (N, D), normalised here.  subject : (N,), -1 = unlabelled: compared, not judged.
    engine : how all pairs are run.  Equal doubts stand by row.  Empty where fewer than two subjects
    have an image.  ProtocolError where the arrays do not fit together.
    """
    engine = allpairs.reporting(engine)
    x = engine.unit_rows(vectors(features, dimensions=(2,)))
    subject = identities(subject, len(x))
    stranger, score = _closest_strangers(x, subject, engine)
    mean = _mate_means(x, subject, engine)
    known = mean[np.isfinite(mean)]
    lowest = float(np.quantile(known, _LOWEST, method="lower")) if len(known) else 0.0
    doubt = score - np.where(np.isnan(mean), lowest, mean)
    judged = np.flatnonzero((subject >= 0) & np.isfinite(doubt))
    order = judged[np.argsort(-doubt[judged], kind="stable")]
    return DoubtfulLabels(
        row=order,
        doubt=doubt[order],
        stranger=stranger[order],
        stranger_score=score[order],
        mate_mean=mean[order],
    )


def _mate_means(x: allpairs.Rows, subject: Ints, engine: allpairs.Engine | None) -> Floats:
    """Mean score of each row with its mates that did not fail; NaN without one."""
    i, j = allpairs.genuine_pairs(subject)
    score = allpairs.exact(x, i, x, j, engine)
    fine = np.isfinite(score)
    i, j, score = i[fine], j[fine], score[fine]
    total = np.bincount(i, score, len(x)) + np.bincount(j, score, len(x))
    mates = np.bincount(i, minlength=len(x)) + np.bincount(j, minlength=len(x))
    mean: Floats = np.full(len(x), np.nan)
    np.divide(total, mates, out=mean, where=mates > 0)
    return mean


def _closest_strangers(
    x: allpairs.Rows, subject: Ints, engine: allpairs.Engine | None
) -> tuple[Ints, Floats]:
    """Row and score of the most similar image of another subject; -1 and -inf without one.

    Among the highest of a row are at most its subject's images, itself included, and the stranger.
    """
    row, score = np.full(len(x), -1), np.full(len(x), -np.inf)
    known = np.flatnonzero(subject >= 0)
    images = np.unique(subject[known], return_inverse=True, return_counts=True)[1:]
    own = images[1][images[0]]
    depth = 2 ** np.ceil(np.log2(own)).astype(
        np.int64
    )  # few searches, none much deeper than needed
    for images_at_most in np.unique(depth).tolist():
        chosen = known[depth == images_at_most]
        result = allpairs.search(
            x.take(chosen, axis=0), x, k=min(images_at_most + 1, len(x)), engine=engine
        )
        other = (result.row >= 0) & (subject[result.row] != subject[chosen][:, None])
        first = other.argmax(axis=1)
        there = other.any(axis=1)
        row[chosen[there]] = result.row[there, first[there]]
        score[chosen[there]] = result.score[there, first[there]]
    return row, score
