"""Lengths, spectrum and neighbours of vectors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols import allpairs
from evalkit.protocols.metrics import auc
from evalkit.protocols.metrics.elementary import log
from evalkit.protocols.metrics.similarity import normalise
from evalkit.types import Estimate, Floats, Ints

QUANTILES = (0.01, 0.5, 0.99)
EQUAL_LENGTHS = 1e-3  # a variation of norms up to this is rounding, to float16 at worst


def norms(norm: Floats, anchor_norm: Floats, wrong: NDArray[np.bool_]) -> dict[str, Estimate]:
    """Lengths of the vectors, and whether short ones are misidentified.

    norm : (N,).  anchor_norm, wrong : (A,), images that have a mate, and whether an impostor is
    at least as near by angle as the nearest mate.  norm-variation : standard deviation (N - 1) over
    the mean.  norm-auc@errors=rank-1 : chance that an image whose mate is nearest is longer than
    one that fails, ties half; 0.5 = unrelated; None up to a variation of 1e-3, which rounding may
    make.
    """
    metrics = {
        f"norm@quantile={q:g}": Estimate(value=float(v), n=len(norm))
        for q, v in zip(QUANTILES, np.quantile(norm, QUANTILES), strict=True)
    }
    mean = float(norm.mean())
    spread = float(norm.std(ddof=1))
    metrics["norm-variation"] = Estimate(
        value=spread / mean if mean else None, n=len(norm), note="" if mean else "all rows are zero"
    )
    name = "norm-auc@errors=rank-1"
    if spread <= EQUAL_LENGTHS * mean:
        metrics[name] = Estimate(value=None, n=len(wrong), note="all vectors have one length")
    elif not len(wrong) or wrong.all() or not wrong.any():
        why = "is found rightly" if len(wrong) and not wrong.all() else "fails, or none has a mate"
        metrics[name] = Estimate(value=None, n=len(wrong), note=f"every image {why}")
    else:
        metrics[name] = auc(anchor_norm[~wrong], anchor_norm[wrong])
    return metrics


def histogram(values: Floats, bins: int = 60) -> dict[str, list[float]]:
    """Share of the values in equal bins, for a plot."""
    counts, edges = np.histogram(values, bins)
    share = counts / len(values)
    return {"low": edges[:-1].tolist(), "high": edges[1:].tolist(), "share": share.tolist()}


def spectrum(x: NDArray[np.float32], chunk: int = 8192) -> Floats:
    """Eigenvalues of the covariance of the rows, falling: (D,) float64, none below zero.

    Given to 33 bits of the largest, ten digits: what follows is LAPACK's rounding, another on
    another processor.
    """
    mean = np.mean(x, axis=0, dtype=np.float64)
    scatter = np.zeros((x.shape[1], x.shape[1]))
    for o in range(0, len(x), chunk):
        centred = x[o : o + chunk] - mean
        scatter += centred.T @ centred
    values = np.linalg.eigvalsh(scatter / (len(x) - 1))[::-1]
    unit = math.ldexp(1, math.frexp(values[0])[1] - 33) or 5e-324
    return np.asarray(np.maximum(np.rint(values / unit) * unit, 0), np.float64)


def dimensions(values: Floats) -> dict[str, Estimate]:
    """Effective dimension of a spectrum: how many directions carry the variance.

    participation-ratio : (sum v)^2 / sum v^2.  entropy-dimension : exp(-sum p ln p), p = v / sum v
    [Roy and Vetterli, EUSIPCO 2007].  Both are D where all directions are equal, 1 on a line.
    """
    total = values.sum()
    if total == 0:
        nothing = Estimate(value=None, note="all vectors are equal")
        return {"participation-ratio": nothing, "entropy-dimension": nothing}
    p = values[values > 0] / total
    return {
        "participation-ratio": Estimate(value=float(1 / np.sum(p * p)), n=len(values)),
        "entropy-dimension": Estimate(value=math.exp(-np.sum(p * log(p))), n=len(values)),
    }


def neighbours(x: NDArray[np.float32], k: int, engine: allpairs.Engine | None = None) -> Ints:
    """Count, for each row, the rows that have it among their k nearest by angle: (N,).

    A row is not its own neighbour; equal angles go to the lower row.  Empty where N <= k.
    """
    n = len(x)
    if n <= k:
        return np.empty(0, np.int64)
    unit = normalise(x)
    row = allpairs.search(unit, unit, k=k + 1, engine=engine).row
    own = row == np.arange(n)[:, None]
    own[~own.any(axis=1), k] = True  # k + 1 equals before itself: the last one is too many
    return np.bincount(row[~own], minlength=n)


def hubness(occurrence: Ints, k: int) -> dict[str, Estimate]:
    """Skewness of the k-occurrence, E((N_k - mean)^3) / sd^3, and the share of rows in none.

    Radovanovic, Nanopoulos, Ivanovic, JMLR 11, 2010, section 2.  0 = no hubs; some rows that are
    near to many others raise it.
    """
    names = f"hubness-skewness@k={k}", f"antihubs@k={k}"
    if not len(occurrence):
        return dict.fromkeys(names, Estimate(value=None, note=f"needs more than {k} images"))
    n = len(occurrence)
    off = occurrence - occurrence.mean()
    variance = float(np.mean(off**2))
    skew = float(np.mean(off**3)) / variance**1.5 if variance else None
    note = "" if variance else "every image is in equally many lists"
    anti = int(np.count_nonzero(occurrence == 0))
    return {
        names[0]: Estimate(value=skew, n=n, note=note),
        names[1]: Estimate(value=anti / n, n=n),
    }
