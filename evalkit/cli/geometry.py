"""`evalkit geometry`: how the classes of any embeddings lie in space."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from evalkit import run
from evalkit.cli.engine_options import memory_option
from evalkit.cli.options import features_options, flip_option, new_command, subjects_option
from evalkit.cli.output import Output, bar, output_options
from evalkit.cli.parameters import Readable
from evalkit.cli.terminal import say
from evalkit.cli.vector_options import say_type
from evalkit.datasets.trillion import read_subjects
from evalkit.errors import DataError
from evalkit.identity import digest
from evalkit.protocols.allpairs import Engine
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.vectors import matching


@new_command(
    "geometry", "evalkit geometry features.h5", "evalkit geometry --features F.npy --keys K.txt"
)
@click.argument("file", type=Readable(folder=True), required=False, metavar="[FEATURES.h5]")
@features_options
@subjects_option("; else the folder of its key")
@flip_option
@memory_option
@output_options
def command(
    file: Path | None,
    features: Path | None,
    keys: Path | None,
    allow_failures: bool,
    subjects: Path | None,
    flip: Flip,
    engine: Engine,
    output: Output,
) -> int:
    """Distances within and between classes, norms, regions, spectrum and hubs.

    FEATURES.h5 is a feature file made by evalkit; or give --features FILE, with embeddings made
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
    vectors = matching.from_embeddings(path, keys, allow_failures=allow_failures)
    say_type(vectors.features, path)
    who = run.subjects_of(vectors) if subjects is None else read_subjects(subjects, vectors.keys)
    if len(who) != len(vectors.features):
        raise DataError(
            f"{path.name} has {len(vectors.features)} rows, the list {len(who)} subjects"
        )
    if len(np.unique(who[who >= 0])) == np.count_nonzero(who >= 0):
        say("no two images share a subject: give --subjects, or keys like PERSON/IMAGE.jpg")
    with bar("pairs", "pair") as progress:
        report = run.evaluate(
            "geometry",
            vectors,
            who,
            flip=flip,
            progress=progress,
            engine=engine,
            set_name=output.set_name(subjects),
            file=subjects,
            provenance={"manifest": digest([*map(str, vectors.keys or ())], who)},
        )
    n, known = len(who), report.provenance["subjects"]
    title = f"Geometry: {n:,} images of {known:,} subjects, {path.name}"
    return output.deliver(report, title)
