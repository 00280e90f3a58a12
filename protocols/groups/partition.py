"""Comparisons parted by groups of both sides or by condition, as a report keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import require
from evalkit.errors import ProtocolError
from evalkit.protocols.groups.conditions import Condition, PairCondition
from evalkit.protocols.groups.grouping import Grouping
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SetOutcomes
from evalkit.types import Bools, Ints, PairSet

By = Grouping | Condition | PairCondition
_PREFIX = "by:"  # of a column's arrays in report.npz


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRows:
    """Rows of one side of a protocol's comparisons.

    row : (N,) place of each in a grouping; of a side whose groups nobody knows -1.  person : (N,)
    who it shows, numbered as the outcomes number people (`from_sets.numbered_people`).  lost : (N,)
    bool, no template.  total : how many rows a grouping has; None is not held to any number.
    """

    row: Ints
    person: Ints
    lost: Bools
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """The cell of every comparison that outcomes hold, in their order, -1 for none.

    names : (C,) of the cells, "female" or "female+male".  genuine : (G,).  impostor : (I,) of those
    stored; turned : (I,) bool, whether the left side is of the second group of its cell.
    Of sets also, else None: impostors : (C,) of each cell, stored or not; left, right : (K, S)
    images of each person in each group, of which a cell takes those of `side`, (C, 2).  Of a
    condition they are such that their products are the impostor pairs of two people, nearly.
    """

    column: str
    names: tuple[str, ...]
    genuine: Ints
    impostor: Ints
    turned: Bools
    impostors: Ints | None = None
    left: NDArray[Any] | None = None
    right: NDArray[Any] | None = None
    side: Ints | None = None

    def arrays(self, part: str = "") -> dict[str, NDArray[Any]]:
        """Give every array its name in report.npz: "by:COLUMN/array", of a part "PART/by:..."."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "column"}
        start = f"{part}/" * bool(part) + f"{_PREFIX}{self.column}/"
        return {start + name: np.asarray(v) for name, v in fields.items() if v is not None}


def partitions_in(arrays: Mapping[str, NDArray[Any]], part: str = "") -> dict[str, Partition]:
    """Read the partitions of a report's arrays, or of one part of them, by column."""
    start = f"{part}/{_PREFIX}" if part else _PREFIX
    by_column: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        if name.startswith(start):
            column, _, alone = name.removeprefix(start).partition("/")
            by_column.setdefault(column, {})[alone] = array
    return {
        column: Partition(**{**of, "column": column, "names": tuple(of["names"].tolist())})
        for column, of in by_column.items()
    }


def refuse_other_rows(groups: Iterable[By], rows: int | None, what: str = "rows") -> None:
    """ProtocolError where a column has not one value for each of the rows; of pairs it may.

    So it is where two columns have one name.  rows : None where they are not counted.
    """
    require(groups, Iterable, "groups", "a list of Groupings, one a column")
    columns: set[str] = set()
    for by in groups:
        require(by, By, "a column of groups", "a Grouping; a file goes to evalkit.run.evaluate")
        if by.column in columns:
            raise ProtocolError(f"two columns of groups are called {by.column!r}", "rename one")
        columns.add(by.column)
        if rows is None or not isinstance(by, Grouping | Condition):
            continue
        count = len(by.code if isinstance(by, Grouping) else by.value)
        if count != rows:
            raise ProtocolError(
                f"column {by.column!r} groups {count:,} {what}, and there are {rows:,}",
                f"give a value for each of the {what}, in their order",
            )


def parted(
    outcomes: PairOutcomes | SetOutcomes,
    by: By,
    sides: Sequence[ComparedRows],
    people: int,
    listed: PairSet | None = None,
) -> Partition:
    """Part comparisons by the groups of both sides, or by their condition.

    Of a list, or a set with itself, "a+b" holds every comparison of a with b; of two sets, those of
    a in the first with b in the second; where nobody knows the second's groups, "a" those of a with
    all of it.  Comparisons of which something is unknown are in no cell.
    sides : of sets, one or two.  people : how many the outcomes number.  listed : the pairs of a
    list, by rows of the one side, of which the outcomes store the highest impostors by place.
    ProtocolError where nobody knows who is compared, or a column of pairs is of no list.
    """
    if listed is not None and isinstance(outcomes, SetOutcomes):
        return _of_list(outcomes, by, sides[0], people, listed)
    if isinstance(by, PairCondition):
        return _of_pairs(outcomes, by)
    if len(sides) > 1 and isinstance(outcomes, SetOutcomes) and sides[1].row.max(initial=-1) < 0:
        return _one_sided(outcomes, by, sides, people)
    rows = _rows(outcomes, sides)
    if isinstance(by, Condition):
        partition = _apart(by, *(by.between(by.value[a], by.value[b]) for a, b in rows))
        return (
            partition
            if isinstance(outcomes, PairOutcomes)
            else _met(partition, by, outcomes, sides)
        )
    ordered = len(sides) > 1 and isinstance(outcomes, SetOutcomes)
    n = len(by.names)
    side = [(a, b) for a in range(n) for b in range(0 if ordered else a, n)]
    cell = np.full((n + 1, n + 1), -1)  # the last of both is the unknown group, -1
    for c, (a, b) in enumerate(side):
        cell[a, b] = c
    genuine, impostor = ((by.code[a], by.code[b]) for a, b in rows)
    turned = (impostor[0] > impostor[1]) & (impostor[1] >= 0) & (not ordered)
    partition = Partition(
        column=by.column,
        names=tuple(by.names[a] if a == b else f"{by.names[a]}+{by.names[b]}" for a, b in side),
        genuine=cell[_ascending(*genuine)],  # within one set, also where two are compared
        impostor=cell[impostor if ordered else _ascending(*impostor)],
        turned=turned,
    )
    if isinstance(outcomes, PairOutcomes):
        return partition
    left, right = (_images(by, held, people) for held in (sides[0], sides[-1]))
    crossed = [int(left[a].sum()) * int(right[b].sum()) - int(left[a] @ right[b]) for a, b in side]
    twice = np.array([1 if ordered or a != b else 2 for a, b in side])
    impostors = np.array(crossed, np.int64) // twice
    return replace(partition, impostors=impostors, left=left, right=right, side=np.array(side))


def _one_sided(
    outcomes: SetOutcomes, by: Grouping | Condition, sides: Sequence[ComparedRows], people: int
) -> Partition:
    """Part by the groups of the first set alone, each with all of the second."""
    if isinstance(by, Condition):
        raise ProtocolError(
            f"column {by.column!r} is of two images, and those of one side are not known",
            "name the column alone, numbers in bins, as --by yaw:15,45",
        )
    if outcomes.genuine_rows is None or outcomes.impostor_rows is None:
        raise ProtocolError("outcomes without rows are of no group", "measure them again")
    first = by.code[sides[0].row]
    a, b = first[outcomes.genuine_rows].T
    left = _images(by, sides[0], people)
    right = np.bincount(sides[1].person, minlength=people)[np.newaxis]
    return Partition(
        column=by.column,
        names=by.names,
        genuine=np.where(a == b, a, -1),
        impostor=first[outcomes.impostor_rows[:, 0]],
        turned=np.zeros(len(outcomes.impostor_rows), bool),
        impostors=left.sum(axis=1) * int(right.sum()),
        left=left,
        right=right,
        side=np.stack([np.arange(len(left)), np.zeros(len(left), np.int64)], axis=1),
    )


def _of_list(
    outcomes: SetOutcomes, by: By, side: ComparedRows, people: int, listed: PairSet
) -> Partition:
    """Part the pairs of a list, all of which are counted, and the highest impostors stored."""
    unscored = PairOutcomes(
        score=np.broadcast_to(0.0, len(listed)),
        genuine=listed.genuine,
        left=listed.left,
        right=listed.right,
    )
    whole, place = parted(unscored, by, (side,), people), outcomes.impostor_place
    if place is None:
        raise ProtocolError("outcomes without places in the list are of no group")
    partition = replace(whole, impostor=whole.impostor[place], turned=whole.turned[place])
    if outcomes.left_images is None:
        return partition
    n, known = len(partition.names), whole.impostor >= 0
    who = np.zeros(int(side.row.max()) + 1, np.int64)
    who[side.row] = side.person
    cell = whole.impostor[known]
    ends = (who[rows[~listed.genuine][known]] for rows in (listed.left, listed.right))
    left, right = turn(whole.turned[known], *ends)
    images = [np.bincount(cell * people + p, minlength=n * people) for p in (left, right)]
    return replace(
        partition,
        impostors=np.bincount(cell, minlength=n),
        left=images[0].reshape(n, people),
        right=images[1].reshape(n, people),
        side=np.repeat(np.arange(n), 2).reshape(n, 2),
    )


def turn(turned: Bools, left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """Exchange both sides of the comparisons that are turned: (I,) each."""
    return np.where(turned, right, left), np.where(turned, left, right)


def _ascending(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Both groups of each comparison, the lower one first; an unknown one last."""
    known = (first >= 0) & (second >= 0)
    low, high = np.minimum(first, second), np.maximum(first, second)
    return np.where(known, low, -1), np.where(known, high, -1)


def _images(by: Grouping, side: ComparedRows, people: int) -> Ints:
    """Images of each person in each group: (K, S)."""
    code = by.code[side.row]
    return np.stack(
        [np.bincount(side.person[code == k], minlength=people) for k in range(len(by.names))]
    )


def _apart(by: Condition | PairCondition, genuine: Ints, impostor: Ints) -> Partition:
    nothing = np.zeros(len(impostor), bool)
    return Partition(
        column=by.column, names=by.names, genuine=genuine, impostor=impostor, turned=nothing
    )


def _of_pairs(outcomes: PairOutcomes | SetOutcomes, by: PairCondition) -> Partition:
    if not isinstance(outcomes, PairOutcomes):
        raise ProtocolError(
            f"column {by.column!r} is of the pairs of a list, and all pairs are compared",
            "give a table of images, whose first column is key or subject",
        )
    is_genuine = outcomes.genuine.astype(bool)
    if len(by.code) != len(is_genuine):
        compared = f"{len(is_genuine):,} are compared"
        raise ProtocolError(f"column {by.column!r} is of {len(by.code):,} pairs, and {compared}")
    return _apart(by, by.code[is_genuine], by.code[~is_genuine])


def _rows(
    outcomes: PairOutcomes | SetOutcomes, sides: Sequence[ComparedRows]
) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """Rows of a grouping on both sides of the genuine and of the impostor comparisons."""
    if isinstance(outcomes, PairOutcomes):
        left, right = outcomes.left, outcomes.right
        if left is None or right is None:
            raise ProtocolError(
                "who is compared is not known, so no group is either", "give the list of pairs"
            )
        is_genuine = outcomes.genuine.astype(bool)
        return (left[is_genuine], right[is_genuine]), (left[~is_genuine], right[~is_genuine])
    if outcomes.genuine_rows is None or outcomes.impostor_rows is None:
        raise ProtocolError("outcomes without rows are of no group", "measure them again")
    first, last = sides[0].row, sides[-1].row
    genuine, impostor = first[outcomes.genuine_rows], outcomes.impostor_rows
    return (genuine[:, 0], genuine[:, 1]), (first[impostor[:, 0]], last[impostor[:, 1]])


def _met(
    found: Partition, by: Condition, outcomes: SetOutcomes, sides: Sequence[ComparedRows]
) -> Partition:
    """Count the impostor pairs of each condition, and what each person has of them.

    Two people meet in a condition as often as the product of both their shares says: exact for
    every person, an approximation for two.
    """
    people = len(outcomes.left_images) if outcomes.left_images is not None else 0
    counts = []
    for side, other in ((sides[0], sides[-1]), (sides[-1], sides[0])):
        partners = by.partners(side.row, other.row)
        counts.append(np.stack([np.bincount(side.person, p, people) for p in partners]))
    if len(sides) == 1:
        own = sides[0]
        itself = by.between(by.value[own.row], by.value[own.row])
        for c, of in enumerate(counts[0]):
            of -= np.bincount(own.person[itself == c], minlength=people)
            of -= 2 * np.bincount(outcomes.genuine_subject[found.genuine == c], minlength=people)
        counts[1] = counts[0]
    ordered = counts[0].sum(axis=1)
    root = np.sqrt(np.maximum(ordered, 1))[:, np.newaxis]
    return replace(
        found,
        impostors=(ordered if len(sides) > 1 else ordered / 2).astype(np.int64),
        left=counts[0] / root,
        right=counts[1] / root,
        side=np.repeat(np.arange(len(by.names)), 2).reshape(-1, 2),
    )
