"""Adapter of an ONNX file, run by ONNX Runtime."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import answers, gpus
from evalkit.adapters.calling import check_images, cores, fed_as, filled, in_order, vectors
from evalkit.adapters.onnx import session
from evalkit.adapters.onnx.digest import digest
from evalkit.adapters.onnx.session import import_onnxruntime
from evalkit.adapters.torch import model as torch_model
from evalkit.errors import ModelError
from evalkit.files import as_path
from evalkit.memory import is_out_of_memory
from evalkit.types import InputSpec

_TOGETHER = 64  # images that are normalised at once for a model of a fixed batch


@dataclass(frozen=True, slots=True)
class _Bound:
    """Input and output of several passes, in arrays or GPU memory, and the binding of each pass."""

    x: Any
    y: NDArray[Any]
    passes: list[Any]


class OnnxModel:
    """An ONNX file in ONNX Runtime.

    device : auto, cpu, or cuda, perhaps with a GPU's number (cuda:1).  allow_cpu : run on the
    processor where the GPU does not start, as auto does, with the reason in `doubt`.
    output : name of the output to take, where there are several.
    threads : CPU threads of a forward pass; one, so that `streams` passes at once fill the cores.

    `batch` is the number of images in a forward pass, None where any number will do. A model whose
    declared batch is free but whose rows change with their neighbours is run image by image.
    """

    fills_passes = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        spec: InputSpec,
        *,
        device: str = "auto",
        allow_cpu: bool = False,
        output: str | None = None,
        threads: int = 1,
    ) -> None:
        path = as_path(path)
        self.spec, self.name = spec, path.name
        self.fingerprint = digest(path)
        self._run_options = session.run_options()
        self._session, no_gpu = session.start(path, device, allow_cpu, threads)
        provider = self._session.get_providers()[0]
        self._device = "cpu" if provider == session.CPU else "cuda"
        self._number = int(device.partition(":")[2] or 0) if self._device == "cuda" else 0
        self._feeds_on = _torch_device(self._device, self._number)
        on_cpu = max(1, cores() // threads) if threads else 1
        self.streams = on_cpu if self._device == "cpu" else 2
        image_input = session.image_input(self._session, spec, path.name)
        self._input, self._dtype = image_input.name, session.INPUTS[image_input.type]
        self._output = session.output_name(self._session, output, path.name)
        gpu = "" if self._device == "cpu" else f" on {gpus.name_of(self._number)}"
        self.runtime = (
            f"onnxruntime {import_onnxruntime().__version__} {provider}{gpu} "
            f"{np.dtype(self._dtype)}, output {self._output}"
        )
        self._idle = list[_Bound]()  # one per thread that embeds, at most
        self._flags = session.training_switches(self._session)
        self.runtime += "".join(
            f", {flag} {json.dumps(value.item())}" for flag, value in self._flags.items()
        )
        declared = image_input.shape[0] if isinstance(image_input.shape[0], int) else None
        if declared is not None and declared < 1:
            raise ModelError(f"{path.name} declares a batch of {declared}")
        probed = answers.probe(lambda x: self._passes(x, len(x)), spec, declared, self.name)
        self.dim, self.batch, doubt = probed
        slow = no_gpu and f"{path.name} runs on the processor, no GPU starts: {no_gpu}"
        self.doubt = "; ".join(filter(None, [slow, doubt]))

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32, not normalised."""
        if self.batch is None:
            return self._passes(images, len(images))
        step = -(-_TOGETHER // self.batch) * self.batch
        starts = range(0, max(1, len(images)), step)
        return np.concatenate([self._passes(images[o : o + step], self.batch) for o in starts])

    def _passes(self, images: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
        """Embed in passes of `batch` images, the last one padded with black.

        All are normalised first, and bound to memory that several passes keep for the next ones: a
        pass leaves nothing of Python in the caches, so that each line between two of them costs ten
        times its usual time.
        """
        check_images(images, self.spec)
        whole = filled(images, batch)
        try:
            bound = self._idle_bound() if len(whole) > batch else None
            if bound is None or len(bound.x) != len(whole):
                bound = self._new(whole, batch)
            else:
                feed(whole, self.spec, self._dtype, bound.x)
                self._run(bound.passes)
        except (ModelError, MemoryError):
            raise
        except Exception as e:
            if is_out_of_memory(e):
                raise MemoryError(str(e)) from e
            raise ModelError(
                f"{self.name} fails on {batch} images: {session.reason(e)}", fed_as(self.spec)
            ) from e
        rows = vectors(bound.y, len(whole), self.name)[: len(images)]
        if len(whole) > batch and self._device == "cpu" and self._feeds_on is None:
            self._idle.append(bound)
        return rows

    def _idle_bound(self) -> _Bound | None:
        """Take what no thread uses; of two threads that see the last one, one gets it."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _new(self, whole: NDArray[np.uint8], batch: int) -> _Bound:
        """Embed in memory that is bound for it, by the shape of what the first pass gives."""
        x = self._feed(whole)
        passes = [self._bound(x[o : o + batch]) for o in range(0, len(x), batch)]
        passes[0].bind_output(self._output, "cpu")
        self._run(passes[:1])
        y = passes[0].get_outputs()[0].numpy()
        vectors(y, batch, self.name)
        rows = np.empty((len(x), *(y.shape if y.ndim == 1 else y.shape[1:])), y.dtype)
        rows[:batch] = y
        for k, binding in enumerate(passes):
            place = rows[k * batch : (k + 1) * batch]
            binding.bind_ortvalue_output(self._output, _value(place.reshape(y.shape)))
        self._run(passes[1:])
        return _Bound(x, rows, passes)

    def _run(self, passes: list[Any]) -> None:
        for binding in passes:
            self._session.run_with_iobinding(binding, self._run_options)

    def _feed(self, images: NDArray[np.uint8]) -> Any:
        """Normalise the images, on the GPU where torch sees it too."""
        if self._feeds_on is None:
            return feed(images, self.spec, self._dtype)
        torch = torch_model.import_torch()
        x = torch_model.feed(images, self.spec, self._feeds_on)
        x = x.to(getattr(torch, np.dtype(self._dtype).name)).contiguous()
        if self._feeds_on.type == "cuda":  # the runtime has a stream of its own
            torch.cuda.current_stream(self._feeds_on).synchronize()
        return x

    def _bound(self, x: Any) -> Any:
        """Bind the memory of `x` as input."""
        binding = self._session.io_binding()
        if self._feeds_on is None:
            binding.bind_ortvalue_input(self._input, _value(x, self._device, self._number))
        else:
            shape, kind, at = tuple(x.shape), self._dtype, x.data_ptr()
            binding.bind_input(self._input, self._device, self._number, kind, shape, at)
        for flag, off in self._flags.items():
            binding.bind_cpu_input(flag, off)
        return binding


def _value(x: NDArray[Any], device: str = "cpu", number: int = 0) -> Any:
    """Wrap an array for ONNX Runtime: its own memory on the CPU, a copy on a GPU."""
    return import_onnxruntime().OrtValue.ortvalue_from_numpy(x, device, number)


def _torch_device(device: str, number: int) -> Any:
    """Return the GPU on which torch can prepare the input; None: it is prepared on the CPU."""
    if device == "cpu" or not find_spec("torch"):
        return None
    import torch

    return torch.device("cuda", number) if torch.cuda.is_available() else None


def feed(
    images: NDArray[np.uint8],
    spec: InputSpec,
    dtype: Any = np.float32,
    into: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Turn (N, H, W, 3) RGB uint8 into the network's input: order, mean and std, layout.

    Computed in float32, then rounded to `dtype`.  into : memory of that for it; None: new.
    """
    ordered = in_order(images, spec.color)
    mean, std = (np.array(m[: spec.channels], np.float32) for m in (spec.mean, spec.std))
    if spec.layout == "nchw":
        ordered = ordered.transpose(0, 3, 1, 2)
        mean, std = mean[:, None, None], std[:, None, None]
    x: NDArray[Any] = (
        np.empty(ordered.shape, np.float32) if into is None or into.dtype != np.float32 else into
    )
    np.copyto(x, ordered)
    x -= mean
    x /= std
    if into is None:
        return x.astype(dtype, copy=False)
    if x is not into:
        into[...] = x
    return into
