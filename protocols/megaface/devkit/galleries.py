"""The random galleries of the MegaFace devkit's traditional_cmc, as its program draws them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TRIALS = 10  # of traditional_cmc


def random_galleries(
    own: NDArray[np.float32], subject: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Draw ten galleries of one image per subject; all other probes search them.

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
