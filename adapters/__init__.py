"""A model becomes vectors: `load` finds the adapter for a model by its name.

Anything with `spec`, `dim` and `embed` is an adapter. A package offers one for
another runtime by an entry point in the group `evalkit.adapters`, named after the suffix of the
files it reads ("tflite") or after itself: a callable `(model, *, spec, device, **options)`.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import presets, users_code
from evalkit.errors import ModelError
from evalkit.types import InputSpec

GROUP = "evalkit.adapters"
_PROGRAMS = (".pt", ".pt2", ".torchscript")
# functions of evalkit.adapters.torch.networks
NETWORKS = (
    "mobilefacenet",
    "iresnet18",
    "iresnet34",
    "iresnet50",
    "iresnet100",
    "sphereface20",
    "sphereface64",
    "inception_resnet_v1",
)


@runtime_checkable
class Adapter(Protocol):
    """What evalkit needs of a model.

    spec : the images it wants.  dim : length D of its vectors.
    An adapter may add: `fingerprint`, a digest of the weights, and `runtime`, a line naming
    runtime, device and precision, under which features are kept too (what shows that a model is the
    one that made them is what it answers to four fixed images, `answers`); `name`, for messages;
    `batch`, where it takes exactly so many images; `streams`, threads that may call it at once.
    """

    spec: InputSpec
    dim: int

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32, not normalised, for any N >= 1.

        Row i depends on image i alone. A row with a NaN means: no template. Memory that runs out
        is a MemoryError; the caller tries again with fewer images.
        """
        ...


def fingerprint(adapter: Adapter) -> str:
    """Digest of a model's weights; empty where its answers alone tell it from others."""
    return str(getattr(adapter, "fingerprint", ""))


def load(
    model: str,
    *,
    spec: InputSpec | None = None,
    preset: str | None = None,
    device: str = "auto",
    **options: Any,
) -> Adapter:
    """Load a model by its file's suffix, as `module:factory`, or by an installed plug-in.

    model : `x.onnx`; TorchScript `x.pt`; `torch.export` program `x.pt2`; one of NETWORKS, with
    weights=FILE; `package.module:factory`, a callable that returns a `torch.nn.Module` or an
    Adapter; a plug-in's name or `name:rest`.
    spec : what the model wants to be fed; else `preset`, else the side-car `x.evalkit.toml`.
    A model without any of them is a ModelError: nothing is guessed.
    device : auto, cpu, cuda, cuda:1, tensorrt; "auto" takes a GPU where the runtime offers one; a
    GPU that does not start is an error. Several with commas: a process on each.
    options : those of the adapter, e.g. output="embedding", allow_cpu=True.
    """
    spec = spec or presets.resolve(model, preset)
    if "," in device:
        from evalkit.adapters.devices import OnDevices

        return OnDevices(partial(_load_on, model, spec, options), device.split(","))
    suffix = Path(model).suffix.lower()
    plugins = importlib.metadata.entry_points(group=GROUP)
    name = model.partition(":")[0]
    if suffix == ".onnx":
        from evalkit.adapters.onnx.model import OnnxModel

        _refuse_others(OnnxModel, options, model)
        return OnnxModel(_file(model), _declared(spec, model), device=device, **options)
    if suffix in _PROGRAMS:
        from evalkit.adapters.torch import programs
        from evalkit.adapters.torch.model import TorchModel

        _refuse_others(TorchModel, options, model)
        read = programs.program if suffix == ".pt2" else programs.script
        return read(_file(model), _declared(spec, model), device=device, **options)
    if model in NETWORKS and not Path(model).exists():
        model = _built_in(model, options)
    for plugin in plugins:
        if plugin.name in (name, suffix.lstrip(".")):
            with users_code.blamed(f"plug-in {plugin.name}", f"failed on {model}"):
                made = plugin.load()(model, spec=spec, device=device, **options)
            return _checked(made, model)
    if ":" in model and not Path(model).exists():
        from evalkit.adapters.torch import programs
        from evalkit.adapters.torch.model import TorchModel

        made = programs.factory(model)
        if not hasattr(made, "state_dict"):
            _refuse_others(object, options, model)
            return _checked(made, model)
        _refuse_others(TorchModel, options, model, "weights", "weights_table")
        return programs.network(made, model, _declared(spec, model), device=device, **options)
    if Path(model).exists():
        hint = "install the plug-in that reads it, or give module:factory"
        kind = "folders" if Path(model).is_dir() else f"{suffix or 'such'} files"
        raise ModelError(f"no adapter reads {kind}: {model}", hint)
    raise ModelError(f"no model at {model}", _ways(plugins))


def _load_on(model: str, spec: InputSpec | None, options: dict[str, Any], device: str) -> Adapter:
    return load(model, spec=spec, device=device, **options)


def runs_code(model: str) -> bool:
    """Tell whether `load` would run a program that comes with the model.

    A TorchScript file, an exported program and `module:factory` are programs; an ONNX graph is
    data, and an installed plug-in was trusted when it was installed.
    """
    if Path(model).suffix.lower() in _PROGRAMS:
        return True
    plugins = {plugin.name for plugin in importlib.metadata.entry_points(group=GROUP)}
    return ":" in model and model.partition(":")[0] not in plugins and not Path(model).exists()


def _built_in(name: str, options: dict[str, Any]) -> str:
    from evalkit.adapters.torch.model import import_torch

    import_torch()
    if "weights" not in options:
        raise ModelError(f"{name} alone has random weights", "add --weights FILE, its checkpoint")
    return f"evalkit.adapters.torch.networks:{name}"


def _refuse_others(adapter: type, options: dict[str, Any], model: str, *more: str) -> None:
    others = set(options) - set(inspect.signature(adapter).parameters) - set(more)
    if others:
        names = ", ".join("--" + name.replace("_", "-") for name in sorted(others))
        raise ModelError(f"{model} takes no {names}")


def _file(model: str) -> Path:
    path = Path(model)
    if not path.is_file():
        raise ModelError(f"no model at {path}")
    return path


def _declared(spec: InputSpec | None, model: str) -> InputSpec:
    if spec is None:
        raise ModelError(
            f"nothing says what {Path(model).name} wants to be fed, and evalkit does not guess",
            f"add --preset {'|'.join(presets.PRESETS)}, or --input-size, --color, --mean and --std,"
            f" or write {presets.sidecar(Path(model)).name}",
        )
    return spec


def _checked(adapter: Any, model: str) -> Adapter:
    kind = type(adapter).__name__
    if not isinstance(adapter, Adapter):
        lacks = [m for m in ("spec", "dim", "embed") if not hasattr(adapter, m)]
        raise ModelError(f"{model} gave a {kind} without {', '.join(lacks)}")
    batch = getattr(adapter, "batch", None)
    if not isinstance(adapter.spec, InputSpec):
        raise ModelError(f"{model} gave a {kind} whose spec is {adapter.spec!r}, no InputSpec")
    for word, n in (("dim", adapter.dim), ("batch", 1 if batch is None else batch)):
        if not isinstance(n, int | np.integer) or n < 1:
            raise ModelError(f"{model} gave a {kind} whose {word} is {n!r}, no number from 1")
    return adapter


def _ways(plugins: importlib.metadata.EntryPoints) -> str:
    names = ", ".join(sorted(plugin.name for plugin in plugins))
    known = f"give a .onnx, .pt or .pt2 file, module:factory, or one of {', '.join(NETWORKS)}"
    return f"{known}; plug-ins here: {names}" if names else known
