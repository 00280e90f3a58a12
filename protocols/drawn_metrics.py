"""What every metric becomes in a draw of subjects, and what the impostors add to it.

A draw weighs genuine pairs by w_i and impostor pairs by 1 + c (w_i w_j - 1): see `subject_draws`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.kfold import best_threshold
from evalkit.protocols.samples import Floats, Ints, Sample, Searches
from evalkit.protocols.subject_draws import Counts, Draw

Statistic = Callable[[Draw], float]
BEST = "accuracy@threshold=best"


def reaching(sample: Sample, name: str) -> Sample:
    """Choose what a metric is drawn from: the sample, or a thinned one that reaches a high FAR."""
    far = _far(name)
    if far is None or sample.thinned is None or accepts(sample, far) is not None:
        return sample
    return sample.thinned


def statistic(sample: Sample, name: str, c: float) -> Statistic | None:
    """Find how to compute a metric in one draw, or None where the sample does not hold it."""
    if name.startswith("rank-") and sample.rank is not None:
        return _rank_statistic(sample, name.removeprefix("rank-").partition("@")[0])
    if name.startswith("tpir@fpir="):
        return _tpir_statistic(sample, name.removeprefix("tpir@fpir=").partition(",")[0])
    far = _far(name)
    if far is not None:
        return _tpr_statistic(sample, far, c)
    if not _lists_all(sample):
        return None
    if name == "accuracy" and sample.decided is not None:
        return _accuracy_statistic(sample, c)
    of_name = {BEST: _best_accuracy_statistic, "auc": _auc_statistic, "eer": _eer_statistic}
    return of_name[name](sample, c) if name in of_name else None


def excess(sample: Sample, name: str) -> Floats | int | None:
    """Find what each impostor comparison adds to a metric beyond their mean, for `shrinkage`.

    (I,) in the sample's order where all are listed; else how many of the highest are accepted.
    None where no impostor counts, or the sample does not hold the metric.
    """
    far = _far(name)
    if far is not None:
        accepted = accepts(sample, far)
        if accepted is None or not _lists_all(sample):
            return accepted
        added: NDArray[Any] = np.arange(len(sample.impostor)) < accepted
    elif not _lists_all(sample):
        return None
    elif name == "auc":
        added = _wins(sample)[0]
    elif name == "eer":
        threshold, at = _crossing(sample)
        added = sample.impostor >= (threshold[at] if at >= 0 else np.inf)
    elif name == BEST:
        score = np.concatenate([sample.genuine, sample.impostor])
        added = sample.impostor < best_threshold(score, np.arange(len(score)) < len(sample.genuine))
    elif name == "accuracy" and sample.decided is not None and sample.order is not None:
        added = sample.decided[sample.order][len(sample.genuine) :]
    else:
        return None
    centred: Floats = added.astype(np.float64) - added.mean()
    return centred


def _far(name: str) -> str | None:
    """Read the FAR of tpr@far=x, whatever follows; None where it is no number."""
    x = name.removeprefix("tpr@far=").partition(",")[0]
    return x if name.startswith("tpr@far=") and _rate(x) is not None else None


def _rate(text: str) -> Fraction | None:
    """Read decimal text; None for a name's other text, and for numbers nobody would write."""
    if not re.fullmatch(r"[0-9./]{1,30}([eE][+-]?[0-9]{1,3})?", text):
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def _lists_all(sample: Sample) -> bool:
    every = len(sample.impostor) == sample.impostors
    return bool(len(sample.genuine) and sample.impostors and every)


def accepts(sample: Sample, far: str) -> int | None:
    """Count the accepts that a FAR of at most x allows; None where the sample ends before."""
    allowed, stored = int(Fraction(far) * sample.impostors), len(sample.impostor)
    if not len(sample.genuine) or allowed < 1 or (stored <= allowed and stored < sample.impostors):
        return None
    return allowed


def share(part: float, whole: float) -> float:
    """Divide within [0, 1], which c above 1 could leave; NaN where a draw holds nothing."""
    return min(max(float(part / whole), 0.0), 1.0) if whole > 0 else float("nan")


def _rank_statistic(sample: Sample, k: str) -> Statistic | None:
    if not k.isdigit() or sample.rank is None or sample.rank_subject is None:
        return None
    hit = (sample.rank >= 1) & (sample.rank <= int(k))
    subject, of, searches = np.unique(sample.rank_subject, return_inverse=True, return_counts=True)
    hits = np.bincount(of[hit], minlength=len(subject))

    def rank_k(draw: Draw) -> float:
        w = draw.weight[subject]
        return share(float(w @ hits), float(w @ searches))

    return rank_k


def _tpir_statistic(sample: Sample, fpir: str) -> Statistic | None:
    """Mean over the galleries of TPIR at the lowest threshold with weighted FPIR at most x."""
    rate = _rate(fpir)
    if rate is None or not sample.searches:
        return None
    x = float(rate)
    if not all(len(s.mate) and len(s.nonmate) for s in sample.searches):
        return None

    galleries = [_Found(s) for s in sample.searches]

    def of_gallery(g: _Found, weight: Counts) -> float:
        false = np.cumsum(weight[g.searches.nonmate_subject])
        k = int(np.searchsorted(false, x * false[-1] * (1 + 1e-12), "right"))
        looked = weight[g.subject]
        return share(float(looked @ g.above(k)), float(looked @ g.looked))

    return lambda draw: float(np.mean([of_gallery(g, draw.weight) for g in galleries]))


class _Found:
    """Mates of each subject above the (k+1)-th highest nonmate; draws differ little in k.

    subject : (U,) those who were searched for.  looked : (U,) how often.
    """

    def __init__(self, searches: Searches) -> None:
        self.searches = searches
        self.subject, self._of, self.looked = np.unique(
            searches.mate_subject, return_inverse=True, return_counts=True
        )
        borders = np.append(searches.nonmate, -np.inf)
        self._upto = np.searchsorted(-searches.mate, -borders, "left")
        self._k = len(borders) - 1
        self._count = self._between(0, self._upto[-1])

    def _between(self, a: int, b: int) -> Counts:
        return np.bincount(self._of[a:b], minlength=len(self.subject))

    def above(self, k: int) -> Counts:
        """Count them, (U,); past the last nonmate, all that are finite."""
        a, b = self._upto[self._k], self._upto[k]
        self._count = self._count + self._between(a, b) - self._between(b, a)
        self._k = k
        return self._count


def _tpr_statistic(sample: Sample, far: str, c: float) -> Statistic | None:
    if accepts(sample, far) is None:
        return None
    at_border = border(sample, far, c)
    stored = len(sample.impostor)
    above = np.searchsorted(-sample.genuine, -sample.impostor, "left")
    finite = int(np.searchsorted(-sample.genuine, np.inf, "left"))
    above = np.append(above, finite if stored == sample.impostors else above[-1])

    def tpr(draw: Draw) -> float:
        return share(draw.genuine[above[at_border(draw)]], draw.genuine[-1])

    return tpr


def border(sample: Sample, far: str, c: float) -> Callable[[Draw], int]:
    """Find how many of the highest impostors a draw accepts at FAR <= x: the next is the border."""
    x, stored = float(Fraction(far)), len(sample.impostor)
    # Draws rarely need more than twice the observed number of false accepts.
    reach = range(min(stored, 2 * (accepts(sample, far) or 0) + 100))
    beyond = stored if len(reach) == sample.impostors else len(reach) - 1

    def found(draw: Draw) -> int:
        bound = x * ((1 - c) * sample.impostors + c * draw.products)
        product = draw.product
        k = bisect_right(
            reach, bound * (1 + 1e-12), key=lambda k: (1 - c) * (k + 1) + c * product[k + 1]
        )
        return k if k < len(reach) else beyond

    return found


class _Decisions:
    """Every comparison of a pair list by descending score, for accuracies of a draw.

    A cut accepts the comparisons before it.  Cuts lie between any two neighbouring scores, of a
    held-out fold too, and near the observed optimum: where there are at most eight standard
    deviations more errors.
    """

    def __init__(self, sample: Sample, fold: Ints, c: float) -> None:
        """Take the fold of each genuine, then of each impostor comparison: (G+I,)."""
        score = np.concatenate([sample.genuine, sample.impostor])
        pool = np.argsort(-score, kind="stable")
        self.c = c
        self.genuine, score = pool < len(sample.genuine), score[pool]
        self.fold, self.folds = fold[pool], int(fold.max()) + 1
        self.left = np.concatenate([sample.genuine_subject, sample.left])[pool]
        self.right = np.concatenate([sample.genuine_subject, sample.right])[pool]
        # Accepting the n highest is right for their genuine pairs; n may not part equal scores.
        gain = np.concatenate([[0], np.cumsum(np.where(self.genuine, 1, -1))])
        may = np.concatenate([[True], score[1:] != score[:-1], [True]])
        may &= np.arange(len(may)) <= np.count_nonzero(np.isfinite(score))
        errors = np.count_nonzero(self.genuine) - int(gain[may].max())
        near = np.flatnonzero(may & (gain >= gain[may].max() - 8 * np.sqrt(errors + 1)))
        self.low, self.high = int(near[0]), int(near[-1])
        self.near = near - self.low

    def correct(self, draw: Draw) -> tuple[Floats, Floats]:
        """Weight of the right decisions of each fold at each cut (F, C), and of each fold (F,)."""
        k, low, inside = self.folds, self.low, slice(self.low, self.high)
        one = draw.weight.take(self.left)
        both = (1 - self.c) + self.c * (one * draw.weight.take(self.right))
        weight = np.where(self.genuine, one, both)
        signed = np.where(self.genuine, weight, -weight)
        gained = np.zeros((k, self.high - low + 1))
        gained[:, 0] = np.bincount(self.fold[:low], signed[:low], k)
        gained[:, 0] += np.bincount(self.fold, weight * ~self.genuine, k)
        gained[self.fold[inside], np.arange(self.high - low) + 1] = signed[inside]
        total: Floats = np.bincount(self.fold, weight, k).astype(np.float64)
        return np.cumsum(gained, axis=1)[:, self.near], total


def _accuracy_statistic(sample: Sample, c: float) -> Statistic | None:
    """K-fold accuracy of a draw: the best threshold of the other folds is found anew.

    A fold of which nobody was drawn does not count.
    """
    if sample.order is None or sample.fold is None:
        return None
    decisions = _Decisions(sample, sample.fold[sample.order], c)

    def accuracy(draw: Draw) -> float:
        correct, total = decisions.correct(draw)
        others = correct.sum(axis=0) - correct
        best = [_middle(np.flatnonzero(row >= row.max() - 1e-9)) for row in others]
        of_fold = [
            share(row[k], t) for row, k, t in zip(correct, best, total, strict=True) if t > 0
        ]
        return float(np.mean(of_fold)) if of_fold else float("nan")

    return accuracy


def _best_accuracy_statistic(sample: Sample, c: float) -> Statistic:
    """Accuracy of a draw at the one threshold that is best in it."""
    one = np.zeros(len(sample.genuine) + len(sample.impostor), np.int64)
    decisions = _Decisions(sample, one, c)

    def accuracy(draw: Draw) -> float:
        correct, total = decisions.correct(draw)
        return share(correct.max(), total[0])

    return accuracy


def _middle(cuts: Counts) -> int:
    """Of equally good cuts the middle one, of two middle ones the higher threshold."""
    return int(cuts[(len(cuts) - 1) // 2])


def _wins(sample: Sample) -> tuple[Floats, Ints, Ints]:
    """Genuine comparisons that score above each impostor, a tie counting half; above; not below."""
    ok = -sample.genuine[np.isfinite(sample.genuine)]
    above = np.searchsorted(ok, -sample.impostor, "left")
    not_below = np.searchsorted(ok, -sample.impostor, "right")
    return (above + not_below) / 2, above, not_below


def _auc_statistic(sample: Sample, c: float) -> Statistic:
    _, above, not_below = _wins(sample)
    left, right = sample.left, sample.right

    def auc(draw: Draw) -> float:
        weight = (1 - c) + c * draw.weight[left] * draw.weight[right]
        wins = (draw.genuine[above] + draw.genuine[not_below]) / 2
        return share(float(weight @ wins), float(draw.genuine[-1] * weight.sum()))

    return auc


def _crossing(sample: Sample) -> tuple[Floats, int]:
    """All distinct thresholds, descending, and the place of the first where FAR >= FNMR, or -1."""
    both = np.concatenate([sample.genuine, sample.impostor])
    threshold: Floats = np.unique(both[np.isfinite(both)])[::-1]
    g, i = (np.searchsorted(-s, -threshold, "right") for s in (sample.genuine, sample.impostor))
    gap = i / len(sample.impostor) + g / len(sample.genuine) - 1
    return threshold, min(int(np.searchsorted(gap, 0)), len(gap) - 1)


def _eer_statistic(sample: Sample, c: float) -> Statistic:
    threshold = _crossing(sample)[0]
    g = np.append(0, np.searchsorted(-sample.genuine, -threshold, "right"))
    i = np.append(0, np.searchsorted(-sample.impostor, -threshold, "right"))
    plain = (1 - c) * i

    def eer(draw: Draw) -> float:
        total = (1 - c) * sample.impostors + c * draw.products
        if total <= 0 or not draw.genuine[-1]:
            return float("nan")
        far = (plain + c * draw.product[i]) / total
        gap = far + draw.genuine[g] / draw.genuine[-1] - 1
        k = int(np.searchsorted(gap, 0))
        if k == 0 or k == len(gap):
            return float("nan")
        return float((far[k - 1] * gap[k] - gap[k - 1] * far[k]) / (gap[k] - gap[k - 1]))

    return eer
