"""Scores of claims: who a probe is said to be, and who it is; searches of everybody enrolled.

The comparisons of one probe with all models are a search.  Rank = 1 + models of other people that
score strictly above the best of the probe's own; a probe whose person nobody enrolled is a search
without a mate, and makes the set an open one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.arrays import whole_numbers
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics import Thresholds, cmc, dir_at_fpir, given_thresholds, rank_within
from evalkit.protocols.metrics import search_errors_at as errors_at
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, SetOutcomes
from evalkit.types import Bools, Estimate, Floats, Ints

RANKS = (1, 5, 10)
FPIRS = ("1e-1", "1e-2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Who is in P comparisons, as whole numbers from 0, (P,) each.

    claimed, real : people, numbered alike.  model : what was enrolled of the claimed person.
    probe : what was compared with it, of one real person.
    ProtocolError where they are not whole numbers from 0, or not as many.
    """

    claimed: Ints
    real: Ints
    model: Ints
    probe: Ints

    def __post_init__(self) -> None:
        for name in ("claimed", "real", "model", "probe"):
            column = whole_numbers(getattr(self, name), name, "number names from 0, all alike")
            if column.ndim != 1 or column.shape != np.shape(self.claimed):
                raise ProtocolError(
                    f"{len(self.claimed)} claims have {name!r} of shape {column.shape}"
                )
            if column.min(initial=0) < 0:
                raise ProtocolError(f"{name!r} of a claim is {column.min()}", "number from 0")
            object.__setattr__(self, name, column)

    @property
    def genuine(self) -> Bools:
        """Whether the probe is of the person claimed, (P,)."""
        same: Bools = self.claimed == self.real
        return same


def searches(score: Floats, claims: Claims) -> SearchOutcomes | None:
    """Group the comparisons by probe; None where one meets a model twice, so that it has no rank.

    score : (P,), -inf where the comparison failed.  Mates have a score where they are first.
    ProtocolError where a probe is of two people.
    """
    if score.shape != claims.probe.shape:
        raise ProtocolError(f"{len(score)} scores have claims of shape {claims.probe.shape}")
    _, first, of = np.unique(claims.probe, return_index=True, return_inverse=True)
    genuine, who, n = claims.genuine, claims.real[first], len(first)
    if (another := np.flatnonzero(who[of] != claims.real)).size:
        raise ProtocolError(
            f"probe {claims.probe[another[0]]} is of two people", "give each of them its own"
        )
    met = np.unique(np.stack([claims.probe, claims.model]), axis=1)
    if met.shape[1] < len(score):
        return None
    mate, other = np.full(n, -np.inf), np.full(n, -np.inf)
    np.maximum.at(mate, of[genuine], score[genuine])
    np.maximum.at(other, of[~genuine], score[~genuine])
    mated = np.bincount(of[genuine], minlength=n) > 0
    above = np.bincount(of[~genuine & (score > mate[of])], minlength=n)
    rank = np.where(np.isfinite(mate), above + 1, 0)
    return SearchOutcomes(
        rank=rank[mated],
        rank_subject=who[mated],
        mate_score=np.where(rank == 1, mate, -np.inf)[mated],
        mate_subject=who[mated],
        nonmate_score=other[~mated],
        nonmate_subject=who[~mated],
    )


def outcomes(score: Floats, claims: Claims, found: SearchOutcomes | None) -> SetOutcomes:
    """Keep every comparison, with the person on each side, and the searches that they make."""
    genuine = claims.genuine
    return SetOutcomes(
        genuine_score=score[genuine],
        genuine_subject=claims.real[genuine],
        impostor_score=score[~genuine],
        impostor_left=claims.claimed[~genuine],
        impostor_right=claims.real[~genuine],
        impostor_place=np.flatnonzero(~genuine),
        impostors=int(np.count_nonzero(~genuine)),
        searches=found,
    )


def measures(
    found: SearchOutcomes, threshold: Thresholds = None, fpirs: Sequence[str] = FPIRS
) -> dict[str, Estimate]:
    """Rank-k, and of an open set TPIR at each FPIR and the errors at thresholds, by name."""
    rank = found.rank
    measured = {f"rank-{k}": rank_within(rank, k) for k in RANKS}
    mate, nonmate = found.mate_score, found.nonmate_score
    if mate is None or nonmate is None or not len(nonmate):
        return measured
    measured |= {f"tpir@fpir={x}": dir_at_fpir(mate, rank, nonmate, x) for x in fpirs}
    for t in given_thresholds(threshold):
        measured |= errors_at(mate, rank, nonmate, t)
    return measured


def cmc_columns(found: SearchOutcomes) -> dict[str, list[float]]:
    """Columns of the CMC picture, up to the highest of RANKS."""
    rates = cmc(found.rank, max(RANKS)).tolist() if len(found.rank) else []
    return {"rank": list(range(1, len(rates) + 1)), "rate": rates}
