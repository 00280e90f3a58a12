"""The pairs that a model finds hardest: where label errors show."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import EvalkitError
from evalkit.protocols.metrics.score_unit import SCORE, in_unit, score_unit
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SetOutcomes, parts_of
from evalkit.report import outcomes_of_strangers
from evalkit.types import Floats, Ints, Report

MOST = 12
_SIDE = 192  # pixels of a thumbnail, twice what is shown
_RowPairs = tuple[Floats, Ints]


@dataclass(frozen=True, slots=True)
class HardPair:
    """A comparison, its score as it was given, and where images are at hand both as data: URIs."""

    score: float
    left: str
    right: str
    left_image: str = ""
    right_image: str = ""


@dataclass(frozen=True, slots=True)
class Hardest:
    """The extreme pairs of one kind, the hardest first."""

    kind: str
    title: str
    explanation: str
    pairs: tuple[HardPair, ...]


@outcomes_of_strangers()
def hardest(
    report: Report, images: str | os.PathLike[str] | None = None, most: int = MOST
) -> list[Hardest]:
    """List the lowest genuine and the highest impostor pairs that the outcomes name by key."""
    o = parts_of(report.outcomes or {}).get("")
    if not isinstance(o, PairOutcomes | SetOutcomes) or o.keys is None:
        return []
    genuine, impostor = _pairs(o)
    unit = score_unit(report.provenance)
    least, most_alike = "lowest scores", "highest scores"
    if unit != SCORE:
        least, most_alike = f"largest {unit}s", f"smallest {unit}s"
    look = _Thumbnails(images, o.keys)
    return [
        Hardest(
            "hardest-genuine",
            "Hardest genuine pairs",
            f"Same person by label, {least}: hard images, or wrong labels.",
            _extreme(*genuine, o.keys, most, 1, look, unit),
        ),
        Hardest(
            "closest-impostors",
            "Closest impostor pairs",
            f"Different people by label, {most_alike}: look-alikes, or one person twice named.",
            _extreme(*impostor, o.keys, most, -1, look, unit),
        ),
    ]


def _pairs(o: PairOutcomes | SetOutcomes) -> tuple[_RowPairs, _RowPairs]:
    """Scores of genuine and of impostor pairs, with the two rows of each; none where not kept."""
    none = np.empty(0), np.empty((0, 2), np.int64)
    if isinstance(o, SetOutcomes):
        if o.genuine_rows is None or o.impostor_rows is None:
            return none, none
        return (o.genuine_score, o.genuine_rows), (o.impostor_score, o.impostor_rows)
    if o.left is None or o.right is None:
        return none, none
    genuine, rows = o.genuine.astype(bool), np.stack([o.left, o.right], axis=1)
    return (o.score[genuine], rows[genuine]), (o.score[~genuine], rows[~genuine])


def _extreme(
    score: NDArray[Any],
    rows: NDArray[Any],
    keys: NDArray[Any],
    most: int,
    sign: int,
    look: _Thumbnails,
    unit: str,
) -> tuple[HardPair, ...]:
    scored = np.flatnonzero(np.isfinite(score))
    best = scored[np.argsort(sign * score[scored], kind="stable")[:most]]
    pairs = []
    for k in best:
        a, b = (int(r) for r in rows[k])
        pairs.append(
            HardPair(in_unit(float(score[k]), unit), str(keys[a]), str(keys[b]), look(a), look(b))
        )
    return tuple(pairs)


class _Thumbnails:
    """Images by row of the manifest, as data: URIs; empty where there is none."""

    def __init__(self, images: str | os.PathLike[str] | None, keys: NDArray[Any]) -> None:
        self.keys = keys
        self.source = None
        if images is not None:
            from evalkit.images import find

            self.source = find(images)

    def __call__(self, row: int) -> str:
        if self.source is None:
            return ""
        from PIL import Image

        try:
            pixels = self.source.select([str(self.keys[row])]).read(0)
        except EvalkitError:
            return ""  # the page says which pair it is; a picture that is missing stays away
        image = Image.fromarray(pixels)
        image.thumbnail((_SIDE, _SIDE))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
