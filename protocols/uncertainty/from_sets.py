"""All-pairs outcomes for intervals: genuine scores, impostor tail, image counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evalkit.protocols.allpairs import Engine, Pairs, Rows, exact, genuine_pairs, top_impostors
from evalkit.protocols.metrics import false_accepts_allowed
from evalkit.protocols.uncertainty.columns import images_of, named
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, SetOutcomes
from evalkit.types import Floats, Ints

# Impostor pairs kept at most: beyond it a FAR is so high that its outcomes would fill the disk,
# and so many are above its threshold that some, drawn at random, tell how it varies.
LONGEST_TAIL = 2_000_000
SAMPLED = 500_000


def set_outcomes(
    x: Rows,
    subject: Ints,
    y: Rows | None = None,
    y_subject: Ints | None = None,
    *,
    fars: Sequence[str],
    genuine: tuple[Ints, Floats] | None = None,
    ranks: tuple[Ints, Ints] | None = None,
    searches: tuple[Floats, Ints, Floats, Ints] | None = None,
    top: Pairs | None = None,
    longest: int = LONGEST_TAIL,
    sampled: int = SAMPLED,
    engine: Engine | None = None,
) -> SetOutcomes:
    """Collect what `intervals.with_intervals` and paired tests need of all pairs of x and y.

    x : (N, D) unit rows with subject : (N,), -1 = unlabelled; y the same, or None for x with
    itself.  fars : those reported.  Kept are every genuine pair's score and the impostors down to
    about twice the false accepts that the highest FAR allows; where one needs more than `longest`,
    also `sampled` impostor pairs at random, the same for every model.  genuine : (G, 2) rows
    of x and (G,) scores, where genuine pairs are not those between x and y.  ranks : (Q,) rank of
    each probe's mate and the probe's row of x, where searches were made too.  searches : where
    these are open-set, score of each mate (-inf where it was outranked) and its probe's row of x,
    best score of each probe without one and its row.  top : the `tail_length` highest impostor
    pairs, where a pass has found them already.  engine : options of `evalkit.protocols.allpairs`.
    """
    a, b = numbered_people(subject, None if y is None else y_subject)
    people = int(max(a.max(initial=-1), b.max(initial=-1))) + 1
    left_images, right_images = (images_of(s, people) for s in (a, b))
    i, j = genuine_pairs(subject, None if y is None else y_subject)
    pairs = len(a) * (len(a) - 1) // 2 if y is None else len(a) * len(b)
    impostors = pairs - len(i)
    if top is None:
        tail = tail_length(fars, impostors, longest)
        top = top_impostors(x, subject, y, y_subject, count=tail, engine=engine)
    if genuine is None:
        score = exact(x, i, x if y is None else y, j, engine)
        genuine = np.stack([i, j], axis=1), score
    rows, score = genuine
    outcomes = SetOutcomes(
        genuine_score=score,
        genuine_subject=named(a, rows[:, 0]).astype(np.int32, copy=False),
        impostor_score=top.score,
        impostor_left=a[top.i].astype(np.int32),
        impostor_right=b[top.j].astype(np.int32),
        genuine_rows=rows.astype(np.int32, copy=False),
        impostor_rows=np.stack([top.i, top.j], axis=1).astype(np.int32),
        left_images=left_images,
        right_images=right_images,
        impostors=impostors,
        searches=None if ranks is None else _searches(a, ranks, searches),
    )
    if max(_needed(fars, impostors), default=0) <= longest:
        return outcomes
    p, q = _random_impostors(a, None if y is None else b, sampled)
    return replace(
        outcomes,
        sampled_score=exact(x, p, x if y is None else y, q, engine),
        sampled_left=a[p].astype(np.int32),
        sampled_right=b[q].astype(np.int32),
        sampled_rows=np.stack([p, q], axis=1).astype(np.int32),
    )


def numbered_people(subject: Ints, y_subject: Ints | None = None) -> tuple[Ints, Ints]:
    """Give numbers to the people of both sides from 0, as outcomes name them: (N,), (M,).

    An unlabelled row, -1, is a person of its own; these come first, the last row's before all, then
    people by rising subject.  int32 where that is enough.  y_subject : None for a set with itself,
    whose sides are the same.
    """
    sides = [np.asarray(side) for side in (subject, y_subject) if side is not None]
    labelled = [side >= 0 for side in sides]
    known = [side[of] for side, of in zip(sides, labelled, strict=True)]
    rows = sum(map(len, sides))
    kind: Any = np.int32 if rows < 2**31 else np.int64
    own: Ints = np.arange(rows - sum(map(len, known)), dtype=kind)[::-1]
    ids: Ints = (np.unique(np.concatenate(known), return_inverse=True)[1] + len(own)).astype(kind)
    numbers = []
    for of in labelled:
        number, few = np.empty(len(of), kind), np.count_nonzero(of)
        number[of], number[~of] = ids[:few], own[: len(of) - few]
        ids, own = ids[few:], own[len(of) - few :]
        numbers.append(number)
    return numbers[0], numbers[-1]


def _searches(
    subject: Ints, ranks: tuple[Ints, Ints], searches: tuple[Floats, Ints, Floats, Ints] | None
) -> SearchOutcomes:
    """Name the subject of each search by its row."""
    outcomes = SearchOutcomes(rank=ranks[0], rank_subject=named(subject, ranks[1]))
    if searches is None:
        return outcomes
    mate, mate_row, nonmate, nonmate_row = searches
    return replace(
        outcomes,
        mate_score=mate,
        mate_subject=outcomes.rank_subject if mate_row is ranks[1] else named(subject, mate_row),
        nonmate_score=nonmate,
        nonmate_subject=subject[nonmate_row],
    )


def tail_length(fars: Sequence[str], impostors: int, longest: int = LONGEST_TAIL) -> int:
    """How many of the highest impostor pairs intervals need, for the FARs that do not need more."""
    return max((k for k in _needed(fars, impostors) if k <= longest), default=0)


def _needed(fars: Sequence[str], impostors: int) -> list[int]:
    return [min(2 * false_accepts_allowed(far, impostors) + 100, impostors) for far in fars]


def _random_impostors(a: Ints, b: Ints | None, count: int) -> tuple[Ints, Ints]:
    """Draw `count` impostor pairs, rows i of a and j of b (or i < j of a), with replacement."""
    rng = np.random.default_rng(0)
    i, j = np.empty(0, np.int64), np.empty(0, np.int64)
    while len(i) < count:
        p, q = rng.integers(0, len(a), count), rng.integers(0, len(a if b is None else b), count)
        if b is None:
            p, q = np.minimum(p, q), np.maximum(p, q)
        other = a[p] != (a if b is None else b)[q]
        i, j = np.append(i, p[other]), np.append(j, q[other])
    return i[:count], j[:count]
