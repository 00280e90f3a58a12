"""`evalkit check`: is a model fed properly, and if not, how it should be."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from evalkit import __version__, adapters, images
from evalkit.adapters import answers
from evalkit.adapters.presets import describe
from evalkit.cli.model_options import EmbeddingChoice, ImageChoice, ModelChoice, model_options
from evalkit.cli.options import Command, count_option, quiet_option
from evalkit.cli.output import bar, json_option, write_json
from evalkit.cli.terminal import say, show
from evalkit.datasets import bin as bin_sets
from evalkit.embedding import input_check
from evalkit.errors import EXIT_DONE, EXIT_GATE_FAILED, DataError
from evalkit.images import ImageSource, Picture
from evalkit.types import InputSpec

_FEWEST = 20  # people; with fewer hardly any two specs can be told apart
_WANTED = "two images or more of at least 20 people, a folder a person, or an InsightFace .bin"


@click.command(
    "check", cls=Command, examples=["evalkit check --model model.onnx --preset arcface --data LFW/"]
)
@model_options
@count_option("--people", "Of how many people to take two images each.", 150, least=_FEWEST)
@json_option
@quiet_option()
def command(choice: EmbeddingChoice, people: int, json_path: Path | None) -> int:
    """Check how a model is fed: norms, batches, speed, and the likely mistakes tried on faces.

    The trial compares channel order, normalisation and size by how well they separate two images
    of one person from those of two. Exit code 1 says that another way is better than the declared
    one, that no way works, or that vectors depend on their batch; without --data there is no trial.
    """
    adapter = choice.model.load()
    if doubt := answers.refuse_random(adapter, answers.answers(adapter)):
        say(f"warning: {doubt}")
    size = adapter.spec.size
    data = choice.images.data
    faces = None if data is None else _faces(data, choice.images, adapter, people)
    noise = np.random.default_rng(0).integers(0, 256, (32, *size, 3), dtype=np.uint8)
    seen = input_check.behaviour(adapter, noise if faces is None else faces[:64])
    trials: list[input_check.SpecTrial] = []
    if faces is not None:
        with bar("trying", "spec") as progress:
            trials = input_check.compare_specs(
                lambda spec: _load(choice.model, spec), adapter.spec, faces, progress
            )
    verdict, fine = _verdict(adapter, seen, trials)
    if json_path is not None:
        document = _document(adapter, seen, trials, faces, verdict, fine)
        write_json(json.dumps(document, indent=1), json_path)
    else:
        show(*_lines(adapter, seen, trials, faces), verdict)
    return EXIT_DONE if fine else EXIT_GATE_FAILED


def _load(choice: ModelChoice, spec: InputSpec) -> adapters.Adapter:
    # trusted: the declared one was loaded before, so the user was asked
    return replace(choice, preset=None, given=_given(spec), trust=True).load()


def _given(spec: InputSpec) -> dict[str, Any]:
    return {**asdict(spec), "mean": list(spec.mean), "std": list(spec.std)}


def _faces(data: Path, choice: ImageChoice, adapter: adapters.Adapter, people: int) -> Picture:
    """Two images each of up to `people` people, evenly spread: (2 P, H, W, 3) uint8."""
    source, couples = _couples(data)
    say(*source.left_out)
    if len(couples) < _FEWEST:
        raise DataError(f"{data} has two images of {len(couples)} people", f"give {_WANTED}")
    spread = np.linspace(0, len(couples) - 1, min(people, len(couples))).astype(int)
    keys = [source.keys[row] for couple in couples[spread] for row in couple]
    chosen = choice.fitted(source.select(keys), adapter.spec)
    faces = []
    for row, key in enumerate(keys):
        image, size = chosen.read(row), adapter.spec.size
        if image.shape[:2] != size:
            raise DataError(
                f"{key} is {image.shape[0]}x{image.shape[1]}, the model wants {size[0]}x{size[1]}",
                "give aligned crops, or --landmarks, --align, or --resize, which only squashes",
            )
        faces.append(image)
    return np.stack(faces)


def _couples(data: Path) -> tuple[ImageSource, np.ndarray[Any, np.dtype[np.int64]]]:
    """Rows of two images of each person; of a .bin its genuine pairs, whose people it hides."""
    if data.suffix.lower() == ".bin":
        source, pairs = bin_sets.read(data)
        first = 2 * np.flatnonzero(pairs.genuine)
        return source, np.column_stack([first, first + 1])
    source = images.find(data)
    subject = source.manifest().subject
    order = np.argsort(subject, kind="stable")
    found = subject[order]
    start = np.flatnonzero((found >= 0) & np.append(True, found[1:] != found[:-1]))
    has_two = [o for o in start.tolist() if o + 1 < len(found) and found[o + 1] == found[o]]
    return source, np.array([[order[o], order[o + 1]] for o in has_two], np.int64).reshape(-1, 2)


def _verdict(
    adapter: adapters.Adapter, seen: input_check.Behaviour, trials: list[input_check.SpecTrial]
) -> tuple[str, bool]:
    if seen.failed:
        return f"wrong: {seen.failed} vectors hold NaN or infinity", False
    if not seen.rows_are_independent:
        return "wrong: a vector depends on the images that share its batch; use --batch 1", False
    if not trials:
        return f"fine as far as noise shows; to try colours and scale, add --data: {_WANTED}", True
    best, own = trials[0], next(t for t in trials if t.spec == adapter.spec)
    if not input_check.separates(trials):
        return (
            f"wrong: no way to feed it separates people (best d' {best.d_prime or 0:.2f}); "
            "is it a face model, and are the images aligned to its crop?"
        ), False
    if own.verdict in ("worse", "refused"):
        return f"wrong: it is better fed {describe(best.spec)}", False
    if own.verdict == "best":
        equal = sum(t.verdict == "as good" for t in trials)
        apart = f"; {equal} other(s) cannot be told from it" if equal else ""
        return f"fine: the declared spec separates best{apart}", True
    return f"fine: the declared spec cannot be told from the best, {describe(best.spec)}", True


def _lines(
    adapter: adapters.Adapter,
    seen: input_check.Behaviour,
    trials: list[input_check.SpecTrial],
    faces: Picture | None,
) -> list[str]:
    low, median, high = seen.norms
    what = "noise" if faces is None else "faces"
    speed = ", ".join(f"{rate:,.0f} at batch {n}" for n, rate in seen.speed.items())
    lines = [
        f"model      {adapters.fingerprint(adapter) or 'no fingerprint'}, {_runtime(adapter)}",
        f"fed as     {describe(adapter.spec)}",
        f"dimension  {adapter.dim}",
        f"norms      {low:.3g} to {high:.3g}, median {median:.3g} ({what})",
        f"batches    alone and together differ by at most {seen.batch_difference:.2g}",
        f"flip       cosine of mirror images: median {seen.flip[0]:.3f}, lowest {seen.flip[1]:.3f}",
        f"images/s   {speed}; one pass at a time",
    ]
    if faces is not None:
        n = len(faces) // 2
        lines.append(f"trial      {n} people: {n} genuine, {2 * n * (n - 1):,} impostor scores")
    for t in trials:
        behind = f"{t.behind:.2f} ± {t.error:.2f} behind, " if t.error else ""
        found = "refused" if t.d_prime is None else f"d' {t.d_prime:.2f}  {behind}{t.verdict}"
        own = "*" if t.spec == adapter.spec else " "
        lines.append(f" {own} {describe(t.spec):<92}  {found}")
    return lines


def _runtime(adapter: adapters.Adapter) -> str:
    return str(getattr(adapter, "runtime", type(adapter).__name__))


def _document(
    adapter: adapters.Adapter,
    seen: input_check.Behaviour,
    trials: list[input_check.SpecTrial],
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
            {**asdict(t), "spec": describe(t.spec), "declared": t.spec == adapter.spec}
            for t in trials
        ],
        "verdict": verdict,
        "fine": fine,
    }
