"""`evalkit calibrate`: scores as log likelihood ratios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from evalkit import report as reports
from evalkit.cli.options import new_command
from evalkit.cli.output import json_option, warn_of_turned, write_json
from evalkit.cli.parameters import Number, Readable, Writable
from evalkit.cli.terminal import say, show
from evalkit.errors import ReportError
from evalkit.protocols import calibration
from evalkit.protocols.calibration import fits
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, parts_of
from evalkit.replacing import CALIBRATION, REPORT
from evalkit.report.table import table
from evalkit.types import Report


@new_command(
    "calibrate",
    "evalkit calibrate report.json --save calibration.json",
    "evalkit calibrate report.json --prior 0.01 --out calibrated.json",
)
@click.argument("path", metavar="REPORT", type=Readable(beside=".npz", stream=True))
@click.option(
    "--prior",
    type=Number(0, 1, min_open=True, max_open=True),
    default=0.5,
    metavar="SHARE",
    help="Prior share of genuine comparisons, for posteriors.",
)
@click.option(
    "--fit",
    type=click.Choice(fits.FITS),
    default="logistic",
    help="Fit that --save keeps.",
)
@click.option(
    "--save",
    type=Writable(mark=CALIBRATION),
    metavar="FILE.json",
    help="Write the fit to all pairs, for another program to apply.",
)
@click.option(
    "--out",
    type=Writable(endings=(".json",), mark=REPORT),
    metavar="FILE.json",
    help="Keep the report in FILE.json.",
)
@json_option
def command(
    path: Path,
    prior: float,
    fit: fits.Fit,
    save: Path | None,
    out: Path | None,
    json_path: Path | None,
) -> None:
    """Calibrate the scores of a REPORT of pairs: Cllr, Cllr_min, reliability, a posterior.

    Log likelihood ratios are fitted on nine folds and judged on the tenth. --save keeps a small
    file of the fit to all pairs, that any program can apply. The report draws the reliability
    diagram.
    """
    report = reports.read(path)
    outcomes = _pairs(report, path)
    made = calibration.evaluate(outcomes, prior=prior)
    said = {} if outcomes.fold is None else report.provenance  # by what rule its folds were cut
    folds = said.get("folds", made.provenance["folds"])
    about = {"report": path.name, "report protocol": report.protocol, **made.provenance}
    made = replace(
        made,
        provenance={**about, "folds": folds},
        identity=report.identity,
    )
    if json_path is not None:
        write_json(reports.dumps(made).rstrip(), json_path)
    else:
        title = f"{path.name}: {len(outcomes.score):,} scores calibrated across folds"
        show(*table(made, title).split("\n"))
    if "auc" in report.metrics:
        warn_of_turned(report, "a logistic fit turns them round, measure them right first")
    if failed := made.provenance["failed"]:
        say(f"{failed:,} failed comparisons say nothing: llr 0, one bit each")
    if out is not None:
        reports.write(made, out)
        say(f"report written to {out}")
    if save is not None:
        genuine = outcomes.genuine
        function = fits.fitted(outcomes.score[genuine], outcomes.score[~genuine], fit)
        fits.write(function, save)
        say(f"{fit} fit to all pairs written to {save}")


@reports.outcomes_of_strangers()
def _pairs(report: Report, path: Path) -> PairOutcomes:
    """Outcomes of the pairs that a report lists; ReportError where it has none."""
    for outcomes in parts_of(report.outcomes or {}).values():
        if isinstance(outcomes, PairOutcomes):
            return outcomes
    raise ReportError(
        f"{path.name} holds no list of scored pairs",
        "calibration needs every impostor score: of evalkit lfw, verify or score with --out",
    )
