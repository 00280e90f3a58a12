"""TPR@FAR of pair lists with millions of pairs: screened in float32, settled exactly.

A float32 inner product of unit vectors errs by at most d u (u = 2^-24, any summation order), so the
exact score of a pair lies within `error` of its screened one.  Only the pairs whose screened score
is within twice that of the wanted order statistic are scored exactly.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import run
from evalkit.errors import ProtocolError
from evalkit.protocols import allpairs
from evalkit.protocols.blas import can_be_one_thread, one_thread
from evalkit.protocols.metrics import (
    Rates,
    false_accepts_allowed,
    rate_texts,
    threshold_above,
    tpr_estimate,
)
from evalkit.protocols.metrics.similarity import failed
from evalkit.protocols.uncertainty.columns import counts_of, falling, there
from evalkit.protocols.uncertainty.from_sets import SAMPLED
from evalkit.protocols.uncertainty.outcomes import SetOutcomes
from evalkit.protocols.uncertainty.sample import people_of_pairs
from evalkit.types import Estimate, Ints, PairSet

_CHUNK = 1024  # pairs whose rows stay in cache
_PAGE = 1 << 18  # pairs a thread takes at a time
_CELLS = 1 << 23  # products that a thread holds
# Products that cost as much as a pair by itself, whose rows are not in cache; and how many at most,
# since the whole list is searched for those of each band.
_WORTH, _MOST = 16, 64 * _CELLS
_ROUNDOFF = 2.0**-24


@dataclass(frozen=True, slots=True)
class ScreenedPairs:
    """A pair list: exact scores of the genuine pairs, screened ones of the impostors.

    genuine : (G,) float64.  impostor : (I,) float32, each within `error` of the exact score.
    rising : the highest of them, sorted.  left, right : (I,) rows of x of the impostor pairs.
    """

    x: NDArray[np.float32]
    genuine: NDArray[np.float64]
    impostor: NDArray[np.float32]
    rising: NDArray[np.float32]
    left: Ints
    right: Ints
    error: float

    def highest(self, k: int) -> float:
        """Screened score of the k-th highest impostor pair, from 1."""
        if k <= len(self.rising):
            return float(self.rising[-k])
        return float(np.partition(self.impostor, -k)[-k])


LONGEST_TAIL = 4_000_000  # impostor pairs kept at most


def outcomes(scored: ScreenedPairs, pairs: PairSet, fars: Rates) -> SetOutcomes:
    """Keep what intervals and paired tests need: genuine and highest impostor scores.

    Rows joined by genuine pairs are one person.  Kept are about twice the false accepts that the
    highest FAR allows, scored exactly; where one needs more than `LONGEST_TAIL`, also `SAMPLED` at
    random.  Where that is not the whole list, the rest enters a draw by how many impostor pairs
    each person has on the left and on the right, as if these had met in proportion.
    """
    who, n = people_of(pairs), len(scored.impostor)
    needed = [min(2 * false_accepts_allowed(far, n) + 100, n) for far in rate_texts(fars)]
    count = max((k for k in needed if k <= LONGEST_TAIL), default=0)
    # All that may be among the `count` highest: within twice the screen's error of the last.
    bar = scored.highest(count) if count else np.inf
    near = np.flatnonzero(scored.impostor >= np.float32(bar - 2.01 * scored.error))
    score = _exact(scored, near)
    score, kept = (column[:count] for column in falling(score, score, near))
    found = SetOutcomes(
        genuine_score=scored.genuine,
        genuine_subject=who[pairs.left[pairs.genuine]].astype(np.int32),
        impostor_score=score,
        impostor_left=who[scored.left[kept]].astype(np.int32),
        impostor_right=who[scored.right[kept]].astype(np.int32),
        impostor_place=kept,
        impostors=n,
    )
    if max(needed, default=0) > LONGEST_TAIL:
        some = np.random.default_rng(0).integers(0, n, SAMPLED)
        found = replace(
            found,
            sampled_score=_exact(scored, some),
            sampled_left=who[scored.left[some]].astype(np.int32),
            sampled_right=who[scored.right[some]].astype(np.int32),
            sampled_place=some,
        )
    if count < n:
        left, right = (_images(who, rows) for rows in (scored.left, scored.right))
        found = replace(found, left_images=left, right_images=right)
    return found


def _images(who: NDArray[np.int64], rows: Ints) -> NDArray[np.int64]:
    """Count how often each person stands in a column of rows: (S,)."""
    count = counts_of(rows, people=len(who))
    return np.bincount(who, count).astype(np.int64)


def people_of(pairs: PairSet) -> NDArray[np.int64]:
    """Give each row up to the last one compared the number of its person, as in `outcomes`."""
    person = people_of_pairs(pairs.left, pairs.right, pairs.genuine)
    number: NDArray[np.int64] = np.unique(person, return_inverse=True)[1]
    return number


def _exact(scored: ScreenedPairs, k: NDArray[np.int64]) -> NDArray[np.float64]:
    score = allpairs.exact(scored.x, scored.left[k], scored.x, scored.right[k])
    score[np.isneginf(scored.impostor[k])] = -np.inf
    return score


def screen(
    x: NDArray[np.float32],
    pairs: PairSet,
    threads: int | None = None,
    *,
    by_pair: bool = False,
) -> ScreenedPairs:
    """Score genuine pairs exactly, impostor pairs in float32; x : (N, D) unit rows.

    A pair with a failed row scores -inf.  threads : those of the screen; None: all cores.
    by_pair : each by itself; else in products of all on the left with all on the right, where many
    of those are listed.
    Memory: the impostor pairs, 4 bytes for each, and 32 MB per thread.
    """
    lost = failed(x)
    norms = np.einsum("ij,ij->i", x, x)[~lost]
    if len(norms) and not np.all((norms < 1.001) & ((norms > 0.999) | (norms == 0))):
        raise ProtocolError("the rows are not of unit length", "normalise them first")
    if lost.any():
        x = np.where(lost[:, None], np.float32(0), x)
    mates = np.flatnonzero(pairs.genuine)
    genuine = allpairs.exact(x, pairs.left[mates], x, pairs.right[mates])
    genuine[lost[pairs.left[mates]] | lost[pairs.right[mates]]] = -np.inf
    left, right = pairs.left[~pairs.genuine], pairs.right[~pairs.genuine]
    a, b = (np.flatnonzero(there(rows, people=len(x))) for rows in (left, right))
    threads = threads or os.cpu_count() or 1
    if by_pair or not 0 < len(a) * len(b) <= min(_WORTH * len(left), _MOST):
        impostor = _each(x, left, right, threads)
    else:
        impostor = _among_all(x, left, right, a, b, threads)
    for o in range(0, len(left) if lost.any() else 0, _PAGE):
        part = slice(o, o + _PAGE)
        impostor[part][lost[left[part]] | lost[right[part]]] = -np.inf
    least = max(0, len(left) - LONGEST_TAIL)
    rising = (np.partition(impostor, least) if least else impostor)[least:].copy()
    rising.sort()
    error = 1.01 * x.shape[1] * _ROUNDOFF
    return ScreenedPairs(x, genuine, impostor, rising, left, right, error)


def _each(x: NDArray[np.float32], left: Ints, right: Ints, threads: int) -> NDArray[np.float32]:
    """Screen pair by pair: (I,)."""
    score = np.empty(len(left), np.float32)

    def page(start: int) -> None:
        for o in range(start, min(start + _PAGE, len(left)), _CHUNK):
            part = slice(o, min(o + _CHUNK, start + _PAGE))
            a, b = np.take(x, left[part], axis=0), np.take(x, right[part], axis=0)
            np.einsum("ij,ij->i", a, b, out=score[part])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(page, range(0, len(left), _PAGE)))
    return score


@one_thread()  # in each band: bands run side by side
def _among_all(
    x: NDArray[np.float32], left: Ints, right: Ints, a: Ints, b: Ints, threads: int
) -> NDArray[np.float32]:
    """Screen by matrix products of the rows `a`, on the left, with all of `b`, on the right: (I,).

    a, b : rising.  Of IJB-C's 69 million products 16 million are listed: a sixth of the time.
    """
    score, y = np.empty(len(left), np.float32), x[run(b)]
    column = np.zeros(len(x), np.int32)
    column[b] = np.arange(len(b))
    high = max(1, _CELLS // len(b))

    def band(o: int) -> None:
        rows = a[o : o + high]
        row, products = np.zeros(rows[-1] + 1 - rows[0], np.int32), x[run(rows)] @ y.T
        row[rows - rows[0]] = np.arange(len(rows))
        for p in range(0, len(left), _PAGE):
            at = left[p : p + _PAGE]
            listed = np.flatnonzero((at >= rows[0]) & (at <= rows[-1]))
            at, of = row[at[listed] - rows[0]], column[right[p : p + _PAGE][listed]]
            score[p : p + _PAGE][listed] = products[at, of]

    with ThreadPoolExecutor(threads if can_be_one_thread() else 1) as pool:
        list(pool.map(band, range(0, len(a), high)))
    return score


def tpr_at_far(scored: ScreenedPairs, far: str | float) -> Estimate:
    """TPR at the lowest threshold whose measured FAR is at most x: as `metrics.tpr_at_far`."""
    n = len(scored.impostor)
    k = false_accepts_allowed(far, n)
    if k == 0:
        return tpr_estimate(far, None, 0, len(scored.genuine), 0, n)
    threshold, false = _threshold(scored, k)
    true = int(np.count_nonzero(scored.genuine >= threshold))
    return tpr_estimate(far, threshold, true, len(scored.genuine), false, n)


def false_accepts(scored: ScreenedPairs, threshold: float) -> int:
    """Count the impostor pairs whose exact score is at or above a threshold."""
    surely, near = _around(scored, threshold, scored.error)
    return surely + int((_exact(scored, near) >= threshold).sum())


def _threshold(scored: ScreenedPairs, k: int) -> tuple[float, int]:
    """Next float64 above the exact (k+1)-th highest impostor score, and the accepts there."""
    n = len(scored.impostor)
    middle = -np.inf if k >= n else scored.highest(k + 1)
    if middle == -np.inf:  # all but the failures are accepted
        return threshold_above(middle), int((scored.impostor > middle).sum())
    surely, near = _around(scored, middle, 2 * scored.error)
    exact = _exact(scored, near)
    value = float(np.sort(exact)[::-1][k - surely])
    return threshold_above(value), surely + int((exact > value).sum())


def _around(scored: ScreenedPairs, middle: float, within: float) -> tuple[int, NDArray[np.int64]]:
    """Count the impostors screened further above a score, and find those about it."""
    surely, near = 0, [np.empty(0, np.int64)]
    for o in range(0, len(scored.impostor), _PAGE):
        away = scored.impostor[o : o + _PAGE].astype(np.float64) - middle
        surely += int(np.count_nonzero(away > within))
        near.append(o + np.flatnonzero(np.abs(away) <= within))
    return surely, np.concatenate(near)
