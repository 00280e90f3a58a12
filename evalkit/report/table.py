"""The table that every command prints."""

from __future__ import annotations

from evalkit.escaping import laid_out, printable
from evalkit.protocols.metrics.vocabulary import metric_of
from evalkit.protocols.uncertainty.intervals import WITHOUT_PEOPLE
from evalkit.types import Estimate, Report


def table(report: Report, title: str = "") -> str:
    """Lay out a report's metrics as text: name, value, interval, what supports it."""
    rows = [cells(name, m) for name, m in report.metrics.items()]
    lines = [printable(title)] if title else []
    lines += [f"  {line}" for line in laid_out(rows, left=(0, 2, 3))]
    return "\n".join(lines + [f"  {line}" for line in footnotes(report)])


def footnotes(report: Report) -> list[str]:
    """Say below a table what is wrong with the intervals, and which images have no template."""
    lines = [f"95 % intervals {caveat(report)}"] if caveat(report) else []
    f = report.failures
    if f.images:
        lines.append(
            f"{f.images:,} images without a template: {f.genuine:,} genuine and "
            f"{f.impostor:,} impostor comparisons rejected"
        )
        if f.keys:
            shown = printable(", ".join(f.keys[:3]))
            lines.append(f"  {shown}" + (", ..." if f.images > 3 else ""))
    return lines


def caveat(report: Report) -> str:
    """Say what is wrong with a report's intervals; empty where they are by subject."""
    ignorant = any(m.interval.endswith(WITHOUT_PEOPLE) for m in report.metrics.values())
    return f"by comparison: {WITHOUT_PEOPLE}" if ignorant else ""


def spelled(name: str, value: float, sign: str = "") -> str:
    """Write a metric's value as every table does: "99.33 %", or "0.99890"; sign "+" shows it."""
    return f"{100 * value:{sign}.2f} %" if _in_percent(name) else f"{value:{sign}.5f}"


def _in_percent(name: str) -> bool:
    metric = metric_of(name)
    return metric is not None and metric.percent


def threshold(value: float) -> str:
    """Write a threshold: five decimals, or as a power of ten where that would take a line."""
    return f"{value:.5f}" if abs(value) < 1e9 else f"{value:.5g}"


def accepts(n: int) -> str:
    """Count false accepts in words."""
    return f"{n:,} false accept{'' if n == 1 else 's'}"


def points(name: str, value: float, sign: str = "") -> str:
    """Write the difference of two values: "0.53 points" of percent, or "0.00082"."""
    return spelled(name, value, sign).replace(" %", " points")


def interval_of_points(name: str, low: float, high: float) -> str:
    """Write the ends of a difference's interval, without a unit: "-0.86 to -0.20"."""
    ends = (spelled(name, end, "+").removesuffix(" %") for end in (low, high))
    return " to ".join(ends)


def cells(name: str, m: Estimate) -> tuple[str, str, str, str]:
    """Spell a metric: its name, value, interval, and what supports it."""
    scale, digits, unit = (100, 2, " %") if _in_percent(name) else (1, 5, "")
    if m.value is None:
        return name, "-", "", m.note
    value = f"{m.value * scale:.{digits}f}{unit}"
    if m.standard_error is not None:
        value += f" ± {m.standard_error * scale:.{digits}f}"
    interval = ""
    if m.low is not None and m.high is not None:
        interval = f"[{m.low * scale:.{digits}f}, {m.high * scale:.{digits}f}]"
    support = [f"n={m.n:,}"]
    if m.threshold is not None:
        support.append(f"threshold {threshold(m.threshold)}")
    if m.false_accepts is not None:
        support.append(accepts(m.false_accepts))
    if m.note:
        support.append(m.note)
    return name, value, interval, ", ".join(support)
