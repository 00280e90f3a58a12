"""Estimates that no measurement gives, in a file edited by hand or a report made in Python."""

from __future__ import annotations

import math
from numbers import Real

from evalkit.errors import ReportError
from evalkit.protocols.metrics.vocabulary import metric_of
from evalkit.types import Estimate, Report

_ROUNDING = 1e-9
_NUMBERS = ("value", "low", "high", "threshold", "far", "standard_error")


def refuse_impossible(report: Report, where: str = "the report") -> Report:
    """Return a report; ReportError for the first metric that no measurement gives.

    where : what the message begins with.
    """
    for name, m in report.metrics.items():
        if why := _impossible(name, m):
            raise ReportError(
                f"{where}: {name!r} {why}",
                "was it edited, or converted? shares are fractions of 1, and what was not measured "
                "is null (None)",
            )
    return report


def _impossible(name: str, m: Estimate) -> str:
    """Say what is impossible in an estimate: no number, no share, beside its interval; else ""."""
    for field in _NUMBERS:
        number = getattr(m, field)
        if number is not None and (not isinstance(number, Real) or math.isnan(number)):
            return f"has a {field} of {number!r}, which is no number"
    metric = metric_of(name)
    if m.value is not None and metric is not None and metric.unit == "fraction":
        least = -1 if metric.signed else 0
        if not least - _ROUNDING <= m.value <= 1 + _ROUNDING:
            return f"is {m.value:g}, not a share of {least} to 1"
    if m.value is not None and not math.isfinite(m.value):
        return f"is {m.value:g}"
    if m.low is not None and m.high is not None:
        if m.low > m.high:
            return f"has an interval that begins above its end, {m.low:g} and {m.high:g}"
        if m.value is not None and not m.low - _ROUNDING <= m.value <= m.high + _ROUNDING:
            return f"is {m.value:g}, outside its own interval of {m.low:g} to {m.high:g}"
    if m.far is not None and not 0 <= m.far <= 1:
        return f"has a far of {m.far:g}, not a share of 0 to 1"
    return ""
