"""`evalkit embed`: the vectors of any images, kept in a feature file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.cli import spec_trial
from evalkit.cli.model_options import EmbeddingChoice, model_options
from evalkit.cli.options import cluster_option, new_command, quiet_option
from evalkit.cli.parameters import Writable
from evalkit.cli.terminal import show

if TYPE_CHECKING:
    from evalkit.cluster import Cluster


@new_command(
    "embed", "evalkit embed features.h5 --model model.onnx --preset arcface --data images/"
)
@model_options
@cluster_option
@click.option(
    "--views",
    type=click.IntRange(1, 2),
    metavar="N",
    default=1,
    help="Views per image: 2 adds the mirror image.",
)
@click.argument("features", type=Writable(parents=True))
@quiet_option()
def command(choice: EmbeddingChoice, cluster: Cluster | None, views: int, features: Path) -> None:
    """Embed the images of --data into the feature file FEATURES, and resume an interrupted run."""
    if features.suffix.lower() not in (".h5", ".hdf5"):
        raise click.UsageError(f"{features} has no suffix .h5: a feature file is HDF5")
    source = choice.images.find()
    adapter, choice = spec_trial.loaded(choice, source, source.manifest())
    store = choice.embed(adapter, source, source.manifest(), views, path=features, cluster=cluster)
    n, _, dim = store.features.shape
    show(f"{features}: {n:,} images, {views} x {dim}, {int(store.failed.sum())} failed")
