"""Adapter of a `torch.nn.Module` of this process, such as one that is being trained."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import answers
from evalkit.adapters.calling import check_images, in_batches, vectors
from evalkit.adapters.torch.model import (
    PRECISIONS,
    chosen,
    feed,
    import_torch,
    kind_of_weights,
    translated,
)
from evalkit.adapters.torch.programs import network_digest
from evalkit.errors import ModelError
from evalkit.torch_float32 import float32_is_float32
from evalkit.types import InputSpec


class ModuleInMemory:
    """A module where it lies: no copy, no file, and each call takes the weights of that moment.

    module : it stays on its device, in its own dtype.  The network inside `torch.compile`,
    `DistributedDataParallel` and `DataParallel` is called itself, so that no other process waits
    and nothing is compiled again.
    precision : float32, also inside the caller's autocast; or autocast to bfloat16 or float16.
    output : which of several outputs, by position ("0") or key.

    Each call is made `as_it_was`.  Threads must not call it at once: a module may keep values of a
    pass in itself.  On the CPU it computes on as many threads as torch was given.
    """

    fills_passes = True
    transient = True

    def __init__(
        self,
        module: Any,
        spec: InputSpec,
        *,
        precision: str = "float32",
        output: str | None = None,
    ) -> None:
        torch = import_torch()
        if precision not in PRECISIONS:
            raise ModelError(f"no precision {precision!r}", f"one of {', '.join(PRECISIONS)}")
        self.spec, self._output = spec, output
        self._module = unwrapped(module)
        self.name = type(self._module).__name__
        self._autocast = getattr(torch, precision)
        kept = "" if output is None else f", output {output}"
        self.runtime = f"torch {torch.__version__} {self._place().type} {precision}{kept}"
        self.dim, self.batch, self.doubt = answers.probe(self._forward, spec, None, self.name)

    @property
    def fingerprint(self) -> str:
        """Digest of the weights as they are now, and of the layers."""
        return network_digest(self._module)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32, not normalised."""
        return in_batches(self._forward, images, self.batch)

    def _forward(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        torch = import_torch()
        check_images(images, self.spec)
        module, device = self._module, self._place()
        with (
            translated(self.name, len(images), self.spec),
            as_it_was(module, device),
            torch.autocast(
                device.type, dtype=self._autocast, enabled=self._autocast != torch.float32
            ),
        ):
            x = feed(images, self.spec, device)
            y = chosen(module(x.to(kind_of_weights(module))), self._output, self.name)
            rows: NDArray[np.float32] = y.float().cpu().numpy()
        return vectors(rows, len(images), self.name)

    def _place(self) -> Any:
        first = next(_tensors(self._module), None)
        return import_torch().device("cpu") if first is None else first.device


def unwrapped(module: Any) -> Any:
    """Find the network inside `torch.compile`, `DistributedDataParallel` and `DataParallel`."""
    parallel = import_torch().nn.parallel
    while True:
        if isinstance(module, parallel.DistributedDataParallel | parallel.DataParallel):
            module = module.module
        elif "_orig_mod" in vars(module).get("_modules", {}):
            module = module._orig_mod
        else:
            return module


@contextmanager
def as_it_was(module: Any, device: Any) -> Iterator[None]:
    """Put a module into evaluation mode without gradients, and give everything back afterwards.

    Given back are every layer's mode, attributes and buffers, the states of the random generators
    of Python, NumPy and torch, and the precision of products.  Hooks run as ever.
    """
    torch = import_torch()
    modes = [(layer, layer.training) for layer in module.modules()]
    layers = [layer for layer, _ in modes if not isinstance(layer, torch.jit.ScriptModule)]
    held = [(vars(layer), dict(vars(layer))) for layer in layers]  # a script's cannot change
    held += [(layer._buffers, dict(layer._buffers)) for layer in layers]
    values = [(buffer, buffer._version, buffer.clone()) for buffer in module.buffers()]
    drawn = random.getstate(), np.random.get_state()  # noqa: NPY002 (the user's)
    gpu = [device] if device.type == "cuda" else []
    try:
        for layer, _ in modes:
            layer.training = False  # eval() of a user may do more, such as merging weights
            if "_original_forward" in vars(layer):  # accelerate's, without its autocast
                layer.forward = layer._original_forward
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(gpu))
            stack.enter_context(torch.no_grad())
            stack.enter_context(float32_is_float32())
            if gpu:
                stack.enter_context(torch.cuda.device(device))
                stack.enter_context(_untimed_convolutions())
            yield
    finally:
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])  # noqa: NPY002
        for names, before in held:
            names.clear()
            names.update(before)
        for layer, training in modes:
            layer.training = training
        with torch.no_grad():
            for buffer, version, value in values:
                if buffer._version != version:
                    buffer.copy_(value)


@contextmanager
def _untimed_convolutions() -> Iterator[None]:
    """Let cuDNN choose convolutions by rule: a choice by timing changes bits from run to run."""
    cudnn = import_torch().backends.cudnn
    before, cudnn.benchmark = cudnn.benchmark, False
    try:
        yield
    finally:
        cudnn.benchmark = before


def _tensors(module: Any) -> Iterator[Any]:
    yield from module.parameters()
    yield from module.buffers()
