"""The devkit's distances of vectors as given, whose lengths differ: a warning, and exact ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols import allpairs
from evalkit.protocols.megaface.devkit import Projected, project
from evalkit.protocols.metrics.similarity import single
from evalkit.protocols.one_to_many import mate_scores, ordered_genuine_pairs
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes


def lengths_as_given(probe: Projected, distractor: Projected) -> str:
    """Warn where the devkit's distances, of vectors as given, are not cosines: lengths differ."""
    square = -np.concatenate([probe.constant, distractor.constant])
    square = square[np.isfinite(square) & (square > 0)]
    low, high = np.sqrt([square.min(initial=np.inf), square.max(initial=0)])
    if high - low <= 1e-3 * high:
        return ""
    return f"; distances of vectors as given, {low:.3g} to {high:.3g} long"


def ranks_as_given(
    probe: NDArray[Any],
    distractor: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    engine: allpairs.Engine | None,
) -> SearchOutcomes:
    """Rank mates by minus the squared distance of vectors as given, the devkit's score, exactly."""
    looked, mates, others = (
        allpairs.MadeRows(x, make, (project(x).constant,), x.shape[1] + 2)
        for x, make in ((probe, _looking), (probe, _looked_at), (distractor, _looked_at))
    )
    i, j = ordered_genuine_pairs(subject)
    score = mate_scores(looked, mates, i, j, engine)
    above = allpairs.ranks(looked, others, i, score, engine=engine)[0]
    who = np.unique(subject, return_inverse=True)[1]
    return SearchOutcomes(rank=np.where(np.isfinite(score), above + 1, 0), rank_subject=who[i])


def _looking(x: NDArray[Any], constant: NDArray[np.float32]) -> NDArray[np.float32]:
    """Side by side (2x, c, 1), whose product with (y, 1, c) is the devkit's score."""
    with np.errstate(over="ignore"):  # beyond float32 a row has no score, as for the devkit
        return np.column_stack([2 * single(x), constant, np.ones_like(constant)])


def _looked_at(x: NDArray[Any], constant: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.column_stack([single(x), np.ones_like(constant), constant])
