"""`evalkit recipes`: how each published system gets its figure; and `--recipe` of the protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

from evalkit.adapters import embeddings
from evalkit.adapters.presets import PRESETS, describe
from evalkit.cli.options import Output
from evalkit.features import FeatureStore
from evalkit.protocols import recipes
from evalkit.protocols.blas import can_be_one_thread
from evalkit.protocols.recipes import RECIPES, Recipe
from evalkit.protocols.scores import Flip
from evalkit.types import Estimate, InputSpec, PairSet

ALL = "all"
_COLUMNS = ("recipe", "fusion", "learned", "score", "threshold", "published %")


def recipe_option(*more: str) -> Callable[..., Any]:
    """Add `--recipe NAME`; `more` are further values, such as "all"."""
    return click.option(
        "--recipe",
        "recipe_name",
        type=click.Choice([*RECIPES, *more]),
        metavar="NAME",
        help="Score and choose the threshold as a published system does; see evalkit recipes.",
    )


def chosen(name: str | None, flip: Flip, *, folds: bool = True) -> Recipe | None:
    """Return the named recipe, its fusion replaced by --flip where that is given.

    UsageError for one that has to learn where there are no folds.
    """
    if name is None:
        return None
    if RECIPES[name].learned and not folds:
        able = ", ".join(n for n, r in RECIPES.items() if not r.learned)
        raise click.UsageError(
            f"recipe {name!r} learns on training folds, and here are none; without go: {able}"
        )
    return replace(RECIPES[name], fusion=flip) if flip_given() else RECIPES[name]


def flip_given() -> bool:
    """Whether the user said --flip, be it the default."""
    source = click.get_current_context().get_parameter_source("flip")
    return source is not ParameterSource.DEFAULT


def advise(name: str | None, output: Output) -> None:
    """Say how Joint Bayesian becomes quick where BLAS would take all threads for it."""
    learns = name == ALL or (name is not None and RECIPES[name].projection == "joint bayesian")
    if learns and not can_be_one_thread():
        output.say(
            "Joint Bayesian takes minutes where other work runs: on one thread it takes seconds; "
            "pip install 'face-evalkit[threads]', or set OMP_NUM_THREADS=1"
        )


def fed(recipe: Recipe | None, images: InputSpec | Path, output: Output) -> dict[str, str]:
    """Say for the report how its images were fed, beside what the recipe's system takes.

    images : what the model is fed, or the file of its features.  A difference is said on stderr;
    it is no error, since a recipe is there to be tried on other networks, and these decide what
    they are fed.  Of features computed elsewhere nobody knows.
    """
    if recipe is None:
        return {}
    if not recipe.input:
        return {"recipe_input": f"not stated by {recipe.name}"}
    taken, given = _text(PRESETS[recipe.input]), _text(images)
    if given == taken:
        return {"recipe_input": f"as {recipe.name} takes them: {taken}"}
    if given is None:
        return {"recipe_input": f"not known: features computed elsewhere; {recipe.name}: {taken}"}
    output.say(
        f"warning: recipe {recipe.name!r} is of images {taken}; these are fed as {given}, "
        "so the figure is this model's by that recipe"
    )
    return {"recipe_input": f"not as {recipe.name} takes them: {given}; {recipe.name}: {taken}"}


def _text(images: InputSpec | Path) -> str | None:
    """Size, colour, scale and crop; the order of the axes changes no number."""
    if isinstance(images, InputSpec):
        return describe(replace(images, layout="nchw"))
    if images.is_dir() or not embeddings.is_own(images):
        return None
    with FeatureStore.open(images) as store:
        spec = store.key.get("input spec")
    return None if spec is None else str(spec).replace(" nhwc,", " nchw,")


def side_by_side(
    features: NDArray[Any],
    pairs: PairSet,
    subject: NDArray[Any],
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Every recipe's figure on the same vectors, and how far apart the recipes are.

    Features of one view are scored as they are, whatever a recipe fuses; the column says so.
    """
    views = features.shape[1] if features.ndim == 3 else 1
    compared = (Recipe(name="(evalkit)"), *RECIPES.values())
    lines: list[tuple[str, ...]] = [(*_COLUMNS, "here %")]
    values: list[float] = []
    known: dict[str, Estimate] = {}
    for done, recipe in enumerate(compared, 1):
        applied = recipe if views > 1 else replace(recipe, fusion="none")
        same = _capped(applied, views * features.shape[-1]).digest()
        if same not in known:
            known[same] = recipes.figure(applied, features, pairs, subject)
        found = known[same]
        row = list(_row(recipe))
        if applied != recipe:
            row[1] += " (one view)"
        here = "-" if found.value is None else f"{100 * found.value:.2f}"
        if found.standard_error is not None:
            here += f" ± {100 * found.standard_error:.2f}"
        lines.append((*row, here))
        if found.value is not None and recipe.figure == "accuracy":
            values.append(100 * found.value)
        if progress is not None:
            progress(done, len(compared))
    spread = f"accuracy {min(values):.2f} to {max(values):.2f}: "
    return f"{_laid_out(lines)}\n{spread}{np.ptp(values):.2f} points are the recipe alone"


def _capped(recipe: Recipe, dimensions: int) -> Recipe:
    """Return the recipe as it acts on so many dimensions: PCA to more than there are keeps all."""
    if recipe.dimensions is None:
        return recipe
    return replace(recipe, dimensions=min(recipe.dimensions, dimensions))


def _row(recipe: Recipe) -> tuple[str, ...]:
    fusion = f"unit {recipe.fusion}" if recipe.unit_views else recipe.fusion
    learned: str = "mean" if recipe.centring != "none" else recipe.projection
    if recipe.dimensions is not None:
        learned = f"pca {recipe.dimensions}"
        learned += ", joint bayesian" if recipe.projection == "joint bayesian" else ""
    published = "-" if recipe.published is None else f"{recipe.published:.2f}"
    threshold = recipe.threshold if recipe.figure == "accuracy" else recipe.figure
    return recipe.name, fusion, learned, recipe.score, threshold, published


def _laid_out(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


@click.command("recipes")
def command() -> None:
    """Show how each published system turns vectors into its LFW figure, and where that is read.

    "learned" is learned on the training folds only.  Use one with --recipe NAME.
    """
    click.echo(_laid_out([_COLUMNS, *map(_row, RECIPES.values())]))
    for recipe in RECIPES.values():
        click.echo(f"\n{recipe.name}: {recipe.source}")
        if recipe.recalled:
            click.echo(f"    not read in code: {recipe.recalled}")
        if recipe.input:
            click.echo(f"    images: --preset {recipe.input}")
