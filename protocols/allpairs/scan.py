"""One pass over every pair of two sets: screen in float32, hand on what a cut cannot rule out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.scores import exact_scores, failed

TILE = (512, 4096)
Progress = Callable[[int, int], None]
Visit = Callable[[NDArray[np.float32], float, int, int], None]
Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
_U32, _U64 = 2.0**-24, 2.0**-53


class Side:
    """One set, without its failed rows: `rows` maps back to the rows given."""

    def __init__(self, x: Any) -> None:
        given = np.asarray(x, np.float32)
        bad = failed(given)
        self.rows = np.flatnonzero(~bad)
        self.x = given if not bad.any() else given[~bad]
        self.given = len(given)
        self.norm = np.sqrt(np.einsum("ij,ij->i", self.x, self.x, dtype=np.float64)) * (1 + 1e-9)


class Scan:
    """Every pair of x and y, or of x with itself once (i < j), tile by tile."""

    def __init__(self, x: Side, y: Side | None, progress: Progress | None = None) -> None:
        self.x, self.y = x, x if y is None else y
        self.within = y is None
        self.progress = progress
        d = x.x.shape[1]
        self._relative = d * _U32 / (1 - d * _U32)
        self._underflow = d * 2.0**-148
        self.settled = 4 * d * _U64 * float(x.norm.max(initial=0) * self.y.norm.max(initial=0))

    def tiles(self) -> list[tuple[int, int, int, int]]:
        """Row and column ranges (i0, i1, j0, j1); those below the diagonal are left out."""
        m, n = len(self.x.x), len(self.y.x)
        return [
            (i, min(i + TILE[0], m), j, min(j + TILE[1], n))
            for j in range(0, n, TILE[1])
            for i in range(0, m, TILE[0])
            if not self.within or min(j + TILE[1], n) > i + 1
        ]

    def run(self, visit: Visit) -> None:
        """Call `visit(screened, error, i0, j0)` for each tile.

        screened : float32 products, at most `error` from the exact score: for any order of
        summation, with or without FMA, |fl(x.y) - x.y| <= d u / (1 - d u) |x||y| plus underflow
        [Higham, Accuracy and Stability, 3.1].  Pairs that do not count are -inf.
        """
        done, total = 0, len(self.x.x) * len(self.y.x)
        total = total if not self.within else len(self.x.x) * (len(self.x.x) - 1) // 2
        buffer = np.empty(TILE, np.float32)
        for i0, i1, j0, j1 in self.tiles():
            screened = buffer.reshape(-1)[: (i1 - i0) * (j1 - j0)].reshape(i1 - i0, j1 - j0)
            np.matmul(self.x.x[i0:i1], self.y.x[j0:j1].T, out=screened)
            counted = screened.size
            if self.within and j0 < i1:
                left_out = np.arange(j0, j1)[None, :] <= np.arange(i0, i1)[:, None]
                screened[left_out] = -np.inf
                counted -= int(left_out.sum())
            norms = self.x.norm[i0:i1].max() * self.y.norm[j0:j1].max()
            visit(screened, float(self._relative * norms) + self._underflow, i0, j0)
            done += counted
            if self.progress is not None:
                self.progress(done, total)

    def approximate(self, i: Ints, j: Ints) -> Floats:
        """Score pairs in float64: within `settled` of the exact score, whatever the order."""
        out = np.empty(len(i))
        step = max(1, (1 << 21) // max(1, self.x.x.shape[1]))
        for o in range(0, len(i), step):
            a = self.x.x[i[o : o + step]].astype(np.float64)
            out[o : o + step] = np.einsum("ij,ij->i", a, self.y.x[j[o : o + step]])
        return out

    def exact(self, i: Ints, j: Ints) -> Floats:
        """Score pairs exactly, rounded once."""
        return exact_scores(self.x.x, i, self.y.x, j)


def above(screened: NDArray[np.float32], cut: Any) -> tuple[Ints, Ints]:
    """Positions with screened >= cut: a scalar, or one cut a row rounded down to float32."""
    low = np.nextafter(np.asarray(cut, np.float32), np.float32(-np.inf))
    mask = screened > (low if low.ndim == 0 else low[:, None])
    if not mask.any():
        nothing = np.empty(0, np.int64)
        return nothing, nothing
    flat = np.flatnonzero(mask)
    return np.divmod(flat, screened.shape[1])
