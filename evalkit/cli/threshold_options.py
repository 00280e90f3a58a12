"""`--threshold` and `--threshold-from`: thresholds chosen elsewhere, judged here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from evalkit import report as reports
from evalkit.cli.options import received_as
from evalkit.cli.parameters import Number, Readable
from evalkit.errors import ReportError
from evalkit.protocols.metrics import threshold_text
from evalkit.protocols.metrics.score_unit import in_unit, score_unit
from evalkit.verdict.threshold import operating_point


@dataclass(frozen=True, slots=True)
class GivenThresholds:
    """Thresholds in the user's unit, and those of a report at the FARs that --far names."""

    typed: tuple[float, ...] = ()
    report: Path | None = None
    fars: tuple[str, ...] = ()

    def of(self, made: Mapping[str, Any]) -> tuple[float, ...]:
        """Return them all as scores; made : provenance that says what a score is.

        ReportError where the report's scores are of another kind.
        """
        unit = score_unit(made)
        thresholds = [in_unit(t, unit) for t in self.typed]
        if self.report is not None:
            chosen = reports.read(self.report)
            if (theirs := score_unit(chosen.provenance)) != unit:
                raise ReportError(
                    f"the thresholds of {self.report} are of a {theirs}, these scores of a {unit}",
                    "measure both with the same --recipe, or --distance",
                )
            points = (operating_point(chosen, far, str(self.report)) for far in self.fars)
            thresholds += [point["threshold"] for point in points]
        return tuple(dict.fromkeys(thresholds))

    def provenance(self) -> dict[str, str]:
        """Say in the report where the thresholds come from."""
        sources = [threshold_text(t) for t in self.typed]
        if self.report is not None:
            sources += [f"{self.report.name} at FAR {far}" for far in self.fars]
        return {"thresholds": ", ".join(sources)} if sources else {}


def _given(threshold: tuple[float, ...], threshold_from: Path | None) -> GivenThresholds:
    """Put both options together, and with them what --far says."""
    if threshold_from is None:
        return GivenThresholds(threshold)
    context = click.get_current_context()
    name = "fars" if "fars" in context.params else "far"
    if context.get_parameter_source(name) is ParameterSource.DEFAULT:
        raise click.UsageError("--threshold-from takes the threshold at a FAR: add --far FAR")
    fars = context.params[name]
    return GivenThresholds(threshold, threshold_from, (fars,) if isinstance(fars, str) else fars)


# Add `--threshold` and `--threshold-from`; the command receives them as `given`.
threshold_options = received_as(
    "given",
    _given,
    [
        click.option(
            "--threshold",
            type=Number(),
            multiple=True,
            metavar="T",
            help="Add the errors at this threshold, in the scores' own unit; may be repeated.",
        ),
        click.option(
            "--threshold-from",
            type=Readable(beside=".npz"),
            metavar="REPORT",
            help="Add the errors at the threshold that this report has at --far.",
        ),
    ],
)
