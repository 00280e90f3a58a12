"""People: a labelled set of one's own, verified all against all, and searched.

How good is a model on these people, and where is the threshold to deploy?  Verification compares
every unordered pair of images of the known people.  Identification enrols some images of each and
searches with the others: ranks of the known, and at a fixed FPIR the share of them that is found,
the false alarms being searches with people who are not enrolled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import array, identities, vectors, whole_number
from evalkit.errors import ProtocolError
from evalkit.identity import Names, key_count, names_of, numbered, of_rows
from evalkit.protocols import allpairs
from evalkit.protocols.all_vs_all import curves_of, rows_by_key
from evalkit.protocols.at_threshold import errors_of_sets, false_accepts
from evalkit.protocols.failures import count_failures_of_sets
from evalkit.protocols.groups import By, ComparedRows, refuse_other_rows, with_groups
from evalkit.protocols.metrics import (
    cmc,
    dir_at_fpir,
    false_accepts_allowed,
    rank_within,
    rate_texts,
    search_errors_at,
)
from evalkit.protocols.metrics.curves import METRICS
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.metrics.operating_point import Rates, Thresholds, given_thresholds
from evalkit.protocols.search import Enrolment, fnir_by_size, ranks, templates
from evalkit.protocols.subject_means import with_subject_means
from evalkit.protocols.uncertainty.from_sets import (
    LONGEST_TAIL,
    numbered_people,
    set_outcomes,
    tail_length,
)
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, SetOutcomes, open_set, to_arrays
from evalkit.types import Bools, Estimate, Floats, Ints, Progress, Report

NAME = "people"
VERSION = 1
FARS = ("1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6", "1e-7")
FPIRS = ("1e-1", "1e-2")
RANKS = (1, 5)
DEPTH = 10  # of the CMC
_EVERY = "0.5"  # a FAR that needs all impostor pairs, for AUC and EER


def evaluate(
    features: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    *,
    unknown: ArrayLike | None = None,
    enrolled: ArrayLike | None = None,
    template: Enrolment = "max",
    fars: Rates | None = None,
    threshold: Thresholds = None,
    sizes: Sequence[int] = (),
    groups: Sequence[By] = (),
    curves: bool = True,
    longest: int = LONGEST_TAIL,
    flip: Flip = "none",
    seed: int = 0,
    progress: Progress | None = None,
    engine: allpairs.Engine | None = None,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Verify and identify the people of (N, D) or (N, V, D) features.

    subject : (N,) identity of each row, -1 = unlabelled, searched with as an unknown.
    unknown : (N,) bool, rows of people who are not enrolled: none of their pairs counts.
    enrolled : (N,) bool, rows that are enrolled; else the first image of each known subject, by
    key where there are keys, else by row.  template : what a search compares with of several
    images of a subject: the best of their scores, or the unit mean of their unit vectors.
    fars : else those of `FARS` that allow an accept.
    Metrics: tpr@far=x, auc, eer over all pairs of the known; rank-1, rank-5 of their images that
    are not enrolled; tpir@fpir=x with unknowns.  A failed row (not finite) lowers each and never
    raises FAR.  Beyond 2,000,000 impostor pairs, AUC and EER are of 500,000 of them at random, as
    their notes say.  Intervals are by subject.
    threshold : one or several, chosen elsewhere: adds FMR and FNMR there, and with unknowns FPIR,
    FNIR and TPIR.
    sizes : numbers of people enrolled: adds FNIR(N, R, T) of galleries drawn (`fnir_by_size`).
    groups : columns of groups or conditions: adds error rates of the known by group
    (`with_groups`).
    curves : False leaves out histogram and CMC, for which every pair is compared once more.
    flip, seed, progress, engine, keys, images, set_name : see `catalogue.Protocol`.
    ProtocolError where the arrays do not fit together, or no subject has two images.
    """
    engine = allpairs.reporting(engine, progress)
    seed, longest = whole_number(seed, "seed"), whole_number(longest, "longest", least=1)
    features = vectors(features)
    refuse_other_rows(groups, len(features))
    x = engine.unit_rows(features, flip)
    subject = identities(subject, len(x))
    stranger = _mask(unknown, len(x), "unknown") | (subject < 0)
    known = np.flatnonzero(~stranger)
    who = subject[known]
    if np.unique(who, return_counts=True)[1].max(initial=0) < 2:
        raise ProtocolError(
            "no subject has two images, so no pair is genuine",
            "a subject is whom an image shows, not the image's own name",
        )
    chosen = _enrolled(subject, stranger, enrolled, keys)
    columns: dict[str, Any] = {
        "subject": numbered(subject),
        "unknown": stranger.astype(np.int8),
        "enrolled": chosen,
    }
    identity = of_rows(columns, len(x), keys=keys, images=images, set_name=set_name)
    searches = _search(x, subject, stranger, chosen, template, sizes, seed, engine)
    of_known = x.take(known, axis=0)
    pairs, outcomes = _verified(of_known, who, fars, longest, engine)
    thresholds = given_thresholds(threshold)
    measured = with_subject_means(pairs, outcomes) | searches.metrics(thresholds) | searches.by_size
    outcomes = searches.kept(outcomes, subject, known)
    counts = false_accepts(thresholds, of_known, who, engine=engine)
    measured |= errors_of_sets(thresholds, counts, outcomes)
    if keys is not None and key_count(keys) == len(x):
        outcomes = replace(outcomes, keys=np.array(names_of(keys, known.tolist())))
    lost = allpairs.lost_rows(of_known)
    report = Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=with_intervals(measured, outcomes, seed=seed),
        failures=count_failures_of_sets(lost, who),
        provenance={
            "images": len(known),
            "subjects": len(np.unique(who)),
            "unknown": int(stranger.sum()),
            "enrolled": "first image of each subject" if enrolled is None else len(chosen),
            "template": template,
            "flip": flip,
        },
        curves=curves_of(of_known, who, cmc(searches.rank, DEPTH), engine) if curves else {},
        outcomes=to_arrays(outcomes),
        identity=identity,
    )
    side = ComparedRows(row=known, person=numbered_people(who)[0], lost=lost, total=len(x))
    return with_groups(report, outcomes, groups, sides=[side], seed=seed)


def _mask(given: ArrayLike | None, rows: int, name: str) -> Bools:
    mask = np.zeros(rows, bool) if given is None else array(given, name)
    if mask.shape != (rows,) or mask.dtype != bool:
        raise ProtocolError(
            f"{name} is {mask.dtype} of shape {mask.shape}", f"expected ({rows},) booleans"
        )
    return mask


def _enrolled(
    subject: Ints, stranger: Bools, enrolled: ArrayLike | None, keys: Names | None
) -> NDArray[np.int64]:
    """Rows that are enrolled; the first of each known subject where nobody says which."""
    if enrolled is not None:
        chosen = _mask(enrolled, len(subject), "enrolled")
        if (chosen & stranger).any():
            raise ProtocolError(
                f"row {np.flatnonzero(chosen & stranger)[0]} is both unknown and enrolled"
            )
        return np.flatnonzero(chosen)
    order = rows_by_key(keys, len(subject))
    rows = np.arange(len(subject)) if order is None else order
    known = rows[~stranger[rows]]
    return np.sort(known[np.unique(subject[known], return_index=True)[1]])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Searches:
    """Searches with the known who are not enrolled, and with the unknown.

    row, rank, mate : (Q,) of the known: row of the probe, rank of its subject among the subjects
    enrolled, 0 = failed or not enrolled, and its score.  stranger, best : (R,) of the unknown.
    by_size : FNIR of galleries drawn.
    """

    row: Ints
    rank: Ints
    mate: Floats
    stranger: Ints
    best: Floats
    by_size: dict[str, Estimate]

    def metrics(self, thresholds: Sequence[float] = ()) -> dict[str, Estimate]:
        """Rank-k, and TPIR@FPIR and the errors at thresholds where there are unknowns."""
        estimates = {f"rank-{k}": rank_within(self.rank, k) for k in RANKS}
        if len(self.stranger):
            for x in FPIRS:
                estimates[f"tpir@fpir={x}"] = dir_at_fpir(self.mate, self.rank, self.best, x)
            for t in thresholds:
                estimates |= search_errors_at(self.mate, self.rank, self.best, t)
        return estimates

    def kept(self, outcomes: SetOutcomes, subject: Ints, known: Ints) -> SetOutcomes:
        """Put the searches beside the outcomes of the pairs; unknowns are people of their own."""
        people, who = np.unique(subject[known], return_inverse=True)
        of_row = np.full(len(subject), -1)
        of_row[known] = who
        named = np.where(subject < 0, -1 - np.arange(len(subject)), subject)[self.stranger]
        others, stranger = np.unique(named, return_inverse=True)
        mates = of_row[self.row]
        searches = SearchOutcomes(rank=self.rank, rank_subject=mates)
        if len(self.stranger):
            searches = open_set(self.rank, self.mate, mates, self.best, len(people) + stranger)
        nobody = np.zeros(len(others), np.int64)
        left, right = outcomes.left_images, outcomes.right_images
        if left is None or right is None:
            raise ProtocolError("pairs of a set come with the images of each subject")
        return replace(
            outcomes,
            left_images=np.append(left, nobody),
            right_images=np.append(right, nobody),
            searches=searches,
        )


def _search(
    x: allpairs.Rows,
    subject: Ints,
    stranger: Bools,
    enrolled: NDArray[np.int64],
    template: Enrolment,
    sizes: Sequence[int],
    seed: int,
    engine: allpairs.Engine | None,
) -> _Searches:
    """Search the templates with every other image."""
    if template not in ("max", "mean"):
        raise ProtocolError(f"no template {template!r}", "expected max or mean")
    gallery, of = templates(x.take(enrolled, axis=0), subject[enrolled], template)
    probe = np.setdiff1d(np.flatnonzero(~stranger), enrolled)
    others = np.flatnonzero(stranger)
    known, unknown = x.take(probe, axis=0), x.take(others, axis=0)
    best = np.empty(0)
    if len(others):
        best = allpairs.search(unknown, gallery, engine=engine).score[:, 0]
    rank, mate = ranks(known, subject[probe], gallery, of, DEPTH, engine)
    how: Any = {"sizes": sizes, "depths": RANKS, "fpirs": FPIRS, "seed": seed, "engine": engine}
    by_size = fnir_by_size(known, subject[probe], unknown, gallery, of, **how)
    return _Searches(row=probe, rank=rank, mate=mate, stranger=others, best=best, by_size=by_size)


def _verified(
    x: allpairs.Rows,
    subject: Ints,
    fars: Rates | None,
    longest: int,
    engine: allpairs.Engine | None,
) -> tuple[dict[str, Estimate], SetOutcomes]:
    """Compare every two rows: TPR@FAR, AUC and EER, and the outcomes."""
    impostors = len(x) * (len(x) - 1) // 2 - allpairs.count_genuine(subject)
    supported = [far for far in FARS if false_accepts_allowed(far, impostors)]
    rates = supported if fars is None else rate_texts(fars)
    needed = [*rates, _EVERY]
    tail = tail_length(needed, impostors, longest)
    seen = allpairs.verify(x, subject, fars=rates, count=tail, engine=engine)
    estimates = {f"tpr@far={far}": m for far, m in seen.points.items()}
    outcomes = set_outcomes(x, subject, fars=needed, top=seen.top, longest=longest, engine=engine)
    score, note = outcomes.impostor_score, ""
    if outcomes.sampled_score is not None:
        score = outcomes.sampled_score
        note = f"of {len(score):,} of {impostors:,} impostor pairs, at random"
    elif len(score) < impostors:  # failed rows are never in the tail
        score = np.append(score, np.full(impostors - len(score), -np.inf))
        note = "no interval: pairs of images without a template cannot be drawn"
    for metric in METRICS:
        if metric.of_scores is not None:
            m = metric.of_scores(outcomes.genuine_score, score)
            estimates[metric.grammar] = replace(m, note="; ".join(n for n in (m.note, note) if n))
    return estimates, outcomes
