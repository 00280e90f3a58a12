"""Every picture by its name, drawn by matplotlib: histograms, CMC, folds; see also `roc_plots`.

For papers: `save`.  For the page: `inline_svg`, whose colours are CSS variables, so that one
picture serves light and dark.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from evalkit.errors import ReportError, WrongTypeError, needing
from evalkit.escaping import printable
from evalkit.files import as_path, whole_file
from evalkit.protocols.metrics.score_unit import score_unit
from evalkit.replacing import PICTURE, refuse_replacing
from evalkit.report import calibration_plots, geometry_plots, group_plots, quality_plots, roc_plots
from evalkit.report.drawn_models import Model, models_of
from evalkit.report.style import (
    FAINT,
    GENUINE,
    IMPOSTOR,
    INK,
    MODELS,
    line_style,
    log_ticks,
    percent_ticks,
)
from evalkit.types import Report

_VARIABLES = {
    **{colour: f"var(--model-{n})" for n, colour in enumerate(MODELS)},
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    GENUINE: "var(--genuine)",
    IMPOSTOR: "var(--impostor)",
}
_PLAIN: Any = {"text.parse_math": False}  # names are no formulas
_LOOK: Any = {
    **_PLAIN,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
MARKED = 50  # points of a curve that are drawn one by one, at most


def histogram(axes: Any, models: Sequence[Model]) -> None:
    """Share of genuine and of impostor scores in each bin, log scale; thresholds as lines."""
    for model in models:
        bins = {name: np.asarray(c, float) for name, c in model.report.curves["histogram"].items()}
        used = np.flatnonzero(bins["genuine"] + bins["impostor"])
        part = slice(used[0], used[-1] + 1) if len(used) else slice(None)  # empty ends say nothing
        bins = {name: column[part] for name, column in bins.items()}
        edges = np.append(bins["low"], bins["high"][-1])
        style = line_style(model.place)
        for kind, colour in (("genuine", GENUINE), ("impostor", IMPOSTOR)):
            share = bins[kind]
            label = kind if len(models) == 1 else f"{kind}, {model.short}"
            line = axes.stairs(share, edges, color=colour, label=label, ls=style, lw=1.2)
            line.set_gid(model.group)
            if model is models[0]:
                axes.stairs(share, edges, color=colour, fill=True, alpha=0.18, gid=model.group)
        if model is models[0]:
            _thresholds(axes, model)
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 5)  # room for the names of the thresholds
    axes.set_xlabel(", ".join(dict.fromkeys(score_unit(m.report.provenance) for m in models)))
    axes.set_ylabel("share of comparisons")
    percent_ticks(axes.yaxis)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def cmc(axes: Any, models: Sequence[Model]) -> None:
    """Share of probes whose mate is among the k best, against k on a log axis."""
    sets = list(dict.fromkeys(name for m in models for name in _cmc_curves(m.report)))
    longest = max(len(c["rank"]) for m in models for c in _cmc_curves(m.report).values())
    marker = "." if longest <= MARKED else ""
    for model in models:
        for parameters, curve in _cmc_curves(model.report).items():
            k = sets.index(parameters)
            named = model.short if len(models) > 1 or not parameters else ""
            label = ", ".join(part for part in (named, parameters) if part)
            # Of one model a colour is a set; of several it is a model, and a set its line.
            if len(models) == 1:
                colour, style = MODELS[k % len(MODELS)], "-"
            else:
                colour, style = model.colour, line_style(k)
            (line,) = axes.plot(
                curve["rank"], curve["rate"], color=colour, ls=style, marker=marker, ms=4
            )
            line.set(gid=model.group, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("rank k")
    axes.set_ylabel("mate within rank k")
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, min(top, 1 + (1 - bottom) / 20))
    log_ticks(axes.xaxis, lambda v: f"{v:g}")
    percent_ticks(axes.yaxis)
    if len(sets) > 1 or len(models) > 1:
        axes.legend(frameon=False, loc="lower right")


def folds(axes: Any, models: Sequence[Model]) -> None:
    """Accuracy of each fold; the line is the mean, the band its standard error."""
    step = 0.8 / len(models)
    for k, model in enumerate(models):
        m = model.report.metrics["accuracy"]
        at = np.arange(1, len(m.folds) + 1) + (k - (len(models) - 1) / 2) * step * 0.6
        points = axes.scatter(at, m.folds, color=model.colour, s=22, label=model.short, zorder=3)
        points.set_gid(model.group)
        if m.value is not None:
            axes.axhline(m.value, color=model.colour, lw=1, gid=model.group)
            error = m.standard_error or 0.0
            band = axes.axhspan(m.value - error, m.value + error, color=model.colour, alpha=0.15)
            band.set_gid(model.group)
    axes.set_xticks(np.arange(1, 1 + max(len(m.report.metrics["accuracy"].folds) for m in models)))
    axes.set_xlabel("fold")
    axes.set_ylabel("accuracy")
    percent_ticks(axes.yaxis)
    if len(models) > 1:
        axes.legend(frameon=False)


PICTURES: Mapping[str, tuple[Callable[[Any, Sequence[Model]], None], str]] = {
    **roc_plots.PICTURES,
    "histogram": (histogram, "Scores of genuine and impostor comparisons"),
    "cmc": (cmc, "CMC: identification rate by rank"),
    "folds": (folds, "Accuracy of each fold"),
    **group_plots.PICTURES,
    **quality_plots.PICTURES,
    **calibration_plots.PICTURES,
    **geometry_plots.PICTURES,
}


def drawable(kind: str, model: Model) -> bool:
    """Tell whether a model's report holds what a picture needs."""
    report = model.report
    if kind == "folds":
        return "accuracy" in report.metrics and bool(report.metrics["accuracy"].folds)
    if kind in group_plots.PICTURES:
        return group_plots.drawable(kind, model)
    if kind in quality_plots.PICTURES:
        return bool(quality_plots.held(model))
    if kind in calibration_plots.PICTURES:
        return bool(calibration_plots.held(model))
    if kind in roc_plots.PICTURES:
        return model.roc is not None
    return bool(_cmc_curves(report)) if kind == "cmc" else _holds(report.curves.get(kind, {}))


def _holds(curve: Mapping[str, Sequence[float]]) -> bool:
    """Tell whether a curve has anything above zero: where nothing was compared it has not."""
    return any(any(v) for name, v in curve.items() if name not in ("low", "high", "rank"))


def _cmc_curves(report: Report) -> dict[str, Mapping[str, Sequence[float]]]:
    """Find a report's CMC curves, by the parameters after the @ of their name."""
    named = {name.partition("@")[::2]: curve for name, curve in report.curves.items()}
    return {printable(label): curve for (kind, label), curve in named.items() if kind == "cmc"}


def draw(
    kind: str,
    reports: Report | Sequence[Report],
    *,
    names: Sequence[str] | None = None,
    ax: Any = None,
    axes: str = "log",
) -> Any:
    """Draw one picture of every report that has the data for it; returns its matplotlib figure.

    kind : one of `PICTURES`.  names : of the reports in the legend; None numbers them.
    ax : matplotlib axes to draw on, which keep the look that they have; None makes a figure.
    axes : of "det", "log" or "probit"; "det-probit" is that picture too.
    ReportError where no report holds what the picture needs.
    """
    kind = kind if axes == "log" else f"{kind}-{axes}"
    if kind not in PICTURES:
        raise ReportError(
            f"no picture is called {kind!r}",
            f"its file is named for the kind: one of {', '.join(PICTURES)}",
        )
    figure = picture(kind, models_of(reports, names), ax)
    if figure is None:
        raise ReportError(f"no report holds what {kind!r} is drawn from", "measure it again")
    return figure


def picture(kind: str, models: Sequence[Model], ax: Any = None) -> Any:
    """Draw one picture of the models that have the data for it; None where none has."""
    with needing("matplotlib", "plot", "drawing pictures"):
        from matplotlib import axes as matplotlib_axes
        from matplotlib import rc_context
    if not isinstance(ax, matplotlib_axes.Axes | None):
        raise WrongTypeError(f"ax is a {type(ax).__name__}", "give axes, as pyplot.subplots() does")
    with rc_context(_PLAIN if ax is not None else {**_LOOK, "svg.hashsalt": kind}):
        try:
            shown = [m for m in models if drawable(kind, m)]
            if not shown:
                return None
            axes: Any = _new_axes() if ax is None else ax
            PICTURES[kind][0](axes, shown)
            if len(shown) < len(models):
                drawn = ", ".join(m.short for m in shown)
                axes.set_xlabel(f"{axes.get_xlabel()} (of {drawn} alone)")
            figure = axes.get_figure(root=True)
            if ax is None:
                figure.draw_without_rendering()
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
            raise ReportError(
                f"{kind!r} cannot be drawn from what the report holds: {e}", "measure it again"
            ) from e
    return figure


def _new_axes() -> Any:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(4.8, 3.3), layout="constrained").add_subplot()
    axes.grid(True)
    axes.set_axisbelow(True)
    return axes


def save(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure as .png, .svg or .pdf, by the name's ending: equal bytes for equal figures."""
    path = as_path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "svg", "pdf"):
        raise ReportError(f"{path.name} ends in {path.suffix!r}", "pictures are .png, .svg or .pdf")
    from matplotlib import rc_context

    out = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with rc_context({"svg.hashsalt": kind}):
        figure.savefig(out, format=kind, dpi=200, facecolor="white", metadata=undated)
    refuse_replacing(path, PICTURE)
    with whole_file(path) as f:
        f.write(out.getvalue())


def inline_svg(figure: Any, kind: str, label: str) -> str:
    """Return a figure as an <svg> element for a page: it scales and follows the page's colours.

    kind : unique on the page; the groups of model n get the class `mn`.
    """
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": kind}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    head, _, body = svg.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'id="m(\d)"', r'class="m\1"', body)
    body = re.sub(r'((?:id|href)="#?|url\(#)', rf"\g<1>{kind}-", body)
    body = re.sub(r"(font: [\d.]+px )[^;\"]*", r"\1system-ui, sans-serif", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    shape = box.group() if box else ""
    return f'<svg role="img" aria-label="{escape(printable(label))}" {shape}>{body}'


def _thresholds(axes: Any, model: Model) -> None:
    """Draw the threshold of each reported FAR, labelled at the top; not beyond all scores."""
    low, high = axes.get_xlim()
    for far, m in model.reported:
        if m.threshold is not None and low <= m.threshold <= high:
            axes.axvline(m.threshold, color=INK, lw=0.8, ls=":")
            axes.annotate(
                f"FAR {far}",
                (m.threshold, 0.99),
                xycoords=("data", "axes fraction"),
                rotation=90,
                fontsize=7,
                ha="right",
                va="top",
            )
