"""Which way a metric is better, by its name."""

from __future__ import annotations

# Where less is better, and where neither is; every other metric is better when higher.
_LOWER_IS_BETTER = (
    "eer",
    "fnmr",
    "fnir",
    "fta",
    "far@",
    "fpir@",
    "within/between@",
    "farther-than-nearest-impostor@",
    "within@space=angle",
    "compactness@space=angle",
    "hubness-skewness@",
    "antihubs@",
)
# Lengths grow with the vectors; of these shapes no value is the right one.
_DESCRIBES = (
    "within@space=l2",
    "between@space=l2",
    "compactness@space=l2",
    "separation@space=l2",
    "region-samples-correlation@",
    "norm",
    "participation-ratio",
    "entropy-dimension",
)
# In degrees, or without an upper end; every other metric is a fraction of 1.
_NO_FRACTION = (
    "within",
    "between@",
    "compactness@",
    "separation@",
    "separation-ratio@",
    "hubness-skewness@",
)


def lower_is_better(metric: str) -> bool:
    """Tell whether a metric counts errors, or what keeps classes from being told apart."""
    return metric.startswith(_LOWER_IS_BETTER)


def only_describes(metric: str) -> bool:
    """Tell whether a metric of geometry is neither better nor worse when higher."""
    return metric.startswith(_DESCRIBES)


def is_fraction(metric: str) -> bool:
    """Tell whether a metric lies between 0 and 1."""
    return not metric.startswith(_NO_FRACTION)


def better(metric: str) -> str | None:
    """Say "lower" or "higher", or None for what only describes."""
    if only_describes(metric):
        return None
    return "lower" if lower_is_better(metric) else "higher"
