"""TPR@FAR of pair lists with millions of pairs: screened in float32, settled exactly.

A float32 inner product of unit vectors errs by at most d u (u = 2^-24, any summation order), so the
exact score of a pair lies within `error` of its screened one.  Only the pairs whose screened score
is within twice that of the wanted order statistic are scored exactly.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics import false_accepts_allowed, tpr_estimate
from evalkit.protocols.scores import exact_scores, failed
from evalkit.types import Estimate, PairSet

_CHUNK = 1024  # pairs whose rows stay in cache
_PAGE = 1 << 18  # pairs a thread takes at a time
_ROUNDOFF = 2.0**-24


@dataclass(frozen=True, slots=True)
class Scored:
    """A pair list: exact scores of the genuine pairs, screened ones of the impostors.

    genuine : (G,) float64.  impostor : (I,) float32, each within `error` of the exact score.
    left, right : (I,) rows of x of the impostor pairs.
    """

    x: NDArray[np.float32]
    genuine: NDArray[np.float64]
    impostor: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    error: float


def screen(x: NDArray[np.float32], pairs: PairSet, threads: int = 2) -> Scored:
    """Score genuine pairs exactly, impostor pairs in float32; x : (N, D) unit rows.

    A pair with a failed row scores -inf.  Memory: the pair list, and 4 bytes a pair.
    """
    lost = failed(x)
    norms = np.einsum("ij,ij->i", x, x)[~lost]
    if len(norms) and not np.all((norms < 1.001) & ((norms > 0.999) | (norms == 0))):
        raise ProtocolError("the rows are not of unit length", "normalise them first")
    x = np.where(lost[:, None], np.float32(0), x)
    mates = np.flatnonzero(pairs.genuine)
    genuine = exact_scores(x, pairs.left[mates], x, pairs.right[mates])
    genuine[lost[pairs.left[mates]] | lost[pairs.right[mates]]] = -np.inf
    left, right = pairs.left[~pairs.genuine], pairs.right[~pairs.genuine]
    impostor = np.empty(len(left), np.float32)

    def page(start: int) -> None:
        for o in range(start, min(start + _PAGE, len(left)), _CHUNK):
            part = slice(o, min(o + _CHUNK, start + _PAGE))
            a, b = np.take(x, left[part], axis=0), np.take(x, right[part], axis=0)
            np.einsum("ij,ij->i", a, b, out=impostor[part])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(page, range(0, len(left), _PAGE)))
    impostor[lost[left] | lost[right]] = -np.inf
    error = 1.01 * x.shape[1] * _ROUNDOFF
    return Scored(x, genuine, impostor, left, right, error)


def tpr_at_far(scored: Scored, far: str) -> Estimate:
    """TPR at the lowest threshold whose measured FAR is at most x: as `metrics.tpr_at_far`."""
    n = len(scored.impostor)
    k = false_accepts_allowed(far, n)
    if k == 0:
        return tpr_estimate(far, None, 0, len(scored.genuine), 0, n)
    threshold, false = _threshold(scored, k)
    true = int(np.count_nonzero(scored.genuine >= threshold))
    return tpr_estimate(far, threshold, true, len(scored.genuine), false, n)


def _threshold(scored: Scored, k: int) -> tuple[float, int]:
    """Next float64 above the exact (k+1)-th highest impostor score, and the accepts there."""
    n = len(scored.impostor)
    middle = -np.inf if k >= n else float(np.partition(scored.impostor, n - k - 1)[n - k - 1])
    if middle == -np.inf:  # all but the failures are accepted
        return float(np.nextafter(middle, 0)), int((scored.impostor > middle).sum())
    away = scored.impostor.astype(np.float64) - middle
    surely, near = int((away > 2 * scored.error).sum()), np.abs(away) <= 2 * scored.error
    exact = exact_scores(scored.x, scored.left[near], scored.x, scored.right[near])
    value = float(np.sort(exact)[::-1][k - surely])
    return float(np.nextafter(value, np.inf)), surely + int((exact > value).sum())
