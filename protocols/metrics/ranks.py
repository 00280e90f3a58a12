"""Rank of each probe's mate, and the cumulative match characteristic (CMC)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import numbers, whole_number, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.operating_point import few_errors
from evalkit.types import Estimate


def mate_rank(scores: ArrayLike, mate: ArrayLike) -> NDArray[np.int64]:
    """Rank of each probe's mate: 1 + gallery entries that score strictly above it.

    scores : (Q, G) probe by gallery; mate : (Q,) gallery column.  Ties favour the mate.
    A failed mate (-inf) has rank 0, which no `cmc` counts.  Returns (Q,) int64.
    ProtocolError where the shapes do not fit or a column is none of the gallery's.
    """
    s, m = numbers(scores, "scores"), whole_numbers(mate, "mate")
    if s.ndim != 2 or m.shape != s.shape[:1]:
        raise ProtocolError(
            f"scores of shape {s.shape} have mates of shape {m.shape}", "expected (Q, G) and (Q,)"
        )
    if m.min(initial=0) < 0 or m.max(initial=-1) >= s.shape[1]:
        raise ProtocolError(f"mates are columns {m.min()} to {m.max()} of {s.shape[1]}")
    own = s[np.arange(len(s)), m]
    return np.where(np.isfinite(own), 1 + np.count_nonzero(s > own[:, None], axis=1), 0)


def rank_depths(depths: int | Sequence[int]) -> tuple[int, ...]:
    """Read the k of rank-k, whole numbers from 1, in their order; one alone is a list of one.

    >>> rank_depths(5), rank_depths([1, 10])
    ((5,), (1, 10))
    """
    several = depths if isinstance(depths, Sequence | np.ndarray) else (depths,)
    return tuple(whole_number(k, "k of rank-k", least=1) for k in several)


def cmc(rank: ArrayLike, depth: int) -> NDArray[np.float64]:
    """Cumulative match characteristic: element k-1 is the share of probes with rank 1..k.

    rank : (Q,) int, 1 = the mate is first, 0 = failed.  Returns (depth,) float64, NaN without
    probes.

    >>> cmc([1, 1, 3, 0], 3).tolist()
    [0.5, 0.5, 0.75]
    """
    r = _ranks(rank)
    hits = np.bincount(r[(r >= 1) & (r <= depth)], minlength=depth + 1)[1 : depth + 1]
    return np.cumsum(hits) / (len(r) or np.nan)


def _ranks(rank: ArrayLike) -> NDArray[np.integer[Any]]:
    r = whole_numbers(rank, "rank")
    if r.ndim != 1:
        raise ProtocolError(f"ranks have shape {r.shape}", "expected one dimension")
    return r


def rank_within(rank: ArrayLike, k: int) -> Estimate:
    """Rank-k: the share of probes with rank 1..k, as element k-1 of `cmc`.

    rank : as `cmc` takes it.  None without probes; a warning in `note` below ten misses.

    >>> rank_within([1, 1, 3, 0], 3).note
    'only 1 miss: unreliable (fewer than 10)'
    """
    r = _ranks(rank)
    n, within = len(r), int(np.count_nonzero((r >= 1) & (r <= k)))
    if not n:
        return Estimate(value=None, n=0, note="no searches with a mate")
    value = within / n
    return Estimate(value=value, n=n, note=few_errors(misses=round((1 - value) * n)))
