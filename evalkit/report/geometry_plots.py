"""Pictures of `evalkit geometry`: distances, regions, norms and spectrum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from evalkit.report.drawn_models import Model
from evalkit.report.style import (
    GENUINE,
    IMPOSTOR,
    INK,
    line_style,
    log_ticks,
    percent,
    percent_ticks,
)

BARS = 100  # at most, however fine the report's bins are


def distances(axes: Any, models: Sequence[Model], space: str, label: str) -> None:
    """Share of genuine and of impostor pairs at each distance, log scale."""
    shown = []
    for model in models:
        bins = model.report.curves[f"distances-{space}"]
        starts = np.arange(0, len(bins["low"]), -(-len(bins["low"]) // BARS))
        edges = np.append(np.asarray(bins["low"])[starts], bins["high"][-1])
        for kind, name, ink in (("within", "genuine", GENUINE), ("between", "impostor", IMPOSTOR)):
            share = np.add.reduceat(np.asarray(bins[kind], float), starts)
            shown += [*edges[:-1][share > 0], *edges[1:][share > 0]]
            text = name if len(models) == 1 else f"{name}, {model.short}"
            style: Any = {"color": ink, "gid": model.group}
            axes.stairs(share, edges, label=text, ls=line_style(model.place), lw=1.2, **style)
            if model is models[0]:
                axes.stairs(share, edges, fill=True, alpha=0.18, **style)
    if shown:
        margin = 0.02 * (max(shown) - min(shown))
        axes.set_xlim(min(shown) - margin, max(shown) + margin)
    axes.set_yscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("share of pairs")
    log_ticks(axes.yaxis, percent)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def regions(axes: Any, models: Sequence[Model]) -> None:
    """One point a class: mean angle between two of its images, against its images."""
    for model in models:
        curve = model.report.curves["regions-angle"]
        r = model.report.metrics["region-samples-correlation@space=angle"]
        text = "" if r.value is None else f"rank correlation {round(r.value, 2) + 0.0:.2f}"
        if r.low is not None and r.high is not None:
            text += f" [{r.low:.2f}, {r.high:.2f}]"
        label = ", ".join(part for part in (model.short, text) if part)
        points = axes.scatter(
            *(curve["samples"], curve["size"]),
            s=7,
            alpha=0.35,
            lw=0,
            color=model.colour,
            label=label,
        )
        points.set_gid(model.group)
    axes.set_xscale("log")
    log_ticks(axes.xaxis, lambda v: f"{v:g}")
    axes.set_xlabel("images of the class")
    axes.set_ylabel("region, mean angle in degrees")
    key = axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), markerscale=2)
    for mark in key.legend_handles:
        mark.set_alpha(1)


def norms(axes: Any, models: Sequence[Model]) -> None:
    """Share of images at each length of the vector."""
    for model in models:
        bins = model.report.curves["norms"]
        edges = np.append(bins["low"], bins["high"][-1])
        drawn = axes.stairs(bins["share"], edges, color=model.colour, label=model.short, lw=1.2)
        drawn.set_gid(model.group)
    axes.set_xlabel("length of the vector")
    axes.set_ylabel("share of images")
    percent_ticks(axes.yaxis)
    axes.ticklabel_format(axis="x", useOffset=False)
    if len(models) > 1:
        axes.legend(frameon=False)


def spectrum(axes: Any, models: Sequence[Model]) -> None:
    """Share of the variance along each principal direction; dotted: the participation ratio."""
    for model in models:
        curve = model.report.curves["spectrum"]
        share = np.asarray(curve["share"], float)
        rank = np.asarray(curve["rank"])[: len(share)]
        (line,) = axes.plot(rank, share, ".-", ms=3, color=model.colour, label=model.short)
        line.set_gid(model.group)
        ratio = model.report.metrics["participation-ratio"].value
        if ratio is not None:
            ink = model.colour if len(models) > 1 else INK
            axes.axvline(ratio, color=ink, lw=0.9, ls=":", gid=model.group)
    axes.set_yscale("log")
    axes.set_xlabel("principal direction")
    axes.set_ylabel("share of the variance")
    log_ticks(axes.yaxis, percent)
    if len(models) > 1:
        axes.legend(frameon=False)


_distances_l2 = partial(distances, space="l2", label="L2 distance")
_distances_angle = partial(distances, space="angle", label="angle, degrees")
PICTURES: Mapping[str, tuple[Callable[[Any, Sequence[Model]], None], str]] = {
    "distances-l2": (_distances_l2, "L2 distances within and between classes"),
    "distances-angle": (_distances_angle, "Angles within and between classes"),
    "regions-angle": (regions, "Region of each class against its images"),
    "norms": (norms, "Lengths of the vectors"),
    "spectrum": (spectrum, "Spectrum; dotted, the participation ratio"),
}
