"""`evalkit threshold`: the operating point to deploy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from evalkit import report as reports
from evalkit.cli.options import Command
from evalkit.cli.output import json_option, write_json
from evalkit.cli.parameters import Readable, rate_of_part
from evalkit.cli.terminal import say, show
from evalkit.errors import ReportError
from evalkit.protocols.metrics import false_accepts_allowed, tpr_estimate
from evalkit.protocols.metrics.vocabulary import resampling_of
from evalkit.protocols.uncertainty.intervals import DRAWS, logit_interval, with_intervals
from evalkit.protocols.uncertainty.outcomes import sample_of
from evalkit.protocols.uncertainty.resampling import threshold_draws
from evalkit.protocols.uncertainty.samples import Outcomes, Sample, parts_of
from evalkit.report.guard import outcomes_of_strangers
from evalkit.report.table import accepts, caveat
from evalkit.types import Estimate, Report
from evalkit.verdict.gate import near

_COMPARED = {"score", "genuine_score"}


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
    sample = sample_of(outcomes) if outcomes else None
    m = report.metrics.get(name)
    if m is None and sample is not None:
        m = _measured(sample, far)
        if m is not None:
            m = with_intervals({name: m}, outcomes)[name]
    if m is None:
        known = [n for n in report.metrics if resampling_of(n)[0] == "tpr"]
        raise ReportError(f"{where} holds nothing at FAR {far}", near(name, known))
    if m.value is None or m.threshold is None:
        raise ReportError(f"{where} cannot support FAR {far}: {m.note}", "measure more impostors")
    drawn = threshold_draws(sample, far) if sample is not None else None
    ends = _ends(m, *drawn) if drawn is not None else (None,) * 4
    people = sample.subjects if sample is not None and sample.unit == "subject" else None
    return {
        "threshold": m.threshold,
        "threshold_low": ends[0],
        "threshold_high": ends[1],
        "far": m.far,
        "far_low": ends[2],
        "far_high": ends[3],
        "tpr": m.value,
        "tpr_low": m.low,
        "tpr_high": m.high,
        "false_accepts": m.false_accepts,
        "impostors": sample.impostors if sample is not None else None,
        "subjects": people,
        "draws": DRAWS if drawn is not None else 0,
        "note": "; ".join(filter(None, [m.note, caveat(report)])),
    }


def _outcomes_at(report: Report, far: str) -> tuple[Outcomes, str]:
    """Find the part of the outcomes that a FAR is of, and the FAR alone."""
    parts = {p: o for p, o in parts_of(report.outcomes or {}).items() if _COMPARED & set(o)}
    alone, _, part = far.partition(",")
    if part in parts:
        return parts[part], alone
    if part and f"tpr@far={far}" not in report.metrics:
        named = [p for p in parts if p]
        hint = near(part, named) if named else "it holds one set: give the FAR alone"
        raise ReportError(f"the report has no set {part!r}", hint)
    return (next(iter(parts.values())), far) if len(parts) == 1 else ({}, far)


def _measured(sample: Sample, far: str) -> Estimate | None:
    """Read TPR at a FAR that the report does not name off the comparisons themselves."""
    allowed = false_accepts_allowed(far, sample.impostors)
    if allowed >= len(sample.impostor):
        return None
    border = float(sample.impostor[allowed])
    threshold = float(np.nextafter(border, np.inf)) if allowed else None
    accepted = [int(np.count_nonzero(s > border)) for s in (sample.genuine, sample.impostor)]
    return tpr_estimate(
        far, threshold, accepted[0], len(sample.genuine), accepted[1], sample.impostors
    )


def _ends(m: Estimate, thresholds: Any, fars: Any) -> tuple[float | None, ...]:
    finite, fars = thresholds[np.isfinite(thresholds)], fars[np.isfinite(fars)]
    if len(finite) < 2 or len(fars) < 2:
        return None, None, None, None
    low, high = (float(q) for q in np.quantile(finite, [0.025, 0.975]))
    error = float(fars.std(ddof=1))
    if not m.far or not 0 < m.far < 1 or error == 0:
        return low, high, None, None
    return low, high, *logit_interval(m.far, error)
