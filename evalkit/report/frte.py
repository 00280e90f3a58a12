"""Report card of one model in the form of NIST's FRTE reports: errors, thresholds, cautions."""

from __future__ import annotations

from dataclasses import replace

from evalkit.errors import ReportError
from evalkit.protocols.metrics.vocabulary import read
from evalkit.report import group_table, size_table
from evalkit.report.card import made_of
from evalkit.report.drawn_models import Model, models_of
from evalkit.report.page import described, rendered
from evalkit.report.spelling import row
from evalkit.report.sub_tables import SubTable
from evalkit.report.table import caveat, failures, few_people, is_in_sub_table, notes
from evalkit.types import Estimate, Report

PICTURES = ("det", "det-probit", "histogram", "cmc", "group-rates", "group-matrix")
_RUN = ("model", "runtime", "input spec", "crop", "decoder", "flip", "template", "evalkit")
_FAILED = (
    "A failed template has the lowest score: every comparison and search with one is a miss, "
    "never a false match, and stays in the rates."
)
_OURS = (
    "Made by evalkit in the form of NIST's reports; NIST has not tested this model, and on other "
    "images its errors are others."
)


def frte_card(report: Report, name: str) -> str:
    """Write the card of one report as an HTML page.

    ReportError where it holds neither TPR at a FAR nor ranks.
    """
    models = models_of(report, [name])
    (model,) = models
    held = model.report
    tables = [*_verification(model), *_identification(held)]
    if not tables:
        raise ReportError(
            f"a report of {held.protocol} has neither TPR at a FAR nor ranks",
            "give one of lfw, verify, people, search or score",
        )
    run = made_of(held)
    plain = {n: m for n, m in held.metrics.items() if not is_in_sub_table(n)}
    intervals = [f"95 % intervals {why}" for why in (caveat(held), few_people(held)) if why]
    return rendered(
        "frte.html",
        **described(models, PICTURES),
        tables=tables,
        groups=group_table.tables(held),
        enrolment=[failures(held) or "No image is without a template.", _FAILED],
        run="; ".join(f"{name} {run[name]}" for name in _RUN if name in run),
        cautions=[_OURS, *intervals, *notes({"": replace(held, metrics=plain)}, counted=True)],
        hardest=[],
    )


def _verification(model: Model) -> list[SubTable]:
    """Lay out FNMR at each FMR with the threshold that has it."""
    head = ["FMR", "threshold", "FNMR", "95 % interval"]
    head += ["FMR measured", "false matches", "pairs", "people"]
    cells = [head]
    for far, m in model.reported:
        r = row("fnmr@far=1", _missed(m))
        measured = "" if m.far is None else f"{m.far:.2e}"
        ends = [r.threshold, r.value, r.interval, measured, r.false_accepts, r.n, r.people]
        cells.append([far, *ends])
    below = [f"FMR {far}: {m.note}" for far, m in model.reported if m.value is None]
    title = "Verification, 1:1: FNMR at fixed FMRs, and the thresholds that have them"
    return [SubTable(title=title, cells=cells, left=(0, 3), below=below)] * (len(cells) > 1)


def _identification(report: Report) -> list[SubTable]:
    """Lay out FNIR of all who are enrolled by rank and FPIR, then by how many are."""
    cells = [["T", "R", "threshold", "FNIR", "95 % interval", "searches", "people"]]
    for name, m in report.metrics.items():
        reading = read(name)
        if reading is None or reading.rest or reading.metric.resampled not in ("rank", "tpir"):
            continue
        fpir = reading.values.get("FPIR")
        r = row(name, _missed(m))
        at = ["0", reading.values["K"]] if fpir is None else [f"FPIR {fpir}", "1"]
        cells.append([*at, r.threshold, r.value, r.interval, r.n, r.people])
    title = "Identification, 1:N: FNIR(N, R, T) of all who are enrolled"
    every = SubTable(title=title, cells=cells, left=(0, 4), below=["T = 0: no threshold"])
    return [every] * (len(cells) > 1) + size_table.tables(report)


def _missed(m: Estimate) -> Estimate:
    """Turn the share that is found into the share that is missed."""
    value, low, high = (None if end is None else 1 - end for end in (m.value, m.high, m.low))
    return replace(m, value=value, low=low, high=high)
