"""Joint Bayesian: verification by two Gaussians learned from labelled vectors.

A vector less the mean is x = mu + eps: the person, mu ~ N(0, M), and the image, eps ~ N(0, E)
[Chen, Cao, Wang, Wen, Sun, ECCV 2012; TPAMI 2016].  The score of two is the log-likelihood ratio of
"one person" to "two persons", doubled and without its constant::

    r(x1, x2) = x1'A x1 + x2'A x2 - 2 x1'G x2
    G = -(2M + E)^-1 M E^-1        A = (M + E)^-1 - (E^-1 + G)

-A and -G are positive semidefinite, so with U'U = -G, V'V = -A it is 2 <Ux1, Ux2> - |Vx1|^2 -
|Vx2|^2, which is also what MegaFace's devkit stores of its models.

Two ways to learn M and E: `exact=False` is the 2012 paper's, which treats the most likely mu and
eps as if they had been observed; its likelihood may fall.  `exact=True` is EM proper, which adds
their posterior covariance (the TPAMI paper); its likelihood never falls, and with equally many
images per person it ends in the closed form.

Learning and projecting run in float64 by LAPACK and BLAS: the same bits in every run on one
machine, but not on every machine (the last bits of U and V differ, scores by about 1e-6 of |Ux|^2).
Given the projected float32 vectors, scores are exact (`scores`) and so the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.metrics.similarity import exact_scores
from evalkit.protocols.recipes.covariances import Covariances, common_basis, fit

__all__ = [
    "Covariances",
    "JointBayesian",
    "fit",
    "model",
    "project",
    "scores",
]


@dataclass(frozen=True, slots=True)
class JointBayesian:
    """A model ready to score: 2 <Ux, Uy> - |Vx|^2 - |Vy|^2 of vectors less their mean.

    mean : (D,), u : (K, D), v : (L, D) float.
    """

    mean: NDArray[np.floating[Any]]
    u: NDArray[np.floating[Any]]
    v: NDArray[np.floating[Any]]


def model(learned: Covariances) -> JointBayesian:
    """Turn covariances into the two projections, without directions of zero weight.

    In the basis where E = I and M = diag(s): -G = s / (1 + 2s), -A = s^2 / ((1 + s)(1 + 2s)).
    """
    basis = common_basis(learned.between, learned.within)
    weighty = basis.share > np.finfo(np.float64).eps * basis.share.max(initial=0)
    s, to = basis.share[weighty, None], basis.to[weighty]
    u, v = np.sqrt(s / (1 + 2 * s)), np.sqrt(s**2 / ((1 + s) * (1 + 2 * s)))
    return JointBayesian(learned.mean, u * to, v * to)


def project(x: NDArray[Any], by: JointBayesian) -> NDArray[np.float32]:
    """Ux and Vx of (N, D) vectors side by side, (N, K + L) float32."""
    centred = np.asarray(x, np.float64) - by.mean
    return np.hstack([centred @ by.u.T, centred @ by.v.T]).astype(np.float32)


def scores(
    projected: NDArray[np.float32],
    left: NDArray[np.integer[Any]],
    right: NDArray[np.integer[Any]],
    chunk: int = 1 << 15,
) -> NDArray[np.float64]:
    """Score rows `left` against `right`: r exact for the projected vectors, rounded once.

    projected : as `project` returns, with K = L.  A row that is not finite scores -inf.
    r is the inner product of (2 Ux, -Vx, Vy) and (Uy, Vx, -Vy).
    """
    u, v = np.hsplit(projected, 2)
    out = np.empty(len(left))
    for o in range(0, len(left), chunk):
        i, j = left[o : o + chunk], right[o : o + chunk]
        a, b = np.hstack([2 * u[i], -v[i], v[j]]), np.hstack([u[j], v[i], -v[j]])
        rows = np.arange(len(i))
        out[o : o + chunk] = exact_scores(a, rows, b, rows)
    return out
