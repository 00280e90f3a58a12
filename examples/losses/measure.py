"""What is measured on embeddings, error rates by evalkit's own protocols."""

import numpy as np
import torch
from scipy import stats

from evalkit.protocols import geometry, recipes
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


def verification(x, labels, far="1e-2"):
    """Score all pairs of (N, D) embeddings, by cosine and by -L2^2: name -> number.

    within/between (`protocols.geometry`): the mean squared distance of same-class pairs over that
    of different-class pairs; "angle" is the same on unit vectors.  inverted: the share of all
    couples of a same-class and a different-class pair in which the same-class pair is farther apart
    by L2: 1 - AUC.
    """
    i, j = np.triu_indices(len(x), 1)
    same = labels[i] == labels[j]
    unit = normalise(x)
    cosine = exact_scores(unit, i, unit, j)
    square = ((x[i].astype(np.float64) - x[j]) ** 2).sum(1)
    by_cosine, by_l2 = cosine[same], -square[same]
    strangers, strangers_l2 = cosine[~same], -square[~same]
    shape = geometry.evaluate(x, labels).metrics
    tpr = tpr_at_far(by_cosine, strangers, far).value
    tpr_l2 = tpr_at_far(by_l2, strangers_l2, far).value
    return {
        "tpr": tpr,
        "tpr_l2": tpr_l2,
        "cosine_gain": tpr - tpr_l2,
        "eer": eer(by_cosine, strangers).value,
        "ratio": shape["within/between@space=l2"].value,
        "ratio_angle": shape["within/between@space=angle"].value,
        "inverted": 1 - auc(by_l2, strangers_l2).value,
    }


def pairs_in_folds(labels, folds=10):
    """All pairs of images inside each fold; people dealt to folds in the order of their labels."""
    fold = np.unique(labels, return_inverse=True)[1] % folds
    i, j = np.triu_indices(len(labels), 1)
    together = fold[i] == fold[j]
    i, j = i[together], j[together]
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


def circle(points=3600):
    """(points, 2) float32 unit vectors, evenly around the plane."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def student(values, level=0.95):
    """Mean over seeds, and half the width of its Student interval (NaN for one seed)."""
    v = np.asarray(values, np.float64)
    if len(v) < 2:
        return v.mean(), np.nan
    half = stats.t.ppf((1 + level) / 2, len(v) - 1) * v.std(ddof=1) / len(v) ** 0.5
    return v.mean(), half
