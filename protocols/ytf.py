"""YouTube Faces: 5,000 pairs of videos in ten folds, a video being many frames of one person.

View 2 of [Wolf, Hassner, Maoz, CVPR 2011]: 250 genuine and 250 impostor pairs a fold, no person in
two folds.  What differs between papers is how two sets of frames become one score, so each way has
a name (`comparisons`); accuracy, AUC, EER and TPR are those of `verification`.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities, require, vectors, whole_number, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.identity import Names, of_rows
from evalkit.protocols import allpairs, verification
from evalkit.protocols.all_vs_all import rows_by_key
from evalkit.protocols.failures import count_failures
from evalkit.protocols.metrics import Rates, Thresholds
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.subject_means import with_subject_means
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import to_arrays
from evalkit.types import Ints, PairSet, Report

NAME = "ytf"
VERSION = 1
FARS = verification.FARS
FRAMES = 100
MEMORY = 1 << 30  # bytes; unit frames that take more than a quarter are made when they are read
COMPARISONS = ("mean-vector", "pairs-mean", "pairs-max", "pairs-top-K")
_TOP = re.compile(r"pairs-top-([1-9][0-9]{0,5})\Z")
_ROUNDOFF = 2.0**-24


def evaluate(
    features: NDArray[Any],
    video: Ints,
    pairs: PairSet,
    subject: NDArray[np.integer[Any]] | None = None,
    *,
    comparison: str = "mean-vector",
    frames: int | None = FRAMES,
    frames_seed: int = 0,
    fars: Rates = FARS,
    threshold: Thresholds = None,
    flip: Flip = "none",
    seed: int = 0,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Verify pairs of videos from the (N, D) or (N, V, D) features of their frames.

    video : (N,) the video of each row, from 0; below 0 it is of none.  pairs : of videos.
    subject : (videos,) who each shows, for intervals by subject.
    comparison : how the frames of two videos, a unit vector each, become one score.
    mean-vector: inner product of the unit mean vectors; pairs-mean, pairs-max, pairs-top-K: mean,
    highest, and mean of the K highest (of all, where there are fewer) of the scores of every frame
    of the one with every frame of the other.
    frames : of a longer video so many are taken, drawn without replacement by `frames_seed`; None
    takes all.  A frame without a vector is left out and counted; the pairs of a video with none
    left are rejected and counted.
    fars, threshold : as `verification.evaluate` takes them, whose metrics these are.
    flip, seed, keys, images, set_name : see `catalogue.Protocol`; keys decide the order of frames.
    ProtocolError where the arrays do not fit together, or no comparison is called so.
    """
    features, seed = vectors(features), whole_number(seed, "seed")
    video = whole_numbers(video, "video")
    if video.shape != features.shape[:1]:
        raise ProtocolError(f"{len(features)} frames have videos of shape {video.shape}")
    require(pairs, PairSet, "pairs", "an evalkit.PairSet(left, right, genuine) of videos")
    ends = np.union1d(pairs.left, pairs.right)
    videos = 1 + int(ends.max(initial=-1)) if subject is None else len(subject)
    verification.validate(np.empty((videos, 0)), pairs)
    subject = None if subject is None else identities(subject, videos, "videos")
    rows = drawn_frames(np.where(np.isin(video, ends), video, -1), frames, frames_seed, keys)
    fold = pairs.fold if pairs.fold is not None else verification.folds_by_position(pairs.genuine)
    columns: dict[str, Any] = {"video": video[rows], "left": pairs.left, "right": pairs.right}
    columns |= {"genuine": pairs.genuine, "fold": fold}
    identity = of_rows(columns, len(features), rows, keys=keys, images=images, set_name=set_name)
    x = allpairs.Engine(memory=MEMORY).unit_rows(features, flip, rows=rows)
    score = video_scores(x, video[rows], pairs, comparison)
    kept = verification.outcomes(score, pairs, fold, subject)
    measured = verification.measures(score, pairs.genuine, fold, fars, threshold=threshold)
    return Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=with_intervals(with_subject_means(measured, kept), kept, seed=seed),
        failures=count_failures(
            np.isneginf(score), pairs.genuine, images=int(allpairs.lost_rows(x).sum())
        ),
        provenance={
            "pairs": len(pairs),
            "videos": len(ends),
            "frames": len(rows),
            "frames a video": "all" if frames is None else f"at most {frames}, seed {frames_seed}",
            "comparison": comparison,
            "flip": flip,
            "folds": verification.FOLDS_OF_LIST
            if pairs.fold is not None
            else verification.FOLDS_BY_POSITION,
        },
        curves=verification.pictures(score, pairs.genuine),
        outcomes=to_arrays(kept),
        identity=identity,
    )


def drawn_frames(
    video: Ints, frames: int | None, frames_seed: int = 0, keys: Names | None = None
) -> NDArray[np.int64]:
    """Rows of at most so many frames of each video, by video; all rows of one where it has fewer.

    video : (N,), below 0 is left out.  The draw of a video hangs on its number, its frames in the
    order of their keys (without keys: of their rows) and the seed, on no other video.
    """
    frames = None if frames is None else whole_number(frames, "frames of a video", least=1)
    frames_seed = whole_number(frames_seed, "frames_seed")
    order = rows_by_key(keys, len(video))
    order = np.arange(len(video)) if order is None else order
    order = order[np.argsort(video[order], kind="stable")]
    order = order[video[order] >= 0]
    numbers, first = np.unique(video[order], return_index=True)
    chosen = [np.empty(0, np.int64)]
    for number, of in zip(numbers.tolist(), np.split(order, first[1:]), strict=False):
        if frames is not None and len(of) > frames:
            draw = np.random.default_rng([frames_seed, number]).permutation(len(of))[:frames]
            of = of[np.sort(draw)]
        chosen.append(of)
    return np.concatenate(chosen)


def video_scores(
    x: allpairs.Rows, video: Ints, pairs: PairSet, comparison: str = "mean-vector"
) -> NDArray[np.float64]:
    """Score each pair of videos, (P,) float64, by a named comparison of all their frames.

    x : (N, D) frames of unit length, read a video at a time; video : (N,), see `evaluate`.  -inf
    where a side has no frame that is finite.
    """
    top = _top(comparison)
    fine = np.flatnonzero(~allpairs.lost_rows(x))
    fine = fine[np.argsort(video[fine], kind="stable")]
    videos = 1 + int(np.union1d(pairs.left, pairs.right).max(initial=-1))
    ends = np.searchsorted(video[fine], np.arange(videos + 1))
    frames = [fine[a:b] for a, b in pairwise(ends.tolist())]
    there = np.diff(ends) > 0
    total = np.array([x[of].astype(np.float64).sum(axis=0) for of in frames])
    if comparison == "mean-vector":
        total[~there] = np.nan
        unit = normalise(total)
        return exact_scores(unit, pairs.left, unit, pairs.right)
    score = np.full(len(pairs), -np.inf)
    for k in np.flatnonzero(there[pairs.left] & there[pairs.right]).tolist():
        a, b = int(pairs.left[k]), int(pairs.right[k])
        if top is None:
            products = (total[a] * total[b]).tolist()
            score[k] = math.fsum(products) / (len(frames[a]) * len(frames[b]))
        else:
            highest = _highest(x[frames[a]], x[frames[b]], top)
            score[k] = math.fsum(highest.tolist()) / len(highest)
    return score


def _top(comparison: str) -> int | None:
    """How many of the highest frame pairs count; None where it is not so many of the highest."""
    if top := _TOP.match(comparison):
        return int(top[1])
    if comparison not in COMPARISONS[:3]:
        known = ", ".join(COMPARISONS)
        raise ProtocolError(f"no comparison of videos is called {comparison!r}", f"known: {known}")
    return 1 if comparison == "pairs-max" else None


def _highest(a: NDArray[np.float32], b: NDArray[np.float32], top: int) -> NDArray[np.float64]:
    """Exact scores of the `top` best pairs of rows: screened in float32, settled exactly.

    A screened score lies within `error` of the exact one, in any order of summation, so that the
    best are within twice that of the last screened one.
    """
    near = a @ b.T
    top = min(top, near.size)
    error = 1.01 * a.shape[1] * _ROUNDOFF
    bar = np.partition(near, near.size - top, axis=None)[near.size - top]
    i, j = np.nonzero(near >= bar - 2 * error)
    return np.sort(exact_scores(a, i, b, j))[::-1][:top]
