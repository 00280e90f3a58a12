"""Subjects drawn a thousand times over: every metric in each draw, and every threshold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from evalkit.protocols.uncertainty.bootstrap import (
    Draw,
    Ends,
    Share,
    Statistic,
    shrinkage,
    shrinkage_of_difference,
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
from evalkit.protocols.uncertainty.weights import Weights, canonical_order, subject_draws
from evalkit.types import Floats


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
    weights = subject_draws(sample, draws, seed) if weights is None else weights
    seen = ((weight, 0) for weight, _ in weights)
    drawn = {name: of[:, 0] for name, of in metric_ends(sample, names, c=c, weights=seen).items()}
    return drawn | {name: sample.drawn[name] for name in names if name in sample.drawn}


def metric_ends(
    sample: ComparisonSample,
    names: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
    c: Mapping[str, float] | None = None,
    weights: Iterable[Weights] | None = None,
) -> dict[str, Floats]:
    """Draw subjects `draws` times; return each metric that the sample supports: name -> (draws, 2).

    Where the person unseen fails in everything, and where he succeeds.  Understood are accuracy,
    accuracy@threshold=best, auc, eer, and tpr@far=x, rank-k, tpir@fpir=x (the gallery stays, the
    people looked for are drawn), whatever follows; the threshold is found anew in each draw.  NaN
    where a draw holds no comparison.
    c : metric -> `shrinkage`, else the sample's own.  weights : instead of `subject_draws`.
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
    drawn: dict[str, list[Sequence[Share] | Ends]] = {name: [] for name, _, _ in statistics}
    used, spent = {k for _, k, _ in statistics}, dict[int, Draw]()
    weights = subject_draws(sample, draws, seed) if weights is None else weights
    for weight in weights if drawn else ():
        for k in used:
            spent[k] = weigh(sources[k], weight, spent.get(k))
        for name, k, of_draw in statistics:
            drawn[name].append(of_draw(spent[k]))
    return {name: _ends(of) for name, of in drawn.items()}


def _ends(drawn: Sequence[Sequence[Share] | Ends]) -> Floats:
    """Return (draws, 2): where the person unseen fails in everything, and where he succeeds.

    Shares stay within [0, 1], which c above 1 could leave; NaN where a draw holds nothing.
    """
    found = np.array(drawn, np.float64)
    if found.ndim < 3:
        return found
    part, whole, unseen = found.transpose(2, 0, 1)
    parts, wholes = np.stack([part, part + unseen], axis=2), (whole + unseen)[..., np.newaxis]
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
    """Draw the threshold at FAR <= x anew: (draws,), or None where the sample ends before it."""
    sample = reaching(sample, f"tpr@far={far}")
    e = excess(sample, f"tpr@far={far}")
    if accepts(sample, far) is None or e is None:
        return None
    c = shrinkage(sample, e)
    at_border = border(sample, far, c)
    thresholds = np.empty(draws)
    draw = None
    for d, weights in enumerate(subject_draws(sample, draws, seed)):
        draw = weigh(sample, weights, draw)
        k = at_border(draw)
        thresholds[d] = sample.impostor[k] if k < len(sample.impostor) else -np.inf
    return thresholds
