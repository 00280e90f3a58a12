"""Search: a gallery and probes of one's own, closed set and open set, with distractors or without.

The protocol of TinyFace, FG-NET, SCface and every list of whom to look for and with what: ranks of
the probes whose subject is enrolled, and at a fixed FPIR the share of them that is found, the false
alarms being searches with people who are not [ISO/IEC 19795-1; Phillips, Grother, Micheals 2005].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities, vectors, whole_number, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.identity import Names, numbered, of_rows
from evalkit.protocols import allpairs
from evalkit.protocols.failures import count_failures
from evalkit.protocols.metrics import (
    Rates,
    Thresholds,
    dir_at_fpir,
    given_thresholds,
    rank_depths,
    rank_within,
    rate_texts,
    search_errors_at,
)
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.metrics.similarity import normalise
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, to_arrays
from evalkit.types import Floats, Ints, Progress, Report

NAME = "search"
VERSION = 1
DEPTHS = (1, 5, 10)
FPIRS = ("1e-1", "1e-2")
_TOGETHER = 4096  # rows added to their means together
Enrolment = Literal["max", "mean"]


def evaluate(
    features: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    gallery: Ints,
    probe: Ints,
    *,
    template: Enrolment | Literal["image"] = "max",
    depths: Sequence[int] = DEPTHS,
    fpirs: Rates = FPIRS,
    threshold: Thresholds = None,
    flip: Flip = "none",
    seed: int = 0,
    progress: Progress | None = None,
    engine: allpairs.Engine | None = None,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Search the gallery's rows of (N, D) or (N, V, D) features with every probe's row.

    subject : (N,) identity of each row; below 0 a row of the gallery is a distractor, and one of
    the probes shows somebody who is not enrolled.  gallery, probe : rows, none in both.
    template : what a search compares with of a subject's images: "max" the best of their scores,
    "mean" the unit mean of their unit vectors; "image" each for itself, so that a rank counts
    images of others instead of people, as TinyFace's does.
    Metrics: rank-k for the k of `depths`, of the probes whose subject is enrolled; tpir@fpir=x
    where some are of others, whose searches are the false alarms.  A failed row (not finite) is
    never found and raises no alarm; a failed probe counts as a miss.  Intervals are by subject.
    threshold : one or several, chosen elsewhere: adds the errors there.
    flip, seed, progress, engine, keys, images, set_name : see `catalogue.Protocol`.
    ProtocolError where the arrays do not fit together, or no probe's subject is enrolled.
    """
    features, seed = vectors(features), whole_number(seed, "seed")
    depths, fpirs = rank_depths(depths), rate_texts(fpirs)
    subject = identities(subject, len(features))
    gallery, probe = (
        _rows(r, n, len(features)) for r, n in ((gallery, "gallery"), (probe, "probe"))
    )
    both = np.intersect1d(gallery, probe)
    if len(both):
        raise ProtocolError(f"row {both[0]} is in the gallery and among the probes")
    engine = allpairs.reporting(engine, progress)
    x = engine.unit_rows(features, flip)
    mated = np.isin(subject[probe], subject[gallery]) & (subject[probe] >= 0)
    if not mated.any():
        raise ProtocolError("no probe shows anybody in the gallery", "are both named alike?")
    known, unknown = probe[mated], probe[~mated]
    enrolled, of = templates(x.take(gallery, axis=0), subject[gallery], template)
    depth = None if template == "image" else max(depths, default=1)
    rank, mate = ranks(x.take(known, axis=0), subject[known], enrolled, of, depth, engine)
    best = np.empty(0)
    if len(unknown):
        best = allpairs.search(x.take(unknown, axis=0), enrolled, engine=engine).score[:, 0]
    metrics = {f"rank-{k}": rank_within(rank, k) for k in depths}
    if len(unknown):
        metrics |= {f"tpir@fpir={x}": dir_at_fpir(mate, rank, best, x) for x in fpirs}
        for t in given_thresholds(threshold):
            metrics |= search_errors_at(mate, rank, best, t)
    outcomes = SearchOutcomes(rank=rank, rank_subject=subject[known])
    if len(unknown):
        outcomes = replace(
            outcomes,
            mate_score=np.where(rank == 1, mate, -np.inf),
            mate_subject=subject[known],
            nonmate_score=best,
            nonmate_subject=alone(subject[unknown], subject),
        )
    return Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=with_intervals(metrics, outcomes, seed=seed),
        failures=count_failures(
            np.isneginf(np.append(mate, best)),
            np.arange(len(probe)) < len(known),
            images=int(allpairs.lost_rows(x)[np.append(gallery, probe)].sum()),
        ),
        provenance={
            "gallery": f"{len(gallery)} images of {len(np.unique(of))}",
            "distractors": int((subject[gallery] < 0).sum()),
            "probes": {"mated": len(known), "others": len(unknown)},
            "template": template,
            "flip": flip,
        },
        outcomes=to_arrays(outcomes),
        identity=of_rows(
            {"subject": numbered(subject), "gallery": gallery, "probe": probe},
            len(features),
            keys=keys,
            images=images,
            set_name=set_name,
        ),
    )


def _rows(given: Ints, name: str, count: int) -> NDArray[np.int64]:
    rows = np.unique(whole_numbers(given, name)).astype(np.int64)
    if not len(rows) or rows[0] < 0 or rows[-1] >= count:
        raise ProtocolError(f"{name!r} is empty or names a row outside 0 to {count - 1}")
    return rows


def alone(subject: Ints, among: Ints) -> NDArray[np.int64]:
    """Give everybody below 0 a number of their own, above all `among`."""
    nobody = subject < 0
    made = subject.astype(np.int64)
    made[nobody] = among.max(initial=-1) + 1 + np.arange(np.count_nonzero(nobody))
    return made


def templates(
    gallery: allpairs.Rows, of: Ints, template: Enrolment | Literal["image"]
) -> tuple[allpairs.Rows, NDArray[np.int64]]:
    """Give what is enrolled of (G, D) unit vectors, and whom each entry is of.

    of : (G,) subjects; below 0 each is somebody else.  "mean": one entry per subject, NaN where
    none of the images has a vector; else an entry per image.
    """
    of = alone(of, of)
    if template in ("max", "image"):
        return gallery, of
    if template != "mean":
        raise ProtocolError(f"no template {template!r}", "expected image, max or mean")
    people, place = np.unique(of, return_inverse=True)
    total = np.zeros((len(people), gallery.shape[1]))
    fine = np.flatnonzero(~allpairs.lost_rows(gallery))
    for o in range(0, len(fine), _TOGETHER):
        rows = fine[o : o + _TOGETHER]
        np.add.at(total, place[rows], gallery[rows])
    total[np.bincount(place[fine], minlength=len(people)) == 0] = np.nan
    return normalise(total), people


def ranks(
    x: allpairs.Rows,
    who: Ints,
    gallery: allpairs.Rows,
    of: Ints,
    depth: int | None,
    engine: allpairs.Engine | None,
) -> tuple[NDArray[np.int64], Floats]:
    """Rank of each probe's subject, and its best score; 0 where it has none.

    1 + the other subjects of whom an entry scores strictly above it, exact up to `depth`: of so
    many best subjects at least one entry each is among as many entries as they have at most.
    Without depth 1 + the entries of other subjects, all of them.
    """
    if not len(x):
        return np.empty(0, np.int64), np.empty(0)
    most = int(np.unique(of, return_counts=True)[1].max())
    found = allpairs.search(
        x,
        gallery,
        k=1 if depth is None else min(depth * most, len(gallery)),
        probe_subject=who,
        gallery_subject=of,
        engine=engine,
    )
    if found.mate_score is None or found.mate_above is None:
        raise ProtocolError("a search without subjects has no ranks")
    if depth is None:
        return np.where(np.isfinite(found.mate_score), found.mate_above + 1, 0), found.mate_score
    rank = np.zeros(len(x), np.int64)
    for q in np.flatnonzero(np.isfinite(found.mate_score)):
        above = found.row[q, found.score[q] > found.mate_score[q]]
        rank[q] = 1 + len(np.unique(of[above]))
    return rank, found.mate_score
