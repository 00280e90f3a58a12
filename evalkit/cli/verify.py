"""`evalkit verify`: any list of pairs, with or without folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from evalkit import images, vectors
from evalkit.cli.lfw import flip_option
from evalkit.cli.model_options import ModelChoice, crop_of, data_option, model_options
from evalkit.cli.options import (
    PATH,
    Output,
    cluster_option,
    fars_option,
    features_options,
    output_options,
)
from evalkit.cli.recipes import advise, chosen, fed, recipe_option
from evalkit.datasets import layouts
from evalkit.protocols import verification
from evalkit.protocols.scores import Flip

if TYPE_CHECKING:
    from evalkit.cluster import Cluster


@click.command()
@click.argument("pairs", type=PATH)
@click.option(
    "--format",
    "set_format",
    type=click.Choice(layouts.LAYOUTS),
    help="How PAIRS is laid out, where it cannot be told.",
)
@model_options
@data_option
@cluster_option
@features_options
@flip_option
@recipe_option()
@fars_option(verification.FARS)
@output_options
def command(
    pairs: Path,
    set_format: str | None,
    choice: ModelChoice,
    data: Path | None,
    cluster: Cluster | None,
    features: Path | None,
    keys: Path | None,
    allow_failures: bool,
    flip: Flip,
    recipe_name: str | None,
    fars: tuple[str, ...],
    output: Output,
) -> int:
    """Verify PAIRS: accuracy, AUC, EER, TPR@FAR on any list of pairs.

    PAIRS is a list in the layout of LFW (XQLFW, RFW), CALFW or CPLFW, 'path path 0|1', AgeDB's
    .mat, the folder of CFP, or a set with its images: InsightFace's .bin, a bcolz folder.
    A list without folds is split by a rule that the report states.
    """
    if (choice.model is None) == (features is None):
        raise click.UsageError("give --model MODEL, or --features FILE with embeddings")
    recipe = chosen(recipe_name, flip)
    advise(recipe_name, output)
    held = layouts.read(pairs, set_format)
    manifest, comparisons = held.pairs.resolve()
    if features is not None:
        made = vectors.from_embeddings(features, keys, manifest, allow_failures=allow_failures)
        taken = fed(recipe, features, output)
    else:
        source = images.find(data) if data is not None else held.images
        if source is None:
            raise click.UsageError(f"{pairs.name} holds no images: add --data IMAGES")
        adapter = choice.load()
        taken = fed(recipe, adapter.spec, output)
        views = 1 if (recipe.fusion if recipe else flip) == "none" else 2
        store = choice.embed(adapter, source, manifest, views, output, cluster=cluster)
        made = vectors.from_store(store, manifest)
        crop = crop_of(store, adapter.spec.crop)
        made = replace(made, provenance={**made.provenance, "crop": crop})
    report = verification.evaluate(
        made.features, comparisons, manifest.subject, flip=flip, recipe=recipe, fars=fars
    )
    provenance = {
        "list": pairs.name,
        "layout": held.layout,
        "manifest": manifest.digest(),
        **report.provenance,
        **made.provenance,
        **taken,
    }
    if held.pairs.fold_rule:
        provenance["folds"] = held.pairs.fold_rule
    named = {**(report.outcomes or {}), "keys": np.array(manifest.keys)}
    report = replace(report, provenance=provenance, outcomes=named)
    title = f"{pairs.name}: {len(comparisons):,} pairs, folds: {provenance['folds']}"
    return output.deliver(report, title)
