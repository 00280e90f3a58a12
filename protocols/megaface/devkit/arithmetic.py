"""Scores as the MegaFace devkit computes them, in its float32 arithmetic, bit for bit."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import vectors
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.similarity import single
from evalkit.protocols.recipes.joint_bayesian import JointBayesian

_BAND = 1 << 14  # rows that a thread takes
_PAGE = 256  # rows or pairs at a time, which stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Projected:
    """Vectors ready to score: s(x, y) = 2 <vector_x, vector_y> + constant_x + constant_y.

    vector : (N, K) float32, or features as given, which are rounded to float32 as they are taken.
    constant : (N,) float32.
    """

    vector: NDArray[Any]
    constant: NDArray[np.float32]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Projected:
        return Projected(single(self.vector[rows]), self.constant[rows])

    def __len__(self) -> int:
        return len(self.constant)


def project(x: NDArray[Any], model: JointBayesian | None = None) -> Projected:
    """Turn (N, D) features, as given and not normalised, into what the devkit scores.

    model : float32, as the devkit's files hold it.  Without one (its jb_identity.bin) the score is
    minus the squared L2 distance.
    The constants are summed in float64 and rounded to float32, as the devkit does.
    """
    x = vectors(x, dimensions=(2,))
    if model is None:
        return Projected(x, _minus_square(x))
    x = single(x)
    if x.shape[1:] != model.mean.shape:
        raise ProtocolError(
            f"features have {x.shape[1]} dimensions, the Joint Bayesian model {len(model.mean)}"
        )
    centred = x - model.mean
    return Projected(centred @ model.u.T, _minus_square(centred @ model.v.T))


def _minus_square(x: NDArray[Any]) -> NDArray[np.float32]:
    out = np.empty(len(x), np.float32)

    def band(start: int) -> None:
        with np.errstate(over="ignore"):  # each thread has a state of its own
            for o in range(start, min(start + _BAND, len(x)), _PAGE):
                rows = single(x[o : o + _PAGE])
                out[o : o + _PAGE] = -np.square(rows, dtype=np.float64).sum(axis=1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(band, range(0, len(x), _BAND)))
    return out


def scores(x: Projected, y: Projected) -> NDArray[np.float32]:
    """Score every x with every y: (P, N) float32, in the devkit's arithmetic.

    The float32 inner product is summed first dimension to last; then 2 s + (c_x + c_y).
    A vector that is not finite scores -inf, which is evalkit's rule (the devkit has none).
    """
    total = np.zeros((len(x), len(y)), np.float32)
    product = np.empty_like(total)
    with np.errstate(invalid="ignore", over="ignore"):
        columns = (np.ascontiguousarray(v[:].vector.T) for v in (x, y))
        for a, b in zip(*columns, strict=True):
            np.multiply(a[:, None], b, out=product)
            total += product
        np.multiply(total, np.float32(2), out=total)
        np.add(x.constant[:, None], y.constant, out=product)
        total += product
    total[~np.isfinite(total)] = -np.inf
    return total


def pair_scores(
    x: Projected, i: NDArray[np.int64], y: Projected, j: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Score x[i[k]] with y[j[k]]: (K,) float32, each as `scores` does."""
    out = np.empty(len(i), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for o in range(0, len(i), _PAGE):
            a, b = i[o : o + _PAGE], j[o : o + _PAGE]
            products = x[a].vector * y[b].vector
            total = np.add.accumulate(products, axis=1, dtype=np.float32)[:, -1]
            out[o : o + _PAGE] = 2 * total + (x.constant[a] + y.constant[b])
    out[~np.isfinite(out)] = -np.inf
    return out
