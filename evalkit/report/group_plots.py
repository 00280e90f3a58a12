"""Pictures of error rates by group: rates with their intervals, and FMR between groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evalkit.escaping import printable
from evalkit.protocols.metrics.operating_point import FEW_ERRORS
from evalkit.report.drawn_models import Model
from evalkit.report.group_table import Point, points_of
from evalkit.report.spelling import spelled
from evalkit.report.style import FAINT, INK, log_ticks


def shown_point(model: Model) -> Point | None:
    """Choose what is drawn: of the first column, the lowest FAR with ten false matches in a group.

    Else the first threshold; None where a report has no rates by group.
    """
    held = [p for p in points_of(model.report.metrics) if "fmr" in p.rates and _drawn(p)]
    if not held:
        return None
    enough = [
        p
        for p in held
        if p.column == held[0].column
        and p.label.startswith("far=")
        and all(
            (m.false_accepts or 0) >= FEW_ERRORS for g, m in p.rates["fmr"].items() if "+" not in g
        )
    ]
    return enough[-1] if enough else held[0]


def _drawn(point: Point) -> bool:
    within = [m for group, m in point.rates["fmr"].items() if "+" not in group]
    return not point.label.startswith("far-of-each") and any(m.value is not None for m in within)


def rates(axes: Any, models: Sequence[Model]) -> None:
    """Forest plot: FMR within each group and FNMR of each, on a log axis, with 95 % intervals."""
    lines: list[str] = []
    step = 0.6 / len(models)
    for model in models:
        point = shown_point(model)
        if point is None:
            continue
        label = model.short
        for rate in ("fmr", "fnmr"):
            for group, m in point.rates.get(rate, {}).items():
                if "+" in group or not m.value or m.low is None or m.high is None:
                    continue
                name = f"{rate.upper()} {printable(group)}"
                if name not in lines:
                    lines.append(name)
                at = lines.index(name) + (model.place - (len(models) - 1) / 2) * step
                low = max(m.low, m.value / 100)
                marker = "o" if rate == "fmr" else "s"
                axes.plot([low, m.high], [at, at], color=model.colour, lw=1.5, gid=model.group)
                (dot,) = axes.plot([m.value], [at], marker, color=model.colour, ms=5, label=label)
                dot.set_gid(model.group)
                label = ""
        axes.set_title(_title(point), fontsize=9)
    axes.set_xscale("log")
    axes.set_yticks(range(len(lines)), lines)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel("rate, with 95 % interval by subject")
    log_ticks(axes.xaxis, lambda v: f"{v:.0e}".replace("e-0", "e-"))
    if len(models) > 1:
        axes.legend(frameon=False)


def matrix(axes: Any, models: Sequence[Model]) -> None:
    """FMR within groups, on the diagonal, and between them; of the first model."""
    point = shown_point(models[0])
    if point is None:
        return
    fmr = point.rates["fmr"]
    groups = [group for group in fmr if "+" not in group]
    values = np.full((len(groups), len(groups)), np.nan)
    axes.grid(False)
    for name, m in fmr.items():
        first, _, second = name.partition("+")
        i, j = groups.index(first), groups.index(second or first)
        places = {(i, j)} if f"{second}+{first}" in fmr else {(i, j), (j, i)}
        for place in places:
            values[place] = np.nan if m.value is None else m.value
    positive = values[values > 0]
    floor = np.log10(positive.min()) - 0.5 if len(positive) else -1.0
    shade = np.where(values > 0, np.log10(np.where(values > 0, values, 1)), floor)
    span = max(float(shade.max() - floor), 1e-9)
    for i, j in np.ndindex(values.shape):
        weight = 0.08 + 0.72 * (shade[i, j] - floor) / span
        cell = {"facecolor": models[0].colour, "alpha": float(weight), "edgecolor": FAINT}
        axes.add_patch(_square(j, i, **cell))
        value = values[i, j]
        text = "-" if np.isnan(value) else spelled("fmr@far=1", float(value)) if value else "0"
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color=INK)
    names = [printable(group) for group in groups]
    turned = 45 if len(groups) > 4 else 0
    axes.set_xticks(range(len(groups)), names, rotation=turned)
    axes.set_yticks(range(len(groups)), names)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_title(f"FMR {_title(point)}", fontsize=9)


def _square(x: int, y: int, **look: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, **look)


def _title(point: Point) -> str:
    kind, _, at = point.label.partition("=")
    named = f"FAR {at} of all pairs" if kind == "far" else f"threshold {at}"
    return printable(f"by {point.column}, {named}")


PICTURES: Mapping[str, tuple[Callable[[Any, Sequence[Model]], None], str]] = {
    "group-rates": (rates, "Error rates by group at one threshold"),
    "group-matrix": (matrix, "FMR within and between groups"),
}
