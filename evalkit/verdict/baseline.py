"""A report made the baseline that later gates hold others against."""

from __future__ import annotations

import os

from evalkit import report as reports
from evalkit.errors import ReportError
from evalkit.types import Report
from evalkit.verdict.outcomes_held import refuse_edited


def accept(report: Report | str | os.PathLike[str], baseline: str | os.PathLike[str]) -> None:
    """Write a report, or the one at a path, as a baseline.

    ReportError where no gate could pair with it: it has no outcomes, or others than its values.
    """
    report = reports.opened(report, "the new report")
    if report.outcomes is None:
        raise ReportError(
            "the report has no outcomes beside it, so no later gate could pair with it",
            "write the report with --out, which keeps them in an .npz",
        )
    refuse_edited("new", report, report.metrics)
    reports.write(report, baseline)
