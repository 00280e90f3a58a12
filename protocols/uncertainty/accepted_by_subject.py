"""Accepted comparisons of each subject, counted draw after draw."""

from __future__ import annotations

import numpy as np

from evalkit.protocols.uncertainty.weights import Counts
from evalkit.types import Ints


class AcceptedBySubject:
    """Comparisons of each subject among the highest; draws differ little in how many these are.

    subject : (U,) who has comparisons.  count : (U,) how many.
    """

    def __init__(self, who: Ints) -> None:
        """Take the subject of each comparison by descending score, (N,)."""
        self.subject, self._of, self.count = np.unique(who, return_inverse=True, return_counts=True)
        self._highest, self._accepted = 0, self._between(0, 0)

    def _between(self, a: int, b: int) -> Counts:
        return np.bincount(self._of[a:b], minlength=len(self.subject))

    def among(self, highest: int) -> Counts:
        """Count those of each subject among so many of the highest, (U,)."""
        a, b = self._highest, highest
        self._accepted = self._accepted + self._between(a, b) - self._between(b, a)
        self._highest = b
        return self._accepted
