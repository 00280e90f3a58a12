"""Impostor scores at the ranks of the requested FARs, and the genuine pairs above them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from evalkit.protocols.allpairs.collectors import Collector
from evalkit.protocols.allpairs.collectors.bracket import Bracket
from evalkit.protocols.allpairs.collectors.highest import Highest
from evalkit.protocols.allpairs.engine import Engine
from evalkit.protocols.allpairs.genuine import Genuine, count_genuine, genuine_pairs, subjects_of
from evalkit.protocols.allpairs.pilot import Pilot
from evalkit.protocols.allpairs.results import Verification, none_found
from evalkit.protocols.allpairs.scan import Scan
from evalkit.protocols.metrics import (
    Rates,
    false_accepts_allowed,
    rate_texts,
    threshold_above,
    tpr_estimate,
)
from evalkit.types import Estimate, Ints

_TAIL_SHARE = 5e-4  # FARs up to here list all their false accepts, higher ones bracket the last


class Impostors:
    """Impostor scores at requested ranks, from as many passes as the sample's errors require."""

    def __init__(
        self,
        engine: Engine,
        x: Any,
        subject: Ints,
        y: Any,
        y_subject: Ints | None,
        fars: Rates,
        count: int,
        scan: Scan | None = None,
    ) -> None:
        self.engine, self.fars, self.passed = engine, rate_texts(fars), 1
        self.scan = engine.scan(x, y) if scan is None else scan
        self.scores = scores = self.scan.scores
        self.subjects = subjects_of(scores, subject, y_subject)
        mates = self.subjects[: 1 if scores.within else 2]
        self._pairs = i, _ = genuine_pairs(*mates, together=True)
        n, m = scores.x.total, scores.y.total
        self.pairs = n * (n - 1) // 2 if scores.within else n * m
        self.n_genuine = count_genuine(subject, y_subject)
        self.n_impostor = self.pairs - self.n_genuine
        self.allowed = {far: false_accepts_allowed(far, self.n_impostor) for far in self.fars}
        # Failed impostors score -inf: ranks beyond the others need no search.
        self.live = scores.pairs - len(i)
        ranks = {k + 1 for k in self.allowed.values() if 1 <= k < self.n_impostor}
        self.value = {r: (-np.inf, self.live) for r in ranks if r > self.live}
        self.ranks = sorted(ranks - set(self.value))
        room = self.scan.memory // 4 // 32
        tail = [r for r in self.ranks if r <= min(_TAIL_SHARE * self.live, room)]
        few = self.ranks if self.live <= 100_000 else tail
        self.count = min(count, self.live)
        self.tail = max([self.count, *few])
        self.bulk = {r: (-np.inf, np.inf) for r in self.ranks if r not in few}
        self.room = room // max(1, len(self.bulk))
        self._start, self._top = -np.inf, none_found()
        if (self.ranks or self.tail) and self.live > 100_000:
            # What a bracket saves by being narrow is worth a larger sample.
            sample = Pilot(scores, self.subjects, 3 if self.bulk else 1)
            # From the last rank on, whose sorted scores hold those of the others.
            self.bulk |= {r: sample.bracket(r / self.live) for r in reversed(self.bulk)}
            if self.tail:
                self._start = sample.reached_by(self.tail / self.live)

    @cached_property
    def genuine(self) -> Genuine:
        """Genuine pairs, scored when a FAR first needs them."""
        return Genuine(self.scores, *self._pairs, self.n_genuine - len(self._pairs[0]))

    def open(self) -> bool:
        """Whether a rank still lacks its score."""
        return bool(self.tail or self.bulk)

    def collectors(self) -> list[Collector]:
        """Build the collectors of the next pass."""
        if self.passed > 1:
            self.scan = self.engine.again(self.scan, self.passed)
        share = 1 / max(1, self.scores.pairs)
        self._highest = Highest(self.scores, self.subjects, self.tail, self._start)
        self._brackets = {
            r: Bracket(
                self.scores,
                self.subjects,
                r * share,
                low,
                high,
                self.room,
                self.genuine.above(high),
            )
            for r, (low, high) in self.bulk.items()
        }
        first: list[Collector] = [self._highest] if self.tail else []
        return first + list(self._brackets.values())

    def conclude(self) -> None:
        """Read off the ranks this pass settled; widen the bracket of any it missed."""
        self.passed += 1
        if self.tail and self._highest.enough():
            settled = [r for r in self.ranks if r <= self.tail and r not in self.bulk]
            self.value |= {r: self._highest.ranked(r) for r in settled}
            if self.count:
                self._top = self._highest.pairs(self.count)
            self.tail = 0
        elif self.tail:
            self._start = (
                -np.inf if self.passed > 3 else self._start - 0.1 * abs(self._start) - 0.01
            )
        for rank, bracket in self._brackets.items():
            answer, side = bracket.ranked(rank, self.genuine)
            if answer is not None:
                self.value[rank] = answer, side
                del self.bulk[rank]
                continue
            self.bulk[rank] = bracket.moved(side)
        # Another pass is due where the room was too small for the sample's error.
        self.room *= 2

    def verification(self) -> Verification:
        """Give TPR at each FAR."""
        points = {far: self._tpr(far, self.allowed[far]) for far in self.fars}
        return Verification(self.n_genuine, self.n_impostor, points, self._top)

    def _tpr(self, far: str, allowed: int) -> Estimate:
        if allowed < 1 or not self.n_impostor:
            return tpr_estimate(far, None, 0, self.n_genuine, 0, self.n_impostor)
        # Where all may be accepted, all but failures are.
        score, accepts = self.value.get(allowed + 1, (-np.inf, self.live))
        threshold = threshold_above(score)
        accepted = self.genuine.at_least(threshold)
        return tpr_estimate(far, threshold, accepted, self.n_genuine, accepts, self.n_impostor)
