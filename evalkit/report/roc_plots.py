"""ROC and DET: the curve of each model, its band, and the reported points with their bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evalkit.escaping import printable
from evalkit.protocols.metrics import exact_rate
from evalkit.protocols.metrics.vocabulary import read
from evalkit.protocols.uncertainty.intervals import logit_interval
from evalkit.protocols.uncertainty.outcomes import (
    Outcomes,
    PairOutcomes,
    SetOutcomes,
    parts_of,
)
from evalkit.protocols.uncertainty.resampled_searches import rate_of
from evalkit.protocols.uncertainty.resampling import metric_draws
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.report.style import Model, colour, percent_ticks, short
from evalkit.types import Estimate, Floats, Report

BAND_DRAWS = 300
BEFORE = 1.3  # how far a curve is drawn before its first false accept


def roc(axes: Any, models: Sequence[Model]) -> None:
    """Draw TPR against FAR on a log axis; bands and bars are 95 % intervals.

    Of several sets of comparisons, that with the most impostors is drawn (`_drawn_part`).
    """
    lowest = 1.0
    for model in models:
        n = model.place
        far, tpr = roc_points(model.report)
        lowest = min(lowest, _trace(axes, far, tpr, model, n, lambda v: v))
    axes.set_ylim(max(0.0, 1 - 1.15 * (1 - lowest)) - 0.002, 1 + 0.03 * (1 - lowest) + 0.0005)
    _far_axis(axes, models)
    axes.set_ylabel("TPR")
    percent_ticks(axes.yaxis)


def det(axes: Any, models: Sequence[Model]) -> None:
    """FNMR against FAR, both on log axes: the nearer to the corner, the fewer errors."""
    least = 1.0
    for model in models:
        n = model.place
        far, tpr = roc_points(model.report)
        fnmr = np.where(tpr < 1, 1 - tpr, np.nan)
        least = min(least, _trace(axes, far, fnmr, model, n, lambda v: 1 - v))
    axes.set_yscale("log")
    axes.set_ylim(max(least / 1.3, 1e-7), 1)
    _far_axis(axes, models)
    if least > 0.02:  # less than two decades: a name for each is too few
        from matplotlib.ticker import LogLocator

        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.set_ylabel("FNMR")
    percent_ticks(axes.yaxis)


def _trace(
    axes: Any, far: Floats, rate: Floats, model: Model, n: int, of_tpr: Callable[[float], float]
) -> float:
    """Draw one curve, its band and the reported points; return the lowest rate that matters."""
    ink = colour(n)
    start = max(int(np.count_nonzero(far <= 0)) - 1, 0)
    # Without a false accept FAR is 0, which a log axis has not: that rate enters from the left.
    far, rate = far[start:], rate[start:]
    far = np.maximum(far, _least(far) / BEFORE)
    (line,) = axes.plot(
        far,
        rate,
        color=ink,
        label=short(model.name),
        drawstyle="steps-post",
        lw=1.5,
    )
    line.set_gid(f"m{n}")
    lowest = float(np.nanmin(rate, initial=1.0))
    x, low, high = band(model.report)
    if len(x):
        ends = [of_tpr(v) for v in low], [of_tpr(v) for v in high]
        axes.fill_between(x, *ends, color=ink, alpha=0.18, lw=0, gid=f"m{n}")
        lowest = min([lowest, *ends[0], *ends[1]])
    for far_text, m in reported(model.report):
        if None not in (m.value, m.low, m.high):
            # Bars of several models at one FAR stand beside each other.
            at, value = float(exact_rate(far_text)) * 1.08**n, of_tpr(m.value or 0.0)
            ends_at = [of_tpr(m.low or 0.0), of_tpr(m.high or 0.0)]
            error = [[abs(value - min(ends_at))], [abs(max(ends_at) - value)]]
            bar = axes.errorbar(at, value, error, color=ink, marker="o", ms=3.5, capsize=2, lw=1)
            for part in (bar[0], *bar[1], *bar[2]):
                part.set_gid(f"m{n}")
            lowest = min(lowest, ends_at[0])
    return lowest


def roc_points(report: Report) -> tuple[Floats, Floats]:
    """FAR and TPR of a report's ROC, or of the tail of impostors that its outcomes keep."""
    if "roc" in report.curves:
        curve = report.curves["roc"]
        return np.asarray(curve["far"], float), np.asarray(curve["tpr"], float)
    sample = sample_of(_drawn_part(report)[1] or {})
    # Just above the k-th highest impostor: k - 1 false accepts.
    k = np.unique(np.geomspace(1, len(sample.impostor), 400).astype(int))
    above = np.searchsorted(-sample.genuine, -sample.impostor[k - 1], "left")
    return (k - 1) / sample.impostors, above / len(sample.genuine)


def reported(report: Report) -> list[tuple[str, Estimate]]:
    """Pick TPR@FAR=x of the part that is drawn, without further parameters, with x."""
    part = _drawn_part(report)[0]
    rest = f",{part}" if part else ""
    named = ((read(name), m) for name, m in report.metrics.items())
    points = [(found.resampling(), m) for found, m in named if found and found.rest == rest]
    return [(far, m) for (kind, far), m in points if kind == "tpr" and rate_of(far) is not None]


def _drawn_part(report: Report) -> tuple[str, Outcomes | None]:
    """Find the part of the outcomes that a report's ROC is of, the one without a name.

    Without a ROC it is that with the most impostor comparisons, the first of equal ones.
    """
    parts = parts_of(report.outcomes or {})
    if "roc" in report.curves and "" in parts:
        return "", parts[""]
    most = max(parts, key=lambda p: getattr(parts[p], "impostors", 0), default="")
    return most, parts.get(most)


def has_roc(report: Report) -> bool:
    """Tell whether a report holds a ROC, or outcomes that `roc_points` makes one of."""
    o = _drawn_part(report)[1]
    return "roc" in report.curves or (
        isinstance(o, SetOutcomes) and len(o.genuine_score) > 0 and len(o.impostor_score) > 0
    )


def band(report: Report, points: int = 24) -> tuple[list[float], list[float], list[float]]:
    """FARs with the ends of TPR's 95 % interval at each; empty without outcomes."""
    outcomes = _drawn_part(report)[1]
    if not isinstance(outcomes, PairOutcomes | SetOutcomes):
        return [], [], []
    sample = sample_of(outcomes)
    if not len(sample.impostor) or not len(sample.genuine):
        return [], [], []
    few = min(10 / sample.impostors, 0.5)  # fewer false accepts say little about their spread
    grid = [f"{x:.3e}" for x in np.geomspace(few, 0.5, points)]
    drawn = metric_draws(sample, [f"tpr@far={x}" for x in grid], BAND_DRAWS)
    found = []
    for x in grid:
        allowed = int(float(x) * sample.impostors)
        drew = drawn.get(f"tpr@far={x}")
        if drew is None or allowed >= len(sample.impostor):
            continue
        value, error = float(np.mean(sample.genuine > sample.impostor[allowed])), drew.std(ddof=1)
        if 0 < value < 1 and error > 0:
            found.append((float(x), *logit_interval(value, float(error))))
    columns = [list(c) for c in zip(*found, strict=True)] or [[], [], []]
    return columns[0], columns[1], columns[2]


def _least(far: Floats) -> float:
    """Lowest FAR above 0, which a log axis can show."""
    return float(min(far[far > 0], default=1e-3))


def _far_axis(axes: Any, models: Sequence[Model]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    reach = [roc_points(m.report)[0] for m in models]
    axes.set_xscale("log")
    most = max(float(far.max(initial=0.0)) for far in reach)
    axes.set_xlim(min(map(_least, reach)) / BEFORE, most or 1.0)
    parts = {_drawn_part(m.report)[0] for m in models} - {""}
    axes.set_xlabel(", ".join(["FAR", *map(printable, sorted(parts))]))
    axes.xaxis.set_major_locator(LogLocator(numticks=12))
    axes.xaxis.set_major_formatter(lambda v, _: f"1e{np.log10(v):.0f}" if v < 1 else "1")
    axes.xaxis.set_minor_formatter(NullFormatter())
    if len(models) > 1:
        axes.legend(frameon=False, loc="best")


PICTURES: Mapping[str, tuple[Callable[[Any, Sequence[Model]], None], str]] = {
    "roc": (roc, "ROC: true positive rate against false accept rate"),
    "det": (det, "DET: false non-match rate against false accept rate"),
}
