"""One vocabulary of metrics: the record of each, and what a metric's name says.

`vocabulary.csv` has a row per metric, with the fields of `record.Metric`; those that are computed
of scores alone stand beside their functions, in `curves`.  Tables, pages, gates, comparisons,
intervals and `evalkit list --metrics` read it; none of them looks at a name by itself.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics import curves
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


def _read_table() -> Iterator[Metric]:
    """Read the records of `vocabulary.csv`, whose unit "%" is a fraction in percent."""
    table = Path(__file__).with_name("vocabulary.csv")
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        fields: dict[str, Any] = {name: text or None for name, text in row.items()}
        fields |= {flag: row[flag] == "yes" for flag in ("signed", "of_parts", "by_group")}
        if row["unit"] == "%":
            fields |= {"unit": "fraction", "percent": True}
        yield Metric(**fields)


METRICS = [*curves.METRICS, *_read_table()]


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
