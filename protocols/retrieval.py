"""Retrieval, or Recall@1: how often the image nearest to each one is of the same subject.

The measure of deep metric learning [Jegou et al., TPAMI 2011; Musgrave et al., ECCV 2020]: every
image with a mate searches among all others, and its rank is 1 + the images of other subjects that
score strictly above its best mate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities
from evalkit.identity import Names, numbered, of_rows
from evalkit.protocols.failures import count_failures_of_sets
from evalkit.protocols.metrics import cmc
from evalkit.protocols.metrics.similarity import exact_scores, failed, normalise
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, to_arrays
from evalkit.types import Estimate, Report

NAME = "retrieval"
VERSION = 1
RANKS = (1, 5, 10)


def evaluate(
    features: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    *,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Search with each row of (N, D) features that has a mate among all other rows.

    subject : (N,) identity of each row; -1 is nobody's mate, and is searched among.  Metrics:
    rank-1, rank-5, rank-10, None where nobody has a mate.  A failed row has rank 0, and is never
    found.  keys, images, set_name : as `verification.evaluate` takes them.
    """
    x = normalise(features)
    subject = identities(subject, len(x))
    searched = _searched(subject)
    rank = np.array([_rank(x, subject, i) for i in searched], np.int64)
    found = cmc(rank, max(RANKS))
    metrics = {
        f"rank-{k}": Estimate(value=float(found[k - 1]) if len(rank) else None, n=len(rank))
        for k in RANKS
    }
    outcomes = SearchOutcomes(rank=rank, rank_subject=subject[searched])
    return Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=with_intervals(metrics, outcomes),
        failures=count_failures_of_sets(failed(x), subject),
        outcomes=to_arrays(outcomes),
        identity=of_rows(
            {"subject": numbered(subject)}, len(x), keys=keys, images=images, set_name=set_name
        ),
    )


def _searched(subject: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Rows whose subject has another row."""
    known = np.flatnonzero(subject >= 0)
    who, counts = np.unique(subject[known], return_counts=True)
    return known[np.isin(subject[known], who[counts > 1])]


def _rank(x: NDArray[np.float32], subject: NDArray[np.integer[Any]], i: int) -> int:
    """Rank of the best mate of row i among all others; 0 where the row or every mate failed."""
    others = np.delete(np.arange(len(x)), i)
    score = exact_scores(x, np.full(len(others), i), x, others)
    mate = subject[others] == subject[i]
    best = score[mate].max()
    return 1 + int(np.count_nonzero(score[~mate] > best)) if np.isfinite(best) else 0
