"""`evalkit trillion`: hundreds of thousands of probes against millions of faces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

from evalkit import report as reports
from evalkit import run
from evalkit.cli.engine_options import engine_options
from evalkit.cli.options import (
    groups_option,
    new_command,
    rate_option,
    rates_option,
    subjects_option,
)
from evalkit.cli.output import Output, output_options
from evalkit.cli.parameters import Readable, Writable
from evalkit.cli.terminal import say
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.cli.vector_options import VectorSource, input_provenance, say_type, vector_options
from evalkit.datasets import trillion as files
from evalkit.datasets.group_table import GroupFile
from evalkit.errors import DataError, ReportError
from evalkit.identity import digest
from evalkit.protocols import recipes, trillion
from evalkit.protocols.allpairs import Engine
from evalkit.protocols.metrics.similarity import failed, normalise
from evalkit.protocols.metrics.vocabulary import resampling_of
from evalkit.replacing import SUBMISSION
from evalkit.types import Report
from evalkit.vectors import matching
from evalkit.vectors.matching import Vectors

if TYPE_CHECKING:
    from evalkit.cluster import Cluster


@new_command(
    "trillion",
    "evalkit trillion --features F.npy --subjects who.txt --out report.json",
    "evalkit trillion --model model.onnx --preset arcface --data FACES/",
)
@subjects_option()
@vector_options(by_key=False)
@click.option(
    "--one-set",
    is_flag=True,
    help="Compare all pairs of one set; for your own people see evalkit people.",
)
@rates_option(
    "--far", "FAR to give the TPR at, as 1e-6; may be repeated.  [default: the challenge's]"
)
@rate_option("--fpir", "FPIR to give the TPIR at.", trillion.FPIR)
@threshold_options
@groups_option
@click.option(
    "--submission",
    type=Writable(mark=SUBMISSION),
    metavar="OUT.bin",
    help="Also write the one-file submission: unit vectors in the order of the images.",
)
@click.option(
    "--expect",
    type=Readable(beside=".npz"),
    metavar="REPORT",
    help="Fail if the numbers differ from this report.",
)
@engine_options
@output_options
def command(
    source: VectorSource,
    subjects: Path | None,
    one_set: bool,
    fars: tuple[str, ...],
    fpir: str,
    given: GivenThresholds,
    groups: GroupFile | None,
    submission: Path | None,
    expect: Path | None,
    cluster: Cluster | None,
    engine: Engine,
    output: Output,
) -> int:
    """Trillion pairs: TPR@FAR to 1e-9, and search at FPIR 1e-3, of a labelled set.

    With --model, the images of --data are embedded once; each person has a folder, distractors
    have none, unless --subjects says who is who.
    """
    fpir_source = click.get_current_context().get_parameter_source("fpir")
    if one_set and fpir_source is not ParameterSource.DEFAULT:
        raise click.UsageError("--one-set compares pairs and has no searches: leave --fpir out")
    expected = None if expect is None else reports.read(expect)
    if source.features is None:
        vectors = _embedded(source, subjects, cluster)
    else:
        vectors = _read(source, source.features, subjects)
    x, subject = vectors.features, run.subjects_of(vectors)
    if submission is not None:
        files.write_submission(submission, _unit(x), *x.shape)
        say(f"the submission of {len(x):,} rows is {submission}")
    if one_set:
        protocol = partial(trillion.evaluate_one_set, fars=fars or trillion.ONE_SET_FARS)
    else:
        wanted = fars or (trillion.FARS if expected is None else _fars_of(expected))
        protocol = partial(trillion.evaluate, fars=wanted, fpir=fpir)
    if vectors.keys is None and output.named:
        vectors = replace(vectors, keys=range(len(x)))
    report = run.evaluate(
        protocol,
        vectors,
        subject,
        threshold=given.of({}),
        groups=None
        if groups is None
        else run.groups_of(groups, vectors.keys, subjects, rows=len(x)),
        engine=engine,
        set_name=output.set_name(subjects),
        file=subjects,
        provenance={"manifest": digest(subject), **source.how.scored_by(), **given.provenance()},
    )
    done = output.deliver(report, f"Trillion pairs: {len(x):,} rows, {source.name}")
    engine.forget()
    if expected is not None:
        say(f"{_compare(report, expected)} numbers are exactly those expected")
    return done


def _unit(x: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    """Yield rows of unit length, some at a time; a submission has one for every image."""
    for o in range(0, len(x), 65536):
        block = normalise(x[o : o + 65536])
        if len(bad := np.flatnonzero(failed(block))):
            raise DataError(f"row {o + bad[0]} has no template", "a submission needs all rows")
        yield block


def _embedded(source: VectorSource, subjects: Path | None, cluster: Cluster | None) -> Vectors:
    """Embed the images of --data, a person a folder unless the list says who is who."""
    images = source.choice.images.find()
    manifest = images.manifest()
    who = manifest.subject if subjects is None else files.read_subjects(subjects)
    if len(who) != len(manifest.keys):
        raise DataError(
            f"{source.choice.images.data} has {len(manifest.keys)} images, the list {len(who)}"
        )
    vectors = source.vectors(manifest, images, cluster=cluster)
    return replace(vectors, features=recipes.fused(source.how, vectors.features), subject=who)


def _read(source: VectorSource, path: Path, subjects: Path | None) -> Vectors:
    """Take the rows of a file as they lie there, and whom each shows."""
    who = None if subjects is None else files.read_subjects(subjects)
    vectors, how = matching.by_position(path), source.how
    say_type(vectors.features, path)
    who = vectors.subject if who is None else who
    if who is None:
        raise click.UsageError(f"{path.name} does not say who is who: give --subjects")
    x = vectors.features
    if len(who) != len(x):
        raise DataError(f"{path.name} has {len(x)} rows, the list {len(who)} subjects")
    if how.fusion == "none":  # stays in its file
        if x.ndim == 3 and x.shape[1] > 1 and not how.name:
            views = f"{path.name} holds {x.shape[1]} views a row"
            raise DataError(views, "say --flip sum or concat")
        x = x if x.ndim == 2 else x[:, 0]
    else:
        x = recipes.fused(how, x)
    return replace(vectors, features=x, subject=who).with_provenance(
        input_provenance(source.recipe, path)
    )


def _fars_of(expected: Report) -> tuple[str, ...]:
    known = (resampling_of(name) for name, m in expected.metrics.items() if m.value is not None)
    return tuple(far for kind, far in known if kind == "tpr")


def _compare(report: Report, expected: Report) -> int:
    """Count the equal numbers; ReportError names the first that differs."""
    known = {name: m for name, m in expected.metrics.items() if m.value is not None}
    for name, m in known.items():
        estimate = report.metrics.get(name)
        if estimate is None or (estimate.value, estimate.threshold) != (m.value, m.threshold):
            raise ReportError(
                f"{name} is {estimate and estimate.value} at threshold "
                f"{estimate and estimate.threshold}, expected {m.value} at {m.threshold}"
            )
    return len(known)
