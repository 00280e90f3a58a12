"""A recipe as data: fusion, projection, score, threshold rule and figure of a system."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from evalkit.arrays import require
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics import compat
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.metrics.kfold import ThresholdRule, best_threshold

_DESCRIBES = ("name", "input", "published", "source", "recalled")  # change no number


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How features become scores, and scores a figure.

    fusion : of an image's views or patches.  unit_views : each made unit length before.
    centring : the mean of the training rows is subtracted.
    projection : learned on the training rows; dimensions : at most so many of PCA (before Joint
    Bayesian too).  unit_length : rows are made so before scoring.
    score : the "log-likelihood ratio" belongs to Joint Bayesian.
    threshold : "exact" (`kfold.best_threshold`) or a name in `compat.THRESHOLD_RULES`.
    figure : what the system publishes.
    input : the name of `adapters.presets` that its images need, or "" where none fits.
    published : its figure for LFW in %.  source : where the recipe can be read.
    recalled : parts that were not read in code: remembered from the paper, or assumed.
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
    def unfit(self) -> str:
        """Why it does not go where all pairs of unit vectors are compared; "" where it does."""
        if self.learned:
            return "learns on training folds, and here are none"
        if not self.unit_length and not self.unit_views:
            return "counts the lengths of vectors, and here they are of unit length"
        return ""

    @property
    def rule(self) -> ThresholdRule:
        """The function that chooses the threshold on the training folds."""
        return (
            best_threshold if self.threshold == "exact" else compat.THRESHOLD_RULES[self.threshold]
        )

    def digest(self) -> str:
        """First 8 hex digits of the SHA-256 of the fields that can change a number."""
        fields = {k: v for k, v in asdict(self).items() if k not in _DESCRIBES}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]

    def provenance(self) -> dict[str, Any]:
        """Return the entries of a report: `recipe`, its name and digest, and the fields."""
        return {"recipe": f"{self.name} {self.digest()}", "recipe_fields": asdict(self)}

    def scored_by(self) -> dict[str, Any]:
        """Return what a report keeps of fusion and recipe, where its protocol does not."""
        return {"flip": self.fusion, **(self.provenance() if self.name else {})}


def recipe_of(flip: Flip, recipe: Recipe | None) -> Recipe:
    """Give the recipe, or without one the exact cosine of views fused by `flip`.

    ProtocolError where both say how views are fused, and differ; for what is no `Recipe`.
    """
    if recipe is None:
        return Recipe(fusion=flip)
    require(recipe, Recipe, "recipe", 'evalkit.protocols.recipes.RECIPES["sphereface"] or the like')
    if flip not in ("none", recipe.fusion):
        raise ProtocolError(
            f"flip {flip!r} beside recipe {recipe.name!r}, which fuses views by {recipe.fusion!r}",
            "leave flip out, or give dataclasses.replace(recipe, fusion=...)",
        )
    return recipe
