"""Subjects drawn with replacement, and what every metric becomes in each draw.

Subjects are the sampling unit: comparisons that share a person rise and fall together, so drawing
*pairs* gives intervals about half as wide as the truth.  A draw gives subject i the weight w_i, how
often it came up among S draws with replacement (multinomial).  A genuine pair of subject i weighs
w_i.  An impostor pair of subjects i and j weighs w_i w_j, the pigeonhole bootstrap of crossed
designs [Owen, Ann. Appl. Stat. 1, 2007], also known as the vertex bootstrap for 1:1 matching
[Fogliato, Patil, Perona, IJCV 2024].

Products alone are too cautious: noise that belongs to one pair of subjects alone enters their
variance three times (Var(w_i w_j) = 3), once by the pair and once by each of the two persons.  So
an impostor pair here weighs 1 + c (w_i w_j - 1), with c from the data: `shrinkage`.

Cost: a draw touches each *stored* comparison once.  Of 10^8 or 10^12 impostor pairs only the tail
above the threshold is stored; the rest enter by the number of images of each subject.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from evalkit.errors import ProtocolError
from evalkit.protocols.samples import Floats, Ints, Sample, Searches

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw: subject weights and their running sums, in the sample's descending order.

    genuine : (G+1,) sum of w over the k highest genuine scores; product : (I+1,) the same of
    w_i w_j over impostors; products : the sum of w_i w_j over all impostor pairs, stored or not.
    """

    weight: Counts
    genuine: Counts
    product: Counts
    products: float


Statistic = Callable[[Draw], float]

_ALL_STORED = "a sample without image counts lists every impostor pair"


def metric_draws(
    sample: Sample,
    names: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
    weights: Counts | None = None,
) -> dict[str, Floats]:
    """Draw subjects `draws` times; return each metric that the sample supports: name -> (draws,).

    Understood are accuracy, auc, eer, tpr@far=x, rank-k and tpir@fpir=x (the gallery stays, the
    people looked for are drawn), whatever follows; the threshold is found anew in each draw.  One
    seed draws the same people for two models over the same comparisons: subtract their draws.
    weights : (draws, S) of people drawn already.
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
    return drawn


def subject_weights(sample: Sample, rng: np.random.Generator) -> Counts:
    """How often each subject comes up: (S,).  Distractors are drawn among themselves."""
    if sample.left_images is None:
        groups = [np.arange(sample.subjects)]
    else:
        apart = sample.left_images == 0
        groups = [np.flatnonzero(~apart), np.flatnonzero(apart)]
    weight = np.empty(sample.subjects, np.int64)
    for group in groups:
        n = len(group)
        if n:
            weight[group] = np.bincount(rng.integers(0, n, n, np.int32), minlength=n)
    return weight


def weigh(sample: Sample, weight: Counts, spent: Draw | None = None) -> Draw:
    """Sum the weights of a draw over the sample's comparisons.

    spent : a draw that is done with, whose memory is used again.
    """
    genuine = np.zeros(len(sample.genuine) + 1, np.int64) if spent is None else spent.genuine
    product = np.zeros(len(sample.impostor) + 1, np.int64) if spent is None else spent.product
    weight.take(sample.genuine_subject, out=genuine[1:], mode="clip")
    weight.take(sample.left, out=product[1:], mode="clip")
    product[1:] *= weight.take(sample.right)
    np.cumsum(genuine, out=genuine)
    np.cumsum(product, out=product)
    if sample.left_images is None or sample.right_images is None:
        products = float(product[-1])
    else:
        full = _crossed(sample, np.ones(sample.subjects))
        products = sample.impostors * _crossed(sample, weight) / full
    return Draw(weight, genuine, product, products)


def _crossed(sample: Sample, weight: Floats | Counts) -> float:
    """Sum w_i l_i w_j r_j over i != j: twice the pairs for a set with itself, so take ratios."""
    if sample.left_images is None or sample.right_images is None:
        raise ProtocolError(_ALL_STORED)
    left, right = weight * sample.left_images, weight * sample.right_images
    return float(left.sum() * right.sum() - left @ right)


def shrinkage(sample: Sample, excess: Floats | None = None, accepted: int = 0) -> float:
    """Return c of the impostor weight 1 + c (w_i w_j - 1).

    Let e be the excess of each impostor pair over its mean (accepted: 1 - FAR, else -FAR), E_b
    their sum over the pairs of two subjects b = {i, j}, S_i their sum over all pairs of subject i.
    The mean of e has variance sum S_i^2 - sum E_b^2, over I^2, when pairs may depend on each other
    if and only if they share a person [Fafchamps and Gubert 2007; Aronow, Samii, Assenova 2015].
    Product weights give sum S_i^2 + sum E_b^2 instead, hence c^2 = the quotient; it is at least
    1/3, which is reached where subjects differ by nothing.  Where few subjects make most of the
    sum, the quantile is Student's with (sum S^2)^2 / sum S^4 degrees of freedom (at least 5), and c
    carries it; so c may exceed 1.

    excess : (I,) e of every impostor pair, all stored; or `accepted` : how many of the stored tail
    lie above the threshold.
    """
    if excess is not None:
        per_subject = _by_subject(sample, sample.left, sample.right, excess)
        blocks = _blocks(sample.left, sample.right, sample.subjects)
        per_block = np.bincount(blocks, excess)
        shared = float(per_block @ per_block)
    else:
        per_subject, shared = _tail_excess(sample, accepted)
    squares = per_subject**2
    total = float(squares.sum())
    if total <= 0:
        return 1.0
    c2 = max((total - shared) / (total + shared), 1 / 3)
    freedom = max(total**2 / float(squares @ squares), 5.0)
    return float(np.sqrt(c2) * stdtrit(freedom, 0.975) / ndtri(0.975))


def _tail_excess(sample: Sample, accepted: int) -> tuple[Floats, float]:
    """S_i of every subject and sum E_b^2, where only accepted impostors are listed."""
    a, b = sample.left_images, sample.right_images
    if a is None or b is None:
        raise ProtocolError(_ALL_STORED)
    far = accepted / sample.impostors
    scale = sample.impostors / _crossed(sample, np.ones(sample.subjects))
    left, right = sample.left[:accepted], sample.right[:accepted]
    pairs_of_subject = scale * (a * (b.sum() - b) + b * (a.sum() - a))
    per_subject = _by_subject(sample, left, right, np.ones(accepted)) - far * pairs_of_subject
    blocks = _blocks(left, right, sample.subjects)
    hits = np.bincount(blocks)
    first = np.zeros(len(hits), np.int64)
    first[blocks] = np.arange(accepted)
    i, j = left[first], right[first]
    size = scale * (a[i] * b[j] + a[j] * b[i])
    # Blocks without an accepted pair have E = -far * size: their squares in closed form.
    both = a * b
    all_sizes = scale**2 * ((a @ a) * (b @ b) + both.sum() ** 2 - 2 * float(both @ both))
    shared = float(((hits - far * size) ** 2 - (far * size) ** 2).sum() + far**2 * all_sizes)
    return per_subject, shared


def _by_subject(sample: Sample, left: Ints, right: Ints, value: Floats) -> Floats:
    n = sample.subjects
    both = np.bincount(left, value, n) + np.bincount(right, value, n)
    return both.astype(np.float64)


def _blocks(left: Ints, right: Ints, subjects: int) -> NDArray[np.int64]:
    """Give each comparison the number of its unordered pair of subjects, from 0."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    key = low.astype(np.int64) * subjects + high
    return np.unique(key, return_inverse=True)[1].reshape(-1)


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
    return {"accuracy": _accuracy_statistic, "auc": _auc_statistic, "eer": _eer_statistic}.get(
        name, lambda _: None
    )(sample)


def _rank_statistic(sample: Sample, k: str) -> Statistic | None:
    if not k.isdigit() or sample.rank is None or sample.rank_subject is None:
        return None
    subject = sample.rank_subject
    hit = ((sample.rank >= 1) & (sample.rank <= int(k))).astype(np.float64)

    def rank_k(draw: Draw) -> float:
        w = draw.weight[subject]
        return float(w @ hit) / max(float(w.sum()), 1.0)

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
        return float(looked[s.mate > border].sum() / max(looked.sum(), 1))

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
        return float(draw.genuine[above[border(draw)]] / max(draw.genuine[-1], 1))

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
        fars[d] = ((1 - c) * accepted + c * draw.product[accepted]) / all_pairs
    return thresholds, fars


def _accuracy_statistic(sample: Sample) -> Statistic | None:
    """K-fold accuracy of a draw: the best threshold of the other folds is found anew.

    Thresholds lie between any two neighbouring scores, of the held-out fold too, and near the
    observed optimum: where there are at most eight standard deviations more errors.
    """
    if sample.decided is None or sample.order is None or sample.fold is None:
        return None
    hit = sample.decided[sample.order][len(sample.genuine) :].astype(np.float64)
    c = shrinkage(sample, hit - hit.mean())
    score = np.concatenate([sample.genuine, sample.impostor])
    pool = np.argsort(-score, kind="stable")
    genuine, score = pool < len(sample.genuine), score[pool]
    fold = sample.fold[sample.order][pool]
    k = int(fold.max()) + 1
    left = np.concatenate([sample.genuine_subject, sample.left])[pool]
    right = np.concatenate([sample.genuine_subject, sample.right])[pool]

    # Accepting the n highest is right for their genuine pairs; n may not part equal scores.
    gain = np.concatenate([[0], np.cumsum(np.where(genuine, 1, -1))])
    may = np.concatenate([[True], score[1:] != score[:-1], [True]])
    may &= np.arange(len(may)) <= np.count_nonzero(np.isfinite(score))
    errors = np.count_nonzero(genuine) - int(gain[may].max())
    near = np.flatnonzero(may & (gain >= gain[may].max() - 8 * np.sqrt(errors + 1)))
    low, high = int(near[0]), int(near[-1])
    inside, place = slice(low, high), np.arange(high - low) + 1
    near -= low

    def accuracy(draw: Draw) -> float:
        product = draw.weight.take(left) * draw.weight.take(right)
        weight = np.where(genuine, draw.weight.take(left), (1 - c) + c * product)
        signed = np.where(genuine, weight, -weight)
        total = np.bincount(fold, weight, k)
        rejected = np.bincount(fold, weight * ~genuine, k)
        gained = np.zeros((k, high - low + 1))
        gained[:, 0] = np.bincount(fold[:low], signed[:low], k) + rejected
        gained[fold[inside], place] = signed[inside]
        correct = np.cumsum(gained, axis=1)[:, near]
        others = correct.sum(axis=0) - correct
        best = [_middle(np.flatnonzero(row >= row.max() - 1e-9)) for row in others]
        drawn = total > 0
        return float(np.mean(correct[np.arange(k), best][drawn] / total[drawn]))

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
        return float(weight @ wins / max(draw.genuine[-1] * weight.sum(), 1e-300))

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
        far = (plain + c * draw.product[i]) / ((1 - c) * sample.impostors + c * draw.products)
        gap = far + draw.genuine[g] / max(draw.genuine[-1], 1.0) - 1
        k = int(np.searchsorted(gap, 0))
        if k == 0 or k == len(gap):
            return float("nan")
        return float((far[k - 1] * gap[k] - gap[k - 1] * far[k]) / (gap[k] - gap[k - 1]))

    return eer
