"""Differences of several reports from the first, as the page of `evalkit report` shows them."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.errors import ReportError
from evalkit.protocols.metrics.vocabulary import better
from evalkit.protocols.uncertainty.paired import Difference
from evalkit.report.page import DifferenceRow, Differences
from evalkit.report.spelling import interval_of_points, points
from evalkit.types import Report
from evalkit.verdict.compare import compare

ALPHA = 0.05


def differences(reports: Sequence[Report]) -> list[Differences]:
    """Compare each report but the first with the first; a refusal is told, not raised."""
    return [_differences(reports[0], other) for other in reports[1:]]


def _differences(base: Report, other: Report) -> Differences:
    try:
        comparison = compare(base, other)
    except ReportError as e:
        return Differences(refused=f"Not compared: {e.message}.")
    changed = ""
    if comparison.flips:
        lost = sum(f.lost for f in comparison.flips)
        changed = f"{lost} decisions lost, {len(comparison.flips) - lost} gained."
    adjusted = comparison.holm
    rows = tuple(
        _row(name, b - a, comparison.differences.get(name), adjusted.get(name))
        for name, (a, b) in comparison.values.items()
    )
    return Differences(rows=rows, unpaired=comparison.why_unpaired, changed=changed)


def _row(name: str, gap: float, paired: Difference | None, holm: float | None) -> DifferenceRow:
    value = points(name, gap, "+")
    if paired is None or holm is None:
        return DifferenceRow(name=name, value=value)
    worse = gap != 0 and better(name) == ("lower" if gap > 0 else "higher")
    return DifferenceRow(
        name=name,
        value=value,
        interval=interval_of_points(name, paired.low, paired.high),
        p=f"{paired.p:.2g}",
        holm=f"{holm:.2g}",
        detectable=points(name, paired.detectable),
        test=paired.test,
        worse=worse and holm < ALPHA,
    )
