"""First estimates of cuts from a sample of pairs; only speed depends on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.sides import Subjects, same_subject
from evalkit.types import Floats

_SEED = 0
_GROUPS = 256
_ROWS = 1 << 15
_BAND = 4096  # rows compared with these together
_COLUMNS = 256  # sampled columns, which show the high scores of a row
_FEW = 3  # the place among them from which a score is high for its row


class Pilot:
    """Scores of impostor pairs in which every sampled row and column occurs equally often.

    Shuffled rows and columns are cut into 256 groups each, and each group of rows is paired with
    `turns` groups of columns along shifted diagonals: what a row or a column adds to its scores,
    most of the variance of one large block, cancels where all of them are in the sample.
    With one turn, which tells no bracket, as many scores come from half of the rows.
    """

    def __init__(self, scores: PairScores, subjects: Subjects, turns: int) -> None:
        rng = np.random.default_rng(_SEED)
        self.error, self._covered = scores.rounding, []
        fewer = 2 if turns == 1 else 1
        groups = min(_GROUPS // fewer**2, len(scores.x), len(scores.y))
        rows = []
        for side in (scores.x, scores.y):
            count = max(1, min(len(side), _ROWS) // fewer // groups)
            rows.append(rng.permutation(len(side))[: count * groups].reshape(groups, count))
            self._covered.append(count * groups / max(1, len(side)))
        self._columns = (np.arange(groups) + (groups // turns) * np.arange(turns)[:, None]) % groups
        self._parts = []
        for r, c in zip(np.tile(np.arange(groups), turns), self._columns.ravel(), strict=True):
            i, j = rows[0][r], rows[1][c]
            skip = same_subject(subjects[0][i][:, None], subjects[1][j][None, :])
            if scores.within:
                skip |= i[:, None] == j[None, :]
            self._parts.append((scores.x.pick(i) @ scores.y.pick(j).T)[~skip])
        self._scores = np.concatenate([*self._parts, np.empty(0, np.float32)])
        self._sorted = np.empty(0, np.float32)  # the highest, rising: as many as were asked for

    def reached_by(self, share: float) -> float:
        """Estimate a score that at least about twice this share of the impostor pairs reach."""
        place = int(max(2 * share * len(self._scores), 60))
        return self._highest(place) - self.error

    def _highest(self, place: int) -> float:
        """Return the score that `place` others of the sample exceed; -inf where all are fewer."""
        n = len(self._scores)
        if place >= n:
            return -np.inf
        if place >= len(self._sorted):
            part = min(n, place + place // 4 + 100)
            self._sorted = np.sort(np.partition(self._scores, n - part)[n - part :])
        return float(self._sorted[len(self._sorted) - 1 - place])

    def bracket(self, share: float) -> tuple[float, float]:
        """Bracket the score that this share of the impostor pairs exceed, four deviations wide."""
        n = len(self._scores)
        if n < 1000:
            return -np.inf, np.inf
        middle = self._highest(min(n - 1, int(share * n)))
        over = [np.count_nonzero(p > middle) / max(1, len(p)) for p in self._parts]
        deviation = max(self._deviation(np.reshape(over, self._columns.shape)), np.sqrt(share / n))
        wide = 4 * deviation * n + 8
        first, last = int(share * n - wide), int(share * n + wide)
        high = self._highest(first) if first >= 0 else np.inf
        low = self._highest(last)
        return low - 2 * self.error, high + 2 * self.error

    def _deviation(self, over: Floats) -> float:
        """Estimate the standard error of the mean of shares (turns, groups) two-way.

        What rows (and columns) add is an error only as far as some are outside the sample.
        """
        turns, groups = over.shape
        if turns < 3:  # cannot tell one from the other
            return float(over.std() / np.sqrt(over.size))
        left = over - over.mean()
        row, column = np.zeros(groups), np.zeros(groups)
        for _ in range(20):  # least squares, by turns
            row = (left - column[self._columns]).mean(axis=0)
            residue = left - row
            column = np.bincount(self._columns.ravel(), residue.ravel(), groups) / turns
        spread = (left - row - column[self._columns]).var() * turns / (turns - 2)
        outside = 1 - np.array(self._covered)
        variance = spread / over.size + outside @ [row.var(), column.var()] / groups
        return float(np.sqrt(variance))


class RowLevels(NamedTuple):
    """Per-row scores (m,), from a sample of columns; -inf where the sample is too small."""

    kth: Floats  # k pairs reach it for certain
    few_above: Floats  # a few in a hundred reach it
    impostor: Floats  # an impostor pair reaches it for certain
    late_kth: Floats  # about where the first and the third are once all columns have been seen
    late_impostor: Floats


def row_levels(scores: PairScores, k: int, subjects: Subjects | None = None) -> RowLevels:
    """Estimate high scores per row from sampled columns; without subjects all are impostors."""
    j = np.sort(np.random.default_rng(_SEED).permutation(len(scores.y))[:_COLUMNS])
    kth, few_above, impostor, first = np.full((4, len(scores.x)), -np.inf)
    most = min(max(k, _FEW), len(j))
    if not most:
        return RowLevels(kth, few_above, impostor, kth, impostor)
    y = scores.y.pick(j).T

    def measure(o: int) -> None:
        rows = slice(o, min(o + _BAND, len(scores.x)))
        score = scores.x.band(rows.start, rows.stop) @ y
        top = np.sort(np.partition(score, -most, axis=1)[:, -most:], axis=1)
        if k <= most:
            kth[rows] = top[:, -k] - scores.rounding
        few_above[rows], first[rows] = top[:, -min(_FEW, most)], top[:, -1]
        if subjects is not None:
            score[same_subject(subjects[0][rows, None], subjects[1][None, j])] = -np.inf
        impostor[rows] = score.max(axis=1) - scores.rounding

    with ThreadPoolExecutor(scores.threads) as pool:
        list(pool.map(measure, range(0, len(scores.x), _BAND)))
    return RowLevels(
        kth,
        few_above,
        impostor,
        np.maximum(kth, _highest(first, k * len(j) / len(scores.y))),
        np.maximum(impostor, _highest(impostor, len(j) / len(scores.y))),
    )


def _highest(score: Floats, share: float) -> float:
    """Return the score that this share of the scores reach; inf without scores."""
    if not len(score):
        return np.inf
    place = min(len(score), max(1, round(share * len(score))))
    return float(np.partition(score, -place)[-place])
