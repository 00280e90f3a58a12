"""A metric's number in words: value, interval, counts and threshold as every table spells them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from evalkit.escaping import WIDTH, printable
from evalkit.protocols.metrics.operating_point import FEW_ERRORS, few_false_accepts, threshold_text
from evalkit.protocols.metrics.vocabulary import metric_of
from evalkit.types import Estimate

_FEW = f"fewer than {FEW_ERRORS} false accepts: unreliable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A metric as every table, page and notebook spells it; "" for what it does not have.

    note : without the number of false accepts, where that has a column.
    """

    name: str
    value: str
    error: str = ""
    interval: str = ""
    n: str = ""
    people: str = ""
    threshold: str = ""
    false_accepts: str = ""
    note: str = ""


def row(name: str, m: Estimate, *, counted: bool = True) -> Row:
    """Spell a metric; every text of it is printable.

    counted : whether the table has a column of false accepts.
    """
    note = m.note
    if counted and m.false_accepts is not None and (few := few_false_accepts(m.false_accepts)):
        note = note.replace(few, _FEW)
    ends = "" if m.low is None or m.high is None else _ends(name, m.low, m.high)
    return Row(
        name=printable(name),
        value="-" if m.value is None else spelled(name, m.value),
        error="" if m.standard_error is None else _bare(name, m.standard_error),
        interval=ends,
        n=f"{m.n:,}" if m.n else "",
        people="" if m.people is None else f"{m.people:,}",
        threshold="" if m.threshold is None else threshold_text(m.threshold),
        false_accepts="" if m.false_accepts is None else f"{m.false_accepts:,}",
        note=printable(note),
    )


def spelled(name: str, value: float, sign: str = "") -> str:
    """Write a metric's value as every table does: "99.33 %", "0.99890" or "2.3e-07".

    sign : "+" shows it.
    """
    if _in_percent(name):
        return f"{100 * value:{sign}.2f} %"
    return f"{value:{sign}.5f}" if not value or abs(value) >= 5e-5 else f"{value:{sign}.1e}"


def _in_percent(name: str) -> bool:
    metric = metric_of(name)
    return metric is not None and metric.percent


def points(name: str, value: float, sign: str = "") -> str:
    """Write the difference of two values: "0.53 points" of percent, or "0.00082"."""
    return spelled(name, value + 0.0, sign).replace(" %", " points")  # -0.0 becomes 0.0


def interval_of_points(name: str, low: float, high: float) -> str:
    """Write the ends of a difference's interval, without a unit: "-0.86 to -0.20"."""
    ends = (spelled(name, end, "+").removesuffix(" %") for end in (low, high))
    return " to ".join(ends)


def _bare(name: str, value: float) -> str:
    return spelled(name, value).removesuffix(" %")


def _ends(name: str, low: float, high: float) -> str:
    return f"[{_bare(name, low)}, {_bare(name, high)}]"


def wrapped(text: str, indent: int, first: int | None = None) -> list[str]:
    """Break a text into lines of 80 columns; `first` is the first line's indent."""
    start = indent if first is None else first
    most = max(WIDTH, indent + 24)
    lines = textwrap.wrap(
        text,
        most,
        initial_indent=" " * start,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [printable(line) for line in lines]  # a break may have put a command at a line's start
