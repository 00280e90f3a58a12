"""`evalkit ijb`: IJB-B and IJB-C, 1:1 and 1:N, from the lists of InsightFace's scripts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from evalkit import templates
from evalkit.cli.engine_options import memory_option
from evalkit.cli.options import fars_option, file_option, groups_option, new_command, rates_option
from evalkit.cli.output import Output, output_options
from evalkit.cli.parameters import Readable
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.cli.vector_options import VectorSource, input_provenance, say_type, vector_options
from evalkit.datasets import ijb as files
from evalkit.datasets.group_table import GroupFile
from evalkit.errors import DataError
from evalkit.protocols import ijb
from evalkit.protocols.allpairs import Engine
from evalkit.templates import ListedImages
from evalkit.types import Report
from evalkit.vectors import matching
from evalkit.vectors.matching import Vectors


@new_command(
    "ijb",
    "evalkit ijb --features F.npy --media ijbc_face_tid_mid.txt \\",
    "    --pairs ijbc_template_pair_label.txt",
)
@file_option(
    "--media", "LIST", "Templates and media of the images, ijbc_face_tid_mid.txt.", required=True
)
@file_option(
    "--pairs",
    "LIST",
    "Pairs of 1:1: ijbc_template_pair_label.txt, or NIST's matches csv with --subjects.",
)
@file_option(
    "--subjects",
    "LIST",
    "Subjects of the templates, NIST's csv, for --pairs without labels; may be repeated.",
    multiple=True,
)
@click.option(
    "--gallery",
    "galleries",
    type=Readable(),
    metavar="LIST",
    multiple=True,
    help="Gallery of 1:N, a 1N_gallery csv.",
)
@file_option("--probe", "LIST", "Probes of 1:N, the 1N_probe_mixed csv.")
@file_option("--detections", "LIST", "Detection scores, ijbc_name_5pts_score.txt.")
@vector_options()
@click.option(
    "--keep-norm/--unit-images",
    default=True,
    help="Pool vectors as they are (N1), or made unit length first (N0).",
)
@click.option(
    "--media-pooling/--no-media-pooling",
    default=True,
    help="Average the frames of a video before pooling a template.",
)
@click.option("--compat", is_flag=True, help="Also give the numbers by InsightFace's rules.")
@fars_option(ijb.FARS)
@rates_option("--fpir", "FPIR to give the TPIR at, as 1e-2; may be repeated.", ijb.FPIRS)
@threshold_options
@groups_option
@memory_option
@output_options
def command(
    source: VectorSource,
    media: Path,
    pairs: Path | None,
    subjects: tuple[Path, ...],
    galleries: tuple[Path, ...],
    probe: Path | None,
    detections: Path | None,
    keep_norm: bool,
    media_pooling: bool,
    compat: bool,
    fars: tuple[str, ...],
    fpirs: tuple[str, ...],
    given: GivenThresholds,
    groups: GroupFile | None,
    engine: Engine,
    output: Output,
) -> int:
    """IJB-B and IJB-C: TPR@FAR of template pairs, or rank-k and TPIR@FPIR of searches.

    FILE holds an embedding per image, named by --keys or, without it, in the order of --media.
    --flip sum is F1. --detections multiplies each by its face's detection score (D1). With
    --model, the images of --data are aligned by the landmarks of --detections and embedded once.
    """
    if (pairs is None) == (probe is None) or bool(galleries) != (probe is not None):
        raise click.UsageError("give --pairs for 1:1, or --gallery (twice) and --probe for 1:N")
    if subjects and pairs is None:
        raise click.UsageError(
            "--subjects are those of --pairs; galleries and probes have their own"
        )
    listed = ListedImages(
        file=media.name,
        media=files.read_media(media),
        detections=None if detections is None else files.read_detections(detections),
    )
    how = templates.pooling(listed, source.how, norm=keep_norm, media=media_pooling)
    protocol: Callable[..., Report]
    known: list[ijb.Enrolled] = []
    doubts: dict[str, str] = {}
    if pairs is not None:
        known = [files.read_enrolled(each) for each in subjects]
        compared = files.read_matches(pairs, known) if known else files.read_pairs(pairs)
        comparisons: tuple[Any, ...] = compared.left, compared.right, compared.genuine
        doubts = files.doubts(compared, pairs.name)
        protocol = partial(ijb.verify, fars=fars, nearest=compat)
    if probe is not None:
        known = [files.read_enrolled(each) for each in (*galleries, probe)]
        comparisons = known[:-1], known[-1]
        enrolled = np.concatenate([each.template for each in known[:-1]])
        if len(both := np.intersect1d(enrolled, known[-1].template)):
            raise DataError(
                f"{probe.name} searches for {len(both):,} templates that are enrolled, "
                f"first {both[0]}",
                "a template is found by another of its subject: leave it out of one list",
            )
        protocol = partial(ijb.identify, fpirs=fpirs, insightface=compat, engine=engine)
    report = templates.evaluate(
        protocol,
        _vectors(source, listed),
        listed,
        comparisons,
        how,
        groups=groups,
        known=known,
        threshold=given.of({}),
        set_name=output.set_name(media),
        file=pairs or probe,
        provenance={**source.how.scored_by(), **given.provenance(), **doubts},
    )
    return output.deliver(report, f"IJB {report.protocol[4:]}, {how.name}, {source.name}")


def _vectors(source: VectorSource, listed: ListedImages) -> Vectors:
    """Take a vector for each image, aligned by the lists' landmarks unless the user says how.

    An .npy without --keys has a row for each image of the list, in its order.
    """
    names, path = listed.media.names, source.features
    if path is not None and source.keys is None and path.suffix == ".npy":
        vectors = matching.by_position(path, allow_failures=source.allow_failures)
        say_type(vectors.features, path)
        if len(vectors.features) != len(names):
            raise DataError(
                f"{path.name} has {len(vectors.features)} rows, the list {len(names)} images",
                "without --keys, row i is image i of the list",
            )
        return vectors.with_provenance(input_provenance(source.recipe, path))
    return listed.in_order(source.vectors(listed.manifest, of_set=listed.landmarks))
