"""Every published recipe on the same vectors, as one table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols import recipes
from evalkit.protocols.recipes.published import RECIPES
from evalkit.protocols.recipes.recipe import Recipe
from evalkit.types import Estimate, PairSet, Progress

COLUMNS = ("recipe", "published %", "fusion", "learned", "score", "threshold")


def side_by_side(
    features: NDArray[Any],
    pairs: PairSet,
    subject: NDArray[Any],
    progress: Progress | None = None,
) -> tuple[list[tuple[str, ...]], str]:
    """Every recipe's figure on the same vectors, and how far apart the recipes are.

    Returns the table's lines of cells, those of COLUMNS with what was measured here behind the
    recipe's name, and a sentence on the spread.
    Features of one view are scored as they are, whatever a recipe fuses; the column says so.
    """
    views = features.shape[1] if features.ndim == 3 else 1
    compared = (Recipe(name="(evalkit)"), *RECIPES.values())
    lines: list[tuple[str, ...]] = [(COLUMNS[0], "here %, ± standard error", *COLUMNS[1:])]
    values: list[float] = []
    known: dict[str, Estimate] = {}
    for done, recipe in enumerate(compared, 1):
        applied = recipe if views > 1 else replace(recipe, fusion="none")
        same = _capped(applied, views * features.shape[-1]).digest()
        if same not in known:
            known[same] = recipes.figure(applied, features, pairs, subject)
        estimate = known[same]
        cells = list(row(recipe))
        if applied != recipe:
            cells[2] += " (one view)"
        here = "-" if estimate.value is None else f"{100 * estimate.value:.2f}"
        if estimate.standard_error is not None:
            here += f" ± {100 * estimate.standard_error:.2f}"
        lines.append((cells[0], here, *cells[1:]))
        if estimate.value is not None and recipe.figure == "accuracy":
            values.append(100 * estimate.value)
        if progress is not None:
            progress(done, len(compared))
    spread = f"accuracy {min(values):.2f} to {max(values):.2f}: "
    spread += f"{np.ptp(values):.2f} points are the recipe alone"
    return lines, spread


def _capped(recipe: Recipe, dimensions: int) -> Recipe:
    """Return the recipe as it acts on so many dimensions: PCA to more than there are keeps all."""
    if recipe.dimensions is None:
        return recipe
    return replace(recipe, dimensions=min(recipe.dimensions, dimensions))


def row(recipe: Recipe) -> tuple[str, ...]:
    """Spell a recipe under COLUMNS."""
    fusion = f"unit {recipe.fusion}" if recipe.unit_views else recipe.fusion
    learned: str = "mean" if recipe.centring != "none" else recipe.projection
    if recipe.dimensions is not None:
        learned = f"pca {recipe.dimensions}"
        learned += ", joint bayesian" if recipe.projection == "joint bayesian" else ""
    published = "-" if recipe.published is None else f"{recipe.published:.2f}"
    threshold = recipe.threshold if recipe.figure == "accuracy" else recipe.figure
    return recipe.name, published, fusion, learned, recipe.score, threshold
