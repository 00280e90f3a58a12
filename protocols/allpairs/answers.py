"""The engine's answers, each from one pass over all pairs (a second only where a sample misled)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.protocols.allpairs.collect import Bracket, Highest, same_subject
from evalkit.protocols.allpairs.definition import (
    Histogram,
    OperatingPoint,
    Pairs,
    Search,
    Verification,
    bin_edges,
    no_operating_point,
    operating_point,
    threshold_above,
)
from evalkit.protocols.allpairs.genuine import genuine_pairs
from evalkit.protocols.allpairs.scan import Floats, Ints, Progress, Scan, Side, Visit, above
from evalkit.protocols.metrics import false_accepts_allowed
from evalkit.protocols.scores import exact_scores

_TAIL = 1_000_000  # ranks up to here are kept whole, beyond them bracketed by a sample
_SEED = 0


def verify(
    x: NDArray[Any],
    subject: Ints,
    y: NDArray[Any] | None = None,
    y_subject: Ints | None = None,
    *,
    fars: Sequence[str],
    progress: Progress | None = None,
) -> Verification:
    """Find the threshold of each FAR and the TPR there, over all pairs of x and y.

    x : (N, D), y : (M, D) float, scored as they are; y None compares x with itself, each unordered
    pair once.  subject : equal means genuine, -1 is nobody's mate.  Rows that are not finite are
    failures: their pairs count, and score -inf.  The threshold of a FAR is the next float64 above
    the (K+1)-th highest impostor score, K = floor(FAR * impostors); accepted is score >= threshold.
    """
    _check(x, subject, y, y_subject)
    scan, subjects = _scan(x, subject, y, y_subject, progress)
    i, j = genuine_pairs(subject, y_subject)
    mated = np.sort(_exact(x, y, i, j))
    pairs = len(x) * (len(x) - 1) // 2 if y is None else len(x) * len(y)
    n_impostor = pairs - len(mated)
    allowed = {far: false_accepts_allowed(far, n_impostor) for far in fars}
    ranks = sorted({k + 1 for k in allowed.values() if 1 <= k < n_impostor})
    value = _impostors_at(scan, subjects, ranks, mated, n_impostor)
    points = [_point(far, allowed[far], n_impostor, mated, value) for far in fars]
    return Verification(len(mated), n_impostor, tuple(points))


def _point(
    far: str, allowed: int, n_impostor: int, mated: Floats, value: dict[int, tuple[float, int]]
) -> OperatingPoint:
    if allowed < 1 or not n_impostor:
        return no_operating_point(far, n_impostor)
    score, accepts = value.get(allowed + 1, (-np.inf, n_impostor))
    threshold = threshold_above(score) if allowed < n_impostor else -np.inf
    accepted = len(mated) - int(np.searchsorted(mated, threshold, "left"))
    return operating_point(far, len(mated), n_impostor, threshold, accepts, accepted)


def _impostors_at(
    scan: Scan, subjects: tuple[Ints, Ints], ranks: list[int], mated: Floats, n_impostor: int
) -> dict[int, tuple[float, int]]:
    """For each rank the exact score of that impostor pair, and how many score strictly above."""
    tail = [r for r in ranks if r <= _TAIL]
    bulk = {r: _first_guess(scan, subjects, r, n_impostor) for r in ranks if r > _TAIL}
    found: dict[int, tuple[float, int]] = {}
    highest = Highest(scan, subjects, max(tail, default=0))
    first = True
    while bulk or (tail and first):
        brackets = {r: Bracket(scan, subjects, *bounds) for r, bounds in bulk.items()}
        visitors = [b.visit for b in brackets.values()] + ([highest.visit] if first else [])
        scan.run(_each(*visitors))
        first = False
        for rank, bracket in brackets.items():
            genuine_above = len(mated) - int(np.searchsorted(mated, bracket.high, "right"))
            answer = bracket.ranked(rank, genuine_above)
            if answer is None:
                middle, half = (bracket.low + bracket.high) / 2, bracket.high - bracket.low
                bulk[rank] = (middle - 2 * half, middle + 2 * half)
            else:
                found[rank] = answer
                del bulk[rank]
    score = highest.pairs().score
    for rank in tail:
        value = float(score[rank - 1]) if rank <= len(score) else -np.inf
        found[rank] = value, int((score > value).sum())
    return found


def _first_guess(
    scan: Scan, subjects: tuple[Ints, Ints], rank: int, n_impostor: int
) -> tuple[float, float]:
    """Bracket the score of a rank by random blocks of pairs: only speed depends on it."""
    rng = np.random.default_rng(_SEED)
    x, y = scan.x.x, scan.y.x
    found = []
    for _ in range(8):
        i = rng.permutation(len(x))[:1024]
        j = rng.permutation(len(y))[:1024]
        score = x[i] @ y[j].T
        other = ~same_subject(subjects[0][i, None], subjects[1][None, j])
        if scan.within:
            other &= i[:, None] != j[None, :]
        found.append(np.quantile(score[other], 1 - rank / n_impostor) if other.any() else 0.0)
    half = 4 * float(np.std(found)) / np.sqrt(8) + 1e-3 * float(np.abs(found).max()) + 1e-6
    middle = float(np.mean(found))
    return middle - half, middle + half


def top_impostors(
    x: NDArray[Any],
    subject: Ints,
    y: NDArray[Any] | None = None,
    y_subject: Ints | None = None,
    *,
    count: int,
    progress: Progress | None = None,
) -> Pairs:
    """List the `count` highest impostor pairs, by (-score, i, j); failed rows never appear."""
    _check(x, subject, y, y_subject)
    scan, subjects = _scan(x, subject, y, y_subject, progress)
    highest = Highest(scan, subjects, count)
    if count:
        scan.run(highest.visit)
    return highest.pairs()


def histogram(
    x: NDArray[Any],
    subject: Ints,
    y: NDArray[Any] | None = None,
    y_subject: Ints | None = None,
    *,
    bins: int | Sequence[float] = 200,
    progress: Progress | None = None,
) -> Histogram:
    """Count genuine and impostor pairs a bin of the score, for pictures.

    Impostors are binned by their float32 screen, so one may fall into the neighbouring bin.
    """
    _check(x, subject, y, y_subject)
    scan, _ = _scan(x, subject, y, y_subject, progress)
    edges = bin_edges(bins)
    every = np.zeros(len(edges) - 1, np.int64)

    def visit(screened: NDArray[np.float32], error: float, i0: int, j0: int) -> None:
        nonlocal every
        every = every + np.histogram(screened[screened > -np.inf], edges)[0]

    scan.run(visit)
    i, j = genuine_pairs(subject, y_subject)
    mated = _exact(x, y, i, j)
    pairs = len(x) * (len(x) - 1) // 2 if y is None else len(x) * len(y)
    genuine = np.histogram(mated[mated > -np.inf], edges)[0]
    return Histogram(edges, genuine, np.maximum(every - genuine, 0), len(i), pairs - len(i))


def search(
    probe: NDArray[Any],
    gallery: NDArray[Any],
    k: int = 1,
    *,
    probe_subject: Ints | None = None,
    gallery_subject: Ints | None = None,
    progress: Progress | None = None,
) -> Search:
    """Find the top k of every probe and, with subjects, how its best mate fares."""
    scan = Scan(Side(probe), Side(gallery), progress)
    subjects = None
    if probe_subject is not None and gallery_subject is not None:
        subjects = probe_subject[scan.x.rows], gallery_subject[scan.y.rows]
    everybody, others = _Best(scan, k), _Best(scan, 1, subjects)
    scan.run(everybody.visit if subjects is None else _each(everybody.visit, others.visit))
    score, row = everybody.answer(len(probe))
    if probe_subject is None or gallery_subject is None:
        return Search(score, row)
    i, j = genuine_pairs(probe_subject, gallery_subject)
    mate = np.full(len(probe), -np.inf)
    np.maximum.at(mate, i, _exact(probe, gallery, i, j))
    mated = np.bincount(i, minlength=len(probe)) > 0
    above_mate, _ = ranks(
        probe,
        gallery,
        np.arange(len(probe)),
        mate,
        probe_subject=probe_subject,
        gallery_subject=gallery_subject,
    )
    mates = np.bincount(i, minlength=len(probe))
    above_mate = np.where(mate > -np.inf, above_mate, len(gallery) - mates)
    return Search(score, row, mated, mate, above_mate, others.answer(len(probe))[0][:, 0])


def _each(*visitors: Visit) -> Visit:
    def visit(screened: NDArray[np.float32], error: float, i0: int, j0: int) -> None:
        for one in visitors:
            one(screened, error, i0, j0)

    return visit


class _Best:
    """The k highest of every row, by a cut a row that rises."""

    def __init__(self, scan: Scan, k: int, subjects: tuple[Ints, Ints] | None = None) -> None:
        self.scan, self.k, self.subjects = scan, k, subjects
        self.score = np.full((len(scan.x.x), k), -np.inf)
        self.row = np.full((len(scan.x.x), k), -1, np.int64)

    def visit(self, screened: NDArray[np.float32], error: float, i0: int, j0: int) -> None:
        m, n = screened.shape
        if self.subjects is not None:
            left, right = self.subjects[0][i0 : i0 + m], self.subjects[1][j0 : j0 + n]
            screened = np.where(same_subject(left[:, None], right[None, :]), -np.inf, screened)
        cut = self.score[i0 : i0 + m, -1] - error
        if not np.isfinite(cut).all() and n >= self.k:
            # The k-th highest screened score of this tile, less the error, is a cut as good.
            cut = np.maximum(cut, np.partition(screened, -self.k, axis=1)[:, -self.k] - 2 * error)
        i, j = above(screened, np.maximum(cut, -3.0e38))
        if len(i):
            self._merge(i + i0, j + j0, self.scan.exact(i + i0, j + j0))

    def _merge(self, i: Ints, j: Ints, score: Floats) -> None:
        rows = np.unique(i)
        held = np.repeat(rows, self.k)
        i = np.concatenate([held, i])
        j = np.concatenate([self.row[rows].ravel(), j])
        score = np.concatenate([self.score[rows].ravel(), score])
        order = np.lexsort((np.where(j < 0, np.iinfo(np.int64).max, j), -score, i))
        i, j, score = i[order], j[order], score[order]
        place = np.arange(len(i)) - np.searchsorted(i, i, "left")
        keep = place < self.k
        self.score[i[keep], place[keep]] = score[keep]
        self.row[i[keep], place[keep]] = j[keep]

    def answer(self, probes: int) -> tuple[Floats, NDArray[np.int64]]:
        """Give scores and gallery rows back under the rows that were given."""
        score, row = np.full((probes, self.k), -np.inf), np.full((probes, self.k), -1, np.int64)
        score[self.scan.x.rows] = self.score
        row[self.scan.x.rows] = np.append(self.scan.y.rows, -1)[self.row]
        return score, row


def ranks(
    probe: NDArray[Any],
    gallery: NDArray[Any],
    row: Ints,
    score: Floats,
    *,
    probe_subject: Ints | None = None,
    gallery_subject: Ints | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count, for (probe row, score) pairs, the gallery entries strictly above and exactly equal.

    row : (R,), score : (R,) float64.  With subjects, only entries of other subjects count.
    """
    scan = Scan(Side(probe), Side(gallery), progress)
    place = np.full(len(probe), -1, np.int64)
    place[scan.x.rows] = np.arange(len(scan.x.rows))
    asked = np.flatnonzero((place[row] >= 0) & (score > -np.inf))
    failed_mate = score == -np.inf  # beaten by everybody who is not a failure
    by_row = asked[np.argsort(place[row[asked]], kind="stable")]
    own, bar = place[row[by_row]], score[by_row]
    over, equal = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
    over[failed_mate] = np.where(place[row[failed_mate]] >= 0, len(scan.y.rows), 0)
    equal[failed_mate] = len(gallery) - over[failed_mate]

    def visit(screened: NDArray[np.float32], error: float, i0: int, j0: int) -> None:
        lo, hi = np.searchsorted(own, (i0, i0 + len(screened)))
        for o in range(lo, hi, 256):
            q = slice(o, min(o + 256, hi))
            part, b = screened[own[q] - i0], bar[q]
            sure = np.nextafter((b + error).astype(np.float32), np.float32(np.inf))[:, None]
            low = np.nextafter((b - error).astype(np.float32), np.float32(-np.inf))[:, None]
            surely = part > sure
            over[by_row[q]] += surely.sum(axis=1)
            r, c = np.nonzero((part > low) & ~surely)
            exact = scan.exact(own[q][r], c + j0)
            np.add.at(over, by_row[q][r[exact > b[r]]], 1)
            np.add.at(equal, by_row[q][r[exact == b[r]]], 1)

    if len(by_row):
        scan.run(visit)
    if probe_subject is not None and gallery_subject is not None:
        _leave_out_mates(probe, gallery, row, score, probe_subject, gallery_subject, over, equal)
    return over, equal


def _leave_out_mates(
    probe: NDArray[Any],
    gallery: NDArray[Any],
    row: Ints,
    score: Floats,
    probe_subject: Ints,
    gallery_subject: Ints,
    over: NDArray[np.int64],
    equal: NDArray[np.int64],
) -> None:
    r, j = genuine_pairs(probe_subject[row], gallery_subject)
    mate = _exact(probe, gallery, row[r], j)
    np.subtract.at(over, r[mate > score[r]], 1)
    np.subtract.at(equal, r[mate == score[r]], 1)


def _exact(x: NDArray[Any], y: NDArray[Any] | None, i: Ints, j: Ints) -> Floats:
    a = np.asarray(x, np.float32)
    return exact_scores(a, i, a if y is None else np.asarray(y, np.float32), j)


def _scan(
    x: NDArray[Any],
    subject: Ints,
    y: NDArray[Any] | None,
    y_subject: Ints | None,
    progress: Progress | None,
) -> tuple[Scan, tuple[Ints, Ints]]:
    scan = Scan(Side(x), None if y is None else Side(y), progress)
    right = subject if y_subject is None else y_subject
    return scan, (np.asarray(subject)[scan.x.rows], np.asarray(right)[scan.y.rows])


def _check(x: NDArray[Any], subject: Ints, y: NDArray[Any] | None, y_subject: Ints | None) -> None:
    if (y is None) != (y_subject is None):
        raise ProtocolError("y and y_subject belong together")
    for name, a, s in (("x", x, subject), ("y", y, y_subject)):
        if a is not None and s is not None and (a.ndim != 2 or np.shape(s) != (len(a),)):
            raise ProtocolError(f"{name} has shape {a.shape}, its subjects {np.shape(s)}")
    if y is not None and y.shape[1] != x.shape[1]:
        raise ProtocolError(f"x has {x.shape[1]} dimensions, y has {y.shape[1]}")
