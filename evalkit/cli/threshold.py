"""`evalkit threshold`: the operating point to deploy."""

from __future__ import annotations

import json
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
from evalkit.protocols.metrics.vocabulary import resampling_of
from evalkit.protocols.uncertainty.deployed_threshold import deployed_threshold, measured_at
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SetOutcomes, parts_of
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.report.guard import outcomes_of_strangers
from evalkit.report.table import accepts, caveat
from evalkit.types import Report
from evalkit.verdict.gate import near


@click.command(
    "threshold",
    cls=Command,
    examples=[
        "evalkit threshold report.json --far 1e-6",
    ],
)
@click.argument("path", metavar="REPORT", type=Readable(beside=".npz", stream=True))
@click.option(
    "--far",
    callback=rate_of_part,
    metavar="FAR",
    required=True,
    help='Highest FAR to allow, as text: "1e-6"; of several sets "1e-6,distractors=1000000".',
)
@json_option
def command(path: Path, far: str, json_path: Path | None) -> None:
    """Print the threshold to deploy for a FAR, how sure it is, and what supports it.

    The threshold is the lowest whose measured FAR is at most the one asked for. Its interval says
    where it would lie on other people; the interval of FAR, what this threshold lets through there.
    """
    report = reports.read(path)
    point = operating_point(report, far, str(path))
    if json_path is not None:
        write_json(json.dumps(point, indent=1, allow_nan=False), json_path)
        return
    for name in ("threshold", "far", "tpr"):
        value, low, high = point[name], point[f"{name}_low"], point[f"{name}_high"]
        ends = f"  [{low:.6g}, {high:.6g}]" if low is not None else ""
        show(f"{name:<10} {value:<12.6g}{ends}")
    show(f"accept if and only if score >= {point['threshold']!r}")
    support = f"rests on {accepts(point['false_accepts'])}"
    if point["impostors"]:
        support += f" in {point['impostors']:,} impostor comparisons"
        support += f" of {point['subjects']:,} people" if point["subjects"] else ""
    show(support)
    if point["note"]:
        say(f"warning: {point['note']}")


@outcomes_of_strangers()
def operating_point(report: Report, far: str, where: str = "the report") -> dict[str, Any]:
    """Return threshold, FAR and TPR at a FAR, with the ends of their 95 % intervals.

    far : where the outcomes have several parts, with the part's name: "1e-6,distractors=1000000".
    From the outcomes where they reach that far, else from the report's metric of that name.
    ReportError where neither has it, or the impostors cannot support it.
    """
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
    return asdict(replace(point, note="; ".join(filter(None, [m.note, caveat(report)]))))


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
    return (next(iter(parts.values())), far) if len(parts) == 1 else (None, far)
