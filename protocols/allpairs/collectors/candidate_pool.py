"""Growing pool of candidate pairs, and exact scores where float64 cannot decide."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.screening.tiles import Candidates
from evalkit.types import Floats, Ints

_FEWEST = 1 << 14  # pairs that a column begins with room for


class CandidatePool:
    """Candidate pairs (i, j, score) in order of arrival.

    Each column is one array that doubles: many small ones, kept among the large ones that a tile
    takes and gives back, hold the memory of these.
    """

    def __init__(self) -> None:
        kinds = np.int32, np.int32, np.float64
        self._columns: list[NDArray[Any]] = [np.empty(0, kind) for kind in kinds]
        self.size = 0

    def add(self, i: Ints, j: Ints, score: Floats) -> None:
        """Append pairs."""
        begin, self.size = self.size, self.size + len(i)
        for place, values in enumerate((i, j, score)):
            column = self._columns[place]
            if len(column) < self.size:
                column = np.empty(max(_FEWEST, 2 * begin, self.size), column.dtype)
                column[:begin] = self._columns[place][:begin]
                self._columns[place] = column
            column[begin : self.size] = values

    def joined(self) -> Candidates:
        """Give all pairs, as views that further pairs leave as they are."""
        i, j, score = (column[: self.size] for column in self._columns)
        return Candidates(i, j, score)

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Drop the pairs outside the mask."""
        self._columns = list(self.joined().at(which))
        self.size = len(self._columns[0])


def settle(
    scores: PairScores, i: Ints, j: Ints, score: Floats, value: float, slack: float, rank: int
) -> tuple[float, int]:
    """Find the rank-th highest exact score, and count the pairs strictly above it.

    value : the rank-th highest of `score`, each of which errs by at most slack / 2: so the exact
    one lies within slack / 2 of `value`, and only pairs within `slack` of it can matter.  They are
    scored in float64 first, and exactly where float64 cannot decide.
    """
    near = np.flatnonzero(np.abs(score - value) <= slack)
    above = int(np.count_nonzero(score > value + slack))
    fine = scores.approximate(i[near], j[near])
    place = len(fine) - (rank - above)
    middle, tight = float(np.partition(fine, place)[place]), 2 * scores.settled
    last = np.flatnonzero(np.abs(fine - middle) <= tight)
    above += int(np.count_nonzero(fine > middle + tight))
    exact = np.sort(scores.exact(i[near][last], j[near][last]))[::-1]
    answer = float(exact[rank - above - 1])
    return answer, above + int(np.count_nonzero(exact > answer))


def exceeding(scores: PairScores, i: Ints, j: Ints, bar: float) -> NDArray[np.bool_]:
    """Whether pairs score strictly above a bar: in float64, and exactly where that is undecided."""
    score = scores.approximate(i, j)
    near = np.flatnonzero(np.abs(score - bar) <= scores.settled)
    score[near] = scores.exact(i[near], j[near])
    return np.asarray(score > bar)
