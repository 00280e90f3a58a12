"""The highest impostor pairs, with all that may tie with the last of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalkit.protocols.allpairs.collectors import State
from evalkit.protocols.allpairs.collectors.candidate_pool import CandidatePool, settle
from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.results import Pairs
from evalkit.protocols.allpairs.resume import digest
from evalkit.protocols.allpairs.screening.tiles import Candidates, Interval, Tile
from evalkit.protocols.allpairs.sides import Subjects, same_subject
from evalkit.protocols.falling import falling_order

_SPARE = 1000


class Highest:
    """The `count` highest impostor pairs, with every pair that may tie with the last of them.

    start : a score that about twice `count` pairs reach, from a sample; only speed depends on it,
    and `enough` is False where it was too high.
    """

    def __init__(
        self, scores: PairScores, subjects: Subjects, count: int, start: float = -np.inf
    ) -> None:
        self.scores, self.count, self.start = scores, count, start
        self._subjects = subjects
        self._cut = start
        self._candidates = CandidatePool()

    def intervals(self, i0: int, i1: int) -> list[Interval]:
        """Request the pairs whose score may reach the cut."""
        return [Interval(self._cut - self.scores.error, unmated=self._subjects)]

    def examine(self, tile: Tile, sifted: Sequence[tuple[Candidates, int]]) -> Candidates:
        """Drop genuine pairs, and the candidates of other collectors."""
        cut, ((candidates, _),) = self._cut, sifted
        high = candidates.at(candidates.score >= cut - self.scores.error)
        return high.at(~same_subject(self._subjects[0][high.i], self._subjects[1][high.j]))

    def absorb(self, candidates: Candidates) -> None:
        """Store what reaches the cut, and raise the cut when more than needed is stored."""
        if len(candidates.i):
            self._candidates.add(*candidates)
            if self._candidates.size > 1.5 * self.count + _SPARE:
                self._compact()

    def _compact(self) -> None:
        """Raise the cut to a score that `count` pairs surely reach: it stays below the answer."""
        score = self._candidates.joined().score
        if self.count and len(score) > self.count:
            place = len(score) - self.count
            bar = float(np.partition(score, place)[place]) - self.scores.error
            self._cut = max(self._cut, bar)
        self._candidates.keep(score >= self._cut - self.scores.error)

    def enough(self) -> bool:
        """Whether the start was low enough: every pair of the answer lies above it."""
        if self.start == -np.inf:
            return True
        sure = self._candidates.joined().score > self.start + self.scores.error
        return int(np.count_nonzero(sure)) >= self.count

    def ranked(self, rank: int) -> tuple[float, int]:
        """Exact score of the `rank`-th highest pair (from 1), and the count strictly above it."""
        i, j, score = self._candidates.joined()
        if rank > len(score):
            return -np.inf, len(score)
        place = len(score) - rank
        value, slack = float(np.partition(score, place)[place]), 2 * self.scores.error
        return settle(self.scores, i, j, score, value, slack, rank)

    def pairs(self, count: int) -> Pairs:
        """List the `count` highest by (-score, i, j), scored exactly, as rows of x and y."""
        i, j, score = self._candidates.joined()
        place = max(len(score) - count, 0)
        if count and len(score):
            last = float(np.partition(score, place)[place])
            near = score >= last - 2 * self.scores.error
            i, j = i[near], j[near]
        score = self.scores.exact(i, j)
        i, j = self.scores.x.row(i), self.scores.y.row(j)
        best = falling_order(score, i, j)[:count]
        return Pairs(i[best], j[best], score[best])

    def question(self) -> str:
        """Name the count, and digest the subjects."""
        return f"the {self.count} highest, {digest(*self._subjects)}"

    def state(self) -> State:
        """Return the stored pairs, the cut and its start."""
        i, j, score = self._candidates.joined()
        return {"i": i, "j": j, "score": score, "cuts": np.array([self.start, self._cut])}

    def merge(self, state: State) -> None:
        """Add the pairs of another pass over other tiles."""
        start, cut = state["cuts"].tolist()
        self.start, self._cut = max(self.start, start), max(self._cut, cut)
        self.absorb(Candidates(state["i"], state["j"], state["score"]))
