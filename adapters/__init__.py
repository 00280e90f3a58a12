"""Adapters of models: `load` chooses one by the model's name.

Anything with `spec`, `dim` and `embed` is an adapter. A package offers one for
another runtime by an entry point in the group `evalkit.adapters`, named after the suffix of the
files it reads ("tflite") or after itself: a callable `(model, *, spec, device, **options)`.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evalkit.adapters import presets, users_code
from evalkit.adapters.contract import Adapter, fingerprint
from evalkit.adapters.functions import FunctionModel
from evalkit.adapters.onnx.model import OnnxModel
from evalkit.adapters.torch import in_memory, programs
from evalkit.adapters.torch.model import TorchModel, import_torch
from evalkit.errors import IdleInputError, ModelError, UndeclaredInputError, WrongTypeError
from evalkit.files import LINK_HINT, as_path, leads_nowhere, refuse_lfs_pointer
from evalkit.types import InputSpec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

__all__ = [
    "GROUP",
    "NETWORKS",
    "PROGRAMS",
    "Adapter",
    "fingerprint",
    "is_module",
    "load",
    "runs_code",
]

GROUP = "evalkit.adapters"
PROGRAMS = (".pt", ".pt2", ".torchscript")
# functions of evalkit.adapters.torch.networks, and the preset of the weights published for each
NETWORKS = {
    "mobilefacenet": "imagenet",
    "iresnet18": "arcface",
    "iresnet34": "arcface",
    "iresnet50": "arcface",
    "iresnet100": "arcface",
    "sphereface20": "sphereface",
    "sphereface64": "sphereface",
    "inception_resnet_v1": "facenet",
}
_ANY_SIZE = ("inception_resnet_v1",)
_OF_IMAGES = {"align", "landmarks", "resize"}  # options of commands, not of a model
_WEIGHTS = (".pth", ".ckpt", ".safetensors", ".tar", ".pkl", ".weights")


def load(
    model: str | os.PathLike[str] | Adapter | Callable[..., Any],
    *,
    spec: InputSpec | None = None,
    preset: str | None = None,
    device: str = "auto",
    **options: Any,
) -> Adapter:
    """Load a model by its file's suffix, as a factory, by a plug-in, or from memory.

    model : `x.onnx`, `x.ort`; TorchScript `x.pt`; `torch.export` program `x.pt2`; one of NETWORKS,
    with weights=FILE; `package.module:factory` or `folder/file.py:factory`, a callable without
    arguments that returns a `torch.nn.Module` or an Adapter; a plug-in's name or `name:rest`.  From
    memory: a `torch.nn.Module`, used where it lies and given back as it was (`torch.in_memory`);
    any callable from (N, H, W, 3) RGB uint8 to N vectors (`functions`); an Adapter.  Of these no
    vector is kept in the cache.
    spec : the input that the model needs; else `preset`, else the side-car `x.evalkit.toml`, else
    an ONNX file's metadata.  A model without any of them is an UndeclaredInputError.
    device : auto, cpu, cuda, cuda:1; "auto" takes a GPU where one starts, else the processor, which
    it says; a GPU asked for that does not start is an error. Several with commas: a process each.
    options : those of the adapter, e.g. output="embedding", allow_cpu=True.
    """
    if not isinstance(model, str | os.PathLike):
        if spec is None and preset is not None:
            spec = presets.build({"preset": preset})
        return _from_memory(model, spec, device, options)
    named = isinstance(model, str) and not model.startswith("~/")
    model = str(model if named else as_path(model))
    if link := leads_nowhere(Path(model)):
        raise ModelError(link, LINK_HINT)
    spec = spec or presets.resolve(model, preset)
    if "," in device:
        from evalkit.adapters.devices import OnDevices

        return OnDevices(partial(load, model, spec=spec, **options), device.split(","))
    suffix = Path(model).suffix.lower()
    if suffix in presets.ONNX_FILES:
        _refuse_others(OnnxModel, options, model)
        return OnnxModel(_file(model), _declared(spec, model), device=device, **options)
    if suffix in PROGRAMS:
        _refuse_others(TorchModel, options, model)
        read = programs.program if suffix == ".pt2" else programs.script
        return read(_file(model), _declared(spec, model), device=device, **options)
    if model in NETWORKS and not Path(model).exists():
        model = _built_in(model, spec, options)
    plugins, name = _plugins(), model.partition(":")[0]
    for plugin in plugins:
        if plugin.name in (name, suffix.lstrip(".")):
            with users_code.blamed(f"plug-in {plugin.name}", f"failed on {model}"):
                adapter = plugin.load()(model, spec=spec, device=device, **options)
            return _checked(adapter, model)
    if ":" in model and not Path(model).exists():
        adapter = users_code.factory(model)
        if isinstance(adapter, type):
            raise ModelError(
                f"{model} gave a class, {adapter.__name__}, not a model",
                f"name the class itself, or return {adapter.__name__}()",
            )
        if not hasattr(adapter, "state_dict"):
            _refuse_others(object, options, model)
            return _as_it_is(_checked(adapter, model), model, spec, device)
        _refuse_others(TorchModel, options, model, "weights", "weights_table")
        return programs.network(adapter, model, _declared(spec, model), device=device, **options)
    if suffix in _WEIGHTS:
        raise ModelError(
            f"{model} is taken for weights, not for a network",
            f"--model NETWORK --weights {model}, where NETWORK is {', '.join(NETWORKS)}, or "
            "module:factory",
        )
    if Path(model).exists():
        hint = "install the plug-in that reads it, or give module:factory; images go to --data, "
        hint += "vectors to --features"
        kind = "folders" if Path(model).is_dir() else f"{suffix or 'such'} files"
        raise ModelError(f"no adapter reads {kind}: {model}", hint)
    raise ModelError(f"no model at {model}", _ways(plugins))


def is_module(model: Any) -> bool:
    """Whether a model is a `torch.nn.Module`; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _from_memory(
    model: Any, spec: InputSpec | None, device: str, options: dict[str, Any]
) -> Adapter:
    name = getattr(model, "__qualname__", type(model).__qualname__)
    if isinstance(model, type):
        raise ModelError(f"{name} is a class, not a model", f"make a model of it: {name}(...)")
    if device != "auto":
        raise ModelError(
            f"{name} stays on its own device, not on {device}", "move it there yourself"
        )
    if is_module(model):
        _refuse_others(in_memory.ModuleInMemory, options, name)
        return in_memory.ModuleInMemory(model, _declared(spec, name, True), **options)
    _refuse_others(object, options, name)
    if isinstance(model, Adapter):
        return _as_it_is(_checked(model, name), name, spec, device)
    if not callable(model):
        hint = "give a path, a torch.nn.Module or a function of (N, H, W, 3) RGB uint8"
        raise WrongTypeError(f"a {name} where a model belongs", hint)
    return FunctionModel(model, _declared(spec, name, True))


def runs_code(model: str) -> bool:
    """Whether `load` would run a program that comes with the model.

    A TorchScript file, an exported program and `module:factory` are programs; an ONNX graph is
    data, and an installed plug-in was trusted when it was installed.
    """
    if Path(model).suffix.lower() in PROGRAMS:
        return True
    plugins = {plugin.name for plugin in _plugins()}
    return ":" in model and model.partition(":")[0] not in plugins and not Path(model).exists()


def _built_in(name: str, spec: InputSpec | None, options: dict[str, Any]) -> str:
    import_torch()
    if "weights" not in options:
        raise ModelError(f"{name} alone has random weights", "add --weights FILE, its checkpoint")
    usual = NETWORKS[name]
    size = presets.PRESETS[usual].size
    if spec is None:
        raise UndeclaredInputError(
            f"the input spec of {name} is not declared",
            f"its published weights take --preset {usual}",
        )
    if spec.size != size and name not in _ANY_SIZE:
        raise ModelError(
            f"the network {name} takes images of {size[0]}x{size[1]}, and {presets.name(spec)} is "
            f"of {spec.size[0]}x{spec.size[1]}",
            f"its published weights take --preset {usual}",
        )
    return f"evalkit.adapters.torch.networks:{name}"


def _refuse_others(adapter: type, options: dict[str, Any], model: str, *more: str) -> None:
    others = set(options) - set(inspect.signature(adapter).parameters) - set(more)
    if of_images := sorted(others & _OF_IMAGES):
        raise ModelError(
            f"{model} takes no {', '.join(of_images)}: images are aligned before they come to it",
            "use " + " or ".join(f"--{name}" for name in of_images),
        )
    if others:
        names = ", ".join("--" + name.replace("_", "-") for name in sorted(others))
        raise ModelError(f"{model} takes no {names}")


def _file(model: str) -> Path:
    path = Path(model)
    if not path.is_file():
        where = "" if path.is_absolute() else f"looked in {Path.cwd()}"
        raise ModelError(f"no model at {path}", where)
    refuse_lfs_pointer(path, ModelError)
    return path


def _declared(spec: InputSpec | None, model: str, in_memory: bool = False) -> InputSpec:
    if spec is not None:
        return spec
    names = "|".join(presets.PRESETS)
    raise UndeclaredInputError(
        f"the input spec of {Path(model).name} is not declared",
        f"add spec=InputSpec(...) or preset={names}"
        if in_memory
        else f"add --preset {names}, or --input-size, --color, --mean and --std,"
        f" or write {presets.sidecar(Path(model)).name}",
    )


def _checked(adapter: Any, model: str) -> Adapter:
    kind = type(adapter).__name__
    if not isinstance(adapter, Adapter):
        lacks = [m for m in ("spec", "dim", "embed") if not hasattr(adapter, m)]
        hint = "return a torch.nn.Module, or an object with spec, dim and embed"
        raise ModelError(f"{model} gave a {kind} without {', '.join(lacks)}", hint)
    batch = getattr(adapter, "batch", None)
    if not isinstance(adapter.spec, InputSpec):
        raise ModelError(f"{model} gave a {kind} whose spec is {adapter.spec!r}, not an InputSpec")
    for word, n in (("dim", adapter.dim), ("batch", 1 if batch is None else batch)):
        if not isinstance(n, int | np.integer) or n < 1:
            raise ModelError(f"{model} gave a {kind} whose {word} is {n!r}, not a number from 1 up")
    return adapter


def _as_it_is(adapter: Adapter, model: str, spec: InputSpec | None, device: str) -> Adapter:
    """Refuse what was asked of an adapter that a factory made: it would have no effect."""
    if spec is not None and spec != adapter.spec:
        raise IdleInputError(
            f"{model} brings its own input spec, {presets.describe(adapter.spec)}, and is to be "
            f"fed {presets.describe(spec)}",
            "leave out --preset and the options of its input, or change it in the factory",
        )
    if device.startswith("cuda"):
        raise ModelError(f"{model} takes no --device: its factory chooses where it runs")
    return adapter


def _plugins() -> EntryPoints:
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def _ways(plugins: EntryPoints) -> str:
    names = ", ".join(sorted(plugin.name for plugin in plugins))
    ways = f"give a .onnx, .ort, .pt or .pt2 file, module:factory, or one of {', '.join(NETWORKS)}"
    return f"{ways}; plug-ins here: {names}" if names else ways
