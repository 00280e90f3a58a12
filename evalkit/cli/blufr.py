"""`evalkit blufr`: all of LFW in ten trials."""

from __future__ import annotations

from pathlib import Path

from evalkit import run
from evalkit.cli.engine_options import memory_option
from evalkit.cli.options import file_option, groups_option, new_command, rate_option
from evalkit.cli.output import Output, output_options
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.cli.vector_options import VectorSource, vector_options
from evalkit.datasets.blufr import read_config
from evalkit.datasets.group_table import GroupFile
from evalkit.protocols import blufr
from evalkit.protocols.allpairs import Engine
from evalkit.types import Manifest


@new_command("blufr", "evalkit blufr --features F.npy --keys K.txt --config blufr_lfw_config.mat")
@file_option("--config", "MAT", "BLUFR's lists, blufr_lfw_config.mat.", required=True)
@rate_option("--far", "FAR of the verification rate.", blufr.FAR)
@rate_option("--fpir", "FPIR to give the TPIR at.", blufr.FPIR)
@threshold_options
@groups_option
@vector_options()
@memory_option
@output_options
def command(
    source: VectorSource,
    config: Path,
    far: str,
    fpir: str,
    given: GivenThresholds,
    groups: GroupFile | None,
    engine: Engine,
    output: Output,
) -> int:
    """BLUFR: verification at FAR 0.1 % and open-set search at FAR 1 %, mu - sigma of ten trials.

    With --model, the 13,233 images of LFW in --data are embedded once.
    """
    asked = read_config(config)
    manifest = Manifest(asked.keys, asked.subject)
    vectors = source.vectors(manifest)
    report = run.evaluate(
        "blufr",
        source.without_folds(vectors),
        manifest.subject,
        asked.trials,
        far=far,
        fpir=fpir,
        threshold=given.of({}),
        groups=groups,
        engine=engine,
        set_name=output.set_name(config),
        file=config,
        provenance={
            "config": config.name,
            **source.how.scored_by(),
            **given.provenance(),
        },
    )
    return output.deliver(report, f"BLUFR: {len(asked.trials)} trials, {source.name}")
