"""All-pairs queries: operating points, top impostors, histogram, top-k search, ranks.

Each takes one pass over all pairs; a second only where the sample that guides it misled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import identities_of_all, numbers, vectors, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.protocols.allpairs.collectors import Collector
from evalkit.protocols.allpairs.collectors.per_row import Above, Bars, Best, Bins
from evalkit.protocols.allpairs.engine import Engine, reporting
from evalkit.protocols.allpairs.genuine import (
    count_genuine,
    count_mates,
    genuine_pairs,
    subjects_of,
)
from evalkit.protocols.allpairs.made_rows import MadeRows, Rows
from evalkit.protocols.allpairs.order_statistics import Impostors
from evalkit.protocols.allpairs.pilot import row_levels
from evalkit.protocols.allpairs.results import Histogram, Pairs, Search, Verification, bin_edges
from evalkit.protocols.allpairs.scan import Scan
from evalkit.protocols.allpairs.screening.choice import choose_screen
from evalkit.protocols.blas import one_thread
from evalkit.protocols.metrics import Rates
from evalkit.types import Floats, Ints


@one_thread()  # in each tile: tiles run side by side
def verify(
    x: Rows,
    subject: Ints,
    y: Rows | None = None,
    y_subject: Ints | None = None,
    *,
    fars: Rates,
    count: int = 0,
    bars: tuple[Ints, Floats] | None = None,
    engine: Engine | None = None,
) -> Verification:
    """Find the threshold of each FAR and the TPR there, over all pairs of x and y.

    x : (N, D), y : (M, D) float, scored as they are; y None compares x with itself, each unordered
    pair once.  subject : equal means genuine; -1: unlabelled, never part of a genuine pair.  Rows
    that are not finite are failures: their pairs count, and score -inf.  The threshold of a FAR is
    the next float64 above the (K+1)-th highest impostor score, K = floor(FAR * impostors); accepted
    is score >= threshold.
    count : how many of the highest impostor pairs to list, by (-score, i, j); failed rows never
    appear.
    bars : rows of x and a score of each: also counts, in the same pass, the rows of y (not of x)
    strictly above each, as `ranks` does without subjects.
    """
    x, subject, y, y_subject = _checked(x, subject, y, y_subject)
    engine = reporting(engine)
    job = Impostors(engine, x, subject, y, y_subject, fars, count)
    if bars is not None and job.scan.within:
        raise ProtocolError("bars are counted among the rows of y", "give y, or call ranks")
    counts = None if bars is None else _Counts(job.scan, *bars)
    also = [] if counts is None else counts.collectors
    while job.open() or also:
        engine.run(job.scan, [*also, *job.collectors()])
        job.conclude()
        also = []
    engine.finish()
    seen = job.verification()
    return seen if counts is None else replace(seen, above=counts.answer()[0])


@one_thread()
def top_impostors(
    x: Rows,
    subject: Ints,
    y: Rows | None = None,
    y_subject: Ints | None = None,
    *,
    count: int,
    engine: Engine | None = None,
) -> Pairs:
    """List the `count` highest impostor pairs, by (-score, i, j); failed rows never appear."""
    return verify(x, subject, y, y_subject, fars=(), count=count, engine=engine).top


@one_thread()
def histogram(
    x: Rows,
    subject: Ints,
    y: Rows | None = None,
    y_subject: Ints | None = None,
    *,
    bins: int | Sequence[float] = 200,
    engine: Engine | None = None,
) -> Histogram:
    """Count genuine and impostor pairs per bin of the exact score; the last holds its upper end."""
    x, subject, y, y_subject = _checked(x, subject, y, y_subject)
    engine = reporting(engine)
    scan, edges = engine.scan(x, y), bin_edges(bins)
    binned = Bins(scan.scores, edges)
    if scan.scores.pairs:
        scan.run(choose_screen(scan, "float32", []).screen, [binned])
    subjects = subjects_of(scan.scores, subject, y_subject)
    i, j = genuine_pairs(*subjects[: 1 if scan.within else 2], together=True)
    genuine = binned.placed(i, j, scan.scores.rough(i, j), scan.scores.error)
    pairs = len(x) * (len(x) - 1) // 2 if y is None else len(x) * len(y)
    n_genuine = count_genuine(subject, y_subject)
    engine.finish()
    return Histogram(edges, genuine, binned.count - genuine, n_genuine, pairs - n_genuine)


@one_thread()
def search(
    probe: Rows,
    gallery: Rows,
    k: int = 1,
    *,
    probe_subject: Ints | None = None,
    gallery_subject: Ints | None = None,
    fars: Rates = (),
    count: int = 0,
    engine: Engine | None = None,
) -> Search:
    """Find the top k of every probe and, with subjects, the rank of its best mate, in one pass.

    fars, count : with subjects, also the operating points over all pairs of probe and gallery, and
    the highest impostor pairs, as in `verify`.
    """
    if k < 1:
        raise ProtocolError(f"the top {k} of every probe are no matches", "k is at least 1")
    if (probe_subject is None) != (gallery_subject is None):
        raise ProtocolError("probe_subject and gallery_subject belong together")
    probe, probe_subject, gallery, gallery_subject = _checked(
        probe, probe_subject, gallery, gallery_subject
    )
    engine = reporting(engine)
    scan = engine.scan(probe, gallery)
    if probe_subject is None or gallery_subject is None:
        level = row_levels(scan.scores, k)
        best = Best(scan.scores, k, None, level.kth)
        engine.run(scan, [best], late=[Best(scan.scores, k, None, level.late_kth)])
        engine.finish()
        return Search(*best.answer(len(probe)))
    job = Impostors(engine, probe, probe_subject, gallery, gallery_subject, fars, count, scan)
    mates = count_mates(probe_subject, gallery_subject)
    mated = bool(mates.any())  # else the highest pair of a row is its highest impostor pair
    level = row_levels(scan.scores, k, job.subjects if mated else None)
    highest = [Best(scan.scores, k, None, level.kth)]
    late = [Best(scan.scores, k, None, level.late_kth)]
    if mated:
        highest.append(Best(scan.scores, 1, job.subjects, level.impostor))
        late.append(Best(scan.scores, 1, job.subjects, level.late_impostor))
    mate = job.genuine.best(len(scan.x))
    rows = np.flatnonzero(mate > -np.inf)
    above = Above(scan.scores, Bars(rows, mate[rows]), level.few_above, job.subjects)
    others: list[Collector] = [above, *job.collectors()]
    engine.run(scan, [*highest, *others], late=[*late, *others])
    job.conclude()
    while job.open():
        engine.run(job.scan, job.collectors())
        job.conclude()
    engine.finish()
    score, column = highest[0].answer(len(probe))
    best_mate = np.full(len(probe), -np.inf)
    best_mate[scan.x.rows] = mate
    over = len(gallery) - mates
    over[scan.x.row(rows)] = above.above
    return Search(
        score,
        column,
        mates > 0,
        best_mate,
        over,
        highest[1].answer(len(probe))[0][:, 0] if mated else score[:, 0],
        job.verification(),
    )


@one_thread()
def ranks(
    probe: Rows,
    gallery: Rows,
    row: Ints,
    score: Floats,
    *,
    probe_subject: Ints | None = None,
    gallery_subject: Ints | None = None,
    engine: Engine | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count, for (probe row, score) pairs, the gallery entries strictly above and exactly equal.

    row : (R,), score : (R,) float64.  With subjects, only entries of other subjects count.
    """
    probe, probe_subject, gallery, gallery_subject = _checked(
        probe, probe_subject, gallery, gallery_subject
    )
    engine = reporting(engine)
    scan = engine.scan(probe, gallery)
    counts = _Counts(scan, row, score)
    engine.run(scan, counts.collectors)
    over, equal = counts.answer()
    if probe_subject is not None and gallery_subject is not None:
        row, score, place, alive = counts.row, counts.score, counts.place, counts.alive
        r, j = genuine_pairs(probe_subject[row], gallery_subject)
        position = np.full(len(gallery), -1, np.int64)
        position[scan.y.rows] = np.arange(len(scan.y))
        both = alive[r] & (position[j] >= 0)
        mate = np.full(len(r), -np.inf)
        mate[both] = scan.scores.exact(place[row[r[both]]], position[j[both]])
        np.subtract.at(over, r[mate > score[r]], 1)
        np.subtract.at(equal, r[mate == score[r]], 1)
    engine.finish()
    return over, equal


class _Counts:
    """The gallery entries above and equal to each of R scores of probe rows, in one pass.

    row, score : (R,).  place : of each probe row among those scanned, -1 for a failure.
    alive : (R,) bool, whether the row is scanned.
    """

    def __init__(self, scan: Scan, row: Ints, score: Floats) -> None:
        self.row, self.score = whole_numbers(row, "row"), numbers(score, "score")
        self.place = np.full(scan.x.total, -1, np.int64)
        self.place[scan.x.rows] = np.arange(len(scan.x))
        of = self.place[self.row]
        self.alive, self._failed, self._scan = of >= 0, self.score == -np.inf, scan
        open_rows = np.flatnonzero(self.alive & ~self._failed)
        self._open = open_rows = open_rows[np.lexsort((self.score[open_rows], of[open_rows]))]
        self.collectors: list[Above] = []
        if len(open_rows) and scan.scores.pairs:
            bars = Bars(of[open_rows], self.score[open_rows])
            self.collectors.append(Above(scan.scores, bars, row_levels(scan.scores, 1).few_above))

    def answer(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give (above, equal), (R,) each."""
        over, equal = np.zeros(len(self.row), np.int64), np.zeros(len(self.row), np.int64)
        # Every gallery row that is not a failure beats a failed mate.
        over[self._failed] = np.where(self.alive[self._failed], len(self._scan.y), 0)
        equal[self._failed] = self._scan.y.total - over[self._failed]
        for above in self.collectors:
            over[self._open], equal[self._open] = above.above, above.equal
        return over, equal


def _checked(
    x: Any, subject: Ints | None, y: Any, y_subject: Ints | None
) -> tuple[Any, Any, Any, Any]:
    """Give both sets as arrays and their subjects as whole numbers; refuse all else."""
    if subject is not None and (y is None) != (y_subject is None):
        raise ProtocolError("y and y_subject belong together")
    x, y = (
        s if s is None or isinstance(s, MadeRows) else vectors(s, dimensions=(2,)) for s in (x, y)
    )
    if y is not None and y.shape[1] != x.shape[1]:
        raise ProtocolError(f"x has {x.shape[1]} dimensions, y has {y.shape[1]}")
    sides = ("x", subject, x), ("y", y_subject, y)
    given = {name: (s, len(rows)) for name, s, rows in sides if s is not None}
    who = dict(zip(given, identities_of_all([*given.values()]), strict=True))
    return x, who.get("x"), y, who.get("y")
