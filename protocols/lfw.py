"""Labeled Faces in the Wild: 6,000 pairs in ten folds, reported as the LFW site asks.

View 2 [Huang, Ramesh, Berg, Learned-Miller, TR 07-49, 2007]: all that is learned, the threshold
included, is learned on nine folds.  The folds are the official ones, so results can be compared
with the site's table "unrestricted, labeled outside data".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import labels, vectors
from evalkit.errors import ProtocolError
from evalkit.identity import Names
from evalkit.protocols import recipes, verification
from evalkit.protocols.groups import By
from evalkit.protocols.metrics import Rates, Thresholds
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.recipes.recipe import Recipe, recipe_of
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.types import Estimate, PairSet, Report

NAME = "lfw"
VERSION = 1
FARS = ("1e-1", "1e-2", "1e-3")
WITHOUT_ERRATA = "accuracy@errata=excluded"


def validate(features: NDArray[Any], pairs: PairSet, errata: NDArray[np.bool_] | None) -> None:
    """Raise ProtocolError unless the pairs have folds, and errata one flag a pair."""
    verification.validate(features, pairs)
    if pairs.fold is None:
        raise ProtocolError(
            "LFW pairs have no folds",
            "evalkit verify (evalkit.protocols.verification) takes a list without folds",
        )
    if errata is not None and errata.shape != pairs.genuine.shape:
        raise ProtocolError(f"{len(pairs)} pairs have errata flags of shape {errata.shape}")


def evaluate(
    features: NDArray[Any],
    pairs: PairSet,
    subject: NDArray[np.integer[Any]] | None = None,
    *,
    recipe: Recipe | None = None,
    fars: Rates = FARS,
    threshold: Thresholds = None,
    errata: NDArray[np.bool_] | None = None,
    groups: Sequence[By] = (),
    flip: Flip = "none",
    seed: int = 0,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> Report:
    """Evaluate LFW, or any set in its layout.

    features : (N, D) or (N, V, D), rows of the manifest that `pairs` was resolved with.
    subject : (N,) identity of each row, kept with the outcomes.
    recipe, threshold, groups : as `verification.evaluate` takes them.
    flip, seed, keys, images, set_name : see `catalogue.Protocol`.
    errata : (P,) bool, pairs known to be wrongly labelled.  Adds `accuracy@errata=excluded`, the
    10-fold accuracy without them (not in training, not in test), beside the official number.
    """
    features = vectors(features)
    errata = None if errata is None else labels(errata, "errata")
    validate(features, pairs, errata)
    report = verification.evaluate(
        features,
        pairs,
        subject,
        recipe=recipe,
        fars=fars,
        threshold=threshold,
        groups=groups,
        flip=flip,
        seed=seed,
        keys=keys,
        images=images,
        set_name=set_name,
    )
    measured = dict(report.metrics)
    if errata is not None and pairs.fold is not None:
        how = recipe_of(flip, recipe)
        measured[WITHOUT_ERRATA] = _without(errata, features, pairs, subject, how, seed)
    return replace(report, protocol=NAME, protocol_version=VERSION, metrics=measured)


def _without(
    errata: NDArray[np.bool_],
    features: NDArray[Any],
    pairs: PairSet,
    subject: NDArray[np.integer[Any]] | None,
    how: Recipe,
    seed: int,
) -> Estimate:
    columns = {name: getattr(pairs, name)[~errata] for name in ("left", "right", "genuine", "fold")}
    kept = PairSet(**columns)
    scores = recipes.scored(how, features, kept, subject)
    note = f"{np.count_nonzero(errata)} pairs that the LFW site lists as wrong are left out"
    without = verification.accuracy(scores.by_fold, kept.genuine, kept.fold, how.rule)
    without = replace(without, note=note)
    outcomes = verification.outcomes(scores.score, kept, kept.fold, subject)
    return with_intervals({"accuracy": without}, outcomes, seed=seed)["accuracy"]
