"""People in no stored comparison, one number for all who have as many images.

Of 20 million distractors a few thousand are in a stored comparison.  The others enter a draw by the
sum of their weights alone, which has a distribution of its own (`weights`): none of them is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.uncertainty.columns import counts_of, named, there
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, SetOutcomes
from evalkit.types import Ints

FEW = 50_000  # people: each of them is drawn by himself
_SIDES = ("_subject", "_left", "_right")  # ends of the names of columns of people


def taken_together(outcomes: SetOutcomes) -> tuple[SetOutcomes, Ints | None]:
    """Give people in no comparison, with as many images, one number; return `alike`, (S,), too.

    That is how many people each number stands for; those in comparisons come first, in their order.
    None, and the outcomes as they are, of `FEW` people, where that leaves over half of the numbers,
    or where somebody has images on both sides, whose weights multiply each other.
    """
    left, right = outcomes.left_images, outcomes.right_images
    if left is None or right is None or len(left) <= FEW or ((left > 0) & (right > 0)).any():
        return outcomes, None
    compared = there(*_people(outcomes), people=len(left))
    few, images = np.count_nonzero(compared), left - right  # below 0 those on the right side
    least = images.min()
    images -= least
    count = counts_of(images, ~compared)
    size = np.flatnonzero(count)
    del images
    if 2 * (few + len(size)) > len(left):
        return outcomes, None
    number = np.cumsum(compared, dtype=np.int32) - np.int32(1)
    renamed = _renamed(outcomes, lambda who: named(number, who))
    together = replace(
        renamed,
        left_images=np.append(left[compared], (size + least).clip(min=0)),
        right_images=np.append(right[compared], (-size - least).clip(min=0)),
    )
    return together, np.append(np.ones(few, np.int64), count[size])


def _people(outcomes: SetOutcomes | SearchOutcomes) -> list[Ints]:
    """List the columns that name people."""
    columns = list[Ints]()
    for f in fields(outcomes):
        value = getattr(outcomes, f.name)
        if isinstance(value, SearchOutcomes):
            columns += _people(value)
        elif value is not None and f.name.endswith(_SIDES):
            columns.append(value)
    return columns


def _renamed(outcomes: Any, name: Callable[[Ints], NDArray[Any]]) -> Any:
    """Rename the people of every column; what was one array stays one."""
    new: dict[int, Any] = {}
    changed: dict[str, Any] = {}
    for f in fields(outcomes):
        value = getattr(outcomes, f.name)
        if isinstance(value, SearchOutcomes):
            changed[f.name] = _renamed(value, name)
        elif value is not None and f.name.endswith(_SIDES):
            if id(value) not in new:
                new[id(value)] = name(value)
            changed[f.name] = new[id(value)]
    return replace(outcomes, **changed)
