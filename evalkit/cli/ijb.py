"""`evalkit ijb`: IJB-B and IJB-C, 1:1 and 1:N, from the lists of InsightFace's scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from evalkit import run
from evalkit.cli.options import Command, fars_option, rates_option
from evalkit.cli.output import Output, output_options
from evalkit.cli.parameters import Readable
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.cli.vector_options import VectorSource, fed, vector_options
from evalkit.datasets import ijb as files
from evalkit.errors import DataError
from evalkit.identity import digest
from evalkit.images.landmarks import Landmarks
from evalkit.keys import rows_of
from evalkit.protocols import ijb
from evalkit.types import Manifest, Report
from evalkit.vectors import matching
from evalkit.vectors.matching import Vectors


@click.command(
    "ijb",
    cls=Command,
    examples=[
        "evalkit ijb --features F.npy --media ijbc_face_tid_mid.txt \\",
        "    --pairs ijbc_template_pair_label.txt",
    ],
)
@click.option(
    "--media", type=Readable(), metavar="LIST", required=True, help="ijbc_face_tid_mid.txt"
)
@click.option(
    "--pairs", type=Readable(), metavar="LIST", help="ijbc_template_pair_label.txt, for 1:1."
)
@click.option(
    "--gallery",
    "galleries",
    type=Readable(),
    metavar="LIST",
    multiple=True,
    help="A 1N_gallery csv, for 1:N.",
)
@click.option("--probe", type=Readable(), metavar="LIST", help="The 1N_probe_mixed csv, for 1:N.")
@click.option(
    "--detections",
    type=Readable(),
    metavar="LIST",
    help="ijbc_name_5pts_score.txt: detection scores.",
)
@vector_options()
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
@rates_option("--fpir", "An FPIR to give the TPIR at; may be repeated.", ijb.FPIRS)
@threshold_options
@output_options
def command(
    source: VectorSource,
    media: Path,
    pairs: Path | None,
    galleries: tuple[Path, ...],
    probe: Path | None,
    detections: Path | None,
    keep_norm: bool,
    media_pooling: bool,
    compat: bool,
    fars: tuple[str, ...],
    fpirs: tuple[str, ...],
    given: GivenThresholds,
    output: Output,
) -> int:
    """IJB-B and IJB-C: TPR@FAR of template pairs, or rank-k and TPIR@FPIR of searches.

    FILE holds an embedding an image, named by --keys, or in the order of --media without.
    --flip sum is F1. --detections multiplies each by its face's detection score (D1). With
    --model, the images of --data are aligned by the landmarks of --detections and embedded once.
    """
    if (pairs is None) == (probe is None) or bool(galleries) != (probe is not None):
        raise click.UsageError("give --pairs for 1:1, or --gallery (twice) and --probe for 1:N")
    listed = files.read_media(media)
    found = None if detections is None else files.read_detections(detections)
    made = _vectors(source, listed, found)
    score = None if found is None else found.score[_rows(found, listed)]
    how = ijb.Pooling(
        source.how.fusion,
        keep_norm,
        score is not None,
        media_pooling,
        unit_views=source.how.unit_views,
    )
    templates = ijb.pool(made.features, listed.template, listed.media, score, how)
    columns: list[NDArray[Any]] = [listed.template, listed.media]
    protocol: Callable[..., Report]
    if pairs is not None:
        compared = files.read_pairs(pairs)
        comparisons: tuple[Any, ...] = compared.left, compared.right, compared.genuine
        columns += comparisons
        protocol = partial(ijb.verify, fars=fars, nearest=compat)
    if probe is not None:
        enrolled = [files.read_enrolled(g) for g in galleries]
        searched = files.read_enrolled(probe)
        comparisons = enrolled, searched
        columns += [c for e in (*enrolled, searched) for c in (e.template, e.subject)]
        protocol = partial(ijb.identify, fpirs=fpirs, insightface=compat)
    told = {"pooling": how.name, "media": media.name, "images": len(made.features)}
    report = run.evaluate(
        protocol,
        replace(made, features=templates, keys=listed.names),
        *comparisons,
        threshold=given.of({}),
        set_name=output.set_name(media),
        file=pairs or probe,
        provenance={
            **told,
            **source.scored_by(),
            **given.provenance(),
            "manifest": digest(listed.names, *columns),
        },
    )
    return output.deliver(report, f"IJB {report.protocol[4:]}, {how.name}, {source.name}")


def _vectors(source: VectorSource, listed: files.Media, found: files.Detections | None) -> Vectors:
    """Take a vector for each image, aligned by the lists' landmarks unless the user says how.

    An .npy without --keys has a row for each image of the list, in its order.
    """
    names, path = tuple(dict.fromkeys(listed.names)), source.features
    if path is not None and source.keys is None and path.suffix == ".npy":
        held = matching.by_position(path)
        if len(held.features) != len(listed.names):
            raise DataError(
                f"{path.name} has {len(held.features)} rows, the list {len(listed.names)} images",
                "without --keys, row i is image i of the list",
            )
        return held.told(fed(source.recipe, path))
    manifest = Manifest(names, np.full(len(names), -1, np.int32))
    of_set = None if found is None else Landmarks(found.names, found.landmarks)
    made = source.vectors(manifest, of_set=of_set)
    if names == listed.names:
        return made
    rows = rows_of(listed.names, names)
    digests = None if made.images is None else made.images[rows]
    return replace(made, features=made.features[rows], images=digests)


def _rows(found: files.Detections, listed: files.Media) -> NDArray[np.int64]:
    """Row of each listed image among the detections."""
    if found.names == listed.names:
        return np.arange(len(found.names))
    return rows_of(listed.names, found.names, "detection scores")
