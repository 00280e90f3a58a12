"""Confidence intervals of metrics, by resampled subjects.

`resampling` draws the subjects, and one whom nobody has seen; here draws become an interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
from scipy.special import betaincinv, ndtr, stdtrit

from evalkit.memory import give_back
from evalkit.protocols.metrics.vocabulary import read, resampling_of
from evalkit.protocols.uncertainty.bootstrap import of_two_sets
from evalkit.protocols.uncertainty.columns import there
from evalkit.protocols.uncertainty.outcomes import Arrays, Outcomes
from evalkit.protocols.uncertainty.resampled_at_threshold import accepted_at
from evalkit.protocols.uncertainty.resampled_rates import reaching
from evalkit.protocols.uncertainty.resampled_searches import rate_of
from evalkit.protocols.uncertainty.resampling import in_order_of_draws, metric_ends, own_draws
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.types import Estimate, Floats, Ints

LEVEL = 0.95
DRAWS = 1000
# Beyond WORK comparisons in all draws there are fewer of them: half a minute, not half an hour.
# Of comparisons that nobody shares a tenth does: nothing in them needs more.
WORK, FEWEST = 1_000_000_000, 200
WITHOUT_PEOPLE = "too short where people recur"


def with_intervals(
    metrics: Mapping[str, Estimate],
    outcomes: Outcomes | Arrays,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Return the metrics with `low`, `high`, `interval` and `people` filled in.

    outcomes : of one set of comparisons, or its arrays in a report.  draws, seed : of people.
    level : how often the interval is to hold the truth.  An estimate without a value, with an
    interval already, or of a kind that cannot be resampled is returned as it is.  The intervals of
    TPR never rise as FAR falls.
    Where nobody knows who was compared, comparisons are drawn, as `interval` then says.
    Very long pair lists get fewer draws (`affordable`), as `interval` says too.
    Coverage is measured by `benchmarks/interval_coverage.py`.
    """
    give_back()  # what was compared is gone, and the draws need its memory
    # The sample as it was read is not kept.
    sample = in_order_of_draws(sample_of(outcomes, together=True))
    give_back()
    draws = affordable(draws, sample, WORK if sample.unit == "subject" else WORK // 10)
    open_ = [n for n, m in metrics.items() if m.value is not None and m.low is None]
    estimates = dict(metrics)
    for name, drawn in metric_ends(sample, open_, weights=own_draws(sample, draws, seed)).items():
        n = independent(sample, name)
        m = bounded(
            metrics[name], drawn, n, seed, level, sample.unit, expanded=expands(sample, name)
        )
        m = replace(m, people=n if sample.unit == "subject" else None)
        m = no_shorter(m, sample, name, level)
        if reaching(sample, name) is not sample:
            m = replace(m, interval=f"{m.interval}, of a random sample of impostors")
        estimates[name] = m
    return rising(estimates)


def expands(sample: ComparisonSample, name: str) -> bool:
    """Whether Student's t lengthens a metric's interval: where the unseen person's room is short.

    He moves no threshold of an accuracy's folds; of two sets' FMR few people make most accepts.
    """
    kind = resampling_of(name)[0]
    return kind == "accuracy" or (kind == "fmr" and of_two_sets(sample))


def rising(metrics: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Lengthen the intervals of TPR where draws at two FARs would have them fall as FAR rises."""
    curves: dict[str, list[tuple[Fraction, str, float, float]]] = {}
    for name, m in metrics.items():
        named = read(name)
        x = named.values.get("FAR", "") if named and named.group is None else ""
        far = rate_of(x) if named and named.metric.grammar.startswith("tpr@") else None
        if far is not None and m.low is not None and m.high is not None:
            curve = curves.setdefault(name.replace(f"far={x}", ""), [])
            curve.append((far, name, m.low, m.high))
    estimates = dict(metrics)
    for curve in curves.values():
        _, names, lows, highs = zip(*sorted(curve), strict=True)
        least, most = np.minimum.accumulate(lows[::-1])[::-1], np.maximum.accumulate(highs)
        for name, low, high in zip(names, least, most, strict=True):
            estimates[name] = replace(estimates[name], low=float(low), high=float(high))
    return estimates


def no_shorter(m: Estimate, sample: ComparisonSample, name: str, level: float = LEVEL) -> Estimate:
    """Lengthen the interval of FMR of two sets that share nobody to that of as many strangers.

    Clopper and Pearson's, of comparisons that depend on nothing: the draws of one to ten accepts
    end short of it.
    """
    kind, at = resampling_of(name)
    accepts = accepted_at(sample, at) if kind == "fmr" and of_two_sets(sample) else None
    if accepts is None or m.low is None or m.high is None:
        return m
    tail, rejects = (1 - level) / 2, sample.impostors - accepts
    low = float(betaincinv(accepts, rejects + 1, tail)) if accepts else 0.0
    high = float(betaincinv(accepts + 1, rejects, 1 - tail)) if rejects else 1.0
    return replace(m, low=min(m.low, low), high=max(m.high, high))


def affordable(draws: int, sample: ComparisonSample, work: int) -> int:
    """Return `draws`, or as many as touch `work` comparisons in all, but not below FEWEST."""
    comparisons = len(sample.genuine) + len(sample.impostor)
    comparisons += len(sample.thinned.impostor) if sample.thinned is not None else 0
    return min(draws, max(FEWEST, work // max(comparisons, 1)))


def independent(sample: ComparisonSample, name: str) -> int:
    """Count the subjects (`unit`s) behind a metric: those that could have erred independently."""
    if name in sample.drawn:
        return sample.subjects
    kind, _ = resampling_of(name)
    if kind == "rank" and sample.rank_subject is not None:
        return _distinct(sample.rank_subject)
    if kind == "fmr":  # two people an impostor pair, of two sets one of each
        if of_two_sets(sample):
            return max(1, min(_distinct(sample.left), _distinct(sample.right)))
        return max(1, _distinct(sample.left, sample.right) // 2)
    if kind == "fpir":
        return _distinct(*(s.nonmate_subject for s in sample.searches))
    if kind in ("tpir", "fnir", "dir"):
        return _distinct(*(s.mate_subject for s in sample.searches))
    return _distinct(sample.genuine_subject)


def _distinct(*people: Ints) -> int:
    """Count those who are there, of numbers from 0."""
    return int(np.count_nonzero(there(*people)))


def spread(drawn: Floats) -> float:
    """Return the standard deviation (divisor n - 1) of draws, 0 where only rounding parts them."""
    error = float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
    return error if error > 1e-12 else 0.0


def bounded(
    m: Estimate,
    drawn: Floats,
    n: int,
    seed: int = 0,
    level: float = LEVEL,
    unit: str = "subject",
    *,
    expanded: bool = False,
) -> Estimate:
    """Give an estimate the interval of its draws: their quantiles, with room for one unseen.

    drawn : (draws, 2), where a person unseen fails, and where he succeeds (`metric_ends`).  n : how
    many `unit`s were seen.  The interval holds the value, also where draws are biased.
    expanded : quantiles further out, by as much as Student's t of n - 1 degrees of freedom exceeds
    a normal quantile: the expanded percentile interval [Hesterberg, Am. Stat. 69, 2015], of what
    `expands`.
    """
    if m.value is None:
        return m
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    tail = (1 - level) / 2
    if expanded and n > 1:
        tail = float(ndtr(stdtrit(n - 1, tail) * math.sqrt(n / (n - 1))))
    low = np.quantile(drawn.min(axis=1), tail, method="weibull")
    high = np.quantile(drawn.max(axis=1), 1 - tail, method="weibull")
    how = f"by {unit}, {len(drawn):,} draws, seed {seed}, room for one unseen beside {n:,}"
    if unit == "comparison":
        how += f": {WITHOUT_PEOPLE}"
    low, high = min(float(low), m.value), max(float(high), m.value)
    return replace(m, low=low, high=high, interval=f"{level:.0%} {how}")
