"""Trillion pairs: 274,000 images of 5,700 celebrities against 1.58 million faces of nobody.

DeepGlint's challenge (2018): 4.3e11 impostor pairs.  Its identities were never published, so the
numbers are "in its style", on labelled sets of one's own.  Genuine are the unordered probe pairs of
a subject, impostors all probes x all distractors.

Identification was printed as "TPR@FPR=1e-3", and its definition is lost: `tpir@fpir=1e-3`, over the
ordered genuine pairs, and `tpr@far=1e-3` are both readings of it (docs/protocols/trillion.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities, vectors, whole_number
from evalkit.errors import ProtocolError
from evalkit.identity import Names, numbered, of_rows
from evalkit.memory import give_back
from evalkit.protocols import allpairs, metrics
from evalkit.protocols.at_threshold import errors_of_sets, false_accepts, with_counts
from evalkit.protocols.failures import count_failures_of_sets
from evalkit.protocols.groups import By, ComparedRows, refuse_other_rows, with_groups
from evalkit.protocols.metrics import Rates, Thresholds, given_thresholds, rate_text, rate_texts
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.one_to_many import (
    found_first,
    fusion,
    mate_scores,
    ordered_genuine_pairs,
    tpr_by_far,
)
from evalkit.protocols.subject_means import with_subject_means
from evalkit.protocols.uncertainty.from_sets import numbered_people, set_outcomes, tail_length
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import to_arrays
from evalkit.types import Progress, Report

NAME = "trillion"
VERSION = 1
FARS = ("1e-3", "1e-6", "1e-8", "1e-9")
FPIR = "1e-3"
ONE_SET_FARS = ("1e-3", "1e-4", "1e-5")


def validate(features: NDArray[Any], subject: NDArray[np.integer[Any]]) -> None:
    """Raise ProtocolError unless the arrays fit together and hold a genuine pair."""
    if features.ndim not in (2, 3) or subject.shape != features.shape[:1]:
        raise ProtocolError(
            f"features of shape {features.shape} have subjects of shape {subject.shape}",
            "expected (N, D) or (N, V, D) and (N,), -1 for a distractor",
        )
    if np.unique(subject[subject >= 0], return_counts=True)[1].max(initial=0) < 2:
        raise ProtocolError(
            "no subject has two images, so no pair is genuine",
            "a subject is whom an image shows, not the image's own name",
        )


def evaluate(
    features: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    *,
    fars: Rates = FARS,
    fpir: str | float = FPIR,
    threshold: Thresholds = None,
    groups: Sequence[By] = (),
    flip: Flip = "none",
    seed: int = 0,
    progress: Progress | None = None,
    engine: allpairs.Engine | None = None,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Compare all probes with all distractors.

    features : (N, D) or (N, V, D), not normalised.  subject : (N,) from 0; -1 = distractor.
    groups : columns of groups or conditions, distractors included: adds error rates by group
    (`with_groups`), the first of two being the probe's.
    flip, seed, progress, engine, keys, images, set_name : see `catalogue.Protocol`.
    fars, fpir : see `metrics.rate_texts`.  threshold : one or several, chosen elsewhere: adds
    fmr, fnmr, fpir, fnir and tpir@threshold=t, by a pass of its own for each.
    ProtocolError where `validate` raises it, or without distractors.
    Metrics: tpr@far=x, tpir@fpir=1e-3, rank-1@distractors=N.  A row that is not finite has no
    template: it is never accepted, and its genuine pairs all miss.
    """
    features, seed = vectors(features), whole_number(seed, "seed")
    refuse_other_rows(groups, len(features))
    subject = identities(subject, len(features))
    validate(features, subject)
    fars, fpir = rate_texts(fars), rate_text(fpir)
    columns = {"subject": numbered(subject)}
    identity = of_rows(columns, len(features), keys=keys, images=images, set_name=set_name)
    del columns  # 8 bytes per row
    engine = allpairs.reporting(engine, progress)
    other = subject < 0
    if not other.any():
        raise ProtocolError(
            "no distractors are given",
            "without them, compare all pairs of one set: --one-set",
        )
    probe, gallery = (
        engine.unit_rows(features, flip, rows=np.flatnonzero(side)) for side in (~other, other)
    )
    who = subject[~other]
    nobody = np.broadcast_to(np.int32(-1), len(gallery))
    thresholds = given_thresholds(threshold)
    counts = false_accepts(thresholds, probe, who, gallery, nobody, engine=engine)
    reached = with_counts(fars, counts, len(probe) * len(gallery))
    result = allpairs.search(
        probe,
        gallery,
        probe_subject=who,
        gallery_subject=nobody,
        fars=fars,
        count=tail_length(reached, len(probe) * len(gallery)),
        engine=engine,
    )
    seen, best = result.verification, result.score[:, 0]
    give_back()  # the pass is over, and the pairs of one subject need its memory
    i, j = ordered_genuine_pairs(who)
    score = mate_scores(probe, probe, i, j, engine)
    once = i < j
    genuine = np.stack([i[once], j[once]], axis=1), score[once]
    first = found_first(score, best, i)
    rank, hit = first.astype(np.int8), score
    hit[~first] = -np.inf
    del j, once, first
    measured = {f"tpr@far={far}": m for far, m in tpr_by_far(genuine[1], seen).items()}
    measured[f"tpir@fpir={fpir}"] = metrics.dir_at_fpir(hit, rank, best, fpir)
    measured[f"rank-1@distractors={len(gallery)}"] = metrics.rank_within(rank, 1)
    outcomes = set_outcomes(
        probe,
        who,
        gallery,
        nobody,
        fars=reached,
        genuine=genuine,
        ranks=(rank, i),
        searches=(hit, i, best, np.arange(len(probe))),
        top=seen.top,
        engine=engine,
    )
    del i, score, genuine, result  # what the outcomes do not keep
    measured = with_subject_means(measured, outcomes)
    measured |= errors_of_sets(thresholds, counts, outcomes)
    for t in thresholds:
        measured |= metrics.search_errors_at(hit, rank, best, t)
    lost = allpairs.lost_rows(probe), allpairs.lost_rows(gallery)
    made_of = {"probes": len(probe), "subjects": len(np.unique(who)), "distractors": len(gallery)}
    pairs = len(probe) * len(gallery)
    del probe, gallery  # before people are drawn
    report = Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=with_intervals(measured, outcomes, seed=seed),
        failures=count_failures_of_sets(lost[0], who, lost[1]),
        provenance={
            **made_of,
            "impostor_pairs": pairs,
            **fusion(flip),
        },
        outcomes=to_arrays(outcomes),
        identity=identity,
    )
    if not groups:
        return report
    a, b = numbered_people(who, nobody)
    sides = (
        ComparedRows(row=np.flatnonzero(~other), person=a, lost=lost[0], total=len(features)),
        ComparedRows(row=np.flatnonzero(other), person=b, lost=lost[1], total=len(features)),
    )
    return with_groups(report, outcomes, groups, sides=sides, seed=seed)


def evaluate_one_set(
    features: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    *,
    fars: Rates = ONE_SET_FARS,
    threshold: Thresholds = None,
    groups: Sequence[By] = (),
    flip: Flip = "none",
    seed: int = 0,
    progress: Progress | None = None,
    engine: allpairs.Engine | None = None,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Compare every two rows of a labelled set; of two subjects, or -1, they are impostors.

    Arguments as `evaluate` takes them.  Metrics: tpr@far=x for each x of `fars`.
    """
    features, seed = vectors(features), whole_number(seed, "seed")
    refuse_other_rows(groups, len(features))
    subject = identities(subject, len(features))
    validate(features, subject)
    columns = {"subject": numbered(subject)}
    identity = of_rows(columns, len(features), keys=keys, images=images, set_name=set_name)
    del columns  # 8 bytes per row
    fars, engine = rate_texts(fars), allpairs.reporting(engine, progress)
    x = engine.unit_rows(features, flip)
    lost = allpairs.lost_rows(x)
    i, j = ordered_genuine_pairs(np.where(subject < 0, -1 - np.arange(len(subject)), subject))
    rows = np.stack([i, j], axis=1)[i < j]
    thresholds, impostors = given_thresholds(threshold), len(x) * (len(x) - 1) // 2 - len(rows)
    counts = false_accepts(thresholds, x, subject, engine=engine)
    reached = with_counts(fars, counts, impostors)
    tail = tail_length(reached, impostors)
    seen = allpairs.verify(x, subject, fars=fars, count=tail, engine=engine)
    genuine = allpairs.exact(x, rows[:, 0], x, rows[:, 1], engine)
    measured = {f"tpr@far={far}": m for far, m in tpr_by_far(genuine, seen).items()}
    outcomes = set_outcomes(
        x, subject, fars=reached, genuine=(rows, genuine), top=seen.top, engine=engine
    )
    measured = with_subject_means(measured, outcomes)
    measured |= errors_of_sets(thresholds, counts, outcomes)
    report = Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=with_intervals(measured, outcomes, seed=seed),
        failures=count_failures_of_sets(lost, subject),
        provenance={"images": len(x), "impostor_pairs": seen.n_impostor, **fusion(flip)},
        outcomes=to_arrays(outcomes),
        identity=identity,
    )
    if not groups:
        return report
    side = ComparedRows(
        row=np.arange(len(x)), person=numbered_people(subject)[0], lost=lost, total=len(x)
    )
    return with_groups(report, outcomes, groups, sides=[side], seed=seed)
