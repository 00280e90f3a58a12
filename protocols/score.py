"""The numbers of scores alone: pairs that somebody else compared, labelled genuine or impostor.

AUC, EER and TPR@FAR are those of `metrics`.  `accuracy` is the 10-fold one, where the pairs have
folds; `accuracy@threshold=best` is the accuracy at the one threshold that is best on these very
pairs, an upper bound that no deployed threshold reaches, and what older papers call accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import array, identities, labels, numbers, require, whole_number
from evalkit.errors import ProtocolError
from evalkit.identity import Names, key_count, of_pairs, of_rows
from evalkit.protocols import claims as scored_claims
from evalkit.protocols import verification
from evalkit.protocols.claims import Claims
from evalkit.protocols.failures import count_failures
from evalkit.protocols.groups import By, refuse_other_rows, with_groups
from evalkit.protocols.metrics import Rates, Thresholds, checked_scores, few_errors
from evalkit.protocols.metrics.kfold import best_threshold, check_folds
from evalkit.protocols.subject_means import with_subject_means
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import Outcomes, PairOutcomes, to_arrays
from evalkit.types import Estimate, PairSet, Report, SetIdentity

NAME = "score"
VERSION = 1
FARS = verification.FARS
BEST = "accuracy@threshold=best"
TWICE = "none: a probe meets a model twice"


def validate(
    score: NDArray[np.float64], genuine: NDArray[np.bool_], fold: NDArray[np.integer[Any]] | None
) -> None:
    """Raise ProtocolError unless there is one usable score, label and fold, if any, a pair."""
    checked_scores(score, "pair")
    if not len(score) or genuine.shape != score.shape:
        raise ProtocolError(f"{len(score)} scores have labels of shape {genuine.shape}")
    if fold is not None:
        check_folds(genuine, fold)


def evaluate(
    score: NDArray[np.float64],
    genuine: NDArray[np.bool_],
    fold: NDArray[np.integer[Any]] | None = None,
    *,
    pairs: PairSet | None = None,
    subject: NDArray[np.integer[Any]] | None = None,
    claims: Claims | None = None,
    fars: Rates = FARS,
    threshold: Thresholds = None,
    groups: Sequence[By] = (),
    seed: int = 0,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Measure scored pairs.

    score : (P,) float64, -inf where the comparison failed.  genuine : (P,) bool, or 0 and 1.
    fold : (P,) whole numbers.  fars : see `metrics.rate_texts`.
    pairs, subject : the images of each pair and the identity of each image, where they are known.
    claims : who each comparison claims to see, and who it is, instead of pairs: adds rank-1, rank-5
    and rank-10, and where some probes have nobody enrolled, tpir@fpir=x and with a threshold
    fpir, fnir and tpir@threshold=t.
    threshold : as `verification.evaluate` takes it; of distances, minus theirs.
    groups : of the images that `pairs` names, which they need (`with_groups`).
    Metrics: accuracy (only with folds), accuracy@threshold=best, auc, eer, tpr@far=x, and with a
    threshold fmr@threshold=t, fnmr@threshold=t.
    seed, keys, images, set_name : see `catalogue.Protocol`; of the images that `pairs` names.
    Without pairs, line i is comparison i of the named set.
    With `pairs` or `claims` the intervals are by subject.  Without, pairs are drawn as if no two
    shared a person, which makes intervals too short where they do, and each interval says so.
    """
    score, genuine = numbers(score, "score"), labels(genuine)
    seed = whole_number(seed, "seed")
    _refuse_other_comparisons(genuine, pairs, claims)
    fold = None if fold is None else array(fold, "fold")
    validate(score, genuine, fold)
    measured = verification.measures(score, genuine, fold, fars, threshold=threshold)
    if fold is None:
        del measured["accuracy"]
    measured[BEST] = best_accuracy(score, genuine)
    outcomes: Outcomes = PairOutcomes(score=score, genuine=genuine, fold=fold)
    provenance, curves = {}, dict(verification.pictures(score, genuine))
    if claims is not None:
        searches = scored_claims.searches(score, claims)
        outcomes = scored_claims.outcomes(score, claims, searches)
        provenance = {"searches": TWICE if searches is None else len(np.unique(claims.probe))}
        if searches is not None:
            measured |= scored_claims.measures(searches, threshold)
            curves["cmc"] = scored_claims.cmc_columns(searches)
    if pairs is not None:
        if subject is not None:
            subject = identities(subject, max(_rows(pairs), len(subject)), "images")
        outcomes = verification.outcomes(score, pairs, fold, subject)
        refuse_other_rows(groups, _images(pairs, subject, keys), "images")
    report = Report(
        protocol=NAME,
        protocol_version=VERSION,
        metrics=with_intervals(with_subject_means(measured, outcomes), outcomes, seed=seed),
        failures=count_failures(np.isneginf(score), genuine),
        provenance={
            "pairs": len(score),
            "genuine": int(genuine.sum()),
            "folds": "none" if fold is None else verification.FOLDS_OF_LIST,
            **provenance,
        },
        curves=curves,
        outcomes=to_arrays(outcomes),
        identity=_identity(genuine, fold, pairs, subject, claims, keys, images, set_name),
    )
    return with_groups(report, outcomes, groups, seed=seed)


def _refuse_other_comparisons(
    genuine: NDArray[np.bool_], pairs: PairSet | None, claims: Claims | None
) -> None:
    """Raise ProtocolError unless pairs and claims are of as many comparisons, labelled alike."""
    require(claims, Claims | None, "claims", "an evalkit.protocols.claims.Claims")
    require(pairs, PairSet | None, "pairs", "an evalkit.PairSet(left, right, genuine)")
    for name, given in (("pairs", pairs), ("claims", claims)):
        if given is None or np.array_equal(given.genuine, genuine):
            continue
        if given.genuine.shape != genuine.shape:
            n = given.genuine.shape
            raise ProtocolError(f"labels of shape {genuine.shape} have {name} of shape {n}")
        other = np.count_nonzero(given.genuine != genuine)
        raise ProtocolError(
            f"{other:,} of {len(genuine):,} labels are not those of the {name}",
            f"score, genuine and {name} are in one order",
        )
    if pairs is not None:
        verification.validate(np.empty((_rows(pairs), 0)), pairs)


def _identity(
    genuine: NDArray[np.bool_],
    fold: NDArray[np.integer[Any]] | None,
    pairs: PairSet | None,
    subject: NDArray[np.integer[Any]] | None,
    claims: Claims | None,
    keys: Names | None,
    images: ArrayLike | None,
    set_name: str | None,
) -> SetIdentity:
    """Identity of the comparisons; of scores alone, each is known by its line of the named set."""
    if pairs is None:
        columns = {"genuine": genuine, "fold": fold, **({} if claims is None else asdict(claims))}
        return of_rows(columns, len(genuine), keys=range(len(genuine)), set_name=set_name)
    rows = _images(pairs, subject, keys)
    return of_pairs(pairs, fold, subject, rows, keys=keys, images=images, set_name=set_name)


def _images(pairs: PairSet, subject: NDArray[np.integer[Any]] | None, keys: Names | None) -> int:
    """Count the images that pairs may name: as many as have a subject, else as have a key."""
    known = len(subject) if subject is not None else 0 if keys is None else key_count(keys)
    return max(_rows(pairs), known)


def _rows(pairs: PairSet) -> int:
    """Count the images up to the last that a pair names."""
    return 1 + int(max(pairs.left.max(), pairs.right.max()))


def best_accuracy(score: NDArray[np.float64], genuine: NDArray[np.bool_]) -> Estimate:
    """Share of pairs that the best single threshold decides rightly (`kfold.best_threshold`).

    The threshold is chosen on the pairs that it is judged on: an upper bound.
    """
    threshold = best_threshold(score, genuine)
    accepted = score >= threshold
    impostors = int(np.count_nonzero(~genuine))
    false = int(np.count_nonzero(accepted & ~genuine))
    errors = int(np.count_nonzero(accepted != genuine))
    warned = few_errors(errors=errors)
    return Estimate(
        value=(len(score) - errors) / len(score),
        n=len(score),
        threshold=threshold,
        far=false / impostors if impostors else None,
        false_accepts=false,
        note="threshold chosen on these pairs: optimistic" + (f"; {warned}" if warned else ""),
    )
