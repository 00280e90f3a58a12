"""What all pictures share: colours, lines, the names of ticks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Okabe and Ito's palette: told apart with any colour vision.
MODELS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
INK, FAINT, GENUINE, IMPOSTOR = "#24292e", "#c9d1d9", "#00789b", "#c2570c"


def percent(share: float) -> str:
    """Spell a share: "12.5 %", far below a thousandth "1e-5 %"."""
    return f"{100 * share:.6g} %".replace("e-0", "e-")


def percent_ticks(axis: Any) -> None:
    """Name shares along an axis."""
    from matplotlib.ticker import NullFormatter

    axis.set_major_formatter(lambda v, _: percent(v))
    axis.set_minor_formatter(NullFormatter())


def line_style(n: int) -> str:
    """Line of model n, where colour says something else."""
    return "-" if n == 0 else ("--", ":", "-.")[(n - 1) % 3]


def log_ticks(axis: Any, text: Callable[[float], str]) -> None:
    """Name the powers of ten of a log axis, below two decades also 2 and 5 times each."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda v, _: text(v))
    axis.set_minor_formatter(NullFormatter())
