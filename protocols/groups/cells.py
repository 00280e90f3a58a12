"""Comparisons of one cell: a sample of the whole one, drawn with the same subjects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.protocols.groups.partition import Partition, turn
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SetOutcomes
from evalkit.protocols.uncertainty.resampling import metric_ends
from evalkit.protocols.uncertainty.sample import ComparisonSample
from evalkit.protocols.uncertainty.weights import SCALE, Weights
from evalkit.types import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCell:
    """Comparisons within a group, between two, or of one condition, and the people in them.

    name : "female", or "female+male"; or of a condition.  sample : these comparisons alone, of the
    people of all.  people : numbers of the people on each side, the same but between groups.
    """

    name: str
    sample: ComparisonSample
    people: tuple[Ints, Ints]

    @property
    def within(self) -> bool:
        """Whether both sides are of one group, or the comparisons of one condition."""
        return "+" not in self.name

    @property
    def sides(self) -> tuple[Ints, ...]:
        """People of each side of the impostor comparisons; of all where a person is on both."""
        both = np.intersect1d(*self.people)
        return (np.union1d(*self.people),) if len(both) else self.people

    @property
    def impostor_people(self) -> int:
        """Count the people in the impostor comparisons, on the side with fewer of them."""
        return min(map(len, self.sides))

    def draws(self, weights: Iterable[Weights], names: Sequence[str]) -> dict[str, Floats]:
        """Measure these comparisons in each draw of all people, as `metric_ends`.

        weights : the draws, the same for every cell.
        """
        sides = self.sides
        return metric_ends(self.sample, names, weights=(_even(drawn, sides) for drawn in weights))


def _even(drawn: Weights, sides: Sequence[Ints]) -> Weights:
    """Let the people of each side weigh SCALE on average, as those of all do."""
    weight, unseen = drawn
    placed, scale = weight.astype(np.float64), 1.0
    for side in sides:
        scale = SCALE * len(side) / (float(weight[side].sum()) or 1.0)
        placed[side] *= scale
    return np.maximum(np.rint(placed), 1).astype(np.int64), round(unseen * scale)


def cells_of(
    partition: Partition, outcomes: PairOutcomes | SetOutcomes, whole: ComparisonSample
) -> Iterator[GroupCell]:
    """Give each cell of a partition its comparisons, in the order of the cells' names.

    outcomes : that were parted.  whole : all their comparisons (`sample_of`).
    """
    g, i = (np.argsort(-score, kind="stable") for score in scores_of(outcomes))
    genuine, impostor, turned = partition.genuine[g], partition.impostor[i], partition.turned[i]
    for c, name in enumerate(partition.names):
        own = impostor == c
        sample = _counted(_cell(whole, genuine == c, own, turned[own]), partition, c)
        yield GroupCell(name=name, sample=sample, people=_people(sample, within="+" not in name))


def scores_of(outcomes: PairOutcomes | SetOutcomes) -> tuple[Floats, Floats]:
    """Scores of the genuine pairs and of the impostors kept, (G,) and (I,), in their order."""
    if isinstance(outcomes, SetOutcomes):
        return outcomes.genuine_score, outcomes.impostor_score
    is_genuine = outcomes.genuine.astype(bool)
    return outcomes.score[is_genuine], outcomes.score[~is_genuine]


def _cell(
    whole: ComparisonSample, genuine: Bools, impostor: Bools, turned: Bools
) -> ComparisonSample:
    """Keep some comparisons; where they are turned, their sides change places."""
    left, right = turn(turned, whole.left[impostor], whole.right[impostor])
    lowest = whole.impostor[-1] if len(whole.impostor) < whole.impostors else -np.inf
    return replace(
        whole,
        genuine=whole.genuine[genuine],
        genuine_subject=whole.genuine_subject[genuine],
        impostor=whole.impostor[impostor],
        left=left,
        right=right,
        impostors=int(np.count_nonzero(impostor)),
        complete_above=float(lowest) if len(whole.impostor) else np.inf,
        place=None if whole.place is None else whole.place[impostor],
        order=None,
        decided=None,
        fold=None,
        rank=None,
        rank_subject=None,
        searches=(),
        thinned=None,
    )


def _counted(cell: ComparisonSample, partition: Partition, c: int) -> ComparisonSample:
    """Count a cell's impostor pairs, stored or not, and the images of each person behind them."""
    p = partition
    if p.impostors is None or p.left is None or p.right is None or p.side is None:
        return cell
    a, b = p.side[c].tolist()
    return replace(
        cell,
        impostors=int(p.impostors[c]),
        left_images=p.left[a].astype(np.float64),
        right_images=p.right[b].astype(np.float64),
    )


def _people(cell: ComparisonSample, *, within: bool) -> tuple[Ints, Ints]:
    """People on each side of a cell."""
    if cell.left_images is not None and cell.right_images is not None:
        return np.flatnonzero(cell.left_images), np.flatnonzero(cell.right_images)
    left, right = (np.union1d(side, cell.genuine_subject) for side in (cell.left, cell.right))
    every = np.union1d(left, right)
    return (every, every) if within else (left, right)
