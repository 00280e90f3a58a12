"""What a report's outcomes hold for resampling: scores, with the subject on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.protocols.kfold import decisions

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Outcomes = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one model decided, with the subject on each side of every comparison.

    genuine : (G,) scores, descending; genuine_subject : (G,) from 0 to S-1.
    impostor : (I,) the I highest impostor scores of `impostors`, descending; left, right : (I,).
    left_images, right_images : (S,) images of each subject in the two sets compared (the same
    array for a set with itself); None where all impostor pairs are stored (I = impostors).
    order : (G+I,) place in the pair list of each genuine, then of each impostor comparison.
    decided, fold : (P,) in list order, whether cross-validation decided the pair rightly; its fold.
    rank, rank_subject : (Q,) rank of each probe's mate (0 = failed) and the probe's subject.
    subjects : S.
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
    order: Ints | None = None
    decided: NDArray[np.bool_] | None = None
    fold: Ints | None = None
    rank: Ints | None = None
    rank_subject: Ints | None = None


def sample_of(outcomes: Outcomes) -> Sample:
    """Read a report's outcomes as a sample; ProtocolError where they hold nothing to resample.

    A pair list: score, genuine, left, right (P,), with left_subject, right_subject (-1 = nobody's
    mate), fold and decided (rightly, by the protocol's own threshold rule; else the best threshold
    of the other folds) where known.  Without subjects, rows joined by genuine pairs are one person.
    All pairs of one or two sets: genuine_score, genuine_subject, impostor_score, impostor_left,
    impostor_right (subjects), left_images, right_images, impostors ().
    Searches, beside these or alone: rank, rank_subject (Q,).
    """
    if "score" in outcomes:
        return _sample_of_pairs(outcomes)
    if "genuine_score" in outcomes:
        return _sample_of_sets(outcomes)
    if "rank" in outcomes:
        nothing, nobody = np.empty(0), np.empty(0, np.int64)
        subject = np.unique(outcomes["rank_subject"], return_inverse=True)[1]
        return Sample(
            subjects=int(subject.max(initial=-1)) + 1,
            genuine=nothing,
            genuine_subject=nobody,
            impostor=nothing,
            left=nobody,
            right=nobody,
            impostors=0,
            rank=outcomes["rank"],
            rank_subject=subject,
        )
    raise ProtocolError(f"outcomes hold {', '.join(outcomes) or 'nothing'}: nothing to resample")


def _sample_of_pairs(outcomes: Outcomes) -> Sample:
    score, genuine = outcomes["score"], outcomes["genuine"].astype(bool)
    a, b = outcomes["left"], outcomes["right"]
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
        order=np.concatenate([g, i]),
        decided=_decided(outcomes, score, genuine),
        fold=np.unique(outcomes["fold"], return_inverse=True)[1] if "fold" in outcomes else None,
    )


def _sample_of_sets(outcomes: Outcomes) -> Sample:
    g = np.argsort(-outcomes["genuine_score"], kind="stable")
    i = np.argsort(-outcomes["impostor_score"], kind="stable")
    left_images = np.asarray(outcomes["left_images"], np.float64)
    return Sample(
        subjects=len(left_images),
        genuine=outcomes["genuine_score"][g],
        genuine_subject=outcomes["genuine_subject"][g].astype(np.intp),
        impostor=outcomes["impostor_score"][i],
        left=outcomes["impostor_left"][i].astype(np.intp),  # what gathers fastest
        right=outcomes["impostor_right"][i].astype(np.intp),
        impostors=int(outcomes["impostors"]),
        left_images=left_images,
        right_images=np.asarray(outcomes["right_images"], np.float64),
        rank=outcomes.get("rank"),
        rank_subject=outcomes.get("rank_subject"),
    )


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
