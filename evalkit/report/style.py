"""What all pictures and the page share: the models shown, their colours and their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.errors import ReportError, WrongTypeError
from evalkit.types import Report

# Okabe and Ito's palette: told apart with any colour vision.
MODELS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
INK, FAINT, GENUINE, IMPOSTOR = "#24292e", "#c9d1d9", "#00789b", "#c2570c"


@dataclass(frozen=True, slots=True)
class Model:
    """A report under the name it has in pictures; its place among all gives it its colour."""

    name: str
    report: Report
    place: int = 0


def models_of(reports: Report | Sequence[Report], names: Sequence[str] | None) -> list[Model]:
    """Give one report or several their names and places; without names, they are numbered from 1.

    ReportError for another number of names; WrongTypeError for what is no report.
    """
    several = isinstance(reports, Iterable) and not isinstance(reports, Report)
    held: list[Report] = [*reports] if several else [reports]  # type: ignore[list-item]
    for report in held:
        if not isinstance(report, Report):
            kind = type(report).__name__
            raise WrongTypeError(f"a {kind} where a report belongs", "read a file by Report.load")
    called = [str(n) for n in range(1, len(held) + 1)] if names is None else list(names)
    if len(called) != len(held):
        raise ReportError(f"{len(called)} names for {len(held)} reports", "give each report one")
    return [
        Model(name, report, n) for n, (name, report) in enumerate(zip(called, held, strict=True))
    ]


def short(name: str, most: int = 20) -> str:
    """Cut a name to what a legend has room for."""
    return name if len(name) <= most else name[: most - 1] + "…"


def colour(n: int) -> str:
    """Colour of model n."""
    return MODELS[n % len(MODELS)]


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
