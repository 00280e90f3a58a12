"""ROC, DET, CMC, score histograms and fold accuracies, drawn by matplotlib.

For papers: `save`.  For the page: `inline_svg`, whose colours are CSS variables, so that one
picture serves light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.errors import MissingPackageError, ReportError
from evalkit.files import whole_file
from evalkit.protocols.intervals import logit_interval
from evalkit.protocols.outcomes import sample_of
from evalkit.protocols.resampling import metric_draws
from evalkit.protocols.samples import Floats, Outcomes, parts_of
from evalkit.report import geometry_plots
from evalkit.report.look import (
    FAINT,
    GENUINE,
    IMPOSTOR,
    INK,
    MODELS,
    Model,
    line_style,
    log_ticks,
    percent_ticks,
    short,
)
from evalkit.report.look import colour as colour_of
from evalkit.types import Estimate, Report

_VARIABLES = {
    **{colour: f"var(--model-{n})" for n, colour in enumerate(MODELS)},
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    GENUINE: "var(--genuine)",
    IMPOSTOR: "var(--impostor)",
}
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


def histogram(axes: Any, models: Sequence[Model]) -> None:
    """Share of genuine and of impostor scores in each bin, log scale; thresholds as lines."""
    for model in models:
        n = model.place
        bins = model.report.curves["histogram"]
        edges = np.append(bins["low"], bins["high"][-1])
        style = line_style(n)
        for kind, colour in (("genuine", GENUINE), ("impostor", IMPOSTOR)):
            share = np.asarray(bins[kind], float)
            label = kind if len(models) == 1 else f"{kind}, {short(model.name)}"
            line = axes.stairs(share, edges, color=colour, label=label, ls=style, lw=1.2)
            line.set_gid(f"m{n}")
            if model is models[0]:
                axes.stairs(share, edges, color=colour, fill=True, alpha=0.18, gid=f"m{n}")
        if model is models[0]:
            _thresholds(axes, model.report)
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 5)  # room for the names of the thresholds
    axes.set_xlabel("score")
    axes.set_ylabel("share of comparisons")
    percent_ticks(axes.yaxis)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def cmc(axes: Any, models: Sequence[Model]) -> None:
    """Share of probes whose mate is among the k best, against k on a log axis."""
    sets = list(dict.fromkeys(name for m in models for name in _cmc_curves(m.report)))
    for model in models:
        n = model.place
        for parameters, curve in _cmc_curves(model.report).items():
            k = sets.index(parameters)
            name = model.name if len(models) > 1 or not parameters else ""
            label = ", ".join(part for part in (short(name), parameters) if part)
            # Of one model a colour is a set; of several it is a model, and a set its line.
            colour, style = (
                (colour_of(k), "-") if len(models) == 1 else (colour_of(n), line_style(k))
            )
            (line,) = axes.plot(
                curve["rank"], curve["rate"], color=colour, ls=style, marker=".", ms=4
            )
            line.set(gid=f"m{n}", label=label)
    axes.set_xscale("log")
    axes.set_xlabel("rank k")
    axes.set_ylabel("mate within rank k")
    log_ticks(axes.xaxis, lambda v: f"{v:g}")
    percent_ticks(axes.yaxis)
    if len(sets) > 1 or len(models) > 1:
        axes.legend(frameon=False, loc="lower right")


def folds(axes: Any, models: Sequence[Model]) -> None:
    """Accuracy of each fold; the line is the mean, the band its standard error."""
    step = 0.8 / len(models)
    for k, model in enumerate(models):
        n = model.place
        m = model.report.metrics["accuracy"]
        at = np.arange(1, len(m.folds) + 1) + (k - (len(models) - 1) / 2) * step * 0.6
        points = axes.scatter(
            at, m.folds, color=colour_of(n), s=22, label=short(model.name), zorder=3
        )
        points.set_gid(f"m{n}")
        if m.value is not None:
            axes.axhline(m.value, color=colour_of(n), lw=1, gid=f"m{n}")
            error = m.standard_error or 0.0
            band = axes.axhspan(m.value - error, m.value + error, color=colour_of(n), alpha=0.15)
            band.set_gid(f"m{n}")
    axes.set_xticks(np.arange(1, 1 + max(len(m.report.metrics["accuracy"].folds) for m in models)))
    axes.set_xlabel("fold")
    axes.set_ylabel("accuracy")
    percent_ticks(axes.yaxis)
    if len(models) > 1:
        axes.legend(frameon=False)


PICTURES: Mapping[str, tuple[Callable[[Any, Sequence[Model]], None], str]] = {
    "roc": (roc, "ROC: true positive rate against false accept rate"),
    "det": (det, "DET: false non-match rate against false accept rate"),
    "histogram": (histogram, "Scores of genuine and impostor comparisons"),
    "cmc": (cmc, "CMC: identification rate by rank"),
    "folds": (folds, "Accuracy of each fold"),
    **geometry_plots.PICTURES,
}


def drawable(kind: str, report: Report) -> bool:
    """Tell whether a report holds what a picture needs."""
    if kind == "folds":
        return "accuracy" in report.metrics and bool(report.metrics["accuracy"].folds)
    if kind in ("roc", "det"):
        return "roc" in report.curves or _tail(report)
    return bool(_cmc_curves(report)) if kind == "cmc" else _holds(report.curves.get(kind, {}))


def _holds(curve: Mapping[str, Sequence[float]]) -> bool:
    """Tell whether a curve has anything above zero: where nothing was compared it has not."""
    return any(any(v) for name, v in curve.items() if name not in ("low", "high", "rank"))


def _cmc_curves(report: Report) -> dict[str, Mapping[str, Sequence[float]]]:
    """Find a report's CMC curves, by the parameters after the @ of their name."""
    named = {name.partition("@")[::2]: curve for name, curve in report.curves.items()}
    return {label: curve for (kind, label), curve in named.items() if kind == "cmc"}


def draw(kind: str, models: Sequence[Model]) -> Any:
    """Return the matplotlib figure of `kind` with every model that has the data for it."""
    if kind not in PICTURES:
        raise ReportError(f"no picture is called {kind!r}", f"known are {', '.join(PICTURES)}")
    placed = [replace(m, place=n) for n, m in enumerate(models)]
    shown = [m for m in placed if drawable(kind, m.report)]
    if not shown:
        raise ReportError(f"no report holds what {kind!r} is drawn from", "measure it again")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as e:
        raise MissingPackageError("matplotlib", "plot", "drawing pictures") from e
    look: Any = {
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": 9,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "legend.labelcolor": INK,
        "svg.fonttype": "none",
        "svg.hashsalt": kind,
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with rc_context(look):
        figure = Figure(figsize=(4.8, 3.3), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(True)
        axes.set_axisbelow(True)
        PICTURES[kind][0](axes, shown)
        if len(shown) < len(models):
            names = ", ".join(short(m.name) for m in shown)
            axes.set_xlabel(f"{axes.get_xlabel()} (of {names} alone)")
        figure.draw_without_rendering()
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as .png, .svg or .pdf, by the name's ending."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "svg", "pdf"):
        raise ReportError(f"{path.name} ends in {path.suffix!r}", "pictures are .png, .svg or .pdf")
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=200, facecolor="white")
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
    return f'<svg role="img" aria-label="{escape(label)}" {shape}>{body}'


def _trace(
    axes: Any, far: Floats, rate: Floats, model: Model, n: int, of_tpr: Callable[[float], float]
) -> float:
    """Draw one curve, its band and the reported points; return the lowest rate that matters."""
    colour = colour_of(n)
    start = max(int(np.count_nonzero(far <= 0)) - 1, 0)
    # Without a false accept FAR is 0, which a log axis has not: that rate enters from the left.
    far, rate = far[start:], rate[start:]
    far = np.maximum(far, _least(far) / BEFORE)
    (line,) = axes.plot(
        far,
        rate,
        color=colour,
        label=short(model.name),
        drawstyle="steps-post",
        lw=1.5,
    )
    line.set_gid(f"m{n}")
    lowest = float(np.nanmin(rate, initial=1.0))
    x, low, high = band(model.report)
    if len(x):
        ends = [of_tpr(v) for v in low], [of_tpr(v) for v in high]
        axes.fill_between(x, *ends, color=colour, alpha=0.18, lw=0, gid=f"m{n}")
        lowest = min([lowest, *ends[0], *ends[1]])
    for far_text, m in _reported(model.report):
        if None not in (m.value, m.low, m.high):
            # Bars of several models at one FAR stand beside each other.
            at, value = float(far_text) * 1.08**n, of_tpr(m.value or 0.0)
            ends_at = [of_tpr(m.low or 0.0), of_tpr(m.high or 0.0)]
            error = [[abs(value - min(ends_at))], [abs(max(ends_at) - value)]]
            bar = axes.errorbar(at, value, error, color=colour, marker="o", ms=3.5, capsize=2, lw=1)
            for part in (bar[0], *bar[1], *bar[2]):
                part.set_gid(f"m{n}")
            lowest = min(lowest, ends_at[0])
    return lowest


def roc_points(report: Report) -> tuple[Floats, Floats]:
    """FAR and TPR of a report's ROC, or of the tail of impostors that its outcomes keep."""
    if "roc" in report.curves:
        curve = report.curves["roc"]
        return np.asarray(curve["far"], float), np.asarray(curve["tpr"], float)
    sample = sample_of(_drawn_part(report)[1])
    # Just above the k-th highest impostor: k - 1 false accepts.
    k = np.unique(np.geomspace(1, len(sample.impostor), 400).astype(int))
    above = np.searchsorted(-sample.genuine, -sample.impostor[k - 1], "left")
    return (k - 1) / sample.impostors, above / len(sample.genuine)


def _reported(report: Report) -> list[tuple[str, Estimate]]:
    """Pick the metrics named tpr@far=x, of the part that is drawn and nothing more, with x."""
    part = _drawn_part(report)[0]
    name = re.compile(r"tpr@far=([0-9.eE+-]+)" + (re.escape(f",{part}") if part else ""))
    found = ((name.fullmatch(n), m) for n, m in report.metrics.items())
    return [(named.group(1), m) for named, m in found if named]


def _drawn_part(report: Report) -> tuple[str, Outcomes]:
    """Find the part of the outcomes with the most impostor comparisons, the first of equal ones."""
    parts = parts_of(report.outcomes or {})
    most = max(parts, key=lambda p: int(parts[p].get("impostors", 0)), default="")
    return most, parts.get(most, {})


def _tail(report: Report) -> bool:
    o = _drawn_part(report)[1]
    return "genuine_score" in o and len(o["genuine_score"]) > 0 and len(o["impostor_score"]) > 0


def band(report: Report, points: int = 24) -> tuple[list[float], list[float], list[float]]:
    """FARs with the ends of TPR's 95 % interval at each; empty without outcomes."""
    outcomes = _drawn_part(report)[1]
    if not ({"score", "genuine_score"} & set(outcomes)):
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
    axes.set_xlim(min(map(_least, reach)) / BEFORE, max(f.max(initial=1e-3) for f in reach))
    parts = {_drawn_part(m.report)[0] for m in models} - {""}
    axes.set_xlabel(", ".join(["FAR", *sorted(parts)]))
    axes.xaxis.set_major_locator(LogLocator(numticks=12))
    axes.xaxis.set_major_formatter(lambda v, _: f"1e{np.log10(v):.0f}" if v < 1 else "1")
    axes.xaxis.set_minor_formatter(NullFormatter())
    if len(models) > 1:
        axes.legend(frameon=False, loc="best")


def _thresholds(axes: Any, report: Report) -> None:
    """Draw the threshold of each reported FAR, labelled at the top."""
    for far, m in _reported(report):
        if m.threshold is not None:
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
