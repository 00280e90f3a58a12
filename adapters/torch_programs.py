"""PyTorch models: TorchScript, exported programs and `module:factory` with weights."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import warnings
from pathlib import Path
from typing import Any

from evalkit.adapters.torch_model import TorchModel, import_torch, reason
from evalkit.errors import ModelError
from evalkit.types import InputSpec


def script(path: Path, spec: InputSpec, **options: Any) -> TorchModel:
    """Load a TorchScript file."""
    torch = import_torch()
    try:
        with warnings.catch_warnings():
            # Files in the format are here to stay, whatever becomes of its writer.
            warnings.simplefilter("ignore", DeprecationWarning)
            network = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as e:
        raise ModelError(
            f"{path.name} is not TorchScript: {reason(e)}",
            "weights without a network need --model module:factory --weights FILE",
        ) from e
    return TorchModel(network, spec, name=path.name, fingerprint=_file_digest(path), **options)


def program(path: Path, spec: InputSpec, **options: Any) -> TorchModel:
    """Load a program that `torch.export.save` wrote."""
    torch = import_torch()
    try:
        exported = torch.export.load(str(path))
    except Exception as e:  # it raises what its zip, JSON and schema readers raise
        raise ModelError(f"{path.name} is not an exported program: {reason(e)}") from e
    given = list(exported.example_inputs[0]) if exported.example_inputs else []
    if len(given) != 1 or given[0].ndim != 4:
        shapes = [tuple(one.shape) for one in given]
        raise ModelError(f"{path.name} has inputs {shapes}", "an image model has one, (N, 3, H, W)")
    sizes = [n.meta["val"].shape for n in exported.graph.nodes if n.op == "placeholder"][-1]
    options["batch"] = int(sizes[0]) if isinstance(sizes[0], int) else None
    name, digest = path.name, _file_digest(path)
    return TorchModel(exported.module(), spec, name=name, fingerprint=digest, **options)


def factory(model: str) -> Any:
    """Import `package.module:function` and call it; modules beside the user's shell count."""
    name, _, attribute = model.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        make = getattr(importlib.import_module(name), attribute)
    except (ImportError, AttributeError) as e:
        raise ModelError(f"no factory {model}: {e}", "give module:function, importable here") from e
    return make()


def network(
    net: Any, model: str, spec: InputSpec, weights: str | None = None, **options: Any
) -> TorchModel:
    """Make an adapter of a `torch.nn.Module`, with weights from a file where `weights` names one.

    weights : .safetensors, or a checkpoint that loads without running code (`weights_only`).
    """
    if weights is not None:
        from evalkit.adapters.checkpoints import fill

        fill(net, Path(weights))
    digest = _network_digest(net)
    return TorchModel(net.eval(), spec, name=model, fingerprint=digest, **options)


def _file_digest(path: Path) -> str:
    with path.open("rb") as f:
        return f"sha256:{hashlib.file_digest(f, 'sha256').hexdigest()[:16]}"


def _network_digest(net: Any) -> str:
    """SHA-256 of a network's tensors and of the source files of its layers, torch's own apart."""
    h = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        h.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        h.update(tensor.detach().cpu().contiguous().flatten().view(import_torch().uint8).numpy())
    kinds = {type(layer) for layer in net.modules()}
    sources = {inspect.getsourcefile(k) for k in kinds if k.__module__.split(".")[0] != "torch"}
    for source in sorted(filter(None, sources)):
        h.update(Path(source).read_bytes())
    return f"sha256:{h.hexdigest()[:16]}"
