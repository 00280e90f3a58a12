"""`evalkit geometry`: how the classes of any embeddings lie in space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from evalkit.cli.options import Command, features_options, flip_option
from evalkit.cli.output import Output, output_options
from evalkit.cli.parameters import Readable
from evalkit.datasets.trillion import read_subjects
from evalkit.errors import DataError
from evalkit.identity import digest
from evalkit.keys import subjects_of
from evalkit.protocols import geometry
from evalkit.protocols.metrics.similarity import Flip
from evalkit.vectors import embeddings
from evalkit.vectors.store import FeatureStore


@click.command(
    "geometry",
    cls=Command,
    examples=[
        "evalkit geometry features.h5",
        "evalkit geometry --features F.npy --keys K.txt",
    ],
)
@click.argument("file", type=Readable(folder=True), required=False, metavar="[FEATURES.h5]")
@features_options
@click.option(
    "--subjects",
    type=Readable(),
    metavar="LIST",
    help="Line i is the subject of row i, - for nobody; else the folder of its key.",
)
@flip_option
@output_options
def command(
    file: Path | None,
    features: Path | None,
    keys: Path | None,
    allow_failures: bool,
    subjects: Path | None,
    flip: Flip,
    output: Output,
) -> int:
    """Distances within and between classes, norms, regions, spectrum and hubs.

    FEATURES.h5 is a feature file of evalkit's, or give --features FILE with embeddings made
    elsewhere. Vectors are measured as they are, not normalised.
    """
    path = file or features
    if path is None or (file is not None and features is not None):
        both = "" if path is None else "both are given: "
        raise click.UsageError(f"{both}give FEATURES.h5, or --features FILE with embeddings")
    if output.gate is not None:
        raise click.UsageError(
            "geometry has no outcomes to pair: keep it with --out, and hold it by rules with "
            'test = "plain" in evalkit gate --rules'
        )
    made = embeddings.read(path, keys, allow_failures=allow_failures)
    who = _subjects(path, made.keys, subjects)
    if len(who) != len(made.features):
        raise DataError(f"{path.name} has {len(made.features)} rows, the list {len(who)} subjects")
    if len(np.unique(who[who >= 0])) == np.count_nonzero(who >= 0):
        output.say("no two images share a subject: give --subjects, or keys like PERSON/IMAGE.jpg")
    with output.bar("pairs", "pair") as progress:
        report = geometry.evaluate(
            made.features,
            who,
            flip=flip,
            progress=progress,
            keys=made.keys,
            images=_images(path),
            set_name=output.set_name(subjects),
        )
    source = {"features": path.name, "features_sha256": made.digest}
    source["manifest"] = digest(made.keys, who)
    report = replace(report, provenance={**report.provenance, **source})
    n, known = len(who), report.provenance["subjects"]
    title = f"Geometry: {n:,} images of {known:,} subjects, {path.name}"
    return output.deliver(report, title, subjects)


def _images(path: Path) -> NDArray[np.uint8] | None:
    """Give the digests of the images, (N, 32), that a feature file of evalkit knows."""
    if not embeddings.is_own(path):
        return None
    with FeatureStore.open(path) as store:
        return store.images


def _subjects(path: Path, keys: tuple[str, ...], listed: Path | None) -> NDArray[np.int32]:
    """Who each row shows: from the list, evalkit's own file, or the folder of each key."""
    if listed is not None:
        return read_subjects(listed)
    if embeddings.is_own(path):
        with FeatureStore.open(path) as store:
            return store.manifest.subject
    return subjects_of(keys)
