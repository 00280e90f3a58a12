"""ROC and DET: the curve of each model, its band, and the reported points with their bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evalkit.escaping import printable
from evalkit.protocols.metrics import exact_rate
from evalkit.report.drawn_models import Model
from evalkit.report.style import percent, percent_ticks
from evalkit.types import Floats

PROBITS = (*(10.0**-k for k in range(9, 1, -1)), 0.1, 0.2, 0.4, 0.6, 0.8)
PROBIT_END = 0.9  # of probit axes, which have no 1
BEFORE = 1.3  # how far a curve is drawn before its first false accept


def roc(axes: Any, models: Sequence[Model]) -> None:
    """Draw TPR against FAR on a log axis; bands and bars are 95 % intervals.

    Of several sets of comparisons, that with the most impostors is drawn (`Model.part`).
    """
    drawn = np.concatenate([_trace(axes, model, np.positive) for model in models])
    lowest = min(drawn[np.isfinite(drawn)], default=1.0)
    axes.set_ylim(max(0.0, 1 - 1.15 * (1 - lowest)) - 0.002, 1 + 0.03 * (1 - lowest) + 0.0005)
    _far_axis(axes, models)
    axes.set_ylabel("TPR")
    percent_ticks(axes.yaxis)


def det(axes: Any, models: Sequence[Model]) -> None:
    """FNMR against FAR, both on log axes: the nearer to the corner, the fewer errors."""
    drawn = np.concatenate([_trace(axes, model, _fnmr) for model in models])
    least = min(drawn[drawn > 0], default=1.0)
    axes.set_yscale("log")
    axes.set_ylim(max(least / 1.3, 1e-7), 1)
    _far_axis(axes, models)
    if least > 0.02:  # less than two decades: a name for each is too few
        from matplotlib.ticker import LogLocator

        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.set_ylabel("FNMR (log scale)")
    axes.set_xlabel(f"{axes.get_xlabel()} (log scale)")
    percent_ticks(axes.yaxis)


def det_probit(axes: Any, models: Sequence[Model]) -> None:
    """FNMR against FAR, both on probit axes: a line where scores of either kind are normal.

    Martin et al., The DET Curve in Assessment of Detection Task Performance, 1997.
    """
    drawn = np.concatenate([_trace(axes, model, _fnmr) for model in models])
    fnmr = drawn[(drawn > 0) & (drawn < PROBIT_END)]
    _far_axis(axes, models)
    least_far, _ = axes.get_xlim()
    _probit(axes, "x", least_far, PROBIT_END)
    least = max(min(fnmr, default=0.01) / BEFORE, 1e-7)
    _probit(axes, "y", least, min(max(fnmr, default=0.5) * BEFORE, PROBIT_END))
    axes.set_ylabel("FNMR (probit scale)")
    axes.set_xlabel(f"{axes.get_xlabel()} (probit scale)")


def _probit(axes: Any, name: str, low: float, high: float) -> None:
    """Give an axis the scale of normal deviates, from one share to another."""
    from matplotlib.ticker import FixedLocator
    from scipy.special import ndtr

    axes.set(**{f"{name}lim": (low, high)})  # before the scale, which ends at 0 and 1
    getattr(axes, f"set_{name}scale")("function", functions=(_deviate, ndtr))
    axis = getattr(axes, f"{name}axis")
    axis.set_major_locator(FixedLocator(_apart(low, high) if name == "x" else PROBITS))
    percent_ticks(axis)


def _deviate(share: Any) -> Any:
    """Give the normal deviate of a share; of 0 and 1, infinitely far, one beyond every axis."""
    from scipy.special import ndtri

    return ndtri(np.clip(share, 1e-12, 1 - 1e-12))


def _apart(low: float, high: float) -> list[float]:
    """Choose shares along a horizontal axis of which no two names touch."""
    held: list[float] = []
    for share in (x for x in PROBITS if low <= x <= high):
        letters = sum(len(percent(x)) for x in (*held[-1:], share)) / 2
        away = _deviate(share) - _deviate(held[-1] if held else low)
        if not held or away / (_deviate(high) - _deviate(low)) > 0.022 * letters:
            held.append(share)
    return held


def _fnmr(tpr: Any) -> Any:
    return 1 - np.asarray(tpr)


def _trace(axes: Any, model: Model, of_tpr: Callable[[Any], Any]) -> Floats:
    """Draw one curve, its band and the reported points; return the rates that should be seen."""
    style: Any = {"color": model.colour, "gid": model.group}
    far, tpr = _curve(model)
    start = max(int(np.count_nonzero(far <= 0)) - 1, 0)
    # FAR is 0 before the first false accept; a log axis cannot show it, so it starts at the left.
    far, rate = np.maximum(far[start:], _least(far) / BEFORE), of_tpr(tpr[start:])
    if of_tpr is _fnmr:
        rate = np.where(rate > 0, rate, np.nan)
    axes.plot(far, rate, label=model.short, drawstyle="steps-post", lw=1.5, **style)
    at, low, high = model.band.T
    if len(at):
        axes.fill_between(at, of_tpr(low), of_tpr(high), alpha=0.18, lw=0, **style)
    points = [(x, m.value, m.low, m.high) for x, m in model.reported if m.low is not None]
    bars = of_tpr(np.array([ends for _, *ends in points], float).reshape(-1, 3))
    for (far_text, *_), (value, *ends) in zip(points, bars, strict=True):
        # Bars of several models at one FAR stand beside each other.
        x = float(exact_rate(far_text)) * 1.08**model.place
        error = [[value - min(ends)], [max(ends) - value]]
        look: Any = {"marker": "o", "ms": 3.5, "capsize": 2, "lw": 1}
        bar = axes.errorbar(x, value, error, color=model.colour, **look)
        for drawn in (bar[0], *bar[1], *bar[2]):
            drawn.set_gid(model.group)
    return np.concatenate([rate, of_tpr(low), of_tpr(high), bars.ravel()])


def _curve(model: Model) -> tuple[Floats, Floats]:
    if model.roc is None:
        raise LookupError("a ROC")
    return model.roc


def _least(far: Floats) -> float:
    """Lowest FAR above 0, which a log axis can show."""
    return float(min(far[far > 0], default=1e-3))


def _far_axis(axes: Any, models: Sequence[Model]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    reach = [_curve(m)[0] for m in models]
    axes.set_xscale("log")
    most = max(float(far.max(initial=0.0)) for far in reach)
    axes.set_xlim(min(map(_least, reach)) / BEFORE, most or 1.0)
    parts = {m.part[0] for m in models} - {""}
    axes.set_xlabel(", ".join(["FAR", *map(printable, sorted(parts))]))
    axes.xaxis.set_major_locator(LogLocator(numticks=12))
    axes.xaxis.set_major_formatter(lambda v, _: f"1e{np.log10(v):.0f}" if v < 1 else "1")
    axes.xaxis.set_minor_formatter(NullFormatter())
    if len(models) > 1:
        axes.legend(frameon=False, loc="best")


PICTURES: Mapping[str, tuple[Callable[[Any, Sequence[Model]], None], str]] = {
    "roc": (roc, "ROC: true positive rate against false accept rate"),
    "det": (det, "DET: false non-match rate against false accept rate"),
    "det-probit": (det_probit, "DET: the same, in normal deviates"),
}
