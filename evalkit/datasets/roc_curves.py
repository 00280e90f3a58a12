"""Published ROC curves, as LFW's site has them: a list of pairs up to the size of their scores."""

from __future__ import annotations

import os

import numpy as np

from evalkit.datasets.score_lists import ScoreList
from evalkit.errors import DataError
from evalkit.files import as_path, numbered_lines, read_text
from evalkit.tables import fields_of

PAIRS = 3000  # of each class, on LFW


def read(path: str | os.PathLike[str], pairs: int = PAIRS) -> ScoreList:
    """Read a curve, TPR and FPR a line in either direction, as scores of `pairs` of each class.

    A step of the curve is the pairs that a lower threshold accepts: they get one score, minus the
    number of the step, so that every rate is that of the curve.  A line with NaN is passed over,
    and told.  DataError where a line is no point, or the curve turns back.
    """
    path = as_path(path)
    points: list[tuple[float, float]] = []
    for number, line in numbered_lines(read_text(path)):
        try:
            tpr, fpr = map(float, fields_of(line))
        except ValueError:
            tpr = fpr = -1.0
        if not (np.isnan([tpr, fpr]).any() or (0 <= tpr <= 1 and 0 <= fpr <= 1)):
            raise DataError(f"line {number} of {path.name}: expected 'TPR FPR', got {line[:100]!r}")
        points.append((tpr, fpr))
    every = np.array(points).reshape(-1, 2)
    known = every[~np.isnan(every).any(axis=1)]
    if len(known) < 2:
        raise DataError(f"{path.name} holds {len(known)} points of a curve")
    if known[0].sum() > known[-1].sum():
        known = known[::-1]
    count = np.rint(np.vstack([[0, 0], known, [1, 1]]) * pairs).astype(np.int64)
    step = np.diff(count, axis=0)
    if (step < 0).any():
        raise DataError(f"{path.name} is not a curve: a rate falls while the other rises")
    of_class = [np.repeat(-np.arange(len(step), dtype=np.float64), n) for n in step.T]
    told = f"a curve of {len(known):,} points, {pairs:,} pairs of each class"
    if len(known) < len(every):
        told += f"; lines with NaN left out: {len(every) - len(known)}"
    genuine = np.repeat([True, False], pairs)
    return ScoreList(score=np.concatenate(of_class), genuine=genuine, told=told)
