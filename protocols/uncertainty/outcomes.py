"""A report's outcomes read as a sample: who was compared, by descending score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.kfold import decisions
from evalkit.protocols.uncertainty.samples import Floats, Ints, Outcomes, Sample, Searches

DRAWN = "drawn:"


def sample_of(outcomes: Outcomes) -> Sample:
    """Read a report's outcomes as a sample; ProtocolError where they hold nothing to resample.

    A pair list: score, genuine, left, right (P,), with left_subject, right_subject (-1 = nobody's
    mate), fold and decided (rightly, by the protocol's own threshold rule; else the best threshold
    of the other folds) where known.  Without subjects, rows joined by genuine pairs are one person;
    without rows either, each comparison is of people of its own (`unit`).
    All pairs of one or two sets: genuine_score, genuine_subject, impostor_score, impostor_left,
    impostor_right (subjects), impostors (), and left_images, right_images unless all are listed;
    impostor_rows (I, 2) or impostor_place (I,) say which pairs these are.  sampled_* : the same of
    some of all impostors, drawn at random.
    Searches, beside these or alone: rank, rank_subject (Q,); open-set ones as `searches_of`.
    Draws made already: "drawn:METRIC" (draws,), with the subject of every row.
    """
    if "score" in outcomes:
        return _sample_of_pairs(outcomes)
    if "genuine_score" in outcomes:
        return _sample_of_sets(outcomes)
    if "rank" in outcomes:
        return _sample_of_searches(outcomes)
    drawn = {
        name.removeprefix(DRAWN): outcomes[name] for name in outcomes if name.startswith(DRAWN)
    }
    if drawn and "subject" in outcomes:
        return _without_comparisons(len(np.unique(outcomes["subject"])), drawn=drawn)
    raise ProtocolError(f"outcomes hold {', '.join(outcomes) or 'nothing'}: nothing to resample")


def _sample_of_searches(outcomes: Outcomes) -> Sample:
    names = [n for n in ("rank_subject", "mate_subject", "nonmate_subject") if n in outcomes]
    every = np.concatenate([outcomes[n] for n in names])
    seen, ids = np.unique(every, return_inverse=True)
    parts = np.split(ids, np.cumsum([len(outcomes[n]) for n in names])[:-1])
    renamed = {**outcomes, **dict(zip(names, parts, strict=True))}
    return _without_comparisons(
        len(seen),
        rank=renamed["rank"],
        rank_subject=renamed["rank_subject"],
        searches=searches_of(renamed),
    )


def _without_comparisons(subjects: int, **held: Any) -> Sample:
    nothing, nobody = np.empty(0), np.empty(0, np.int64)
    return Sample(
        subjects=subjects,
        genuine=nothing,
        genuine_subject=nobody,
        impostor=nothing,
        left=nobody,
        right=nobody,
        impostors=0,
        **held,
    )


def searches_of(outcomes: Outcomes) -> tuple[Searches, ...]:
    """Read open-set searches: mate_score, mate_subject (Q,), nonmate_score, nonmate_subject (R,).

    Of several galleries, mate_gallery and nonmate_gallery say which, from 0.
    """
    if "mate_score" not in outcomes:
        return ()
    one = np.zeros(1, np.int64)
    mate = np.broadcast_to(outcomes.get("mate_gallery", one), outcomes["mate_score"].shape)
    non = np.broadcast_to(outcomes.get("nonmate_gallery", one), outcomes["nonmate_score"].shape)
    found = []
    for gallery in np.unique(np.concatenate([mate, non])):
        m, r = np.flatnonzero(mate == gallery), np.flatnonzero(non == gallery)
        m = m[np.argsort(-outcomes["mate_score"][m], kind="stable")]
        r = r[np.argsort(-outcomes["nonmate_score"][r], kind="stable")]
        found.append(
            Searches(
                mate=outcomes["mate_score"][m],
                mate_subject=outcomes["mate_subject"][m],
                nonmate=outcomes["nonmate_score"][r],
                nonmate_subject=outcomes["nonmate_subject"][r],
            )
        )
    return tuple(found)


def _sample_of_pairs(outcomes: Outcomes) -> Sample:
    score, genuine = outcomes["score"], outcomes["genuine"].astype(bool)
    strangers = np.arange(2 * len(score))
    known = "left" in outcomes
    a, b = (outcomes["left"], outcomes["right"]) if known else (strangers[::2], strangers[1::2])
    if "left_subject" in outcomes:
        left, right = outcomes["left_subject"], outcomes["right_subject"]
        left, right = np.where(left < 0, -1 - a, left), np.where(right < 0, -1 - b, right)
    else:
        person = people_of_pairs(a, b, genuine)
        left, right = person[a], person[b]
    seen, ids = np.unique(np.concatenate([left, right]), return_inverse=True)
    left, right = ids[: len(a)], ids[len(a) :]
    order = np.argsort(-score, kind="stable")
    g, i = order[genuine[order]], order[~genuine[order]]
    return Sample(
        subjects=len(seen),
        genuine=score[g],
        genuine_subject=left[g],
        impostor=score[i],
        left=left[i],
        right=right[i],
        impostors=len(i),
        place=i,
        order=np.concatenate([g, i]),
        decided=_decided(outcomes, score, genuine),
        fold=np.unique(outcomes["fold"], return_inverse=True)[1] if "fold" in outcomes else None,
        unit="subject" if known else "comparison",
    )


def _sample_of_sets(outcomes: Outcomes) -> Sample:
    images = [
        np.asarray(outcomes[name], np.float64) if name in outcomes else None
        for name in ("left_images", "right_images")
    ]
    listed = [outcomes[n] for n in ("genuine_subject", "impostor_left", "impostor_right")]
    subjects = int(np.concatenate(listed).max(initial=-1)) + 1
    g = np.argsort(-outcomes["genuine_score"], kind="stable")
    stored = Sample(
        subjects=subjects if images[0] is None else len(images[0]),
        genuine=outcomes["genuine_score"][g],
        genuine_subject=outcomes["genuine_subject"][g].astype(np.intp),
        **_impostors(outcomes, "impostor"),
        impostors=int(outcomes["impostors"]),
        left_images=images[0],
        right_images=images[1],
        rank=outcomes.get("rank"),
        rank_subject=outcomes.get("rank_subject"),
        searches=searches_of(outcomes),
    )
    if "sampled_score" not in outcomes:
        return stored
    some, n = _impostors(outcomes, "sampled"), len(outcomes["sampled_score"])
    whole = replace(stored, **some, impostors=n, left_images=None, right_images=None)
    return replace(stored, thinned=whole)


def _impostors(outcomes: Outcomes, kind: str) -> dict[str, Any]:
    """Read impostor pairs by descending score, subjects as what gathers fastest."""
    i = np.argsort(-outcomes[f"{kind}_score"], kind="stable")
    place = outcomes.get(f"{kind}_place")
    if f"{kind}_rows" in outcomes:
        rows = outcomes[f"{kind}_rows"].astype(np.int64)
        place = rows[:, 0] << 32 | rows[:, 1]
    return {
        "impostor": outcomes[f"{kind}_score"][i],
        "left": outcomes[f"{kind}_left"][i].astype(np.intp),
        "right": outcomes[f"{kind}_right"][i].astype(np.intp),
        "place": None if place is None else place[i],
    }


def people_of_pairs(left: Ints, right: Ints, genuine: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Name the person of each row: rows joined by a chain of genuine pairs are one person."""
    person = np.arange(max(left.max(initial=-1), right.max(initial=-1)) + 1)
    a, b = left[genuine], right[genuine]
    while (person[a] != person[b]).any():
        low = np.minimum(person[a], person[b])
        np.minimum.at(person, a, low)
        np.minimum.at(person, b, low)
        person = person[person]
    return person


def _decided(
    outcomes: Outcomes, score: Floats, genuine: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    if "decided" in outcomes:
        return outcomes["decided"].astype(bool)
    return decisions(score, genuine, outcomes["fold"]) if "fold" in outcomes else None
