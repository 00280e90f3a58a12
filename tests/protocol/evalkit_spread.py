"""Two protocols of another package: one of labelled rows, one of listed pairs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.identity import of_pairs, of_rows
from evalkit.protocols.catalogue import Protocol
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.types import Estimate, PairSet, Report

SPREAD = Protocol(
    name="spread",
    version=3,
    title="How far a set's vectors spread.",
    summary="mean distance to the mean vector",
    needs="embeddings of any images",
    where="anywhere",
    source="made up for a test",
    page="https://example.org/spread",
    function="evalkit_spread:spread",
    compares="subjects",
)
LIKENESS = Protocol(
    name="likeness",
    version=1,
    title="How alike the images of a pair are.",
    summary="mean cosine of the genuine pairs",
    needs="a list of pairs, and embeddings",
    where="anywhere",
    source="made up for a test",
    page="https://example.org/likeness",
    function="evalkit_spread:likeness",
    compares="pairs",
)


def spread(features: NDArray[Any], subject: NDArray[np.int32], **known: Any) -> Report:
    away = np.linalg.norm(features - features.mean(axis=0), axis=1)
    return Report(
        protocol=SPREAD.name,
        protocol_version=SPREAD.version,
        metrics={"spread": Estimate(value=float(away.mean()), n=len(features))},
        identity=of_rows({"subject": subject}, len(features), **known),
    )


def likeness(
    features: NDArray[Any], pairs: PairSet, subject: NDArray[np.int32], **known: Any
) -> Report:
    x = normalise(features)
    score = exact_scores(x, pairs.left, x, pairs.right)[pairs.genuine]
    return Report(
        protocol=LIKENESS.name,
        protocol_version=LIKENESS.version,
        metrics={"likeness": Estimate(value=float(score.mean()), n=len(score))},
        identity=of_pairs(pairs, pairs.fold, subject, len(features), **known),
    )
