"""Rows made of features as they are read: unit rows of a set of any size, without a copy of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import run
from evalkit.protocols.allpairs.rows_on_disk import closed, opened
from evalkit.protocols.metrics.flip_fusion import Flip, fuse
from evalkit.protocols.metrics.similarity import divisors, failed, normalise
from evalkit.types import Bools, Floats, Ints

BAND = 1024  # rows made together
UNIT = 1 + 2.0**-23  # no unit row is longer: each value of it was rounded once to float32


@dataclass(frozen=True, slots=True)
class MadeRows:
    """(N, D) float32 rows that are made of features band by band, whenever they are read.

    features : (M, D') or (M, V, D') array or memory map.  make : from a band of features and of
    each of `columns`, (M,) numbers of the rows, to (n, dim) float32.  rows : (N,) of the features,
    None for all.  Of unit rows, failed : (M,) those without a template; sums : one of each band,
    which tell the features from others, short of all their values.
    """

    features: Any
    make: Callable[..., NDArray[np.float32]]
    columns: tuple[NDArray[Any], ...]
    dim: int
    rows: Ints | None = None
    failed: Bools | None = None
    sums: Floats | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self), self.dim

    @property
    def lost(self) -> Bools:
        """Unit rows without a template, (N,)."""
        if self.failed is None:
            raise TypeError("rows that are not of unit length have no template to lack")
        return self.failed if self.rows is None else self.failed[self.rows]

    def __len__(self) -> int:
        return len(self.features) if self.rows is None else len(self.rows)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """Make the rows of a slice or of an array of positions: (n, D)."""
        at = rows if self.rows is None else self.rows[rows]
        return self.make(self.features[at], *(column[at] for column in self.columns))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        raise TypeError(f"{len(self):,} rows are made a band at a time, never all together")

    def __getstate__(self) -> tuple[Any, ...]:
        """Pickle the features of a memory map as the name of their file."""
        features, *others = (getattr(self, f.name) for f in fields(self))
        return closed(features), *others

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for f, value in zip(fields(self), (opened(state[0]), *state[1:]), strict=True):
            object.__setattr__(self, f.name, value)

    def take(self, rows: Ints, axis: int = 0) -> MadeRows:
        """Select rows as numpy's `take` along axis 0; they are still made when they are read."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])


Rows = NDArray[Any] | MadeRows


def unit_rows(
    features: NDArray[Any],
    flip: Flip = "none",
    *,
    rows: Ints | None = None,
    memory: int,
    threads: int = 1,
) -> Rows:
    """Give the unit rows of (M, D) or (M, V, D) features, `normalise(fuse(features, flip))`.

    rows : (N,) of the features; None is all.  An array, where that takes at most a quarter of
    `memory` bytes; else rows made whenever they are read, to the same bits, of which a byte each
    is kept.
    """
    if rows is not None and isinstance(chosen := run(rows), slice):
        features, rows = features[chosen], None
    count = len(features) if rows is None else len(rows)
    dim = fuse(features[:1], flip).shape[1]
    kept = 4 * count * dim <= memory // 4
    unit = np.empty((count if kept else 0, dim), np.float32)
    no_template, sums = np.zeros(0 if kept else len(features), bool), np.zeros(-(-count // BAND))

    def band(o: int) -> None:
        at = slice(o, o + BAND) if rows is None else rows[o : o + BAND]
        some = fuse(features[at], flip)
        if kept:
            unit[o : o + BAND] = normalise(some)
        else:
            divisor = divisors(some)
            no_template[at] = lost = np.isnan(divisor)
            sums[o // BAND] = divisor[~lost].sum()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(band, range(0, count, BAND)))
    if kept:
        return unit
    return MadeRows(features, partial(_unit, flip), (), dim, rows, no_template, sums)


def lost_rows(x: Rows) -> NDArray[np.bool_]:
    """Rows without a template: (N, D) -> (N,) bool."""
    return x.lost if isinstance(x, MadeRows) else failed(x)


def _unit(flip: Flip, band: NDArray[Any]) -> NDArray[np.float32]:
    return normalise(fuse(band, flip))
