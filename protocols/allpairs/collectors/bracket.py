"""The impostor pair of one rank, located between two estimated scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalkit.protocols.allpairs.collectors import State
from evalkit.protocols.allpairs.collectors.candidate_pool import CandidatePool, exceeding, settle
from evalkit.protocols.allpairs.genuine import Genuine
from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.resume import digest
from evalkit.protocols.allpairs.screening.tiles import Candidates, Interval, Tile
from evalkit.protocols.allpairs.sides import Subjects, same_subject
from evalkit.types import Bools, Floats, Ints


class Bracket:
    """The impostor pair of one rank, estimated to score between `low` and `high`.

    room : pairs that it may store; beyond it the bracket narrows around the pairs so far.
    mated : genuine pairs above `high`, about, which narrowing leaves out of the rank.
    """

    def __init__(
        self,
        scores: PairScores,
        subjects: Subjects,
        share: float,
        low: float,
        high: float,
        room: int,
        mated: int = 0,
    ) -> None:
        self.scores, self.low, self.high = scores, low, high
        self._subjects, self._share, self._room = subjects, share, room
        self._mated = mated / max(1, scores.pairs)
        self._above = 0  # pairs surely above `high`, genuine ones among them
        self._pairs = 0
        self._candidates = CandidatePool()

    def intervals(self, i0: int, i1: int) -> list[Interval]:
        """Request the pairs whose score may lie in the bracket."""
        return [Interval(self.low - self.scores.error, self.high + self.scores.error)]

    def examine(
        self, tile: Tile, sifted: Sequence[tuple[Candidates, int]]
    ) -> tuple[Candidates, int, int]:
        """Return the pairs that may be inside, the count surely above, and the tile's pairs."""
        return *sifted[0], tile.pairs

    def absorb(self, result: tuple[Candidates, int, int]) -> None:
        """Count and store; narrow the bracket where the room is full."""
        (i, j, score), surely, pairs = result
        self._above += surely
        self._pairs += pairs
        if len(i):
            self._take(i, j, score)
        if self._candidates.size > self._room:
            self._narrow()

    def _take(self, i: Ints, j: Ints, score: Floats) -> None:
        inside = self._inside(score)
        self._candidates.add(i[inside], j[inside], score[inside])

    def _inside(self, score: Floats) -> Bools:
        """Count the pairs surely above; mark those that may be inside."""
        e = self.scores.error
        over = score > self.high + e
        self._above += int(np.count_nonzero(over))
        return (score >= self.low - e) & ~over

    def _narrow(self) -> None:
        """Halve the bracket around the rank's place among the pairs seen so far."""
        score = self._candidates.joined().score
        place = (self._share + self._mated) * self._pairs - self._above
        half, last = self._room // 4 * 2, len(score) - 1
        first = int(np.clip(place - half // 2, 0, last - half))
        bounds = last - first, last - first - half
        high, low = np.partition(score, bounds)[[*bounds]]
        self.high, self.low = min(self.high, float(high)), max(self.low, float(low))
        if not self.low < self.high:  # ties fill the room: nothing to narrow
            self._room *= 2
        self._candidates.keep(self._inside(score))

    def ranked(self, rank: int, genuine: Genuine) -> tuple[float, int] | tuple[None, int]:
        """Exact score of the `rank`-th highest impostor pair and how many are strictly above it.

        Outside the bracket the first is None and the second is how many ranks away: below
        `low` (< 0) or above `high` (> 0).

        Every pair above `high` was counted, or stored where that was not sure; so the impostors
        above `high` are those counted, less the genuine above `high`, plus the stored above `high`
        of either kind, less the genuine among the stored that were never counted: the stored
        genuine pairs above `high` stand on both sides and cancel.
        """
        i, j, score = self._candidates.joined()
        e = self.scores.error
        top = score > self.high + e
        near = np.flatnonzero(np.abs(score - self.high) <= e)
        top[near] = exceeding(self.scores, i[near], j[near], self.high)
        mated = same_subject(self._subjects[0][i], self._subjects[1][j])
        over = self._above + int(np.count_nonzero(top)) - genuine.above(self.high)
        below = ~mated & ~top
        score, i, j = score[below], i[below], j[below]
        place = rank - over  # among impostors that are not above `high`
        if place < 1:
            return None, 1 - place
        if place > len(score):
            return None, len(score) - place
        at = len(score) - place
        value = float(np.partition(score, at)[at])
        answer, higher = settle(self.scores, i, j, score, value, 2 * e, place)
        if answer < self.low:
            return None, -1
        return answer, over + higher

    def moved(self, ranks: int) -> tuple[float, float]:
        """Return new bounds, moved by the ranks missed and the density of the ranks."""
        e, stored = 4 * self.scores.error, max(1, self._candidates.size)
        wide = self.high - self.low if np.isfinite(self.high - self.low) else 0.1
        step = max(wide, 0.01) if stored < 10 else 2 * abs(ranks) / stored * wide + wide / 10 + e
        if ranks > 0:
            return self.high - e, self.high + step
        return self.low - step, self.low + e

    def question(self) -> str:
        """Name the share of the rank, and digest the subjects."""
        return f"the share {self._share}, {digest(*self._subjects)}"

    def state(self) -> State:
        """Return the bounds, the count above and the stored pairs."""
        i, j, score = self._candidates.joined()
        bounds, counts = np.array([self.low, self.high]), np.array([self._above, self._pairs])
        return {"i": i, "j": j, "score": score, "bounds": bounds, "counts": counts}

    def merge(self, state: State) -> None:
        """Add the counts and pairs of another pass over other tiles, inside both brackets."""
        mine = self._candidates.joined()
        self.low = max(self.low, float(state["bounds"][0]))
        self.high = min(self.high, float(state["bounds"][1]))
        self._candidates = CandidatePool()
        self._take(*mine)
        self._take(state["i"], state["j"], state["score"])
        self._above += int(state["counts"][0])
        self._pairs += int(state["counts"][1])
        if self._candidates.size > self._room:
            self._narrow()
