"""`evalkit bench`: one model on several sets, one table, a report and a gate a set."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit import bench
from evalkit import report as reports
from evalkit.cli import spec_trial
from evalkit.cli.model_options import EmbeddingChoice, model_options
from evalkit.cli.options import Command, Option, flip_option, quiet_option
from evalkit.cli.parameters import Folder, Readable
from evalkit.cli.terminal import say, show
from evalkit.cli.vector_options import VectorSource, scoring
from evalkit.cli.verdict import hold, read_baseline
from evalkit.errors import EXIT_DONE
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.types import Report


@click.command(
    "bench",
    cls=Command,
    examples=[
        "evalkit bench agedb_30.bin FACES/ --model model.onnx --preset arcface",
        "evalkit bench bench.toml --model model.onnx --preset arcface --out runs/new",
    ],
)
@click.argument("paths", metavar="SET...", type=Readable(folder=True), nargs=-1, required=True)
@flip_option
@model_options
@click.option(
    "--out",
    cls=Option,
    section="Result",
    type=Folder(),
    metavar="FOLDER",
    help="Keep the report of each set here, as SET.json.",
)
@click.option(
    "--gate",
    cls=Option,
    section="Result",
    type=Readable(folder=True),
    metavar="FOLDER",
    help="Exit with 1 if any set is significantly worse than SET.json there.",
)
@quiet_option("Result")
def command(
    paths: tuple[Path, ...],
    flip: Flip,
    choice: EmbeddingChoice,
    out: Path | None,
    gate: Path | None,
) -> int:
    """Measure one model on several sets: accuracy and TPR@FAR of each, in one table.

    SET is a .bin set, a list of pairs (its images in --data), a folder with a folder per person, a
    folder of .bin sets, or a bench.toml that lists sets. Every set is read, and every image that
    it names is found, before the first is embedded.
    """
    if choice.model.model is None:
        raise click.UsageError("give --model MODEL")
    sets = bench.read_sets(paths, choice.images.data)
    files = {one.name: f"{one.name}.json" for one in sets}
    baselines = {} if gate is None else {n: read_baseline(gate / f) for n, f in files.items()}
    adapter, choice = spec_trial.loaded(choice, sets[0].images, sets[0].manifest)
    source = VectorSource(choice, None, None, False, None, scoring(None, flip))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    measured: dict[str, Report] = {}
    for number, one in enumerate(sets, 1):
        say(f"[{number}/{len(sets)}] {one.path.name}")
        vectors = source.embed(adapter, one.images, one.manifest)
        measured[one.name] = bench.measured(one, vectors, flip)
        if out is not None:  # what is measured is not lost where a later set fails
            reports.write(measured[one.name], out / files[one.name])
    show(*str(bench.SetReports(measured)).split("\n"))
    if out is not None:
        say(f"{len(sets):,} reports written to {out}")
    codes = [EXIT_DONE]
    for name, baseline in baselines.items():
        show("", f"{name}:")
        codes.append(hold(measured[name], baseline))
    return max(codes)
