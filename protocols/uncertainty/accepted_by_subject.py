"""Accepted comparisons of each subject in every draw."""

from __future__ import annotations

import numpy as np

from evalkit.protocols.uncertainty.columns import counts_of, named
from evalkit.protocols.uncertainty.weights import Counts
from evalkit.types import Ints

_LEAST = 1 << 10  # comparisons, at least, from one place whose count is kept to the next


class AcceptedBySubject:
    """Comparisons of each subject among so many of the highest, at places that draws share.

    The count at a draw's place differs from that at a near one by few comparisons.  Threads may
    count at once: what they keep is the same, whoever makes it.
    subject : (U,) who has comparisons.  count : (U,) how many.
    """

    def __init__(self, who: Ints) -> None:
        """Take the subject of each comparison by descending score, (N,)."""
        count = counts_of(who)
        self.subject = np.flatnonzero(count)
        self.count = count[self.subject]
        place = np.cumsum(count > 0) - 1
        self._of = who if count.all() else named(place.astype(np.int32), who)
        people = len(self.subject)
        self._step = max(people // 2, _LEAST)
        self._most = max(4, len(who) // (4 * max(people, 1)))  # 2 bytes per comparison or so
        self._kept = {0: np.zeros(people, np.int64)}

    def among(self, highest: Ints) -> Counts:
        """Count those of each subject among so many of the highest, for each draw: (D, U)."""
        return np.array([self._from(self._near(n), n) for n in highest.tolist()])

    def _near(self, highest: int) -> int:
        """Find a place near this one whose count is kept."""
        near = round(highest / self._step) * self._step
        if near in self._kept:
            return near
        nearest = min(list(self._kept), key=lambda place: abs(place - highest))
        if len(self._kept) >= self._most:
            return nearest
        self._kept[near] = self._from(nearest, near)
        return near

    def _from(self, kept: int, highest: int) -> Counts:
        low, high = sorted([kept, highest])
        change = counts_of(self._of[low:high], people=len(self.subject))
        return self._kept[kept] + change if highest == high else self._kept[kept] - change
