"""Calibration: scores as log likelihood ratios, and how good these are.

A threshold answers one question; a log likelihood ratio answers it for every prior and cost.  The
fit is judged on comparisons that it has not seen, fold by fold; `fits` are the functions and their
file, `metrics.cllr` the cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.special import expit, stdtrit

from evalkit.arrays import require
from evalkit.errors import ProtocolError
from evalkit.protocols.calibration.fits import FITS, Fit, fitted
from evalkit.protocols.metrics.cllr import cllr, cllr_min, costs
from evalkit.protocols.metrics.elementary import inner, log
from evalkit.protocols.uncertainty.bootstrap import impostor_weight, shrinkage
from evalkit.protocols.uncertainty.intervals import (
    DRAWS,
    LEVEL,
    WITHOUT_PEOPLE,
    WORK,
    affordable,
    spread,
)
from evalkit.protocols.uncertainty.outcomes import PairOutcomes
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.protocols.uncertainty.weights import SCALE, canonical_order, subject_draws
from evalkit.protocols.verification import FOLDS_BY_POSITION, FOLDS_OF_LIST, folds_by_position
from evalkit.types import Estimate, Floats, Ints, Report

NAME = "calibration"
VERSION = 1
BINS, FEWEST = 20, 10  # of a reliability diagram, and comparisons in each


def evaluate(outcomes: PairOutcomes, *, prior: float = 0.5, seed: int = 0) -> Report:
    """Calibrate the scores of a pair list across its folds, and measure the ratios.

    outcomes : of a report.  Without folds of its own the list is cut by position
    (`verification.folds_by_position`), which people may straddle.
    prior : share of genuine comparisons at which the reliability diagram is drawn.
    Metrics: cllr@fit=logistic and cllr@fit=isotonic, of ratios that are fitted on all other folds;
    cllr-min.  Intervals draw people; the fits stay as they are.  A comparison that failed says
    nothing (llr 0) and costs one bit.  ProtocolError where there is a class too few.
    """
    require(outcomes, PairOutcomes, "outcomes", "the PairOutcomes of a report (`from_arrays`)")
    require(prior, float, "prior", "a share of 1, as 0.01")
    if not 0 < prior < 1:
        raise ProtocolError(f"prior {prior} is outside (0, 1)", "a share of 1, as 0.01")
    score, genuine = outcomes.score, outcomes.genuine
    fold = outcomes.fold if outcomes.fold is not None else folds_by_position(genuine)
    if fold is None:
        raise ProtocolError("fewer than 10 pairs of a class", "calibration needs folds of both")
    metrics: dict[str, Estimate] = {}
    curves = {}
    for fit in FITS:
        name = f"cllr@fit={fit}"
        try:
            llr = across_folds(score, genuine, fold, fit)
        except ProtocolError as e:
            metrics[name] = Estimate(value=None, n=len(score), note=e.message)
            continue
        m = Estimate(value=cllr(llr[genuine], llr[~genuine]), n=len(score))
        metrics[name] = _bounded(m, llr, outcomes, seed)
        curves[f"reliability@fit={fit}"] = reliability(llr, genuine, prior)
    least = cllr_min(score[genuine], score[~genuine])
    metrics["cllr-min"] = Estimate(value=least, n=len(score))
    return Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=metrics,
        provenance={
            "folds": FOLDS_BY_POSITION if outcomes.fold is None else FOLDS_OF_LIST,
            "prior": prior,
            "failed": int(np.count_nonzero(np.isneginf(score))),
        },
        curves=curves,
    )


def across_folds(score: Floats, genuine: np.ndarray, fold: Ints, fit: Fit) -> Floats:
    """Log likelihood ratio of each pair, (P,), fitted on the pairs of all other folds."""
    llr = np.empty(len(score))
    for k in np.unique(fold):
        own, others = fold == k, fold != k
        try:
            calibration = fitted(score[others & genuine], score[others & ~genuine], fit)
        except ProtocolError as e:
            raise ProtocolError(f"without fold {k + 1}, {e.message}", e.hint) from e
        llr[own] = calibration.of(score[own])
    return llr


def _bounded(m: Estimate, llr: Floats, outcomes: PairOutcomes, seed: int) -> Estimate:
    """Interval of Cllr by subject: v times and over exp(t e), e the deviation of its logarithm.

    The costs of the comparisons are drawn with people.  A few people make most of the cost, so that
    its logarithm is nearer to normal, and t has as many degrees of freedom as people who count.
    """
    if not m.value:
        return m
    sample = sample_of(replace(outcomes, score=llr))
    of_g, of_i = costs(sample.genuine, genuine=True), costs(sample.impostor, genuine=False)
    c = shrinkage(sample, of_i - of_i.mean())
    draws = affordable(DRAWS, sample, WORK)
    drawn = np.empty(draws)
    # By the scores, which are exact: ratios are not, and the order decides who draws what.
    order = canonical_order(sample_of(outcomes))
    for d, (weight, _) in enumerate(subject_draws(sample, draws, seed, order)):
        w = weight[sample.genuine_subject] / SCALE
        pair = impostor_weight(c, 1, weight[sample.left] * weight[sample.right])
        drawn[d] = (inner(w, of_g) / w.sum() + inner(pair, of_i) / pair.sum()) / 2
    people = len(np.unique(sample.genuine_subject))
    error = spread(log(drawn)) * math.sqrt((people + 1) / max(people - 1, 1))
    factor = math.exp(float(stdtrit(_freedom(sample, of_g, of_i), (1 + LEVEL) / 2)) * error)
    how = f"{LEVEL:.0%} by {sample.unit}, {draws:,} draws, seed {seed}, fits as they are"
    return replace(
        m,
        low=m.value / factor,
        high=m.value * factor,
        interval=how if sample.unit == "subject" else f"{how}: {WITHOUT_PEOPLE}",
        people=people if sample.unit == "subject" else None,
    )


def _freedom(sample: ComparisonSample, of_g: Floats, of_i: Floats) -> float:
    """How many people count, from 2: (sum s^2)^2 / sum s^4, s what a person adds to Cllr."""
    genuine, impostor = (of_g - of_g.mean()) / len(of_g), (of_i - of_i.mean()) / len(of_i)
    added = np.bincount(sample.genuine_subject, genuine, sample.subjects)
    for side in (sample.left, sample.right):
        added += np.bincount(side, impostor, sample.subjects)
    squares = added**2
    total = float(squares.sum())
    return max(2.0, total**2 / inner(squares, squares)) if total else 2.0


def reliability(llr: Floats, genuine: np.ndarray, prior: float) -> Mapping[str, list[float]]:
    """Columns of a reliability diagram: posteriors in bins, and the share of genuine ones in each.

    predicted : mean posterior of a bin.  observed : share of its weight that is genuine, where
    genuine comparisons weigh `prior` in sum and impostors the rest.  genuine, impostor : counts.
    Bins are of equal width, neighbours joined until each holds FEWEST comparisons.
    """
    posterior = expit(llr + math.log(prior / (1 - prior)))
    place = _joined(np.minimum((posterior * BINS).astype(np.int64), BINS - 1))
    weight = np.where(genuine, prior / genuine.sum(), (1 - prior) / (~genuine).sum())
    whole = np.bincount(place, weight)
    of_g = np.bincount(place, genuine)
    return {
        "predicted": (np.bincount(place, weight * posterior) / whole).tolist(),
        "observed": (np.bincount(place, weight * genuine) / whole).tolist(),
        "genuine": of_g.tolist(),
        "impostor": (np.bincount(place) - of_g).tolist(),
    }


def _joined(place: Ints) -> Ints:
    """Join neighbouring bins until each holds FEWEST comparisons, numbered from 0."""
    number, size = [], 0
    bins = 0
    for count in np.bincount(place, minlength=BINS).tolist():
        number.append(bins)
        size += count
        if size >= FEWEST:
            bins, size = bins + 1, 0
    last = max(bins - 1, 0) if size < FEWEST else bins
    joined: Ints = np.minimum(np.array(number), last)[place]
    return joined
