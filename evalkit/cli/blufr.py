"""`evalkit blufr`: all of LFW in ten trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from evalkit import images, vectors
from evalkit.cli.lfw import flip_option
from evalkit.cli.model_options import ModelChoice, crop_of, data_option, model_options
from evalkit.cli.options import PATH, Output, features_options, output_options
from evalkit.cli.recipes import chosen, fed, recipe_option
from evalkit.datasets.blufr import read_config
from evalkit.protocols import blufr, recipes
from evalkit.protocols.recipes import Recipe
from evalkit.protocols.scores import Flip
from evalkit.types import Manifest


@click.command("blufr")
@model_options
@data_option
@features_options
@click.option("--config", type=PATH, required=True, metavar="MAT", help="blufr_lfw_config.mat")
@click.option("--far", default=blufr.FAR, show_default=True, help="FAR of verification.")
@click.option("--fpir", default=blufr.FPIR, show_default=True, help="FPIR of the search.")
@flip_option
@recipe_option()
@output_options
def command(
    choice: ModelChoice,
    data: Path | None,
    features: Path | None,
    keys: Path | None,
    allow_failures: bool,
    config: Path,
    far: str,
    fpir: str,
    flip: Flip,
    recipe_name: str | None,
    output: Output,
) -> int:
    """BLUFR: verification at FAR 0.1 % and open-set search at FAR 1 %, mu - sigma of ten trials.

    With --model, the 13,233 images of LFW in --data are embedded once.
    """
    if (choice.model is None) == (features is None):
        raise click.UsageError(
            "give --features FILE with embeddings of all of LFW, or --model MODEL and --data IMAGES"
        )
    recipe = chosen(recipe_name, flip, folds=False)
    how = Recipe(fusion=flip) if recipe is None else recipe
    asked = read_config(config)
    manifest = Manifest(asked.keys, asked.subject)
    if features is not None:
        made = vectors.from_embeddings(features, keys, manifest, allow_failures=allow_failures)
        taken = fed(recipe, features, output)
    else:
        if data is None:
            raise click.UsageError("give --data IMAGES")
        adapter, views = choice.load(), 1 if how.fusion == "none" else 2
        taken = fed(recipe, adapter.spec, output)
        store = choice.embed(adapter, images.find(data), manifest, views, output)
        made = vectors.from_store(store, manifest)
        crop = crop_of(store, adapter.spec.crop)
        made = replace(made, provenance={**made.provenance, "crop": crop})
    x = recipes.without_folds(how, made.features)
    report = blufr.evaluate(x, manifest.subject, asked.trials, far=far, fpir=fpir)
    provenance = {"config": config.name, **report.provenance, **made.provenance, **taken}
    provenance |= {"flip": how.fusion, **({} if recipe is None else recipe.provenance())}
    report = replace(report, provenance=provenance)
    name = Path(choice.model or str(features)).name
    return output.deliver(report, f"BLUFR: {len(asked.trials)} trials, {name}")
