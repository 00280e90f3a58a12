"""`evalkit synth`: a face-like set of any size, with its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from evalkit.cli.options import count_option, new_command, quiet_option
from evalkit.cli.output import bar
from evalkit.cli.parameters import Folder
from evalkit.cli.terminal import say, show
from evalkit.errors import DataError
from evalkit.synth import FaceSet, write


@new_command("synth", "evalkit synth faces --subjects 300 --distractors 5000 --dim 128")
@click.argument("folder", type=Folder())
@count_option("--subjects", "Number of people.", 1000)
@count_option("--images", "Images per person.", 10)
@count_option("--distractors", "Number of distractor faces.", 100_000, least=0)
@count_option("--dim", "Dimensions of a vector.", 512)
@count_option("--seed", "Random seed of the set.", 0, least=0)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["npy", "bin"]),
    default="npy",
    help="File format of the set: .npy, or the challenge's .bin.",
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

    FOLDER, a new one, gets features.npy (or .bin, the one-file submission), subjects.txt and
    answer.json, the report that `evalkit trillion` must give on them, wherever its answer is known.
    """
    held = folder.iterdir() if folder.exists() else ()
    if not all(each.name.startswith(".evalkit-") for each in held):  # a broken-off write's
        raise DataError(f"{folder} is not empty", "give a new folder")
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
