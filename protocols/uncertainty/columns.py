"""Long columns of comparisons, counted, renamed and sorted in bands.

NumPy indexes by int64 alone: of 13 million int32 people it would copy 100 MB each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.ahead import each_ahead
from evalkit.protocols.falling import falling_order
from evalkit.types import Bools, Floats, Ints

_BAND = 1 << 18  # comparisons read together
_PARTS, _LOOKED_AT = 64, 4096  # that scores are sorted in at most, and scores that tell borders
_LEAST = np.nextafter(-np.inf, 0)  # above the score of a search that found nothing


def counts_of(who: Ints, of: Bools | None = None, people: int = 0) -> NDArray[np.int64]:
    """Count the rows of each person, (N,) numbers from 0; of : (N,) which rows, else all."""
    if of is None and len(who) <= _BAND:
        return np.bincount(who, minlength=people)
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


def shortly_named(number: Ints, who: Ints) -> Ints:
    """Name each person of a column (N,) by its number, in the shortest type that holds these."""
    most = int(number[np.flatnonzero(there(who))].max(initial=0))
    kind: Any = next(k for k in (np.int16, np.int32, np.int64) if most <= np.iinfo(k).max)
    return named(number.astype(kind), who)  # beyond it, only numbers that nobody here has


def falling(score: Floats, *columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Sort columns, (N,) each, by descending score; rows of one score stay in order."""
    if len(score) <= _BAND:
        rows = falling_order(score)
        return tuple(column[rows] for column in columns)
    new = tuple(np.empty_like(column) for column in columns)

    def place(part: tuple[int, Ints]) -> None:
        begin, rows = part
        rows = _by_score(rows, score[rows])
        for column, of in zip(columns, new, strict=True):
            column.take(rows, out=of[begin : begin + len(rows)], mode="clip")

    for _ in each_ahead(place, _falling_parts(score)):
        pass
    return new


def above(borders: Floats, score: Floats) -> NDArray[np.int64]:
    """Count the scores, (N,) in any order, above each of the borders, (B,) descending."""

    def count(band: slice) -> Any:
        some = np.sort(score[band])
        return len(some) - np.searchsorted(some, borders, "right")

    bands = _bands(len(score), max(_BAND, len(borders)))
    return sum(each_ahead(count, bands), np.zeros(len(borders), np.int64))


def _falling_parts(score: Floats) -> Iterator[tuple[int, Ints]]:
    """Rows in parts, those of the highest scores first, each with the place of its first row."""
    some = np.sort(score[:: len(score) // _LOOKED_AT + 1])
    some = some[np.isfinite(some)]
    step = len(some) // min(4 * len(score) // _BAND, _PARTS) + 1
    # A search that found nothing is below the first border, what is no number above the last.
    borders = np.concatenate([[_LEAST], np.unique(some[::step]), [np.nan]])
    part = np.empty(len(score), np.uint8)
    for band in _bands(len(score), _BAND):
        part[band] = np.searchsorted(borders, score[band], "right")
    last = len(borders)
    found = (np.flatnonzero(part == number) for number in range(last - 1, 0, -1))
    bands = ((number, band) for number in (0, last) for band in _bands(len(score), _BAND))
    others = (band.start + np.flatnonzero(part[band] == number) for number, band in bands)
    begin = 0
    for rows in chain(found, others):
        yield begin, rows
        begin += len(rows)


def _by_score(rows: Ints, score: Floats) -> Ints:
    """Sort rows by the descending score of each, where these differ."""
    if len(score) and (score == score[0]).all():
        return rows
    return rows[falling_order(score)]


def _bands(rows: int, size: int) -> Iterator[slice]:
    return (slice(o, o + size) for o in range(0, rows, size))
