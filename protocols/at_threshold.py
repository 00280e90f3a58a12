"""Errors over all pairs of sets at thresholds that were given: exact counts, and their outcomes.

The pass that finds operating points knows the FARs and finds thresholds; here it is the other way
round, and a pass of its own counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalkit.protocols import allpairs
from evalkit.protocols.metrics import error_estimates
from evalkit.protocols.uncertainty.outcomes import SetOutcomes
from evalkit.types import Estimate, Ints


def false_accepts(
    thresholds: Sequence[float],
    x: allpairs.Rows,
    subject: Ints,
    y: allpairs.Rows | None = None,
    y_subject: Ints | None = None,
    *,
    engine: allpairs.Engine | None = None,
) -> list[int]:
    """Count the impostor pairs that score at or above each threshold, over all pairs.

    x : (N, D) unit rows with subject : (N,), -1 = unlabelled; y the same, or None for x with
    itself, each unordered pair once.  A pass over all pairs for each threshold.
    """
    alone = np.where(subject < 0, subject.max(initial=0) + 1 + np.arange(len(subject)), subject)
    gallery, of = (x, alone) if y is None or y_subject is None else (y, y_subject)
    counts = []
    for threshold in thresholds:
        above, equal = allpairs.ranks(
            x,
            gallery,
            np.arange(len(x)),
            np.full(len(x), threshold),
            probe_subject=alone if y is None else subject,
            gallery_subject=of,
            engine=engine,
        )
        counts.append(int(above.sum() + equal.sum()) // (2 if y is None else 1))
    return counts


def with_counts(fars: Sequence[str], counts: Sequence[int], impostors: int) -> tuple[str, ...]:
    """Add to the FARs those of the counted accepts, so that kept outcomes reach down to them."""
    return (*fars, *(f"{count}/{impostors}" for count in counts if count))


def errors_of_sets(
    thresholds: Sequence[float], counts: Sequence[int], outcomes: SetOutcomes
) -> dict[str, Estimate]:
    """FMR and FNMR at each threshold, of which so many false accepts were counted."""
    genuine = outcomes.genuine_score
    errors: dict[str, Estimate] = {}
    for t, count in zip(thresholds, counts, strict=True):
        true = int(np.count_nonzero(genuine >= t))
        errors |= error_estimates(t, true, count, len(genuine), outcomes.impostors)
    return errors
