"""The numbers that every protocol shares, from plain 1-D arrays of scores.

A score is a similarity: higher is more alike, and a pair is accepted if and only if
``score >= threshold``, so equal scores stand or fall together.  A comparison that failed (no
template) has the score -inf: it is never accepted, and it is counted in every denominator, so it
lowers TPR and cannot raise FAR.  NaN and +inf are refused.

Rates come from integer counts and one division.  Nothing depends on a grid of thresholds.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from evalkit.arrays import numbers, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.types import Estimate

_RATE = re.compile(r"-?[0-9./]{1,30}([eE][+-]?[0-9]{1,3})?")


def checked_scores(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Return (N,) float64 scores, or raise ProtocolError where they are none: NaN, +inf, 2-D."""
    s = numbers(values, f"{what} scores")
    if s.ndim != 1:
        raise ProtocolError(f"{what} scores have shape {s.shape}", "expected one dimension")
    if not (s < np.inf).all():  # NaN compares False
        bad = int(np.flatnonzero(~(s < np.inf))[0])
        raise ProtocolError(
            f"{what} score {bad} is {s[bad]}", "scores are finite; a failed comparison is -inf"
        )
    return s


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


def auc(genuine: ArrayLike, impostor: ArrayLike) -> Estimate:
    """Area under the ROC: the share of (genuine, impostor) couples that are ordered correctly.

    genuine : (G,), impostor : (I,) scores.
    A tie counts half [Mann and Whitney 1947; Bamber 1975], except that a failed genuine comparison
    wins nothing, not even against a failed impostor one.  Exact: whole numbers, one division.
    None where a class is empty.

    >>> auc([0.9, 0.4], [0.4, 0.1]).value
    0.875
    """
    g, i = checked_scores(genuine, "genuine"), np.sort(checked_scores(impostor, "impostor"))
    if not len(g) or not len(i):
        return _empty(len(g), len(i))
    ok = g[np.isfinite(g)]
    below = np.searchsorted(i, ok, "left").sum(dtype=np.int64)
    not_above = np.searchsorted(i, ok, "right").sum(dtype=np.int64)
    return Estimate(value=(int(below) + int(not_above)) / (2 * len(g) * len(i)), n=len(g) + len(i))


def eer(genuine: ArrayLike, impostor: ArrayLike) -> Estimate:
    """Equal error rate: where the ROC, its points joined by straight lines, has FAR = FNMR.

    genuine : (G,), impostor : (I,) scores.
    Without ties between the classes every step of the ROC is horizontal or vertical, so the value
    is an observed rate; within a tie it is interpolated, as AUC's "half" does.  `threshold` is the
    highest one whose FAR is at least its FNMR; `far` is what was realised there.  None where a
    class is empty, or where failures keep FNMR above FAR at every threshold.

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
    )


def _empty(genuine: int, impostor: int) -> Estimate:
    missing = "genuine" if not genuine else "impostor"
    return Estimate(value=None, n=genuine + impostor, note=f"there are no {missing} comparisons")


def exact_rate(text: str) -> Fraction:
    """Read a FAR or FPIR from decimal text such as "1e-3", exactly: "0.1" means one tenth.

    ProtocolError unless 0 < x <= 1 and the text is what somebody would write: an exponent of nine
    digits would take hours.
    """
    try:
        if not isinstance(text, str) or not _RATE.fullmatch(text):
            raise ValueError
        x = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ProtocolError(f"FAR {text!r} is not decimal text", 'write it as "1e-3"') from None
    if not 0 < x <= 1:
        raise ProtocolError(f"FAR {text} is outside (0, 1]", 'write it as a fraction, "1e-3"')
    return x


def false_accepts_allowed(far: str, impostor: int) -> int:
    """K = floor(x N): the accepts that a FAR of at most x allows among N impostor comparisons.

    far : decimal text, see `exact_rate`; the product is exact.

    >>> false_accepts_allowed("1e-3", 3000), false_accepts_allowed("0.3", 10)
    (3, 3)
    """
    return math.floor(exact_rate(far) * impostor)


def threshold_at_far(impostor: ArrayLike, far: str) -> float | None:
    """Lowest threshold whose measured FAR is at most x, or None where x N < 1.

    With K = floor(x N) it is the next float64 above the (K+1)-th largest of the N impostor scores,
    so what is accepted lies strictly above that score.

    >>> threshold_at_far([0.1, 0.2, 0.3, 0.4], "0.25")
    0.30000000000000004
    """
    i = checked_scores(impostor, "impostor")
    k = false_accepts_allowed(far, len(i))
    if k == 0:
        return None
    bar = -np.inf if k >= len(i) else np.partition(i, len(i) - k - 1)[len(i) - k - 1]
    return float(np.nextafter(bar, np.inf))


def tpr_at_far(genuine: ArrayLike, impostor: ArrayLike, far: str) -> Estimate:
    """TPR at the lowest threshold whose measured FAR is at most x; never nearest or interpolated.

    far : x as decimal text, "1e-3".  Ties: impostors that share the score at the border are all
    rejected, so the realised `far` may be below x.  None with the reason where x N < 1 or there is
    no genuine comparison; a warning in `note` below ten false accepts.

    >>> tpr_at_far([0.9, 0.35, 0.2], [0.1, 0.2, 0.3, 0.4], "0.25").value
    0.6666666666666666
    """
    g, i = checked_scores(genuine, "genuine"), checked_scores(impostor, "impostor")
    threshold = threshold_at_far(i, far)
    bar = np.inf if threshold is None else threshold
    true, false = (int(np.count_nonzero(s >= bar)) for s in (g, i))
    return tpr_estimate(far, threshold, true, len(g), false, len(i))


def tpr_estimate(
    far: str,
    threshold: float | None,
    true_accepts: int,
    genuine: int,
    false_accepts: int,
    impostor: int,
    words: tuple[str, str, str] = ("FAR", "genuine comparisons", "impostor comparisons"),
) -> Estimate:
    """State counts taken at a threshold as TPR@FAR=x: the one place that knows None and warnings.

    For those who count while streaming; `tpr_at_far` is the same for scores that fit in memory.
    words : what a note calls the rate and the trials of either kind.
    """
    rate, mates, trials = words
    allowed = false_accepts_allowed(far, impostor)
    n = genuine + impostor
    if allowed == 0 or threshold is None:
        need = math.ceil(1 / exact_rate(far))
        note = f"{rate} {far} needs at least {need:,} {trials}, there are {impostor:,}"
        return Estimate(value=None, n=n, note=note)
    some = "false accept" if false_accepts == 1 else "false accepts"
    few = f"rests on {false_accepts} {some}: fewer than 10 is a guess"
    note = "" if false_accepts >= 10 else few
    return Estimate(
        value=true_accepts / genuine if genuine else None,
        n=n,
        threshold=threshold,
        far=false_accepts / impostor,
        false_accepts=false_accepts,
        note=note if genuine else f"there are no {mates}",
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


def mate_rank(scores: ArrayLike, mate: ArrayLike) -> NDArray[np.int64]:
    """Rank of each probe's mate: 1 + gallery entries that score strictly above it.

    scores : (Q, G) probe by gallery; mate : (Q,) gallery column.  Ties favour the mate.
    A failed mate (-inf) has rank 0, which no `cmc` counts.  Returns (Q,) int64.
    ProtocolError where the shapes do not fit or a column is none of the gallery's.
    """
    s, m = numbers(scores, "scores"), whole_numbers(mate, "mate")
    if s.ndim != 2 or m.shape != s.shape[:1]:
        raise ProtocolError(
            f"scores of shape {s.shape} have mates of shape {m.shape}", "expected (Q, G) and (Q,)"
        )
    if m.min(initial=0) < 0 or m.max(initial=-1) >= s.shape[1]:
        raise ProtocolError(f"mates are columns {m.min()} to {m.max()} of {s.shape[1]}")
    own = s[np.arange(len(s)), m]
    return np.where(np.isfinite(own), 1 + np.count_nonzero(s > own[:, None], axis=1), 0)


def cmc(rank: ArrayLike, depth: int) -> NDArray[np.float64]:
    """Cumulative match characteristic: element k-1 is the share of probes with rank 1..k.

    rank : (Q,) int, 1 = the mate is first, 0 = failed.  Returns (depth,) float64, NaN without
    probes.

    >>> cmc([1, 1, 3, 0], 3).tolist()
    [0.5, 0.5, 0.75]
    """
    r = whole_numbers(rank, "rank")
    if r.ndim != 1:
        raise ProtocolError(f"ranks have shape {r.shape}", "expected one dimension")
    hits = np.bincount(r[(r >= 1) & (r <= depth)], minlength=depth + 1)[1 : depth + 1]
    return np.cumsum(hits) / (len(r) or np.nan)


def dir_at_fpir(
    mate_score: ArrayLike, rank: ArrayLike, highest_nonmate: ArrayLike, fpir: str, within: int = 1
) -> Estimate:
    """DIR@FPIR=x: detection and identification rate of an open-set search.

    mate_score, rank : (Q,) of probes that have a mate enrolled; highest_nonmate : (R,) the best
    gallery score of each probe that has none.  FPIR of a threshold = share of the R that reach it;
    the threshold is the lowest with FPIR at most x, as in `threshold_at_far`.  DIR = share of the Q
    with score >= threshold and rank <= `within`.  fpir : x as decimal text.  None where x R < 1 or
    Q = 0; ProtocolError where scores and ranks do not fit together.
    Source: Phillips, Grother, Micheals, Handbook of Face Recognition, ch. 14 (2005).
    """
    s, best = checked_scores(mate_score, "mate"), checked_scores(highest_nonmate, "non-mate")
    r = whole_numbers(rank, "rank")
    if r.shape != s.shape:
        raise ProtocolError(f"{len(s)} mate scores have ranks of shape {r.shape}")
    threshold = threshold_at_far(best, fpir)
    bar = np.inf if threshold is None else threshold
    hits = int(np.count_nonzero((s >= bar) & (r >= 1) & (r <= within)))
    false = int(np.count_nonzero(best >= bar))
    words = "FPIR", "searches with a mate", "searches without a mate"
    return tpr_estimate(fpir, threshold, hits, len(s), false, len(best), words)
