"""The options that choose the model, its images and its input spec."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from evalkit import adapters, cache
from evalkit.adapters import presets
from evalkit.cli.image_options import (
    ImageChoice,
    data_option,
    faces_told,
    of_model,
    placing_options,
)
from evalkit.cli.options import received_as
from evalkit.cli.output import bar
from evalkit.cli.parameters import FileKind, Readable, Size
from evalkit.cli.terminal import say, show
from evalkit.embedding import embedder
from evalkit.errors import DataError, ModelError, UndeclaredInputError
from evalkit.escaping import printable
from evalkit.files import refuse_lfs_pointer
from evalkit.images import ImageSource, alignment, detectors
from evalkit.images.landmarks import Landmarks
from evalkit.types import Manifest
from evalkit.vectors.store import FeatureStore

if TYPE_CHECKING:
    from evalkit.cluster import Cluster

_NAMED = 5  # of the images that fail


class Preset(click.Choice[str]):
    """A preset by its name, or by a former one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take a former name for the one that it has now."""
        return super().convert(presets.FORMER.get(value, value), param, ctx)


class ModelFile(FileKind):
    """A model, as text: a file, a factory, a network or a plug-in by its name."""

    def __init__(self) -> None:
        super().__init__(path_type=str)

    def reads(self, model: Path | str) -> tuple[Path, ...]:
        """Name the model, its side-car, its weights and its program, as far as they are there."""
        name, _, rest = str(model).partition(":")
        beside = (f"{model}.data", f"{model}_data", presets.sidecar(Path(model)))
        program = name if name.endswith(".py") else f"{name.replace('.', '/')}.py"
        return tuple(p for p in map(Path, (model, *beside, rest or ".", program)) if p.is_file())


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """The model that was asked for.

    given : parts of its input spec.  options : of `adapters.load`.  trust : it may run its code.
    """

    model: str | None
    preset: str | None
    given: Mapping[str, Any]
    options: Mapping[str, Any]
    trust: bool

    def load(self) -> adapters.Adapter:
        """Load the adapter; MODEL must have been given."""
        if self.model is None:
            raise click.UsageError("give --model MODEL")
        file = Path(self.model).is_file()
        if file:
            refuse_lfs_pointer(Path(self.model), ModelError)
        if (file or ":" in self.model) and not self.trust and adapters.runs_code(self.model):
            _ask(self.model)
        spec = presets.resolve(self.model, self.preset, **self.given)
        return adapters.load(self.model, spec=spec, **self.options)

    def if_declared(self) -> adapters.Adapter | None:
        """Load the adapter; None where nothing declares how it is fed."""
        try:
            return self.load()
        except UndeclaredInputError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingChoice:
    """A model, its images, and how these are fed to it.

    found : how its input spec was found, where nothing declares one.  recalled : by an earlier run.
    """

    model: ModelChoice
    images: ImageChoice
    batch: int | None
    workers: int | None
    verify: bool
    cache_size: int | None
    found: str = ""
    recalled: bool = False

    def embed(
        self,
        adapter: adapters.Adapter,
        source: ImageSource,
        manifest: Manifest,
        views: int,
        *,
        path: Path | None = None,
        of_set: Landmarks | None = None,
        cluster: Cluster | None = None,
    ) -> FeatureStore:
        """Embed the manifest's images, or take what an earlier run left at `path` or cached."""
        say(*source.left_out)
        several: set[str] = set()
        wanted = source.select(manifest.keys)
        ready = self.images.fitted(wanted, adapter.spec, of_set, several.add)
        say(*ready.left_out[len(source.left_out) :])
        if cuts := alignment.cuts(ready, adapter.spec.size):
            say(cuts)
        if doubt := alignment.doubt(ready, adapter.spec.crop):
            say(f"warning: {doubt}")
        with bar("embedding", "image") as progress:
            store = embedder.embed(
                adapter,
                ready,
                manifest,
                path,
                views=views,
                batch=self.batch,
                workers=self.workers,
                progress=progress,
                cluster=cluster,
                load=replace(self.model, trust=True).load,  # whoever was asked here said yes
                verify=self.verify,
                say=say,
            )
        if path is None and self.cache_size is not None:
            gone = cache.clear(keep=self.cache_size, spare=store.path)
            if gone:
                say(f"{len(gone):,} feature files left the cache, see --cache-size")
        if ready.left_out:
            store.provenance["left out"] = list(ready.left_out)
        if lines := _failures_told(store, ready):
            say(*lines)
            store.provenance["failed"] = lines
        if store.failed.all():
            raise DataError(f"not one of {len(store.done):,} images has a vector")
        if faces := faces_told(store.reasons(), several, len(store.done)):
            say(*faces)
            store.provenance["faces"] = faces
        return store


def _failures_told(store: FeatureStore, images: ImageSource) -> list[str]:
    """Name images without a vector, each with the reason that reading it again gives."""
    failed = store.reasons()
    rows = np.flatnonzero(store.failed)[:_NAMED].tolist()
    lines = [
        images.why(row) or f"{key}: {failed[key]}" for row, key in zip(rows, failed, strict=False)
    ]
    if len(failed) > _NAMED:
        lines.append(f"{len(failed) - _NAMED:,} more like these")
    return lines


def _ask(model: str) -> None:
    """Let the user say that a program may run; where nobody can be asked, --trust-model says so."""
    program = f"{model} is a program and would run with your rights"
    if not sys.stdin.isatty():
        raise ModelError(program, "--trust-model, if you would run it by hand")
    click.confirm(f"{printable(program)}. Run it?", abort=True, err=True)


def _size(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if not all(p.isdigit() for p in parts) or len(parts) not in (1, 2):
        raise click.BadParameter(f"{text!r} is not HEIGHTxWIDTH, such as 112x96")
    return int(parts[0]), int(parts[-1])


def _devices(_: click.Context, __: click.Parameter, text: str) -> str:
    for one in text.split(","):
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", one):
            raise click.BadParameter(f"{one!r} is not one of auto, cpu, cuda, cuda:1")
    return text


def _numbers(_: click.Context, __: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise click.BadParameter(f"{text!r} is not a number, or three with commas")
    return values[0] if len(values) == 1 else values


def _deviation(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    values = _numbers(ctx, param, text)
    if text is not None and all(0 < v < 1 for v in np.atleast_1d(values)):
        scale = "one meant for pixels of 0..1 is 255 times that"
        show(f"warning: --std {text} divides pixels of 0..255; {scale}", talk=True)
    return values


def _choice(
    model: str | None,
    preset: str | None,
    input_size: tuple[int, int] | None,
    color: str | None,
    mean: Any,
    std: Any,
    layout: str | None,
    output_name: str | None,
    device: str,
    allow_cpu: bool,
    weights: Path | None,
    weights_table: str | None,
    precision: str | None,
    compile_for: int | None,
    trust_model: bool,
    data: Path | None,
    resize: bool,
    landmarks: Path | None,
    landmark_order: str,
    detector: str | None,
    faces: detectors.FaceChoice | None,
    batch: int | None,
    workers: int | None,
    verify_data: bool,
    cache_size: int | None,
) -> EmbeddingChoice:
    if landmarks is not None and detector is not None:
        raise click.UsageError("give --landmarks or --align, not both")
    if faces is not None and detector is None:
        raise click.UsageError("--faces chooses among those that --align NAME finds")
    options = {
        "device": device,
        "output": output_name,
        "allow_cpu": allow_cpu or None,
        "weights": weights and str(weights),
        "weights_table": weights_table,
        "precision": precision,
        "compile": compile_for,
    }
    return EmbeddingChoice(
        model=ModelChoice(
            model=model,
            preset=preset,
            given={"size": input_size, "color": color, "mean": mean, "std": std, "layout": layout},
            options={name: value for name, value in options.items() if value is not None},
            trust=trust_model,
        ),
        images=ImageChoice(
            data=data,
            landmarks=landmarks,
            order=landmark_order,
            detector=detector,
            faces=faces or "centre",
            resize=resize,
        ),
        batch=batch,
        workers=workers,
        verify=verify_data,
        cache_size=cache_size,
    )


cache_size_option = of_model(
    "--cache-size",
    type=Size(),
    envvar="EVALKIT_CACHE_SIZE",
    metavar="SIZE",
    help="Size limit of the cache, as 20GB: the least recently used vectors are deleted. "
    "[default: none]",
)

_OPTIONS = (
    of_model(
        "--model",
        type=ModelFile(),
        metavar="MODEL",
        help="Model: a .onnx, .ort, .pt or .pt2 file, a network's name, or module:factory.",
    ),
    data_option,
    of_model(
        "--preset",
        type=Preset(list(presets.PRESETS)),
        metavar="NAME",
        help=f"Input spec that the model expects: {', '.join(presets.PRESETS)}.",
    ),
    of_model(
        "--input-size",
        callback=_size,
        metavar="HxW",
        help="Size of the model's images in pixels, as 112x96.",
    ),
    of_model(
        "--color",
        type=click.Choice([*presets.COLORS, "gray"]),
        metavar="|".join(presets.COLORS),
        help="Channel order that the model expects, or one grey channel.",
    ),
    of_model(
        "--mean", callback=_numbers, metavar="M[,M,M]", help="Mean to subtract (0-255 scale)."
    ),
    of_model(
        "--std",
        callback=_deviation,
        metavar="S[,S,S]",
        help="Standard deviation to divide by (0-255 scale).",
    ),
    of_model(
        "--layout", type=click.Choice(["nchw", "nhwc"]), help="Axis order of the model's input."
    ),
    of_model(
        "--output",
        "output_name",
        metavar="NAME",
        help="Name of the output to use, where the model has several.",
    ),
    of_model(
        "--device",
        callback=_devices,
        metavar="DEVICE[,DEVICE]",
        default="auto",
        help="auto, cpu, cuda or cuda:1; several, with commas, get a process each.",
    ),
    of_model("--allow-cpu", is_flag=True, help="Run on the CPU where the GPU does not start."),
    of_model(
        "--weights",
        type=Readable(),
        metavar="FILE",
        help="Weights of a network or module:factory: .safetensors, .pt or .pth.",
    ),
    of_model(
        "--weights-table",
        metavar="NAME",
        help="Name of the table of weights to use, where --weights has several.",
    ),
    of_model(
        "--precision",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        help="Number type that PyTorch computes in.  [default: float32]",
    ),
    of_model(
        "--compile",
        "compile_for",
        type=click.IntRange(min=1),
        metavar="N",
        help="Compile the network (torch.compile) for passes of N images.",
    ),
    of_model(
        "--batch",
        type=click.IntRange(min=1),
        metavar="N",
        help="Images per forward pass.  [default: found by trial]",
    ),
    of_model(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Threads that decode images.  [default: one per CPU, at most 8]",
    ),
    of_model("--trust-model", is_flag=True, help="Run models that contain code without asking."),
    *placing_options,
    cache_size_option,
)

# --model, --data and what belongs to them; the command receives all as `choice`
model_options = received_as("choice", _choice, _OPTIONS)
# the same with MODEL as an argument
model_argument = received_as(
    "choice", _choice, (click.argument("model", type=ModelFile()), *_OPTIONS[1:])
)
