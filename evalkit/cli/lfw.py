"""`evalkit lfw`: Labeled Faces in the Wild, View 2."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from evalkit import vectors
from evalkit.cli.options import PATH, Output, features_options, output_options
from evalkit.datasets import lfw as lists
from evalkit.datasets.pair_lists import PairList
from evalkit.protocols import lfw
from evalkit.protocols.scores import Flip

flip_option = click.option(
    "--flip",
    type=click.Choice(["none", "sum", "concat"]),
    default="none",
    show_default=True,
    help="How an image's vector and its mirror image's are fused.",
)


@click.command()
@features_options
@click.option("--pairs", type=PATH, metavar="LIST", help="A list of pairs in LFW's layout.")
@flip_option
@click.option("--errata", is_flag=True, help="Show also the accuracy without the wrong labels.")
@output_options
def command(
    features: Path | None,
    keys: Path | None,
    allow_failures: bool,
    pairs: Path | None,
    flip: Flip,
    errata: bool,
    output: Output,
) -> int:
    """LFW View 2: 10-fold verification accuracy, AUC, EER, TPR@FAR."""
    if features is None:
        raise click.UsageError("give --model MODEL, or --features FILE with embeddings")
    compared = lists.official_pairs() if pairs is None else lists.read_pairs(pairs)
    manifest, comparisons = compared.resolve()
    made = vectors.from_embeddings(features, keys, manifest, allow_failures=allow_failures)
    report = lfw.evaluate(
        made.features,
        comparisons,
        manifest.subject,
        flip=flip,
        errata=lists.errata(compared) if errata else None,
    )
    provenance = {"manifest": manifest.digest(), **report.provenance, **made.provenance}
    named = {**(report.outcomes or {}), "keys": np.array(manifest.keys)}
    report = replace(report, provenance=provenance, outcomes=named)
    return output.deliver(report, _title(compared, features.name))


def _title(compared: PairList, source: str) -> str:
    official = "official View 2" if lists.is_official(compared) else compared.source
    return f"LFW, {official}: {len(compared):,} pairs, {source}"
