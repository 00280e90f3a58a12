"""The group of each row by one column of a table: names, codes, and what may be a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

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
        object.__setattr__(self, "code", whole_numbers(self.code, "group"))
        checked_names(self.column, self.names)
        if len(self.code) and not -1 <= self.code.min() <= self.code.max() < len(self.names):
            raise ProtocolError(f"codes of {len(self.names)} groups are outside -1 .. last")

    @classmethod
    def of(cls, column: str, values: Sequence[str | None]) -> Grouping:
        """Group rows by a value each, "" or None where it is not known.

        >>> Grouping.of("sex", ["male", "", "female", "male"]).code.tolist()
        [1, -1, 0, 1]
        """
        return cls(column, *coded(values))

    def take(self, rows: Ints) -> Grouping:
        """Give some rows, in this order, their groups."""
        return replace(self, code=self.code[rows])


def coded(values: Sequence[str | None]) -> tuple[tuple[str, ...], Ints]:
    """Names of the values in ascending order, and the place of each row's; -1 where not known."""
    names = sorted({str(value) for value in values if value})
    place = {name: k for k, name in enumerate(names)}
    codes = [place[value] if value else -1 for value in values]
    return tuple(names), np.array(codes, np.int64)


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
