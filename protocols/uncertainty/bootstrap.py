"""Bootstrap over subjects: the weights of comparisons in a block of draws.

Subjects are the sampling unit: comparisons that share a person rise and fall together, so drawing
*pairs* gives intervals about half as wide as the truth.  A draw gives subject i a weight w_i of
mean 1 (`weights`).  A genuine pair of subject i weighs w_i.  An impostor pair of subjects i and j
weighs w_i w_j, the pigeonhole bootstrap of crossed designs [Owen, Ann. Appl. Stat. 1, 2007], also
known as the vertex bootstrap for 1:1 matching [Fogliato, Patil, Perona, IJCV 2024].

Products alone are too cautious: noise that belongs to one pair of subjects alone enters their
variance three times (Var(w_i w_j) = 3), once by the pair and once by each of the two persons.  So
an impostor pair here weighs 1 + c (w_i w_j - 1), with c from the data: `shrinkage`.

Cost: a draw touches each *stored* comparison once.  Of 10^8 or 10^12 impostor pairs only the tail
above the threshold is stored; the rest enter by the number of images of each subject.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from evalkit.arrays import run
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.elementary import inner
from evalkit.protocols.uncertainty.columns import there
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.protocols.uncertainty.weights import SCALE, Counts
from evalkit.types import Floats, Ints


@dataclass(frozen=True)
class Draws:
    """A block of D draws: subject weights; sums of them that a metric asks for are made once.

    weight : (D, S) w, in units of 1 / SCALE, as all weights here; unseen : (D,) of the person
    unseen.  sample : the comparisons, by descending score; crossed : `crossing` of it, where it has
    image counts.  borders : (FAR, c) -> (D,) impostors accepted, which all metrics of a FAR share;
    accepted : the same -> (D, U) genuine comparisons accepted of each subject who has any.
    """

    weight: Counts
    unseen: Counts
    sample: ComparisonSample
    crossed: Crossed | None
    borders: dict[tuple[str, float], Ints] = field(default_factory=dict)
    accepted: dict[tuple[str, float], Counts] = field(default_factory=dict)

    @cached_property
    def genuine(self) -> Counts:
        """Sum of w over the k highest genuine scores, (D, G+1)."""
        return RunningSums(self.weight, self.sample.genuine_subject).whole()

    @cached_property
    def highest(self) -> RunningSums:
        """Sum of w_i w_j over the k highest impostor scores, in 1 / SCALE^2."""
        return RunningSums(self.weight, self.sample.left, self.sample.right)

    @cached_property
    def product(self) -> Counts:
        """Sum of w_i w_j over the k highest impostor scores, of every k: (D, I+1)."""
        return self.highest.whole()

    @cached_property
    def products(self) -> Floats:
        """Sum of w_i w_j over all impostor pairs, stored or not, (D,)."""
        if self.crossed is None:
            return self.product[:, -1].astype(np.float64)
        full = self.crossed.full
        of_all = np.array([self.crossed.of(w) for w in self.weight])
        return self.sample.impostors * of_all / full if full else np.zeros(len(of_all))


# A metric in a block of draws: (D, F, 4) of `shares`, whose mean it is (of folds, of galleries, or
# one); or (D, 2), where the person unseen fails in everything, and where he succeeds.
Statistic = Callable[[Draws], Floats]

_BAND = 1 << 18  # comparisons weighed together: less would have threads wait for Python's lock
_ALL_STORED = "a sample without image counts lists every impostor pair"


def shares(part: Any, whole: Any, unseen: Any, at_most: Any = None) -> Floats:
    """Stack parts of wholes, and what the person unseen adds to each whole, and part: (D, F, 4).

    He adds as much to the part, too, where he succeeds in everything, but for `at_most`.
    part, whole, unseen, at_most : (D, F), or (D,) where F is 1.
    """
    most = unseen if at_most is None else at_most
    sums: Floats = np.array([part, whole, unseen, most], np.float64)
    return sums.transpose(1, 2, 0) if sums.ndim == 3 else sums.T[:, np.newaxis]


class RunningSums:
    """Weights of the first k comparisons summed, for every k, as far as each draw asks for them.

    of : (D, N+1), in which draw d has the sums of k = 0 to made[d].
    """

    def __init__(self, weight: Counts, who: Ints, other: Ints | None = None) -> None:
        """Take the weights of people, (D, S), and who is compared, with whom: (N,) each."""
        self.of = np.empty((len(weight), len(who) + 1), np.int64)
        self.of[:, 0] = 0
        self.made = [0] * len(weight)
        self._weight, self._who, self._other = weight, who, other

    def make(self, draw: int, most: int) -> None:
        """Make the sums of one draw, of k up to `most` at least."""
        w, sums = self._weight[draw], self.of[draw]
        for o in range(self.made[draw], most, _BAND):
            band = slice(o, min(o + _BAND, most))
            sum_of = sums[1:][band]
            w.take(self._who[band], out=sum_of, mode="clip")
            if self._other is not None:
                sum_of *= w.take(self._other[band])
            sum_of[0] += sums[o]
            np.cumsum(sum_of, out=sum_of)
            self.made[draw] = band.stop

    def whole(self) -> Counts:
        """All sums: (D, N+1)."""
        for draw in range(len(self.of)):
            self.make(draw, len(self._who))
        return self.of


class Crossed(NamedTuple):
    """Sum of w_i l_i w_j r_j over i != j, of weights w; twice the pairs for a set with itself.

    of : from (S,) weights.  full : of weights of 1.
    """

    of: Callable[[Any], float]
    full: float


def of_two_sets(sample: ComparisonSample) -> bool:
    """Whether images are counted, and nobody has some on both sides."""
    a, b = sample.left_images, sample.right_images
    return a is not None and b is not None and not ((a > 0) & (b > 0)).any()


def crossing(sample: ComparisonSample) -> Crossed:
    """Find how to sum the products of weights over all pairs of people, stored or not.

    Where nobody has images on both sides each side is read by itself: whole numbers, whose sums are
    exact in any order.  ProtocolError where the sample has no image counts.
    """
    a, b = sample.left_images, sample.right_images
    if a is None or b is None:
        raise ProtocolError(_ALL_STORED)
    everyone = np.ones(sample.subjects, np.int8) if sample.alike is None else sample.alike
    if not of_two_sets(sample):

        def of(weight: Any) -> float:
            left, right = weight * a, weight * b
            return float(left.sum() * right.sum() - (left * right).sum())

        return Crossed(of, of(everyone))
    left, right = _weight_of_images(a), _weight_of_images(b)

    def apart(weight: Any) -> float:
        return float(left(weight) * right(weight))

    return Crossed(apart, apart(everyone))


def _weight_of_images(images: Floats) -> Callable[[Any], Any]:
    """Find how to sum the weights (S,) of `images`, (S,) counts; most often all people have one."""
    who = run(np.flatnonzero(images))
    counts = images[who]
    if len(counts) and (counts == counts[0]).all():
        return lambda weight: weight[who].sum() * counts[0]
    return lambda weight: weight[who] @ counts


def shrinkage(sample: ComparisonSample, excess: Floats | int) -> float:
    """Return c of the impostor weight 1 + c (w_i w_j - 1).

    Let e be the excess of each impostor pair over its mean (accepted: 1 - FAR, else -FAR), E_b
    their sum over the pairs of two subjects b = {i, j}, S_i their sum over all pairs of subject i.
    The mean of e has variance sum S_i^2 - sum E_b^2, over I^2, when pairs may depend on each other
    if and only if they share a person [Fafchamps and Gubert 2007; Aronow, Samii, Assenova 2015].
    Product weights give sum S_i^2 + sum E_b^2 instead, hence c^2 = the quotient; it is at least
    1/3, which is reached where subjects differ by nothing.  Where few subjects make most of the
    sum, the quantile is Student's with (sum S^2)^2 / sum S^4 degrees of freedom (at least 5), and c
    carries it; so c may exceed 1.

    excess : (I,) e of every impostor pair, all stored; or how many of the stored tail are accepted.
    """
    if isinstance(excess, int):
        return _quotient(*_tail_excess(sample, excess), sample.alike)
    sums = _sums(sample.subjects, sample.left, sample.right, excess)
    return _quotient(*sums, sample.alike)


def shrinkage_of_difference(
    base: ComparisonSample,
    other: ComparisonSample,
    in_base: Floats | int | None,
    in_other: Floats | int | None,
) -> float | None:
    """Return c for the difference of two models: `shrinkage` with e of `other` minus e of `base`.

    Arguments and None as `excess_of_difference` has them.
    """
    excesses = excess_of_difference(base, other, in_base, in_other)
    return None if excesses is None else _quotient(*_sums(base.subjects, *excesses))


def excess_of_difference(
    base: ComparisonSample,
    other: ComparisonSample,
    in_base: Floats | int | None,
    in_other: Floats | int | None,
) -> tuple[Ints, Ints, Floats] | None:
    """Find impostor pairs' excess in `other` minus that in `base`: left, right, and e, (I,) each.

    in_base, in_other : each one's excess.  Of two tails only pairs that one model alone accepts
    differ.  None where no impostor counts, or nothing tells which comparison is which.
    """
    if in_base is None or in_other is None or base.place is None or other.place is None:
        return None
    if isinstance(in_base, int) != isinstance(in_other, int):  # failures shorten one tail
        return None
    listed = [np.ones(e) if isinstance(e, int) else e for e in (in_base, in_other)]
    values, n, m = np.concatenate([-listed[0], listed[1]]), len(listed[0]), len(listed[1])
    place = np.concatenate([base.place[:n], other.place[:m]])
    _, first, pair = np.unique(place, return_index=True, return_inverse=True)
    left = np.concatenate([base.left[:n], other.left[:m]])[first]
    right = np.concatenate([base.right[:n], other.right[:m]])[first]
    return left, right, np.bincount(pair.reshape(-1), values).astype(np.float64)


def _quotient(per_subject: Floats, shared: float, alike: Ints | None = None) -> float:
    """Return c of S_i and sum E_b^2; alike : how many people have each S_i, else one."""
    squares = per_subject**2
    order = np.argsort(squares)  # one order, however people are numbered
    people, squares = 1 if alike is None else alike[order], squares[order]
    total = float((squares * people).sum())
    if total <= 0:
        return 1.0
    c2 = max((total - shared) / (total + shared), 1 / 3)
    freedom = max(total**2 / float((squares**2 * people).sum()), 5.0)
    return float(np.sqrt(c2) * stdtrit(freedom, 0.975) / ndtri(0.975))


def _sums(subjects: int, left: Ints, right: Ints, e: Floats) -> tuple[Floats, float]:
    """S_i of every subject and sum E_b^2, of listed pairs."""
    per_block = np.bincount(_blocks(left, right, subjects), e)
    return _by_subject(subjects, left, right, e), float(np.sort(per_block**2).sum())


def _tail_excess(sample: ComparisonSample, accepted: int) -> tuple[Floats, float]:
    """S_i of every subject and sum E_b^2, where only accepted impostors are listed."""
    a, b = sample.left_images, sample.right_images
    if a is None or b is None:
        raise ProtocolError(_ALL_STORED)
    far, crossed = accepted / sample.impostors, crossing(sample).full
    if not crossed:  # all rows are one person's
        return np.zeros(sample.subjects), 0.0
    scale = sample.impostors / crossed
    left, right = sample.left[:accepted], sample.right[:accepted]
    every_a, every_b = (n if sample.alike is None else sample.alike * n for n in (a, b))
    pairs_of_subject = scale * (a * (every_b.sum() - b) + b * (every_a.sum() - a))
    per_subject = (
        _by_subject(sample.subjects, left, right, np.ones(accepted)) - far * pairs_of_subject
    )
    blocks = _blocks(left, right, sample.subjects)
    hits = np.bincount(blocks)
    first = np.zeros(len(hits), np.int64)
    first[blocks] = np.arange(accepted)
    i, j = left[first], right[first]
    size = scale * (a[i] * b[j] + a[j] * b[i])
    # Blocks without an accepted pair have E = -far * size: their squares in closed form.
    both = a * b  # of people taken together 0
    squares = inner(every_a, a) * inner(every_b, b)
    all_sizes = scale**2 * (squares + both.sum() ** 2 - 2 * inner(both, both))
    listed = np.sort((hits - far * size) ** 2 - (far * size) ** 2)
    shared = float(listed.sum() + far**2 * all_sizes)
    return per_subject, shared


def _by_subject(subjects: int, left: Ints, right: Ints, value: Floats) -> Floats:
    both = np.bincount(left, value, subjects) + np.bincount(right, value, subjects)
    return both.astype(np.float64)


def _blocks(left: Ints, right: Ints, subjects: int) -> NDArray[np.int64]:
    """Give each comparison the number of its unordered pair of subjects, from 0."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    key = low.astype(np.int64) * subjects + high
    return np.unique(key, return_inverse=True)[1].reshape(-1)


def impostor_weight(c: float, pairs: Any, product: Any) -> Any:
    """Weight of impostor `pairs` whose w_i w_j sum to `product`: pairs + c (product - pairs).

    In 1 / SCALE^2, numbers or arrays.
    """
    return (1 - c) * SCALE**2 * pairs + c * product


def unseen_genuine(sample: ComparisonSample) -> float:
    """How many genuine comparisons the unseen person has: as many as people have on average."""
    people = np.count_nonzero(there(sample.genuine_subject))
    return len(sample.genuine) / people if people else 0.0


def unseen_impostor(sample: ComparisonSample) -> float:
    """How many impostor comparisons an unseen pair of people has: as many as pairs on average."""
    if sample.left_images is None or sample.right_images is None:
        blocks = float(len(np.unique(_blocks(sample.left, sample.right, sample.subjects))))
    else:
        left, right = (
            (n > 0).astype(np.float64) for n in (sample.left_images, sample.right_images)
        )
        one = replace(sample, left_images=left, right_images=right)
        blocks = sample.impostors * crossing(one).full / (crossing(sample).full or 1)
    return sample.impostors / blocks if blocks else 0.0


def beyond_average(sample: ComparisonSample, accepted: int) -> Floats:
    """How many more impostor accepts a person like the worst brings than people do: (k+1,).

    Of the 0, 1, ... k = `accepted` highest impostors of two sets that share nobody, and never fewer
    of more.  It is (x - r) n: of people on the side with fewer, n comparisons each on average, x
    the highest share that is accepted of one of them, r that of all together.  Few people differ,
    and most samples hold fewer bad ones than there are; of many, on the other side, draws show it.
    Impostors of one score are accepted together.  0 of one set with itself.
    """
    a, b = sample.left_images, sample.right_images
    found = np.zeros(accepted + 1)
    if a is None or b is None or not accepted or not of_two_sets(sample):
        return found
    every = np.ones(sample.subjects, np.int8) if sample.alike is None else sample.alike
    people = [int(every[images > 0].sum()) for images in (a, b)]
    rate = np.arange(1, accepted + 1) / sample.impostors
    for images, n in zip((a, b), people, strict=True):
        if n == min(people):
            left, right = sample.left[:accepted], sample.right[:accepted]
            who = np.where(images[left] > 0, left, right)
            share = _nth(who) / (images[who] * (sample.impostors / inner(every, images)))
            beyond = (np.maximum.accumulate(share) - rate) * sample.impostors / n
            found[1:] = np.maximum(found[1:], beyond)
    together = np.searchsorted(-sample.impostor, -sample.impostor[:accepted], "right")
    found[1:] = found[together.clip(max=accepted)]
    return np.maximum.accumulate(found)


def _nth(who: Ints) -> NDArray[np.int64]:
    """Count the rows of each row's person, (N,), as far as this one."""
    order = np.argsort(who, kind="stable")
    inside = who[order]
    nth = np.empty(len(who), np.int64)
    nth[order] = np.arange(1, len(who) + 1) - np.searchsorted(inside, inside)
    return nth
