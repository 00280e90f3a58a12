"""`evalkit quality`: image quality against error, on any list of pairs."""

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
    new_command,
    rates_option,
)
from evalkit.cli.output import Output, output_options, warn_of_turned
from evalkit.cli.parameters import Readable
from evalkit.cli.terminal import say
from evalkit.cli.vector_options import VectorSource, of_pairs, vector_options
from evalkit.datasets import quality_table
from evalkit.protocols import quality

if TYPE_CHECKING:
    from evalkit.cluster import Cluster
    from evalkit.types import Report


@new_command(
    "quality",
    "evalkit quality pairs.txt --features F.npy --keys K.txt --quality quality.csv",
    "evalkit quality pairs.txt --model model.onnx --preset arcface --data LFW/",
)
@click.argument("pairs", type=Readable(folder=True))
@click.option(
    "--quality",
    "tables",
    type=Readable(),
    multiple=True,
    metavar="FILE.csv",
    help="Qualities: a key and one number or more per line; may be repeated.",
)
@rates_option(
    "--discard",
    "Share of lowest quality to discard, a fraction of 1; may be repeated.",
    quality.DISCARDED,
)
@columns_option(("left", "right", "label", "fold"))
@vector_options(data=False, folds=True)
@fars_option(quality.FARS)
@partial(cluster_option, section="Model")  # embeds; pairs are compared here
@output_options
def command(
    pairs: Path,
    tables: tuple[Path, ...],
    discards: tuple[str, ...],
    columns: dict[str, str] | None,
    source: VectorSource,
    fars: tuple[str, ...],
    cluster: Cluster | None,
    output: Output,
) -> int:
    """FNMR without the images of lowest quality: error versus discard, with intervals.

    PAIRS is a list as verify takes it. A quality is a column of numbers, higher is better; the
    lengths of the vectors ("norm") are one too, where they are not all the same. The threshold is
    chosen twice: before discarding, on all pairs, and after it, on the pairs left. Two qualities
    are compared by a paired test.
    """
    read = [quality_table.read(path) for path in tables]  # before an hour of embedding
    compared, vectors = of_pairs(source, pairs, columns, cluster)
    report = run.evaluate(
        "quality",
        vectors,
        compared,
        quality=quality_table.of_rows(read, compared.manifest.keys),
        discard=discards,
        flip=source.how.fusion,
        recipe=source.recipe,
        fars=fars,
        provenance={"quality files": ", ".join(path.name for path in tables)} if tables else {},
        set_name=output.named,
    )
    warn_of_turned(report, "are the list's labels 1 for genuine, 0 for impostor?")
    _warn_of_poor(report, fars)
    names = ", ".join(report.provenance["qualities"])
    title = f"{pairs.name}: {report.provenance['pairs']:,} pairs, qualities: {names}"
    return output.deliver(report, title)


def _warn_of_poor(report: Report, fars: tuple[str, ...]) -> None:
    """Say where discarding raises FNMR: a quality turned round, or none."""
    for name in report.provenance["qualities"]:
        for far in fars:
            curve = report.curves.get(f"edc@far={far},{quality.WAYS[0]}=x,quality={name}")
            area = [
                m.value
                for metric, m in report.metrics.items()
                if metric.startswith(f"edc-area@far={far},{quality.WAYS[0]}=")
                and metric.endswith(f",quality={name}")
            ]
            if curve and area and area[0] is not None and area[0] > curve["fnmr"][0]:
                say(f"warning: FNMR rises without the images of lowest {name}: is low better?")
                break
