"""Which outcomes of two reports are of the same comparisons, in the same order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.identity import by_appearance, difference, numbered
from evalkit.protocols.uncertainty.outcomes import Arrays, Outcomes, PairOutcomes, parts_of, shared
from evalkit.types import Report

_SIDES = ("left", "right", "left_subject", "right_subject")


def pairable(
    base: Report, other: Report, sides: tuple[str, str]
) -> tuple[dict[str, tuple[Outcomes, Outcomes]], str]:
    """Give the parts of both reports' outcomes that are of the same comparisons, and why not all.

    Of one part each, the names do not matter; ranks by another rule beside it are no part of it.
    sides : what messages call the two.
    """
    for report, which in zip((base, other), sides, strict=True):
        if report.outcomes is None:
            return {}, f"the {which} report has no outcomes beside it (the .npz that --out writes)"
    same = not difference(base.identity, other.identity)
    a, b = parts_of(base.outcomes or {}), parts_of(other.outcomes or {})
    one, two = ([part for part in held if ",rule=" not in part] for held in (a, b))
    if len(one) == len(two) == 1:
        b = {one[0] if part == two[0] else part: held for part, held in b.items()}
    parts, why = {}, list[str]()
    for part in dict.fromkeys([*a, *b]):
        where = f" of {part}" if part else ""
        if part not in a or part not in b:
            why.append(f"only the {sides[part not in a]} report has outcomes{where}")
            continue
        x, y = a[part], b[part]
        if same and isinstance(x, PairOutcomes) and isinstance(y, PairOutcomes):
            x, y = _by_appearance(x, y)
        if name := _first_difference(_compared(x, not same), _compared(y, not same)):
            why.append(f"the outcomes{where} are of different comparisons: {name!r} differs")
        else:
            parts[part] = x, y
    return parts, "; ".join(why)


def _by_appearance(a: PairOutcomes, b: PairOutcomes) -> tuple[PairOutcomes, PairOutcomes]:
    """Give rows and subjects of two lists numbers as they come, where they are called otherwise."""
    sides = [[getattr(o, name) for name in _SIDES] for o in (a, b)]
    alike = all(np.array_equal(x, y) for x, y in zip(*sides, strict=True))
    return (a, b) if alike or a.left is None or b.left is None else (_numbered(a), _numbered(b))


def _numbered(outcomes: PairOutcomes) -> PairOutcomes:
    rows, number = by_appearance(_side_by_side(outcomes.left, outcomes.right))
    if outcomes.keys is not None:
        outcomes = replace(outcomes, keys=outcomes.keys[rows])
    if outcomes.left_subject is not None:
        who = numbered(_side_by_side(outcomes.left_subject, outcomes.right_subject))
        outcomes = replace(outcomes, left_subject=who[::2], right_subject=who[1::2])
    return replace(outcomes, left=number[::2], right=number[1::2])


def _side_by_side(left: Any, right: Any) -> NDArray[Any]:
    return np.column_stack([left, right]).ravel()


def _compared(outcomes: Outcomes, by_name: bool) -> Arrays:
    """Arrays that must agree; where nothing else says which rows are the same, their names too."""
    keys = getattr(outcomes, "keys", None)
    return shared(outcomes) | ({"keys": keys} if by_name and keys is not None else {})


def _first_difference(a: Arrays, b: Arrays) -> str:
    for name in {**a, **b}:
        if name not in a or name not in b or not np.array_equal(a[name], b[name]):
            return name
    return ""
