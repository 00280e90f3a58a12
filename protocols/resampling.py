"""What every metric becomes in each draw of subjects: see `subject_draws`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np

from evalkit.protocols.kfold import best_threshold
from evalkit.protocols.samples import Floats, Ints, Sample, Searches
from evalkit.protocols.subject_draws import Counts, Draw, shrinkage, subject_weights, weigh

Statistic = Callable[[Draw], float]


def metric_draws(
    sample: Sample,
    names: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
    weights: Counts | None = None,
) -> dict[str, Floats]:
    """Draw subjects `draws` times; return each metric that the sample supports: name -> (draws,).

    Understood are accuracy, accuracy@threshold=best, auc, eer, and tpr@far=x, rank-k, tpir@fpir=x
    (the gallery stays, the people looked for are drawn), whatever follows; the threshold is found
    anew in each draw.  NaN where a draw holds no comparison.  One seed draws the same people for
    two models over the same comparisons: subtract their draws.
    weights : (draws, S) of people drawn already.  What `sample` holds drawn is returned as it is.
    """
    statistics = {n: s for n in names if (s := _statistic(sample, n)) is not None}
    drawn = {name: np.empty(draws) for name in statistics}
    if statistics:
        rng = np.random.default_rng(seed)
        draw = None
        for d in range(draws):
            weight = subject_weights(sample, rng) if weights is None else weights[d]
            draw = weigh(sample, weight, draw)
            for name, statistic in statistics.items():
                drawn[name][d] = statistic(draw)
    return drawn | {name: sample.drawn[name] for name in names if name in sample.drawn}


def _statistic(sample: Sample, name: str) -> Statistic | None:
    """Find how to compute a metric in one draw, or None where the sample does not hold it."""
    if name.startswith("rank-") and sample.rank is not None:
        return _rank_statistic(sample, name.removeprefix("rank-").partition("@")[0])
    if name.startswith("tpir@fpir="):
        return _tpir_statistic(sample, name.removeprefix("tpir@fpir=").partition(",")[0])
    if not len(sample.genuine) or not sample.impostors:
        return None
    if name.startswith("tpr@far="):
        return _tpr_statistic(sample, name.removeprefix("tpr@far=").partition(",")[0])
    if len(sample.impostor) < sample.impostors:
        return None
    found = _OF_ALL_STORED.get(name)
    return None if found is None else found(sample)


def _share(part: float, whole: float) -> float:
    """Divide within [0, 1], which c above 1 could leave; NaN where a draw holds nothing."""
    return min(max(float(part / whole), 0.0), 1.0) if whole > 0 else float("nan")


def _rank_statistic(sample: Sample, k: str) -> Statistic | None:
    if not k.isdigit() or sample.rank is None or sample.rank_subject is None:
        return None
    subject = sample.rank_subject
    hit = ((sample.rank >= 1) & (sample.rank <= int(k))).astype(np.float64)

    def rank_k(draw: Draw) -> float:
        w = draw.weight[subject]
        return _share(float(w @ hit), float(w.sum()))

    return rank_k


def _tpir_statistic(sample: Sample, fpir: str) -> Statistic | None:
    """Mean over the galleries of TPIR at the lowest threshold with weighted FPIR at most x."""
    try:
        x = float(Fraction(fpir))
    except ValueError:
        return None
    if not sample.searches or not all(len(s.mate) and len(s.nonmate) for s in sample.searches):
        return None

    def of_gallery(s: Searches, weight: Counts) -> float:
        false = np.cumsum(weight[s.nonmate_subject])
        k = int(np.searchsorted(false, x * false[-1] * (1 + 1e-12), "right"))
        border = s.nonmate[k] if k < len(s.nonmate) else -np.inf
        looked = weight[s.mate_subject]
        return _share(looked[s.mate > border].sum(), looked.sum())

    return lambda draw: float(np.mean([of_gallery(s, draw.weight) for s in sample.searches]))


def _tpr_statistic(sample: Sample, far: str) -> Statistic | None:
    border = _border(sample, far)
    if border is None:
        return None
    stored = len(sample.impostor)
    above = np.searchsorted(-sample.genuine, -sample.impostor, "left")
    finite = int(np.searchsorted(-sample.genuine, np.inf, "left"))
    above = np.append(above, finite if stored == sample.impostors else above[-1])

    def tpr(draw: Draw) -> float:
        return _share(draw.genuine[above[border(draw)]], draw.genuine[-1])

    return tpr


def _border(sample: Sample, far: str) -> Callable[[Draw], int] | None:
    """Find how many of the highest impostors a draw accepts at FAR <= x: the next is the border."""
    try:
        x = Fraction(far)
    except ValueError:  # more in the name than a FAR: of other comparisons
        return None
    allowed = int(x * sample.impostors)
    stored = len(sample.impostor)
    if allowed < 1 or (allowed >= stored and stored < sample.impostors):
        return None
    c = _acceptance_shrinkage(sample, allowed)
    # Draws rarely need more than twice the observed number of false accepts.
    reach = range(min(stored, 2 * allowed + 100))
    beyond = stored if len(reach) == sample.impostors else len(reach) - 1

    def border(draw: Draw) -> int:
        bound = float(x) * ((1 - c) * sample.impostors + c * draw.products)
        product = draw.product
        k = bisect_right(
            reach, bound * (1 + 1e-12), key=lambda k: (1 - c) * (k + 1) + c * product[k + 1]
        )
        return k if k < len(reach) else beyond

    return border


def _acceptance_shrinkage(sample: Sample, accepted: int) -> float:
    if sample.left_images is not None:
        return shrinkage(sample, accepted=accepted)
    hit = (np.arange(len(sample.impostor)) < accepted).astype(np.float64)
    return shrinkage(sample, hit - hit.mean())


def threshold_draws(
    sample: Sample, far: str, draws: int = 1000, seed: int = 0
) -> tuple[Floats, Floats] | None:
    """Draw the threshold at FAR <= x anew, and the FAR at the threshold that was found.

    Returns (draws,) thresholds and (draws,) FARs of the fixed one, or None where the sample does
    not reach to that FAR.
    """
    border = _border(sample, far)
    if border is None:
        return None
    allowed = int(Fraction(far) * sample.impostors)
    c = _acceptance_shrinkage(sample, allowed)
    bar = sample.impostor[allowed] if allowed < len(sample.impostor) else -np.inf
    accepted = int(np.count_nonzero(sample.impostor > bar))
    rng = np.random.default_rng(seed)
    thresholds, fars = np.empty(draws), np.empty(draws)
    draw = None
    for d in range(draws):
        draw = weigh(sample, subject_weights(sample, rng), draw)
        k = border(draw)
        thresholds[d] = sample.impostor[k] if k < len(sample.impostor) else -np.inf
        all_pairs = (1 - c) * sample.impostors + c * draw.products
        fars[d] = _share((1 - c) * accepted + c * draw.product[accepted], all_pairs)
    return thresholds, fars


class _Decisions:
    """Every comparison of a pair list by descending score, for accuracies of a draw.

    A cut accepts the comparisons before it.  Cuts lie between any two neighbouring scores, of a
    held-out fold too, and near the observed optimum: where there are at most eight standard
    deviations more errors.
    """

    def __init__(self, sample: Sample, hit: Floats, fold: Ints) -> None:
        """Take hit, (I,) impostors decided rightly, and fold, (G+I,) of genuine, then impostors."""
        score = np.concatenate([sample.genuine, sample.impostor])
        pool = np.argsort(-score, kind="stable")
        self.c = shrinkage(sample, hit - hit.mean())
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


def _accuracy_statistic(sample: Sample) -> Statistic | None:
    """K-fold accuracy of a draw: the best threshold of the other folds is found anew.

    A fold of which nobody was drawn does not count.
    """
    if sample.decided is None or sample.order is None or sample.fold is None:
        return None
    hit = sample.decided[sample.order][len(sample.genuine) :].astype(np.float64)
    decisions = _Decisions(sample, hit, sample.fold[sample.order])

    def accuracy(draw: Draw) -> float:
        correct, total = decisions.correct(draw)
        others = correct.sum(axis=0) - correct
        best = [_middle(np.flatnonzero(row >= row.max() - 1e-9)) for row in others]
        of_fold = [
            _share(row[k], t) for row, k, t in zip(correct, best, total, strict=True) if t > 0
        ]
        return float(np.mean(of_fold)) if of_fold else float("nan")

    return accuracy


def _best_accuracy_statistic(sample: Sample) -> Statistic:
    """Accuracy of a draw at the one threshold that is best in it."""
    score = np.concatenate([sample.genuine, sample.impostor])
    threshold = best_threshold(score, np.arange(len(score)) < len(sample.genuine))
    hit = (sample.impostor < threshold).astype(np.float64)
    decisions = _Decisions(sample, hit, np.zeros(len(score), np.int64))

    def accuracy(draw: Draw) -> float:
        correct, total = decisions.correct(draw)
        return _share(correct.max(), total[0])

    return accuracy


def _middle(cuts: Counts) -> int:
    """Of equally good cuts the middle one, of two middle ones the higher threshold."""
    return int(cuts[(len(cuts) - 1) // 2])


def _auc_statistic(sample: Sample) -> Statistic:
    ok = -sample.genuine[np.isfinite(sample.genuine)]
    above = np.searchsorted(ok, -sample.impostor, "left")
    not_below = np.searchsorted(ok, -sample.impostor, "right")
    won = (above + not_below) / 2
    c = shrinkage(sample, won - won.mean())
    left, right = sample.left, sample.right

    def auc(draw: Draw) -> float:
        weight = (1 - c) + c * draw.weight[left] * draw.weight[right]
        wins = (draw.genuine[above] + draw.genuine[not_below]) / 2
        return _share(float(weight @ wins), float(draw.genuine[-1] * weight.sum()))

    return auc


def _eer_statistic(sample: Sample) -> Statistic:
    both = np.concatenate([sample.genuine, sample.impostor])
    threshold = np.unique(both[np.isfinite(both)])[::-1]
    g = np.append(0, np.searchsorted(-sample.genuine, -threshold, "right"))
    i = np.append(0, np.searchsorted(-sample.impostor, -threshold, "right"))
    gap = i / len(sample.impostor) + g / len(sample.genuine) - 1
    at = min(int(np.searchsorted(gap, 0)), len(gap) - 1)
    c = _acceptance_shrinkage(sample, int(i[at]))
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


_OF_ALL_STORED: Mapping[str, Callable[[Sample], Statistic | None]] = {
    "accuracy": _accuracy_statistic,
    "accuracy@threshold=best": _best_accuracy_statistic,
    "auc": _auc_statistic,
    "eer": _eer_statistic,
}
