"""`evalkit blufr`: all of LFW in ten trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from evalkit import vectors
from evalkit.cli.lfw import flip_option
from evalkit.cli.options import PATH, Output, features_options, output_options
from evalkit.datasets.blufr import read_config
from evalkit.protocols import blufr
from evalkit.protocols.scores import Flip
from evalkit.types import Manifest


@click.command("blufr")
@features_options
@click.option("--config", type=PATH, required=True, metavar="MAT", help="blufr_lfw_config.mat")
@click.option("--far", default=blufr.FAR, show_default=True, help="FAR of verification.")
@click.option("--fpir", default=blufr.FPIR, show_default=True, help="FPIR of the search.")
@flip_option
@output_options
def command(
    features: Path | None,
    keys: Path | None,
    allow_failures: bool,
    config: Path,
    far: str,
    fpir: str,
    flip: Flip,
    output: Output,
) -> int:
    """BLUFR: verification at FAR 0.1 % and open-set search at FAR 1 %, mu - sigma of ten trials."""
    if features is None:
        raise click.UsageError("give --features FILE with embeddings of all of LFW")
    asked = read_config(config)
    manifest = Manifest(asked.keys, asked.subject)
    made = vectors.from_embeddings(features, keys, manifest, allow_failures=allow_failures)
    report = blufr.evaluate(
        made.features, manifest.subject, asked.trials, flip=flip, far=far, fpir=fpir
    )
    provenance = {"config": config.name, **report.provenance, **made.provenance}
    report = replace(report, provenance=provenance)
    return output.deliver(report, f"BLUFR: {len(asked.trials)} trials, {features.name}")
