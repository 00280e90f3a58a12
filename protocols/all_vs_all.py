"""All against all: every pair of a set of images, and the search for everybody in it.

Verification compares each unordered pair of images once.  Identification enrols one image of each
subject, the first in the order of the rows' keys, or without keys of the rows, and searches with
all the others, closed set: the rank of a probe is 1 + the enrolled images of other subjects that
score strictly above its mate.  `galleries` draws others at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities, vectors, whole_number
from evalkit.identity import Names, key_count, numbered, of_rows, refuse_other_names
from evalkit.protocols import allpairs
from evalkit.protocols.at_threshold import errors_of_sets, false_accepts, with_counts
from evalkit.protocols.failures import count_failures_of_sets
from evalkit.protocols.groups import By, ComparedRows, refuse_other_rows, with_groups
from evalkit.protocols.metrics import (
    Rates,
    Thresholds,
    cmc,
    few_errors,
    given_thresholds,
    rank_within,
    rate_texts,
)
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.subject_means import with_subject_means
from evalkit.protocols.uncertainty.from_sets import numbered_people, set_outcomes, tail_length
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SetOutcomes, to_arrays
from evalkit.types import Estimate, Progress, Report

NAME = "all-vs-all"
VERSION = 1
FARS = ("1e-3", "1e-4", "1e-5", "1e-6", "1e-7")
RANKS = (1, 5, 10)


def evaluate(
    features: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    *,
    fars: Rates = FARS,
    threshold: Thresholds = None,
    galleries: int = 0,
    groups: Sequence[By] = (),
    curves: bool = True,
    flip: Flip = "none",
    seed: int = 0,
    progress: Progress | None = None,
    engine: allpairs.Engine | None = None,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Evaluate every pair of (N, D) or (N, V, D) features, and the closed-set search.

    subject : (N,) identity of each row; -1: unlabelled, in no genuine pair and not searched for.
    Metrics: tpr@far=x for each x of `fars`, rank-1, rank-5, rank-10.  A failed row (not finite)
    lowers TPR and rank, never raises FAR.  Intervals are by subject.  A number that the set cannot
    support is None with the reason.
    threshold : one or several, chosen elsewhere: adds fmr@threshold=t and fnmr@threshold=t.
    galleries : draw so many at random too, and add rank-k@gallery=drawn, the mean over them with
    its spread.
    groups : columns of groups or conditions: adds error rates by group (`with_groups`).
    curves : False leaves out histogram and CMC, for which every pair is compared once more.
    flip, seed, progress, engine, keys, images, set_name : see `catalogue.Protocol`.
    ProtocolError where the arrays do not fit together.
    """
    features, fars = vectors(features), rate_texts(fars)
    seed, galleries = whole_number(seed, "seed"), whole_number(galleries, "galleries")
    engine = allpairs.reporting(engine, progress)
    subjects = identities(subject, len(features))
    refuse_other_rows(groups, len(features))
    columns = {"subject": numbered(subjects)}
    identity = of_rows(columns, len(subjects), keys=keys, images=images, set_name=set_name)
    del columns  # 8 bytes per row
    order = rows_by_key(keys, len(subjects))
    x, subject = (
        engine.unit_rows(features, flip, rows=order),
        subjects if order is None else subjects[order],
    )
    lost = allpairs.lost_rows(x)
    thresholds = given_thresholds(threshold)
    impostors = len(x) * (len(x) - 1) // 2 - allpairs.count_genuine(subject)
    counts = false_accepts(thresholds, x, subject, engine=engine)
    reached = with_counts(fars, counts, impostors)
    tail = tail_length(reached, impostors)
    verified = allpairs.verify(x, subject, fars=fars, count=tail, engine=engine)
    points = {f"tpr@far={far}": m for far, m in verified.points.items()}
    rank, probes = closed_set_ranks(x, subject, engine)
    searched = {f"rank-{k}": rank_within(rank, k) for k in RANKS}
    outcomes = set_outcomes(
        x, subject, fars=reached, ranks=(rank, probes), top=verified.top, engine=engine
    )
    points = with_subject_means(points, outcomes)
    points |= errors_of_sets(thresholds, counts, outcomes)
    measured = with_intervals({**points, **searched}, outcomes, seed=seed)
    report = Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics={**measured, **_of_drawn_galleries(x, subject, galleries, seed, engine)},
        failures=count_failures_of_sets(lost, subject),
        provenance={
            "images": len(x),
            "genuine": verified.n_genuine,
            "impostor": verified.n_impostor,
            "flip": flip,
            "gallery": f"first image of each subject by {'row' if order is None else 'key'}",
        },
        curves=curves_of(x, subject, cmc(rank, max(RANKS)), engine) if curves else {},
        outcomes=to_arrays(outcomes if order is None else _with_rows(outcomes, order)),
        identity=identity,
    )
    rows = np.arange(len(x)) if order is None else order
    side = ComparedRows(row=rows, person=numbered_people(subject)[0], lost=lost, total=len(x))
    return with_groups(report, outcomes, groups, sides=[side], seed=seed)


def rows_by_key(keys: Names | None, rows: int) -> NDArray[np.intp] | None:
    """Rows in the order of their keys, as text; None without keys: how a gallery is enrolled."""
    refuse_other_names(keys, None, rows)
    if keys is None or not key_count(keys):
        return None
    return np.argsort(np.array([str(key) for key in keys]), kind="stable")


def _with_rows(outcomes: SetOutcomes, order: NDArray[np.intp]) -> SetOutcomes:
    """Name the rows of every pair as they were given, before they were put in order."""
    names = ("genuine_rows", "impostor_rows", "sampled_rows")
    held = {name: getattr(outcomes, name) for name in names}
    rows: dict[str, Any] = {
        name: order[pairs].astype(np.int32) for name, pairs in held.items() if pairs is not None
    }
    return replace(outcomes, **rows)


def _of_drawn_galleries(
    x: allpairs.Rows,
    subject: NDArray[np.integer[Any]],
    galleries: int,
    seed: int,
    engine: allpairs.Engine | None,
) -> dict[str, Estimate]:
    """Mean rank-k over galleries of one image a subject drawn at random; `folds` : of each."""
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(galleries):
        rank, _ = closed_set_ranks(x, subject, engine, rng.permutation(len(x)))
        drawn.append(cmc(rank, max(RANKS)))
    if not drawn or not len(rank):
        return {}
    rates = np.array(drawn)[:, np.array(RANKS) - 1]
    spread = rates.std(axis=0, ddof=1) if galleries > 1 else np.zeros(len(RANKS))
    warned = [few_errors(misses=round(n)) for n in (1 - rates.mean(axis=0)) * len(rank)]
    return {
        f"rank-{k}@gallery=drawn": Estimate(
            value=float(of.mean()),
            n=len(rank),
            folds=tuple(of.tolist()),
            note=f"{galleries} galleries, seed {seed}: standard deviation {100 * sd:.2f} points"
            + (f"; a gallery has {few}" if few else ""),
        )
        for k, of, sd, few in zip(RANKS, rates.T, spread, warned, strict=True)
    }


def closed_set_ranks(
    x: allpairs.Rows,
    subject: NDArray[np.integer[Any]],
    engine: allpairs.Engine | None = None,
    order: NDArray[np.integer[Any]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank of every probe's mate, 0 where either failed, and the probe's row: (Q,) each.

    x : (N, D) unit rows; subject : (N,); order : (N,) the rows as they are enrolled, None = as they
    stand.  The gallery is the first row of each subject, probes are its others; empty where no
    subject has two.
    """
    rows = np.arange(len(x)) if order is None else order
    known = rows[subject[rows] >= 0]
    enrolled = known[np.unique(subject[known], return_index=True)[1]]
    probes = np.setdiff1d(known, enrolled)
    if not len(probes):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    result = allpairs.search(
        x.take(probes, axis=0),
        x.take(enrolled, axis=0),
        probe_subject=subject[probes],
        gallery_subject=subject[enrolled],
        engine=engine,
    )
    return result.mate_rank, probes


def curves_of(
    x: allpairs.Rows,
    subject: NDArray[np.integer[Any]],
    share: NDArray[np.float64],
    engine: allpairs.Engine,
) -> dict[str, dict[str, list[float]]]:
    """Histogram of all pairs of unit rows, and the CMC of which `share` are the rates by rank."""
    h = allpairs.histogram(x, subject, bins=100, engine=engine)
    columns = {
        "low": h.edges[:-1],
        "high": h.edges[1:],
        "genuine": h.genuine / max(1, h.n_genuine),
        "impostor": h.impostor / max(1, h.n_impostor),
    }
    return {
        "histogram": {name: column.tolist() for name, column in columns.items()},
        "cmc": {"rank": list(range(1, len(share) + 1)), "rate": share.tolist()},
    }
