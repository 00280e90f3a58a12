"""`evalkit threshold`: the operating point to deploy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from evalkit import report as reports
from evalkit.cli.options import new_command
from evalkit.cli.output import json_option, write_json
from evalkit.cli.parameters import Number, Readable, rate_of_part
from evalkit.cli.terminal import say, show
from evalkit.protocols.metrics import threshold_text
from evalkit.protocols.metrics.score_unit import in_unit
from evalkit.protocols.metrics.vocabulary import resampling_of
from evalkit.report.table import accepts
from evalkit.verdict.threshold import operating_point, operating_row

ENOUGH = 30  # errors of which a rate is known within 30 %, nine times in ten: the rule of 30


@new_command(
    "threshold",
    "evalkit threshold report.json --far 1e-6",
    "evalkit threshold report.json --far 1e-4 --confidence 0.99",
    "evalkit threshold report.json --metric eer",
)
@click.argument("path", metavar="REPORT", type=Readable(beside=".npz", stream=True))
@click.option(
    "--far",
    callback=rate_of_part,
    metavar="FAR",
    help="Highest FAR to allow, as 1e-6; of one set among several, as 1e-6,distractors=1000000.",
)
@click.option(
    "--confidence",
    type=Number(0.5, 1, max_open=True),
    default=0.95,
    metavar="SHARE",
    help="Confidence of the safe threshold: that the FAR on other people is at most --far.",
)
@click.option(
    "--metric", metavar="NAME", help="Metric whose threshold to give, instead of --far's."
)
@json_option
def command(
    path: Path, far: str | None, confidence: float, metric: str | None, json_path: Path | None
) -> None:
    """Print the threshold to deploy for a FAR: the measured one, and the one that is safe.

    The measured threshold is the lowest whose measured FAR is at most the one asked for. Its
    interval says where it would lie on other people, whose FAR exceeds the one asked for about as
    often as not. The safe threshold is the lowest whose FAR is at most that with --confidence.
    """
    report = reports.read(path)
    if (far is None) == (metric is None):
        placed = [name for name, m in report.metrics.items() if m.threshold is not None]
        fars = ", ".join(
            dict.fromkeys(x for kind, x in map(resampling_of, placed) if kind == "tpr")
        )
        shown = f" ({fars} in {path.name})" if fars else ""
        raise click.UsageError(
            f"give --far FAR{shown}, or --metric NAME of a row that has a threshold"
        )
    if far is None:
        point = operating_row(report, str(metric), str(path))
    else:
        point = operating_point(report, far, str(path), confidence)
    if json_path is not None:
        write_json(json.dumps(point, indent=1, allow_nan=False), json_path)
        return
    show(*(_row(point) if far is None else _measured(point)))
    if point.get("safe"):
        show("", *_safe(point["safe"], far or "", point["unit"]))
    if point["note"]:
        say(f"warning: {point['note']}")


def _row(point: Mapping[str, Any]) -> list[str]:
    return [
        _threshold(point["threshold"], point["unit"]),
        _rate(point["metric"], point["value"], point["low"], point["high"]),
        f"accept if and only if {point['accept']}",
    ]


def _measured(point: Mapping[str, Any]) -> list[str]:
    """Lay out the measured threshold, its rates, and what supports them."""
    ends = point["threshold_low"], point["threshold_high"]
    lines = [_threshold(point["threshold"], point["unit"], ends)]
    lines += [_rate(n, point[n], point[f"{n}_low"], point[f"{n}_high"]) for n in ("far", "tpr")]
    lines.append(f"accept if and only if {point['accept']}")
    support = f"rests on {accepts(point['false_accepts'])}"
    if point["impostors"]:
        support += f" in {point['impostors']:,} impostor comparisons"
        support += f" of {point['subjects']:,} people" if point["subjects"] else ""
    lines.append(support)
    weight = point["independent"]
    if weight is not None and weight < ENOUGH:
        lines.append(
            f"rule of 30: they weigh as {weight:.3g} independent ones; {ENOUGH} tell a FAR within "
            "30 %"
        )
    return lines


def _threshold(
    threshold: float, unit: str, ends: tuple[float | None, float | None] = (None, None)
) -> str:
    """Spell a threshold of scores, and its interval, in the unit that they were given in."""
    shown = ["no bound" if end is None else f"{in_unit(end, unit):.6g}" for end in ends]
    turned = shown if unit == "score" else shown[::-1]
    interval = "" if ends[0] is None else f"  [{', '.join(turned)}]"
    unit_text = "" if unit == "score" else f"  {unit}"
    return f"{'threshold':<10} {threshold_text(in_unit(threshold, unit))}{interval}{unit_text}"


def _safe(safe: Mapping[str, Any], far: str, unit: str) -> list[str]:
    """Lay out the safe threshold, or why there is none."""
    sure = f"FAR <= {far.partition(',')[0]} at {safe['confidence']:.4g} confidence"
    if safe["threshold"] is None:
        return [f"safe: none for {sure}", safe["note"]]
    lines = [
        f"safe: {sure}",
        _threshold(safe["threshold"], unit),
        f"{'far':<10} {safe['far']:<12.6g}  at most {safe['far_high']:.6g}",
        _rate("fnmr", safe["fnmr"], safe["fnmr_low"], safe["fnmr_high"]),
        f"accept if and only if {safe['accept']}",
        f"rests on {accepts(safe['false_accepts'])}",
    ]
    if not safe["false_accepts"] and safe["largest"] == 1:
        events = -math.log1p(-safe["confidence"])
        lines.append(f"rule of three: none of N independent comparisons: at most {events:.3g} / N")
    return lines + ([safe["note"]] if safe["note"] else [])


def _rate(name: str, value: float | None, low: float | None, high: float | None) -> str:
    ends = "" if low is None or high is None else f"  [{low:.6g}, {high:.6g}]"
    return f"{name:<10} " + (f"{'-':<12}" if value is None else f"{value:<12.6g}{ends}").rstrip()
