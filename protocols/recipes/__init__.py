"""Recipes of published systems: from features to scores, and from scores to the figure.

A `Recipe` is data, `RECIPES` the published ones by name.  Applying one is a few pure functions:
`fused` makes one vector per image, `fit` learns what the recipe learns from training rows,
`project` and `pair_scores` score; `scored` does that fold by fold, and `verification.evaluate` and
`lfw.evaluate` take `recipe=`.

What is learned (mean, PCA, Joint Bayesian) is learned anew for every fold, on the images of the
pairs in the other folds, less all images of people who occur in the fold itself.  A mean that is
only subtracted takes an image as often as the pairs name it, as the scripts do; a projection takes
each image once.

The mean is exact, rounded once, so recipes without a projection give the same bits everywhere.  PCA
and Joint Bayesian use LAPACK and BLAS in float64: the same bits in every run on one machine, but
their scores can differ by some 1e-6 between machines; the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import identities, vectors
from evalkit.errors import ProtocolError
from evalkit.protocols import metrics
from evalkit.protocols.blas import one_thread
from evalkit.protocols.metrics.flip_fusion import fuse
from evalkit.protocols.metrics.kfold import kfold_accuracy
from evalkit.protocols.metrics.similarity import (
    exact_scores,
    failed,
    minus_squared_distances,
    normalise,
)
from evalkit.protocols.recipes import joint_bayesian
from evalkit.protocols.recipes.published import RECIPES
from evalkit.protocols.recipes.recipe import Recipe
from evalkit.protocols.uncertainty.sample import people_of_pairs
from evalkit.types import Estimate, Floats, Ints, PairSet

_BAND = 1 << 15  # pairs, or rows, whose vectors are in memory together


@dataclass(frozen=True, slots=True)
class LearnedTransform:
    """What was learned, or None: mean (D,), PCA's basis (K, D), Joint Bayesian of what is left."""

    mean: NDArray[np.float64] | None = None
    basis: NDArray[np.float64] | None = None
    model: joint_bayesian.JointBayesian | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of P pairs.

    score : (P,), where something is learned each pair's score by what was learned without its fold.
    by_fold : (F, P), all pairs by what was learned without the k-th fold; or (P,), nothing learned.
    learned : how it was learned, for the report.
    """

    score: NDArray[np.float64]
    by_fold: NDArray[np.float64]
    learned: Mapping[str, Any] = field(default_factory=dict)


def fused(recipe: Recipe, features: NDArray[Any]) -> NDArray[np.float32]:
    """Fuse (N, D) or (N, V, D) features to (N, D) float32; see `flip_fusion.fuse`."""
    return fuse(features, recipe.fusion, unit=recipe.unit_views)


def without_folds(recipe: Recipe, features: NDArray[Any]) -> NDArray[np.float32]:
    """Vectors for a protocol without folds; ProtocolError for a recipe that is `unfit` for it."""
    if recipe.unfit:
        raise ProtocolError(
            f"recipe {recipe.name!r} {recipe.unfit}",
            "here go: " + ", ".join(n for n, r in RECIPES.items() if not r.unfit),
        )
    return fused(recipe, features)


@one_thread()
def fit(recipe: Recipe, x: NDArray[np.float32], rows: Ints, subject: Ints) -> LearnedTransform:
    """Learn from x[rows], (N, D) fused features; nothing else of x is looked at.

    rows : (R,), an image as often as the pairs name it; failed ones are skipped.
    subject : (N,) identity of each row.  ProtocolError where nothing is left to learn from.
    """
    if not recipe.learned:
        return LearnedTransform()
    rows = rows[~failed(x[rows])]
    once, times = np.unique(rows, return_counts=True)
    if not len(once):
        raise ProtocolError(f"recipe {recipe.name!r} has no training images", "see the folds")
    if recipe.projection == "none":
        return LearnedTransform(_mean(x[once], times))
    mean = _mean(x[once], np.ones_like(times))
    centred = x[once].astype(np.float64) - mean
    basis = None if recipe.dimensions is None else _pca(centred, recipe.dimensions)
    if recipe.projection == "pca":
        return LearnedTransform(mean, basis)
    y = centred if basis is None else centred @ basis.T
    learned = joint_bayesian.fit(y, subject[once])
    return LearnedTransform(mean, basis, joint_bayesian.model(learned))


def _mean(x: NDArray[np.float32], times: Ints) -> NDArray[np.float64]:
    """Mean of each column, row i counted times[i]: the exact sum, rounded once, over the count."""
    columns, weight = np.ascontiguousarray(x.T), times.astype(np.float32)[None]
    of = np.arange(x.shape[1])
    return np.asarray(exact_scores(columns, of, weight, np.zeros_like(of)) / times.sum())


def _pca(centred: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    """Directions of greatest variance, (K, D), K = dimensions or as many as the rows span."""
    _, columns = np.linalg.eigh(centred.T @ centred)
    most = min(dimensions, *centred.shape)
    return np.ascontiguousarray(columns[:, ::-1][:, :most].T)


@one_thread()
def project(recipe: Recipe, by: LearnedTransform, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn (N, D) fused features into what `pair_scores` takes; failed rows stay so."""
    y = np.where(failed(x)[:, None], np.nan, x.astype(np.float64))
    if by.mean is not None:
        y = y - by.mean
    if by.basis is not None:
        y = y @ by.basis.T
    if by.model is not None:
        return joint_bayesian.project(y, by.model)
    return _unit(recipe, y.astype(np.float32))


def _unit(recipe: Recipe, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return normalise(x) if recipe.unit_length else x


def pair_scores(
    recipe: Recipe, projected: NDArray[np.float32], left: Ints, right: Ints
) -> NDArray[np.float64]:
    """Score rows `left` against `right`: exact for the projected vectors, rounded once."""
    if recipe.score == "log-likelihood ratio":
        return joint_bayesian.scores(projected, left, right)
    if recipe.score == "-l2^2":
        return minus_squared_distances(projected, left, projected, right)
    return exact_scores(projected, left, projected, right)


def scored(
    recipe: Recipe, features: NDArray[Any], pairs: PairSet, subject: Ints | None = None
) -> Scored:
    """Score every pair, learning fold by fold where the recipe learns.

    features : (N, D) or (N, V, D).  subject : (N,), below 0: unlabelled; without it, rows joined by
    genuine pairs are one person.  ProtocolError where a recipe learns and there are no folds.
    """
    features = vectors(features)
    subject = None if subject is None else identities(subject, len(features))
    if not recipe.learned:
        score = _without_learning(recipe, features, pairs)
        return Scored(score, score)
    if pairs.fold is None:
        raise ProtocolError(
            f"recipe {recipe.name!r} learns on training folds, and these pairs have none",
            "give a list with folds, or ten genuine and ten impostor pairs",
        )
    x, subjects = fused(recipe, features), people(pairs, subject)
    score, by_fold, left_out, learned_from = np.empty(len(pairs)), [], 0, []
    for k in np.unique(pairs.fold):
        rows, dropped = training_rows(pairs, subjects, int(k))
        projection = fit(recipe, x, rows, subjects)
        all_pairs = pair_scores(recipe, project(recipe, projection, x), pairs.left, pairs.right)
        in_fold = pairs.fold == k
        score[in_fold] = all_pairs[in_fold]
        by_fold.append(all_pairs)
        left_out += dropped
        learned_from.append(len(np.unique(rows)))
    return Scored(score, np.array(by_fold), _how(recipe, learned_from, left_out))


def _without_learning(recipe: Recipe, features: NDArray[Any], pairs: PairSet) -> Floats:
    """Score pairs, a band of them at a time, so that features of any size stay in their file."""
    score = np.empty(len(pairs))
    for o in range(0, len(pairs), _BAND):
        left, right = pairs.left[o : o + _BAND], pairs.right[o : o + _BAND]
        rows, place = np.unique(np.concatenate([left, right]), return_inverse=True)
        x = _unit(recipe, fused(recipe, features[rows]))
        score[o : o + _BAND] = pair_scores(recipe, x, place[: len(left)], place[len(left) :])
    return score


def failed_rows(recipe: Recipe, features: NDArray[Any], rows: Ints) -> Ints:
    """Of these rows those without a vector as the recipe fuses it; a view not fused may lack."""
    bands = (rows[o : o + _BAND] for o in range(0, len(rows), _BAND))
    lost = [band[failed(fused(recipe, features[band]))] for band in bands]
    return np.concatenate([rows[:0], *lost])


def _how(recipe: Recipe, learned_from: list[int], left_out: int) -> dict[str, Any]:
    fitted = "exact mean: the same bits on every machine"
    if recipe.projection != "none":
        fitted = "LAPACK and BLAS in float64: scores may differ by 1e-6 between machines"
    return {
        "learned_on": "images of the other folds' pairs, without people of the fold",
        "training_images": learned_from,
        "training_images_left_out": left_out,
        "learned_with": fitted,
        "scores": "of each pair, by what was learned without its fold",
    }


def people(pairs: PairSet, subject: Ints | None) -> NDArray[np.int64]:
    """Identity of every row that the pairs name; an unlabelled row is a subject of its own."""
    if subject is None:
        return people_of_pairs(pairs.left, pairs.right, pairs.genuine)
    return np.where(subject < 0, -1 - np.arange(len(subject)), subject).astype(np.int64)


def training_rows(pairs: PairSet, subjects: Ints, k: int) -> tuple[NDArray[np.int64], int]:
    """Both sides of every pair outside fold k, without people of fold k; and how many those were.

    Returns rows, an image as often as the pairs name it, and the number of images excluded.
    """
    in_fold = pairs.fold == k
    held_out = np.unique(subjects[np.concatenate([pairs.left[in_fold], pairs.right[in_fold]])])
    rows = np.concatenate([pairs.left[~in_fold], pairs.right[~in_fold]])
    shared = np.isin(subjects[rows], held_out)
    return rows[~shared], len(np.unique(rows[shared]))


def figure(
    recipe: Recipe, features: NDArray[Any], pairs: PairSet, subject: Ints | None = None
) -> Estimate:
    """Measure what the system publishes: accuracy by its threshold rule, or 1 - EER."""
    result = scored(recipe, features, pairs, subject)
    if recipe.figure == "accuracy":
        if pairs.fold is None:
            raise ProtocolError("these pairs have no folds", "10-fold accuracy needs them")
        return kfold_accuracy(result.by_fold, pairs.genuine, pairs.fold, recipe.rule)
    eer = metrics.eer(result.score[pairs.genuine], result.score[~pairs.genuine])
    return Estimate(value=None if eer.value is None else 1 - eer.value, n=eer.n, note=eer.note)
