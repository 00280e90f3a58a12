"""The engine's answers, each from one pass over all pairs (a second only where a sample misled)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.protocols.allpairs.checkpoints import Collector
from evalkit.protocols.allpairs.collect import Bracket, Highest
from evalkit.protocols.allpairs.definition import (
    Histogram,
    OperatingPoint,
    Pairs,
    Search,
    Verification,
    bin_edges,
    no_operating_point,
    none_found,
    operating_point,
    threshold_above,
)
from evalkit.protocols.allpairs.engine import Engine
from evalkit.protocols.allpairs.genuine import Genuine, genuine_pairs
from evalkit.protocols.allpairs.rows import Above, Bars, Best, Bins
from evalkit.protocols.allpairs.sample import Sample, choose_screen, row_levels
from evalkit.protocols.allpairs.scan import Progress, Scan
from evalkit.protocols.allpairs.sides import Floats, Ints, Subjects
from evalkit.protocols.metrics import false_accepts_allowed

_TAIL_SHARE = 5e-4  # FARs up to here list all their false accepts, higher ones bracket the last


def verify(
    x: NDArray[Any],
    subject: Ints,
    y: NDArray[Any] | None = None,
    y_subject: Ints | None = None,
    *,
    fars: Sequence[str],
    count: int = 0,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Verification:
    """Find the threshold of each FAR and the TPR there, over all pairs of x and y.

    x : (N, D), y : (M, D) float, scored as they are; y None compares x with itself, each unordered
    pair once.  subject : equal means genuine, -1 is nobody's mate.  Rows that are not finite are
    failures: their pairs count, and score -inf.  The threshold of a FAR is the next float64 above
    the (K+1)-th highest impostor score, K = floor(FAR * impostors); accepted is score >= threshold.
    count : how many of the highest impostor pairs to list, by (-score, i, j); failed rows never
    appear.
    """
    _check(x, subject, y, y_subject)
    engine = engine or Engine(progress=progress)
    job = _Impostors(engine, x, subject, y, y_subject, fars, count)
    while job.open():
        collectors = job.collectors()
        engine.run(job.scan, collectors)
        job.conclude()
    engine.finish()
    return job.verification()


class _Impostors:
    """The scores of the wanted impostor ranks, from as many passes as the sample's errors ask."""

    def __init__(
        self,
        engine: Engine,
        x: Any,
        subject: Ints,
        y: Any,
        y_subject: Ints | None,
        fars: Sequence[str],
        count: int,
        scan: Scan | None = None,
    ) -> None:
        self.engine, self.fars, self.passed = engine, tuple(fars), 1
        self.scan = engine.scan(x, y) if scan is None else scan
        self.subjects = _subjects(self.scan, subject, y_subject)
        mates = self.subjects[: 1 if self.scan.within else 2]
        self._pairs = i, _ = genuine_pairs(*mates, together=True)
        n, m = self.scan.x.given, self.scan.y.given
        self.pairs = n * (n - 1) // 2 if self.scan.within else n * m
        self.n_genuine = _count_genuine(subject, y_subject)
        self.n_impostor = self.pairs - self.n_genuine
        self.allowed = {far: false_accepts_allowed(far, self.n_impostor) for far in self.fars}
        # Failed impostors score -inf: ranks beyond the others need no search.
        self.live = self.scan.pairs - len(i)
        ranks = {k + 1 for k in self.allowed.values() if 1 <= k < self.n_impostor}
        self.value = {r: (-np.inf, self.live) for r in ranks if r > self.live}
        self.wanted = sorted(ranks - set(self.value))
        room = engine.memory // 4 // 32
        tail = [r for r in self.wanted if r <= min(_TAIL_SHARE * self.live, room)]
        few = self.wanted if self.live <= 100_000 else tail
        self.count = min(count, self.live)
        self.tail = max([self.count, *few])
        self.bulk = {r: (-np.inf, np.inf) for r in self.wanted if r not in few}
        self.room = room // max(1, len(self.bulk))
        self._start, self._top = -np.inf, none_found()
        if (self.wanted or self.tail) and self.live > 100_000:
            # What a bracket saves by being narrow is worth a larger sample.
            sample = Sample(self.scan, self.subjects, 3 if self.bulk else 1)
            if self.tail:
                self._start = sample.reached_by(self.tail / self.live)
            self.bulk = {r: sample.bracket(r / self.live) for r in self.bulk}

    @cached_property
    def genuine(self) -> Genuine:
        """Scores of the genuine pairs, where a FAR asks for them."""
        return Genuine(self.scan, *self._pairs, self.n_genuine - len(self._pairs[0]))

    def open(self) -> bool:
        """Whether a rank is still without its score."""
        return bool(self.tail or self.bulk)

    def collectors(self) -> list[Collector]:
        """Make what the next pass has to keep."""
        if self.passed > 1:
            self.scan = self.engine.scan(
                self.scan.x, None if self.scan.within else self.scan.y, passed=self.passed
            )
        share = 1 / max(1, self.scan.pairs)
        self._highest = Highest(self.scan, self.subjects, self.tail, self._start)
        self._brackets = {
            r: Bracket(
                self.scan, self.subjects, r * share, low, high, self.room, self.genuine.above(high)
            )
            for r, (low, high) in self.bulk.items()
        }
        first: list[Collector] = [self._highest] if self.tail else []
        return first + list(self._brackets.values())

    def conclude(self) -> None:
        """Take the answers of a pass; what a sample misled stays open with wider bounds."""
        self.passed += 1
        if self.tail and self._highest.enough():
            found = [r for r in self.wanted if r <= self.tail and r not in self.bulk]
            self.value |= {r: self._highest.ranked(r) for r in found}
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
        # Room that was too small to hold the sample's error is what another pass would need.
        self.room *= 2

    def verification(self) -> Verification:
        """Word the operating point of each FAR."""
        points = [self._point(far, self.allowed[far]) for far in self.fars]
        return Verification(self.n_genuine, self.n_impostor, tuple(points), self._top)

    def _point(self, far: str, allowed: int) -> OperatingPoint:
        if allowed < 1 or not self.n_impostor:
            return no_operating_point(far, self.n_impostor)
        score, accepts = self.value.get(allowed + 1, (-np.inf, self.n_impostor))
        threshold = threshold_above(score) if allowed < self.n_impostor else -np.inf
        accepted = self.genuine.at_least(threshold)
        return operating_point(far, self.n_genuine, self.n_impostor, threshold, accepts, accepted)


def top_impostors(
    x: NDArray[Any],
    subject: Ints,
    y: NDArray[Any] | None = None,
    y_subject: Ints | None = None,
    *,
    count: int,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Pairs:
    """List the `count` highest impostor pairs, by (-score, i, j); failed rows never appear."""
    return verify(
        x, subject, y, y_subject, fars=(), count=count, progress=progress, engine=engine
    ).top


def histogram(
    x: NDArray[Any],
    subject: Ints,
    y: NDArray[Any] | None = None,
    y_subject: Ints | None = None,
    *,
    bins: int | Sequence[float] = 200,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Histogram:
    """Count genuine and impostor pairs a bin of the score, for pictures.

    Pairs are binned by a float32 score, so one may fall into the neighbouring bin.
    """
    _check(x, subject, y, y_subject)
    engine = engine or Engine(progress=progress)
    scan = engine.scan(x, y)
    counted = Bins(bin_edges(bins))
    if scan.pairs:
        scan.run(choose_screen(scan, "float32", []), [counted])
    edges, every = bin_edges(bins), counted.count
    subjects = _subjects(scan, subject, y_subject)
    genuine_scores = scan.rough(*genuine_pairs(*subjects[: 1 if scan.within else 2], together=True))
    pairs = len(x) * (len(x) - 1) // 2 if y is None else len(x) * len(y)
    n_genuine = _count_genuine(subject, y_subject)
    genuine = np.histogram(genuine_scores, edges)[0]
    engine.finish()
    return Histogram(edges, genuine, np.maximum(every - genuine, 0), n_genuine, pairs - n_genuine)


def search(
    probe: NDArray[Any],
    gallery: NDArray[Any],
    k: int = 1,
    *,
    probe_subject: Ints | None = None,
    gallery_subject: Ints | None = None,
    fars: Sequence[str] = (),
    count: int = 0,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Search:
    """Find the top k of every probe and, with subjects, how its best mate fares: in one pass.

    fars, count : with subjects, also the operating points over all pairs of probe and gallery, and
    the highest impostor pairs, as of `verify`.
    """
    engine = engine or Engine(progress=progress)
    scan = engine.scan(probe, gallery)
    if probe_subject is None or gallery_subject is None:
        best = Best(scan, k, None, row_levels(scan, k).kth)
        engine.run(scan, [best])
        engine.finish()
        return Search(*best.answer(len(probe)))
    job = _Impostors(engine, probe, probe_subject, gallery, gallery_subject, fars, count, scan)
    level = row_levels(scan, k, job.subjects)
    best = Best(scan, k, None, level.kth)
    impostor = Best(scan, 1, job.subjects, level.impostor)
    mate = job.genuine.best(len(scan.x))
    rows = np.flatnonzero(mate > -np.inf)
    above = Above(scan, Bars(rows, mate[rows]), level.easy, job.subjects)
    collectors: list[Collector] = [best, impostor, above, *job.collectors()]
    engine.run(scan, collectors)
    job.conclude()
    while job.open():
        engine.run(job.scan, job.collectors())
        job.conclude()
    engine.finish()
    score, column = best.answer(len(probe))
    given = _given_mates(probe_subject, gallery_subject)
    best_mate = np.full(len(probe), -np.inf)
    best_mate[scan.x.rows] = mate
    over = len(gallery) - given
    over[scan.x.rows[rows]] = above.above
    return Search(
        score,
        column,
        given > 0,
        best_mate,
        over,
        impostor.answer(len(probe))[0][:, 0],
        job.verification(),
    )


def ranks(
    probe: NDArray[Any],
    gallery: NDArray[Any],
    row: Ints,
    score: Floats,
    *,
    probe_subject: Ints | None = None,
    gallery_subject: Ints | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count, for (probe row, score) pairs, the gallery entries strictly above and exactly equal.

    row : (R,), score : (R,) float64.  With subjects, only entries of other subjects count.
    """
    engine = engine or Engine(progress=progress)
    scan = engine.scan(probe, gallery)
    place = np.full(len(probe), -1, np.int64)
    place[scan.x.rows] = np.arange(len(scan.x))
    alive, failed_mate = place[row] >= 0, score == -np.inf
    asked = np.flatnonzero(alive & ~failed_mate)
    asked = asked[np.lexsort((score[asked], place[row[asked]]))]
    over, equal = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
    # A failed mate is beaten by everybody who is not a failure.
    over[failed_mate] = np.where(alive[failed_mate], len(scan.y), 0)
    equal[failed_mate] = len(gallery) - over[failed_mate]
    if len(asked) and scan.pairs:
        bars = Bars(place[row[asked]], score[asked])
        above = Above(scan, bars, row_levels(scan, 1).easy)
        engine.run(scan, [above])
        over[asked], equal[asked] = above.above, above.equal
    if probe_subject is not None and gallery_subject is not None:
        r, j = genuine_pairs(np.asarray(probe_subject)[row], gallery_subject)
        position = np.full(len(gallery), -1, np.int64)
        position[scan.y.rows] = np.arange(len(scan.y))
        both = alive[r] & (position[j] >= 0)
        mate = np.full(len(r), -np.inf)
        mate[both] = scan.exact(place[row[r[both]]], position[j[both]])
        np.subtract.at(over, r[mate > score[r]], 1)
        np.subtract.at(equal, r[mate == score[r]], 1)
    engine.finish()
    return over, equal


def _given_mates(probe_subject: Ints, gallery_subject: Ints) -> NDArray[np.int64]:
    """How many gallery rows are of the same subject as each probe, failures among them."""
    ordered = np.sort(np.asarray(gallery_subject, np.int64))
    own = np.asarray(probe_subject, np.int64)
    count = np.searchsorted(ordered, own, "right") - np.searchsorted(ordered, own, "left")
    return np.where(own >= 0, count, 0)


def _count_genuine(subject: Ints, y_subject: Ints | None) -> int:
    own = np.asarray(subject, np.int64)
    if y_subject is not None:
        return int(_given_mates(own, y_subject).sum())
    images = np.unique(own[own >= 0], return_counts=True)[1].astype(np.int64)
    return int((images * (images - 1) // 2).sum())


def _subjects(scan: Scan, subject: Ints, y_subject: Ints | None) -> Subjects:
    right = subject if y_subject is None else y_subject
    return np.asarray(subject)[scan.x.rows], np.asarray(right)[scan.y.rows]


def _check(x: NDArray[Any], subject: Ints, y: NDArray[Any] | None, y_subject: Ints | None) -> None:
    if (y is None) != (y_subject is None):
        raise ProtocolError("y and y_subject belong together")
    for name, a, s in (("x", x, subject), ("y", y, y_subject)):
        if a is not None and s is not None and (a.ndim != 2 or np.shape(s) != (len(a),)):
            raise ProtocolError(f"{name} has shape {a.shape}, its subjects {np.shape(s)}")
    if y is not None and y.shape[1] != x.shape[1]:
        raise ProtocolError(f"x has {x.shape[1]} dimensions, y has {y.shape[1]}")
