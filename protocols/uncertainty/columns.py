"""Long columns of comparisons, counted, renamed and sorted in bands.

NumPy indexes by int64 alone: of 13 million int32 people it would copy 100 MB each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.types import Bools, Floats, Ints

_BAND = 1 << 18  # comparisons read together
_PARTS, _LOOKED_AT = 16, 4096  # that scores are sorted in, and scores that tell their borders
_LEAST = np.nextafter(-np.inf, 0)  # above the score of a search that found nothing


def counts_of(who: Ints, of: Bools | None = None, people: int = 0) -> NDArray[np.int64]:
    """Count the rows of each person, (N,) numbers from 0; of : (N,) which rows, else all."""
    people = max(people, int(who.max(initial=-1)) + 1)
    count = np.zeros(people, np.int64)
    for band in _bands(len(who), max(_BAND, people)):
        count += np.bincount(who[band] if of is None else who[band][of[band]], minlength=people)
    return count


def images_of(who: Ints, people: int) -> NDArray[np.int32]:
    """Count the rows of each person, (people,): 4 bytes for each of millions."""
    count = np.zeros(people, np.int32)
    for band in _bands(len(who), _BAND):
        np.add.at(count, who[band], 1)
    return count


def there(*columns: Ints, people: int = 0) -> Bools:
    """Tell which of the people, numbers from 0, any of the columns, (N,) each, names: (people,)."""
    seen = np.zeros(max(people, *(int(who.max(initial=-1)) + 1 for who in columns)), bool)
    for who in columns:
        for band in _bands(len(who), _BAND):
            seen[who[band]] = True
    return seen


def named(number: Ints, who: Ints) -> Ints:
    """Name each person of a column (N,) by its number, as small as these are."""
    new = np.empty(len(who), number.dtype)
    for band in _bands(len(who), _BAND):
        new[band] = number[who[band]]
    return new


def falling(score: Floats, *columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Sort columns, (N,) each, by descending score; rows of one score stay in order."""
    new, done = tuple(np.empty_like(column) for column in columns), 0
    for rows in _falling_parts(score):
        for column, of in zip(columns, new, strict=True):
            column.take(rows, out=of[done : done + len(rows)], mode="clip")
        done += len(rows)
    return new


def above(borders: Floats, score: Floats) -> NDArray[np.int64]:
    """Count the scores, (N,) in any order, above each of the borders, (B,) descending."""
    rising, count = borders[::-1], np.zeros(len(borders) + 1, np.int64)
    for band in _bands(len(score), max(_BAND, len(borders))):
        count += np.bincount(np.searchsorted(rising, score[band]), minlength=len(count))
    return np.cumsum(count[::-1])[:-1]


def _falling_parts(score: Floats) -> Iterator[Ints]:
    """Rows by descending score, those of the highest scores first."""
    if len(score) <= _BAND:
        yield _by_score(np.arange(len(score)), score)
        return
    some = score[:: len(score) // _LOOKED_AT]
    some = np.sort(some[np.isfinite(some)])
    before = np.zeros(len(score), bool)
    for border in np.append(np.unique(some[:: _LOOKED_AT // _PARTS])[::-1], _LEAST):
        reached = score >= border
        rows = np.flatnonzero(reached & ~before)
        before = reached
        yield _by_score(rows, score[rows])
    for band in _bands(len(score), _BAND):  # often many
        yield band.start + np.flatnonzero(np.isneginf(score[band]))
    yield np.flatnonzero(np.isnan(score))


def _by_score(rows: Ints, score: Floats) -> Ints:
    """Sort rows by the descending score of each, where these differ."""
    if len(score) and (score == score[0]).all():
        return rows
    return rows[np.argsort(-score, kind="stable")]


def _bands(rows: int, size: int) -> Iterator[slice]:
    return (slice(o, o + size) for o in range(0, rows, size))
