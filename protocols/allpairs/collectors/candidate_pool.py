"""Growing pool of candidate pairs, and exact scores where float64 cannot decide."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.screening.tiles import Candidates
from evalkit.types import Floats, Ints


class CandidatePool:
    """Candidate pairs (i, j, score) in order of arrival, joined into arrays on demand."""

    def __init__(self) -> None:
        self._columns: tuple[list[Any], ...] = ([], [], [])
        self.size = 0

    def add(self, i: Ints, j: Ints, score: Floats) -> None:
        """Append pairs."""
        part = i.astype(np.int32, copy=False), j.astype(np.int32, copy=False), score
        for column, values in zip(self._columns, part, strict=True):
            column.append(values)
        self.size += len(i)

    def joined(self) -> Candidates:
        """Return all pairs as one set of arrays, of which only one is there twice at a time."""
        for column, kind in zip(self._columns, (np.int32, np.int32, np.float64), strict=True):
            if len(column) != 1:
                column[:] = [np.concatenate([np.empty(0, kind), *column])]
        i, j, score = (column[0] for column in self._columns)
        return Candidates(i, j, score)

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Drop the pairs outside the mask."""
        kept = self.joined().at(which)
        self._columns, self.size = tuple([values] for values in kept), len(kept.i)


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
