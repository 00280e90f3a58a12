"""`evalkit threshold`: the operating point to deploy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from evalkit import report as reports
from evalkit.cli.options import Command
from evalkit.cli.output import json_option, write_json
from evalkit.cli.parameters import Readable, rate_of_part
from evalkit.cli.terminal import say, show
from evalkit.errors import ReportError
from evalkit.protocols.metrics import threshold_text
from evalkit.protocols.metrics.score_unit import in_unit, score_unit
from evalkit.protocols.metrics.vocabulary import resampling_of
from evalkit.protocols.uncertainty.deployed_threshold import (
    deployed_threshold,
    measured_at,
    safe_threshold,
)
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SetOutcomes, parts_of
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.report.table import accepts, caveat
from evalkit.types import Report
from evalkit.verdict.rules import near

ENOUGH = 30  # errors of which a rate is known within 30 %, nine times in ten: the rule of 30


@click.command(
    "threshold",
    cls=Command,
    examples=[
        "evalkit threshold report.json --far 1e-6",
        "evalkit threshold report.json --far 1e-4 --confidence 0.99",
        "evalkit threshold report.json --metric eer",
    ],
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
    type=click.FloatRange(0.5, 1, max_open=True),
    default=0.95,
    show_default=True,
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
    if (far is None) == (metric is None):
        raise click.UsageError("give --far FAR, or --metric NAME of a row that has a threshold")
    report = reports.read(path)
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
    threshold, far_ends = (
        in_unit(threshold, unit),
        [in_unit(end, unit) for end in ends if end is not None],
    )
    interval = f"  [{min(far_ends):.6g}, {max(far_ends):.6g}]" if len(far_ends) == 2 else ""
    unit_text = "" if unit == "score" else f"  {unit}"
    return f"{'threshold':<10} {threshold_text(threshold)}{interval}{unit_text}"


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


@reports.outcomes_of_strangers()
def operating_point(
    report: Report, far: str, where: str = "the report", confidence: float = 0.95
) -> dict[str, Any]:
    """Return threshold, FAR and TPR at a FAR, with the ends of their 95 % intervals.

    far : where the outcomes have several parts, with the part's name: "1e-6,distractors=1000000".
    From the outcomes where they reach that far, else from the report's metric of that name.
    "accept" : the rule to deploy, in the "unit" that the scores were given in; the numbers here are
    of scores, minus a distance.  "safe" : the same at
    the threshold that is safe with `confidence`, None without outcomes that reach that far.
    ReportError where neither has it, or the impostors cannot support it.
    """
    far = far.replace("@", ",")
    name = f"tpr@far={far}"
    plain, other, _ = far.partition(",rule=")
    if other:
        raise ReportError(f"{far} is by another project's rule", f"deploy that of --far {plain}")
    outcomes, far = _outcomes_at(report, far)
    m = report.metrics.get(name)
    if m is None and outcomes is not None:
        m = measured_at(outcomes, far)
    if m is None:
        known = [n for n in report.metrics if resampling_of(n)[0] == "tpr"]
        raise ReportError(f"{where} holds nothing at FAR {far}", near(name, known))
    if m.value is None or m.threshold is None:
        raise ReportError(f"{where} cannot support FAR {far}: {m.note}", "measure more impostors")
    sample = None if outcomes is None else sample_of(outcomes)
    point = deployed_threshold(m, m.threshold, far, sample)
    point = replace(point, note="; ".join(filter(None, [m.note, caveat(report)])))
    safe = None if outcomes is None else safe_threshold(outcomes, far, confidence)
    return {
        **asdict(point),
        "unit": score_unit(report.provenance),
        "accept": accept_rule(report, point.threshold),
        "safe": None
        if safe is None
        else asdict(safe)
        | {"accept": None if safe.threshold is None else accept_rule(report, safe.threshold)},
    }


def operating_row(report: Report, name: str, where: str = "the report") -> dict[str, Any]:
    """Return one row of a report that has a threshold, with the rule that deploys it.

    ReportError where there is no such row, or it has no threshold.
    """
    m = report.metrics.get(name)
    if m is None:
        raise ReportError(f"no such metric: {where} has no {name!r}", near(name, report.metrics))
    if m.threshold is None:
        known = [n for n, each in report.metrics.items() if each.threshold is not None]
        raise ReportError(f"{where} has no threshold at {name!r}", near(name, known))
    fields = {k: v for k, v in asdict(m).items() if k not in ("folds", "standard_error")}
    accept = accept_rule(report, m.threshold)
    return {"metric": name, **fields, "unit": score_unit(report.provenance), "accept": accept}


def accept_rule(report: Report, threshold: float) -> str:
    """Spell the rule to deploy in the unit that the scores were given in: a distance stays one.

    Typed back, the number accepts the same pairs.
    """
    unit = score_unit(report.provenance)
    if unit == "score":
        return f"score >= {threshold_text(threshold)}"
    return f"{unit} <= {threshold_text(in_unit(threshold, unit))}"


def _outcomes_at(report: Report, far: str) -> tuple[PairOutcomes | SetOutcomes | None, str]:
    """Find the part of the outcomes that a FAR is of, and the FAR alone."""
    parts = {
        part: outcomes
        for part, outcomes in parts_of(report.outcomes or {}).items()
        if isinstance(outcomes, PairOutcomes | SetOutcomes)
    }
    alone, _, part = far.partition(",")
    if part in parts:
        return parts[part], alone
    if part and f"tpr@far={far}" not in report.metrics:
        named = [p for p in parts if p]
        hint = near(part, named) if named else "it holds one set: give the FAR alone"
        raise ReportError(f"the report has no set {part!r}", hint)
    return (next(iter(parts.values())), far) if len(parts) == 1 and not part else (None, far)
