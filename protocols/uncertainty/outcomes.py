"""Outcomes of every comparison, as report.npz keeps them for intervals and paired tests.

Four kinds: of a list of pairs, of all pairs of one or two sets, of searches, and draws made
already.  Each field is an array of the file under its own name; where a report has several sets of
comparisons, "PART/array", as in "distractors=10/rank".  The file says its format and version;
one that does not is of version 1.  Beside the arrays stand `format`, `version` and `identity`, the
report's `SetIdentity` as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.types import Bools, Floats, Ints

FORMAT = "evalkit-outcomes"
VERSION = 2  # version 1 held the same arrays, and no version
READ = (1, 2)
Arrays = Mapping[str, NDArray[Any]]

_DRAWN = "drawn:"
# Marks the fields that say which comparisons were made, the same for every model.
_SHARED = {"shared": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOutcomes:
    """A list of P pairs, in its order.

    score : (P,) float64, -inf where the comparison failed.  genuine : (P,) bool.  left, right :
    (P,) rows; without them each comparison is of people of its own.  fold : (P,) from 0.
    left_subject, right_subject : (P,), -1 = unlabelled; without them rows joined by genuine
    pairs are one person.  decided : (P,) bool, whether the protocol's own threshold rule decided
    rightly; else the best threshold of the other folds decides.  keys : names of the rows.
    """

    score: Floats
    genuine: Bools = field(metadata=_SHARED)
    left: Ints | None = field(default=None, metadata=_SHARED)
    right: Ints | None = field(default=None, metadata=_SHARED)
    fold: Ints | None = field(default=None, metadata=_SHARED)
    left_subject: Ints | None = None
    right_subject: Ints | None = None
    decided: Bools | None = None
    keys: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcomes:
    """Searches of one gallery or several.

    rank, rank_subject : (Q,) rank of each probe's mate from 1, 0 = failed, and the probe's subject.
    Of open-set ones too: mate_score, mate_subject : (M,) score of each mate, -inf where it was
    outranked or failed; nonmate_score, nonmate_subject : (R,) best score of each probe without one;
    mate_gallery, nonmate_gallery : which gallery of several, from 0.
    """

    rank: Ints
    rank_subject: Ints = field(metadata=_SHARED)
    mate_score: Floats | None = None
    mate_subject: Ints | None = field(default=None, metadata=_SHARED)
    nonmate_score: Floats | None = None
    nonmate_subject: Ints | None = field(default=None, metadata=_SHARED)
    mate_gallery: Ints | None = field(default=None, metadata=_SHARED)
    nonmate_gallery: Ints | None = field(default=None, metadata=_SHARED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOutcomes:
    """All pairs of one or two sets: every genuine one, the impostors down to some score.

    genuine_score, genuine_subject : (G,).  impostor_score, impostor_left, impostor_right : (I,) the
    I highest of `impostors`, and the subject on each side.  left_images, right_images : (S,) images
    of each subject in the two sets; None where all impostors are stored.  genuine_rows : (G, 2),
    impostor_rows : (I, 2) which pairs these are, or impostor_place : (I,) by place in a list.
    sampled_* : the same of some of all impostors, drawn at random.  searches : made in the same
    sets, by the same numbers of subjects.  keys : names of the rows.
    """

    genuine_score: Floats
    genuine_subject: Ints = field(metadata=_SHARED)
    impostor_score: Floats
    impostor_left: Ints
    impostor_right: Ints
    left_images: Ints | None = field(default=None, metadata=_SHARED)
    right_images: Ints | None = field(default=None, metadata=_SHARED)
    impostors: int = field(metadata=_SHARED)
    genuine_rows: Ints | None = None
    impostor_rows: Ints | None = None
    impostor_place: Ints | None = None
    sampled_score: Floats | None = None
    sampled_left: Ints | None = None
    sampled_right: Ints | None = None
    sampled_rows: Ints | None = None
    sampled_place: Ints | None = None
    searches: SearchOutcomes | None = None
    keys: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnOutcomes:
    """Draws of subjects made already, where the comparisons are too many to keep.

    subject : (N,) of every row.  trials : digest of what was compared.  seed : of the draws.
    drawn : metric -> (draws,) its value in each.
    """

    subject: Ints = field(metadata=_SHARED)
    trials: NDArray[np.uint8] | None = field(default=None, metadata=_SHARED)
    seed: int | None = field(default=None, metadata=_SHARED)
    drawn: Mapping[str, Floats]


Outcomes = PairOutcomes | SetOutcomes | SearchOutcomes | DrawnOutcomes


def open_set(rank: Ints, mate: Floats, who: Ints, best: Floats, others: Ints) -> SearchOutcomes:
    """Keep searches for the mates of `who`, (Q,), and for none by `others`, (R,).

    rank, mate : (Q,) of each mate, which counts as found at rank 1 alone.  best : (R,) scores.
    """
    return SearchOutcomes(
        rank=rank,
        rank_subject=who,
        mate_score=np.where(rank == 1, mate, -np.inf),
        mate_subject=who,
        nonmate_score=best,
        nonmate_subject=others,
    )


def to_arrays(outcomes: Outcomes, part: str = "") -> dict[str, NDArray[Any]]:
    """Give every array its name in report.npz; of a part, "PART/array"."""
    by_name: dict[str, NDArray[Any]] = {}
    for f in fields(outcomes):
        value = getattr(outcomes, f.name)
        if isinstance(value, SearchOutcomes):
            by_name |= to_arrays(value)
        elif isinstance(value, Mapping):
            by_name |= {f"{_DRAWN}{metric}": drawn for metric, drawn in value.items()}
        elif value is not None:
            by_name[f.name] = np.asarray(value)
    return {f"{part}/{name}": array for name, array in by_name.items()} if part else by_name


def from_arrays(arrays: Arrays) -> Outcomes:
    """Read the arrays of one part; ProtocolError where they are of no kind, or one is missing."""
    outcomes = _read(arrays)
    if outcomes is None:
        raise ProtocolError(f"outcomes hold {', '.join(arrays) or 'nothing'}: nothing to resample")
    return outcomes


def parts_of(arrays: Arrays) -> dict[str, Outcomes]:
    """Read the arrays of a report by part, "" where names have none; others are passed over.

    >>> rank, who = np.ones(1, int), np.zeros(1, int)
    >>> list(parts_of({"distractors=10/rank": rank, "distractors=10/rank_subject": who}))
    ['distractors=10']
    """
    by_part: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        part, _, alone = name.rpartition("/")
        by_part.setdefault(part, {})[alone] = array
    read = {part: _read(of_part) for part, of_part in by_part.items()}
    return {part: outcomes for part, outcomes in read.items() if outcomes is not None}


def holds_searches(outcomes: Outcomes) -> bool:
    """Whether rank-k and TPIR can be drawn of them."""
    if isinstance(outcomes, SetOutcomes):
        return outcomes.searches is not None
    return isinstance(outcomes, SearchOutcomes)


def shared(outcomes: Outcomes) -> dict[str, NDArray[Any]]:
    """Arrays that say which comparisons were made, whichever model made them, by name."""
    by_name: dict[str, NDArray[Any]] = {}
    for f in fields(outcomes):
        value = getattr(outcomes, f.name)
        if isinstance(value, SearchOutcomes):
            by_name |= shared(value)
        elif f.metadata.get("shared") and value is not None:
            by_name[f.name] = np.asarray(value)
    return by_name


def _read(arrays: Arrays) -> Outcomes | None:
    """Read the arrays of one part as the kind that they are of; None where of none."""
    if "score" in arrays:
        return PairOutcomes(**_fields(PairOutcomes, arrays))
    searches = SearchOutcomes(**_fields(SearchOutcomes, arrays)) if "rank" in arrays else None
    if "genuine_score" in arrays:
        columns = _fields(SetOutcomes, arrays)
        return SetOutcomes(
            **{**columns, "impostors": int(columns["impostors"]), "searches": searches}
        )
    drawn = {n.removeprefix(_DRAWN): array for n, array in arrays.items() if n.startswith(_DRAWN)}
    if searches is None and drawn and "subject" in arrays:
        return DrawnOutcomes(
            subject=arrays["subject"],
            trials=arrays.get("trials"),
            seed=int(arrays["seed"]) if "seed" in arrays else None,
            drawn=drawn,
        )
    return searches


def _fields(kind: type[Outcomes], arrays: Arrays) -> dict[str, Any]:
    required = [f.name for f in fields(kind) if f.default is MISSING]
    if missing := [name for name in required if name not in arrays]:
        raise ProtocolError(f"outcomes hold {', '.join(arrays)}: without {', '.join(missing)}")
    return {f.name: arrays[f.name] for f in fields(kind) if f.name in arrays}
