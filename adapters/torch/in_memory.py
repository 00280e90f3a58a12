"""Adapter of a `torch.nn.Module` of this process, such as one that is being trained."""

from __future__ import annotations

import copy
import random
from collections import OrderedDict, deque
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
from evalkit.adapters.torch.programs import network_digest, refuse_without_values
from evalkit.errors import ModelError
from evalkit.torch_float32 import float32_is_float32
from evalkit.types import InputSpec

_FSDP, _FSDP2 = "FullyShardedDataParallel", "FSDPModule"  # torch's first and second kind


class ModuleInMemory:
    """A module where it lies: no copy, no file, and each call takes the weights of that moment.

    module : it stays on its device, in its own dtype.  The network inside `torch.compile`,
    `DistributedDataParallel` and `DataParallel` is called itself, so that no other process waits
    and nothing is compiled again; so are layers under FSDP that have their whole weights here.
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
        _refuse_partial(self._module, self.name)
        self._autocast = getattr(torch, precision)
        kept = "" if output is None else f", output {output}"
        self.runtime = f"torch {torch.__version__} {self._place().type} {precision}{kept}"
        self._rewritten, self._weights_too = False, True
        self.dim, self.batch, self.doubt = answers.probe(self._forward, spec, None, self.name)
        self._weights_too = self._rewritten  # few networks rewrite theirs, and a copy takes time

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
            as_it_was(module, device, self._weights_too) as changed,
            torch.autocast(
                device.type,
                dtype=self._autocast,
                enabled=self._autocast != torch.float32,
                cache_enabled=False,  # its weights have no gradient, and the caller's are kept
            ),
        ):
            x = feed(images, self.spec, device)
            y = chosen(module(x.to(kind_of_weights(module))), self._output, self.name)
            rows: NDArray[np.float32] = y.float().cpu().numpy()
        self._rewritten |= any(isinstance(one, torch.nn.Parameter) for one in changed)
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


def _refuse_partial(module: Any, name: str) -> None:
    """ModelError for a module whose weights are not all here: shared by ranks, or not yet made."""
    if any(map(_sharded, module.modules())):
        raise ModelError(
            f"{name}'s weights are shared out over the ranks (FSDP), and so is its forward pass",
            "measure it inside FSDP.summon_full_params(model), FSDP2 after unshard() of each of its"
            " layers, or give a copy on every rank: copy.load_state_dict("
            "torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
            "options=StateDictOptions(full_state_dict=True)))",
        )
    refuse_without_values(module, name)


def _kinds(layer: Any) -> set[str]:
    return {kind.__name__ for kind in type(layer).__mro__}


def _sharded(layer: Any) -> bool:
    """Whether FSDP holds a layer's weights elsewhere, in part or in whole."""
    if _FSDP in _kinds(layer):
        handle = layer._handle
        summoned = layer.training_state.name == "SUMMON_FULL_PARAMS"
        return not summoned or (handle is not None and handle.is_sharded(handle.flat_param))
    return any(hasattr(one, "placements") for one in layer.parameters(recurse=False))


def _own_pass(layer: Any) -> None:
    """Let a layer compute by itself: without accelerate's autocast, and FSDP's gathering."""
    if "_original_forward" in vars(layer):  # accelerate's
        layer.forward = layer._original_forward
    kinds = _kinds(layer)
    if _FSDP in kinds:
        layer.forward = layer.module.__call__
    elif _FSDP2 in kinds:
        state = layer._get_fsdp_state()
        state._pre_forward_hook_handle.remove()
        state._post_forward_hook_handle.remove()


@contextmanager
def as_it_was(module: Any, device: Any, weights: bool = False) -> Iterator[list[Any]]:
    """Put a module into evaluation mode without gradients, and give everything back afterwards.

    Given back are every layer's mode, attributes (what is in lists, dictionaries and sets too),
    hooks and buffers, the states of the random generators of Python, NumPy and torch, and the
    precision of products.  Hooks run as ever, but for FSDP's.
    weights : give back the values of parameters too.  Yields a list, which then has those tensors
    that the pass had changed.
    """
    torch = import_torch()
    modes = [(layer, layer.training) for layer in module.modules()]
    layers = [layer for layer, _ in modes if not isinstance(layer, torch.jit.ScriptModule)]
    copies = [(one, copy.copy(one)) for layer in layers for one in _filled(layer)]
    tensors = _tensors(module) if weights else module.buffers()
    values = [(tensor, tensor.data, tensor.detach().clone()) for tensor in tensors]
    drawn = random.getstate(), np.random.get_state()  # noqa: NPY002 (the user's)
    gpu = [device] if device.type == "cuda" else []
    changed: list[Any] = []
    try:
        for layer, _ in modes:
            layer.training = False  # eval() of a user may do more, such as merging weights
            _own_pass(layer)
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(gpu))
            stack.enter_context(torch.no_grad())
            stack.enter_context(float32_is_float32())
            if gpu:
                stack.enter_context(torch.cuda.device(device))
                stack.enter_context(_untimed_convolutions())
            yield changed
    finally:
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])  # noqa: NPY002
        for one, before in copies:
            one.clear()
            (one.extend if isinstance(one, list | deque) else one.update)(before)
        for layer, training in modes:
            layer.training = training
        changed += [tensor for tensor, *before in values if _put_back(tensor, *before)]


def _filled(layer: Any) -> Iterator[Any]:
    """Yield what a pass may fill: a layer's attributes, and those of them that hold others."""
    yield vars(layer)
    for value in vars(layer).values():
        if type(value) in (dict, OrderedDict, list, set, deque):
            yield value


def _put_back(tensor: Any, data: Any, value: Any) -> bool:
    """Give a tensor its storage, shape and values again; whether any was another.

    data : the tensor's own storage, under another name.  One that is equal is not written, since
    a backward pass under way may need it.
    """
    torch = import_torch()
    alike = tensor.data_ptr() == data.data_ptr() and tensor.shape == value.shape
    if alike and torch.equal(tensor, value):
        return False
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        data.copy_(value)
        tensor.data = data
    return True


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
