"""The condition of each comparison: by a number of both its images, or a value of its own.

Of two images it is the gap between their numbers (age), the lower one (quality), the higher one by
magnitude (yaw), or whether their values are the same (camera).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from evalkit.arrays import numbers
from evalkit.errors import ProtocolError
from evalkit.protocols.groups.grouping import checked_codes, checked_names, coded
from evalkit.types import Floats, Ints

PairRule = Literal["gap", "min", "max", "same"]
RULES: tuple[PairRule, ...] = ("gap", "min", "max", "same")
MOST_NUMBERS = 20_000  # different ones of a column: every two are held against each other


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of every comparison by a number of each row.

    column : its name.  names : of the conditions, one more than edges.  value : (N,) float64, NaN =
    unknown.  rule : what a comparison has of both numbers.  edges : ascending; a comparison is of
    the first condition whose edge is not below what it has.
    ProtocolError where names cannot stand in the name of a metric, or edges do not ascend.
    """

    column: str
    names: tuple[str, ...]
    value: Floats
    rule: PairRule
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", numbers(self.value, "value"))
        object.__setattr__(self, "edges", checked_edges(self.edges))
        checked_names(self.column, self.names)
        if len(self.names) != len(self.edges) + 1:
            raise ProtocolError(
                f"{len(self.names)} conditions of column {self.column!r} have edges {self.edges}",
                "give one edge fewer",
            )
        if self.rule not in RULES:
            raise ProtocolError(
                f"no rule {self.rule!r} for column {self.column!r}", f"known: {', '.join(RULES)}"
            )

    @classmethod
    def of(cls, column: str, values: Floats, rule: PairRule, edges: Sequence[float]) -> Condition:
        """Name the conditions by their edges.

        >>> age = np.array([20.0, 24.0, 50.0])
        >>> found = Condition.of("age-gap", age, "gap", [5])
        >>> found.names, found.between(age[:2], age[1:]).tolist()
        (('up to 5', 'over 5'), [0, 1])
        """
        edges = checked_edges(edges)
        return cls(column, bin_names(edges), values, rule, edges)

    @classmethod
    def alike(cls, column: str, values: Iterable[Any]) -> Condition:
        """Tell comparisons of one value from those of two, of values as `Grouping.of` has them."""
        code = np.array(coded(values)[1], np.float64)
        code[code < 0] = np.nan
        return cls(column, ("same", "different"), code, "same", (0.0,))

    def take(self, rows: Ints) -> Condition:
        """Give some rows, in this order, their numbers."""
        return replace(self, value=self.value[rows])

    def between(self, first: Floats, second: Floats) -> Ints:
        """Condition of comparisons of these numbers, broadcast; -1 where one is unknown."""
        if self.rule == "min":
            values = np.minimum(first, second)
        elif self.rule == "max":
            values = np.maximum(abs(first), abs(second))
        else:
            values = abs(first - second)
        bins: Ints = np.searchsorted(self.edges, values, "left")
        return np.where(np.isnan(values), -1, bins)

    def partners(self, rows: Ints, others: Ints) -> Ints:
        """Count the other rows with which each row is compared in each condition: (C, N).

        ProtocolError where there are more than `MOST_NUMBERS` different numbers.
        """
        seen, place = np.unique(self.value[rows], return_inverse=True)
        met, count = np.unique(self.value[others], return_counts=True)
        if max(len(seen), len(met)) > MOST_NUMBERS:
            raise ProtocolError(
                f"column {self.column!r} has {max(len(seen), len(met)):,} different numbers",
                f"round them: at most {MOST_NUMBERS:,} are held against each other",
            )
        counts = np.zeros((len(self.names), len(seen)), np.int64)
        for u, number in enumerate(seen):
            condition = self.between(number, met)
            known = condition >= 0
            counts[:, u] = np.bincount(condition[known], count[known], len(self.names))
        return counts[:, place]


@dataclass(frozen=True, slots=True)
class PairCondition:
    """The condition of each pair of a list.

    column : its name.  names : of the conditions.  code : (P,) place of each pair's among them, -1
    = unknown.
    """

    column: str
    names: tuple[str, ...]
    code: Ints

    def __post_init__(self) -> None:
        checked_names(self.column, self.names)
        object.__setattr__(self, "code", checked_codes(self.code, self.names))

    @classmethod
    def of(cls, column: str, values: Iterable[Any]) -> PairCondition:
        """Take the condition of each pair as a value, as `Grouping.of` takes the groups."""
        return cls(column, *coded(values))


def checked_edges(edges: Sequence[float]) -> tuple[float, ...]:
    """Read the edges of bins; ProtocolError unless they are finite numbers in ascending order."""
    given = numbers(edges, "edges")
    if given.ndim != 1 or not (len(given) and np.isfinite(given).all()):
        raise ProtocolError(f"edges given as {edges!r:.80}", "expected one finite number or more")
    if (np.diff(given) <= 0).any():
        raise ProtocolError(f"edges given as {edges!r:.80}", "give them in ascending order")
    return tuple(given.tolist())


def bin_names(edges: Sequence[float]) -> tuple[str, ...]:
    """Name the bins between edges.

    >>> bin_names([5, 10]), bin_names([20240131, 20240229])[1]
    (('up to 5', '5 to 10', 'over 10'), '20240131 to 20240229')
    """
    texts = [*map(_edge_text, edges)]
    between = (f"{a} to {b}" for a, b in pairwise(texts))
    return (f"up to {texts[0]}", *between, f"over {texts[-1]}")


def _edge_text(edge: float) -> str:
    """Spell an edge so that no other one is spelled alike."""
    short = f"{edge:g}"
    return short if float(short) == edge else repr(float(edge)).removesuffix(".0")
