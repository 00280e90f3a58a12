"""One vocabulary of metrics: the record of each, and what a metric's name says.

Tables, pages, gates, comparisons, intervals and `evalkit list --metrics` read it; none of them
looks at a name by itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics import (
    calibration_records,
    curves,
    group_records,
    quality_records,
    search_records,
)
from evalkit.protocols.metrics.record import Better, Metric, Reading, Resampling, reading
from evalkit.protocols.metrics.score_unit import of_score

__all__ = [
    "METRICS",
    "Metric",
    "better",
    "canonical",
    "metric_of",
    "part_of",
    "read",
    "register",
    "resampling_of",
    "resampling_of_part",
]

METRICS: list[Metric] = [
    Metric(
        grammar="accuracy",
        means="mean share of pairs decided rightly in each fold, threshold from the others",
        better="higher",
        percent=True,
        resampled="accuracy",
    ),
    Metric(
        grammar="accuracy@errata=excluded",
        means="accuracy without the pairs that the list's authors know to be wrong",
        better="higher",
        percent=True,
    ),
    Metric(
        grammar="accuracy@threshold=best",
        means="share of pairs decided rightly by the threshold that is best on them: optimistic",
        better="higher",
        percent=True,
        resampled="best accuracy",
    ),
    *curves.METRICS,
    Metric(
        grammar="tpr@far=FAR",
        means="share of genuine pairs accepted at the lowest threshold with FAR at most FAR",
        better="higher",
        percent=True,
        resampled="tpr",
        of_parts=True,
        by_group=True,
    ),
    Metric(
        grammar="tpr@far=FAR,mean=subject",
        means="mean over people of each one's TPR at that threshold: many images count once",
        better="higher",
        percent=True,
        resampled="mean tpr",
        of_parts=True,
    ),
    Metric(
        grammar="fmr@threshold=THRESHOLD",
        means="share of impostor pairs accepted at a threshold that was given",
        better="lower",
        resampled="fmr",
        of_parts=True,
        by_group=True,
    ),
    Metric(
        grammar="fnmr@threshold=THRESHOLD",
        means="share of genuine pairs rejected at a threshold that was given",
        better="lower",
        percent=True,
        resampled="fnmr",
        of_parts=True,
        by_group=True,
    ),
    *group_records.METRICS,
    *quality_records.METRICS,
    *calibration_records.METRICS,
    *search_records.METRICS,
    Metric(
        grammar="tpr@far=FAR,mean=split",
        means="TPR at FAR, mean of the splits",
        better="higher",
        percent=True,
    ),
    Metric(
        grammar="rank-K@mean=split",
        means="rank-K, mean of the splits",
        better="higher",
        percent=True,
        counts="searches",
    ),
    Metric(
        grammar="tpir@fpir=FPIR,mean=split",
        means="TPIR at FPIR, mean of the splits",
        better="higher",
        percent=True,
        counts="searches",
    ),
    Metric(
        grammar="fpir@threshold=THRESHOLD",
        means="share of searches without a mate that reach a threshold that was given",
        better="lower",
        percent=True,
        counts="searches",
        resampled="fpir",
        of_parts=True,
        by_group=True,
    ),
    Metric(
        grammar="fnir@threshold=THRESHOLD",
        means="share of mated searches not found first, or below a threshold that was given",
        better="lower",
        percent=True,
        counts="searches",
        resampled="fnir",
        of_parts=True,
        by_group=True,
    ),
    Metric(
        grammar="tpir@threshold=THRESHOLD",
        means="DIR: share of mated searches found first at or above a threshold that was given",
        better="higher",
        percent=True,
        counts="searches",
        resampled="dir",
        of_parts=True,
        by_group=True,
    ),
    Metric(
        grammar="vr@far=FAR",
        means="BLUFR's verification rate: TPR at FAR, mean less deviation of the trials",
        better="higher",
        percent=True,
    ),
    Metric(
        grammar="dir@fpir=FPIR,rank=K",
        means="BLUFR's detection and identification rate, mean less deviation of the trials",
        better="higher",
        percent=True,
        counts="searches",
    ),
    Metric(
        grammar="within@space=angle,quantile=Q",
        means="quantile of the angles of genuine pairs",
        better="lower",
        unit="degrees",
    ),
    Metric(
        grammar="within@space=l2,quantile=Q",
        means="quantile of the distances of genuine pairs",
        better=None,
        unit="length",
    ),
    Metric(
        grammar="between@space=angle,quantile=Q",
        means="quantile of the angles of impostor pairs",
        better="higher",
        unit="degrees",
    ),
    Metric(
        grammar="between@space=l2,quantile=Q",
        means="quantile of the distances of impostor pairs",
        better=None,
        unit="length",
    ),
    Metric(
        grammar="within/between@space=SPACE",
        means="mean squared distance of genuine pairs over that of impostor pairs",
        better="lower",
        unit="ratio",
    ),
    Metric(
        grammar="farther-than-nearest-impostor@space=SPACE",
        means="share of genuine pairs farther apart than the nearest impostor",
        better="lower",
    ),
    Metric(
        grammar="compactness@space=angle",
        means="mean angle between two images of a class",
        better="lower",
        unit="degrees",
        counts="classes",
    ),
    Metric(
        grammar="compactness@space=l2",
        means="mean distance between two images of a class",
        better=None,
        unit="length",
        counts="classes",
    ),
    Metric(
        grammar="separation@space=angle",
        means="mean angle from an image with a mate to its nearest impostor",
        better="higher",
        unit="degrees",
        counts="images",
    ),
    Metric(
        grammar="separation@space=l2",
        means="mean distance from an image with a mate to its nearest impostor",
        better=None,
        unit="length",
        counts="images",
    ),
    Metric(
        grammar="separation-ratio@space=SPACE",
        means="separation over compactness",
        better="higher",
        unit="ratio",
        counts="classes",
    ),
    Metric(
        grammar="region-samples-correlation@space=SPACE",
        means="rank correlation of a class's region and its samples",
        better=None,
        unit="correlation",
        counts="classes",
    ),
    Metric(
        grammar="norm@quantile=Q",
        means="quantile of the lengths of the vectors",
        better=None,
        unit="length",
        counts="images",
    ),
    Metric(
        grammar="norm-variation",
        means="standard deviation of the lengths over their mean",
        better=None,
        unit="ratio",
        counts="images",
    ),
    Metric(
        grammar="norm-auc@errors=rank-1",
        means="chance that an image found rightly is longer than one that is not",
        better=None,
        counts="images",
    ),
    Metric(
        grammar="participation-ratio",
        means="effective dimension of the covariance: (sum v)^2 / sum v^2",
        better=None,
        unit="dimensions",
        counts="images",
    ),
    Metric(
        grammar="entropy-dimension",
        means="effective dimension of the covariance: exp(-sum p ln p)",
        better=None,
        unit="dimensions",
        counts="images",
    ),
    Metric(
        grammar="hubness-skewness@k=K",
        means="skewness of how often an image is among the K nearest of others",
        better="lower",
        unit="skewness",
        counts="images",
    ),
    Metric(
        grammar="antihubs@k=K",
        means="share of images that are not among the K nearest of any image",
        better="lower",
        counts="images",
    ),
]


def register(metric: Metric) -> None:
    """Add the record of a metric that a package of one's own measures.

    ProtocolError where a record has that grammar already and says something else.
    """
    for known in METRICS:
        if known.grammar == metric.grammar and known != metric:
            raise ProtocolError(f"a metric {metric.grammar!r} has a record already")
    if metric not in METRICS:
        METRICS.append(metric)


def read(name: str) -> Reading | None:
    """Read a metric's name by the grammar that fits it best; None where no record does.

    A distance is read as the threshold of scores that it is (`unit`).

    >>> found = read("tpr@far=1e-6,distractors=10")
    >>> found.metric.grammar, found.values, found.rest
    ('tpr@far=FAR', {'FAR': '1e-6'}, ',distractors=10')
    """
    scored = of_score(name)
    fitting = (found for metric in METRICS if (found := reading(metric, scored)))
    return max(fitting, key=lambda found: len(found.metric.grammar), default=None)


def canonical(name: str) -> str:
    """Spell a metric's name by the one grammar: "@" before its first parameter, "," before others.

    >>> canonical("tpr@far=1e-6@pairs=all")
    'tpr@far=1e-6,pairs=all'
    """
    metric, at, parameters = name.partition("@")
    return metric + at + parameters.replace("@", ",")


def metric_of(name: str) -> Metric | None:
    """Find the record of a metric by its name; None where nobody has declared it.

    >>> metric_of("eer").better, metric_of("hter")
    ('lower', None)
    """
    found = read(name)
    return None if found is None else found.metric


def better(name: str) -> Better | None:
    """Say "higher" or "lower"; None where neither is better, or nobody has declared it."""
    metric = metric_of(name)
    return None if metric is None else metric.better


def resampling_of(name: str) -> tuple[Resampling | None, str]:
    """Return the statistic that a draw of subjects computes, and its parameter.

    None and "" where the metric is not resampled from the outcomes of its report.

    >>> resampling_of("rank-1@distractors=10"), resampling_of("tpr@far=1e-6@pairs=all")
    (('rank', '1'), (None, ''))
    """
    found = read(name)
    return (None, "") if found is None else found.resampling()


def resampling_of_part(name: str, part: str) -> tuple[Resampling | None, str]:
    """As `resampling_of`, of a metric that is of one part of the outcomes and says no more.

    >>> resampling_of_part("rank-1@distractors=10", "distractors=10")
    ('rank', '1')
    >>> resampling_of_part("tpr@far=1e-6,rule=devkit", "")
    (None, '')
    """
    found = read(name)
    if found is None or found.rest.lstrip("@,") != part:
        return None, ""
    return found.resampling()


def part_of(name: str, parts: Collection[str], searched: Collection[str] = ()) -> str | None:
    """Find the part of the outcomes that a metric is of: its parameters are the part, or end so.

    Else it is of the part without a name, unless it says of which pairs it is.  One of searches
    that names no part is of the only part that holds searches, whatever that is called.
    searched : the parts that hold searches.

    >>> part_of("tpr@far=1e-6,distractors=10", ["distractors=10", "distractors=100"])
    'distractors=10'
    >>> part_of("rank-1", ["", "pairs=all"], searched=["pairs=all"])
    'pairs=all'
    """
    named = [p for p in parts if p and name.endswith((f"@{p}", f",{p}"))]
    if named:
        return max(named, key=len)
    found = read(name)
    alone = found is not None and found.metric.counts == "searches" and not found.rest
    if alone and len(searched) == 1:
        return next(iter(searched))
    return "" if "" in parts and not re.search("[@,]pairs=", name) else None
