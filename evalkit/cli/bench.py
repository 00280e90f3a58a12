"""`evalkit bench`: one model on several sets, one table, a report and a gate per set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from evalkit import bench
from evalkit import report as reports
from evalkit.cli import spec_trial
from evalkit.cli.model_options import EmbeddingChoice, model_options
from evalkit.cli.options import (
    Option,
    flip_option,
    groups_option,
    new_command,
    quiet_option,
    rates_option,
)
from evalkit.cli.output import json_option, warn_of, write_json
from evalkit.cli.parameters import STDOUT, Folder, Readable
from evalkit.cli.terminal import say, show
from evalkit.cli.vector_options import VectorSource, recipe_option, scoring, warn_if_slow
from evalkit.cli.verdict import apply_gate, read_baseline
from evalkit.datasets.group_table import GroupFile
from evalkit.embedding import development
from evalkit.errors import EXIT_DONE, EXIT_GATE_FAILED, DataError
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.replacing import OUTCOMES, REPORT, refuse_replacing
from evalkit.report import several
from evalkit.report.replaced_together import outcomes_path
from evalkit.run import Compared
from evalkit.types import Report


@new_command(
    "bench",
    "evalkit bench agedb_30.bin FACES/ --model model.onnx --preset arcface",
    "evalkit bench bench.toml --model model.onnx --preset arcface --out runs/new",
)
@click.argument("paths", metavar="SET...", type=Readable(folder=True), nargs=-1, required=True)
@flip_option
@recipe_option()
@rates_option(
    "--far", "FAR to give the TPR at, as 1e-3; may be repeated.  [default: each protocol's own]"
)
@groups_option
@model_options
@json_option
@click.option(
    "--out",
    cls=Option,
    section="Result",
    type=Folder(),
    metavar="FOLDER",
    help="Keep the report of each set in this folder as SET.json.",
)
@click.option(
    "--gate",
    cls=Option,
    section="Result",
    type=Readable(folder=True),
    metavar="FOLDER",
    help="Exit with 1 if any set is significantly worse than SET.json in this folder, or if one "
    "that is there was not measured.",
)
@quiet_option("Result")
def command(
    paths: tuple[Path, ...],
    flip: Flip,
    recipe_name: str | None,
    fars: tuple[str, ...],
    groups: GroupFile | None,
    choice: EmbeddingChoice,
    json_path: Path | None,
    out: Path | None,
    gate: Path | None,
) -> int:
    """Measure one model on several sets: accuracy and TPR@FAR of each, in one table.

    SET is a .bin set, a list of pairs (its images in --data), a folder of .bin sets, the folder of
    CFP, CALFW, CPLFW, XQLFW, RFW, TinyFace, SCface or IJB as it comes, one with gallery/ and
    probe/, one with a folder per person, or a bench.toml that lists sets. Every set is read, and
    every image that it names is found, before the first is embedded.
    """
    if choice.model.model is None:
        raise click.UsageError("give --model MODEL")
    sets = bench.read_sets(paths, choice.images.data)
    pairs_alone = all(isinstance(one.comparisons, Compared) for one in sets)
    how = scoring(recipe_name, flip, folds=pairs_alone)
    warn_if_slow(recipe_name)
    by_name = bench.grouped(sets, groups, say)
    baselines = {} if gate is None else _baselines(gate, sets)
    unmeasured = [] if gate is None else _unmeasured(gate, sets)
    if out is not None:
        for one in sets:
            refuse_replacing(out / f"{one.name}.json", REPORT)
            refuse_replacing(out / f"{one.name}.npz", OUTCOMES)
    tried = next((one for one in sets if _has_people(one)), sets[0])
    adapter, choice = spec_trial.loaded(choice, tried.images, tried.manifest)
    source = VectorSource(choice, None, None, False, recipe_name, how)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    measured: dict[str, Report] = {}
    for number, one in enumerate(sets, 1):
        say(f"[{number}/{len(sets)}] {one.path.name}")
        vectors = source.embed(adapter, one.images, one.manifest, one.landmarks)
        measured[one.name] = bench.measured(
            one,
            vectors,
            how.fusion,
            recipe=source.recipe,
            fars=fars or None,
            groups=by_name[one.name],
        )
        warn_of(measured[one.name], f"{one.name}: ")
        if out is not None:  # what is measured is not lost where a later set fails
            reports.write(measured[one.name], out / f"{one.name}.json")
    if json_path is None:
        show(*str(bench.SetReports(measured)).split("\n"))
    else:
        write_json(several.dumps(measured).rstrip(), json_path)
    if out is not None:
        say(f"{len(sets):,} reports written to {out}")
    return _held(measured, baselines, unmeasured, talk=json_path == STDOUT)


def _has_people(one: bench.BenchSet) -> bool:
    """Whether an input spec can be tried on the set's images."""
    try:
        development.choose(one.images, one.manifest, 1)
    except DataError:
        return False
    return True


def _baselines(folder: Path, sets: Sequence[bench.BenchSet]) -> dict[str, Report]:
    return {one.name: read_baseline(folder / f"{one.name}.json") for one in sets}


def _unmeasured(folder: Path, sets: Sequence[bench.BenchSet]) -> list[str]:
    """Name the reports with outcomes in the folder of baselines that are of none of the sets."""
    names = {path.stem for path in folder.glob("*.json") if outcomes_path(path).is_file()}
    return sorted(names - {one.name for one in sets})


def _held(
    measured: Mapping[str, Report],
    baselines: Mapping[str, Report],
    unmeasured: Sequence[str],
    talk: bool,
) -> int:
    """Hold every report against its baseline, and say how many passed; what is absent fails."""
    codes = dict.fromkeys(unmeasured, EXIT_GATE_FAILED)
    for name in unmeasured:
        show("", f"{name}: has a baseline, and was not measured", talk=talk)
    for name, baseline in baselines.items():
        show("", f"{name}:", talk=talk)
        codes[name] = apply_gate(measured[name], baseline, talk=talk)
    failed = [name for name, code in codes.items() if code != EXIT_DONE]
    if codes:
        passed = f"{len(codes) - len(failed):,} of {len(codes):,} sets passed"
        show("", f"{passed}; failed: {', '.join(failed)}" if failed else passed, talk=talk)
    return max(codes.values(), default=EXIT_DONE)
