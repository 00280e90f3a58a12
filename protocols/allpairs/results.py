"""What the engine answers: the definitions of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.types import Estimate


@dataclass(frozen=True, slots=True)
class Pairs:
    """P scored pairs: rows i of x and j of y, (P,) int64 each, and (P,) float64 exact scores."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    score: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verification:
    """Every pair of two sets, counted, and TPR at each FAR asked for.

    points : by the decimal text of the FAR; None where `metrics.tpr_estimate` has no value.
    top : the highest impostor pairs, as many as were asked for.
    above : (R,) int64, the rows above each of the bars that were given.
    """

    n_genuine: int
    n_impostor: int
    points: Mapping[str, Estimate]
    top: Pairs = field(compare=False)  # arrays have no truth of their own
    above: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), compare=False)


@dataclass(frozen=True, slots=True)
class Search:
    """What each of P probes finds in the gallery.

    score : (P, k) float64, the k highest scores, falling; -inf where there are fewer.
    row : (P, k) int64 gallery rows of these, equal scores by rising row; -1 where there are fewer.
    mated : (P,) bool, whether the gallery holds the probe's subject at all.
    mate_score : (P,) float64, the best mate's score; -inf without one.
    mate_above : (P,) int64, gallery entries of other subjects strictly above `mate_score`; all of
        them where it is -inf, so that a failure never has a good rank.
    impostor_score : (P,) float64, the highest score among other subjects; -inf without one.
    verification : of all pairs of probe and gallery, for the FARs asked for.

    The four before are empty when no subjects were given, and `verification` counts no pairs.
    """

    score: NDArray[np.float64]
    row: NDArray[np.int64]
    mated: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    mate_score: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    mate_above: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    impostor_score: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    verification: Verification = field(default_factory=lambda: Verification(0, 0, {}, none_found()))

    @property
    def mate_rank(self) -> NDArray[np.int64]:
        """Rank of each probe's best mate, (P,), 1 + `mate_above`; 0 where there is no score."""
        return np.where(np.isfinite(self.mate_score), self.mate_above + 1, 0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Pairs a bin: edges[b] <= score < edges[b + 1], the last bin closed on both sides.

    edges : (B + 1,) float64.  genuine, impostor : (B,) int64.
    n_genuine, n_impostor : all pairs, also those outside the edges and the failed ones.
    """

    edges: NDArray[np.float64]
    genuine: NDArray[np.int64]
    impostor: NDArray[np.int64]
    n_genuine: int
    n_impostor: int


def none_found() -> Pairs:
    """No pairs."""
    return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def bin_edges(bins: int | Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
    """B equal bins from -1 to 1, or the rising edges given."""
    edges = np.linspace(-1, 1, bins + 1) if isinstance(bins, int) else np.asarray(bins, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ProtocolError("bins are not rising edges", "give a count or at least two edges")
    return edges
