"""What a failure is, and counts of failures: images, and the comparisons they take part in.

A failure is an image without a template: unreadable, without a face, or a row of vectors with a
value that is not finite as float32 (`metrics.similarity.failed`).  Its comparisons score -inf: they
are rejected at every threshold, stay in every denominator, and are counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.types import Failures


def count_failures(
    rejected: NDArray[np.bool_],
    genuine: NDArray[np.bool_],
    *,
    images: int = 0,
    keys: Sequence[str] = (),
) -> Failures:
    """Count the failed comparisons of a list by class.

    rejected : (P,) of which a side has no template.  genuine : (P,) labels, or of searches whether
    the probe has a mate.  images, keys : how many of the list's images have no template, and names
    of some.
    """
    return Failures(
        images=images,
        genuine=int((rejected & genuine).sum()),
        impostor=int((rejected & ~genuine).sum()),
        keys=tuple(keys),
    )


def count_failures_of_sets(
    lost: NDArray[np.bool_],
    subject: NDArray[np.integer[Any]],
    lost_distractor: NDArray[np.bool_] | None = None,
) -> Failures:
    """Count the failed comparisons among all pairs of one set, or with a set of distractors.

    lost : (N,) rows without a template; subject : (N,), -1 = unlabelled.  Genuine are the
    unordered pairs of a subject.  Impostors are all the other pairs of the set, or where
    lost_distractor is given, (M,), every row with every distractor.
    """
    known = subject >= 0
    genuine = _mates(subject[known]) - _mates(subject[known & ~lost])
    if lost_distractor is None:
        every = _pairs(len(lost)) - _pairs(int((~lost).sum()))
        return Failures(images=int(lost.sum()), genuine=genuine, impostor=every - genuine)
    met = len(lost) * len(lost_distractor) - int((~lost).sum()) * int((~lost_distractor).sum())
    images = int(lost.sum()) + int(lost_distractor.sum())
    return Failures(images=images, genuine=genuine, impostor=met)


def _mates(subject: NDArray[np.integer[Any]]) -> int:
    return sum(_pairs(n) for n in np.unique(subject, return_counts=True)[1].tolist())


def _pairs(rows: int) -> int:
    return rows * (rows - 1) // 2
