"""Verification: accept or reject given pairs of images, with or without folds.

The protocol of every pair list (LFW, CFP, AgeDB-30, CALFW, CPLFW, XQLFW, RFW, one's own): the score
of a pair is the exact inner product of unit-length embeddings, or what a recipe says; reported are
the 10-fold accuracy, AUC, EER and TPR at fixed FARs.  Every recipe is defined in `recipes`, every
number in `metrics`: a new one is a function of scores and, below it, its record in METRICS of
`metrics.curves`, and nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import identities, require, vectors, whole_number
from evalkit.errors import ProtocolError
from evalkit.identity import Names, names_of, of_pairs
from evalkit.protocols import metrics, recipes
from evalkit.protocols.failures import count_failures
from evalkit.protocols.groups import By, ComparedRows, refuse_other_rows, with_groups
from evalkit.protocols.metrics import Rates, Thresholds
from evalkit.protocols.metrics.curves import METRICS
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.metrics.kfold import (
    ThresholdRule,
    best_threshold,
    check_folds,
    decisions,
    kfold_accuracy,
)
from evalkit.protocols.recipes.recipe import Recipe, recipe_of
from evalkit.protocols.subject_means import with_subject_means
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, to_arrays
from evalkit.types import Estimate, PairSet, Report

NAME = "verification"
VERSION = 1
FARS = ("1e-1", "1e-2", "1e-3")
FOLDS = 10

FOLDS_OF_LIST = "from the list"
FOLDS_BY_POSITION = (
    "the list has none: fold k = k-th tenth of the genuine and of the impostor pairs"
)


def validate(features: NDArray[Any], pairs: PairSet) -> None:
    """Raise ProtocolError unless every pair names a row of (N, D) or (N, V, D) features."""
    require(pairs, PairSet, "pairs", "an evalkit.PairSet(left, right, genuine)")
    if features.ndim not in (2, 3):
        raise ProtocolError(f"features have shape {features.shape}", "expected (N, D) or (N, V, D)")
    p = len(pairs)
    if p == 0:
        raise ProtocolError("the pair list is empty")
    for name in ("left", "right", "genuine"):
        column = getattr(pairs, name)
        if column.shape != (p,):
            raise ProtocolError(f"{p} pairs have {name!r} of shape {column.shape}")
    low = min(pairs.left.min(), pairs.right.min())
    high = max(pairs.left.max(), pairs.right.max())
    if low < 0 or high >= len(features):
        raise ProtocolError(
            f"a pair names row {low if low < 0 else high} of {len(features)} features",
            "features and pairs must come from one manifest",
        )
    if pairs.fold is not None:
        check_folds(pairs.genuine, pairs.fold)


def folds_by_position(genuine: NDArray[np.bool_]) -> NDArray[np.int16] | None:
    """Fold of each pair of a list that has none, or None where a class has fewer than ten pairs.

    Fold k gets the k-th tenth of the genuine pairs and the k-th tenth of the impostor pairs, both
    in list order, so each fold has both classes however the list is ordered.  Unlike LFW's own
    folds, these may share people.
    """
    fold = np.empty(len(genuine), np.int16)
    for of_class in (genuine, ~genuine):
        n = np.count_nonzero(of_class)
        if n < FOLDS:
            return None
        fold[of_class] = np.arange(n) * FOLDS // n
    return fold


def evaluate(
    features: NDArray[Any],
    pairs: PairSet,
    subject: NDArray[np.integer[Any]] | None = None,
    *,
    recipe: Recipe | None = None,
    fars: Rates = FARS,
    threshold: Thresholds = None,
    groups: Sequence[By] = (),
    flip: Flip = "none",
    seed: int = 0,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Verify a pair list.

    features : (N, D), or (N, V, D) with V views an image (original, mirrored).  A row that is not
    finite has no template: its pairs are rejected and counted.  subject : (N,) identity of each
    row, kept with the outcomes for intervals by subject.
    recipe : how a published system scores and chooses its threshold (`recipes`), fusion included,
    instead of the cosine and the exact threshold; where it learns, a pair's score is by what was
    learned without its fold, and AUC, EER and TPR are of these scores together.
    groups : columns of groups or conditions: adds error rates by group (`with_groups`).
    flip, seed, keys, images, set_name : see `catalogue.Protocol`; keys also name failures.
    A list without folds gets `folds_by_position`, which the report says.  Intervals are by subject.
    threshold : one or several, chosen elsewhere: adds the errors there (`metrics.errors_at`).
    Metrics: accuracy, auc, eer, tpr@far=x for each x of `fars`; fmr@threshold=t, fnmr@threshold=t.
    ProtocolError where the arrays do not fit together or a fold has one class only.
    """
    features, seed = vectors(features), whole_number(seed, "seed")
    refuse_other_rows(groups, len(features))
    validate(features, pairs)
    subject = None if subject is None else identities(subject, len(features))
    fold = pairs.fold if pairs.fold is not None else folds_by_position(pairs.genuine)
    how = recipe_of(flip, recipe)
    scores = recipes.scored(how, features, replace(pairs, fold=fold), subject)
    kept = outcomes(scores.score, pairs, fold, subject)
    used = np.union1d(pairs.left, pairs.right)
    lost = recipes.failed_rows(how, features, used)
    if recipe is not None and fold is not None:
        decided = decisions(scores.by_fold, pairs.genuine, fold, how.rule)
        kept = replace(kept, decided=decided)
    measured = measures(
        scores.score,
        pairs.genuine,
        fold,
        fars,
        threshold=threshold,
        by_fold=scores.by_fold,
        rule=how.rule,
    )
    report = Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=with_intervals(with_subject_means(measured, kept), kept, seed=seed),
        failures=count_failures(
            np.isneginf(scores.score),
            pairs.genuine,
            images=len(lost),
            keys=() if keys is None else names_of(keys, lost[:100]),
        ),
        provenance={
            "pairs": len(pairs),
            "images": len(used),
            "flip": how.fusion,
            "folds": FOLDS_OF_LIST if pairs.fold is not None else FOLDS_BY_POSITION,
            **({} if recipe is None else recipe.provenance()),
            **scores.learned,
        },
        curves=pictures(scores.score, pairs.genuine),
        outcomes=to_arrays(kept),
        identity=of_pairs(
            pairs, fold, subject, len(features), keys=keys, images=images, set_name=set_name
        ),
    )
    side = ComparedRows(
        row=used,
        person=used if subject is None else subject[used],
        lost=np.isin(used, lost),
        total=len(features),
    )
    return with_groups(report, kept, groups, sides=[side], seed=seed)


def measures(
    score: NDArray[np.float64],
    genuine: NDArray[np.bool_],
    fold: NDArray[np.integer[Any]] | None,
    fars: Rates,
    *,
    threshold: Thresholds = None,
    by_fold: NDArray[np.float64] | None = None,
    rule: ThresholdRule = best_threshold,
) -> dict[str, Estimate]:
    """Return the four kinds of numbers of a scored pair list, and the errors at a threshold.

    by_fold, rule : scores that depend on the fold, and how its threshold is chosen; see `kfold`.
    """
    g, i = score[genuine], score[~genuine]
    errors = [metrics.errors_at(g, i, t) for t in metrics.given_thresholds(threshold)]
    return {
        "accuracy": accuracy(score if by_fold is None else by_fold, genuine, fold, rule),
        **{m.grammar: m.of_scores(g, i) for m in METRICS if m.of_scores is not None},
        **{f"tpr@far={x}": metrics.tpr_at_far(g, i, x) for x in metrics.rate_texts(fars)},
        **{name: m for at in errors for name, m in at.items()},
    }


def accuracy(
    score: NDArray[np.float64],
    genuine: NDArray[np.bool_],
    fold: NDArray[np.integer[Any]] | None,
    rule: ThresholdRule = best_threshold,
) -> Estimate:
    """Return `kfold_accuracy`, or without folds None and why."""
    if fold is not None:
        return kfold_accuracy(score, genuine, fold, rule)
    g = int(np.count_nonzero(genuine))
    note = f"{g} genuine and {len(genuine) - g} impostor pairs: {FOLDS} folds need {FOLDS} of each"
    return Estimate(value=None, n=len(genuine), note=note)


def pictures(
    score: NDArray[np.float64], genuine: NDArray[np.bool_], bins: int = 100
) -> Mapping[str, Mapping[str, Sequence[float]]]:
    """Columns for the ROC and for the histograms of genuine and impostor scores.

    histogram : `low` and `high` end of each bin, and the share of each class in it.
    """
    r = metrics.roc(score[genuine], score[~genuine]).thinned()
    roc = {"far": r.far, "tpr": r.tpr, "threshold": r.threshold}
    finite = score[np.isfinite(score)]
    edges = _edges(finite, bins)
    share = {
        name: np.histogram(score[of & np.isfinite(score)], edges)[0] / max(1, np.count_nonzero(of))
        for name, of in (("genuine", genuine), ("impostor", ~genuine))
    }
    histogram = {"low": edges[:-1], "high": edges[1:], **share}
    return {
        "roc": {k: v.tolist() for k, v in roc.items()},
        "histogram": {k: v.tolist() for k, v in histogram.items()},
    }


def _edges(scores: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Part the scores in equal bins from the lowest to the highest score, (bins + 1,).

    Of none they are 0 to 1; scores too near each other to part are in the middle of wider ones.
    """
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 1.0)
    least = bins * float(np.spacing(max(abs(low), abs(high))))
    if high / 2 - low / 2 < least:
        low, high = low - max(0.5, least), high + max(0.5, least)
    share = np.linspace(0, 1, bins + 1)
    edges: NDArray[np.float64] = low * (1 - share) + high * share
    return edges


def outcomes(
    score: NDArray[np.float64],
    pairs: PairSet,
    fold: NDArray[np.integer[Any]] | None,
    subject: NDArray[np.integer[Any]] | None,
) -> PairOutcomes:
    """Return the outcome of each pair, with folds and subjects where known."""
    return PairOutcomes(
        score=score,
        genuine=pairs.genuine,
        left=pairs.left,
        right=pairs.right,
        fold=fold,
        left_subject=None if subject is None else subject[pairs.left],
        right_subject=None if subject is None else subject[pairs.right],
    )
