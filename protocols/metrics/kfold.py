"""K-fold accuracy: the threshold chosen on all folds but one, judged on that one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import array, labels, numbers
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.operating_point import checked_scores, few_errors
from evalkit.types import Estimate

# (T,) training scores in ascending order and their labels -> threshold
ThresholdRule = Callable[[NDArray[np.float64], NDArray[np.bool_]], float]


def best_threshold(scores: NDArray[np.float64], genuine: NDArray[np.bool_]) -> float:
    """Threshold with the most right decisions; exact, without a grid.

    scores : (T,) float64, genuine : (T,) bool, in any order.
    Candidates are the midpoints between neighbouring distinct finite scores and one beyond each
    end; of equally good ones the middle is taken, of two middle ones the upper.  Without a finite
    score it is the largest float64, which rejects all.

    >>> best_threshold(np.array([0.1, 0.3, 0.5, 0.9]), np.array([False, False, True, True]))
    0.4
    """
    order = np.argsort(scores, kind="stable")
    s, is_genuine = scores[order], genuine[order]
    failed = int(np.searchsorted(s, -np.inf, side="right"))  # rejected at every threshold
    s, is_genuine = s[failed:], is_genuine[failed:]
    if not len(s):
        return float(np.finfo(np.float64).max)
    # Rejecting the `cut` lowest is right for their impostors and wrong for their genuine pairs.
    right = np.concatenate([[0], np.cumsum(1 - 2 * is_genuine.astype(np.int64))])
    cut = np.flatnonzero(np.concatenate([[True], s[1:] != s[:-1], [True]]))
    best = cut[right[cut] == right[cut].max()]
    p = int(best[len(best) // 2])
    if p == 0:
        return float(np.nextafter(s[0], -np.inf))
    if p == len(s):
        return float(np.nextafter(s[-1], np.inf))
    middle = s[p - 1] / 2 + s[p] / 2
    return float(middle if s[p - 1] < middle else s[p])


def check_folds(genuine: NDArray[np.bool_], fold: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return the distinct folds, ascending, or raise ProtocolError.

    At least two folds, and each with genuine and impostor pairs: the accuracy of a fold of one
    class says nothing about telling two apart.
    """
    if fold.shape != genuine.shape or fold.dtype.kind not in "iu":
        raise ProtocolError(
            f"{genuine.size} pairs have folds of shape {fold.shape}, {fold.dtype}",
            "expected a whole number for each pair",
        )
    names = np.unique(fold)
    if len(names) < 2:
        raise ProtocolError(f"the pairs are in {len(names)} fold", "cross-validation needs two")
    for k in names:
        here = genuine[fold == k]
        if here.all() or not here.any():
            only = "genuine" if here.all() else "impostor"
            raise ProtocolError(
                f"fold {k} has only {only} pairs ({len(here)} of them)",
                "the list is ordered by class: take folds from the file, or mix both classes",
            )
    return names.astype(np.int64)


def kfold_accuracy(
    scores: ArrayLike,
    genuine: ArrayLike,
    fold: ArrayLike,
    rule: ThresholdRule = best_threshold,
) -> Estimate:
    """Mean accuracy over folds, each judged at the threshold chosen on all the others.

    scores, genuine, fold, rule : see `decisions`.  ProtocolError where `check_folds` raises it.
    Accuracy of a fold = pairs decided rightly / pairs; a failed pair is rejected.
    A warning in `note` below ten errors.
    `folds` has them in order; `standard_error` is their sample deviation (divisor F-1) over
    sqrt(F).
    Source: LFW, README and results page of the site [Huang et al. 2007].
    """
    right, folds = decisions(scores, genuine, fold, rule), array(fold, "fold")
    of_fold = [right[folds == k] for k in np.unique(folds)]
    accuracy = [float(np.count_nonzero(r) / len(r)) for r in of_fold]
    deviation = float(np.std(accuracy, ddof=1))
    return Estimate(
        value=math.fsum(accuracy) / len(accuracy),
        n=len(right),
        standard_error=deviation / math.sqrt(len(accuracy)),
        folds=tuple(accuracy),
        note=few_errors(errors=int(np.count_nonzero(~right))),
    )


def decisions(
    scores: ArrayLike,
    genuine: ArrayLike,
    fold: ArrayLike,
    rule: ThresholdRule = best_threshold,
) -> NDArray[np.bool_]:
    """Tell for each pair whether the threshold chosen on the other folds decides it rightly.

    scores : (P,) float64, or (F, P) where row k holds every pair's score under what was learned
    without the k-th fold in ascending order.  genuine : (P,) bool, or 0 and 1; fold : (P,) whole
    numbers.  rule : chooses the threshold, `best_threshold` or another project's of `compat`.
    Returns (P,) bool.  ProtocolError where the arrays do not fit together.
    """
    truth = labels(genuine)
    folds = array(fold, "fold")
    names = check_folds(truth, folds)
    rows = numbers(scores, "pair scores")
    if rows.shape not in (truth.shape, (len(names), *truth.shape)):
        raise ProtocolError(f"{truth.size} pairs in {len(names)} folds have {rows.shape} scores")
    right = np.empty(len(truth), np.bool_)
    for n, k in enumerate(names):
        if n == 0 or rows.ndim == 2:  # common scores are sorted once
            row = checked_scores(rows[n] if rows.ndim == 2 else rows, "pair")
            order = np.argsort(row, kind="stable")
            s, is_genuine, of_fold = row[order], truth[order], folds[order]
        threshold = rule(s[of_fold != k], is_genuine[of_fold != k])
        here = folds == k
        right[here] = (row[here] >= threshold) == truth[here]
    return right
