"""Bootstrap over subjects: every metric, and its threshold, computed anew in each draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from evalkit.protocols.ahead import each_ahead, one_ahead
from evalkit.protocols.uncertainty.bootstrap import (
    Draws,
    Statistic,
    crossing,
    of_two_sets,
    shrinkage,
    shrinkage_of_difference,
)
from evalkit.protocols.uncertainty.resampled_rates import (
    accepts,
    border,
    excess,
    reaching,
    statistic,
)
from evalkit.protocols.uncertainty.sample import ComparisonSample, renumbered
from evalkit.protocols.uncertainty.weights import (
    Weights,
    canonical_order,
    distractors,
    subject_draws,
    weight_draws,
)
from evalkit.types import Floats, Ints

T = TypeVar("T")
MANY = 50_000  # people: their weights are drawn while others are summed
MOST = 1 << 22  # people: beyond, no two draws are summed side by side
WORTH_THREADS = 1 << 19  # comparisons: threads wait for Python's lock longer than they sum fewer
CELLS = 1 << 18  # comparisons weighed in a block of draws: they stay in the processor's cache
# Python's part of so many draws costs as much as of one; of long samples only where that is 16 MB.
TOGETHER, LARGEST = 4, 1 << 21


def metric_draws(
    sample: ComparisonSample,
    names: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
    c: Mapping[str, float] | None = None,
    weights: Iterable[Weights] | None = None,
) -> dict[str, Floats]:
    """Draw subjects `draws` times; return each metric that the sample supports: name -> (draws,).

    As `metric_ends`, without the person unseen.  What `sample` holds drawn is returned as it is.
    """
    ends = metric_ends(sample, names, draws, seed, c, weights, unseen=False)
    drawn = {name: of[:, 0] for name, of in ends.items()}
    return drawn | {name: sample.drawn[name] for name in names if name in sample.drawn}


def in_order_of_draws(sample: ComparisonSample) -> ComparisonSample:
    """Give people the numbers by which `own_draws` weighs them, whatever theirs were."""
    return renumbered(sample, canonical_order(sample))


def own_draws(sample: ComparisonSample, draws: int, seed: int) -> Iterator[Weights]:
    """Draw the weights of the people of a sample that is `in_order_of_draws`."""
    apart = distractors(sample.left_images)
    return weight_draws(sample.subjects, draws, seed, apart, sample.alike)


def metric_ends(
    sample: ComparisonSample,
    names: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
    c: Mapping[str, float] | None = None,
    weights: Iterable[Weights] | None = None,
    *,
    unseen: bool = True,
) -> dict[str, Floats]:
    """Draw subjects `draws` times; return each metric that the sample supports: name -> (draws, 2).

    Where the person unseen fails in everything, and where he succeeds.  Understood are accuracy,
    accuracy@threshold=best, auc, eer, and tpr@far=x, rank-k, tpir@fpir=x (the gallery stays, the
    people looked for are drawn), whatever follows; the threshold is found anew in each draw.  NaN
    where a draw holds no comparison.
    c : metric -> `shrinkage`, else the sample's own.  weights : of the sample's people, instead of
    `subject_draws`.
    unseen : False leaves that person out.
    """
    if weights is None:
        sample = in_order_of_draws(sample)
        weights = own_draws(sample, draws, seed)
    parts: list[tuple[ComparisonSample, dict[str, Statistic]]] = [(sample, {})]
    parts += [] if sample.thinned is None else [(sample.thinned, {})]
    of_tails: dict[tuple[bool, int], float] = {}
    for name in names:
        source = reaching(sample, name)
        e = excess(source, name)
        if isinstance(e, int):  # the same for TPR and its mean over people
            tail = source is sample, e
            own = of_tails[tail] = of_tails.get(tail) or shrinkage(source, e)
        else:
            own = 1.0 if e is None else shrinkage(source, e)
        part, statistics = parts[source is not sample]
        found = statistic(part, name, own if c is None else c.get(name, own))
        if found is not None:
            statistics[name] = found
    parts = [(source, statistics) for source, statistics in parts if statistics]
    if not parts:
        return {}

    def measured(block: Sequence[Draws]) -> dict[str, Floats]:
        each = zip(block, parts, strict=True)
        return {name: of(draws) for draws, (_, found) in each for name, of in found.items()}

    blocks = [*_of_blocks(measured, [source for source, _ in parts], weights, unseen=unseen)]
    known = [name for name in names if any(name in statistics for _, statistics in parts)]
    return {name: _ends(np.concatenate([block[name] for block in blocks])) for name in known}


def _of_blocks(
    measure: Callable[[Sequence[Draws]], T],
    samples: Sequence[ComparisonSample],
    weights: Iterable[Weights],
    *,
    unseen: bool = True,
) -> Iterator[T]:
    """Weigh the comparisons of every sample, a block of draws after the other, and measure each.

    Those of many comparisons are measured side by side.  A block is of CELLS comparisons, but of
    TOGETHER draws where they are not above LARGEST, and of one at least.
    """
    cells = max(1, *map(_weighed, samples))
    size = max(1, CELLS // cells, min(TOGETHER, LARGEST // cells))
    crossed = [None if s.left_images is None else crossing(s) for s in samples]
    rest = iter(weights)
    if max(s.subjects for s in samples) > MANY:
        rest = one_ahead(rest)

    def measured(block: list[Weights]) -> T:
        seen = [weight for weight, _ in block]
        of_seen = seen[0][np.newaxis] if len(seen) == 1 else np.array(seen)
        of_unseen = np.array([one for _, one in block]) * unseen
        each = zip(samples, crossed, strict=True)
        return measure([Draws(of_seen, of_unseen, s, c) for s, c in each])

    blocks = iter(lambda: list(islice(rest, size)), [])
    side_by_side = cells >= WORTH_THREADS and max(s.subjects for s in samples) <= MOST
    return each_ahead(measured, blocks) if side_by_side else map(measured, blocks)


def _weighed(sample: ComparisonSample) -> int:
    """Count the people, comparisons and open-set searches that a draw weighs."""
    searched = sum(len(s.mate) + len(s.nonmate) for s in sample.searches)
    return sample.subjects + len(sample.genuine) + len(sample.impostor) + searched


def _ends(drawn: Floats) -> Floats:
    """Return (draws, 2): where the person unseen fails in everything, and where he succeeds.

    Shares stay within [0, 1], which c above 1 could leave; NaN where a draw holds nothing.
    drawn : (draws, F, 4) shares, or their ends already.
    """
    if drawn.ndim < 3:
        return drawn
    part, whole, unseen, most = np.moveaxis(drawn, 2, 0)
    parts, wholes = np.stack([part, part + most], axis=2), (whole + unseen)[..., np.newaxis]
    share = np.divide(parts, wholes, out=np.full_like(parts, np.nan), where=wholes > 0)
    mean: Floats = share.clip(0, 1).mean(axis=1)
    return mean


def paired_draws(
    base: ComparisonSample,
    other: ComparisonSample,
    names: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Floats]:
    """Draw the same subjects for both; return each metric of `other` minus that of `base`.

    What both models have in common cancels in the difference, people's effects mostly, so that the
    impostor pairs have a `shrinkage` of their own.
    """
    c = {}
    for name in names:
        a, b = reaching(base, name), reaching(other, name)
        found = shrinkage_of_difference(a, b, excess(a, name), excess(b, name))
        if found is not None:
            c[name] = found
    order = canonical_order(base, other)
    drawn, drew = (
        metric_draws(s, names, c=c, weights=subject_draws(s, draws, seed, order))
        for s in (base, other)
    )
    return {name: drew[name] - drawn[name] for name in names if name in drawn and name in drew}


def threshold_draws(
    sample: ComparisonSample, far: str, draws: int = 1000, seed: int = 0
) -> Floats | None:
    """Draw the threshold at FAR <= x anew: (draws, 2), or None where the sample ends before it.

    Without anybody unseen, and with one who is taken for others, where two sets share nobody.
    """
    sample = reaching(sample, f"tpr@far={far}")
    e = excess(sample, f"tpr@far={far}")
    if accepts(sample, far) is None or e is None:
        return None
    c = shrinkage(sample, e)
    ends = [border(sample, far, c)]
    ends += [border(sample, far, c, unseen=True)] if of_two_sets(sample) else ends

    def at_borders(of: Sequence[Draws]) -> Ints:
        return np.stack([at(of[0]) for at in ends], axis=1)

    drawn = subject_draws(sample, draws, seed)
    borders = np.concatenate([*_of_blocks(at_borders, [sample], drawn)])
    thresholds: Floats = np.append(sample.impostor, -np.inf)[borders]
    return thresholds
