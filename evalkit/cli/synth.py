"""`evalkit synth`: a face-like set of any size, with its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from evalkit.cli.options import Command, quiet_option
from evalkit.cli.output import bar
from evalkit.cli.parameters import Folder
from evalkit.cli.terminal import say, show
from evalkit.errors import DataError
from evalkit.synth import FaceSet, write


@click.command(
    "synth",
    cls=Command,
    examples=[
        "evalkit synth faces --subjects 300 --distractors 5000 --dim 128",
    ],
)
@click.argument("folder", type=Folder())
@click.option(
    "--subjects",
    type=click.IntRange(min=1),
    metavar="N",
    default=1000,
    show_default=True,
    help="People.",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    metavar="N",
    default=10,
    show_default=True,
    help="Images of each person.",
)
@click.option(
    "--distractors",
    type=click.IntRange(min=0),
    metavar="N",
    default=100_000,
    show_default=True,
    help="Number of distractor faces.",
)
@click.option(
    "--dim",
    type=click.IntRange(min=1),
    metavar="N",
    default=512,
    show_default=True,
    help="Dimensions of a feature.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="The same seed, the same set.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["npy", "bin"]),
    default="npy",
    show_default=True,
    help="Files to write.",
)
@quiet_option()
def command(
    folder: Path,
    subjects: int,
    images: int,
    distractors: int,
    dim: int,
    seed: int,
    kind: Literal["npy", "bin"],
) -> None:
    """Make a face-like feature set whose exact numbers are known, to try any number of pairs.

    FOLDER gets features.npy (or .bin, the one-file submission), subjects.txt and answer.json, the
    report that `evalkit trillion` must give on them, wherever its answer is known.
    """
    if (folder / f"features.{kind}").exists():
        raise DataError(
            f"{folder / f'features.{kind}'} exists already", "give another folder, or delete it"
        )
    faces = FaceSet(subjects, images, distractors, dim, seed)
    pairs = faces.probes * faces.distractors
    with bar("making faces", "row") as progress:
        for done in write(faces, folder, kind):
            progress(done, faces.rows)
    show(f"{folder}: {faces.rows:,} rows, {pairs:,} impostor pairs")
    say(
        f"next: evalkit trillion --features {folder / f'features.{kind}'} "
        f"--subjects {folder / 'subjects.txt'} --expect {folder / 'answer.json'}"
    )
