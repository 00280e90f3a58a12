"""The genuine pairs of two sets: few, listed one by one and scored exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]


def genuine_pairs(
    subject: Ints, y_subject: Ints | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (i, j) of equal subjects other than -1, by rising i; in one set each once, i < j."""
    a = np.asarray(subject, np.int64)
    b = a if y_subject is None else np.asarray(y_subject, np.int64)
    order = np.argsort(b, kind="stable")
    start = np.searchsorted(b[order], a, "left")
    count = np.where(a >= 0, np.searchsorted(b[order], a, "right") - start, 0)
    i = np.repeat(np.arange(len(a)), count)
    place = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    j = order[np.repeat(start, count) + place]
    keep = i < j if y_subject is None else np.ones(len(i), bool)
    return i[keep], j[keep]
