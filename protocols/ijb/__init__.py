"""IJB-B and IJB-C: faces in templates of many images, compared and searched for.

A template is one person in a set of stills and video frames; its images are pooled to one vector.
1:1 compares listed pairs of templates (IJB-C: 19,557 genuine, 15,638,932 impostor).  1:N searches
with each probe template in two galleries that share no subject; a probe whose subject is in one is
an impostor search in the other [Whitelam et al., CVPRW 2017; Maze et al., ICB 2018].

The pooling is that of InsightFace's scripts, each switch of them named in `Pooling`.  Numbers are
by the at-most rule; the scripts take the nearest FAR (`compat.nearest_fars`) and, in 1:N, their own
threshold (`insightface_tpir`), which evaluations give beside it where asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import require, whole_number
from evalkit.errors import ProtocolError
from evalkit.identity import Names, of_rows
from evalkit.protocols import allpairs, metrics
from evalkit.protocols.at_threshold import errors_of_sets, with_counts
from evalkit.protocols.failures import count_failures
from evalkit.protocols.groups import By, ComparedRows, ProbeRows, refuse_other_rows, with_groups
from evalkit.protocols.groups.searches import mean_of_galleries
from evalkit.protocols.ijb import pair_scores
from evalkit.protocols.ijb.templates import Enrolled, Pooling, Templates, of_templates, pool
from evalkit.protocols.metrics import Rates, Thresholds, compat, rate_texts
from evalkit.protocols.metrics.similarity import failed
from evalkit.protocols.subject_means import with_subject_means
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, open_set, to_arrays
from evalkit.types import Estimate, Ints, PairSet, Progress, Report

__all__ = [
    "DEPTHS",
    "FARS",
    "FPIRS",
    "NAME",
    "VERSION",
    "Enrolled",
    "Pooling",
    "Templates",
    "evaluate",
    "identify",
    "insightface_tpir",
    "of_templates",
    "pool",
    "verify",
]

NAME = "ijb"
VERSION = 1
FARS = ("1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6")
FPIRS = ("1e-1", "1e-2")
DEPTHS = (1, 5, 10)


def evaluate(
    templates: Templates,
    pairs: PairSet | None = None,
    *,
    galleries: Sequence[Enrolled] = (),
    probe: Enrolled | None = None,
    fars: Rates = FARS,
    fpirs: Rates = FPIRS,
    threshold: Thresholds = None,
    groups: Sequence[By] = (),
    depths: Sequence[int] = DEPTHS,
    insightface: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    engine: allpairs.Engine | None = None,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Compare pairs of templates, as `verify` does, or search galleries, as `identify` does.

    templates : as `pool` makes them.  pairs : of template ids, for 1:1.  galleries, probe : for
    1:N.  insightface : adds the numbers by the rules of InsightFace's scripts.
    groups : columns of groups or conditions of the templates (`of_templates`): adds error rates by
    group (`with_groups`), in 1:N by group of the probe.
    seed, progress, engine, keys, images, set_name : see `catalogue.Protocol`, and `verify`.
    ProtocolError unless one of the two is asked for, and as both raise it.
    """
    both: Any = {"threshold": threshold, "groups": groups, "seed": seed}
    both |= {"keys": keys, "images": images, "set_name": set_name}
    if pairs is not None and probe is None and not galleries:
        listed = pairs.left, pairs.right, pairs.genuine
        return verify(templates, *listed, fars=fars, nearest=insightface, **both)
    if pairs is None and probe is not None and galleries:
        both |= {"depths": depths, "fpirs": fpirs, "insightface": insightface}
        return identify(templates, galleries, probe, progress=progress, engine=engine, **both)
    raise ProtocolError(
        "IJB compares pairs or searches galleries, and one of the two is to be given",
        "pairs for 1:1; galleries=[...] and probe=... for 1:N",
    )


def verify(
    templates: Templates,
    left: Ints,
    right: Ints,
    genuine: NDArray[np.bool_],
    *,
    fars: Rates = FARS,
    threshold: Thresholds = None,
    nearest: bool = False,
    groups: Sequence[By] = (),
    seed: int = 0,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Compare listed pairs of templates: ids left and right, (P,); genuine, (P,) bool.

    templates : as `pool` makes them; a pair of one without a vector is rejected and counted.
    fars : see `metrics.rate_texts`.  ProtocolError names a template that has no images.
    seed, keys, images, set_name : see `catalogue.Protocol`; of the images in the order in which
    they were pooled.
    threshold : one or several, chosen elsewhere: adds the errors there (`metrics.errors_at`).
    groups : see `evaluate`.
    Metrics: tpr@far=x; with `nearest` also tpr@far=x,rule=nearest-far, the rule of InsightFace's
    scripts, on impostor scores in float32 (theirs are float64, so a pair at the border may swap).
    """
    pairs = PairSet(templates.rows(left), templates.rows(right), genuine)
    genuine, fars, seed = pairs.genuine, rate_texts(fars), whole_number(seed, "seed")
    columns: dict[str, Any] = {
        "templates": [templates.pooled],
        "left": pairs.left,
        "right": pairs.right,
        "genuine": genuine,
    }
    identity = of_rows(
        columns, templates.images or len(templates.ids), keys=keys, images=images, set_name=set_name
    )
    # That rule's numbers are screened scores, whose bits are those of one way to sum.
    scored = pair_scores.screen(templates.vectors, pairs, by_pair=nearest)
    estimates = {f"tpr@far={far}": pair_scores.tpr_at_far(scored, far) for far in fars}
    if nearest:
        beside = compat.nearest_fars(scored.genuine, scored.impostor, fars)
        estimates |= {f"tpr@far={far},rule=nearest-far": m for far, m in beside.items()}
    thresholds = metrics.given_thresholds(threshold)
    counts = [pair_scores.false_accepts(scored, t) for t in thresholds]
    reached = with_counts(fars, counts, len(scored.impostor))
    outcomes = pair_scores.outcomes(scored, pairs, reached)
    estimates |= errors_of_sets(thresholds, counts, outcomes)
    lost = failed(templates.vectors)
    del scored  # what the outcomes do not keep goes before people are drawn
    report = Report(
        protocol=f"{NAME}-1:1",
        protocol_version=VERSION,
        metrics=with_intervals(with_subject_means(estimates, outcomes), outcomes, seed=seed),
        failures=count_failures(
            lost[pairs.left] | lost[pairs.right], genuine, images=templates.failed_images
        ),
        provenance={"templates": len(templates.ids), "pairs": len(pairs)},
        outcomes=to_arrays(outcomes),
        identity=identity,
    )
    if not groups:
        return report
    refuse_other_rows(groups, len(templates.ids), "templates")
    rows = np.unique(np.append(pairs.left, pairs.right))
    side = ComparedRows(row=rows, person=pair_scores.people_of(pairs)[rows], lost=lost[rows])
    return with_groups(report, outcomes, groups, sides=[side], listed=pairs, seed=seed)


def identify(
    templates: Templates,
    galleries: Sequence[Enrolled],
    probe: Enrolled,
    *,
    depths: Sequence[int] = DEPTHS,
    fpirs: Rates = FPIRS,
    threshold: Thresholds = None,
    insightface: bool = False,
    groups: Sequence[By] = (),
    seed: int = 0,
    progress: Progress | None = None,
    engine: allpairs.Engine | None = None,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Search with every probe template in every gallery.

    templates : as `pool` makes them.  fpirs : see `metrics.rate_texts`; depths : the k of rank-k.
    ProtocolError without a gallery, for a subject in two, and for a template without images.
    Metrics: rank-k = probes whose mate has fewer than k entries of other subjects scoring above
    it, over all searches that have a mate; tpir@fpir=x = mean over the galleries of
    `metrics.dir_at_fpir` (each gallery's own in `folds`), FPIR over the probes without a mate in
    that gallery.  Failures are searches: with a mate, where probe or mate have no vector; without.
    threshold : one or several, chosen elsewhere: adds the mean over the galleries of the errors
    there (`metrics.search_errors_at`).  insightface : adds tpir@fpir=x,rule=insightface.
    groups : see `evaluate`.
    seed, progress, engine, keys, images, set_name : see `catalogue.Protocol`, and `verify`.
    """
    fpirs, engine = rate_texts(fpirs), allpairs.reporting(engine, progress)
    seed, depths = whole_number(seed, "seed"), metrics.rank_depths(depths)
    require(galleries, Sequence, "galleries", "a list of evalkit.protocols.ijb.Enrolled")
    if not galleries:
        raise ProtocolError("no gallery is given")
    for side in (*galleries, probe):
        require(side, Enrolled, "a gallery or probe", "evalkit.protocols.ijb.Enrolled")
    enrolled, times = np.unique(
        np.concatenate([np.unique(g.subject) for g in galleries]), return_counts=True
    )
    if times.max(initial=0) > 1:
        raise ProtocolError(
            f"subject {enrolled[times > 1][0]} is enrolled in {times.max()} galleries",
            "they share no subject; was one given twice?",
        )
    columns: dict[str, Any] = {
        "templates": [templates.pooled],
        **{
            f"{k} {name}": getattr(each, name)
            for k, each in enumerate([probe, *galleries])
            for name in ("template", "subject")
        },
    }
    identity = of_rows(
        columns, templates.images or len(templates.ids), keys=keys, images=images, set_name=set_name
    )
    people = np.unique(np.concatenate([enrolled, probe.subject]))  # any ids, below 0 too
    rows = templates.rows(probe.template)
    x = templates.vectors[rows]
    searched: list[_Found] = []
    by_fpir: dict[str, list[Estimate]] = {}
    at_threshold: dict[str, list[Estimate]] = {}
    for gallery in galleries:
        y = templates.vectors[templates.rows(gallery.template)]
        who, mates = (np.searchsorted(people, e.subject) for e in (probe, gallery))
        search = _search(x, y, who, mates, engine)
        searched.append(search)
        for t in metrics.given_thresholds(threshold):
            at = metrics.search_errors_at(search.mate, search.rank, search.nonmate, t)
            for name, m in at.items():
                at_threshold.setdefault(name, []).append(m)
        for fpir in fpirs:
            by_fpir.setdefault(f"tpir@fpir={fpir}", []).append(
                metrics.dir_at_fpir(search.mate, search.rank, search.nonmate, fpir)
            )
            if insightface:
                by_fpir.setdefault(f"tpir@fpir={fpir},rule=insightface", []).append(
                    insightface_tpir(search.mate, search.impostor, search.nonmate, fpir)
                )
    rank = np.concatenate([search.rank for search in searched])
    measured = {f"rank-{k}": metrics.rank_within(rank, k) for k in depths}
    measured |= {name: mean_of_galleries(of) for name, of in by_fpir.items()}
    measured |= {
        name: replace(mean_of_galleries(of), threshold=of[0].threshold)
        for name, of in at_threshold.items()
    }
    outcomes = _outcomes(searched)
    score = np.concatenate([f.mate for f in searched] + [f.nonmate for f in searched])
    mated = np.arange(len(score)) < len(rank)
    report = Report(
        protocol=f"{NAME}-1:N",
        protocol_version=VERSION,
        metrics=with_intervals(measured, outcomes, seed=seed) if len(rank) else measured,
        failures=count_failures(np.isneginf(score), mated, images=templates.failed_images),
        provenance={"probes": len(x), "galleries": [len(g.template) for g in galleries]},
        outcomes=to_arrays(outcomes),
        identity=identity,
    )
    refuse_other_rows(groups, len(templates.ids), "templates")
    compared = ComparedRows(row=rows, person=probe.subject, lost=failed(x))
    probes = ProbeRows(
        mated=rows[np.concatenate([f.mated for f in searched])],
        other=rows[np.concatenate([f.other for f in searched])],
    )
    return with_groups(report, outcomes, groups, sides=[compared], probes=probes, seed=seed)


@dataclass(frozen=True, slots=True)
class _Found:
    """One gallery's searches.

    mate, impostor, rank : of probes with a mate, its score, the best other's, the mate's rank.
    nonmate : the best score of each probe without one.  subject, other_subject : of both kinds.
    mated, other : their places among the probes.
    """

    mate: NDArray[np.float64]
    impostor: NDArray[np.float64]
    rank: NDArray[np.int64]
    nonmate: NDArray[np.float64]
    subject: Ints
    other_subject: Ints
    mated: Ints
    other: Ints


def _outcomes(searched: Sequence[_Found]) -> SearchOutcomes:
    """Keep every search for intervals and paired tests."""
    gallery = range(len(searched))
    together = open_set(
        np.concatenate([f.rank for f in searched]),
        np.concatenate([f.mate for f in searched]),
        np.concatenate([f.subject for f in searched]),
        np.concatenate([f.nonmate for f in searched]),
        np.concatenate([f.other_subject for f in searched]),
    )
    return replace(
        together,
        mate_gallery=np.repeat(gallery, [len(f.rank) for f in searched]),
        nonmate_gallery=np.repeat(gallery, [len(f.nonmate) for f in searched]),
    )


def _search(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    probe_subject: Ints,
    gallery_subject: Ints,
    engine: allpairs.Engine | None,
) -> _Found:
    seen = allpairs.search(
        x, y, probe_subject=probe_subject, gallery_subject=gallery_subject, engine=engine
    )
    mated = seen.mated
    return _Found(
        seen.mate_score[mated],
        seen.impostor_score[mated],
        seen.mate_rank[mated],
        seen.impostor_score[~mated],
        probe_subject[mated],
        probe_subject[~mated],
        np.flatnonzero(mated),
        np.flatnonzero(~mated),
    )


def insightface_tpir(
    mate: NDArray[np.float64],
    impostor: NDArray[np.float64],
    nonmate: NDArray[np.float64],
    fpir: str | float,
) -> Estimate:
    """TPIR as InsightFace's ijb_evals.py takes it: strictly above its floor(x N)-th best non-mate.

    A mate must also score strictly above all others.  Where floor(x N) is 0, the best is taken.
    """
    if not len(nonmate) or not len(mate):
        return Estimate(value=None, note="no searches with a mate, or none without")
    k = max(metrics.false_accepts_allowed(fpir, len(nonmate)) - 1, 0)
    bar = float(np.sort(nonmate)[::-1][k])
    hits = np.count_nonzero((mate > impostor) & (mate > bar))
    return Estimate(
        value=hits / len(mate),
        n=len(mate) + len(nonmate),
        threshold=metrics.threshold_above(bar),
        far=int((nonmate > bar).sum()) / len(nonmate),
        note=metrics.few_errors(misses=len(mate) - int(hits)),
    )
