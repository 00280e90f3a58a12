"""What is measured on embeddings, error rates by evalkit's own protocols."""

import numpy as np
import torch
from scipy import stats

from evalkit.protocols import allpairs, geometry, recipes
from evalkit.protocols.metrics import auc, eer, tpr_at_far
from evalkit.protocols.metrics.kfold import kfold_accuracy
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.recipes import RECIPES
from evalkit.types import PairSet

# loss -> the recipe of the system that published it
OWN = {
    "softmax": "softmax",
    "contrastive": "deepid2",
    "triplet": "facenet",
    "l-softmax": "l-softmax",
    "a-softmax": "sphereface",
    "center": "center-loss",
    "center-invariant": "center-invariant",
    "coco": "coco",
    "cosface": "insightface",  # its authors published no script; the margin losses share this one
    "arcface": "insightface",
    "pixels": "softmax",
}


def verification(x, labels, far="1e-3"):
    """Score all pairs of (N, D) embeddings, by cosine and by -L2^2: name -> number.

    inverted: the share of all couples of a same-class and a different-class pair in which the
    same-class pair is farther apart by L2: 1 - AUC.  length: of the squared distance of same-class
    pairs, |a - b|^2 = (|a| - |b|)^2 + 2 |a| |b| (1 - cos), the share of the first term; length_gap:
    that share minus the one of different-class pairs.
    """
    i, j = np.triu_indices(len(x), 1)
    same = labels[i] == labels[j]
    unit, norm = normalise(x), np.linalg.norm(x.astype(np.float64), axis=1)
    cosine = exact_scores(unit, i, unit, j)
    length = (norm[i] - norm[j]) ** 2
    square = length + 2 * norm[i] * norm[j] * (1 - cosine)
    by_cosine, by_l2 = cosine[same], -square[same]
    strangers, strangers_l2 = cosine[~same], -square[~same]
    tpr = tpr_at_far(by_cosine, strangers, far).value
    tpr_l2 = tpr_at_far(by_l2, strangers_l2, far).value
    within, between = (length[of].mean() / square[of].mean() for of in (same, ~same))
    return {
        "tpr": tpr,
        "tpr_l2": tpr_l2,
        "cosine_gain": tpr - tpr_l2,
        "eer": eer(by_cosine, strangers).value,
        "inverted": 1 - auc(by_l2, strangers_l2).value,
        "length": within,
        "length_gap": within - between,
    }


def shape(x, labels):
    """How compact and how far apart classes lie: `protocols.geometry`, name -> number."""
    found = geometry.evaluate(x, labels).metrics
    names = {
        "ratio": "within/between@space=l2",
        "ratio_angle": "within/between@space=angle",
        "crossed": "farther-than-nearest-impostor@space=l2",
        "mates": "compactness@space=angle",
        "nearest": "separation@space=angle",
    }
    return {ours: found[theirs].value for ours, theirs in names.items()}


def regions(x, labels):
    """Rank correlation of a class's images with its size: name -> number.

    Size is the mean distance between two of its images, by L2 and in degrees, all of training;
    and the length of its mean.
    """
    i, j = allpairs.genuine_pairs(labels)
    numbers = {}
    for space, make in geometry.SPACES.items():
        size, samples = geometry.regions(make(x, labels).between(i, j), labels[i], labels)
        numbers[f"region_{space}"] = geometry.spearman(samples, size).value
    norm = np.linalg.norm(class_means(x, labels), axis=1)
    return numbers | {"region_norm": geometry.spearman(np.bincount(labels), norm).value}


def pairs_in_folds(labels, folds=10):
    """Pairs of images inside each fold, people dealt to folds in the order of their labels.

    All same-class pairs of a fold, and as many of its others, evenly spaced.
    """
    fold = np.unique(labels, return_inverse=True)[1] % folds
    i, j = np.triu_indices(len(labels), 1)
    kept = []
    for k in range(folds):
        rows = np.flatnonzero((fold[i] == k) & (fold[j] == k))
        same = labels[i[rows]] == labels[j[rows]]
        others = rows[~same]
        step = np.linspace(0, len(others) - 1, min(same.sum(), len(others))).round().astype(int)
        kept.append(np.sort(np.concatenate([rows[same], others[step]])))
    rows = np.concatenate(kept)
    i, j = i[rows], j[rows]
    return PairSet(i, j, labels[i] == labels[j], fold[i].astype(np.int16))


def by_recipe(views, labels, name, far="1e-2"):
    """Score pairs in folds by a recipe and by the plain one, softmax's: name -> number.

    views : (N, 2, D) embeddings of each image and of its mirror image.
    """
    pairs, numbers = pairs_in_folds(labels), {}
    for prefix, recipe in (("own", RECIPES[name]), ("plain", RECIPES["softmax"])):
        found = recipes.scored(recipe, views, pairs, labels)
        right = kfold_accuracy(found.by_fold, pairs.genuine, pairs.fold, recipe.rule)
        accepted = tpr_at_far(found.score[pairs.genuine], found.score[~pairs.genuine], far)
        numbers |= {f"{prefix}_accuracy": right.value, f"{prefix}_tpr": accepted.value}
    gained = {f"{n}_gain": numbers[f"own_{n}"] - numbers[f"plain_{n}"] for n in ("accuracy", "tpr")}
    return numbers | gained


@torch.no_grad()
def classify(loss, x, seen, seen_labels):
    """Class of each row of x by the loss's own scores, or by the nearest class mean (cosine).

    seen, seen_labels : training embeddings, for the means of a loss that does not classify.
    """
    if hasattr(loss, "get_logits"):
        return loss.get_logits(torch.from_numpy(x)).argmax(1).numpy()
    return (normalise(x) @ normalise(class_means(seen, seen_labels)).T).argmax(1)


def class_means(x, labels):
    """(classes, D) mean embedding of each class, in the order of its label."""
    return np.stack([x[labels == k].mean(0) for k in range(labels.max() + 1)])


def student(values, level=0.95):
    """Mean over seeds, and half the width of its Student interval (NaN for one seed)."""
    v = np.asarray(values, np.float64)
    if len(v) < 2:
        return v.mean(), np.nan
    half = stats.t.ppf((1 + level) / 2, len(v) - 1) * v.std(ddof=1) / len(v) ** 0.5
    return v.mean(), half
