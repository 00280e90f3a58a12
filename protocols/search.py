"""Search: a gallery and probes of one's own, closed set and open set, with distractors or without.

The protocol of TinyFace, FG-NET, SCface and every list of whom to look for and with what: ranks of
the probes whose subject is enrolled, and at a fixed FPIR the share of them that is found, the false
alarms being searches with people who are not [ISO/IEC 19795-1; Phillips, Grother, Micheals 2005].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities, require, vectors, whole_number, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.identity import Names, numbered, of_rows
from evalkit.protocols import allpairs
from evalkit.protocols.failures import count_failures
from evalkit.protocols.groups import By, ComparedRows, ProbeRows, refuse_other_rows, with_groups
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
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, open_set, to_arrays
from evalkit.types import Estimate, Floats, Ints, Progress, Report

NAME = "search"
VERSION = 1
DEPTHS = (1, 5, 10)
FPIRS = ("1e-1", "1e-2")
GALLERIES = 10  # drawn of each size
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
    sizes: Sequence[int] = (),
    groups: Sequence[By] = (),
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
    sizes : numbers of people enrolled: adds FNIR(N, R, T) of galleries drawn (`fnir_by_size`).
    groups : columns of groups: adds rank-k, TPIR and FPIR by group of the probe (`with_groups`).
    flip, seed, progress, engine, keys, images, set_name : see `catalogue.Protocol`.
    ProtocolError where the arrays do not fit together, or no probe's subject is enrolled.
    """
    features, seed = vectors(features), whole_number(seed, "seed")
    refuse_other_rows(groups, len(features))
    depths, fpirs = rank_depths(depths), rate_texts(fpirs)
    subject = identities(subject, len(features))
    gallery, probe = (
        _rows(r, n, len(features)) for r, n in ((gallery, "gallery"), (probe, "probe"))
    )
    both = np.intersect1d(gallery, probe)
    if len(both):
        raise ProtocolError(f"row {both[0]} is in the gallery and among the probes")
    columns = {"subject": numbered(subject), "gallery": gallery, "probe": probe}
    identity = of_rows(columns, len(features), keys=keys, images=images, set_name=set_name)
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
    metrics |= fnir_by_size(
        *(x.take(known, axis=0), subject[known], x.take(unknown, axis=0), enrolled, of),
        sizes=sizes, depths=depths, fpirs=fpirs, images=depth is None, seed=seed, engine=engine,
    )  # fmt: skip
    outcomes = SearchOutcomes(rank=rank, rank_subject=subject[known])
    if len(unknown):
        others = alone(subject[unknown], subject)
        outcomes = open_set(rank, mate, subject[known], best, others)
    lost = allpairs.lost_rows(x)
    report = Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=with_intervals(metrics, outcomes, seed=seed),
        failures=count_failures(
            np.isneginf(np.append(mate, best)),
            np.arange(len(probe)) < len(known),
            images=int(lost[np.append(gallery, probe)].sum()),
        ),
        provenance={
            "gallery": f"{len(gallery)} images of {len(np.unique(of))}",
            "distractors": int((subject[gallery] < 0).sum()),
            "probes": {"mated": len(known), "others": len(unknown)},
            "template": template,
            "flip": flip,
        },
        outcomes=to_arrays(outcomes),
        identity=identity,
    )
    side = ComparedRows(
        row=probe, person=alone(subject[probe], subject), lost=lost[probe], total=len(features)
    )
    rows = ProbeRows(mated=known, other=unknown)
    return with_groups(report, outcomes, groups, sides=[side], probes=rows, seed=seed)


def _rows(given: Ints, name: str, count: int) -> NDArray[np.int64]:
    rows = np.unique(whole_numbers(given, name)).astype(np.int64)
    if not len(rows) or rows[0] < 0 or rows[-1] >= count:
        raise ProtocolError(f"{name!r} is empty or names a row outside 0 to {count - 1}")
    return rows


def alone(subject: Ints, among: Ints) -> NDArray[np.int64]:
    """Give everybody below 0 a number of their own, above all `among`."""
    nobody = subject < 0
    numbers = subject.astype(np.int64)
    numbers[nobody] = among.max(initial=-1) + 1 + np.arange(np.count_nonzero(nobody))
    return numbers


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
    result = allpairs.search(
        x,
        gallery,
        k=1 if depth is None else min(depth * most, len(gallery)),
        probe_subject=who,
        gallery_subject=of,
        engine=engine,
    )
    if depth is None:
        return result.mate_rank, result.mate_score
    rank = np.zeros(len(x), np.int64)
    for q in np.flatnonzero(np.isfinite(result.mate_score)):
        above = result.row[q, result.score[q] > result.mate_score[q]]
        rank[q] = 1 + len(np.unique(of[above]))
    return rank, result.mate_score


def fnir_by_size(
    known: allpairs.Rows,
    who: Ints,
    others: allpairs.Rows,
    gallery: allpairs.Rows,
    of: Ints,
    *,
    sizes: Sequence[int],
    depths: Sequence[int],
    fpirs: Rates,
    images: bool = False,
    seed: int = 0,
    engine: allpairs.Engine | None = None,
) -> dict[str, Estimate]:
    """FNIR(N, R, T) for each number N of people enrolled [Grother, Ngan, Hanaoka, NIST IR 8271].

    The share of the searches whose mate is enrolled that do not return it within rank R at or above
    threshold T.  fnir@rank=R,gallery=N is NIST's investigation, T = 0: no threshold.
    fnir@fpir=x,rank=R,gallery=N is its identification, T the lowest threshold at which at most x of
    the others' searches return anybody, chosen in each gallery.
    known, who : (Q, D) probes and whom they show.  others : (R, D) probes of nobody enrolled, the
    same in every gallery; without them there are no thresholds.  gallery, of : (G, D), (G,) as
    `templates` gives them.  images : whether a rank counts images, not people.
    Of each N below the number enrolled `GALLERIES` galleries of N people are drawn, distractors
    among them, the smaller within the larger; the value is their mean, `folds` has each, the note
    their sample deviation.  They share people, so that is no interval.  A failed probe is a miss
    and no alarm, a failed entry is never found: the lowest score.
    None where a gallery has no mate or x needs more others; ProtocolError for more than there are.
    """
    fpirs, people = rate_texts(fpirs), np.unique(of)
    rng = np.random.default_rng(seed)
    require(sizes, Sequence | np.ndarray, "sizes", "a list of numbers of people enrolled")
    sizes = [whole_number(size, "people of a gallery") for size in sizes]
    if wrong := [size for size in sizes if not 1 <= size <= len(people)]:
        raise ProtocolError(
            f"a gallery of {wrong[0]:,} people cannot be drawn", f"{len(people):,} are enrolled"
        )
    orders = [rng.permutation(people) for _ in range(GALLERIES * (len(sizes) > 0))]
    estimates: dict[str, Estimate] = {}
    for size in sizes:
        every: list[dict[str, Estimate]] = []
        for order in orders[: None if size < len(people) else 1]:
            rows, mated = (np.flatnonzero(np.isin(w, order[:size])) for w in (of, who))
            drawn, x = gallery.take(rows, axis=0), known.take(mated, axis=0)
            depth = None if images else max(depths)
            rank, mate = ranks(x, who[mated], drawn, of[rows], depth, engine)
            every.append({f"fnir@rank={k}": rank_within(rank, k) for k in depths})
            if len(others):
                best = allpairs.search(others, drawn, engine=engine).score[:, 0]
                for fpir, k in product(fpirs, depths):
                    name = f"fnir@fpir={fpir},rank={k}"
                    every[-1][name] = dir_at_fpir(mate, rank, best, fpir, k)
        for name in every[0]:
            estimates[f"{name},gallery={size}"] = _missed([m[name] for m in every], seed)
    return estimates


def _missed(found: Sequence[Estimate], seed: int) -> Estimate:
    """Mean over galleries of what is not found, of the shares that are."""
    missed = [1 - m.value for m in found if m.value is not None]
    n = round(sum(m.n for m in found) / len(found))
    if len(missed) < len(found):
        return Estimate(value=None, n=n, note=next(m.note for m in found if m.value is None))
    few = next((m.note for m in found if m.note), "")
    if len(found) == 1:
        return Estimate(value=missed[0], n=n, threshold=found[0].threshold, note=few)
    spread = 100 * float(np.std(missed, ddof=1))
    note = f"{len(found)} galleries, seed {seed}: standard deviation {spread:.2f} points"
    return Estimate(
        value=float(np.mean(missed)),
        n=n,
        folds=tuple(missed),
        note=note + (f"; one has {few}" if few else ""),
    )
