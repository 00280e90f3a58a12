"""ROC and DET curves, area below a ROC curve, equal error rate; METRICS of a list of scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from evalkit.protocols.metrics.operating_point import checked_scores, few_errors
from evalkit.protocols.metrics.record import Metric
from evalkit.types import Estimate


@dataclass(frozen=True, slots=True)
class Roc:
    """Every operating point, from accepting nobody to accepting all that can be accepted.

    threshold : (T,) float64, descending: just above the highest score, then each distinct finite
    score.  false_accepts, true_accepts : (T,) int64, pairs whose score is >= threshold.
    genuine, impostor : comparisons in all, failed ones included; a rate without comparisons is NaN.
    """

    threshold: NDArray[np.float64]
    false_accepts: NDArray[np.int64]
    true_accepts: NDArray[np.int64]
    genuine: int
    impostor: int

    @property
    def far(self) -> NDArray[np.float64]:
        """False accept rate: accepted impostor comparisons over all impostor comparisons."""
        return self.false_accepts / (self.impostor or np.nan)

    @property
    def tpr(self) -> NDArray[np.float64]:
        """True positive rate: accepted genuine comparisons over all genuine comparisons."""
        return self.true_accepts / (self.genuine or np.nan)

    @property
    def fnmr(self) -> NDArray[np.float64]:
        """False non-match rate: rejected genuine comparisons over all genuine comparisons."""
        return (self.genuine - self.true_accepts) / (self.genuine or np.nan)

    def thinned(self, points: int = 1000) -> Roc:
        """Return the curve for a picture: its corners only, and at most about `points` of them.

        A point on the straight line between its neighbours is dropped, which changes no line drawn.
        If more corners remain, those nearest to an even spacing in log FAR and in TPR are kept.
        """
        f, t = self.false_accepts, self.true_accepts
        step_f, step_t = np.diff(f), np.diff(t)
        keep = np.ones(len(f), bool)
        keep[1:-1] = step_f[1:] * step_t[:-1] != step_f[:-1] * step_t[1:]
        kept = np.flatnonzero(keep)
        if len(kept) > points:
            wanted_f = np.geomspace(1, max(f[-1], 1), points // 2)
            wanted_t = np.linspace(0, t[-1], points // 2)
            by_f = np.searchsorted(f[kept], wanted_f).clip(max=len(kept) - 1)
            by_t = np.searchsorted(t[kept], wanted_t).clip(max=len(kept) - 1)
            kept = kept[np.unique(np.concatenate([[0], by_f, by_t, [len(kept) - 1]]))]
        return Roc(self.threshold[kept], f[kept], t[kept], self.genuine, self.impostor)


def roc(genuine: ArrayLike, impostor: ArrayLike) -> Roc:
    """Count accepts at every distinct score.

    genuine : (G,), impostor : (I,) scores.  Ties: equal scores are accepted together, so a tie
    between the classes is one step that is neither vertical nor horizontal.

    >>> r = roc([0.9, 0.4], [0.4, 0.1])
    >>> r.far.tolist(), r.tpr.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    g, i = checked_scores(genuine, "genuine"), checked_scores(impostor, "impostor")
    both = np.concatenate([g, i])
    order = np.argsort(-both, kind="stable")
    s = both[order]
    is_genuine = order < len(g)
    last = np.flatnonzero(np.append(s[1:] != s[:-1], True)) if len(s) else np.empty(0, np.int64)
    last = last[np.isfinite(s[last])]
    true = np.cumsum(is_genuine)[last]
    top = np.nextafter(s[0] if len(s) else 0.0, np.inf)
    return Roc(
        np.concatenate([[top], s[last]]),
        np.concatenate([[0], last + 1 - true]).astype(np.int64),
        np.concatenate([[0], true]).astype(np.int64),
        len(g),
        len(i),
    )


@dataclass(frozen=True, slots=True)
class Det:
    """Detection error trade-off: (T,) rates, and the same as normal deviates for its axes."""

    far: NDArray[np.float64]
    fnmr: NDArray[np.float64]
    far_deviate: NDArray[np.float64]
    fnmr_deviate: NDArray[np.float64]
    threshold: NDArray[np.float64]


def det(genuine: ArrayLike, impostor: ArrayLike) -> Det:
    """DET curve [Martin et al. 1997]: FNMR against FAR, both also as probits.

    genuine : (G,), impostor : (I,) scores; at most about 2,000 points, none where a class is empty.
    Points with a rate of exactly 0 or 1 have no finite deviate and are left out.
    """
    r = roc(genuine, impostor).thinned(2000)
    far, fnmr = r.far, r.fnmr
    on = (far > 0) & (far < 1) & (fnmr > 0) & (fnmr < 1)
    far, fnmr = far[on], fnmr[on]
    return Det(far, fnmr, ndtri(far), ndtri(fnmr), r.threshold[on])


def auc(genuine: ArrayLike, impostor: ArrayLike) -> Estimate:
    """Area under the ROC: the share of (genuine, impostor) couples that are ordered correctly.

    genuine : (G,), impostor : (I,) scores.
    A tie counts half [Mann and Whitney 1947; Bamber 1975], except that a failed genuine comparison
    wins nothing, not even against a failed impostor one.  Exact: whole numbers, one division.
    None where a class is empty.  Misses are here the genuine comparisons that some impostor
    reaches, false accepts the impostors that reach some genuine one; a warning below ten.

    >>> auc([0.9, 0.4], [0.4, 0.1]).value
    0.875
    """
    g, i = checked_scores(genuine, "genuine"), np.sort(checked_scores(impostor, "impostor"))
    if not len(g) or not len(i):
        return _empty(len(g), len(i))
    ok = g[np.isfinite(g)]
    below = np.searchsorted(i, ok, "left").sum(dtype=np.int64)
    not_above = np.searchsorted(i, ok, "right").sum(dtype=np.int64)
    accepts = len(i) - int(np.searchsorted(i, g.min(), "left"))
    return Estimate(
        value=(int(below) + int(not_above)) / (2 * len(g) * len(i)),
        n=len(g) + len(i),
        note=few_errors(false_accepts=accepts, misses=int(np.count_nonzero(g <= i[-1]))),
    )


def eer(genuine: ArrayLike, impostor: ArrayLike) -> Estimate:
    """Equal error rate: where the ROC, its points joined by straight lines, has FAR = FNMR.

    genuine : (G,), impostor : (I,) scores.
    Without ties between the classes every step of the ROC is horizontal or vertical, so the value
    is an observed rate; within a tie it is interpolated, as AUC's "half" does.  `threshold` is the
    highest one whose FAR is at least its FNMR; `far` is what was realised there.  None where a
    class is empty, or where failures keep FNMR above FAR at every threshold; a warning in `note`
    below ten false accepts or misses at that threshold.

    >>> eer([0.9, 0.8, 0.3], [0.7, 0.2, 0.1]).value
    0.3333333333333333
    """
    r = roc(genuine, impostor)
    if not r.genuine or not r.impostor:
        return _empty(r.genuine, r.impostor)
    n = r.genuine + r.impostor
    # FAR - FNMR over the common denominator; rises from -G*I
    gap = r.false_accepts * r.genuine - (r.genuine - r.true_accepts) * r.impostor
    k = int(np.searchsorted(gap, 0))
    if k == len(gap):
        note = "failures keep the false non-match rate above FAR at every threshold"
        return Estimate(value=None, n=n, note=note)
    low, high = int(gap[k - 1]), int(gap[k])
    a, b = int(r.false_accepts[k - 1]), int(r.false_accepts[k])
    return Estimate(
        value=(a * (high - low) - low * (b - a)) / (r.impostor * (high - low)),
        n=n,
        threshold=float(r.threshold[k]),
        far=b / r.impostor,
        false_accepts=b,
        note=few_errors(false_accepts=b, misses=r.genuine - int(r.true_accepts[k])),
    )


def _empty(genuine: int, impostor: int) -> Estimate:
    missing = "genuine" if not genuine else "impostor"
    return Estimate(value=None, n=genuine + impostor, note=f"no {missing} comparisons")


# Measured of every scored pair list, in this order (`verification.measures`).
METRICS = (
    Metric(
        grammar="auc",
        means="area under the ROC curve",
        better="higher",
        resampled="auc",
        of_scores=auc,
    ),
    Metric(
        grammar="eer",
        means="equal error rate: where FAR = FNMR",
        better="lower",
        percent=True,
        resampled="eer",
        of_scores=eer,
    ),
)
