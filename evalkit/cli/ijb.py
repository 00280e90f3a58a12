"""`evalkit ijb`: IJB-B and IJB-C, 1:1 and 1:N, from the lists of InsightFace's scripts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from evalkit import alignment, images
from evalkit.adapters import embeddings, vector_files
from evalkit.cli.model_options import ModelChoice, crop_of, data_option, model_options
from evalkit.cli.options import PATH, Output, fars_option, features_options, output_options
from evalkit.cli.recipes import chosen, fed, recipe_option
from evalkit.datasets import ijb as files
from evalkit.errors import DataError
from evalkit.keys import digest, rows_of
from evalkit.protocols import ijb
from evalkit.protocols.recipes import Recipe
from evalkit.protocols.scores import Flip
from evalkit.types import Manifest


@click.command("ijb")
@model_options
@data_option
@features_options
@click.option("--media", type=PATH, required=True, help="ijbc_face_tid_mid.txt")
@click.option("--pairs", type=PATH, help="ijbc_template_pair_label.txt, for 1:1.")
@click.option("--gallery", "galleries", type=PATH, multiple=True, help="A 1N_gallery csv, for 1:N.")
@click.option("--probe", type=PATH, help="The 1N_probe_mixed csv, for 1:N.")
@click.option("--detections", type=PATH, help="ijbc_name_5pts_score.txt: detection scores.")
@click.option(
    "--flip",
    type=click.Choice(["none", "sum", "concat"]),
    default="none",
    show_default=True,
    help="How an image's two views are fused: F1 is sum.",
)
@recipe_option()
@click.option(
    "--keep-norm/--unit-images",
    default=True,
    help="Pool vectors as they are (N1) or of unit length (N0).",
)
@click.option(
    "--media-pooling/--no-media-pooling", default=True, help="Average the frames of a video first."
)
@click.option("--compat", is_flag=True, help="Show also the numbers by InsightFace's rules.")
@fars_option(ijb.FARS)
@click.option(
    "--fpir",
    "fpirs",
    multiple=True,
    default=ijb.FPIRS,
    show_default=True,
    help="An FPIR to give the TPIR at; may be repeated.",
)
@output_options
def command(
    choice: ModelChoice,
    data: Path | None,
    features: Path | None,
    keys: Path | None,
    allow_failures: bool,
    media: Path,
    pairs: Path | None,
    galleries: tuple[Path, ...],
    probe: Path | None,
    detections: Path | None,
    flip: Flip,
    recipe_name: str | None,
    keep_norm: bool,
    media_pooling: bool,
    compat: bool,
    fars: tuple[str, ...],
    fpirs: tuple[str, ...],
    output: Output,
) -> int:
    """IJB-B and IJB-C: TPR@FAR of template pairs, or rank-k and TPIR@FPIR of searches.

    FILE holds an embedding an image, named by --keys, or in the order of --media without.
    --detections multiplies each by its face's detection score (D1). With --model, the images of
    --data are aligned by the landmarks of --detections and embedded once.
    """
    if (choice.model is None) == (features is None):
        raise click.UsageError(
            "give --features FILE with an embedding an image, or --model MODEL and --data IMAGES"
        )
    if (pairs is None) == (probe is None) or bool(galleries) != (probe is not None):
        raise click.UsageError("give --pairs for 1:1, or --gallery (twice) and --probe for 1:N")
    recipe = chosen(recipe_name, flip, folds=False)
    fused = Recipe(fusion=flip) if recipe is None else recipe
    listed = files.read_media(media)
    found = None if detections is None else files.read_detections(detections)
    if features is None:
        x, provenance = _embedded(choice, data, listed, found, fused, output)
    else:
        x, provenance = _features(features, keys, allow_failures, listed)
        provenance |= fed(recipe, features, output)
    score = None if found is None else found.score[_rows(found, listed)]
    how = ijb.Pooling(
        fused.fusion, keep_norm, score is not None, media_pooling, unit_views=fused.unit_views
    )
    templates = ijb.pool(x, listed.template, listed.media, score, how)
    provenance |= {"pooling": how.name, "media": media.name, "images": len(x)}
    provenance |= {} if recipe is None else recipe.provenance()
    columns: list[NDArray[Any]] = [listed.template, listed.media]
    if pairs is not None:
        compared = files.read_pairs(pairs)
        columns += [compared.left, compared.right, compared.genuine]
        report = ijb.verify(
            templates, compared.left, compared.right, compared.genuine, fars=fars, nearest=compat
        )
    if probe is not None:
        enrolled = [files.read_enrolled(g) for g in galleries]
        searched = files.read_enrolled(probe)
        columns += [c for e in (*enrolled, searched) for c in (e.template, e.subject)]
        report = ijb.identify(templates, enrolled, searched, fpirs=fpirs, insightface=compat)
    provenance["manifest"] = digest(listed.names, *columns)
    report = replace(report, provenance={**provenance, **report.provenance})
    made = Path(choice.model or str(features)).name
    return output.deliver(report, f"IJB {report.protocol[4:]}, {how.name}, {made}")


def _features(
    path: Path, keys: Path | None, allow_failures: bool, listed: files.Media
) -> tuple[NDArray[Any], dict[str, Any]]:
    if keys is None and path.suffix == ".npy":
        x = vector_files.read(path)[0]
        embeddings.check(x, path)
        if len(x) != len(listed.names):
            raise DataError(
                f"{path.name} has {len(x)} rows, the list {len(listed.names)} images",
                "without --keys, row i is image i of the list",
            )
        return x, {"features": path.name}
    made = embeddings.read(path, keys, allow_failures=allow_failures)
    rows = rows_of(listed.names, made.keys)
    in_order = np.array_equal(rows, np.arange(len(made.keys)))
    found = made.features if in_order else made.features[rows]
    return found, {"features": path.name, "features_sha256": made.digest}


def _embedded(
    choice: ModelChoice,
    data: Path | None,
    listed: files.Media,
    found: files.Detections | None,
    how: Recipe,
    output: Output,
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Embed the listed images, aligned by the list's own landmarks unless the user says how."""
    if data is None:
        raise click.UsageError("give --data IMAGES")
    names = tuple(dict.fromkeys(listed.names))
    manifest = Manifest(names, np.full(len(names), -1, np.int32))
    source, adapter = images.find(data).select(names), choice.load()
    if found is not None and not choice.aligns:
        marks = found.landmarks[rows_of(names, found.names, "detections")]
        source = alignment.aligned(source, marks, adapter.spec.crop)
    taken = fed(how if how.name else None, adapter.spec, output)
    store = choice.embed(adapter, source, manifest, 1 if how.fusion == "none" else 2, output)
    x = store.features
    if names != listed.names:
        x = x[rows_of(listed.names, names)]
    return x, {**store.key, "crop": crop_of(store, adapter.spec.crop), **taken}


def _rows(found: files.Detections, listed: files.Media) -> NDArray[np.int64]:
    """Row of each listed image among the detections."""
    if found.names == listed.names:
        return np.arange(len(found.names))
    return rows_of(listed.names, found.names, "detection scores")
