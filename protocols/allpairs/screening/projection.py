"""Projection of rows on principal directions, with a known error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.sides import Side
from evalkit.types import Floats

_U32 = 2.0**-24
_SEED = 0


@dataclass(frozen=True, slots=True)
class Projection:
    """P of `screens`, and `error`: |fl(P x) - P^x| <= error |x| for an orthonormal P^.

    `matrix` is within 1e-12 of orthonormal before it is rounded to float32, which moves it by at
    most u sqrt(p).  Coordinates are summed from float32 products of `depth` terms each, in float64:
    those err by gamma_depth |row||x| in all, by Cauchy and Schwarz, for each of p coordinates.  In
    the end they are rounded to float32.
    """

    matrix: NDArray[np.float32]  # (p, d)
    depth: int
    error: float
    whole: bool  # p == d: nothing is left out

    @classmethod
    def of(cls, basis: Floats, depth: int) -> Projection:
        """Build from orthonormal rows (p, d), mixed so that a row spreads over its coordinates."""
        p, d = basis.shape
        mix = np.linalg.qr(np.random.default_rng(0).standard_normal((p, p)))[0]
        error = (depth + 2) * _U32 / (1 - (depth + 2) * _U32) * np.sqrt(p) + 2 * _U32 + 1e-11
        return cls((mix @ basis).astype(np.float32), depth, float(error), p == d)

    def of_rows(self, x: Any, *, spare: bool = False) -> Any:
        """Project each row of an array or a tensor, P x: (n, p) float32 of the same kind.

        spare : one more column, to be filled.
        """
        n, p = len(x), len(self.matrix)
        if isinstance(x, np.ndarray):
            matrix, out, summed = self.matrix, np.empty((n, p + spare), x.dtype), np.zeros((n, p))
        else:
            matrix, out = x.new_tensor(self.matrix), x.new_empty((n, p + spare))
            summed = x.new_zeros((n, p)).double()
        if self.depth >= x.shape[1]:
            out[:, :p] = x @ matrix.T
            return out
        for o in range(0, x.shape[1], self.depth):
            part = slice(o, o + self.depth)
            summed += x[:, part] @ matrix[:, part].T
        out[:, :p] = summed
        return out


def principal_directions(scores: PairScores) -> tuple[Floats, Floats]:
    """Eigenvectors (D, D) of a sample's second moment by falling eigenvalue, and the energy left.

    The second is (D + 1,): the share of the energy that the first p directions leave out.
    """
    energy, vectors = np.linalg.eigh(_second_moment(scores.x) + _second_moment(scores.y))
    cumulated = np.cumsum(np.maximum(energy[::-1], 0))
    rest = 1 - np.append(0, cumulated) / (cumulated[-1] or 1)
    return np.asarray(vectors[:, ::-1].T), rest


def _second_moment(side: Side) -> Floats:
    rng = np.random.default_rng(_SEED)
    some = min(max(len(side) // 8, 1024), 4096)
    rows = side.pick(np.sort(rng.permutation(len(side))[:some]))
    return np.asarray(rows.T @ rows, np.float64) / max(1, len(rows))
