"""Adapter of a PyTorch network, on a processor or a GPU."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import answers, users_code
from evalkit.adapters.calling import check_images, cores, fed_as, in_batches, in_order, vectors
from evalkit.errors import ModelError, needing
from evalkit.memory import is_out_of_memory
from evalkit.torch_float32 import float32_is_float32
from evalkit.types import InputSpec

PRECISIONS = ("float32", "bfloat16", "float16")
_LONGEST = 2000  # characters of torch's own message
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS = -1, -3, -8  # glibc, malloc.h


class TorchModel:
    """A network in PyTorch.

    device : auto, cpu or cuda.  allow_cpu : run on the CPU where there is no GPU.
    precision : float32, also where the program allows TF32; or autocast to bfloat16 or float16.
    compile : use `torch.compile`, with CUDA graphs on a GPU (torch 2.14 or newer), for passes of
    this many images.
    output : which of several outputs, by position ("0") or key.
    copy : take a copy in evaluation mode, so that a network in training stays as it is; else the
    network itself, which is moved to the device.

    Images travel as uint8 and are normalised on the device, in channels-last order. Threads may
    call `embed` together; `streams` says how many are worth it. On a GPU each has its own stream.
    On the CPU each computes on one core, which is faster than one pass on all of them and gives the
    same bits on any number of cores; `torch.set_num_threads(1)` stays set in such a thread.
    On the CPU under Linux, the process keeps up to 512 MiB of freed memory from then on, in one
    arena (glibc's `mallopt`); where the environment sets a MALLOC_ variable or GLIBC_TUNABLES, that
    holds instead.
    """

    fills_passes = True

    def __init__(
        self,
        network: Any,
        spec: InputSpec,
        *,
        name: str,
        fingerprint: str,
        batch: int | None = None,
        device: str = "auto",
        allow_cpu: bool = False,
        precision: str = "float32",
        compile: int | None = None,
        output: str | None = None,
        copy: bool = True,
    ) -> None:
        torch = import_torch()
        if precision not in PRECISIONS:
            raise ModelError(f"no precision {precision!r}", f"one of {', '.join(PRECISIONS)}")
        self.spec, self.name, self.fingerprint, self._output = spec, name, fingerprint, output
        self._device = place_for(device, allow_cpu)
        cuda = self._device.type == "cuda"
        if not cuda:
            _keep_freed_memory()
        self._dtype = getattr(torch, precision)
        self._order = torch.channels_last if spec.layout == "nchw" else torch.contiguous_format
        with users_code.blamed(name):
            network = deepcopy(network).eval() if copy else network
            self._network = network.to(self._device, memory_format=self._order)
        if compile is not None:
            batch, mode = compile, "reduce-overhead" if cuda and _has_cuda_graphs() else "default"
            self._network = torch.compile(self._network, mode=mode, dynamic=False)
        self._weights = kind_of_weights(network)
        self._thread = threading.local()
        self.streams = 1 if compile else 2 if cuda else cores()
        self.runtime = f"torch {torch.__version__} {_place(self._device)} {precision}"
        if compile is not None:
            self.runtime += f" compiled for {compile}"
        if self._weights != torch.float32:
            self.runtime += f", weights of {str(self._weights).removeprefix('torch.')}"
        if output is not None:
            self.runtime += f", output {output}"
        probed = answers.probe(self._forward, spec, batch, name)
        self.dim, self.batch, self.doubt = probed

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32, not normalised."""
        return in_batches(self._forward, images, self.batch)

    def _forward(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        torch = import_torch()
        check_images(images, self.spec)
        with (
            translated(self.name, len(images), self.spec),
            torch.inference_mode(),
            float32_is_float32(),
            self._stream(),
            self._cast(),
        ):
            output = self._network(feed(images, self.spec, self._device).to(self._weights))
            y = chosen(output, self._output, self.name)
            rows: NDArray[np.float32] = y.float().cpu().numpy()
        return vectors(rows, len(images), self.name)

    def _cast(self) -> Any:
        torch = import_torch()
        exact = self._dtype == torch.float32  # also inside the caller's autocast
        return torch.autocast(self._device.type, dtype=self._dtype, enabled=not exact)

    def _stream(self) -> Any:
        torch = import_torch()
        if self._device.type != "cuda":
            if self.streams > 1 and torch.get_num_threads() > 1:
                torch.set_num_threads(1)
            return nullcontext()
        if not hasattr(self._thread, "stream"):
            self._thread.stream = torch.cuda.Stream(self._device)
            self._thread.stream.wait_stream(torch.cuda.default_stream(self._device))
        return torch.cuda.stream(self._thread.stream)


@contextmanager
def translated(name: str, images: int, spec: InputSpec) -> Iterator[None]:
    """Turn what a network raises into a ModelError that names it, or a MemoryError."""
    torch, doing = import_torch(), f"fails on {images} images"
    told = RuntimeError, AssertionError  # the latter of an exported program's guards
    try:
        with users_code.blamed(name, doing, told):
            yield
    except told as e:
        if is_out_of_memory(e):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            raise MemoryError(str(e).splitlines()[0]) from e
        where = users_code.place(e)
        hint = fed_as(spec) + (f"; it was raised in {where}" if where else "")
        raise ModelError(f"{name} {doing}: {reason(e)}", hint) from e


def chosen(made: Any, output: str | None, name: str) -> Any:
    """Choose the tensor that a network made, or of several the output that was asked for."""
    torch = import_torch()
    if isinstance(made, list | tuple):
        made = {str(i): one for i, one in enumerate(made)}
    if isinstance(made, torch.Tensor):
        if made.is_complex() or made.dtype == torch.bool:
            raise ModelError(f"{name} returned {made.dtype}", "an embedding is of real numbers")
        return made
    if not isinstance(made, Mapping) or not made:
        raise ModelError(
            f"{name} returned a {type(made).__name__}, not a tensor",
            "return the embedding itself, or several tensors in a tuple or dictionary",
        )
    listed = ", ".join(f"{key} {tuple(getattr(one, 'shape', ()))}" for key, one in made.items())
    if output is None and len(made) > 1:
        raise ModelError(f"{name} has {len(made)} outputs: {listed}", "choose by --output NAME")
    if output is not None and output not in made:
        raise ModelError(f"{name} has no output {output!r}", f"it has {listed}")
    return chosen(made[output or next(iter(made))], output, name)


def kind_of_weights(network: Any) -> Any:
    """Kind of real numbers that a network holds, and so takes; float32 where it holds none."""
    tensors = chain(network.parameters(), network.buffers())
    return next((t.dtype for t in tensors if t.is_floating_point()), import_torch().float32)


def feed(images: NDArray[np.uint8], spec: InputSpec, device: Any) -> Any:
    """Turn (N, H, W, 3) RGB uint8 into the network's float32 input, on the device itself.

    A GPU gets the bytes, a quarter of the floats; an input of channels first lies channels last.
    """
    torch = import_torch()
    grey = spec.color == "grey"
    x = torch.from_numpy(np.ascontiguousarray(in_order(images, "grey") if grey else images))
    if device.type == "cuda":
        x = x.pin_memory().to(device, non_blocking=True)
    if spec.color == "bgr":
        x = x.flip(3)
    mean, std = _mean_and_std(spec, device)
    x = x.float().sub_(mean).div_(std)
    return x if spec.layout == "nhwc" else x.permute(0, 3, 1, 2)


@lru_cache
def _mean_and_std(spec: InputSpec, device: Any) -> tuple[Any, Any]:
    torch = import_torch()
    mean, std = spec.mean[: spec.channels], spec.std[: spec.channels]
    return torch.tensor(mean, device=device), torch.tensor(std, device=device)


def import_torch() -> Any:
    """Import PyTorch; MissingPackageError without it."""
    with needing("torch", "torch", "this model"):
        import torch
    return torch


def place_for(device: str, allow_cpu: bool) -> Any:
    """Find the torch.device for auto, cpu, cuda or cuda:N; ModelError where that GPU is missing."""
    torch = import_torch()
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not number.isdigit()):
        raise ModelError(f"no device {device!r} for a PyTorch model", "one of auto, cpu, cuda")
    gpu = torch.cuda.is_available()
    if kind == "cuda" and not gpu and not allow_cpu:
        raise ModelError(
            f"asked for cuda, torch {torch.__version__} finds no GPU",
            "--device cpu runs it there on purpose, --allow-cpu where no GPU starts",
        )
    if kind == "cpu" or not gpu:
        return torch.device("cpu")
    if number and int(number) >= torch.cuda.device_count():
        raise ModelError(f"asked for {device}, there are {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", int(number or 0))


def _has_cuda_graphs() -> bool:
    """Whether torch runs compiled CUDA graphs in any thread; before 2.14 only in its first one."""
    major, minor = import_torch().__version__.split(".")[:2]
    return (int(major), int(minor)) >= (2, 14)


def _keep_freed_memory() -> None:
    """Make the C library reuse the memory that one layer frees for the next one.

    glibc returns it to the system, and each pass takes hundreds of page faults per image to get it
    again: a sixth of the time of MobileFaceNet.
    """
    set_by_user = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if sys.platform != "linux" or set_by_user:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most it takes
        mallopt(_TRIM_THRESHOLD, 512 << 20)
        mallopt(_ARENAS, 1)  # a thread's own is made of heaps of 64 MiB, each given back when empty


def _place(device: Any) -> str:
    return str(import_torch().cuda.get_device_name(device)) if device.type == "cuda" else "cpu"


def reason(error: Exception) -> str:
    """Last line of torch's message, which names the mistake, without torch's guesses at it."""
    text = str(error).partition(" This is an internal miniz error.")[0]
    lines = [line for line in text.splitlines() if line.strip()]
    kind = type(error).__name__
    last = lines[-1].strip()[:_LONGEST] if lines else kind
    return last if last.startswith(kind) else f"{kind}: {last}"
