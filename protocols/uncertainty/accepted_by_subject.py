"""Accepted comparisons of each subject, counted draw after draw."""

from __future__ import annotations

import numpy as np

from evalkit.protocols.uncertainty.columns import counts_of, named
from evalkit.protocols.uncertainty.weights import Counts
from evalkit.types import Ints


class AcceptedBySubject:
    """Comparisons of each subject among the highest; draws differ little in how many these are.

    subject : (U,) who has comparisons.  count : (U,) how many.
    """

    def __init__(self, who: Ints) -> None:
        """Take the subject of each comparison by descending score, (N,)."""
        count = counts_of(who)
        self.subject = np.flatnonzero(count)
        self.count = count[self.subject]
        place = np.cumsum(count > 0) - 1
        self._of = who if count.all() else named(place.astype(np.int32), who)
        self._highest, self._accepted = 0, np.zeros(len(self.subject), np.int64)

    def among(self, highest: Ints) -> Counts:
        """Count those of each subject among so many of the highest, for each draw: (D, U)."""
        return np.array([self._among(n) for n in highest.tolist()])

    def _among(self, highest: int) -> Counts:
        low, high = sorted([self._highest, highest])
        change = counts_of(self._of[low:high], people=len(self.subject))
        self._accepted = self._accepted + (change if highest == high else -change)
        self._highest = highest
        return self._accepted
