"""`evalkit reproduce`: a model card run again, and what differs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from evalkit import adapters, bench, images, run
from evalkit.adapters import presets
from evalkit.bench import BenchSet
from evalkit.cli import lfw, spec_trial
from evalkit.cli.model_options import EmbeddingChoice, model_options
from evalkit.cli.options import new_command, quiet_option
from evalkit.cli.output import bar, json_option, write_json
from evalkit.cli.parameters import Readable
from evalkit.cli.terminal import say, show
from evalkit.datasets import lfw as lists
from evalkit.datasets import lfw_images
from evalkit.errors import EXIT_DONE, EXIT_GATE_FAILED, DataError, ReportError
from evalkit.images.landmarks import Landmarks
from evalkit.protocols import lfw as of_lfw
from evalkit.protocols.metrics.score_unit import of_score
from evalkit.protocols.recipes.published import RECIPES
from evalkit.protocols.recipes.recipe import Recipe
from evalkit.report import card as cards
from evalkit.report.card import CardResult
from evalkit.types import Report
from evalkit.verdict.reproduction import reproduction

_PROTOCOLS = ("lfw", "verification", "people", "ijb")  # those of `evalkit bench`, and LFW's own


@new_command(
    "reproduce",
    "evalkit reproduce README.md agedb_30.bin --model model.onnx",
    "evalkit reproduce report.json --model model.onnx --json",
)
@click.argument("card", type=Readable(folder=True, beside=".npz"))
@click.argument("paths", metavar="[SET]...", type=Readable(folder=True), nargs=-1)
@click.option("--name", metavar="NAME", help="Model to reproduce, where the card has several.")
@model_options
@json_option
@quiet_option("Result")
def command(
    card: Path,
    paths: tuple[Path, ...],
    name: str | None,
    choice: EmbeddingChoice,
    json_path: Path | None,
) -> int:
    """Run a model card again: the same numbers, or what differs.

    CARD is a README.md with the block that evalkit report --model-card writes,
    .eval_results/*.yaml, a report, or the folder of bench --out. SET is as evalkit bench takes it;
    without one, the sets are looked for beside the card and in the current folder, and LFW is
    fetched. Exits with 1 where a number differs, and says which of list, images, crop, decoder,
    input spec, precision, provider, library and model differs too. The vectors are made again,
    whatever the cache holds.
    """
    if choice.model.model is None:
        raise click.UsageError("give --model MODEL")
    results = _of_model(cards.read(card), name)
    sets = _sets(results, paths, card, choice.images.data)
    adapter, choice = _loaded(choice, results[0], sets[0])
    reproductions = []
    for number, (said, one) in enumerate(zip(results, sets, strict=True), 1):
        say(f"[{number}/{len(sets)}] {said.set_name}")
        reproductions.append(reproduction(said, _measured(said, one, adapter, choice)))
        if json_path is None:
            show(*str(reproductions[-1]).split("\n"))
    if json_path is not None:
        write_json(json.dumps([one.plain() for one in reproductions], indent=1), json_path)
    return EXIT_DONE if all(one.same for one in reproductions) else EXIT_GATE_FAILED


def _of_model(results: list[CardResult], name: str | None) -> list[CardResult]:
    """Take the results of the one model; ReportError for several, and for what cannot be run."""
    models = list(dict.fromkeys(said.model for said in results))
    if name is None and len(models) > 1:
        raise click.UsageError(f"the card is of {', '.join(models)}: add --name NAME")
    chosen = [said for said in results if name in (None, said.model)]
    if not chosen:
        raise ReportError(f"the card has no model {name!r}", f"it has {', '.join(models)}")
    for said in chosen:
        if said.protocol not in _PROTOCOLS:
            known = f"of {', '.join(_PROTOCOLS)} it can be"
            raise ReportError(f"{said.set_name}: {said.protocol!r} cannot be run again", known)
    return chosen


def _sets(
    results: Sequence[CardResult], paths: Sequence[Path], card: Path, data: Path | None
) -> list[BenchSet]:
    """Find the set of each result: of one name among those given, else beside the card, or here."""
    sets = bench.read_sets(paths, data)
    if len(results) == len(sets) == 1:
        return sets
    by_name = {one.name: one for one in sets}
    if over := by_name.keys() - {said.set_name for said in results}:
        say(f"not on the card: {', '.join(sorted(over))}")
    return [by_name.get(said.set_name) or _found(said, card, data) for said in results]


def _found(said: CardResult, card: Path, data: Path | None) -> BenchSet:
    file = said.made.get("file")
    if said.protocol == of_lfw.NAME and file is None:
        compared = run.pairs_of(lists.official_pairs())
        wanted = compared.manifest.keys
        source = lfw.fetched(wanted) if data is None else images.find(data)
        named = replace(compared, set_name=said.set_name)
        return BenchSet(
            name=said.set_name, path=Path(of_lfw.NAME), images=source, comparisons=named
        )
    names = dict.fromkeys(Path(n).name for n in (file or "", said.set_name, f"{said.set_name}.bin"))
    folders = (card if card.is_dir() else card.parent, Path())
    for path in (folder / name for folder in folders for name in names if name):
        if path.exists() and path.resolve() != card.resolve():
            (one,) = bench.read_sets([path], data)
            return replace(one, name=said.set_name)
    raise DataError(f"the set {said.set_name!r} of the card is not found here", "give it as SET")


def _loaded(
    choice: EmbeddingChoice, said: CardResult, one: BenchSet
) -> tuple[adapters.Adapter, EmbeddingChoice]:
    """Load the model, fed as is declared, else as the card says, else as a trial finds."""
    adapter = choice.model.if_declared()
    spec = presets.described(said.made.get("input spec", ""))
    if adapter is not None or spec is None:
        return (adapter, choice) if adapter else spec_trial.loaded(choice, one.images, one.manifest)
    say(f"fed as the card says: {presets.options(spec)}")
    choice = replace(choice, model=spec_trial.with_spec(choice.model, spec))
    return choice.model.load(), choice


def _measured(
    said: CardResult, one: BenchSet, adapter: adapters.Adapter, choice: EmbeddingChoice
) -> Report:
    """Embed the set again, whatever is cached, and measure what the card has of it."""
    how = _scoring(said)
    own = lfw_images.landmarks() if one.path == Path(of_lfw.NAME) else None
    if one.landmarks is None:
        points: Landmarks | None = own if choice.images.data is None else None
        source = one.images.select(one.manifest.keys)
        one = replace(one, images=choice.images.fitted(source, adapter.spec, points))
    with bar("embedding", "image") as progress:
        vectors = bench.embed_sets(
            adapter, [one], how.fusion, choice.batch or bench.BATCH, progress=progress, say=say
        )
    fars = [m[1] for name in said.values if (m := re.fullmatch(r"tpr@far=([^,]+)", name))]
    at = [re.fullmatch(r"\w+@threshold=([-+.\de]+)", of_score(name)) for name in said.values]
    return bench.measured(
        one,
        vectors[one.name],
        how.fusion,
        recipe=how if how.name else None,
        fars=fars or None,
        threshold=tuple(dict.fromkeys(float(m[1]) for m in at if m)) or None,
    )


def _scoring(said: CardResult) -> Recipe:
    """Take recipe and fusion of the card."""
    name, flip = said.made.get("recipe", "").partition(" ")[0], said.made.get("flip", "none")
    if name and name not in RECIPES:
        raise ReportError(f"no recipe {name!r}", f"known are {', '.join(RECIPES)}")
    return replace(RECIPES[name] if name else Recipe(), fusion=flip)  # type: ignore[arg-type]
