"""PyTorch models from TorchScript, exported programs, and `module:factory` with weights."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalkit.adapters import users_code
from evalkit.adapters.torch.model import TorchModel, import_torch, place_for, reason
from evalkit.adapters.torch.weights import fill
from evalkit.errors import ModelError
from evalkit.files import as_path
from evalkit.types import InputSpec


def script(path: str | os.PathLike[str], spec: InputSpec, **options: Any) -> TorchModel:
    """Load a TorchScript file."""
    path = as_path(path)
    torch = import_torch()
    try:
        with warnings.catch_warnings():
            # Files in the format are here to stay, whatever becomes of its writer.
            warnings.simplefilter("ignore", DeprecationWarning)
            network = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as e:
        raise ModelError(
            f"{path.name} is not TorchScript: {reason(e)}",
            "weights alone need --weights FILE, and --model NETWORK or module:factory",
        ) from e
    name, digest = path.name, _file_digest(path)
    return TorchModel(network, spec, name=name, fingerprint=digest, copy=False, **options)


def program(path: str | os.PathLike[str], spec: InputSpec, **options: Any) -> TorchModel:
    """Load a program that `torch.export.save` wrote."""
    path = as_path(path)
    torch = import_torch()
    try:
        with _silent("torch.export"):
            exported = torch.export.load(str(path))
    except Exception as e:  # it raises what its zip, JSON and schema readers raise
        raise ModelError(
            f"{path.name} is not an exported program: {reason(e)}",
            "is it whole? compare its size with the original's",
        ) from e
    inputs = list(exported.example_inputs[0]) if exported.example_inputs else []
    if len(inputs) != 1 or inputs[0].ndim != 4:
        shapes = [tuple(one.shape) for one in inputs]
        raise ModelError(f"{path.name} has inputs {shapes}", "an image model has one, (N, 3, H, W)")
    sizes = [n.meta["val"].shape for n in exported.graph.nodes if n.op == "placeholder"][-1]
    options["batch"] = int(sizes[0]) if isinstance(sizes[0], int) else None
    device = place_for(options.get("device", "auto"), options.get("allow_cpu", False))
    name, digest = path.name, _file_digest(path)
    return TorchModel(
        on_device(exported, device).module(),
        spec,
        name=name,
        fingerprint=digest,
        copy=False,
        **options,
    )


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keep a logger from telling what is raised too, with a traceback."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def on_device(exported: Any, device: Any) -> Any:
    """Move a program with the tensors that it makes inside, which name the device they began on."""
    from torch.export.passes import move_to_device_pass

    return exported if device.type == "cpu" else move_to_device_pass(exported, str(device))


def network(
    net: Any,
    model: str,
    spec: InputSpec,
    weights: str | None = None,
    weights_table: str | None = None,
    **options: Any,
) -> TorchModel:
    """Build an adapter of a `torch.nn.Module`, with weights from a file where `weights` names one.

    weights : .safetensors, or a checkpoint that loads without running code (`weights_only`).
    weights_table : which of several tables in it, such as "ema", where more than one fits.
    """
    if weights_table is not None and weights is None:
        raise ModelError(f"--weights-table {weights_table!r} without a file", "add --weights FILE")
    with users_code.blamed(model):
        refuse_without_values(net, model)
    if weights is not None:
        fill(net, Path(weights), weights_table)
    with users_code.blamed(model):
        digest = network_digest(net.eval())
    return TorchModel(net, spec, name=model, fingerprint=digest, copy=False, **options)


def refuse_without_values(net: Any, name: str) -> None:
    """ModelError for a network with weights that are not made yet, or made on no real device."""
    is_lazy = import_torch().nn.parameter.is_lazy
    tensors = [*net.parameters(), *net.buffers()]
    if any(map(is_lazy, tensors)):
        raise ModelError(f"{name} has layers without weights yet", "call it once, as training does")
    if any(one.is_meta for one in tensors):
        raise ModelError(
            f"{name} has weights on the meta device, which have no values", "build it on the CPU"
        )


def _file_digest(path: Path) -> str:
    with path.open("rb") as f:
        return f"sha256:{hashlib.file_digest(f, 'sha256').hexdigest()[:16]}"


def _parts(value: Any) -> Iterator[bytes]:
    """Yield what a digest sees of a value in a state_dict: a tensor, or what quantised layers keep.

    These keep pairs of quantised tensors, numbers and kinds of numbers.
    """
    torch = import_torch()
    if isinstance(value, tuple | list):
        for one in value:
            yield from _parts(one)
    elif isinstance(value, torch.Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        numbers = value.dequantize() if value.is_quantized else value
        yield numbers.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    else:
        yield repr(value).encode()


def network_digest(net: Any) -> str:
    """SHA-256 of a network's tensors, layers as they describe themselves, and layers' source files.

    Buffers that are not saved count too, torch's own sources do not.
    """
    h = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", repr(net)).encode())
    for name, value in sorted({**net.state_dict(), **dict(net.named_buffers())}.items()):
        for part in _parts(value):
            h.update(f"{name} ".encode() + part)
    kinds = {type(layer) for layer in net.modules()}
    sources = {inspect.getsourcefile(k) for k in kinds if k.__module__.split(".")[0] != "torch"}
    for source in sorted(filter(None, sources)):
        h.update(Path(source).read_bytes())
    return f"sha256:{h.hexdigest()[:16]}"
