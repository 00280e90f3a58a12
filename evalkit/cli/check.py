"""`evalkit check`: is a model fed properly, and if not, how it should be."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from evalkit import __version__, adapters, images
from evalkit.adapters import answers, presets
from evalkit.adapters.onnx import declared as of_onnx
from evalkit.adapters.presets import describe
from evalkit.cli import spec_trial
from evalkit.cli.model_options import EmbeddingChoice, model_options
from evalkit.cli.options import count_option, new_command, quiet_option
from evalkit.cli.output import bar, json_option, write_json
from evalkit.cli.terminal import say, show
from evalkit.datasets import bin as bin_sets
from evalkit.embedding import found_spec, input_check
from evalkit.embedding.development import FEWEST, WANTED, Development
from evalkit.embedding.input_check import SpecTrial
from evalkit.errors import EXIT_DONE, EXIT_GATE_FAILED, DataError, ModelError
from evalkit.images import ImageSource, Picture
from evalkit.types import InputSpec


@new_command("check", "evalkit check --model model.onnx --preset arcface --data LFW/")
@model_options
@count_option("--people", "Number of people in the trial, two images each.", 150, least=FEWEST)
@click.option(
    "--write",
    "write_to",
    is_flag=False,
    flag_value="toml",
    type=click.Choice(["toml", "onnx"]),
    metavar="[toml|onnx]",
    help="Keep the best spec: in model.evalkit.toml, or in the ONNX file's metadata.",
)
@json_option
@quiet_option()
def command(
    choice: EmbeddingChoice, people: int, write_to: str | None, json_path: Path | None
) -> int:
    """Check how a model is fed: norms, batches, speed, and the likely mistakes tried on faces.

    The trial compares channel order, normalisation and size by how well they separate two images
    of one person from two of different people. Exit code 1 says that another way is better than
    the declared one, that no way works, or that vectors depend on their batch; without --data there
    is no trial. Where nothing is declared, the best way is found and named.
    """
    adapter = choice.model.if_declared()
    sample = None if choice.images.data is None else _sample(choice, choice.images.data, people)
    trials: list[SpecTrial] = []
    if adapter is None and sample is not None:
        trials = spec_trial.tried(choice, *sample)
        adapter = spec_trial.adapter_for(choice.model, found_spec.preferred(trials).spec)
    if adapter is None:
        adapter = choice.model.load()  # raises: nothing declares its input
    if doubt := answers.refuse_random(adapter, answers.answers(adapter)):
        say(f"warning: {doubt}")
    size, faces = adapter.spec.size, None
    if sample is not None:
        source, chosen = sample
        faces = spec_trial.faces(choice, source.select(chosen.keys))(adapter.spec)
    noise = np.random.default_rng(0).integers(0, 256, (32, *size, 3), dtype=np.uint8)
    seen = input_check.behaviour(adapter, noise if faces is None else faces[:64])
    by_trial = bool(trials)
    if faces is not None and not by_trial:
        with bar("trying", "spec") as progress:
            trials = input_check.compare_specs(
                lambda spec: spec_trial.adapter_for(choice.model, spec),
                adapter.spec,
                faces,
                progress,
            )
    verdict, fine = _verdict(adapter, seen, trials, by_trial)
    if json_path is not None:
        document = _document(adapter, seen, trials, faces, verdict, fine)
        write_json(json.dumps(document, indent=1), json_path)
    else:
        show(*_lines(adapter, seen, trials, sample and sample[1]), verdict)
    if write_to is not None:
        _write(str(choice.model.model), write_to, adapter.spec if fine else None, trials)
    return EXIT_DONE if fine else EXIT_GATE_FAILED


def _write(model: str, to: str, fine: InputSpec | None, trials: list[SpecTrial]) -> None:
    """Keep the spec that is fine, else the best one that was tried."""
    if not trials or not input_check.separates(trials):
        raise ModelError("no spec to write was found by trial", f"add --data: {WANTED}")
    spec = fine or found_spec.preferred(trials).spec
    if to == "onnx" and Path(model).suffix.lower() != ".onnx":
        raise ModelError(f"{model} is not an .onnx file", "--write toml puts the spec beside it")
    if to == "onnx":
        of_onnx.write(Path(model), spec)
        say(f"{_named(spec)} written into the metadata of {model}")
    else:
        say(f"{_named(spec)} written to {presets.write_sidecar(model, spec)}")


def _sample(choice: EmbeddingChoice, data: Path, people: int) -> tuple[ImageSource, Development]:
    """Find two images each of up to `people` people; of a .bin, those of its genuine pairs."""
    if data.suffix.lower() == ".bin":
        source, pairs = bin_sets.read(data)
        manifest = pairs.resolve()[0]
    else:
        source = images.find(data)
        manifest = source.manifest()
    say(*source.left_out)
    try:
        sample = spec_trial.chosen(choice, source, manifest, people)
    except DataError as e:
        raise DataError(f"{data}: {e.message}", e.hint) from e
    return source, replace(sample, measured=frozenset())  # nothing is measured here


def _verdict(
    adapter: adapters.Adapter, seen: input_check.Behaviour, trials: list[SpecTrial], found: bool
) -> tuple[str, bool]:
    if seen.collapsed:
        return (
            "wrong: the model gives one and the same vector, or its opposite, for different images"
        ), False
    if seen.failed:
        return f"wrong: {seen.failed} vectors are zero, or hold NaN or infinity", False
    if not seen.rows_are_independent:
        return "wrong: a vector depends on the images that share its batch; use --batch 1", False
    if not trials:
        return f"fine as far as noise shows; to try colours and scale, add --data: {WANTED}", True
    best, own = trials[0], next(t for t in trials if t.spec == adapter.spec)
    alike = [t for t in trials if t.verdict in ("best", "as good") and t is not own]
    equal = [presets.name(t.spec) for t in alike]
    if not input_check.separates(trials):
        return (
            f"wrong: no way to feed it separates people (best d' {best.d_prime or 0:.2f}); "
            "is it a face model, and are the images aligned to its crop?"
        ), False
    declare = f"declare it: {presets.options((own if found else best).spec)}"
    if own.verdict in ("worse", "refused"):
        return f"wrong: it is better fed {_named(best.spec)}; {declare}", False
    apart = f"; {', '.join(equal)} cannot be told from it" if equal else ""
    if found:
        first = "separates best" if own is best else "is a preset as good as the best"
        return f"found by trial: {_named(own.spec)} {first}{apart}; {declare}", True
    if all(t.verdict == "refused" for t in trials if t is not own):
        return "fine: the declared spec separates people; the model takes no other to try", True
    if own.verdict == "best":
        return f"fine: the declared spec separates best{apart}", True
    return f"fine: the declared spec cannot be told from the best, {_named(best.spec)}", True


def _named(spec: InputSpec) -> str:
    name = presets.name(spec)
    return name if name == describe(spec) else f"{name} ({describe(spec)})"


def _lines(
    adapter: adapters.Adapter,
    seen: input_check.Behaviour,
    trials: list[SpecTrial],
    sample: Development | None,
) -> list[str]:
    low, median, high = seen.norms
    what = "noise" if sample is None else "faces"
    speed = ", ".join(f"{rate:,.0f} at batch {n}" for n, rate in seen.speed.items())
    lines = [
        f"model      {adapters.fingerprint(adapter) or 'no fingerprint'}, {_runtime(adapter)}",
        f"fed as     {_named(adapter.spec)}",
        f"dimension  {adapter.dim}",
        f"norms      {low:.3g} to {high:.3g}, median {median:.3g} ({what})",
        f"batches    alone and together differ by at most {seen.batch_difference:.2g}",
        f"flip       cosine of mirror images: median {seen.flip[0]:.3f}, lowest {seen.flip[1]:.3f}",
        f"images/s   {speed}; one pass at a time",
    ]
    if sample is not None:
        lines.append(f"trial      {sample}")
    for t in trials:
        behind = f"{t.behind:.2f} ± {t.error:.2f} behind, " if t.error else ""
        result = "refused" if t.d_prime is None else f"d' {t.d_prime:.2f}  {behind}{t.verdict}"
        own = "*" if t.spec == adapter.spec else " "
        preset = presets.name(t.spec) if t.spec in presets.PRESETS.values() else ""
        lines.append(f" {own} {preset:<13} {describe(t.spec):<92}  {result}")
    return lines


def _runtime(adapter: adapters.Adapter) -> str:
    return str(getattr(adapter, "runtime", type(adapter).__name__))


def _document(
    adapter: adapters.Adapter,
    seen: input_check.Behaviour,
    trials: list[SpecTrial],
    faces: Picture | None,
    verdict: str,
    fine: bool,
) -> dict[str, Any]:
    return {
        "evalkit": __version__,
        "model": adapters.fingerprint(adapter),
        "runtime": _runtime(adapter),
        "input spec": describe(adapter.spec),
        "dimension": adapter.dim,
        "people": 0 if faces is None else len(faces) // 2,
        **asdict(seen),
        "trials": [
            {
                **asdict(t),
                "spec": describe(t.spec),
                "name": presets.name(t.spec),
                "declared": t.spec == adapter.spec,
            }
            for t in trials
        ],
        "verdict": verdict,
        "fine": fine,
    }
