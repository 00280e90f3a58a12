"""Statistics of every metric in a block of draws, and the impostors' excess.

A draw weighs genuine pairs by w_i and impostor pairs by 1 + c (w_i w_j - 1): see `bootstrap`.  The
genuine pairs of the person unseen lie below all scores, or above them; his impostor pairs count in
FMR and thresholds of two sets alone, since no bound on a wolf worse than all seen is known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.metrics.kfold import best_threshold
from evalkit.protocols.metrics.record import OfScores
from evalkit.protocols.metrics.vocabulary import metric_of, resampling_of
from evalkit.protocols.uncertainty.accepted_by_subject import AcceptedBySubject
from evalkit.protocols.uncertainty.bootstrap import (
    Draws,
    RunningSums,
    Statistic,
    beyond_average,
    impostor_weight,
    shares,
    unseen_genuine,
    unseen_impostor,
)
from evalkit.protocols.uncertainty.resampled_accuracy import (
    accuracy_statistic,
    best_accuracy_statistic,
)
from evalkit.protocols.uncertainty.resampled_at_threshold import (
    accepted_at,
    fmr_statistic,
    fnmr_statistic,
)
from evalkit.protocols.uncertainty.resampled_searches import (
    rank_statistic,
    rate_of,
    search_error_statistic,
    tpir_statistic,
)
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.protocols.uncertainty.weights import SCALE, Counts
from evalkit.types import Floats, Ints

_FEW = 8  # genuine comparisons a subject from where on they are counted by subject
_WHOLE = 1 << 24  # a share of 1: whole numbers have sums that are exact in any order


def reaching(sample: ComparisonSample, name: str) -> ComparisonSample:
    """Return the sample, or its random part where the metric needs impostors below the tail."""
    kind, at = resampling_of(name)
    if sample.thinned is None:
        return sample
    if kind in ("auc", "eer"):
        return sample if _lists_all(sample) else sample.thinned
    if kind == "fmr":
        return sample if accepted_at(sample, at) is not None else sample.thinned
    far = _far(name)
    return sample if far is None or accepts(sample, far) is not None else sample.thinned


def statistic(sample: ComparisonSample, name: str, c: float) -> Statistic | None:
    """Find how to compute a metric in one draw, or None where the sample does not hold it."""
    kind, at = resampling_of(name)
    if kind == "rank":
        return rank_statistic(sample, at)
    if kind == "tpir":
        return tpir_statistic(sample, at)
    if kind in ("fpir", "fnir", "dir"):
        return search_error_statistic(sample, kind, at)
    if kind == "tpr":
        return _tpr_statistic(sample, at, c)
    if kind == "mean tpr":
        return _mean_tpr_statistic(sample, at, c)
    if kind == "fmr":
        return fmr_statistic(sample, at, c)
    if kind == "fnmr":
        return fnmr_statistic(sample, at)
    if not _lists_all(sample):
        return None
    if kind == "accuracy":
        return None if sample.decided is None else accuracy_statistic(sample, c)
    if kind == "best accuracy":
        return best_accuracy_statistic(sample, c)
    if kind == "auc":
        return _auc_statistic(sample, c)
    if kind == "eer":
        return _eer_statistic(sample, c)
    metric = metric_of(name)
    of_scores = metric.of_scores if metric is not None and kind == "scores" else None
    return None if of_scores is None else _scores_statistic(sample, of_scores)


def excess(sample: ComparisonSample, name: str) -> Floats | int | None:
    """Find what each impostor comparison adds to a metric beyond their mean, for `shrinkage`.

    (I,) in the sample's order where all are listed; else how many of the highest are accepted.
    None where no impostor counts, or the sample does not hold the metric.
    """
    kind, at = resampling_of(name)
    far = _far(name)
    if far is not None or kind == "fmr":
        accepted = accepts(sample, far) if far is not None else accepted_at(sample, at)
        if accepted is None or len(sample.impostor) < sample.impostors:
            return accepted
        added: NDArray[Any] = np.arange(len(sample.impostor)) < accepted
    elif not _lists_all(sample):
        return None
    elif kind == "auc":
        added = _wins(sample)[0]
    elif kind == "eer":
        threshold, crossing = _crossing(sample)
        added = sample.impostor >= (threshold[crossing] if crossing >= 0 else np.inf)
    elif kind == "best accuracy":
        score = np.concatenate([sample.genuine, sample.impostor])
        added = sample.impostor < best_threshold(score, np.arange(len(score)) < len(sample.genuine))
    elif kind == "accuracy" and sample.decided is not None and sample.order is not None:
        added = sample.decided[sample.order][len(sample.genuine) :]
    else:
        return None
    centred: Floats = added.astype(np.float64) - added.mean()
    return centred


def _far(name: str) -> str | None:
    """Read the FAR of tpr@far=x, whatever follows; None where it is no number."""
    kind, x = resampling_of(name)
    return x if kind in ("tpr", "mean tpr") and rate_of(x) is not None else None


def _lists_all(sample: ComparisonSample) -> bool:
    every = len(sample.impostor) == sample.impostors
    return bool(len(sample.genuine) and sample.impostors and every)


def accepts(sample: ComparisonSample, far: str) -> int | None:
    """Count the accepts that a FAR of at most x allows; None where the sample ends before."""
    allowed, stored = int(Fraction(far) * sample.impostors), len(sample.impostor)
    if not len(sample.genuine) or allowed < 1 or (stored <= allowed and stored < sample.impostors):
        return None
    return allowed


def _tpr_statistic(sample: ComparisonSample, far: str, c: float) -> Statistic | None:
    accepted = _accepted(sample, far, c)
    if accepted is None:
        return None
    size, genuine = unseen_genuine(sample), AcceptedBySubject(sample.genuine_subject)
    by_subject = _by_subject(genuine, accepted, (far, c))

    def tpr(draws: Draws) -> Floats:
        weight = draws.weight.take(genuine.subject, axis=1)
        part = (weight * by_subject(draws)).sum(axis=1)
        return shares(part, weight @ genuine.count, size * draws.unseen)

    def tpr_of_many(draws: Draws) -> Floats:
        part = draws.genuine[np.arange(len(draws.genuine)), accepted(draws)]
        return shares(part, draws.genuine[:, -1], size * draws.unseen)

    return tpr if _FEW * len(genuine.subject) <= len(sample.genuine) else tpr_of_many


def _mean_tpr_statistic(sample: ComparisonSample, far: str, c: float) -> Statistic | None:
    """Mean over subjects of each one's share of genuine comparisons accepted."""
    accepted = _accepted(sample, far, c)
    if accepted is None:
        return None
    genuine = AcceptedBySubject(sample.genuine_subject)
    by_subject = _by_subject(genuine, accepted, (far, c))

    def mean_tpr(draws: Draws) -> Floats:
        weight = draws.weight.take(genuine.subject, axis=1)
        part = np.rint(_WHOLE * by_subject(draws) / genuine.count).astype(np.int64)
        return shares((weight * part).sum(axis=1) / _WHOLE, weight.sum(axis=1), draws.unseen)

    return mean_tpr


def _by_subject(
    genuine: AcceptedBySubject, accepted: Callable[[Draws], Ints], at: tuple[str, float]
) -> Callable[[Draws], Counts]:
    """Find how many genuine comparisons of each subject a draw accepts at a FAR and c: (D, U).

    All metrics of these share them.
    """

    def of_draws(draws: Draws) -> Counts:
        if at not in draws.accepted:
            draws.accepted[at] = genuine.among(accepted(draws))
        return draws.accepted[at]

    return of_draws


def _accepted(sample: ComparisonSample, far: str, c: float) -> Callable[[Draws], Ints] | None:
    """Find how many of the highest genuine comparisons each draw accepts at FAR <= x: (D,)."""
    if rate_of(far) is None or accepts(sample, far) is None:
        return None
    at_border = border(sample, far, c)
    every = len(sample.impostor) == sample.impostors
    score = np.append(sample.impostor, -np.inf if every else sample.impostor[-1])
    # Backwards, so that no copy is made of many genuine scores.
    genuine = sample.genuine[::-1]
    return lambda draws: len(genuine) - genuine.searchsorted(score[at_border(draws)], "right")


def border(
    sample: ComparisonSample, far: str, c: float, *, unseen: bool = False
) -> Callable[[Draws], Ints]:
    """Find how many of the highest impostors each draw accepts at FAR <= x: (D,).

    The next one's score is the border.  unseen : with a pair of people unseen, who are taken for
    each other, or a person who is taken for many (`beyond_average`).
    """
    x, stored, observed = float(Fraction(far)), len(sample.impostor), accepts(sample, far) or 0
    # Draws rarely need more than twice the observed number of false accepts, most a little more.
    reach = min(stored, 2 * observed + 100)
    beyond = stored if reach == sample.impostors else reach - 1
    plain = impostor_weight(c, 1, 0)  # of a pair of people who are not drawn
    size = unseen_impostor(sample) * SCALE if unseen else 0.0
    added = np.maximum(size, SCALE * beyond_average(sample, reach)).tolist() if unseen else []

    def of_draw(sums: RunningSums, draw: int, most: int, bound: float, of_unseen: int) -> int:
        item = sums.of[draw].item  # one by one, Python's numbers are five times as fast

        def weighed(k: int) -> Any:
            return plain * (k + 1) + c * item(k + 1)

        def weighed_with(k: int) -> Any:
            return weighed(k) + of_unseen * added[k + 1]

        key = weighed_with if unseen else weighed
        low, high = 0, most
        while high > sums.made[draw]:  # sums are made as far as the bisection looks
            middle = (low + high) // 2
            sums.make(draw, middle + 1)
            low, high = (low, middle) if bound < key(middle) else (middle + 1, high)
        return bisect_right(range(most), bound, low, high, key=key)

    def among(most: int, draws: Draws, bounds: list[float]) -> list[int]:
        each = zip(bounds, draws.unseen.tolist(), strict=True)
        return [of_draw(draws.highest, d, most, *bound) for d, bound in enumerate(each)]

    def of_draws(draws: Draws) -> Ints:
        whole = plain * sample.impostors + c * draws.products
        bounds = (x * (whole + size * draws.unseen if unseen else whole) * (1 + 1e-12)).tolist()
        # Above c = 1 sums may fall, and where the bisection ends depends on its range.
        most = reach if c > 1 else min(reach, observed + observed // 4 + 100)
        found = among(most, draws, bounds)
        if most < reach and most in found:
            found = among(reach, draws, bounds)
        return np.array([k if k < reach else beyond for k in found])

    def kept(draws: Draws) -> Ints:
        if (far, c) not in draws.borders:
            draws.borders[far, c] = of_draws(draws)
        return draws.borders[far, c]

    return of_draws if unseen else kept


def _scores_statistic(sample: ComparisonSample, of_scores: OfScores) -> Statistic:
    """Any function of scores in a draw: each comparison twice as often as it weighs, rounded.

    An impostor pair weighs w_i w_j, without `shrinkage`: the interval is rather too long.
    """
    size = unseen_genuine(sample)
    above = max(sample.genuine.max(initial=0.0), sample.impostor.max(initial=0.0)) + 1

    def of_draw(weight: Counts, of_unseen: int) -> tuple[float, float]:
        genuine = np.repeat(sample.genuine, _twice(weight[sample.genuine_subject] / SCALE))
        product = weight[sample.left] * weight[sample.right]
        impostor = np.repeat(sample.impostor, _twice(product / SCALE**2))
        unseen = int(_twice(size * of_unseen / SCALE))
        fails, succeeds = (
            of_scores(np.append(genuine, np.full(unseen, score)), impostor).value
            for score in (-np.inf, above)
        )
        nothing = float("nan")
        return nothing if fails is None else fails, nothing if succeeds is None else succeeds

    return lambda draws: np.array([*map(of_draw, draws.weight, draws.unseen)])


def _twice(weight: Any) -> NDArray[np.int64]:
    return np.asarray(np.rint(2 * weight), np.int64)


def _wins(sample: ComparisonSample) -> tuple[Floats, Ints, Ints]:
    """Genuine comparisons that score above each impostor, a tie counting half; above; not below."""
    ok = -sample.genuine[np.isfinite(sample.genuine)]
    above = np.searchsorted(ok, -sample.impostor, "left")
    not_below = np.searchsorted(ok, -sample.impostor, "right")
    return (above + not_below) / 2, above, not_below


def _auc_statistic(sample: ComparisonSample, c: float) -> Statistic:
    _, above, not_below = _wins(sample)
    size = unseen_genuine(sample)

    def auc(draws: Draws) -> Floats:
        weight = impostor_weight(c, 1, np.diff(draws.product, axis=1))
        wins = (draws.genuine.take(above, axis=1) + draws.genuine.take(not_below, axis=1)) / 2
        part = (weight * wins).sum(axis=1) / weight.sum(axis=1)
        return shares(part, draws.genuine[:, -1], size * draws.unseen)

    return auc


def _crossing(sample: ComparisonSample) -> tuple[Floats, int]:
    """All distinct thresholds, descending, and the place of the first where FAR >= FNMR, or -1."""
    both = np.concatenate([sample.genuine, sample.impostor])
    threshold: Floats = np.unique(both[np.isfinite(both)])[::-1]
    g, i = (np.searchsorted(-s, -threshold, "right") for s in (sample.genuine, sample.impostor))
    gap = i / len(sample.impostor) + g / len(sample.genuine) - 1
    return threshold, min(int(np.searchsorted(gap, 0)), len(gap) - 1)


def _eer_statistic(sample: ComparisonSample, c: float) -> Statistic:
    threshold = _crossing(sample)[0]
    g = np.append(0, np.searchsorted(-sample.genuine, -threshold, "right"))
    i = np.append(0, np.searchsorted(-sample.impostor, -threshold, "right"))
    size = unseen_genuine(sample)
    plain = impostor_weight(c, 1, 0)  # of a pair of people who are not drawn

    def eer(draws: Draws) -> Floats:
        draw, unseen = np.arange(len(draws.unseen)), size * draws.unseen
        accepted = np.stack([np.zeros(len(draw)), unseen])  # (2, D): he fails, he succeeds
        impostors = plain * sample.impostors + c * draws.products
        every = draws.genuine[:, -1] + unseen

        def far(k: Ints) -> Floats:
            rate: Floats = (plain * i[k] + c * draws.product[draw, i[k]]) / impostors
            return rate

        def gap(k: Ints) -> Floats:
            found: Floats = far(k) + (draws.genuine[draw, g[k]] + accepted) / every - 1
            return found

        k = _first(lambda k: ~(gap(k) < 0), len(g), accepted.shape)
        never = k == len(g)  # misses stay above FAR at every threshold
        k = np.minimum(k, len(g) - 1)
        before, after = gap(k - 1), gap(k)
        between = np.where(never, 1.0, after - before)
        return np.where(never, 1.0, (far(k - 1) * after - before * far(k)) / between).T

    return eer


def _first(holds: Callable[[Ints], NDArray[np.bool_]], end: int, shape: tuple[int, ...]) -> Ints:
    """Bisect in all draws at once for the first k below `end` from where on a condition holds.

    holds : of each k, an array of this shape.  Returns another, `end` where it holds nowhere.
    """
    low, high = np.zeros(shape, np.int64), np.full(shape, end)
    while (open_ := low < high).any():
        middle = np.minimum((low + high) // 2, end - 1)
        found = holds(middle)
        low = np.where(open_ & ~found, middle + 1, low)
        high = np.where(open_ & found, middle, high)
    return low
