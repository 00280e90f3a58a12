"""Pictures of error rates by group: rates with their intervals, and FMR between groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evalkit.escaping import printable
from evalkit.protocols.metrics.operating_point import FEW_ERRORS
from evalkit.report.drawn_models import Model
from evalkit.report.group_table import Point, points_of
from evalkit.report.spelling import spelled
from evalkit.report.style import FAINT, INK, log_ticks
from evalkit.types import Estimate


def shown_points(model: Model) -> list[Point]:
    """Choose what is drawn: of each column, the lowest FAR with ten false matches in every group.

    Else its first threshold; [] where a report has no rates by group.
    """
    by_column: dict[str, list[Point]] = {}
    for point in points_of(model.report.metrics):
        known = any(m.value is not None for m in point.fmr_within)
        if known and not point.label.startswith("far-of-each"):
            by_column.setdefault(point.column, []).append(point)
    return [next((p for p in reversed(of) if _counted(p)), of[0]) for of in by_column.values()]


def _counted(point: Point) -> bool:
    """Whether every group has ten false matches, at a FAR."""
    enough = all((m.false_accepts or 0) >= FEW_ERRORS for m in point.fmr_within)
    return enough and point.label.startswith("far=")


def _crossed(model: Model) -> Point | None:
    """Choose the point whose matrix is drawn: the first with rates between groups."""
    between = (p for p in shown_points(model) if any("+" in group for group in p.rates["fmr"]))
    return next(between, None)


def drawable(kind: str, model: Model) -> bool:
    """Tell whether a report holds what one of `PICTURES` needs."""
    return _crossed(model) is not None if kind == "group-matrix" else bool(shown_points(model))


def rates(axes: Any, models: Sequence[Model]) -> None:
    """Forest plot: FMR within each group and FNMR of each, on a log axis, with 95 % intervals."""
    lines: list[str] = []
    step = 0.6 / len(models)
    titles: dict[str, None] = {}
    for model in models:
        points, label = shown_points(model), model.short
        titles |= dict.fromkeys(map(_title, points))
        for point in points:
            of = f"{point.column} " if len(points) > 1 else ""
            for rate, group, m in _within(point):
                name = f"{rate.upper()} {printable(of + group)}"
                if name not in lines:
                    lines.append(name)
                at = lines.index(name) + (model.place - (len(models) - 1) / 2) * step
                low = max(m.low or 0, (m.value or 0) / 100)
                marker = "o" if rate == "fmr" else "s"
                axes.plot([low, m.high], [at, at], color=model.colour, lw=1.5, gid=model.group)
                (dot,) = axes.plot([m.value], [at], marker, color=model.colour, ms=5, label=label)
                dot.set_gid(model.group)
                label = ""
    axes.set_title("\n".join(titles), fontsize=9)
    axes.set_xscale("log")
    axes.set_yticks(range(len(lines)), lines)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel("rate, with 95 % interval by subject")
    log_ticks(axes.xaxis, lambda v: "1" if v == 1 else f"{v:.0e}".replace("e-0", "e-"))
    if len(models) > 1:
        axes.legend(frameon=False)


def _within(point: Point) -> Iterator[tuple[str, str, Estimate]]:
    """Yield rate, group and estimate of what has an interval on a log axis."""
    for rate in ("fmr", "fnmr"):
        for group, m in point.rates.get(rate, {}).items():
            if "+" not in group and m.value and m.low is not None and m.high is not None:
                yield rate, group, m


def matrix(axes: Any, models: Sequence[Model]) -> None:
    """FMR within groups, on the diagonal, and between them; of the first model."""
    point = _crossed(models[0])
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
        weight = 0.08 + 0.42 * (shade[i, j] - floor) / span  # text can be read on it
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
