"""Subjects drawn a thousand times over: every metric in each draw, and every threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evalkit.protocols.uncertainty.bootstrap import (
    Counts,
    Draw,
    Statistic,
    share,
    shrinkage,
    shrinkage_of_difference,
    subject_weights,
    weigh,
)
from evalkit.protocols.uncertainty.resampled_rates import (
    accepts,
    border,
    excess,
    reaching,
    statistic,
)
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.types import Floats


def metric_draws(
    sample: ComparisonSample,
    names: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
    weights: Counts | None = None,
    c: Mapping[str, float] | None = None,
) -> dict[str, Floats]:
    """Draw subjects `draws` times; return each metric that the sample supports: name -> (draws,).

    Understood are accuracy, accuracy@threshold=best, auc, eer, and tpr@far=x, rank-k, tpir@fpir=x
    (the gallery stays, the people looked for are drawn), whatever follows; the threshold is found
    anew in each draw.  NaN where a draw holds no comparison.  One seed draws the same people for
    two models over the same comparisons: subtract their draws.
    weights : (draws, S) of people drawn already.  c : metric -> `shrinkage`, else the sample's own.
    What `sample` holds drawn is returned as it is.
    """
    sources = [sample] if sample.thinned is None else [sample, sample.thinned]
    statistics: list[tuple[str, int, Statistic]] = []
    for name in names:
        source = reaching(sample, name)
        e = excess(source, name)
        own = 1.0 if e is None else shrinkage(source, e)
        found = statistic(source, name, own if c is None else c.get(name, own))
        if found is not None:
            statistics.append((name, int(source is not sample), found))
    drawn = {name: np.empty(draws) for name, _, _ in statistics}
    rng, spent = np.random.default_rng(seed), dict[int, Draw]()
    for d in range(draws if drawn else 0):
        weight = subject_weights(sample, rng) if weights is None else weights[d]
        for k in {k for _, k, _ in statistics}:
            spent[k] = weigh(sources[k], weight, spent.get(k))
        for name, k, of_draw in statistics:
            drawn[name][d] = of_draw(spent[k])
    return drawn | {name: sample.drawn[name] for name in names if name in sample.drawn}


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
    drawn, drew = (metric_draws(s, names, draws, seed, c=c) for s in (base, other))
    return {name: drew[name] - drawn[name] for name in names if name in drawn and name in drew}


def threshold_draws(
    sample: ComparisonSample, far: str, draws: int = 1000, seed: int = 0
) -> tuple[Floats, Floats] | None:
    """Draw the threshold at FAR <= x anew, and the FAR at the threshold that was found.

    Returns (draws,) thresholds and (draws,) FARs of the fixed one, or None where the sample does
    not reach to that FAR.
    """
    sample = reaching(sample, f"tpr@far={far}")
    allowed, e = accepts(sample, far), excess(sample, f"tpr@far={far}")
    if allowed is None or e is None:
        return None
    c = shrinkage(sample, e)
    at_border = border(sample, far, c)
    bar = sample.impostor[allowed] if allowed < len(sample.impostor) else -np.inf
    accepted = int(np.count_nonzero(sample.impostor > bar))
    rng = np.random.default_rng(seed)
    thresholds, fars = np.empty(draws), np.empty(draws)
    draw = None
    for d in range(draws):
        draw = weigh(sample, subject_weights(sample, rng), draw)
        k = at_border(draw)
        thresholds[d] = sample.impostor[k] if k < len(sample.impostor) else -np.inf
        all_pairs = (1 - c) * sample.impostors + c * draw.products
        fars[d] = share((1 - c) * accepted + c * draw.product[accepted], all_pairs)
    return thresholds, fars
