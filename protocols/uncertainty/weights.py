"""Weights of subjects in a draw: exponential ones, and that of a person whom nobody has seen.

The Bayesian bootstrap [Rubin 1981] gives every subject an exponential weight.  One further person,
unseen, has such a weight too: where he fails in everything a rate's draws end low, where he
succeeds in everything they end high, and quantiles of the two are bounds of a mean that is known
to lie in [0, 1] alone [Gaffke 2005; Learned-Miller and Thomas 2020; Romano and Wolf 2000].  Where
each subject is compared once, they are Clopper and Pearson's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import run
from evalkit.protocols.metrics.elementary import log
from evalkit.protocols.uncertainty.columns import counts_of
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.types import Floats, Ints

Counts = NDArray[np.int64]
Weights = tuple[Counts, int]  # of the subjects, and of the unseen person
_BAND = 1 << 16  # scores or weights that are made together, in the processor's cache
SCALE = 1024  # a weight of 1: whole weights have sums that are exact in any order


def weight_draws(
    people: int, draws: int, seed: int, apart: Ints | None = None, alike: Ints | None = None
) -> Iterator[Weights]:
    """Draw the weights of people `draws` times: (people,), SCALE on average, and the unseen one's.

    apart : numbers of those who are drawn among themselves, so that they weigh SCALE on average
    too.  The unseen person has every quantile of his weight once, in random order.
    alike : (people,) how many people each number stands for, else one: it weighs what they do, and
    the sum of n exponential weights is a gamma variate of shape n.
    """
    rng = np.random.default_rng(seed)
    of_unseen = -log((rng.permutation(draws) + 0.5) / draws)
    groups: list[Any] = [slice(None)]
    if apart is not None:
        groups = [run(group) for group in (np.delete(np.arange(people), apart), apart)]
    counts = np.broadcast_to(np.int8(1), people) if alike is None else alike
    sizes = [int(counts[group].sum()) for group in groups]
    many = np.flatnonzero(counts > 1)
    for unseen in of_unseen:
        weight, scales = rng.standard_exponential(people), list[float]()
        weight[many] = rng.standard_gamma(counts[many])
        whole = weight.view(np.int64)  # lies where the weights do
        for group, size in zip(groups, sizes, strict=True):
            if size:
                own = weight[group]
                scales.append(SCALE * size / own.sum())
                whole[group] = _whole(own, scales[-1])
        yield whole, round(unseen * scales[0])


def _whole(weight: Floats, scale: float) -> Counts:
    """Scale weights (N,) to whole numbers of at least 1, which take their place in memory."""
    whole = weight.view(np.int64)
    for o in range(0, len(weight), _BAND):
        part = weight[o : o + _BAND] * scale
        whole[o : o + _BAND] = np.maximum(np.rint(part, out=part), 1, out=part)
    return whole


def subject_draws(
    sample: ComparisonSample, draws: int, seed: int, order: Ints | None = None
) -> Iterator[Weights]:
    """Draw the weights of a sample's subjects.  Distractors are drawn among themselves.

    order : of the subjects, else `canonical_order`.
    """
    order = canonical_order(sample) if order is None else order
    images = None if sample.left_images is None else sample.left_images[order]
    for weight, unseen in weight_draws(sample.subjects, draws, seed, distractors(images)):
        placed = np.empty_like(weight)
        placed[order] = weight
        yield placed, unseen


def distractors(left_images: Floats | None) -> Ints | None:
    """Numbers of the people without an image among the probes; None where nothing is counted."""
    return None if left_images is None else np.flatnonzero(left_images == 0)


def canonical_order(*samples: ComparisonSample) -> Ints:
    """Order subjects by what was decided of them: (S,), whatever their numbers or the rows' order.

    samples : of the same comparisons.  First come those with most genuine comparisons, then those
    with most searches, so that draws weigh alike in sum whichever scores they weigh; then by these
    and by the highest impostor score, which every tail holds; by all scores where that is not all.
    """
    people = samples[0].subjects
    own, whole = np.zeros((2, people), np.uint64)
    highest = np.full(people, -np.inf)
    for sample in samples:
        alone, impostor = _alone(sample), (sample.impostor, sample.left, sample.right)
        own += _fingerprints(alone, np.zeros(people, np.uint64))
        whole += _fingerprints([*alone, impostor], _images(sample))
        for side in impostor[1:]:
            np.maximum.at(highest, side, sample.impostor)
    sizes = [counts_of(who, people=people) for _, who, _ in _alone(samples[0])[:2]]
    keys = (np.negative(key, out=key) for key in (highest, *sizes[::-1]))
    order: Ints = np.lexsort((whole, next(keys), own, *keys))
    return order


Sided = tuple[NDArray[Any], Ints, Ints]  # scores, and the subject on each side


def _alone(sample: ComparisonSample) -> list[Sided]:
    """Genuine comparisons, ranks and open-set searches, which are of one subject each."""
    kinds: list[tuple[NDArray[Any], Ints]] = [(sample.genuine, sample.genuine_subject)]
    if sample.rank is not None and sample.rank_subject is not None:
        kinds.append((sample.rank, sample.rank_subject))
    for s in sample.searches:
        kinds += [(s.mate, s.mate_subject), (s.nonmate, s.nonmate_subject)]
    return [(score, who, who) for score, who in kinds]


def _images(sample: ComparisonSample) -> NDArray[np.uint64]:
    """Count the images of each subject on both sides, as one number: (S,)."""
    if sample.left_images is None or sample.right_images is None:
        return np.zeros(sample.subjects, np.uint64)
    left, right = (n.astype(np.uint64) for n in (sample.left_images, sample.right_images))
    return _mixed(left) + right


def _fingerprints(kinds: list[Sided], person: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 bits of every subject's scores, and of those of whom he was compared with: (S,)."""
    for _ in range(2):
        known, person = person, person.copy()
        for kind, (score, left, right) in enumerate(kinds):
            for o in range(0, len(score), _BAND):
                of = slice(o, o + _BAND)
                exact = np.asarray(score[of], np.float64) + 0.0
                bits = _mixed(exact.view(np.uint64) + np.uint64(kind))
                a, b = left[of], right[of]
                if left is right:  # both sides are one
                    np.add.at(person, a, _mixed(bits ^ known[a]) << np.uint64(1))
                    continue
                np.add.at(person, a, _mixed(bits ^ known[b]))
                np.add.at(person, b, _mixed(bits ^ known[a]))
    return person


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of whole numbers [splitmix64: Steele, Lea, Flood 2014]."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
