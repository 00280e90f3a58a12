"""Comparisons of one group or of two: a sample of the whole one, drawn with the same subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.errors import ProtocolError
from evalkit.protocols.groups.grouping import Grouping
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SetOutcomes
from evalkit.protocols.uncertainty.resampling import metric_ends
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.protocols.uncertainty.weights import SCALE, Weights, subject_draws
from evalkit.types import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRows:
    """Rows of one side of a protocol's comparisons.

    row : (N,) place of each in a grouping.  person : (N,) who it shows, numbered as the outcomes
    number people (`from_sets.numbered_people`).  lost : (N,) bool, no template.
    """

    row: Ints
    person: Ints
    lost: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCell:
    """Comparisons within a group, or between two, and the people who take part in them.

    name : "female", or "female+male".  sample : these comparisons alone, of the people of all.
    people : numbers of the people of either side; the same twice within a group.
    """

    name: str
    sample: ComparisonSample
    people: tuple[Ints, Ints]

    @property
    def within(self) -> bool:
        """Whether both sides are of one group."""
        return "+" not in self.name

    @property
    def impostor_people(self) -> int:
        """Count the people in the impostor comparisons."""
        return len(np.union1d(*self.people))

    def draws(
        self, whole: ComparisonSample, names: Sequence[str], draws: int, seed: int
    ) -> dict[str, Floats]:
        """Draw the people of all comparisons, and measure these in each draw, as `metric_ends`.

        The same people are drawn for every cell.
        """
        both = np.intersect1d(*self.people)
        sides = (np.union1d(*self.people),) if len(both) else self.people
        weights = (_even(drawn, sides) for drawn in subject_draws(whole, draws, seed))
        return metric_ends(self.sample, names, weights=weights)


def _even(drawn: Weights, sides: Sequence[Ints]) -> Weights:
    """Let the people of each side weigh SCALE on average, as those of all do."""
    weight, unseen = drawn
    placed, scale = weight.astype(np.float64), 1.0
    for side in sides:
        scale = SCALE * len(side) / (float(weight[side].sum()) or 1.0)
        placed[side] *= scale
    return np.maximum(np.rint(placed), 1).astype(np.int64), round(unseen * scale)


def cells_of(
    outcomes: PairOutcomes | SetOutcomes,
    whole: ComparisonSample,
    by: Grouping,
    sides: Sequence[ComparedRows],
) -> Iterator[GroupCell]:
    """Part comparisons by the groups of both sides, in the order of the groups' names.

    Of a list, or a set with itself, "a+b" holds every comparison of a with b; of two sets, those of
    a in the first with b in the second.  Comparisons of an unknown group are in none.
    sides : of sets, one or two.
    """
    if isinstance(outcomes, PairOutcomes):
        if outcomes.left is None or outcomes.right is None or whole.order is None:
            raise ProtocolError(
                "nobody knows who is compared, so nobody is of a group", "give the list of pairs"
            )
        code = np.stack([by.code[outcomes.left], by.code[outcomes.right]], axis=1)[whole.order]
        genuine, impostor = code[: len(whole.genuine)], code[len(whole.genuine) :]
    else:
        genuine, impostor = _of_rows(outcomes, by, sides)
    ordered = len(sides) > 1 and isinstance(outcomes, SetOutcomes)
    for a, first in enumerate(by.names):
        for b, second in enumerate(by.names):
            if b < a and not ordered:
                continue
            cell = _cell(whole, (a, b), genuine, impostor, ordered=ordered)
            if isinstance(outcomes, SetOutcomes):
                cell = _counted(cell, whole, (a, b), by, sides)
            people = _people(cell, within=a == b)
            name = first if a == b else f"{first}+{second}"
            yield GroupCell(name=name, sample=cell, people=people)


def _of_rows(
    outcomes: SetOutcomes, by: Grouping, sides: Sequence[ComparedRows]
) -> tuple[Ints, Ints]:
    """Group on each side of genuine and impostor pairs, by descending score; genuine of side 1."""
    if outcomes.genuine_rows is None or outcomes.impostor_rows is None:
        raise ProtocolError("outcomes without rows are of no group", "measure them again")
    first, last = (by.code[side.row] for side in (sides[0], sides[-1]))
    g = np.argsort(-outcomes.genuine_score, kind="stable")
    i = np.argsort(-outcomes.impostor_score, kind="stable")
    pairs = outcomes.impostor_rows[i]
    return first[outcomes.genuine_rows[g]], np.stack([first[pairs[:, 0]], last[pairs[:, 1]]], 1)


def _cell(
    whole: ComparisonSample,
    of: tuple[int, int],
    genuine: Ints,
    impostor: Ints,
    *,
    ordered: bool,
) -> ComparisonSample:
    """Keep the comparisons of two groups; the left side is of the first."""
    either = (genuine == of).all(axis=1) | (genuine == of[::-1]).all(axis=1)
    along, turned = (impostor == of).all(axis=1), (impostor == of[::-1]).all(axis=1)
    i = along if ordered else along | turned
    swap = (turned & ~along)[i]
    left, right = whole.left[i], whole.right[i]
    lowest = whole.impostor[-1] if len(whole.impostor) < whole.impostors else -np.inf
    return replace(
        whole,
        genuine=whole.genuine[either],
        genuine_subject=whole.genuine_subject[either],
        impostor=whole.impostor[i],
        left=np.where(swap, right, left),
        right=np.where(swap, left, right),
        impostors=int(np.count_nonzero(i)),
        complete_above=float(lowest) if len(whole.impostor) else np.inf,
        place=None,
        order=None,
        decided=None,
        fold=None,
        rank=None,
        rank_subject=None,
        searches=(),
        thinned=None,
    )


def _counted(
    cell: ComparisonSample,
    whole: ComparisonSample,
    of: tuple[int, int],
    by: Grouping,
    sides: Sequence[ComparedRows],
) -> ComparisonSample:
    """Count the images of each person on both sides of a cell, and with them its impostor pairs."""
    left, right = (
        np.bincount(side.person[by.code[side.row] == group], minlength=whole.subjects)
        for group, side in zip(of, (sides[0], sides[-1]), strict=True)
    )
    crossed = int(left.sum()) * int(right.sum()) - int(left @ right)
    twice = len(sides) == 1 and of[0] == of[1]
    return replace(
        cell,
        impostors=crossed // 2 if twice else crossed,
        left_images=left.astype(np.float64),
        right_images=right.astype(np.float64),
    )


def _people(cell: ComparisonSample, *, within: bool) -> tuple[Ints, Ints]:
    """People on each side of a cell."""
    if cell.left_images is not None and cell.right_images is not None:
        return np.flatnonzero(cell.left_images), np.flatnonzero(cell.right_images)
    left, right = (np.union1d(side, cell.genuine_subject) for side in (cell.left, cell.right))
    every = np.union1d(left, right)
    return (every, every) if within else (left, right)
