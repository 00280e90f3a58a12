"""Rules of other projects, by name, to reproduce published numbers.

Each function says whose rule it is and where it stands (project, file).  The threshold rules are
for `kfold.kfold_accuracy`: from (T,) training scores in ascending order and their (T,) labels they
return a threshold t for "accept if and only if score >= t", so a
rule that accepts ``score > t`` or ``distance < t`` returns the next float64 above.  Distances enter
as scores with a minus sign.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import array, labels
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.curves import Roc, roc
from evalkit.protocols.metrics.kfold import ThresholdRule, check_folds
from evalkit.protocols.metrics.operating_point import (
    Rates,
    checked_scores,
    exact_rate,
    rate_text,
    rate_texts,
)
from evalkit.types import Estimate

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]

# The thresholds that projects try, and how they write them.
DISTANCE_GRID = np.arange(0, 4, 0.01)  # facenet src/lfw.py, insightface eval/verification.py
FACENET_VAL_GRID = np.arange(0, 4, 0.001)
SPHEREFACE_GRID = np.arange(-10_000, 10_001) / 10_000
CLCARWIN_GRID = np.arange(-1.0, 1.0, 0.005)
XQLFW_GRID = np.arange(0, 2, 0.001)
_ONE_CLASS = "no genuine, or no impostor comparisons"


def _above(t: Scores) -> Scores:
    return np.nextafter(t, np.inf)


def _accepts(scores: Scores, threshold: Scores) -> NDArray[np.int64]:
    """Count the scores >= each threshold; scores ascending."""
    return len(scores) - np.searchsorted(scores, threshold, side="left")


def _right(s: Scores, genuine: Labels, threshold: Scores) -> NDArray[np.int64]:
    return _accepts(s[genuine], threshold) + np.searchsorted(s[~genuine], threshold, side="left")


def insightface(s: Scores, genuine: Labels) -> float:
    """InsightFace, facenet, face.evoLVe, CurricularFace, AdaFace, CVLface: first best of a grid.

    s = minus the squared distance (or facenet's minus angle over pi); same if distance < t, for t
    in 0, 0.01, ..., 3.99; the lowest of equally good ones (numpy.argmax).
    Reference: insightface recognition/arcface_torch/eval/verification.py, calculate_roc.
    """
    t = _above(-DISTANCE_GRID)
    return float(t[np.argmax(_right(s, genuine, t))])


def xqlfw(s: Scores, genuine: Labels) -> float:
    """XQLFW: s = cosine - 1; same if 1 - cosine < t, for t in 0, 0.001, ..., 1.999; the lowest.

    Reference: Martlgap/xqlfw code/evaluate.py.
    """
    t = _above(-XQLFW_GRID)
    return float(t[np.argmax(_right(s, genuine, t))])


def clcarwin(s: Scores, genuine: Labels) -> float:
    """Use clcarwin's rule: cosine > t, for t in -1, -0.995, ..., 0.995; the highest best one.

    Reference: clcarwin/sphereface_pytorch lfw_eval.py, find_best_threshold (`>=` while going up).
    """
    t = _above(CLCARWIN_GRID)
    right = _right(s, genuine, t)
    return float(t[len(t) - 1 - np.argmax(right[::-1])])


def sphereface(s: Scores, genuine: Labels) -> float:
    """Use SphereFace's rule: the mean of all best thresholds in -1, -0.9999, ..., 1.

    A score equal to a threshold is wrong for either class, in the search; the returned threshold is
    exceeded strictly.  Reference: wy1iu/sphereface test/code/evaluation.m, getThreshold, and
    Xiaoccer/MobileFaceNet_Pytorch lfw_eval.py.
    """
    g, i = s[genuine], s[~genuine]
    right = _accepts(g, _above(SPHEREFACE_GRID)) + np.searchsorted(i, SPHEREFACE_GRID, "left")
    return float(np.nextafter(SPHEREFACE_GRID[right == right.max()].mean(), np.inf))


def facex_zoo(s: Scores, genuine: Labels) -> float:
    """Use FaceX-Zoo's rule: the lowest threshold of greatest TPR - FPR [Youden 1950].

    Candidates: the range of the training scores in 1,000 equal steps, without its lower end.
    Reference: JDAI-CV/FaceX-Zoo test_protocol/lfw/lfw_evaluator.py.
    """
    s, genuine = s[np.isfinite(s)], genuine[np.isfinite(s)]
    if not len(s):
        return float(np.finfo(np.float64).max)
    t = s[0] + np.arange(1, 1001) * ((s[-1] - s[0]) / 1000)
    g, i = s[genuine], s[~genuine]
    tpr = _accepts(g, _above(t)) / max(1, len(g))
    fpr = _accepts(i, _above(t)) / max(1, len(i))
    return float(np.nextafter(t[np.argmax(tpr - fpr)], np.inf))


THRESHOLD_RULES: dict[str, ThresholdRule] = {
    "insightface": insightface,
    "xqlfw": xqlfw,
    "clcarwin": clcarwin,
    "sphereface": sphereface,
    "facex-zoo": facex_zoo,
}


def facenet_val(
    scores: ArrayLike, genuine: ArrayLike, fold: ArrayLike, far: str | float
) -> Estimate:
    """Compute "VAL@FAR": the threshold is interpolated on nine folds, TPR taken on the tenth.

    scores = minus the squared distance; genuine, fold as `kfold.decisions` takes them; far :
    decimal text.  ProtocolError where they do not fit together.

    On the training folds, FAR at the thresholds 0, 0.001, ..., 3.999; the threshold at which a line
    through them reaches x, or 0 where none does (then VAL is 0, even for a perfect model).  `value`
    is the mean VAL, `far` the mean FAR realised.
    Reference: davidsandberg/facenet src/facenet.py, calculate_val.  Its interp1d raises on the
    plateaus of FAR since SciPy 1.9; `numpy.interp` gives what it gave.
    """
    s, g, f = _folded(scores, genuine, fold)
    t, x = -FACENET_VAL_GRID, float(exact_rate(far))
    val, fars = [], []
    for k in np.unique(f):
        train, test = f != k, f == k
        of_far = _accepts(np.sort(s[train & ~g]), _above(t)) / np.count_nonzero(train & ~g)
        reached = of_far.max() >= x
        at = np.interp(x, of_far, FACENET_VAL_GRID) if reached else 0.0
        val.append(np.count_nonzero(s[test & g] > -at) / np.count_nonzero(test & g))
        fars.append(np.count_nonzero(s[test & ~g] > -at) / np.count_nonzero(test & ~g))
    return Estimate(
        value=math.fsum(val) / len(val),
        n=len(s),
        far=math.fsum(fars) / len(fars),
        folds=tuple(val),
        note=f"deviation over folds (divisor F) {np.std(val):.5f}",
    )


def _folded(
    scores: ArrayLike, genuine: ArrayLike, fold: ArrayLike
) -> tuple[Scores, Labels, NDArray[np.int64]]:
    s, g, f = checked_scores(scores, "pair"), labels(genuine), array(fold, "fold")
    check_folds(g, f)
    if s.shape != g.shape:
        raise ProtocolError(f"{len(g)} pairs have {len(s)} scores")
    return s, g, f


def facenet_curve(scores: ArrayLike, genuine: ArrayLike, fold: ArrayLike) -> tuple[Scores, Scores]:
    """Return (FPR, TPR) at 400 distances, (400,) each, the mean of the ten folds' rates.

    scores = minus the squared distance; genuine, fold as `kfold.decisions` takes them.
    Reference: davidsandberg/facenet src/facenet.py, calculate_roc.
    """
    s, g, f = _folded(scores, genuine, fold)
    t = _above(-DISTANCE_GRID)
    rates = [
        [_accepts(np.sort(s[here & of]), t) / np.count_nonzero(here & of) for of in (~g, g)]
        for here in (f == k for k in np.unique(f))
    ]
    far, tpr = np.mean(rates, axis=0)
    return far, tpr


def facenet_auc(far: Scores, tpr: Scores) -> Estimate:
    """Area under `facenet_curve` by trapezoids; too small where the grid ends before FPR 1."""
    from scipy.integrate import trapezoid  # takes longer to import than numpy

    short = "" if far[-1] == 1 else f"the grid of distances ends at FPR {far[-1]:.3f}"
    return Estimate(value=float(trapezoid(tpr, far)), n=len(far), note=short)


def facenet_eer(far: Scores, tpr: Scores) -> Estimate:
    """Root of 1 - x - TPR(x) on a line through `facenet_curve`; None where there is no root.

    Reference: davidsandberg/facenet src/validate_on_lfw.py (brentq over interp1d).
    """
    from scipy.optimize import brentq  # takes longer to import than numpy

    if far[-1] < 1:
        note = f"the grid of distances ends at FPR {far[-1]:.3f}, where the original raises"
        return Estimate(value=None, n=len(far), note=note)

    def gap(x: float) -> float:
        return float(1 - x - np.interp(x, far, tpr))

    return Estimate(value=float(brentq(gap, 0.0, 1.0)), n=len(far))


def nearest_far(
    genuine: ArrayLike, impostor: ArrayLike, far: str | float, drop: bool = True
) -> Estimate:
    """TPR at the ROC point whose FAR is nearest to x, above or below: the IJB scripts' rule.

    genuine : (G,), impostor : (I,) scores; far : decimal text.  None without genuine comparisons.
    drop : leave out points inside straight runs first, as scikit-learn's roc_curve does by default.
    Of equally near points the one of higher FAR.  A failed pair is the lowest score of all and is
    accepted at the curve's end.
    Reference: insightface recognition/_evaluation_/ijb/ijb_11.py; AdaFace, FaceX-Zoo, CVLface.
    """
    return nearest_fars(genuine, impostor, far, drop)[rate_text(far)]


def nearest_fars(
    genuine: ArrayLike, impostor: ArrayLike, fars: Rates, drop: bool = True
) -> dict[str, Estimate]:
    """Give `nearest_far` of several FARs, by their decimal texts, from one sort of the scores."""
    r = roc(genuine, impostor)
    n, mates = r.impostor, r.genuine
    fp, tp = np.append(r.false_accepts, n), np.append(r.true_accepts, mates)
    threshold = np.append(r.threshold, np.finfo(np.float64).min)
    del r
    if (fp[-2], tp[-2]) == (fp[-1], tp[-1]):
        fp, tp, threshold = fp[:-1], tp[:-1], threshold[:-1]
    if drop and len(fp) > 3:
        # scikit-learn looks at the second difference of the counts, without the point (0, 0)
        corner = (np.diff(fp[1:], 2) != 0) | (np.diff(tp[1:], 2) != 0)
        keep = np.concatenate([[True, True], corner, [True]])
        fp, tp, threshold = fp[keep], tp[keep], threshold[keep]
    realised = fp / (n or np.nan)
    estimates = {}
    for far in rate_texts(fars):
        k = len(fp) - 1 - int(np.argmin(np.abs(realised[::-1] - float(exact_rate(far)))))
        estimates[far] = Estimate(
            value=float(tp[k] / mates) if mates else None,
            n=mates + n,
            threshold=float(threshold[k]),
            far=float(realised[k]),
            false_accepts=int(fp[k]),
        )
    return estimates


def blufr(genuine: ArrayLike, impostor: ArrayLike, far: str | float | Fraction) -> Estimate:
    """TPR at the round(x N)-th largest impostor score, which is accepted, and all equal ones.

    genuine : (G,), impostor : (I,) scores; far : decimal text, or x itself.  Half is rounded up,
    as MATLAB does.  Where that is 0 the threshold lies above every impostor.  None where a class
    is empty.
    Reference: BLUFR 1.0, EvalROC.m [Liao et al. 2014].
    """
    g, i = checked_scores(genuine, "genuine"), np.sort(checked_scores(impostor, "impostor"))
    x = far if isinstance(far, Fraction) else exact_rate(far)
    k = math.floor(x * len(i) + Fraction(1, 2))
    if not len(g) or not len(i):
        return Estimate(value=None, n=len(g) + len(i), note="a class has no comparisons")
    t = float(i[len(i) - k]) if k else float(np.nextafter(i[-1], np.inf))
    t = max(t, float(np.finfo(np.float64).min))  # failures are never accepted
    false = int(np.count_nonzero(i >= t))
    return Estimate(
        value=int(np.count_nonzero(g >= t)) / len(g),
        n=len(g) + len(i),
        threshold=t,
        far=false / len(i),
        false_accepts=false,
    )


def eer_closest(genuine: ArrayLike, impostor: ArrayLike) -> Estimate:
    """EER as the mean of FMR and FNMR at the threshold where they are closest.

    bob.measure (eer_threshold, then the half total error rate) and torchmetrics (EER of its ROC).
    genuine : (G,), impostor : (I,) scores.  Thresholds are the distinct scores and one above all;
    of equally close ones the highest is taken.  None where a class is empty.

    >>> eer_closest([0.9, 0.8, 0.3], [0.7, 0.2]).value
    0.41666666666666663
    """
    r = roc(genuine, impostor)
    if not r.genuine or not r.impostor:
        return Estimate(value=None, n=r.genuine + r.impostor, note=_ONE_CLASS)
    # |FMR - FNMR| over the common denominator, so that equally close is equal.
    gap = np.abs(r.false_accepts * r.genuine - (r.genuine - r.true_accepts) * r.impostor)
    k = int(np.argmin(gap))
    return _eer_at(r, k, float(r.far[k] + r.fnmr[k]) / 2)


def eer_upper(genuine: ArrayLike, impostor: ArrayLike) -> Estimate:
    """EER as the upper end of the FVC's interval: never below the rate where the curves cross.

    FVC2000 [Maio et al., PAMI 24, 2002] and pyeer ("EER high").  Of the highest threshold with
    FNMR <= FMR and the lowest with FNMR >= FMR, the one with the smaller sum of both rates; there
    the larger of FMR and FNMR.  genuine : (G,), impostor : (I,) scores.  None where a class is
    empty, or failures keep FNMR above FMR at every threshold.

    >>> eer_upper([0.9, 0.8, 0.3], [0.7, 0.2]).value
    0.3333333333333333
    """
    r = roc(genuine, impostor)
    if not r.genuine or not r.impostor:
        return Estimate(value=None, n=r.genuine + r.impostor, note=_ONE_CLASS)
    gap = r.false_accepts * r.genuine - (r.genuine - r.true_accepts) * r.impostor
    k = int(np.searchsorted(gap, 0))
    if k == len(gap):
        note = "failures keep FNMR above FMR at every threshold"
        return Estimate(value=None, n=r.genuine + r.impostor, note=note)
    above = int(np.searchsorted(gap, 0, "right")) - 1
    chosen = k if r.far[k] + r.fnmr[k] <= r.far[above] + r.fnmr[above] else above
    return _eer_at(r, chosen, float(max(r.far[chosen], r.fnmr[chosen])))


def _eer_at(r: Roc, k: int, value: float) -> Estimate:
    return Estimate(
        value=value,
        n=r.genuine + r.impostor,
        threshold=float(r.threshold[k]),
        far=float(r.far[k]),
        false_accepts=int(r.false_accepts[k]),
    )
