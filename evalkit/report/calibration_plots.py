"""Reliability diagram: the share of genuine comparisons against the posterior predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.escaping import printable
from evalkit.report.drawn_models import Model
from evalkit.report.style import INK, MODELS

_KIND = "reliability@fit="


def held(model: Model) -> dict[str, Mapping[str, Sequence[float]]]:
    """Find a report's diagrams by the name of the fit."""
    curves = model.report.curves.items()
    return {
        printable(name.removeprefix(_KIND)): curve
        for name, curve in curves
        if name.startswith(_KIND) and curve
    }


def reliability(axes: Any, models: Sequence[Model]) -> None:
    """Share of genuine comparisons in each bin of posteriors; the diagonal is perfect."""
    axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
    for model in models:
        for k, (name, curve) in enumerate(held(model).items()):
            several = len(models) > 1
            colour = model.colour if several else MODELS[k % len(MODELS)]
            look = {"color": colour, "marker": "os"[k % 2], "ms": 5, "ls": ""}
            columns = curve["predicted"], curve["observed"]
            (line,) = axes.plot(*columns, **look)
            line.set(gid=model.group, label=f"{model.short}, {name}" if several else name)
    axes.set_xlabel("posterior")
    axes.set_ylabel("share that is genuine")
    axes.legend(frameon=False)


PICTURES: Mapping[str, tuple[Callable[[Any, Sequence[Model]], None], str]] = {
    "reliability": (reliability, "Reliability: posteriors across folds, and what came true"),
}
