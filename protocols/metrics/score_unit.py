"""The unit that scores are shown in: minus a distance is shown as the distance.

Reports hold scores.  What a person reads has the unit that the scores came in: thresholds, their
histogram, and the names of rates at a given threshold, `fmr@distance=0.738` for the score -0.738.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalkit.protocols.metrics.operating_point import threshold_text
from evalkit.types import Estimate, Report

MINUS_DISTANCE = "minus the distance given"  # what a report says that its scores are
SCORE = "score"

_DISTANCE = re.compile(r"(?<=[@,])(?:squared-)?distance=([^,@]+)")
_THRESHOLD = re.compile(r"(?<=[@,])threshold=([^,@]+)")


def score_unit(provenance: Mapping[str, Any]) -> str:
    """Say what the scores of a report are: "score", or minus a "distance", "squared distance"."""
    recipe = provenance.get("recipe_fields")
    if provenance.get("score") == MINUS_DISTANCE:
        return "distance"
    squared = isinstance(recipe, Mapping) and recipe.get("score") == "-l2^2"
    return "squared distance" if squared else SCORE


def in_unit(score: float, unit: str) -> float:
    """Turn a score into what it was given as, or that into a score.

    >>> in_unit(-0.738, "distance"), in_unit(0.4, "score")
    (0.738, 0.4)
    """
    return score if unit == SCORE else 0.0 - score


def named_by_unit(metrics: Mapping[str, Estimate], unit: str) -> dict[str, Estimate]:
    """Name the rates at given thresholds by the distance that was given, where it was one.

    >>> list(named_by_unit({"fmr@threshold=-0.738": Estimate(value=0)}, "squared distance"))
    ['fmr@squared-distance=0.738']
    """
    if unit == SCORE:
        return dict(metrics)
    key = f"{unit.replace(' ', '-')}="
    return {_turned(_THRESHOLD, key, name): m for name, m in metrics.items()}


def of_score(name: str) -> str:
    """Name a rate at a given distance by the score that this is, as `named_by_unit` found it.

    >>> of_score("fmr@distance=0.738,sex=female"), of_score("accuracy@threshold=best")
    ('fmr@threshold=-0.738,sex=female', 'accuracy@threshold=best')
    """
    return _turned(_DISTANCE, "threshold=", name)


def as_given(report: Report) -> Report:
    """Return a report as it is shown: thresholds, names and histogram in the unit of its scores.

    For tables and pictures alone: the outcomes stay scores.
    """
    unit = score_unit(report.provenance)
    if unit == SCORE:
        return report
    metrics = {
        name: m if m.threshold is None else replace(m, threshold=in_unit(m.threshold, unit))
        for name, m in named_by_unit(report.metrics, unit).items()
    }
    curves = dict(report.curves)
    if "histogram" in curves:
        curves["histogram"] = _mirrored(curves["histogram"])
    return replace(report, metrics=metrics, curves=curves)


def _mirrored(bins: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Histogram of minus the scores: the bins from the last to the first, their ends negated."""
    turned = {name: list(reversed(column)) for name, column in bins.items()}
    low, high = ([-edge for edge in turned[end]] for end in ("high", "low"))
    return {**turned, "low": low, "high": high}


def _turned(what: re.Pattern[str], key: str, name: str) -> str:
    """Put another key and minus its number where a name has a parameter; texts stay."""

    def negated(found: re.Match[str]) -> str:
        try:
            return key + threshold_text(-float(found[1]))
        except ValueError:
            return found[0]

    return what.sub(negated, name)
