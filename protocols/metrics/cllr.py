"""Cost of log likelihood ratios in bits, and the ratios that the scores allow at best."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from evalkit.arrays import numbers
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.elementary import log
from evalkit.protocols.metrics.operating_point import checked_scores
from evalkit.types import Floats


def costs(llr: ArrayLike, *, genuine: bool) -> Floats:
    """Cost of each log likelihood ratio, in bits: log2(1 + exp(-llr)) of a genuine comparison.

    llr : natural logarithms, infinite ones too.  Of an impostor comparison log2(1 + exp(llr)).

    >>> costs([0.0, np.inf], genuine=True).tolist()
    [1.0, 0.0]
    """
    value = np.asarray(llr, np.float64)
    bits: Floats = np.logaddexp(0.0, -value if genuine else value) / math.log(2)
    return bits


def cllr(genuine: ArrayLike, impostor: ArrayLike) -> float:
    """Mean cost of genuine and of impostor log likelihood ratios, both classes weighing half.

    1 where every ratio says nothing (llr 0), 0 where all are infinitely right.  NaN refused, as is
    an empty class.  Source: Brümmer and du Preez, Computer Speech and Language 20, 2006, eq. 36.

    >>> cllr([0.0], [0.0, 0.0])
    1.0
    """
    g, i = numbers(genuine, "genuine"), numbers(impostor, "impostor")
    if not len(g) or not len(i) or np.isnan(g).any() or np.isnan(i).any():
        raise ProtocolError(f"Cllr of {len(g)} genuine and {len(i)} impostor ratios, or of NaN")
    return float(costs(g, genuine=True).mean() + costs(i, genuine=False).mean()) / 2


def isotonic_llr(genuine: ArrayLike, impostor: ArrayLike) -> tuple[Floats, Floats]:
    """Best monotone log likelihood ratios of scores, by pooling adjacent violators.

    genuine : (G,), impostor : (I,) finite scores.  Returns the distinct scores, ascending, and the
    ratio of each: log of the share of genuine over that of impostor scores in its block, infinite
    where a block has one class.  Equal scores have one ratio.
    Source: Brümmer and du Preez 2006, section 5; Ayer et al., 1955.

    >>> isotonic_llr([1.0, 2.0], [0.0, 1.0])[1].tolist()
    [-inf, 0.0, inf]
    """
    from scipy.optimize import isotonic_regression  # takes longer to import than numpy

    g, i = checked_scores(genuine, "genuine"), checked_scores(impostor, "impostor")
    score, place = np.unique(np.concatenate([g, i]), return_inverse=True)
    of_g, of_i = (np.bincount(p, minlength=len(score)) for p in np.split(place, [len(g)]))
    count = of_g + of_i
    blocks = isotonic_regression(of_g / count, weights=count).blocks
    g_in, i_in = (np.add.reduceat(c, blocks[:-1]) for c in (of_g, of_i))
    with np.errstate(divide="ignore"):
        ratio = log(g_in / len(g)) - log(i_in / len(i))
    return score, np.repeat(ratio, np.diff(blocks))


def cllr_min(genuine: ArrayLike, impostor: ArrayLike) -> float:
    """Cllr of the best monotone ratios, chosen on the same scores: what discrimination costs.

    Failed comparisons (-inf) say nothing, and cost a bit.

    >>> round(cllr_min([1, 1, 1, 0], [0, 0, 0, 1]), 4)  # the entropy of (3/4, 1/4)
    0.8113
    """
    g, i = checked_scores(genuine, "genuine"), checked_scores(impostor, "impostor")
    both = [s[np.isfinite(s)] for s in (g, i)]
    if not len(both[0]) or not len(both[1]):
        return cllr(np.zeros(len(g)), np.zeros(len(i)))
    score, ratio = isotonic_llr(*both)
    best = [np.zeros(len(s)) for s in (g, i)]
    for llr, s, finite in zip(best, (g, i), both, strict=True):
        llr[np.isfinite(s)] = ratio[np.searchsorted(score, finite)]
    return cllr(*best)
