"""The threshold to deploy, of a report: the measured one, and the one that is safe."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from evalkit import report as reports
from evalkit.errors import ReportError
from evalkit.protocols.metrics import rate_text, threshold_above, threshold_text
from evalkit.protocols.metrics.score_unit import in_unit, score_unit
from evalkit.protocols.metrics.vocabulary import resampling_of
from evalkit.protocols.uncertainty.deployed_threshold import (
    SafeThreshold,
    deployed_threshold,
    measured_at,
    safe_threshold,
)
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SetOutcomes, parts_of
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.report.table import caveat
from evalkit.types import Report
from evalkit.verdict.rules import near


@reports.outcomes_of_strangers()
def operating_point(
    report: Report, far: str | float, where: str = "the report", confidence: float = 0.95
) -> dict[str, Any]:
    """Return threshold, FAR and TPR at a FAR, with the ends of their 95 % intervals.

    far : text, or a float, which means its decimal text; where the outcomes have several parts,
    with the part's name: "1e-6,distractors=1000000".
    From the outcomes where they reach that far, else from the report's metric of that name.
    "accept" : the rule to deploy, in the "unit" that the scores were given in; the numbers here are
    of scores, minus a distance.  "safe" : the same at
    the threshold that is safe with `confidence`, None without outcomes that reach that far.
    ReportError where neither has it, or the impostors cannot support it.
    """
    far = far.replace("@", ",") if isinstance(far, str) else rate_text(far)
    rate_text(far.partition(",")[0])
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
    safe = None if outcomes is None else safe_at(outcomes, far, point.threshold, confidence)
    return {
        **asdict(point),
        "unit": score_unit(report.provenance),
        "accept": accept_rule(report, point.threshold),
        "safe": None
        if safe is None
        else asdict(safe)
        | {"accept": None if safe.threshold is None else accept_rule(report, safe.threshold)},
    }


def safe_at(
    outcomes: PairOutcomes | SetOutcomes, far: str, measured: float, confidence: float = 0.95
) -> SafeThreshold:
    """Find the safe threshold beside the measured one; none where that accepts all it can.

    So it is at a FAR above the share of impostor comparisons that have two templates: of all pairs
    of a set the others are not among the outcomes.
    """
    of_all = isinstance(outcomes, SetOutcomes) and len(outcomes.impostor_score) < outcomes.impostors
    if of_all and measured <= threshold_above(-np.inf):
        note = f"at FAR {far} every comparison of two templates is accepted: give a lower FAR"
        return SafeThreshold(confidence=confidence, note=note)
    return safe_threshold(outcomes, far, confidence)


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
