"""Joint Bayesian: are two faces one person, by two Gaussians learned from labelled vectors.

A vector less the mean is x = mu + eps: the person, mu ~ N(0, M), and the image, eps ~ N(0, E)
[Chen, Cao, Wang, Wen, Sun, ECCV 2012; TPAMI 2016].  The score of two is the log-likelihood ratio of
"one person" to "two persons", doubled and without its constant::

    r(x1, x2) = x1'A x1 + x2'A x2 - 2 x1'G x2
    G = -(2M + E)^-1 M E^-1        A = (M + E)^-1 - (E^-1 + G)

-A and -G are positive semidefinite, so with U'U = -G, V'V = -A it is 2 <Ux1, Ux2> - |Vx1|^2 -
|Vx2|^2, which is also what MegaFace's devkit stores of its models.

Two ways to learn M and E: `exact=False` is the 2012 paper's, which treats the most likely mu and
eps as if they had been seen; its likelihood may fall.  `exact=True` is EM proper, which adds their
posterior covariance (the TPAMI paper); its likelihood never falls, and with equally many images a
person it ends in the closed form.

Learning and projecting run in float64 by LAPACK and BLAS: the same bits in every run on one
machine, but not on every machine (the last bits of U and V differ, scores by about 1e-6 of |Ux|^2).
Given the projected float32 vectors, scores are exact (`scores`) and so the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, eigh

from evalkit.errors import ProtocolError
from evalkit.protocols.scores import exact_scores

Matrix = NDArray[np.float64]

TOLERANCE, ITERATIONS = 1e-6, 500
_SINGULAR = (
    "Joint Bayesian: the covariance within persons is singular",
    "learn from more people with several images, or reduce the dimensions before (PCA)",
)


@dataclass(frozen=True, slots=True)
class JointBayesian:
    """A model ready to score: 2 <Ux, Uy> - |Vx|^2 - |Vy|^2 of vectors less their mean.

    mean : (D,), u : (K, D), v : (L, D) float.
    """

    mean: NDArray[np.floating[Any]]
    u: NDArray[np.floating[Any]]
    v: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Covariances:
    """What is learned: between (M) and within (E) persons, (D, D) each, and the mean, (D,).

    likelihood : log-likelihood before each step and after the last, without the constant
    -(N D / 2) log(2 pi).
    """

    mean: Matrix
    between: Matrix
    within: Matrix
    likelihood: tuple[float, ...] = ()


def fit(
    x: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    *,
    exact: bool = False,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Covariances:
    """Learn both covariances from (N, D) vectors of (N,) subjects; each row counts once.

    Begins with the covariance of the persons' means and the one within persons; ends when E moves
    by less than `tolerance` of its Frobenius norm, or after `iterations`.
    ProtocolError where the people with two images or more do not span the D dimensions.
    """
    rows = np.asarray(x, np.float64)
    mean = rows.mean(axis=0)
    people, images, centre, scatter = _statistics(rows - mean, subject)
    pairs = len(rows) - people
    if pairs < rows.shape[1] or people < 2:
        raise ProtocolError(
            f"Joint Bayesian in {rows.shape[1]} dimensions: {people} people have only "
            f"{pairs} images beyond their first",
            _SINGULAR[1],
        )
    if np.linalg.matrix_rank(scatter, hermitian=True) < len(scatter):
        raise ProtocolError(*_SINGULAR)
    between, within = np.cov(centre.T, bias=True).reshape(scatter.shape), scatter / pairs
    history = []
    for _ in range(iterations):
        basis = _basis(between, within)
        history.append(_likelihood(basis, images, centre, scatter))
        old = within
        between, within = _step(basis, images, centre, scatter, exact)
        if np.linalg.norm(within - old) < tolerance * np.linalg.norm(within):
            break
    history.append(_likelihood(_basis(between, within), images, centre, scatter))
    return Covariances(mean, between, within, tuple(history))


def _statistics(
    x: Matrix, subject: NDArray[np.integer[Any]]
) -> tuple[int, NDArray[np.int64], Matrix, Matrix]:
    """People, images of each (I,), mean of each (I, D), scatter about their means (D, D)."""
    _, who, images = np.unique(subject, return_inverse=True, return_counts=True)
    order = np.argsort(who, kind="stable")
    first = np.cumsum(images) - images
    centre = np.add.reduceat(x[order], first) / images[:, None]
    rest = x - centre[who]
    return len(images), images, centre, rest.T @ rest


@dataclass(frozen=True, slots=True)
class _Basis:
    """Coordinates y = T x in which E is the identity and M is diagonal, `share`."""

    to: Matrix
    back: Matrix
    share: Matrix


def _basis(between: Matrix, within: Matrix) -> _Basis:
    try:
        share, columns = eigh(between, within)
    except LinAlgError as e:
        raise ProtocolError(*_SINGULAR) from e
    return _Basis(columns.T, within @ columns, np.maximum(share, 0))


def _step(
    basis: _Basis, images: NDArray[np.int64], centre: Matrix, scatter: Matrix, exact: bool
) -> tuple[Matrix, Matrix]:
    """One round: the posterior of every person's mu, then the covariances it makes likeliest.

    In the basis, mu of n images of mean y is n s / (1 + n s) y, with posterior variance
    s / (1 + n s), coordinate by coordinate.
    """
    n, y = images[:, None], centre @ basis.to.T
    variance = basis.share / (1 + n * basis.share)
    mu = n * variance * y
    rest = y - mu
    of_images = basis.to @ scatter @ basis.to.T
    total = images.sum()
    if exact:
        between = (mu.T @ mu + np.diag(variance.sum(axis=0))) / len(images)
        within = (of_images + rest.T @ (n * rest) + np.diag((n * variance).sum(axis=0))) / total
    else:  # covariances about their own means, as Chen et al.'s implementations take them
        drift, off = mu.mean(axis=0), (n * rest).sum(axis=0) / total
        between = (mu - drift).T @ (mu - drift) / (len(images) - 1)
        within = (of_images + (rest - off).T @ (n * (rest - off))) / (total - 1)
    return basis.back @ between @ basis.back.T, basis.back @ within @ basis.back.T


def _likelihood(basis: _Basis, images: NDArray[np.int64], centre: Matrix, scatter: Matrix) -> float:
    """Log-likelihood: of the images about their person's mean, and of that mean."""
    n, y = images[:, None], centre @ basis.to.T
    whole = 1 + n * basis.share
    log_det = -2 * images.sum() * np.linalg.slogdet(basis.to)[1] + np.log(whole).sum()
    square = np.sum(basis.to @ scatter * basis.to) + np.sum(n * y**2 / whole)
    return float(-(log_det + square) / 2)


def closed_form(x: NDArray[Any], subject: NDArray[np.integer[Any]]) -> Covariances:
    """Return the likeliest covariances where all subjects have n >= 2 images: no iteration.

    E = scatter about the persons' means / (N - I), M = covariance of the means - E / n, both about
    the mean of all, which is right while this M is positive semidefinite [Searle, Casella,
    McCulloch, Variance Components, 1992].  ProtocolError where it is not, or counts differ.
    """
    rows = np.asarray(x, np.float64)
    mean = rows.mean(axis=0)
    people, images, centre, scatter = _statistics(rows - mean, subject)
    if images.min() != images.max() or images[0] < 2:
        raise ProtocolError(
            f"people have {images.min()} to {images.max()} images", "the closed form needs n >= 2"
        )
    within = scatter / (len(rows) - people)
    between = centre.T @ centre / people - within / images[0]
    if np.linalg.eigvalsh(between)[0] < 0:
        raise ProtocolError("the closed form's covariance between persons is not one", "use EM")
    return Covariances(mean, between, within)


def ratio(learned: Covariances) -> tuple[Matrix, Matrix]:
    """Return A and G of the score r(x1, x2) = x1'A x1 + x2'A x2 - 2 x1'G x2, (D, D) each."""
    m, e = learned.between, learned.within
    inverse = np.linalg.inv(e)
    g = -np.linalg.solve(2 * m + e, m @ inverse)
    a = np.linalg.inv(m + e) - (inverse + g)
    return np.asarray(a, np.float64), np.asarray(g, np.float64)


def model(learned: Covariances) -> JointBayesian:
    """Turn covariances into the two projections, those of no weight left out.

    In the basis where E = I and M = diag(s): -G = s / (1 + 2s), -A = s^2 / ((1 + s)(1 + 2s)).
    """
    basis = _basis(learned.between, learned.within)
    kept = basis.share > np.finfo(np.float64).eps * basis.share.max(initial=0)
    s, to = basis.share[kept, None], basis.to[kept]
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

    projected : what `project` gave, with K = L.  A row that is not finite scores -inf.
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
