"""The highest impostor pairs, with all that may tie with the last of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalkit.protocols.allpairs.collectors import State
from evalkit.protocols.allpairs.collectors.kept import Kept, settle
from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.results import Pairs
from evalkit.protocols.allpairs.resume import digest
from evalkit.protocols.allpairs.screening.tiles import Found, Interval, Tile
from evalkit.protocols.allpairs.sides import Subjects, same_subject

_SPARE = 1000


class Highest:
    """The `count` highest impostor pairs, with every pair that may tie with the last of them.

    start : a score that about twice `count` pairs reach, from a sample; only speed depends on it,
    and `enough` tells when it was too high.
    """

    def __init__(
        self, scores: PairScores, subjects: Subjects, count: int, start: float = -np.inf
    ) -> None:
        self.scores, self.count, self.start = scores, count, start
        self._subjects = subjects
        self._cut = start
        self._kept = Kept()

    def intervals(self, i0: int, i1: int) -> list[Interval]:
        """Want what may reach the cut."""
        return [Interval(self._cut - self.scores.error, unmated=self._subjects)]

    def examine(self, tile: Tile, found: Sequence[tuple[Found, int]]) -> Found:
        """Leave out genuine pairs, and what another collector wanted."""
        cut, ((every, _),) = self._cut, found
        high = every.at(every.score >= cut - self.scores.error)
        return high.at(~same_subject(self._subjects[0][high.i], self._subjects[1][high.j]))

    def absorb(self, found: Found) -> None:
        """Keep what reaches the cut, and raise the cut when there is more than needed."""
        if len(found.i):
            self._kept.add(*found)
            if self._kept.size > 1.5 * self.count + _SPARE:
                self._compact()

    def _compact(self) -> None:
        """Raise the cut to what `count` pairs reach for certain: it stays below the answer."""
        score = self._kept.joined().score
        if self.count and len(score) > self.count:
            place = len(score) - self.count
            bar = float(np.partition(score, place)[place]) - self.scores.error
            self._cut = max(self._cut, bar)
        self._kept.keep(score >= self._cut - self.scores.error)

    def enough(self) -> bool:
        """Whether the start was low enough: nothing that the answer needs lies below it."""
        if self.start == -np.inf:
            return True
        sure = self._kept.joined().score > self.start + self.scores.error
        return int(np.count_nonzero(sure)) >= self.count

    def ranked(self, rank: int) -> tuple[float, int]:
        """Exact score of the `rank`-th highest (from 1), and how many score strictly above it."""
        i, j, score = self._kept.joined()
        if rank > len(score):
            return -np.inf, len(score)
        place = len(score) - rank
        value, slack = float(np.partition(score, place)[place]), 2 * self.scores.error
        return settle(self.scores, i, j, score, value, slack, rank)

    def pairs(self, count: int) -> Pairs:
        """List so many by (-score, i, j), scored exactly, under the rows that were given."""
        i, j, score = self._kept.joined()
        place = max(len(score) - count, 0)
        if count and len(score):
            last = float(np.partition(score, place)[place])
            near = score >= last - 2 * self.scores.error
            i, j = i[near], j[near]
        score = self.scores.exact(i, j)
        i, j = self.scores.x.rows[i], self.scores.y.rows[j]
        best = np.lexsort((j, i, -score))[:count]
        return Pairs(i[best], j[best], score[best])

    def question(self) -> str:
        """Name the count and who is a mate."""
        return f"the {self.count} highest, {digest(*self._subjects)}"

    def state(self) -> State:
        """Return the kept pairs, the cut and where it started."""
        i, j, score = self._kept.joined()
        return {"i": i, "j": j, "score": score, "cuts": np.array([self.start, self._cut])}

    def merge(self, state: State) -> None:
        """Add the pairs that another pass over other tiles kept."""
        start, cut = state["cuts"].tolist()
        self.start, self._cut = max(self.start, start), max(self._cut, cut)
        self.absorb(Found(state["i"], state["j"], state["score"]))
