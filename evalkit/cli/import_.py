"""`evalkit import`: embeddings made elsewhere into one feature file."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from evalkit.cli.options import file_option, new_command, quiet_option, subjects_option
from evalkit.cli.output import bar
from evalkit.cli.parameters import Readable, Writable
from evalkit.cli.terminal import say, show
from evalkit.cli.vector_options import say_type
from evalkit.datasets import trillion
from evalkit.errors import DataError
from evalkit.keys import other_folders, read_keys, subjects_of
from evalkit.types import Manifest
from evalkit.vectors import importing


@new_command(
    "import",
    "evalkit import features.mat features.h5 --keys K.txt",
    "evalkit import MegaFace_Features/ megaface.h5 --file-ending _foam.bin",
)
@click.argument("source", type=Readable(folder=True))
@click.argument("features", type=Writable(parents=True))
@file_option("--keys", "LIST", "Names of the rows of SOURCE, one per line.")
@click.option(
    "--list",
    "wanted",
    type=Readable(),
    metavar="LIST",
    help="Names of the rows to take, in this order.",
)
@click.option("--subset", is_flag=True, help="Leave out rows that --list does not name.")
@subjects_option("; else the folder of its key", "each row of FEATURES")
@click.option(
    "--shape",
    nargs=2,
    type=click.IntRange(min=1),
    metavar="N D",
    help="Shape of SOURCE, bare numbers as numpy's tofile writes them: N rows of D.",
)
@click.option(
    "--file-ending", metavar="_ALGO.bin", help="Ending of the files to take from a folder."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    help="Number type of the vectors in FEATURES.",
)
@click.option(
    "--allow-failures",
    is_flag=True,
    help="Count a row of NaN or zeros as an image without a template.",
)
@quiet_option()
def command(
    source: Path,
    features: Path,
    keys: Path | None,
    wanted: Path | None,
    subset: bool,
    subjects: Path | None,
    shape: tuple[int, int] | None,
    file_ending: str | None,
    dtype: str,
    allow_failures: bool,
) -> None:
    """Put the embeddings of SOURCE into the feature file FEATURES (.h5), a block at a time.

    SOURCE is .npy, .safetensors, .npz, .h5, .mat, .csv, .tsv, .parquet, .json, .pt, a one-file
    .bin, a MegaFace folder of .bin or a FaceX-Zoo tree of .npy. A LIST has a key per line, or is
    MegaFace's JSON. Only .json, .mat, and .pt of torch before 1.6, are read whole, up to 2 GiB.
    """
    if features.suffix.lower() not in (".h5", ".hdf5"):
        raise click.UsageError(f"{features} has no suffix .h5: a feature file is HDF5")
    if subset and wanted is None:
        raise click.UsageError("--subset leaves out what --list does not name: add --list LIST")
    if shape is not None and source.is_dir():
        raise click.UsageError("--shape is that of a file of bare numbers, and SOURCE is a folder")
    blocks = importing.open_source(source, file_ending, shape)
    say_type(blocks.whole, source)
    if blocks.told:
        say(f"{source.name}: columns {blocks.told}")
    names = blocks.keys if keys is None else read_keys(keys)
    if names is None:
        raise DataError(f"{source.name} does not say which row is which image", "add --keys LIST")
    if len(names) != blocks.rows:
        raise DataError(f"{source.name} has {blocks.rows} rows, the list {len(names)} keys")
    order = None if wanted is None else read_keys(wanted)
    at = importing.places(names, order, subset)
    if order is not None:
        rows = np.argsort(at, kind="stable")[np.count_nonzero(at < 0) :]
        if other := other_folders(order, names, rows):
            say(f"warning: {source.name} is matched {other}")
    stored = tuple(names if order is None else order)
    who = subjects_of(stored) if subjects is None else trillion.read_subjects(subjects)
    if len(who) != len(stored):
        raise DataError(f"there are {len(stored)} rows and {len(who)} subjects")
    with bar("importing", "row") as progress:
        importing.write(
            blocks,
            features,
            Manifest(stored, np.asarray(who, np.int32)),
            at,
            name=source.name,
            dtype={"float32": "<f4", "float16": "<f2"}[dtype],
            allow_failures=allow_failures,
            progress=progress,
        )
    views, dim = (1, *blocks.shape)[-2:]
    show(f"{features}: {len(stored):,} rows, {views} x {dim}, {dtype}")
