"""Vectors that several images have in common, and names that several vectors have."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.errors import first_few
from evalkit.identity import Names
from evalkit.keys import canonical
from evalkit.types import Ints, PairSet

SHARED = "one vector"  # what a report's provenance calls `of_several_images`
ONE_NAME = "one name"  # and `of_one_name`
ONE_FILE = "one file"  # and `of_one_file`
BOTH_LABELS = "both labels"  # and `of_both_labels`
_ROWS, _BLOCK = 1 << 20, 1 << 16  # rows that are looked at, and together
_VALUES = 16  # of a row, by which it is sought


def of_several_images(
    features: Any, names: Names, images: NDArray[np.uint8] | None = None
) -> dict[str, str]:
    """Say for a report which images of different bytes, or names, have equal vectors.

    features : (N, ...).  names : (N,).  images : (N, 32) SHA-256, zeros where one is not known.
    Failed rows (NaN) have none.  Of more than a million rows every n-th is looked at.  Empty where
    all differ: no network gives two photographs equal vectors, but some scripts give one vector to
    all faces that they did not find.
    """
    step = -(-len(features) // _ROWS) or 1
    groups = [
        rows
        for rows in _equal_rows(features, step)
        if len({_identity(row, names, images) for row in rows}) > 1
    ]
    if not groups:
        return {}
    largest = max(groups, key=len)
    named = first_few([str(names[row]) for row in largest], 3)
    looked = f"{-(-len(features) // step):,}"
    return {
        SHARED: f"{sum(map(len, groups)):,} of {looked} images share a vector with another, "
        f"{len(largest):,} of them one, {named}: one image twice, or no face found?"
    }


def of_one_file(pairs: PairSet, names: Names, images: ArrayLike) -> dict[str, str]:
    """Say for the report which pairs are of two names whose images have the same bytes.

    pairs : of rows.  names : (N,).  images : (N, 32) SHA-256, zeros where one is not known.
    """
    digests = np.ascontiguousarray(images, np.uint8)
    left, right = digests[pairs.left], digests[pairs.right]
    same = (left == right).all(axis=1) & left.any(axis=1) & (pairs.left != pairs.right)
    if not same.any():
        return {}
    first, genuine = int(np.argmax(same)), int(np.count_nonzero(same & pairs.genuine))
    return {
        ONE_FILE: f"{genuine} genuine and {int(same.sum()) - genuine} impostor pairs are of two "
        f"names for one image, first {names[pairs.left[first]]} and {names[pairs.right[first]]}: "
        "they lift TPR, and the thresholds of FARs"
    }


def of_both_labels(pairs: PairSet, names: Names, images: ArrayLike) -> dict[str, str]:
    """Say for a report how many pairs have the bytes of another, under other names and label.

    pairs, names, images : as `of_one_file` takes them.
    """
    digests = np.ascontiguousarray(images, np.uint8)
    image = digests[:, :8].copy().view(np.uint64)[:, 0]  # of a SHA-256, enough to tell them apart
    if len(np.unique(image)) == len(image):
        return {}
    left, right = image[pairs.left], image[pairs.right]
    low, high = np.minimum(left, right), np.maximum(left, right)
    order = np.lexsort((pairs.genuine, high, low))
    low, high, genuine = low[order], high[order], pairs.genuine[order]
    other = (low[1:] == low[:-1]) & (high[1:] == high[:-1]) & (genuine[1:] != genuine[:-1])
    found = np.flatnonzero(other & (low[1:] > 0))
    if not len(found):
        return {}
    no, yes = (
        f"{names[pairs.left[k]]} and {names[pairs.right[k]]}"
        for k in order[[found[0], found[0] + 1]].tolist()
    )
    return {
        BOTH_LABELS: f"{len(found):,} pairs of images are called genuine and, by other names, "
        f"impostors, first {yes}, and {no}"
    }


def of_one_name(names: Names) -> dict[str, str]:
    """Say for a report which names stand for several rows, (N,); empty where none does."""
    if len(set(names)) == len(names):
        return {}
    several = {str(name): n for name, n in Counter(names).items() if n > 1}
    return {
        ONE_NAME: f"{sum(several.values()):,} of {len(names):,} rows have the name of another, "
        f"{first_few([*several])}: one image counted twice, or two under one name?"
    }


def _identity(row: int, names: Names, images: NDArray[np.uint8] | None) -> bytes | str:
    """Tell an image from others: by its bytes where these are known, else by its name."""
    known = images is not None and images[row].any()
    return images[row].tobytes() if known and images is not None else canonical(str(names[row]))


def _equal_rows(features: Any, step: int) -> list[list[int]]:
    """Group the rows that are equal to another, of every `step`-th row; none with NaN."""
    if not len(features):
        return []
    width = int(np.prod(np.shape(features)[1:]))
    places = np.unique(np.linspace(0, width - 1, min(width, _VALUES)).astype(np.int64))
    odd = np.random.default_rng(0).integers(1, 1 << 62, len(places), np.uint64) | np.uint64(1)
    sums, whole = list[NDArray[np.uint64]](), list[NDArray[np.bool_]]()
    for o in range(0, len(features), _BLOCK * step):
        some = np.asarray(features[o : o + _BLOCK * step : step])
        seen = np.ascontiguousarray(some.reshape(len(some), -1)[:, places], np.float64)
        whole.append(np.asarray(np.isfinite(seen).all(axis=1)))
        sums.append((seen.view(np.uint64) * odd).sum(axis=1, dtype=np.uint64))
    total = np.concatenate(sums)
    rows: Ints = np.flatnonzero(np.concatenate(whole))
    rows = rows[np.argsort(total[rows], kind="stable")]
    again = np.zeros(len(rows) + 1, np.bool_)
    again[1:-1] = total[rows[1:]] == total[rows[:-1]]
    groups: dict[bytes, list[int]] = {}
    for row in np.sort(rows[again[1:] | again[:-1]] * step).tolist():
        groups.setdefault(np.asarray(features[row]).tobytes(), []).append(row)
    return [group for group in groups.values() if len(group) > 1]
