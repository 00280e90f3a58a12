"""Covariances between and within persons, learned from labelled vectors; see `joint_bayesian`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import identities, vectors
from evalkit.errors import ProtocolError
from evalkit.protocols.blas import one_thread
from evalkit.types import Floats

TOLERANCE, ITERATIONS = 1e-6, 500


_SINGULAR = (
    "Joint Bayesian: the covariance within persons is singular",
    "learn from more people with several images, or reduce the dimensions before (PCA)",
)


@dataclass(frozen=True, slots=True)
class Covariances:
    """Learned covariances between (M) and within (E) persons, (D, D) each, and the mean, (D,).

    likelihood : log-likelihood before each step and after the last, without the constant
    -(N D / 2) log(2 pi).
    """

    mean: Floats
    between: Floats
    within: Floats
    likelihood: tuple[float, ...] = ()


@one_thread()
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
    rows = np.asarray(vectors(x, dimensions=(2,)), np.float64)
    subject = identities(subject, len(rows))
    mean = rows.mean(axis=0)
    statistics = _statistics(rows - mean, subject)
    people, scatter = int(statistics.people.sum()), statistics.scatter
    pairs = len(rows) - people
    if pairs < rows.shape[1] or people < 2:
        raise ProtocolError(
            f"Joint Bayesian in {rows.shape[1]} dimensions: {people} people have only "
            f"{pairs} images beyond their first",
            _SINGULAR[1],
        )
    if np.linalg.matrix_rank(scatter, hermitian=True) < len(scatter):
        raise ProtocolError(*_SINGULAR)
    between, within = statistics.of_means(), scatter / pairs
    history = []
    for _ in range(iterations):
        old = within
        between, within, likelihood = _step(between, within, statistics, exact)
        history.append(likelihood)
        if np.linalg.norm(within - old) < tolerance * np.linalg.norm(within):
            break
    history.append(_step(between, within, statistics, exact)[2])
    return Covariances(mean, between, within, tuple(history))


@dataclass(frozen=True, slots=True)
class _Statistics:
    """Sufficient statistics of a step, by the L different numbers of images per person.

    images, people : (L,).  total : (L, D) sum of the persons' means.  rows : (R, D) with the same
    sum of outer products as the persons' means, for each number of images; many : (R,) that number.
    These are the means themselves, or their triangular factor where there are more than D of them:
    a step is then a few products of (R, D) by (D, D), however many images were learned from.
    scatter : (D, D) of the images about their person's mean.
    """

    images: NDArray[np.int64]
    people: NDArray[np.int64]
    total: Floats
    rows: Floats
    many: NDArray[np.int64]
    scatter: Floats

    def of_means(self) -> Floats:
        """Covariance of the persons' means, divisor I."""
        mean = self.total.sum(axis=0) / self.people.sum()
        covariance: Floats = self.rows.T @ self.rows / self.people.sum() - np.outer(mean, mean)
        return covariance


def _statistics(x: Floats, subject: NDArray[np.integer[Any]]) -> _Statistics:
    _, who, images = np.unique(subject, return_inverse=True, return_counts=True)
    order = np.argsort(who, kind="stable")
    centre = np.add.reduceat(x[order], np.cumsum(images) - images) / images[:, None]
    rest = x - centre[who]
    sizes, people = np.unique(images, return_counts=True)
    alike = [centre[images == n] for n in sizes]
    few = [c if len(c) <= x.shape[1] else np.linalg.qr(c, mode="r") for c in alike]
    return _Statistics(
        sizes,
        people,
        np.array([c.sum(axis=0) for c in alike]),
        np.concatenate(few),
        np.repeat(sizes, [len(c) for c in few]),
        rest.T @ rest,
    )


@dataclass(frozen=True, slots=True)
class Basis:
    """Coordinates y = T x in which E is the identity and M is diagonal, `share`."""

    to: Floats
    back: Floats
    share: Floats


def common_basis(between: Floats, within: Floats) -> Basis:
    """Find these coordinates; ProtocolError where E has no inverse."""
    from scipy.linalg import eigh  # takes longer to import than numpy

    try:
        share, columns = eigh(between, within)
    except np.linalg.LinAlgError as e:
        raise ProtocolError(*_SINGULAR) from e
    return Basis(columns.T, within @ columns, np.maximum(share, 0))


def _step(
    between: Floats, within: Floats, statistics: _Statistics, exact: bool
) -> tuple[Floats, Floats, float]:
    """One round: the posterior of every person's mu, then the covariances it makes likeliest.

    In the basis, mu of n images of mean y is n s / (1 + n s) y, with posterior variance
    s / (1 + n s), coordinate by coordinate; so rows that are not means, but have their sum of
    outer products, do as well.  Also the log-likelihood of the covariances given.
    """
    basis = common_basis(between, within)
    share, people, images = (
        basis.share,
        statistics.people,
        int((statistics.images * statistics.people).sum()),
    )
    scatter, total = basis.to @ statistics.scatter @ basis.to.T, statistics.total @ basis.to.T
    y, many = statistics.rows @ basis.to.T, statistics.many[:, None]
    n = statistics.images[:, None]
    likelihood = _likelihood(basis, statistics, y, float(np.trace(scatter)))
    mu = y * (many * share / (1 + many * share))
    rest = (y - mu) * np.sqrt(many)
    moment, left = mu.T @ mu, scatter + rest.T @ rest
    if exact:
        variance = share / (1 + n * share)
        m = (moment + np.diag(people @ variance)) / people.sum()
        e = (left + np.diag((people * statistics.images) @ variance)) / images
    else:  # covariances about their own means, as Chen et al.'s implementations take them
        persons, shrunk = int(people.sum()), 1 / (1 + n * share)
        drift = ((1 - shrunk) * total).sum(axis=0) / persons
        off = (n * shrunk * total).sum(axis=0) / images
        m = (moment - persons * np.outer(drift, drift)) / (persons - 1)
        e = (left - images * np.outer(off, off)) / (images - 1)
    return basis.back @ m @ basis.back.T, basis.back @ e @ basis.back.T, likelihood


def _likelihood(basis: Basis, statistics: _Statistics, y: Floats, scatter: float) -> float:
    """Log-likelihood: of the images about their person's mean, and of that mean.

    y : (R, D) `statistics.rows` in the basis.  scatter : trace of `statistics.scatter` in it.
    """
    n, many = statistics.images[:, None], statistics.many[:, None]
    images = (statistics.images * statistics.people).sum()
    log_det = -2 * images * np.linalg.slogdet(basis.to)[1]
    log_det += (statistics.people[:, None] * np.log1p(n * basis.share)).sum()
    of_means = (y * y * (many / (1 + many * basis.share))).sum()
    return float(-(log_det + scatter + of_means) / 2)
