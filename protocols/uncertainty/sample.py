"""Comparisons by descending score, as resampling draws them, with the subject on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.metrics.kfold import decisions
from evalkit.protocols.uncertainty.columns import falling, shortly_named
from evalkit.protocols.uncertainty.outcomes import (
    Arrays,
    Outcomes,
    PairOutcomes,
    SearchOutcomes,
    SetOutcomes,
    from_arrays,
)
from evalkit.protocols.uncertainty.uncompared import taken_together
from evalkit.types import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Searches:
    """Open-set searches of one gallery.

    mate : (Q,) score of each probe's mate, -inf where it was outranked or failed; mate_subject :
    (Q,) the probe's subject; both as outcomes hold them, without a copy.  nonmate : (R,) best score
    of each probe without a mate enrolled, descending; nonmate_subject : (R,).
    """

    mate: Floats
    mate_subject: Ints
    nonmate: Floats
    nonmate_subject: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSample:
    """Comparisons of one model, with the subject on each side of every comparison.

    genuine : (G,) scores, descending; genuine_subject : (G,) from 0 to S-1.
    impostor : (I,) the I highest impostor scores of `impostors`, descending; left, right : (I,).
    left_images, right_images : (S,) images of each subject in the two sets compared (the same
    array for a set with itself); None where all impostor pairs are stored (I = impostors).
    complete_above : every impostor pair that scores above it is stored; None where that is the
    lowest stored score.
    place : (I,) id of each impostor comparison, equal across models.
    order : (G+I,) place in the pair list of each genuine, then of each impostor comparison.
    decided, fold : (P,) in list order, whether cross-validation decided the pair rightly; its fold.
    rank, rank_subject : (Q,) rank of each probe's mate (0 = failed) and the probe's subject.
    searches : of each gallery.
    thinned : the same with some of all impostors at random, for AUC, EER and FARs that the stored
    ones do not reach.
    drawn : metric -> (draws,) drawn already, where the comparisons are too many to keep.
    alike : (S,) how many people each number stands for, who are in no comparison and have as many
    images (`uncompared`); None where everybody has a number.
    subjects : S.  unit : what is drawn; "comparison" where nobody knows who is in them, so that
    each is of people of its own.
    """

    subjects: int
    genuine: Floats
    genuine_subject: Ints
    impostor: Floats
    left: Ints
    right: Ints
    impostors: int
    left_images: Floats | None = None
    right_images: Floats | None = None
    complete_above: float | None = None
    place: Ints | None = None
    order: Ints | None = None
    decided: Bools | None = None
    fold: Ints | None = None
    rank: Ints | None = None
    rank_subject: Ints | None = None
    searches: tuple[Searches, ...] = ()
    thinned: ComparisonSample | None = None
    drawn: Mapping[str, Floats] = field(default_factory=dict)
    alike: Ints | None = None
    unit: Literal["subject", "comparison"] = "subject"


def sample_of(outcomes: Outcomes | Arrays, *, together: bool = False) -> ComparisonSample:
    """Sort outcomes, or the arrays of a report with one part, for resampling.

    together : people in no comparison have one number for many of them (`uncompared`).
    """
    held = from_arrays(outcomes) if isinstance(outcomes, Mapping) else outcomes
    if isinstance(held, PairOutcomes):
        return _of_pairs(held)
    if isinstance(held, SetOutcomes):
        return _of_sets(*(taken_together(held) if together else (held, None)))
    if isinstance(held, SearchOutcomes):
        return _of_searches(held)
    return _without_comparisons(len(np.unique(held.subject)), drawn=held.drawn)


def _of_pairs(outcomes: PairOutcomes) -> ComparisonSample:
    """Sort the pairs by score, with the person on each side."""
    score, genuine, fold = outcomes.score, outcomes.genuine.astype(bool), outcomes.fold
    left, right = _people(outcomes, genuine)
    seen, ids = np.unique(np.concatenate([left, right]), return_inverse=True)
    left, right = ids[: len(score)], ids[len(score) :]
    order = np.argsort(-score, kind="stable")
    g, i = order[genuine[order]], order[~genuine[order]]
    decided = None if outcomes.decided is None else outcomes.decided.astype(bool)
    if decided is None and fold is not None:
        decided = decisions(score, genuine, fold)
    return ComparisonSample(
        subjects=len(seen),
        genuine=score[g],
        genuine_subject=left[g],
        impostor=score[i],
        left=left[i],
        right=right[i],
        impostors=len(i),
        place=i,
        order=np.concatenate([g, i]),
        decided=decided,
        fold=None if fold is None else np.unique(fold, return_inverse=True)[1],
        unit="comparison" if outcomes.left is None else "subject",
    )


def genuine_by_subject(outcomes: Outcomes) -> tuple[Floats, Ints]:
    """Score and subject of each genuine comparison, (G,) each; empty where nobody knows who."""
    if isinstance(outcomes, SetOutcomes):
        return outcomes.genuine_score, outcomes.genuine_subject
    if not isinstance(outcomes, PairOutcomes) or outcomes.left is None:
        return np.empty(0), np.empty(0, np.int64)
    genuine = outcomes.genuine.astype(bool)
    return outcomes.score[genuine], _people(outcomes, genuine)[0][genuine]


def _people(outcomes: PairOutcomes, genuine: Bools) -> tuple[Ints, Ints]:
    """Person on each side of every pair, (P,) each; below zero the unlabelled ones."""
    a, b = outcomes.left, outcomes.right
    if a is None or b is None:
        strangers = np.arange(2 * len(outcomes.score))
        a, b = strangers[::2], strangers[1::2]
    if outcomes.left_subject is None or outcomes.right_subject is None:
        person = people_of_pairs(a, b, genuine)
        return person[a], person[b]
    left, right = outcomes.left_subject, outcomes.right_subject
    return np.where(left < 0, -1 - a, left), np.where(right < 0, -1 - b, right)


def _of_sets(outcomes: SetOutcomes, alike: Ints | None) -> ComparisonSample:
    """Sort genuine and impostor pairs by score; those drawn at random as `thinned`."""
    left_images, right_images = (
        None if images is None else np.asarray(images, np.float64)
        for images in (outcomes.left_images, outcomes.right_images)
    )
    listed = outcomes.genuine_subject, outcomes.impostor_left, outcomes.impostor_right
    subjects = 1 + max(int(who.max(initial=-1)) for who in listed)
    genuine, who = falling(outcomes.genuine_score, outcomes.genuine_score, outcomes.genuine_subject)
    ranked = outcomes.searches
    stored = ComparisonSample(
        subjects=subjects if left_images is None else len(left_images),
        genuine=genuine,
        genuine_subject=who,
        **_impostors(outcomes, "impostor"),
        impostors=outcomes.impostors,
        left_images=left_images,
        right_images=right_images,
        alike=alike,
        rank=None if ranked is None else ranked.rank,
        rank_subject=None if ranked is None else ranked.rank_subject,
        searches=() if ranked is None else _by_gallery(ranked),
    )
    if outcomes.sampled_score is None:
        return stored
    some, n = _impostors(outcomes, "sampled"), len(outcomes.sampled_score)
    whole = replace(stored, **some, impostors=n, left_images=None, right_images=None)
    return replace(stored, thinned=whole)


def _impostors(outcomes: SetOutcomes, kind: str) -> dict[str, Any]:
    """Impostor pairs by descending score, subjects as what gathers fastest."""
    score, left, right, rows, place = (
        getattr(outcomes, f"{kind}_{name}") for name in ("score", "left", "right", "rows", "place")
    )
    i = np.argsort(-score, kind="stable")
    if rows is not None:
        rows = rows.astype(np.int64)
        place = rows[:, 0] << 32 | rows[:, 1]
    return {
        "impostor": score[i],
        "left": left[i].astype(np.intp),
        "right": right[i].astype(np.intp),
        "place": None if place is None else place[i],
    }


def _of_searches(outcomes: SearchOutcomes) -> ComparisonSample:
    """Give the people of the searches numbers from 0, and sort each gallery's by score."""
    names = ("rank_subject", "mate_subject", "nonmate_subject")
    subjects = {
        name: getattr(outcomes, name) for name in names if getattr(outcomes, name) is not None
    }
    seen, ids = np.unique(np.concatenate([*subjects.values()]), return_inverse=True)
    parts = np.split(ids, np.cumsum([len(who) for who in subjects.values()])[:-1])
    new: dict[str, Any] = dict(zip(subjects, parts, strict=True))
    renamed = replace(outcomes, **new)
    return _without_comparisons(
        len(seen),
        rank=outcomes.rank,
        rank_subject=renamed.rank_subject,
        searches=_by_gallery(renamed),
    )


def _by_gallery(outcomes: SearchOutcomes) -> tuple[Searches, ...]:
    """Part the open-set searches by gallery, nonmates by descending score; () without any."""
    mates, nonmates = outcomes.mate_score, outcomes.nonmate_score
    mate_of, nonmate_of = outcomes.mate_subject, outcomes.nonmate_subject
    if mates is None or nonmates is None or mate_of is None or nonmate_of is None:
        return ()
    mate, non = outcomes.mate_gallery, outcomes.nonmate_gallery
    if mate is None and non is None:
        return (
            (_falling(mates, mate_of, nonmates, nonmate_of),) if len(mates) + len(nonmates) else ()
        )
    mate, non = (
        np.zeros(len(score), np.int8) if gallery is None else gallery
        for gallery, score in ((mate, mates), (non, nonmates))
    )
    each = ((mate == g, non == g) for g in np.unique(np.concatenate([mate, non])))
    return tuple(_falling(mates[m], mate_of[m], nonmates[r], nonmate_of[r]) for m, r in each)


def _falling(mate: Floats, mate_of: Ints, nonmate: Floats, nonmate_of: Ints) -> Searches:
    """Sort the nonmates of one gallery by descending score."""
    nonmate, nonmate_of = falling(nonmate, nonmate, nonmate_of)
    return Searches(mate=mate, mate_subject=mate_of, nonmate=nonmate, nonmate_subject=nonmate_of)


def renumbered(sample: ComparisonSample, order: Ints) -> ComparisonSample:
    """Give the people other numbers: `order`, (S,), lists the present ones by the new.

    The random part shares all but its impostors with the sample, before and after.
    """
    number: Ints = np.empty_like(order)
    number[order] = np.arange(len(order))
    # Genuine pairs and searches are many, of people with low numbers; other pairs as what gathers
    # fastest.
    ranked = None if sample.rank_subject is None else shortly_named(number, sample.rank_subject)
    new = replace(
        sample,
        genuine_subject=shortly_named(number, sample.genuine_subject),
        left=number[sample.left],
        right=number[sample.right],
        left_images=None if sample.left_images is None else sample.left_images[order],
        right_images=None if sample.right_images is None else sample.right_images[order],
        alike=None if sample.alike is None else sample.alike[order],
        rank_subject=ranked,
        searches=tuple(
            replace(
                s,
                mate_subject=ranked
                if ranked is not None and s.mate_subject is sample.rank_subject
                else shortly_named(number, s.mate_subject),
                nonmate_subject=shortly_named(number, s.nonmate_subject),
            )
            for s in sample.searches
        ),
    )
    some = sample.thinned
    if some is None:
        return new
    whole = replace(
        new,
        impostor=some.impostor,
        left=number[some.left],
        right=number[some.right],
        impostors=some.impostors,
        left_images=None,
        right_images=None,
        place=some.place,
        thinned=None,
    )
    return replace(new, thinned=whole)


def people_of_pairs(left: Ints, right: Ints, genuine: Bools) -> NDArray[np.int64]:
    """Name the person of each row: rows joined by a chain of genuine pairs are one person."""
    person = np.arange(max(left.max(initial=-1), right.max(initial=-1)) + 1)
    a, b = left[genuine], right[genuine]
    while (person[a] != person[b]).any():
        low = np.minimum(person[a], person[b])
        np.minimum.at(person, a, low)
        np.minimum.at(person, b, low)
        person = person[person]
    return person


def _without_comparisons(subjects: int, **held: Any) -> ComparisonSample:
    nothing, nobody = np.empty(0), np.empty(0, np.int64)
    return ComparisonSample(
        subjects=subjects,
        genuine=nothing,
        genuine_subject=nobody,
        impostor=nothing,
        left=nobody,
        right=nobody,
        impostors=0,
        **held,
    )
