"""`evalkit verify`: any list of pairs, with or without folds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit import run
from evalkit.cli.options import (
    cluster_option,
    columns_option,
    fars_option,
    groups_option,
    new_command,
)
from evalkit.cli.output import Output, output_options, warn_of_turned
from evalkit.cli.parameters import Readable
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.cli.vector_options import VectorSource, layout_option, of_pairs, vector_options
from evalkit.datasets.group_table import GroupFile
from evalkit.protocols import verification

if TYPE_CHECKING:
    from evalkit.cluster import Cluster


@new_command(
    "verify",
    "evalkit verify agedb_30.bin --model model.onnx --preset arcface",
    "evalkit verify pairs.txt --features F.npy --keys K.txt --far 1e-3",
)
@click.argument("pairs", type=Readable(folder=True))
@layout_option
@columns_option(("left", "right", "label", "fold"))
@vector_options(data=False, folds=True)
@fars_option(verification.FARS)
@threshold_options
@groups_option
@partial(cluster_option, section="Model")  # embeds; pairs are compared here
@output_options
def command(
    pairs: Path,
    set_format: str | None,
    columns: dict[str, str] | None,
    source: VectorSource,
    fars: tuple[str, ...],
    given: GivenThresholds,
    groups: GroupFile | None,
    cluster: Cluster | None,
    output: Output,
) -> int:
    """Verify PAIRS: accuracy, AUC, EER, TPR@FAR on any list of pairs.

    PAIRS is a list in the layout of LFW (XQLFW, RFW), CALFW or CPLFW, a table of 'path path 0|1',
    perhaps with folds, in any order that a header names, AgeDB's .mat, the folder of CFP, or a set
    with its images: InsightFace's .bin, a bcolz folder.
    A list without folds is split by a rule that the report states.
    """
    compared, vectors = of_pairs(source, pairs, columns, cluster, set_format)
    report = run.evaluate(
        "verification",
        vectors,
        compared,
        flip=source.how.fusion,
        recipe=source.recipe,
        fars=fars,
        threshold=given.of(source.how.provenance()),
        groups=groups,
        provenance=given.provenance(),
        set_name=output.named,
    )
    warn_of_turned(report, "are the list's labels 1 for genuine, 0 for impostor?")
    title = (
        f"{pairs.name}: {report.provenance['pairs']:,} pairs, folds: {report.provenance['folds']}"
    )
    return output.deliver(report, title)
