"""Paired tests by group: decisions of two models at their thresholds, on the same comparisons.

Each model keeps the threshold that its report gives the group, so that a rate is a mean of
decisions and the test is that of `uncertainty.paired` of decisions: one standard error by subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.groups.cells import scores_of
from evalkit.protocols.groups.partition import Partition
from evalkit.protocols.metrics.vocabulary import read
from evalkit.protocols.uncertainty.influence import Influence
from evalkit.protocols.uncertainty.outcomes import Outcomes, PairOutcomes, SetOutcomes
from evalkit.protocols.uncertainty.paired import ALPHA, Difference, of_decisions
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.types import Estimate, Floats, Ints


@dataclass(frozen=True, slots=True)
class _Model:
    """Comparisons of one model in the order of its outcomes, and their cells.

    genuine, impostor : scores.  place : what tells each impostor pair from all others.
    """

    partition: Partition
    genuine: Floats
    impostor: Floats
    subject: Ints
    left: Ints
    right: Ints
    place: Ints


def differences_by_group(
    base: tuple[Outcomes, Mapping[str, Partition], Mapping[str, Estimate]],
    other: tuple[Outcomes, Mapping[str, Partition], Mapping[str, Estimate]],
    *,
    alpha: float = ALPHA,
) -> tuple[dict[str, Difference], list[str]]:
    """Compare two models on FMR, FNMR and TPR of every group; also say which columns cannot be.

    base, other : outcomes of the same comparisons, their partitions by column, and the metrics.
    """
    (a, of_base, before), (b, of_other, after) = base, other
    of_pairs = PairOutcomes | SetOutcomes
    if not isinstance(a, of_pairs) or not isinstance(b, of_pairs):
        return {}, []
    listed = isinstance(a, PairOutcomes)
    shared = [column for column in of_base if column in of_other]
    unlike = [c for c in shared if not _alike(of_base[c], of_other[c], listed=listed)]
    sample, sampled = (sample_of(outcomes) for outcomes in (a, b)) if shared else (None, None)
    differences: dict[str, Difference] = {}
    for column in shared:
        if column in unlike or sample is None or sampled is None:
            continue
        models = _model(a, sample, of_base[column]), _model(b, sampled, of_other[column])
        for name, cell in _of_column(before, column, of_base[column].names):
            m, n = before[name], after.get(name)
            if n is None or m.value is None or n.value is None:
                continue
            if m.threshold is None or n.threshold is None:
                continue
            side = _impostors if name.startswith("fmr@") else _genuine
            decided = side(models, cell, (m.threshold, n.threshold))
            differences[name] = of_decisions(*decided, n.value - m.value, sample.unit, alpha)
    return differences, [f"column {column!r} parts them otherwise" for column in unlike]


def _of_column(
    metrics: Iterable[str], column: str, cells: Sequence[str]
) -> Iterator[tuple[str, int]]:
    """Yield the names of rates of one column's groups, and the place of each one's cell."""
    for name in metrics:
        reading = read(name)
        of = reading.group if reading is not None else None
        if of is None or of[0] != column or of[1] not in cells:
            continue
        if name.partition("@")[0] in ("fmr", "fnmr", "tpr"):
            yield name, cells.index(of[1])


def _alike(a: Partition, b: Partition, *, listed: bool) -> bool:
    """Whether two reports part the same comparisons in the same cells."""
    fields = ["names", "genuine", *(["impostor"] if listed else ["impostors", "left", "right"])]
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields)


def _model(
    outcomes: PairOutcomes | SetOutcomes, sample: ComparisonSample, partition: Partition
) -> _Model:
    """Put the people of a sample, which are by descending score, back into the outcomes' order."""
    genuine, impostor = scores_of(outcomes)
    g, i = (np.argsort(-score, kind="stable") for score in (genuine, impostor))
    place = np.arange(len(i)) if sample.place is None else sample.place
    return _Model(
        partition,
        genuine,
        impostor,
        subject=_unsorted(sample.genuine_subject, g),
        left=_unsorted(sample.left, i),
        right=_unsorted(sample.right, i),
        place=_unsorted(place, i),
    )


def _unsorted(values: Ints, order: Ints) -> Ints:
    out = np.empty_like(values)
    out[order] = values
    return out


def _genuine(
    models: tuple[_Model, _Model], cell: int, thresholds: tuple[float, float]
) -> tuple[Influence, Influence]:
    """Genuine pairs of a cell that each model accepts."""
    own = models[0].partition.genuine == cell
    who = models[0].subject[own]
    many = np.ones(len(who))
    before, after = (
        _influence(who, who, m.genuine[own] >= t, many)
        for m, t in zip(models, thresholds, strict=True)
    )
    return before, after


def _impostors(
    models: tuple[_Model, _Model], cell: int, thresholds: tuple[float, float]
) -> tuple[Influence, Influence]:
    """Impostor pairs of a cell that each model rejects: those that one of them accepts, and others.

    The others, which both reject and sets do not store, are spread over their people, half a pair
    to each.
    """
    accepted = []
    for m, t in zip(models, thresholds, strict=True):
        own = (m.partition.impostor == cell) & (m.impostor >= t)
        accepted.append((m.place[own], m.left[own], m.right[own]))
    places = np.concatenate([a[0] for a in accepted])
    place, first = np.unique(places, return_index=True)
    left, right = (np.concatenate([a[k] for a in accepted])[first] for k in (1, 2))
    rejected = [~np.isin(place, a[0]) for a in accepted]
    rest, many = _others(models[0], cell, left, right)
    left, right = np.append(left, rest), np.append(right, rest)
    count = np.append(np.ones(len(place)), many)
    before, after = (_influence(left, right, np.append(of, many), count) for of in rejected)
    return before, after


def _others(model: _Model, cell: int, left: Ints, right: Ints) -> tuple[Ints, Floats]:
    """Count half of each person's impostor pairs in a cell but these: people, and how many."""
    p = model.partition
    if p.impostors is None or p.left is None or p.right is None or p.side is None:
        own = p.impostor == cell
        of = np.bincount(np.append(model.left[own], model.right[own])).astype(np.float64)
    else:
        first, second = p.side[cell]
        a, b = p.left[first].astype(np.float64), p.right[second].astype(np.float64)
        of = a * (b.sum() - b) + b * (a.sum() - a)
        of *= 2 * p.impostors[cell] / (of.sum() or 1.0)
    of -= np.bincount(np.append(left, right), minlength=len(of))
    people = np.flatnonzero(of > 0)
    return people, of[people] / 2


def _influence(left: Ints, right: Ints, added: NDArray[Any], count: Floats) -> Influence:
    return Influence(
        left=left,
        right=right,
        added=added.astype(np.float64),
        count=count,
        subjects=int(max(left.max(initial=0), right.max(initial=0))) + 1,
    )
