"""`evalkit lfw`: Labeled Faces in the Wild, View 2."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from evalkit import alignment, images, vectors
from evalkit.cli.model_options import ModelChoice, crop_of, data_option, model_options
from evalkit.cli.options import PATH, Output, features_options, output_options
from evalkit.cli.recipes import ALL, advise, chosen, fed, flip_given, recipe_option, side_by_side
from evalkit.datasets import bin as bin_sets
from evalkit.datasets import lfw as lists
from evalkit.datasets import lfw_images
from evalkit.datasets.pair_lists import PairList
from evalkit.errors import EXIT_DONE, DataError
from evalkit.protocols import lfw, verification
from evalkit.protocols.scores import Flip

flip_option = click.option(
    "--flip",
    type=click.Choice(["none", "sum", "concat"]),
    default="none",
    show_default=True,
    help="How an image's vector and its mirror image's are fused.",
)


@click.command()
@model_options
@data_option
@features_options
@click.option("--pairs", type=PATH, metavar="LIST", help="A list of pairs in LFW's layout.")
@flip_option
@recipe_option(ALL)
@click.option("--errata", is_flag=True, help="Show also the accuracy without the wrong labels.")
@output_options
def command(
    choice: ModelChoice,
    data: Path | None,
    features: Path | None,
    keys: Path | None,
    allow_failures: bool,
    pairs: Path | None,
    flip: Flip,
    recipe_name: str | None,
    errata: bool,
    output: Output,
) -> int:
    """LFW View 2: 10-fold verification accuracy, AUC, EER, TPR@FAR.

    --recipe all shows every published system's recipe on the same vectors.
    With a model and no --data, LFW is fetched once from its site (68 MB) and aligned.
    """
    if (choice.model is None) == (features is None):
        raise click.UsageError("give --model MODEL, or --features FILE with embeddings")
    if recipe_name == ALL and (
        flip_given() or errata or output.out or output.gate or output.json_path
    ):
        raise click.UsageError(
            "--recipe all prints a table: leave --flip, --errata and reports out"
        )
    recipe = None if recipe_name == ALL else chosen(recipe_name, flip)
    advise(recipe_name, output)
    source = None
    if data is not None and data.suffix.lower() == ".bin":
        source, compared = bin_sets.read(data)
        folds = verification.folds_by_position(compared.genuine)
        if folds is None:
            n = int(compared.genuine.sum())
            raise DataError(
                f"{data.name} holds {n} genuine and {len(compared) - n} impostor pairs",
                "ten folds need ten of each",
            )
        compared = replace(compared, fold=folds)
    else:
        compared = lists.official_pairs() if pairs is None else lists.read_pairs(pairs)
    manifest, comparisons = compared.resolve()
    if features is not None:
        made = vectors.from_embeddings(features, keys, manifest, allow_failures=allow_failures)
        taken = fed(recipe, features, output)
    else:
        adapter = choice.load()
        taken = fed(recipe, adapter.spec, output)
        if source is None:
            wanted = None if choice.aligns else adapter.spec.crop
            source = _fetched(wanted, output) if data is None else images.find(data)
        fusion = "sum" if recipe_name == ALL else recipe.fusion if recipe else flip
        views = 1 if fusion == "none" else 2
        store = choice.embed(adapter, source, manifest, views, output)
        made = vectors.from_store(store, manifest)
        crop = crop_of(store, adapter.spec.crop)
        made = replace(made, provenance={**made.provenance, "crop": crop})
    if recipe_name == ALL:
        with output.bar("recipes", "recipe") as progress:
            shown = side_by_side(made.features, comparisons, manifest.subject, progress)
        click.echo(shown)
        return EXIT_DONE
    report = lfw.evaluate(
        made.features,
        comparisons,
        manifest.subject,
        flip=flip,
        recipe=recipe,
        errata=lists.errata(compared) if errata else None,
    )
    provenance = {**report.provenance, **made.provenance, **taken}
    named = {**(report.outcomes or {}), "keys": np.array(manifest.keys)}
    report = replace(report, provenance=provenance, outcomes=named)
    return output.deliver(report, _title(compared, Path(choice.model or str(features)).name))


def _fetched(crop: str | None, output: Output) -> images.ImageSource:
    """LFW from its own site, each face moved onto the template of a crop, or untouched."""
    with output.bar("fetching LFW", "image") as progress:
        folder = lfw_images.fetch(progress)
    if crop is None:
        return images.find(folder)
    keys, points = lfw_images.landmarks()
    return alignment.aligned(images.find(folder).select(keys), points, crop)


def _title(compared: PairList, source: str) -> str:
    official = "official View 2" if lists.is_official(compared) else compared.source
    return f"LFW, {official}: {len(compared):,} pairs, {source}"
