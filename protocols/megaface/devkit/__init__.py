"""The MegaFace devkit's own curves, bit for bit, so that a published JSON can be matched.

These are the rules of its two programs, Identification and FuseResults, with their limits; for
numbers without those limits see `evalkit.protocols.megaface`.  Source: the programs' own output
on `tests/golden` and on real features, equal in every point.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import identities
from evalkit.errors import ProtocolError
from evalkit.protocols.megaface.devkit.arithmetic import Projected, pair_scores, project, scores

__all__ = [
    "ROC_PROBES",
    "Devkit",
    "Points",
    "Projected",
    "evaluate",
    "pair_scores",
    "project",
    "roc_counts",
    "scores",
]

ROC_PROBES = 100  # FuseResults takes impostor scores from the first 100 probes of the list only
_STEP = 0.01  # a curve's next point is written when it lies this much higher
_TOP = 5  # distractors listed in matches
_TRIALS = 10  # of traditional_cmc

Points = tuple[list[int] | list[float], list[float]]


@dataclass(frozen=True, slots=True)
class Devkit:
    """What FuseResults writes: three thinned curves and the matches.

    cmc : [k], [share of ordered genuine pairs with rank <= k]; rank-1 is k = 0.
    roc : [FAR], [TPR].  traditional_cmc : as cmc, over random galleries.
    matches : an object per probe, with its five best distractors and the ranks of its mates.
    """

    cmc: Points
    roc: Points
    traditional_cmc: Points
    matches: list[dict[str, Any]]

    def curves(self) -> dict[str, Points]:
        """Give the object that the devkit's cmc_*.json holds."""
        return {"cmc": self.cmc, "roc": self.roc, "traditional_cmc": self.traditional_cmc}


def evaluate(
    probe: Projected,
    subject: NDArray[np.integer[Any]],
    distractor: Projected,
    *,
    block: int = 4096,
    threads: int = 1,
) -> Devkit:
    """Compute all that the devkit reports, streaming over the distractors.

    probe, distractor : see `project`.  subject : (P,) integers, numbered in the byte order of the
    subjects' names (traditional_cmc draws its galleries in that order).
    Memory: P^2 and threads * 64 * block scores.
    """
    subject = identities(subject, len(probe))
    own = scores(probe, probe)
    mate = np.equal.outer(subject, subject)
    np.fill_diagonal(mate, False)
    i, j = np.nonzero(mate)
    if not len(i):
        raise ProtocolError("no subject has two probes, so no pair is genuine")
    genuine = np.sort(own[np.triu(mate)])
    trial_row, place, trial_threshold = random_galleries(own, subject)
    row = np.concatenate([i, trial_row])
    threshold = np.concatenate([own[i, j], trial_threshold])
    above, over_genuine, top = _scan(probe, distractor, row, threshold, genuine, block, threads)
    rank, trial_rank = above[: len(i)], place + above[len(i) :]
    impostors = min(ROC_PROBES, len(probe)) * len(distractor)
    return Devkit(
        cmc=_cmc(rank, len(distractor)),
        roc=_roc(over_genuine, impostors),
        traditional_cmc=_traditional_cmc(trial_rank, len(distractor) + len(np.unique(subject))),
        matches=_matches(mate, rank, top),
    )


def _scan(
    probe: Projected,
    distractor: Projected,
    row: NDArray[np.integer[Any]],
    threshold: NDArray[np.float32],
    genuine: NDArray[np.float32],
    block: int,
    threads: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[tuple[NDArray[Any], NDArray[Any]]]]:
    """Count, for query q, the distractors scoring above threshold[q] with probe row[q].

    Also, for every genuine score, the impostors above it among the first `ROC_PROBES` probes;
    and every probe's best distractors (index, score), of equal scores the later one first.
    """
    above = np.zeros(len(row), np.int64)
    order = np.argsort(row, kind="stable")
    first = np.searchsorted(row[order], np.arange(len(probe) + 1))
    over = np.zeros((len(range(0, len(probe), 64)), len(genuine)), np.int64)
    top: list[tuple[NDArray[Any], NDArray[Any]]]
    top = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(probe)

    def tile(work: tuple[int, int]) -> None:
        p, d = work
        s = scores(probe[p : p + 64], distractor[d : d + block])
        for r, row in enumerate(s, start=p):
            top[r] = _best(top[r], np.arange(d, d + len(row)), row)
            row.sort()
            q = order[first[r] : first[r + 1]]
            above[q] += len(row) - np.searchsorted(row, threshold[q], "right")
            if r < ROC_PROBES:
                over[p // 64] += len(row) - np.searchsorted(row, genuine, "right")

    def column(d: int) -> Iterator[tuple[int, int]]:
        return ((p, d) for p in range(0, len(probe), 64))

    with ThreadPoolExecutor(threads) as pool:
        for d in range(0, len(distractor), block):  # a probe's tiles follow each other
            list(pool.map(tile, column(d)))
    return above, over.sum(axis=0), top


def _best(
    top: tuple[NDArray[Any], NDArray[Any]], index: NDArray[Any], score: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    if len(score) > _TOP:
        keep = score >= np.partition(score, -_TOP)[-_TOP]
        index, score = index[keep], score[keep]
    index, score = np.concatenate([top[0], index]), np.concatenate([top[1], score])
    order = np.lexsort((index, score))[: -_TOP - 1 : -1]
    return index[order], score[order]


def _cmc(rank: NDArray[np.int64], distractors: int) -> Points:
    """Share of ordered genuine pairs with rank <= k, for k = 0 ... distractors."""
    at = np.unique(np.append(rank, [0, distractors]))
    value = _count_up_to(rank, at).astype(np.float32) / np.float32(len(rank))
    keep = _thin(value, equal=True)
    return at[keep].tolist(), value[keep].tolist()


def _roc(above: NDArray[np.int64], impostors: int) -> Points:
    """TPR with k false accepts, k = 0 ... impostors: genuine scores with at most k above them."""
    at, tpr = roc_counts(above, impostors)
    return (at.astype(np.float32) / np.float32(max(impostors, 1))).tolist(), tpr.tolist()


def roc_counts(
    above: NDArray[np.int64], impostors: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Give the kept points of the ROC: false accepts and TPR, of impostors above each genuine."""
    at = np.unique(np.append(above, [0, impostors]))
    value = _count_up_to(above, at).astype(np.float32) / np.float32(len(above))
    keep = _thin(value)
    return at[keep], value[keep]


def _traditional_cmc(rank: NDArray[np.int64], ranks: int) -> Points:
    """Share of trials with rank <= k, k = 0 ... ranks - 1: shares summed up in float32."""
    share = np.bincount(rank, minlength=ranks).astype(np.float32) / np.float32(len(rank))
    value = np.cumsum(share, dtype=np.float32)
    keep = _thin(value)
    return keep, value[keep].tolist()


def _count_up_to(value: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.searchsorted(np.sort(value), at, "right")


def _thin(value: NDArray[np.float32], equal: bool = False) -> list[int]:
    """Keep the first point, each one more than a step above the last kept, and the last one."""
    keep = [0]
    for k in range(1, len(value)):
        rise = float(value[k] - value[keep[-1]])
        if rise > _STEP or (equal and rise == _STEP):
            keep.append(k)
    return keep if keep[-1] == len(value) - 1 else [*keep, len(value) - 1]


def _matches(
    mate: NDArray[np.bool_], rank: NDArray[np.int64], top: list[tuple[NDArray[Any], NDArray[Any]]]
) -> list[dict[str, Any]]:
    """List for probe j its best distractors, and for each mate i the rank of j searched by i."""
    full = np.zeros(mate.shape, np.int64)
    full[mate] = rank
    return [
        {
            "distractors": {"idx": index.tolist(), "score": score.tolist()},
            "probes": {
                "idx": (of := np.flatnonzero(mate[:, j])).tolist(),
                "rank": full[of, j].tolist(),
            },
        }
        for j, (index, score) in enumerate(top)
    ]


def random_galleries(
    own: NDArray[np.float32], subject: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Draw ten galleries of one image per subject, as traditional_cmc does; the others search them.

    Returns for every search: the row whose distractors FuseResults counts (its loop counter, not
    the probe: a mistake that a match must repeat), the mate's place among the gallery images
    (by score, then index, both descending) and the mate's score.
    """
    members = [np.flatnonzero(subject == s) for s in np.unique(subject)]
    draw = _minstd_rand0()
    row, place, threshold = [], [], []
    for _ in range(_TRIALS):
        chosen = [_draw_below(draw, len(m)) for m in members]
        gallery = np.array([m[c] for m, c in zip(members, chosen, strict=True)])
        probe = np.concatenate([np.delete(m, c) for m, c in zip(members, chosen, strict=True)])
        column = np.repeat(np.arange(len(members)), [len(m) - 1 for m in members])
        s = own[np.ix_(probe, gallery)]
        m = s[np.arange(len(probe)), column][:, None]
        later = np.arange(len(members)) > column[:, None]
        row.append(np.arange(len(probe)))
        place.append((s > m).sum(axis=1) + ((s == m) & later).sum(axis=1))
        threshold.append(m[:, 0])
    return np.concatenate(row), np.concatenate(place), np.concatenate(threshold)


def _minstd_rand0() -> Iterator[int]:
    """C++'s std::minstd_rand0 with its default seed."""
    state = 1
    while True:
        state = state * 16807 % 2147483647
        yield state


def _draw_below(draw: Iterator[int], n: int) -> int:
    """Draw from 0 ... n-1 as libstdc++'s uniform_int_distribution does: scale down, or reject."""
    scale = 2147483645 // n
    return next(value for v in draw if (value := (v - 1) // scale) < n)
