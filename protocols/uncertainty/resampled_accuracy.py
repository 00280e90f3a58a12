"""Accuracy in a bootstrap draw, with the best thresholds recomputed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalkit.protocols.uncertainty.bootstrap import (
    Draw,
    Share,
    Statistic,
    impostor_weight,
    unseen_genuine,
)
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.protocols.uncertainty.weights import SCALE, Counts
from evalkit.types import Floats, Ints


class _Decisions:
    """Every comparison of a pair list by descending score, for accuracies of a draw.

    A cut accepts the comparisons before it.  Cuts lie between any two neighbouring scores, of a
    held-out fold too, and near the observed optimum: where there are at most eight standard
    deviations more errors.
    """

    def __init__(self, sample: ComparisonSample, fold: Ints, c: float) -> None:
        """Take the fold of each genuine, then of each impostor comparison: (G+I,)."""
        score = np.concatenate([sample.genuine, sample.impostor])
        pool = np.argsort(-score, kind="stable")
        self.c = c
        self.genuine, score = pool < len(sample.genuine), score[pool]
        self.fold, self.folds = fold[pool], int(fold.max()) + 1
        self.left = np.concatenate([sample.genuine_subject, sample.left])[pool]
        self.right = np.concatenate([sample.genuine_subject, sample.right])[pool]
        # Accepting the n highest is right for their genuine pairs; n may not part equal scores.
        gain = np.concatenate([[0], np.cumsum(np.where(self.genuine, 1, -1))])
        may = np.concatenate([[True], score[1:] != score[:-1], [True]])
        may &= np.arange(len(may)) <= np.count_nonzero(np.isfinite(score))
        errors = np.count_nonzero(self.genuine) - int(gain[may].max())
        near = np.flatnonzero(may & (gain >= gain[may].max() - 8 * np.sqrt(errors + 1)))
        self.low, self.high = int(near[0]), int(near[-1])
        self.near = near - self.low

    def correct(self, draw: Draw) -> tuple[Floats, Floats]:
        """Weight of the right decisions of each fold at each cut (F, C), and of each fold (F,)."""
        k, low, inside = self.folds, self.low, slice(self.low, self.high)
        one = draw.weight.take(self.left)
        both = impostor_weight(self.c, 1, one * draw.weight.take(self.right)) / SCALE
        weight = np.where(self.genuine, one, both)
        signed = np.where(self.genuine, weight, -weight)
        gained = np.zeros((k, self.high - low + 1))
        gained[:, 0] = np.bincount(self.fold[:low], signed[:low], k)
        gained[:, 0] += np.bincount(self.fold, weight * ~self.genuine, k)
        gained[self.fold[inside], np.arange(self.high - low) + 1] = signed[inside]
        total: Floats = np.bincount(self.fold, weight, k).astype(np.float64)
        return np.cumsum(gained, axis=1)[:, self.near], total


def accuracy_statistic(sample: ComparisonSample, c: float) -> Statistic | None:
    """K-fold accuracy of a draw: the best threshold of the other folds is found anew.

    The unseen person's pairs are spread over the folds; he moves no threshold.
    """
    if sample.order is None or sample.fold is None:
        return None
    decisions = _Decisions(sample, sample.fold[sample.order], c)
    size = unseen_genuine(sample) / decisions.folds

    def accuracy(draw: Draw) -> Sequence[Share]:
        correct, total = decisions.correct(draw)
        others = correct.sum(axis=0) - correct
        best = [_middle(np.flatnonzero(row >= row.max() - 1e-6)) for row in others]
        unseen = size * draw.unseen
        return [(row[k], t, unseen) for row, k, t in zip(correct, best, total, strict=True)]

    return accuracy


def best_accuracy_statistic(sample: ComparisonSample, c: float) -> Statistic:
    """Accuracy of a draw at the one threshold that is best in it."""
    one = np.zeros(len(sample.genuine) + len(sample.impostor), np.int64)
    decisions, size = _Decisions(sample, one, c), unseen_genuine(sample)

    def accuracy(draw: Draw) -> Sequence[Share]:
        correct, total = decisions.correct(draw)
        return [(correct.max(), total[0], size * draw.unseen)]

    return accuracy


def _middle(cuts: Counts) -> int:
    """Of equally good cuts the middle one, of two middle ones the higher threshold."""
    return int(cuts[(len(cuts) - 1) // 2])
