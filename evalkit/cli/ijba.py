"""`evalkit ijba`: IJB-A, ten splits, 1:1 and 1:N."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit import run
from evalkit.cli.options import columns_or_groups_option, fars_option, new_command, rates_option
from evalkit.cli.output import Output, output_options
from evalkit.cli.parameters import Readable
from evalkit.cli.terminal import say
from evalkit.cli.vector_options import VectorSource, vector_options
from evalkit.datasets import group_table, ijba
from evalkit.datasets.group_table import GroupFile
from evalkit.errors import DataError
from evalkit.identity import digest
from evalkit.protocols.groups import By
from evalkit.protocols.ijb import Pooling, splits


@new_command("ijba", "evalkit ijba IJB-A/ --features F.npy --keys K.txt")
@click.argument("folder", type=Readable(folder=True))
@vector_options()
@click.option(
    "--keep-norm/--unit-images",
    default=False,
    help="Pool vectors as they are, or made unit length first.",
)
@click.option(
    "--media-pooling/--no-media-pooling",
    default=True,
    help="Average the frames of a video before pooling a template.",
)
@fars_option(splits.FARS)
@rates_option("--fpir", "FPIR to give the TPIR at, as 1e-2; may be repeated.", splits.FPIRS)
@columns_or_groups_option
@output_options
def command(
    folder: Path,
    source: VectorSource,
    keep_norm: bool,
    media_pooling: bool,
    fars: tuple[str, ...],
    fpirs: tuple[str, ...],
    groups: GroupFile | tuple[str, ...],
    output: Output,
) -> int:
    """IJB-A: TPR@FAR of template pairs, rank-k and TPIR@FPIR, mean over the splits.

    FOLDER holds NIST's CSVs, a split's anywhere below it. Each row of FILE is a face, its key the
    FILE of the CSVs (img/10281.jpg). --by takes columns of the CSVs, as GENDER or
    FACE_YAW-max:15,45, or of --groups.
    """
    listed = ijba.read(folder)
    vectors = source.vectors(listed.manifest)
    pooling = Pooling(
        source.how.fusion, keep_norm, False, media_pooling, unit_views=source.how.unit_views
    )
    report = run.evaluate(
        "ijba",
        vectors,
        listed.splits,
        listed.manifest.subject,
        pooling=pooling,
        fars=fars,
        fpirs=fpirs,
        groups=_grouped(listed, groups),
        set_name=output.set_name(folder),
        provenance={
            "lists": f"splits {', '.join(map(str, listed.numbers))} in {folder.name}",
            "manifest": digest(listed.manifest.keys, listed.manifest.subject),
            **source.how.scored_by(),
            **ijba.doubts(listed),
        },
    )
    return output.deliver(report, f"IJB-A: {len(listed.splits)} splits, {source.name}")


def _grouped(listed: ijba.SplitLists, groups: GroupFile | tuple[str, ...]) -> tuple[By, ...]:
    """Group the faces by columns of the CSVs, or by a table of images or subjects."""
    if not groups:
        return ()
    by = groups.by if isinstance(groups, GroupFile) else groups
    other: dict[str, int] = {}
    if isinstance(groups, GroupFile):
        table = group_table.read(groups.path)
    else:
        table, other = listed.attributes()
    if table.of_pairs:
        problem = f"{table.source} names pairs, and IJB-A's are of templates"
        raise DataError(problem, "give a table of images, whose first column is key")
    for column in {column for column, _, _ in table.used(by).values()}:
        if count := other.get(column):
            say(f"{column}: {count} images have several values in the lists, the first is taken")
    who = [str(subject) for subject in listed.manifest.subject]
    return table.of_rows(listed.manifest.keys, who, by)
