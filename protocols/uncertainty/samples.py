"""What a report's outcomes hold for resampling: scores, with the subject on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Outcomes = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Searches:
    """Open-set searches of one gallery, both kinds by descending score.

    mate : (Q,) score of each probe's mate, -inf where it was outranked or failed; mate_subject :
    (Q,) the probe's subject.  nonmate : (R,) best score of each probe without a mate enrolled;
    nonmate_subject : (R,).
    """

    mate: Floats
    mate_subject: Ints
    nonmate: Floats
    nonmate_subject: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one model decided, with the subject on each side of every comparison.

    genuine : (G,) scores, descending; genuine_subject : (G,) from 0 to S-1.
    impostor : (I,) the I highest impostor scores of `impostors`, descending; left, right : (I,).
    left_images, right_images : (S,) images of each subject in the two sets compared (the same
    array for a set with itself); None where all impostor pairs are stored (I = impostors).
    place : (I,) what tells each impostor comparison from all others, whichever model scored it.
    order : (G+I,) place in the pair list of each genuine, then of each impostor comparison.
    decided, fold : (P,) in list order, whether cross-validation decided the pair rightly; its fold.
    rank, rank_subject : (Q,) rank of each probe's mate (0 = failed) and the probe's subject.
    searches : of each gallery.
    thinned : the same with some of all impostors at random, for FARs that the stored ones do not
    reach.
    drawn : metric -> (draws,) drawn already, where the comparisons are too many to keep.
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
    place: Ints | None = None
    order: Ints | None = None
    decided: NDArray[np.bool_] | None = None
    fold: Ints | None = None
    rank: Ints | None = None
    rank_subject: Ints | None = None
    searches: tuple[Searches, ...] = ()
    thinned: Sample | None = None
    drawn: Mapping[str, Floats] = field(default_factory=dict)
    unit: Literal["subject", "comparison"] = "subject"


def parts_of(outcomes: Outcomes) -> dict[str, Outcomes]:
    """Split outcomes of several sets of comparisons, "PART/array", by part; all others are "".

    >>> parts_of({"distractors=10/rank": np.ones(1)}).keys()
    dict_keys(['distractors=10'])
    """
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for name, column in outcomes.items():
        part, _, array = name.rpartition("/")
        found.setdefault(part, {})[array] = column
    return dict(found)
