"""BLUFR: all of LFW, ten random trials, verification at FAR 0.1 % and open-set search at FAR 1 %.

Benchmark of Large-scale Unconstrained Face Recognition [Liao, Lei, Yi, Li, IJCB 2014].  Reported is
mu - sigma over the trials, the mean less the standard deviation (divisor T-1).  Thresholds are by
the at-most rule; `rule=blufr` beside it is that of the published code: the round(x N)-th highest
impostor score, accepted (`compat.blufr`), so up to one more false accept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities, vectors, whole_number, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.identity import Names, numbered, of_rows
from evalkit.protocols import allpairs, metrics
from evalkit.protocols.at_threshold import errors_of_sets, false_accepts, with_counts
from evalkit.protocols.failures import count_failures_of_sets
from evalkit.protocols.groups import By, ComparedRows, ProbeRows, refuse_other_rows
from evalkit.protocols.groups.trials import TrialRate, over_trials, rows_by_group, trial_rates
from evalkit.protocols.metrics import Thresholds, compat
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.uncertainty.from_sets import set_outcomes
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, SetOutcomes, open_set, to_arrays
from evalkit.protocols.uncertainty.resampled_trials import (
    people_weights,
    trial_draws,
    with_drawn_intervals,
)
from evalkit.protocols.uncertainty.weights import Weights
from evalkit.types import Estimate, Failures, Floats, Ints, Progress, Report

NAME = "blufr"
VERSION = 1
FAR, FPIR = "1e-3", "1e-2"
DRAWS = 200  # in ten trials of 50 million pairs


@dataclass(frozen=True, slots=True)
class Trial:
    """Rows of one trial: all test images; a gallery; the probes, with and without a mate in it."""

    test: Ints
    gallery: Ints
    probe: Ints

    def __post_init__(self) -> None:
        for name in ("test", "gallery", "probe"):
            object.__setattr__(self, name, whole_numbers(getattr(self, name), name))


def validate(features: NDArray[Any], subject: Ints, trials: Sequence[Trial]) -> None:
    """Raise ProtocolError unless every trial names rows of the features and holds both classes."""
    if features.ndim not in (2, 3) or subject.shape != features.shape[:1]:
        raise ProtocolError(
            f"features of shape {features.shape} have subjects of shape {subject.shape}"
        )
    if len(trials) < 2:
        raise ProtocolError(f"{len(trials)} trial has no standard deviation", "BLUFR has ten")
    for number, trial in enumerate(trials, start=1):
        for name in ("test", "gallery", "probe"):
            rows = getattr(trial, name)
            if not len(rows) or rows.min() < 0 or rows.max() >= len(features):
                raise ProtocolError(
                    f"trial {number}: {name!r} is empty or names a row outside 0 to "
                    f"{len(features) - 1}"
                )
            if len(np.unique(rows)) != len(rows):
                raise ProtocolError(f"trial {number}: {name!r} names a row twice")


def evaluate(
    features: NDArray[Any],
    subject: Ints,
    trials: Sequence[Trial],
    *,
    far: str | float = FAR,
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
    """Evaluate the trials.

    features : (N, D) or (N, V, D), not normalised; subject : (N,).
    far, fpir : see `metrics.rate_text`.
    threshold : one or several, chosen elsewhere: adds fmr, fnmr, fpir, fnir and tpir@threshold=t,
    each the mean over the trials, by a pass of its own for each.
    groups : columns of groups or conditions of the rows: adds the mean over the trials of their
    rates, at each trial's thresholds: fmr@far=x,sex=f of pairs, tpir@fpir=x,sex=f of searches.
    flip, seed, progress, engine, keys, images, set_name : see `catalogue.Protocol`.
    ProtocolError where `validate` raises it, or a gallery has two images of one person.
    Metrics, each mu - sigma with the trials in `folds`: vr@far=1e-3, dir@fpir=1e-2,rank=1, and the
    same with ",rule=blufr".  A row without a template is never accepted; the failures count the
    test pairs of all trials.
    Intervals: the same people are drawn for every trial, since trials share them; by our rule's
    draws for both rules.  Outcomes are these draws, and what they were drawn of.
    """
    features, seed = vectors(features), whole_number(seed, "seed")
    subject = identities(subject, len(features))
    validate(features, subject, trials)
    refuse_other_rows(groups, len(features))
    columns: dict[str, Any] = {"subject": numbered(subject), "trials": _digest(trials)}
    identity = of_rows(columns, len(features), keys=keys, images=images, set_name=set_name)
    far, fpir = metrics.rate_text(far), metrics.rate_text(fpir)
    thresholds, engine = metrics.given_thresholds(threshold), allpairs.reporting(engine, progress)
    x = engine.unit_rows(features, flip)
    who = np.unique(subject, return_inverse=True)[1]
    weights = people_weights(who, DRAWS, seed)
    each = [_of_trial(x, who, t, (far, fpir), thresholds, groups, weights, engine) for t in trials]
    rates = {name: _over_trials(name, [one.found[name] for one in each]) for name in each[0].found}
    drawn = {name: _drawn_over_trials(name, [one.drawn[name] for one in each]) for name in rates}
    drawn_of = {name: d for name, d in drawn.items() if d is not None}
    with_intervals, kept = with_drawn_intervals(rates, drawn_of, who, _digest(trials), seed)
    lost = allpairs.lost_rows(x)
    side = ComparedRows(row=np.arange(len(x)), person=who, lost=lost)
    enrolled, counts = rows_by_group(groups, side, seed)
    of_groups = over_trials([one.by_group for one in each], mean_of_trials, seed)
    rejected = [count_failures_of_sets(lost[t.test], who[t.test]) for t in trials]
    return Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=with_intervals | of_groups | enrolled,
        failures=Failures(
            images=int(lost.sum()),
            genuine=sum(f.genuine for f in rejected),
            impostor=sum(f.impostor for f in rejected),
        ),
        provenance={
            "images": len(x),
            "trials": len(trials),
            "flip": flip,
            **({"groups": counts} if groups else {}),
        },
        outcomes=to_arrays(kept),
        identity=identity,
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """Numbers of one trial, each one's draws, and the rates by group."""

    found: dict[str, Estimate]
    drawn: dict[str, Floats | None]
    by_group: dict[str, TrialRate]


def _of_trial(
    x: allpairs.Rows,
    who: Ints,
    trial: Trial,
    rates: tuple[str, str],
    thresholds: Sequence[float],
    groups: Sequence[By],
    weights: list[Weights],
    engine: allpairs.Engine | None,
) -> _Measured:
    """Measure one trial at a FAR and a FPIR, and at given thresholds; and draw each metric."""
    (far, fpir), test = rates, who[trial.test]
    tested = x.take(trial.test, axis=0)
    counts = false_accepts(thresholds, tested, test, engine=engine)
    impostors = len(test) * (len(test) - 1) // 2 - allpairs.count_genuine(test)
    reached = with_counts([far], counts, impostors)
    pairs = set_outcomes(tested, test, fars=reached, engine=engine)
    verified = _verified(pairs, far) | errors_of_sets(thresholds, counts, pairs)
    searched, searches = _searched(x, who, trial, fpir, thresholds, engine)
    drawn: dict[str, Floats | None] = {}
    by_group: dict[str, TrialRate] = {}
    person = np.unique(test, return_inverse=True)[1]
    side = ComparedRows(row=trial.test, person=person, lost=allpairs.lost_rows(tested))
    mated = np.isin(who[trial.probe], who[trial.gallery])
    probes = ProbeRows(mated=trial.probe[mated], other=trial.probe[~mated])
    for kept, rows, rate, measured in (
        (pairs, trial.test, f"tpr@far={far}", verified),
        (searches, trial.probe, f"tpir@fpir={fpir}", searched),
    ):
        people = np.unique(who[rows])
        names = [rate, *filter(_at_threshold, measured)]
        of = trial_draws(kept, names, weights, people)
        drawn |= {name: of.get(name if name in names else rate) for name in measured}
        pooled = {rate: next(iter(measured.values()))} | {n: measured[n] for n in names[1:]}
        for by in groups:
            by_group |= trial_rates(pooled, kept, by, people, weights, sides=[side], probes=probes)
    return _Measured({**verified, **searched}, drawn, by_group)


def _at_threshold(name: str) -> bool:
    """Whether it is an error at a given threshold: of these the mean over trials is shown."""
    return "@threshold=" in name


def _over_trials(name: str, trials: Sequence[Estimate]) -> Estimate:
    return mean_of_trials(trials) if _at_threshold(name) else mu_minus_sigma(trials)


def _drawn_over_trials(name: str, trials: Sequence[Floats | None]) -> Floats | None:
    """Give mu - sigma, or mu, of each trial's draws; None where one cannot be drawn."""
    each = [d for d in trials if d is not None]
    if len(each) < len(trials):
        return None
    spread = 0.0 if _at_threshold(name) else np.std(each, axis=0, ddof=1)
    drawn: Floats = np.mean(each, axis=0) - spread
    return drawn


def _digest(trials: Sequence[Trial]) -> NDArray[np.uint8]:
    """SHA-256 of the rows of all trials: (32,)."""
    h = hashlib.sha256()
    for rows in (rows for t in trials for rows in (t.test, t.gallery, t.probe)):
        h.update(np.array(len(rows), "<i8").tobytes() + np.asarray(rows, "<i8").tobytes())
    return np.frombuffer(h.digest(), np.uint8)


def _verified(pairs: SetOutcomes, far: str) -> dict[str, Estimate]:
    """Compare every two test images: TPR by both rules, from the highest impostor scores alone."""
    genuine, impostors = pairs.genuine_score, pairs.impostors
    if impostors < 1:
        raise ProtocolError("the test images are all of one person")
    allowed = metrics.false_accepts_allowed(far, impostors)
    count = min(allowed + 2, impostors)
    top = pairs.impostor_score[:count]
    top = np.append(top, np.full(count - len(top), -np.inf))  # failures
    ours = metrics.tpr_of_highest(far, genuine, top, impostors)
    theirs = compat.blufr(genuine, top, metrics.exact_rate(far) * impostors / count)
    accepted = (theirs.false_accepts or 0) / impostors
    return {
        f"vr@far={far}": ours,
        f"vr@far={far},rule=blufr": replace(theirs, n=ours.n, far=accepted),
    }


def _searched(
    x: allpairs.Rows,
    subject: Ints,
    trial: Trial,
    fpir: str,
    thresholds: Sequence[float],
    engine: allpairs.Engine | None,
) -> tuple[dict[str, Estimate], SearchOutcomes]:
    """Search the gallery: detection and identification rate at rank 1, by both rules, and errors.

    Returns the searches too.
    """
    who, enrolled = subject[trial.probe], subject[trial.gallery]
    if len(np.unique(enrolled)) != len(enrolled):
        raise ProtocolError("a gallery has two images of one person", "BLUFR's have one of each")
    seen = allpairs.search(
        x.take(trial.probe, axis=0),
        x.take(trial.gallery, axis=0),
        probe_subject=who,
        gallery_subject=enrolled,
        engine=engine,
    )
    mated = seen.mated
    rank, mate, best = seen.mate_rank[mated], seen.mate_score[mated], seen.score[~mated, 0]
    hit = np.where(rank == 1, mate, -np.inf)
    measured = {
        f"dir@fpir={fpir},rank=1": metrics.dir_at_fpir(mate, rank, best, fpir),
        f"dir@fpir={fpir},rank=1,rule=blufr": compat.blufr(hit, best, fpir),
    }
    for t in thresholds:
        measured |= metrics.search_errors_at(hit, rank, best, t)
    return measured, open_set(rank, mate, who[mated], best, who[~mated])


def mu_minus_sigma(trials: Sequence[Estimate]) -> Estimate:
    """Mean less standard deviation (divisor T-1) of T trials; None where one has no value."""
    mean = metrics.mean_estimate(trials)
    if mean.value is None:
        return mean
    spread = float(np.std(mean.folds, ddof=1))
    note = f"mu - sigma of {len(trials)} trials: {mean.value:.5f} - {spread:.5f}"
    return replace(mean, value=mean.value - spread, note=note)


def mean_of_trials(trials: Sequence[Estimate]) -> Estimate:
    """Mean over T trials of an error at one threshold; None where one has no value."""
    mean = replace(metrics.mean_estimate(trials), threshold=trials[0].threshold)
    if mean.value is None:
        return mean
    doubt = next((m.note for m in trials if m.note), "")
    counted = [m.false_accepts for m in trials if m.false_accepts is not None]
    return replace(
        mean,
        far=mean.value if trials[0].far is not None else None,
        false_accepts=sum(counted) if counted else None,
        note=f"mean of {len(trials)} trials" + (f", of which one has {doubt}" if doubt else ""),
    )
