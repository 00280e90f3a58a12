"""What is measured on embeddings, error rates by evalkit's own protocols."""

import numpy as np
import torch
from scipy import stats

from evalkit.protocols import geometry
from evalkit.protocols.metrics import auc, eer, tpr_at_far
from evalkit.protocols.scores import exact_scores, normalise


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
