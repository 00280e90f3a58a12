"""The group of each row by one column of a table: names, codes, and what may be a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evalkit.arrays import whole_numbers
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.record import PARAMETERS
from evalkit.types import Ints

MOST = 20  # groups of a column; more are names or numbers, not groups
_COLUMN = re.compile(r"[A-Za-z_][\w-]*")
_SEPARATORS = re.compile("[,@=+]")  # of the names of metrics


@dataclass(frozen=True, slots=True)
class Grouping:
    """The group of each row by one column.

    column : its name, letters, digits, "_" and "-".  names : of the groups, without ",", "@", "="
    and "+".  code : (N,) place of each row's group among the names, -1 = unknown.
    ProtocolError where names cannot stand in the name of a metric, or codes are of no name.
    """

    column: str
    names: tuple[str, ...]
    code: Ints

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        checked_names(self.column, self.names)
        object.__setattr__(self, "code", checked_codes(self.code, self.names))

    @classmethod
    def of(cls, column: str, values: Iterable[Any]) -> Grouping:
        """Group rows by a value each, a text, number or truth; "", None or NaN is not known.

        >>> Grouping.of("sex", ["male", "", "female", "male"]).code.tolist()
        [1, -1, 0, 1]
        >>> Grouping.of("glasses", [True, False, float("nan")]).code.tolist()
        [1, 0, -1]
        """
        return cls(column, *coded(values))

    def take(self, rows: Ints) -> Grouping:
        """Give some rows, in this order, their groups."""
        return replace(self, code=self.code[rows])


def coded(values: Iterable[Any]) -> tuple[tuple[str, ...], Ints]:
    """Names of the values in ascending order, and the place of each row's; -1 where not known."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ProtocolError(f"groups given as {values!r:.80}", "expected a value for each row")
    spelled = [*map(_name, values)]
    names = sorted({name for name in spelled if name})
    place = {name: k for k, name in enumerate(names)}
    return tuple(names), np.array([place.get(name, -1) for name in spelled], np.int64)


def _name(value: Any) -> str:
    """Name a value, "" where it is missing: None, NaN, pandas's NA, or masked."""
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, str | int | float | np.bool_ | np.number | np.datetime64):
        return "" if value != value else str(value)
    raise ProtocolError(
        f"a group is given as {value!r:.80}", "expected a text, a number or a truth for each row"
    )


def checked_codes(code: ArrayLike, names: Sequence[str]) -> Ints:
    """Read the group of each row, (N,), a place among the names or -1; ProtocolError for others."""
    codes = whole_numbers(code, "group")
    if codes.ndim != 1 or (len(codes) and not -1 <= codes.min() <= codes.max() < len(names)):
        raise ProtocolError(f"codes of {len(names)} groups are outside -1 .. last")
    return codes


def checked_names(column: str, names: Sequence[str]) -> None:
    """Refuse a column or groups whose names would be misread in the name of a metric."""
    if not _COLUMN.fullmatch(column) or column in PARAMETERS:
        raise ProtocolError(
            f"a column of groups is called {column!r}",
            "letters, digits, _ and -, and no parameter of a metric, such as far",
        )
    if len(names) > MOST:
        raise ProtocolError(
            f"column {column!r} has {len(names):,} groups",
            f"give at most {MOST}, bin numbers (--by {column}:10,20), and leave names out",
        )
    for name in names:
        if not name.strip() or name == "unknown" or _SEPARATORS.search(name):
            raise ProtocolError(
                f"a group of column {column!r} is called {name!r}",
                "leave , @ = + out of it; of an unknown group leave the cell empty",
            )
