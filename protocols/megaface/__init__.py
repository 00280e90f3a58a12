"""MegaFace challenge 1: find a face among up to a million others.

Each probe searches for each of its mates, which is enrolled alone among the distractors
[Kemelmacher-Shlizerman, Seitz, Miller, Brossard, CVPR 2016].  Rank of a search = distractors that
score strictly above the mate, plus 1: a tie favours the mate, as in the devkit.  TPR@FAR: genuine
are the unordered pairs of a subject, impostors all probes x all distractors.

Scores are exact inner products of unit-length float32 vectors.  The devkit's, of vectors as given,
and its thinned curves are those of `evalkit.protocols.megaface.devkit`, for published JSON; what
its curve says stands in the report as `rule=devkit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities, require, whole_number
from evalkit.errors import ProtocolError
from evalkit.identity import Names, numbered, of_rows, refuse_other_names
from evalkit.protocols import allpairs
from evalkit.protocols.at_threshold import errors_of_sets, false_accepts, with_counts
from evalkit.protocols.failures import count_failures_of_sets
from evalkit.protocols.groups import By, ComparedRows, ProbeRows, refuse_other_rows, with_groups
from evalkit.protocols.megaface.as_given import lengths_as_given, ranks_as_given
from evalkit.protocols.megaface.devkit import project, roc
from evalkit.protocols.megaface.noise_lists import CleaningRule, Noises, clean
from evalkit.protocols.metrics import (
    Rates,
    Thresholds,
    given_thresholds,
    rank_depths,
    rank_within,
    rate_texts,
    search_errors_at,
)
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.metrics.similarity import failed
from evalkit.protocols.one_to_many import (
    fused,
    fusion,
    mate_scores,
    ordered_genuine_pairs,
    tpr_by_far,
)
from evalkit.protocols.recipes.joint_bayesian import JointBayesian
from evalkit.protocols.uncertainty.from_sets import numbered_people, set_outcomes, tail_length
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SetOutcomes, to_arrays
from evalkit.types import Estimate, Ints, Progress, Report, SetIdentity

NAME = "megaface"
VERSION = 1
FARS = ("1e-4", "1e-5", "1e-6")
RANKS = (1, 10)


def validate(
    probe: NDArray[Any], subject: NDArray[np.integer[Any]], distractors: Mapping[str, NDArray[Any]]
) -> None:
    """Raise ProtocolError unless the arrays fit together and hold a genuine pair.

    probe : (P, D), subject : (P,), distractors : (N, D) each, by name.
    """
    if probe.ndim != 2 or subject.shape != probe.shape[:1]:
        raise ProtocolError(
            f"probes of shape {probe.shape} have subjects of shape {subject.shape}",
            "expected (P, D) and (P,)",
        )
    for name, x in distractors.items():
        if x.ndim != 2 or x.shape[1] != probe.shape[1] or not len(x):
            raise ProtocolError(
                f"{name}: distractors of shape {x.shape} for probes of shape {probe.shape}"
            )
    if not distractors:
        raise ProtocolError("no distractors are given")
    if unknown := int(np.count_nonzero(subject < 0)):
        raise ProtocolError(
            f"of {unknown:,} of {len(subject):,} probes the subject is below 0: not known",
            "leave them out; a distractor belongs among the distractors",
        )
    if np.unique(subject, return_counts=True)[1].max(initial=0) < 2:
        raise ProtocolError("no subject has two probes, so no pair is genuine")


def evaluate(
    probe: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    distractors: Mapping[str, NDArray[Any]],
    *,
    noises: Noises | None = None,
    model: JointBayesian | None = None,
    fars: Rates = FARS,
    threshold: Thresholds = None,
    groups: Sequence[By] = (),
    depths: Sequence[int] = RANKS,
    distractor_keys: Mapping[str, Names] | None = None,
    distractor_images: Mapping[str, ArrayLike] | None = None,
    flip: Flip = "none",
    seed: int = 0,
    progress: Progress | None = None,
    engine: allpairs.Engine | None = None,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Search for every mate among every set of distractors.

    probe : (P, D) or (P, V, D) features, not normalised.  subject : (P,).  distractors : (N, D) or
    (N, V, D) by the parameters that name their set, such as "distractors=1000000" or
    "distractors=1000000,set=2".
    noises : adds, beside each number, the same with cleaned features, named ",cleaned=RULE".
    model : score by a devkit Joint Bayesian model instead of the cosine.
    distractor_keys, distractor_images : of each set of distractors, by its parameters.
    flip, seed, progress, engine, keys, images, set_name : see `catalogue.Protocol`; of the probes.
    fars : see `metrics.rate_texts`; depths : the k of rank-k.  threshold : one or several,
    chosen elsewhere: adds fmr, fnmr, fpir, fnir and tpir@threshold=t,... of each set, FPIR over the
    probes, each by its best distractor.
    groups : columns of groups of the probes: adds rank-k, FPIR and error rates by group of the
    probe, against all distractors, whose groups nobody knows (`with_groups`).
    ProtocolError where `validate` raises it.
    Metrics, for each set: rank-1@..., rank-10@..., tpr@far=1e-6,...  and, labelled ",rule=devkit",
    the TPR that the devkit's own curve shows (`devkit.roc.read_off`), and where vectors are not of
    one length the rank-k by its score.  A probe or distractor without a template (NaN) is never
    accepted and never outranks a mate; its own searches all miss.
    Outcomes of each set are a part (`outcomes.parts_of`) under its parameters.
    """
    probe = fused(probe, flip, "probes")
    subject = identities(subject, len(probe))
    if not isinstance(distractors, Mapping):
        raise ProtocolError("a set of distractors has no name", 'give {"distractors=1000": array}')
    distractors = {name: fused(x, flip, f"{name}: distractors") for name, x in distractors.items()}
    validate(probe, subject, distractors)
    refuse_other_rows(groups, len(probe))
    fars, engine = rate_texts(fars), allpairs.reporting(engine, progress)
    seed, depths = whole_number(seed, "seed"), rank_depths(depths)
    require(noises, Noises | None, "noises", "evalkit.protocols.megaface.Noises")
    require(model, JointBayesian | None, "model", "a devkit.JointBayesian, as its file is read")
    if noises is not None and model is not None:
        raise ProtocolError(
            "the noise lists' rules are made for cosines, not for a Joint Bayesian model",
            "leave one of them out",
        )
    identity = _identity(
        subject,
        {name: len(x) for name, x in sorted(distractors.items())},
        (keys, distractor_keys),
        (images, distractor_images),
        set_name,
    )
    thresholds = given_thresholds(threshold)
    estimates: dict[str, Estimate] = {}
    curves: dict[str, Mapping[str, Sequence[float]]] = {}
    kept: dict[str, NDArray[Any]] = {}
    searched: dict[str, _Searches] = {}
    own = project(probe, model)
    genuine = roc.genuine_scores(own, subject)
    for name, x in distractors.items():
        beside: list[dict[str, Estimate]] = []
        lengths = ""
        rules: Sequence[CleaningRule] = noises.rules if noises else ()
        for rule in (None, *rules):
            p, d, label = probe, x, name
            if noises is not None and rule is not None:
                p, d = clean(probe, subject, x, noises.probe, noises.distractor[name], rule)
                label = f"{name},cleaned={rule}"
            search = _searches(*_sides(p, d, model, engine), subject, fars, thresholds, engine)
            if groups:
                searched[label] = search
            kept |= to_arrays(search.outcomes, label)
            counted = _ranks(search.rank, label, depths)
            counted |= {f"tpr@far={far},{label}": m for far, m in search.tpr.items()}
            counted |= {f"{name_at},{label}": m for name_at, m in search.errors.items()}
            counted = with_intervals(counted, search.outcomes, seed=seed)
            curves |= _curves(search, label)
            of_p = own if rule is None else project(p, model)
            of_d = project(d, model)
            known = genuine if rule is None else None
            read, curve = roc.read_off(of_p, subject, of_d, fars, known)
            more = lengths_as_given(of_p, of_d) if model is None else ""
            lengths = more if rule is None else lengths
            counted |= {
                f"tpr@far={far},{label},rule=devkit": replace(m, note=m.note + more)
                for far, m in read.items()
            }
            curves[f"roc@{label},rule=devkit"] = {"far": curve[0], "tpr": curve[1]}
            if lengths:
                looked, theirs = ranks_as_given(p, d, subject, engine), f"{label},rule=devkit"
                kept |= to_arrays(looked, theirs)
                ranks = with_intervals(_ranks(looked.rank, theirs, depths), looked, seed=seed)
                counted |= {n: replace(m, note=lengths.lstrip("; ")) for n, m in ranks.items()}
            beside.append(counted)
        # A number and what cleaning makes of it stand next to each other.
        for same in zip(*(each.items() for each in beside), strict=True):
            estimates |= dict(same)
    report = Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=estimates,
        failures=count_failures_of_sets(
            failed(probe),
            np.unique(subject, return_inverse=True)[1],
            failed(max(distractors.values(), key=len)),  # the largest set holds the smaller ones
        ),
        provenance={
            "probes": len(probe),
            "subjects": len(np.unique(subject)),
            "score": "cosine" if model is None else "Joint Bayesian",
            **fusion(flip),
            **(_noisy(noises) if noises else {}),
        },
        curves=curves,
        outcomes=kept,
        identity=identity,
    )
    for label, search in searched.items():
        report = _by_group(report, search, label, subject, failed(probe), groups, seed)
    return report


def _by_group(
    report: Report,
    search: _Searches,
    label: str,
    subject: NDArray[np.integer[Any]],
    lost: NDArray[np.bool_],
    groups: Sequence[By],
    seed: int,
) -> Report:
    """Add the rates of groups of the probes against one set of distractors."""
    every = np.arange(len(subject))
    probe, distractor = numbered_people(subject, np.full(search.distractors, -1))
    none = np.full(search.distractors, -1)
    sides = (
        ComparedRows(row=every, person=probe, lost=lost, total=len(every)),
        ComparedRows(row=none, person=distractor, lost=none >= 0),
    )
    return with_groups(
        report,
        search.outcomes,
        groups,
        sides=sides,
        probes=ProbeRows(mated=search.probe, other=every),
        part=label,
        seed=seed,
    )


def _identity(
    subject: NDArray[np.integer[Any]],
    sizes: Mapping[str, int],
    keys: tuple[Names | None, Mapping[str, Names] | None],
    images: tuple[ArrayLike | None, Mapping[str, ArrayLike] | None],
    set_name: str | None,
) -> SetIdentity:
    """Identity of the searches for these probes among sets of `sizes` distractors.

    keys, images : of the probes, and of each set's distractors.
    """
    refuse_other_names(keys[0], images[0], len(subject), "probes")
    for name, size in sizes.items():
        named, imaged = (keys[1] or {}).get(name), (images[1] or {}).get(name)
        refuse_other_names(named, imaged, size, f"rows of {name!r}")
    names, digests = (_joined(of, sizes) for of in (keys, images))
    return of_rows(
        {
            "subject": numbered(subject),
            "sets": list(sizes),
            "sizes": np.array(list(sizes.values())),
        },
        len(subject) + sum(sizes.values()),
        keys=None if names is None else [key for part in names for key in part],
        images=None if digests is None else np.concatenate(digests),
        set_name=set_name,
    )


def _joined(known: tuple[Any, Mapping[str, Any] | None], sets: Iterable[str]) -> list[Any] | None:
    """List what is known of the probes and of each set of distractors; None where one is not."""
    probe, distractor = known
    if probe is None or distractor is None or not all(name in distractor for name in sets):
        return None
    return [probe, *(distractor[name] for name in sets)]


def _noisy(noises: Noises) -> dict[str, Any]:
    return {
        "cleaned": ",".join(noises.rules),
        "noisy_probes": int(noises.probe.sum()),
        "noisy_distractors": {name: int(bad.sum()) for name, bad in noises.distractor.items()},
    }


def _sides(
    probe: NDArray[Any],
    distractor: NDArray[Any],
    model: JointBayesian | None,
    engine: allpairs.Engine,
) -> tuple[allpairs.Rows, allpairs.Rows, allpairs.Rows]:
    """Give vectors whose inner products are the scores: probes, mates, distractors.

    2 <Ux, Uy> + c_x + c_y is the inner product of (2 Ux, c_x, 1) and (Uy, 1, c_y).
    """
    if model is None:
        unit = engine.unit_rows(probe)
        return unit, unit, engine.unit_rows(distractor)
    x, y = project(probe, model), project(distractor, model)
    one_x, one_y = np.ones_like(x.constant), np.ones_like(y.constant)
    return (
        np.column_stack([2 * x.vector, x.constant, one_x]),
        np.column_stack([x.vector, one_x, x.constant]),
        np.column_stack([y.vector, one_y, y.constant]),
    )


@dataclass(frozen=True, slots=True)
class _Searches:
    """Ordered genuine pairs (probe, mate), the ranks of their mates, and TPR by FAR."""

    probe: Ints
    mate: Ints
    rank: Ints  # from 1; 0 = failed
    distractors: int
    tpr: dict[str, Estimate]
    errors: dict[str, Estimate]  # at given thresholds, by name
    outcomes: SetOutcomes


def _searches(
    probe: allpairs.Rows,
    mate: allpairs.Rows,
    distractor: allpairs.Rows,
    subject: NDArray[np.integer[Any]],
    fars: Sequence[str],
    thresholds: Sequence[float],
    engine: allpairs.Engine | None,
) -> _Searches:
    i, j = ordered_genuine_pairs(subject)
    score = mate_scores(probe, mate, i, j, engine)
    nobody = np.full(len(distractor), -1, np.int32)
    counts = false_accepts(thresholds, probe, subject, distractor, nobody, engine=engine)
    reached = with_counts(fars, counts, len(probe) * len(distractor))
    tail = tail_length(reached, len(probe) * len(distractor))
    seen = allpairs.verify(
        probe, subject, distractor, nobody, fars=fars, count=tail, bars=(i, score), engine=engine
    )
    rank, once = np.where(np.isfinite(score), seen.above + 1, 0), i < j
    genuine = np.stack([i[once], j[once]], axis=1), score[once]
    hit = np.where(rank == 1, score, -np.inf)
    best = allpairs.search(probe, distractor, engine=engine).score[:, 0] if thresholds else None
    outcomes = set_outcomes(
        probe,
        subject,
        distractor,
        nobody,
        fars=reached,
        genuine=genuine,
        ranks=(rank, i),
        searches=None if best is None else (hit, i, best, np.arange(len(probe))),
        top=seen.top,
        engine=engine,
    )
    tpr = tpr_by_far(score[once], seen)
    errors = errors_of_sets(thresholds, counts, outcomes)
    if best is not None:
        for t in thresholds:
            errors |= search_errors_at(hit, rank, best, t)
    return _Searches(i, j, rank, len(distractor), tpr, errors, outcomes)


def _ranks(rank: Ints, label: str, depths: Sequence[int]) -> dict[str, Estimate]:
    return {f"rank-{k}@{label}": rank_within(rank, k) for k in depths}


def _curves(search: _Searches, label: str) -> dict[str, Mapping[str, Sequence[float]]]:
    n = search.distractors + 1
    depth = np.unique(np.geomspace(1, n, 200).round().astype(np.int64))
    share = np.searchsorted(np.sort(search.rank[search.rank > 0]), depth, "right") / len(
        search.rank
    )
    points = [m for m in search.tpr.values() if m.value is not None]
    return {
        f"cmc@{label}": {"rank": depth.tolist(), "rate": share.tolist()},
        f"roc@{label}": {
            name: [getattr(m, field) for m in points]
            for name, field in (("far", "far"), ("tpr", "value"), ("threshold", "threshold"))
        },
    }
