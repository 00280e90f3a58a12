"""What a pass keeps: the highest impostor pairs, those around a wanted rank, each row's best.

Each keeps a little more than the answer, by scores with a known error, and settles it afterwards by
exact scores: neither the order of tiles nor the rounding of the screen can change it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.checkpoints import State, digest
from evalkit.protocols.allpairs.definition import Pairs
from evalkit.protocols.allpairs.genuine import Genuine
from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.sides import Floats, Ints, Subjects, same_subject
from evalkit.protocols.allpairs.tiles import Found, Interval, Tile

_SPARE = 1000


class Kept:
    """Pairs in the order they came: (i, j, score) in growing lists, joined when asked for."""

    def __init__(self) -> None:
        self._parts: list[Found] = []
        self.size = 0

    def add(self, i: Ints, j: Ints, score: Floats) -> None:
        """Take more."""
        self._parts.append(Found(i.astype(np.int32), j.astype(np.int32), score))
        self.size += len(i)

    def joined(self) -> Found:
        """Return all of them."""
        if len(self._parts) != 1:
            ends = np.empty(0, np.int32)
            parts = [Found(ends, ends, np.empty(0)), *self._parts]
            i, j, score = (np.concatenate([part[c] for part in parts]) for c in range(3))
            self._parts = [Found(i, j, score)]
        return self._parts[0]

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Drop the others."""
        self._parts = [self.joined().at(which)]
        self.size = len(self._parts[0].i)


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


class Bracket:
    """The impostor pair of one rank, believed to score between `low` and `high`.

    room : pairs that it may keep; beyond it the bracket narrows around what has been seen.
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
        self._seen = 0
        self._kept = Kept()

    def intervals(self, i0: int, i1: int) -> list[Interval]:
        """Want what may lie in the bracket."""
        return [Interval(self.low - self.scores.error, self.high + self.scores.error)]

    def examine(self, tile: Tile, found: Sequence[tuple[Found, int]]) -> tuple[Found, int, int]:
        """Take the pairs that may be inside, those counted above, and how many there were."""
        return *found[0], tile.pairs

    def absorb(self, found: tuple[Found, int, int]) -> None:
        """Count and keep; narrow where the room is full."""
        (i, j, score), surely, pairs = found
        self._above += surely
        self._seen += pairs
        if len(i):
            self._take(i, j, score)
        if self._kept.size > self._room:
            self._narrow()

    def _take(self, i: Ints, j: Ints, score: Floats) -> None:
        e = self.scores.error
        over = score > self.high + e
        self._above += int(np.count_nonzero(over))
        inside = (score >= self.low - e) & ~over
        self._kept.add(i[inside], j[inside], score[inside])

    def _narrow(self) -> None:
        """Halve the bracket around the rank's place among the pairs seen so far."""
        i, j, score = self._kept.joined()
        place = (self._share + self._mated) * self._seen - self._above
        quarter = self._room // 4
        first = int(np.clip(place - quarter, 0, len(score) - 2 * quarter - 1))
        ordered = np.sort(score)[::-1]
        self.high = min(self.high, float(ordered[first]))
        self.low = max(self.low, float(ordered[first + 2 * quarter]))
        if not self.low < self.high:  # ties fill the room: nothing to narrow
            self._room *= 2
        self._kept = Kept()
        self._take(i, j, score)

    def ranked(self, rank: int, genuine: Genuine) -> tuple[float, int] | tuple[None, int]:
        """Exact score of the `rank`-th highest impostor pair and how many are strictly above it.

        Outside the bracket the first is None and the second tells how many ranks away: below
        `low` (< 0) or above `high` (> 0).

        Every pair above `high` was counted, or kept where that was not sure; so the impostors
        above `high` are those counted, less the genuine above `high`, plus the kept above `high`
        of either kind, less the genuine among the kept that were never counted: the kept genuine
        pairs above `high` stand on both sides and cancel.
        """
        i, j, score = self._kept.joined()
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
        """Move the bounds by how many ranks away the answer was, and how dense the ranks lie."""
        e, kept = 4 * self.scores.error, max(1, self._kept.size)
        wide = self.high - self.low if np.isfinite(self.high - self.low) else 0.1
        step = max(wide, 0.01) if kept < 10 else 2 * abs(ranks) / kept * wide + wide / 10 + e
        if ranks > 0:
            return self.high - e, self.high + step
        return self.low - step, self.low + e

    def question(self) -> str:
        """Name the share and who is a mate."""
        return f"the share {self._share}, {digest(*self._subjects)}"

    def state(self) -> State:
        """Return the bounds, the count above and the kept pairs."""
        i, j, score = self._kept.joined()
        bounds, counts = np.array([self.low, self.high]), np.array([self._above, self._seen])
        return {"i": i, "j": j, "score": score, "bounds": bounds, "counts": counts}

    def merge(self, state: State) -> None:
        """Add what another pass over other tiles counted and kept, inside both brackets."""
        mine = self._kept.joined()
        self.low = max(self.low, float(state["bounds"][0]))
        self.high = min(self.high, float(state["bounds"][1]))
        self._kept = Kept()
        self._take(*mine)
        self._take(state["i"], state["j"], state["score"])
        self._above += int(state["counts"][0])
        self._seen += int(state["counts"][1])
        if self._kept.size > self._room:
            self._narrow()


def settle(
    scores: PairScores, i: Ints, j: Ints, score: Floats, value: float, slack: float, rank: int
) -> tuple[float, int]:
    """Settle the rank-th highest exact score, and how many are strictly above it.

    value : the rank-th highest of `score`, each of which errs by at most slack / 2: so the exact
    one lies within slack / 2 of `value`, and only pairs within `slack` of it can matter.  They are
    scored in float64 first, and exactly where float64 cannot tell.
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
    """Whether pairs score strictly above a bar: in float64, and exactly where that cannot tell."""
    score = scores.approximate(i, j)
    near = np.flatnonzero(np.abs(score - bar) <= scores.settled)
    score[near] = scores.exact(i[near], j[near])
    return np.asarray(score > bar)
