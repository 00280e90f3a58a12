"""`evalkit search`: probes searched for in a gallery, closed set and open set."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit import run
from evalkit.cli.engine_options import memory_option
from evalkit.cli.options import file_option, groups_option, new_command, rates_option, sizes_option
from evalkit.cli.output import Output, output_options
from evalkit.cli.terminal import say
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.cli.vector_options import VectorSource, vector_options
from evalkit.datasets import lfw_images, search_lists
from evalkit.datasets.group_table import GroupFile
from evalkit.identity import digest
from evalkit.protocols import search
from evalkit.protocols.allpairs import Engine


@new_command(
    "search",
    "evalkit search --gallery enrolled.txt --probe probes.txt --features faces.h5",
    "evalkit search --lists lfw-open --features F.npy --keys K.txt",
)
@file_option(
    "--gallery",
    "LIST",
    "List or folder of images to enrol: a key and whom it shows, per line.",
    folder=True,
)
@file_option(
    "--probe",
    "LIST",
    "List or folder of images to search with: a key and whom it shows, - if not enrolled.",
    folder=True,
)
@file_option(
    "--distractors",
    "LIST",
    "List or folder of images to enrol of people whom no probe shows.",
    folder=True,
)
@click.option(
    "--lists",
    type=click.Choice([*search_lists.LFW]),
    help="Gallery and probes of LFW by Best-Rowden's rules, instead of lists.",
)
@click.option(
    "--template",
    type=click.Choice(["image", "max", "mean"]),
    default="max",
    help="How to combine several images of a person: each alone, best score, or mean vector.",
)
@click.option(
    "--rank",
    "depths",
    type=click.IntRange(min=1),
    multiple=True,
    default=search.DEPTHS,
    metavar="K",
    help="k of rank-k; may be repeated.",
)
@rates_option("--fpir", "FPIR to give the TPIR at, as 1e-2; may be repeated.", search.FPIRS)
@sizes_option
@vector_options()
@threshold_options
@groups_option
@memory_option
@output_options
def command(
    gallery: Path | None,
    probe: Path | None,
    distractors: Path | None,
    lists: str | None,
    template: search.Enrolment,
    depths: tuple[int, ...],
    fpirs: tuple[str, ...],
    sizes: tuple[int, ...],
    source: VectorSource,
    given: GivenThresholds,
    groups: GroupFile | None,
    engine: Engine,
    output: Output,
) -> int:
    """Search a gallery: rank-k of people enrolled, TPIR@FPIR where some probes are of others.

    A line of a LIST is an image's key and, after a tab, a comma or a blank, whom it shows; without
    that, the key's folder. Or LIST is a folder below --data: with a folder per person, or with
    images whose names begin with whom they show, as 001_cam1.jpg. Probes of people who are not in
    --gallery measure the false alarms.
    """
    if lists is not None and (gallery or probe or distractors):
        raise click.UsageError("--lists names both: leave --gallery, --probe, ... out")
    if lists is not None:
        entries = search_lists.LFW[lists](lfw_images.landmarks().keys)
    elif gallery is not None and probe is not None:
        entries = search_lists.read(gallery, probe, distractors, source.choice.images.data)
    else:
        raise click.UsageError("give --gallery LIST and --probe LIST, or --lists NAME")
    if entries.named_by:
        say(f"who an image shows is read from: {entries.named_by}")
    manifest, enrolled, probes = entries.resolve()
    vectors = source.vectors(manifest)
    report = run.evaluate(
        "search",
        source.without_folds(vectors),
        manifest.subject,
        enrolled,
        probes,
        template=template,
        depths=depths,
        fpirs=fpirs,
        threshold=given.of(source.how.provenance()),
        sizes=sizes,
        groups=groups,
        engine=engine,
        set_name=output.set_name(Path(lists or str(probe))),
        file=probe,
        provenance={
            "lists": lists or ", ".join(p.name for p in (gallery, probe, distractors) if p),
            **({"people": entries.named_by} if entries.named_by else {}),
            "manifest": digest(manifest.keys, manifest.subject, enrolled, probes),
            **source.how.scored_by(),
            **given.provenance(),
        },
    )
    title = f"Search: {len(probes):,} probes in {len(enrolled):,} images, {source.name}"
    return output.deliver(report, title)
