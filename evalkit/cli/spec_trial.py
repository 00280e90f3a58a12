"""The trial of input specs on a command's own images, where nothing declares how MODEL is fed."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evalkit import __version__, adapters
from evalkit.adapters import calling, presets
from evalkit.adapters.onnx import declared as of_onnx
from evalkit.adapters.onnx.digest import digest as of_onnx_files
from evalkit.cli.output import bar
from evalkit.cli.terminal import say
from evalkit.embedding import development, found_spec
from evalkit.embedding.input_check import FedFaces, SpecTrial
from evalkit.errors import DataError, IdleInputError, ModelError, UndeclaredInputError
from evalkit.identity import file_digest
from evalkit.images import ImageSource
from evalkit.images.landmarks import Landmarks
from evalkit.types import InputSpec, Manifest

if TYPE_CHECKING:
    from evalkit.cli.model_options import EmbeddingChoice, ModelChoice

_ANYWHERE = ("device", "allow_cpu", "compile")  # options that change no vector beyond rounding
_FEW = 8  # images by which it is seen whether an adapter heeds its spec


def loaded(
    choice: EmbeddingChoice, source: ImageSource, manifest: Manifest
) -> tuple[adapters.Adapter, EmbeddingChoice]:
    """Load the model, fed as is declared, else as a trial on the images finds: one spec for all."""
    adapter = choice.model.if_declared()
    return by_trial(choice, source, manifest) if adapter is None else (adapter, choice)


def by_trial(
    choice: EmbeddingChoice,
    source: ImageSource,
    manifest: Manifest,
    of_set: Landmarks | None = None,
) -> tuple[adapters.Adapter, EmbeddingChoice]:
    """Load the model, fed by the spec that a trial on the images finds, and say so on stderr.

    of_set : landmarks that come with the images.  DataError where an image of the manifest is
    missing, UndeclaredInputError where too few people are among them, ModelError where no spec
    separates these.
    """
    model = str(choice.model.model)
    source.select(manifest.keys)  # images that are missing are no matter of the spec
    try:
        sample = chosen(choice, source, manifest, development.PEOPLE, of_set)
    except DataError as e:
        joint = ", or " if e.hint.startswith("give ") else "; "
        raise UndeclaredInputError(
            f"the input spec of {Path(model).name} is not declared, and cannot be found by trial: "
            f"{e.message}",
            joint.join(filter(None, [f"add --preset {'|'.join(presets.PRESETS)}", e.hint])),
        ) from e
    key = _key(choice, source, sample, of_set)
    earlier = found_spec.recall(key) if key else None
    found = earlier
    if found is None:
        trials = tried(choice, source, sample, of_set)
        found = found_spec.best(trials, Path(model).name, str(sample))
        if key:
            found_spec.remember(key, found)
    when = "found earlier, " if earlier else ""
    say(f"input spec {when}{found.told}", f"declare it: {presets.options(found.spec)}")
    declared = with_spec(choice.model, found.spec)
    adapter = declared.load()
    return adapter, replace(choice, model=declared, found=found.told, recalled=earlier is not None)


def _key(
    choice: EmbeddingChoice,
    source: ImageSource,
    sample: development.Development,
    of_set: Landmarks | None,
) -> str:
    """Name all that a trial depends on, as a hex digest; empty where nobody can tell.

    So it is of factories, and of the files of plug-ins, which may read others beside them.
    """
    model, options = Path(str(choice.model.model)), choice.model.options
    known = (*presets.ONNX_FILES, *adapters.PROGRAMS)
    if model.suffix.lower() not in known or not model.is_file():
        return ""
    digest = of_onnx_files(model) if model.suffix.lower() in presets.ONNX_FILES else ""
    fitted = choice.images.fitted(source.select(sample.keys), presets.PRESETS["arcface"], of_set)
    parts = [
        __version__,
        digest or file_digest(model),
        str(sorted((name, value) for name, value in options.items() if name not in _ANYWHERE)),
        fitted.identity,
        *(fitted.digest(row).hex() for row in range(len(fitted.keys))),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def chosen(
    choice: EmbeddingChoice,
    source: ImageSource,
    manifest: Manifest,
    people: int,
    of_set: Landmarks | None = None,
) -> development.Development:
    """Choose images for a trial; DataError where two of too few people are there and fit."""
    sample = development.choose(source, manifest, people)
    some = source.select(sample.keys)
    fitted = choice.images.fitted(some, presets.PRESETS["arcface"], of_set)
    return development.readable(fitted, sample)


def tried(
    choice: EmbeddingChoice,
    source: ImageSource,
    sample: development.Development,
    of_set: Landmarks | None = None,
) -> list[SpecTrial]:
    """Try every likely spec on the sample."""
    path = Path(str(choice.model.model))
    shape = of_onnx.input_shape(path) if path.suffix.lower() in presets.ONNX_FILES else (None, None)
    images = source.select(sample.keys)
    size = images.read(0).shape[:2]
    with bar("trying", "spec") as progress:
        return found_spec.try_specs(
            lambda spec: adapter_for(choice.model, spec),
            faces(choice, images, of_set),
            shape,
            (size[0], size[1]),
            progress,
        )


def faces(
    choice: EmbeddingChoice, images: ImageSource, of_set: Landmarks | None = None
) -> FedFaces:
    """Bring images to a spec as the command would."""
    return lambda spec: development.pixels(choice.images.fitted(images, spec, of_set), spec)


def with_spec(model: ModelChoice, spec: InputSpec) -> ModelChoice:
    """Declare a spec; the model was loaded before, so the user was asked whether it may run."""
    parts = {**asdict(spec), "mean": list(spec.mean), "std": list(spec.std)}
    return replace(model, preset=None, given=parts, trust=True)


def adapter_for(model: ModelChoice, spec: InputSpec) -> adapters.Adapter:
    """Load the model for a spec, also where its adapter brings its own."""
    try:
        adapter = with_spec(model, spec).load()
    except IdleInputError:
        adapter = replace(model, preset=None, given={}, trust=True).load()
    return adapter if adapter.spec == spec else Refed(adapter, spec)


class Refed:
    """An adapter that brings its own spec, fed by another one as far as it heeds its `spec`.

    ModelError where it does not; but other colours can be had from any, by exchanging channels.
    """

    def __init__(self, adapter: adapters.Adapter, spec: InputSpec) -> None:
        self.adapter, self.spec, self.dim = adapter, spec, adapter.dim

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32."""
        own = self.adapter.spec
        if replace(self.spec, color=own.color) == own:
            return calling.embed(self.adapter, np.ascontiguousarray(images[..., ::-1]))
        few = calling.embed(self.adapter, images[:_FEW])
        try:
            self.adapter.spec = self.spec
            if not np.array_equal(few, calling.embed(self.adapter, images[:_FEW]), equal_nan=True):
                return calling.embed(self.adapter, images)
        except AttributeError:
            pass
        finally:
            with contextlib.suppress(AttributeError):
                self.adapter.spec = own
        raise ModelError("the adapter brings its own input spec and takes no other")
