"""The record of a metric: grammar of its name, direction, unit, meaning, how it is resampled.

A new metric of genuine and impostor scores is a function and, below it, its record in METRICS of
`curves`: that puts it into `lfw`, `verify` and `score`.  Any other is computed by its protocol, and
its record is a row of `vocabulary.csv`, or is registered by another package (`register`).
Tables, gates, intervals and `evalkit list --metrics` need nothing else.  What a report keeps of
each number, its fields, is `evalkit.types.Estimate`; a new field's other places are listed there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.types import Estimate

Better = Literal["higher", "lower"]
Unit = Literal[
    "fraction", "degrees", "length", "ratio", "correlation", "skewness", "dimensions", "bits"
]
Resampling = Literal[
    "accuracy",
    "best accuracy",
    "auc",
    "eer",
    "tpr",
    "mean tpr",
    "fmr",
    "fnmr",
    "fpir",
    "fnir",
    "dir",
    "tpir",
    "rank",
    "scores",
]
# Keys of parameters that say anything but a group, in the names of all metrics.
PARAMETERS = {
    "by", "cleaned", "distractors", "errata", "errors", "far", "far-of-each", "far-of-kept", "fit",
    "fpir", "gallery", "images-discarded", "k", "mean", "pairs", "pairs-discarded", "quantile",
    "rank", "rule", "set", "space", "threshold",
}  # fmt: skip
OfScores = Callable[[NDArray[np.float64], NDArray[np.float64]], Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Record of one metric, for every report, gate and table that meets its name.

    grammar : its name, capitals for the values of parameters: "tpr@far=FAR".  A name may go on
    with further parameters, each after "," or "@": "tpr@far=1e-6,distractors=10".
    means : one line.  better : None where neither is.  unit : "fraction" of 1, or what else.
    signed : whether a fraction may lie below 0: a difference, or a mean less a deviation.
    percent : whether tables multiply it by 100.
    counts : what it is a share of, or taken over.
    of_scores : what computes it of genuine and impostor scores, (G,) and (I,), -inf for failures;
    None where that takes more.
    resampled : the statistic computed in each draw of subjects; None where there is none.  "scores"
    is `of_scores` of the drawn comparisons, for a rate that is no more than a function of scores.
    of_parts : whether further parameters name the part of a report's outcomes that it is of, such
    as "distractors=10"; of any other metric they name comparisons that the outcomes do not hold.
    by_group : whether a further parameter may name a group, "sex=female", or two, the comparisons
    between them, "sex=female+male"; or "by=sex" all groups of a column (`groups`).
    """

    grammar: str
    means: str
    better: Better | None
    unit: Unit = "fraction"
    signed: bool = False
    percent: bool = False
    counts: Literal["pairs", "searches", "images", "classes"] = "pairs"
    resampled: Resampling | None = None
    of_parts: bool = False
    of_scores: OfScores | None = None
    by_group: bool = False

    def __post_init__(self) -> None:
        if self.resampled == "scores" and (self.of_scores is None or self.unit != "fraction"):
            raise ProtocolError(
                f"{self.grammar} is to be resampled by its scores, and is not a rate of them",
                "give of_scores, and fractions of 1",
            )

    @property
    def shown_unit(self) -> str:
        """The unit as tables show it: "%" for a fraction that they multiply by 100."""
        return "%" if self.percent else self.unit


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric's name, read: its record, the values of its parameters, and what follows them.

    values : by the capitals of the grammar, {"FAR": "1e-6"}.  rest : such as ",distractors=10".
    """

    metric: Metric
    values: dict[str, str]
    rest: str

    @property
    def group(self) -> tuple[str, str] | None:
        """Column and group that the metric is of, ("sex", "female"); of all groups ("sex", "").

        None where it is of no group.
        """
        if not self.metric.by_group:
            return None
        for key, value in _PARAMETER.findall(self.rest):
            if key == "by":
                return value, ""
            if key not in PARAMETERS:
                return key, value
        return None

    def resampling(self) -> tuple[Resampling | None, str]:
        """Return the statistic of a draw and its parameter, "" for none.

        The statistic is None where the name says that the outcomes are of other comparisons.
        """
        separator = "," if "@" in self.metric.grammar else "@"
        elsewhere = self.rest and not (self.metric.of_parts and self.rest.startswith(separator))
        elsewhere = elsewhere or self.group is not None
        if elsewhere or self.metric.resampled is None:
            return None, ""
        return self.metric.resampled, next(iter(self.values.values()), "")


def reading(metric: Metric, name: str) -> Reading | None:
    """Read a name by one metric's grammar; None where it does not fit."""
    match = _pattern(metric.grammar).fullmatch(name)
    if match is None:
        return None
    *values, rest = match.groups(default="")
    return Reading(metric, dict(zip(_CAPITALS.findall(metric.grammar), values, strict=True)), rest)


_PARAMETER = re.compile("[,@]([^,@=]+)=([^,@]+)")
_CAPITALS = re.compile("[A-Z]+")


@cache
def _pattern(grammar: str) -> re.Pattern[str]:
    fixed = map(re.escape, _CAPITALS.split(grammar))
    return re.compile("([^,@]+)".join(fixed) + "([,@].*)?", re.DOTALL)
