"""MegaFace's noise lists, and the two published ways to clean features by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import labels
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.similarity import failed, normalise

CleaningRule = Literal["insightface", "facex"]


@dataclass(frozen=True, slots=True)
class Noises:
    """Images known to be wrong, and whose ways of cleaning them are followed (see `clean`).

    probe : (P,) bool.  distractor : (N,) bool for each set of distractors, by its name.
    """

    rules: Sequence[CleaningRule]
    probe: NDArray[np.bool_]
    distractor: Mapping[str, NDArray[np.bool_]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "probe", labels(self.probe, "probe"))
        flags = {name: labels(noisy, name) for name, noisy in self.distractor.items()}
        object.__setattr__(self, "distractor", flags)


def clean(
    probe: NDArray[Any],
    subject: NDArray[np.integer[Any]],
    distractor: NDArray[Any],
    noisy_probe: NDArray[np.bool_],
    noisy_distractor: NDArray[np.bool_],
    rule: CleaningRule,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Replace the features of wrong images, as two published tables do; nothing is left out.

    A noisy probe becomes the sum of its subject's clean features, each and the sum of unit length
    (InsightFace adds unseeded noise of +-0.001 to it, evalkit does not), so it still counts, as a
    nearly perfect one.
    A noisy distractor can never match by InsightFace's rule (a dimension of its own, 100 long):
    here it has no template.  By FaceX-Zoo's it is the zero vector, which beats a mate of negative
    score.
    Source: InsightFace `megaface/remove_noises.py`, FaceX-Zoo `test_protocol/remove_noises.py`.
    """
    p, d = np.array(probe, np.float32), np.array(distractor, np.float32)
    for row in np.flatnonzero(noisy_probe):
        of_subject = (subject == subject[row]) & ~noisy_probe
        if not of_subject.any():
            raise ProtocolError(f"all probes of the subject of probe {row} are on the noise list")
        centre = normalise(probe[of_subject]).astype(np.float64)
        known = centre[~failed(centre)]
        p[row] = normalise(known.sum(axis=0)[None])[0] if len(known) else np.nan
    d[noisy_distractor] = np.nan if rule == "insightface" else 0.0
    return p, d
