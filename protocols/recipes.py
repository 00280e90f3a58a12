"""Recipes: how each published system turns features into scores and scores into its figure.

A `Recipe` is data.  Applying it is a few pure functions: `fused` makes one vector an image, `fit`
learns what the recipe learns from training rows, `project` and `pair_scores` score; `scored` does
that fold by fold, and `verification.evaluate` and `lfw.evaluate` take `recipe=`.

What is learned (mean, PCA, Joint Bayesian) is learned anew for every fold.  Its training rows are
the images of the pairs in the other folds, less all images of people who occur in the fold itself.
LFW's folds share nobody, so nothing is left out there; where folds do share people (CALFW, folds by
position), the report counts what was.  A mean that is only subtracted takes an image as often as
the pairs name it, as the scripts do; a projection takes each image once.

The mean is exact, rounded once, so recipes without a projection give the same bits everywhere.  PCA
and Joint Bayesian use LAPACK and BLAS in float64: the same bits in every run on one machine, but
their scores can differ by some 1e-6 between machines; the report says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ProtocolError
from evalkit.protocols import compat, joint_bayesian, metrics
from evalkit.protocols.blas import one_thread
from evalkit.protocols.kfold import ThresholdRule, best_threshold, kfold_accuracy
from evalkit.protocols.samples import people_of_pairs
from evalkit.protocols.scores import (
    Flip,
    exact_scores,
    failed,
    fuse,
    minus_squared_distances,
    normalise,
)
from evalkit.types import Estimate, PairSet

Rows = NDArray[np.integer[Any]]

_DESCRIBES = ("name", "input", "published", "source", "recalled")  # change no number


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How features become scores, and scores a figure.

    fusion : of an image's views or patches.  unit_views : each made unit length before.
    centring : the mean of the training rows is subtracted.
    projection : learned on the training rows; dimensions : what PCA keeps at most (before Joint
    Bayesian too).  unit_length : rows are made so before scoring.
    score : the "log-likelihood ratio" belongs to Joint Bayesian.
    threshold : "exact" (`kfold.best_threshold`) or a name in `compat.THRESHOLD_RULES`.
    figure : what the system publishes.
    input : the name of `adapters.presets` that its images need, or "" where none fits.
    published : its figure for LFW in %.  source : where the recipe can be read.
    recalled : what was not read in code, but is remembered from the paper or assumed.
    """

    name: str = ""
    fusion: Flip = "none"
    unit_views: bool = False
    centring: Literal["none", "training folds"] = "none"
    projection: Literal["none", "pca", "joint bayesian"] = "none"
    dimensions: int | None = None
    unit_length: bool = True
    score: Literal["cosine", "-l2^2", "log-likelihood ratio"] = "cosine"
    threshold: str = "exact"
    figure: Literal["accuracy", "1 - eer"] = "accuracy"
    input: str = ""
    published: float | None = None
    source: str = ""
    recalled: str = ""

    @property
    def learned(self) -> bool:
        """Whether anything but the threshold is learned on training folds."""
        return self.centring != "none" or self.projection != "none"

    @property
    def rule(self) -> ThresholdRule:
        """The function that chooses the threshold on the training folds."""
        return (
            best_threshold if self.threshold == "exact" else compat.THRESHOLD_RULES[self.threshold]
        )

    def digest(self) -> str:
        """First 8 hex digits of the SHA-256 of the fields that can change a number."""
        counted = {k: v for k, v in asdict(self).items() if k not in _DESCRIBES}
        return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:8]

    def provenance(self) -> dict[str, Any]:
        """Return what a report keeps: `recipe`, its name and digest, and the fields."""
        return {"recipe": f"{self.name} {self.digest()}", "recipe_fields": asdict(self)}


@dataclass(frozen=True, slots=True)
class Projection:
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
    """One vector an image, (N, D) float32, of (N, D) or (N, V, D) features; see `scores.fuse`."""
    return fuse(features, recipe.fusion, unit=recipe.unit_views)


def without_folds(recipe: Recipe, features: NDArray[Any]) -> NDArray[np.float32]:
    """Vectors for a protocol without folds; ProtocolError for a recipe that has to learn."""
    if recipe.learned:
        raise ProtocolError(
            f"recipe {recipe.name!r} learns on training folds, and this protocol has none",
            "without folds go: " + ", ".join(n for n, r in RECIPES.items() if not r.learned),
        )
    return fused(recipe, features)


@one_thread()
def fit(recipe: Recipe, x: NDArray[np.float32], rows: Rows, subject: Rows) -> Projection:
    """Learn from x[rows], (N, D) fused features; nothing else of x is looked at.

    rows : (R,), an image as often as the pairs name it; failed ones are passed over.
    subject : (N,) identity of each row.  ProtocolError where nothing is left to learn from.
    """
    if not recipe.learned:
        return Projection()
    rows = rows[~failed(x[rows])]
    once, times = np.unique(rows, return_counts=True)
    if not len(once):
        raise ProtocolError(f"recipe {recipe.name!r} has no training images", "see the folds")
    if recipe.projection == "none":
        return Projection(_mean(x[once], times))
    mean = _mean(x[once], np.ones_like(times))
    centred = x[once].astype(np.float64) - mean
    basis = None if recipe.dimensions is None else _pca(centred, recipe.dimensions)
    if recipe.projection == "pca":
        return Projection(mean, basis)
    y = centred if basis is None else centred @ basis.T
    learned = joint_bayesian.fit(y, subject[once])
    return Projection(mean, basis, joint_bayesian.model(learned))


def _mean(x: NDArray[np.float32], times: Rows) -> NDArray[np.float64]:
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
def project(recipe: Recipe, by: Projection, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn (N, D) fused features into what `pair_scores` takes; failed rows stay so."""
    y = np.where(failed(x)[:, None], np.nan, x.astype(np.float64))
    if by.mean is not None:
        y = y - by.mean
    if by.basis is not None:
        y = y @ by.basis.T
    if by.model is not None:
        return joint_bayesian.project(y, by.model)
    single = y.astype(np.float32)
    return normalise(single) if recipe.unit_length else single


def pair_scores(
    recipe: Recipe, projected: NDArray[np.float32], left: Rows, right: Rows
) -> NDArray[np.float64]:
    """Score rows `left` against `right`: exact for the projected vectors, rounded once."""
    if recipe.score == "log-likelihood ratio":
        return joint_bayesian.scores(projected, left, right)
    if recipe.score == "-l2^2":
        return minus_squared_distances(projected, left, projected, right)
    return exact_scores(projected, left, projected, right)


def scored(
    recipe: Recipe, features: NDArray[Any], pairs: PairSet, subject: Rows | None = None
) -> Scored:
    """Score every pair, learning fold by fold where the recipe learns.

    features : (N, D) or (N, V, D).  subject : (N,), below 0 = unknown; without it, rows joined by
    genuine pairs are one person.  ProtocolError where a recipe learns and there are no folds.
    """
    x = fused(recipe, features)
    if not recipe.learned:
        score = pair_scores(recipe, project(recipe, Projection(), x), pairs.left, pairs.right)
        return Scored(score, score)
    if pairs.fold is None:
        raise ProtocolError(
            f"recipe {recipe.name!r} learns on training folds, and these pairs have none",
            "give a list with folds, or ten genuine and ten impostor pairs",
        )
    who = people(pairs, subject)
    score, by_fold, left_out, learned_from = np.empty(len(pairs)), [], 0, []
    for k in np.unique(pairs.fold):
        rows, dropped = training_rows(pairs, who, int(k))
        projection = fit(recipe, x, rows, who)
        all_pairs = pair_scores(recipe, project(recipe, projection, x), pairs.left, pairs.right)
        here = pairs.fold == k
        score[here] = all_pairs[here]
        by_fold.append(all_pairs)
        left_out += dropped
        learned_from.append(len(np.unique(rows)))
    return Scored(score, np.array(by_fold), _how(recipe, learned_from, left_out))


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


def people(pairs: PairSet, subject: Rows | None) -> NDArray[np.int64]:
    """Identity of every row that the pairs name; a row of unknown subject is nobody else."""
    if subject is None:
        return people_of_pairs(pairs.left, pairs.right, pairs.genuine)
    return np.where(subject < 0, -1 - np.arange(len(subject)), subject).astype(np.int64)


def training_rows(pairs: PairSet, who: Rows, k: int) -> tuple[NDArray[np.int64], int]:
    """Both sides of every pair outside fold k, without people of fold k; and how many those were.

    Returns rows, an image as often as the pairs name it, and the number of images left out.
    """
    here = pairs.fold == k
    held_out = np.unique(who[np.concatenate([pairs.left[here], pairs.right[here]])])
    rows = np.concatenate([pairs.left[~here], pairs.right[~here]])
    shared = np.isin(who[rows], held_out)
    return rows[~shared], len(np.unique(rows[shared]))


def figure(
    recipe: Recipe, features: NDArray[Any], pairs: PairSet, subject: Rows | None = None
) -> Estimate:
    """Measure what the system publishes: accuracy by its threshold rule, or 1 - EER."""
    found = scored(recipe, features, pairs, subject)
    if recipe.figure == "accuracy":
        if pairs.fold is None:
            raise ProtocolError("these pairs have no folds", "10-fold accuracy needs them")
        return kfold_accuracy(found.by_fold, pairs.genuine, pairs.fold, recipe.rule)
    eer = metrics.eer(found.score[pairs.genuine], found.score[~pairs.genuine])
    return Estimate(value=None if eer.value is None else 1 - eer.value, n=eer.n, note=eer.note)


_DEEPID = {
    "fusion": "concat",
    "projection": "joint bayesian",
    "unit_length": False,
    "score": "log-likelihood ratio",
}
_MARGIN = {"score": "-l2^2", "fusion": "sum", "threshold": "insightface"}

RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe(
            name="softmax",
            source="the baseline of every paper below; no figure of its own",
            recalled="cosine, as the later papers score it",
        ),
        Recipe(
            name="deepid2",
            **_DEEPID,  # type: ignore[arg-type]
            dimensions=180,
            published=99.15,
            source="Sun et al., NIPS 2014 (the figure: its abstract); Chen et al., ECCV 2012",
            recalled="25 patches x 160-d side by side, PCA to 180, Joint Bayesian learned outside "
            "LFW: 98.97; 99.15 is an SVM over seven such sets, which is not part of this",
        ),
        Recipe(
            name="deepid2plus",
            **_DEEPID,  # type: ignore[arg-type]
            dimensions=180,
            published=99.47,
            source="Sun et al., CVPR 2015; no code published",
            recalled="25 patches side by side, Joint Bayesian; PCA to 180 is DeepID2's",
        ),
        Recipe(
            name="deepid3",
            **_DEEPID,  # type: ignore[arg-type]
            dimensions=300,
            published=99.53,
            source="Sun et al., arXiv 1502.00873; no code published",
            recalled="25 patches of two networks side by side, PCA to 300, Joint Bayesian",
        ),
        Recipe(
            name="facenet",
            fusion="concat",
            unit_views=True,
            unit_length=False,
            score="-l2^2",
            threshold="insightface",
            input="facenet",
            published=99.63,
            source="davidsandberg/facenet src/lfw.py, src/validate_on_lfw.py with flipped images",
            recalled="the figure is the paper's, whose model is private",
        ),
        Recipe(
            name="l-softmax",
            published=98.71,
            source="Liu et al., ICML 2016; its repository has no script for LFW",
            recalled="cosine; the exact threshold is evalkit's",
        ),
        Recipe(
            name="sphereface",
            fusion="concat",
            centring="training folds",
            threshold="sphereface",
            input="sphereface",
            published=99.42,
            source="wy1iu/sphereface test/code/evaluation.m",
        ),
        Recipe(
            name="center-loss",
            fusion="concat",
            projection="pca",
            dimensions=512,
            input="sphereface",
            published=99.28,
            source="ydwen/caffe-face face_example/extractDeepFeature.m (crop, views side by side)",
            recalled="PCA and cosine are the paper's; how many dimensions it keeps is not known, "
            "512 is assumed; the exact threshold is evalkit's",
        ),
        Recipe(
            name="center-invariant",
            source="Wu et al., 2017; published code is for MNIST only",
            recalled="cosine and everything else is assumed; no figure was found",
        ),
        Recipe(
            name="coco",
            source="sciencefans/coco_loss; no script for LFW",
            recalled="cosine of features made unit length, as the loss does",
        ),
        Recipe(
            name="insightface",
            **_MARGIN,  # type: ignore[arg-type]
            input="arcface",
            published=99.77,
            source="deepinsight/insightface recognition/arcface_torch/eval/verification.py",
        ),
        Recipe(
            name="lightcnn",
            figure="1 - eer",
            published=98.80,
            source="AlfredXiangWu/face_verification_experiment code/evaluation.m",
            recalled="images are 128 x 128, grey",
        ),
        Recipe(
            name="adaface",
            **_MARGIN,  # type: ignore[arg-type]
            input="adaface",
            published=99.82,
            source="mk-minchul/AdaFace train_val.py, evaluate_utils.py",
        ),
    )
}
