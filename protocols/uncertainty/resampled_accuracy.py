"""Accuracy in a bootstrap draw, with the best thresholds recomputed."""

from __future__ import annotations

import numpy as np

from evalkit.protocols.uncertainty.bootstrap import (
    Draws,
    Statistic,
    impostor_weight,
    shares,
    unseen_genuine,
)
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.protocols.uncertainty.weights import SCALE
from evalkit.types import Bools, Floats, Ints


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
        genuine, score = pool < len(sample.genuine), score[pool]
        self.c, self.sign = c, np.where(genuine, 1, -1)
        self.fold, self.folds = fold[pool], int(fold.max()) + 1
        self.left = np.concatenate([sample.genuine_subject, sample.left])[pool]
        self.impostor = np.flatnonzero(~genuine)
        self.right = sample.right[pool[self.impostor] - len(sample.genuine)]
        # Accepting the n highest is right for their genuine pairs; n may not part equal scores.
        gain = np.concatenate([[0], np.cumsum(self.sign)])
        may = np.concatenate([[True], score[1:] != score[:-1], [True]])
        may &= np.arange(len(may)) <= np.count_nonzero(np.isfinite(score))
        errors = len(sample.genuine) - int(gain[may].max())
        near = np.flatnonzero(may & (gain >= gain[may].max() - 8 * np.sqrt(errors + 1)))
        self.low, self.high = int(near[0]), int(near[-1])
        self.near = near - self.low

    def correct(self, draws: Draws) -> tuple[Floats, Floats]:
        """Weight of right decisions, by fold and cut: (D, F, C), and of each fold: (D, F).

        Few arrays of all comparisons: memory that is freed and taken again costs more than sums.
        """
        low, inside = self.low, slice(self.low, self.high)
        one = draws.weight.take(self.left, axis=1)
        product = draws.weight.take(self.right, axis=1)
        product *= one.take(self.impostor, axis=1)
        both = impostor_weight(self.c, 1, product) / SCALE
        weight = one.astype(np.float64)
        weight[:, self.impostor] = both
        total = self._by_fold(self.fold, weight)
        weight *= self.sign
        gained = np.zeros((len(weight), self.folds, self.high - low + 1))
        gained[..., 0] = self._by_fold(self.fold[:low], weight[:, :low])
        gained[..., 0] += self._by_fold(self.fold[self.impostor], both)
        gained[:, self.fold[inside], np.arange(self.high - low) + 1] = weight[:, inside]
        return np.cumsum(gained, axis=2)[..., self.near], total

    def _by_fold(self, fold: Ints, weight: Floats) -> Floats:
        """Sum the weights of comparisons, (D, N), by fold, (N,): (D, F)."""
        draws = len(weight)
        cell = fold + self.folds * np.arange(draws)[:, np.newaxis]
        counts = np.bincount(cell.ravel(), weight.ravel(), draws * self.folds)
        return counts.reshape(draws, self.folds).astype(np.float64)


def accuracy_statistic(sample: ComparisonSample, c: float) -> Statistic | None:
    """K-fold accuracy of a draw: the best threshold of the other folds is found anew.

    The unseen person's pairs are spread over the folds; he moves no threshold.
    """
    if sample.order is None or sample.fold is None:
        return None
    decisions = _Decisions(sample, sample.fold[sample.order], c)
    size = unseen_genuine(sample) / decisions.folds

    def accuracy(draws: Draws) -> Floats:
        correct, total = decisions.correct(draws)
        others = correct.sum(axis=1, keepdims=True) - correct
        best = _middle(others >= others.max(axis=2, keepdims=True) - 1e-6)
        right = np.take_along_axis(correct, best[..., np.newaxis], axis=2)[..., 0]
        unseen = size * draws.unseen[:, np.newaxis]
        return shares(right, total, np.broadcast_to(unseen, total.shape))

    return accuracy


def best_accuracy_statistic(sample: ComparisonSample, c: float) -> Statistic:
    """Accuracy of a draw at the one threshold that is best in it."""
    one = np.zeros(len(sample.genuine) + len(sample.impostor), np.int64)
    decisions, size = _Decisions(sample, one, c), unseen_genuine(sample)

    def accuracy(draws: Draws) -> Floats:
        correct, total = decisions.correct(draws)
        return shares(correct.max(axis=(1, 2)), total[:, 0], size * draws.unseen)

    return accuracy


def _middle(good: Bools) -> Ints:
    """Of equally good cuts, (..., C), the middle one, of two middle ones the higher threshold."""
    before = (np.count_nonzero(good, axis=-1) - 1) // 2
    middle: Ints = (good.cumsum(axis=-1) > before[..., np.newaxis]).argmax(axis=-1)
    return middle
