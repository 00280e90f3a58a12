"""Picture of quality against error: FNMR by the share of pairs or images discarded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.escaping import printable
from evalkit.report.drawn_models import Model
from evalkit.report.style import MODELS, line_style, percent_ticks

_WAY = "pairs-discarded"


def held(model: Model) -> dict[str, Mapping[str, Sequence[float]]]:
    """Find a report's curves by the name of the quality, at its first FAR."""
    curves: dict[str, Mapping[str, Sequence[float]]] = {}
    first = ""
    for name, curve in model.report.curves.items():
        kind, _, parameters = name.partition("@")
        if kind != "edc" or f",{_WAY}=" not in parameters or not curve:
            continue
        far, _, rest = parameters.partition(f",{_WAY}=")
        first = first or far
        if far == first:
            curves[printable(rest.partition("quality=")[2])] = curve
    return curves


def edc(axes: Any, models: Sequence[Model]) -> None:
    """FNMR of the pairs left against the share of genuine pairs discarded, in steps."""
    names = list(dict.fromkeys(name for model in models for name in held(model)))
    for model in models:
        for name, curve in held(model).items():
            k = names.index(name)
            several = len(models) > 1
            label = f"{model.short}, {name}" if several else name
            colour = model.colour if several else MODELS[k % len(MODELS)]
            (line,) = axes.step(curve["discarded"], curve["fnmr"], where="post", color=colour)
            line.set(gid=model.group, label=label, linestyle=line_style(k if several else 0))
    axes.set_xlim(0, 0.5)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("share of genuine pairs discarded, lowest quality first")
    axes.set_ylabel("FNMR of those left")
    percent_ticks(axes.xaxis)
    percent_ticks(axes.yaxis)
    axes.legend(frameon=False)


PICTURES: Mapping[str, tuple[Callable[[Any, Sequence[Model]], None], str]] = {
    "edc": (edc, "Error versus discard: FNMR without the pairs of lowest quality"),
}
