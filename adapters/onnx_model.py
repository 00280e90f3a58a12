"""ONNX Runtime: a model file becomes an adapter whose rows out always equal its rows in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters.batching import check_images, cores, fed_as, filled, probe
from evalkit.errors import MissingPackageError, ModelError
from evalkit.types import InputSpec

# TF32 off: "float32" must mean it, whatever the age of the GPU.
_CUDA: tuple[str, dict[str, str]] = ("CUDAExecutionProvider", {"use_tf32": "0"})
_TENSORRT: tuple[str, dict[str, str]] = ("TensorrtExecutionProvider", {})
_CPU: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
_PROVIDERS = {"cpu": [_CPU], "cuda": [_CUDA, _CPU], "tensorrt": [_TENSORRT, _CUDA, _CPU]}
_INPUTS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_TOGETHER = 256  # images that are normalised at once for a model of a fixed batch
_OUT_OF_MEMORY = re.compile(
    r"failed to allocate|out of memory|bad.?alloc|smaller than requested", re.IGNORECASE
)
# Protobuf's StringStringEntryProto, as external tensors name their file: any spelling of the key,
# and the one spelling of key and value that is let in.
_LOCATION = re.compile(rb"\x0a(?:\x08|\x88\x80*\x00)location")
_ENTRY = re.compile(rb"\x0a\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x7f])")


class OnnxModel:
    """An ONNX file in ONNX Runtime.

    device : auto, cpu, cuda or tensorrt, perhaps with a GPU's number (cuda:1).  allow_cpu : run on
    the CPU where the device fails.
    output : name of the output to take, where there are several.
    threads : CPU threads of a forward pass; one, so that `streams` passes at once fill the cores.

    `batch` is the number of images in a forward pass, None where any number will do. A model whose
    declared batch is free but whose rows change with their neighbours is run image by image.
    """

    def __init__(
        self,
        path: Path,
        spec: InputSpec,
        *,
        device: str = "auto",
        allow_cpu: bool = False,
        output: str | None = None,
        threads: int = 1,
    ) -> None:
        import_onnxruntime()
        self.spec, self._name = spec, path.name
        self.fingerprint = _digest(path)
        self._session = _session(path, device, allow_cpu, threads)
        provider = self._session.get_providers()[0]
        self._device = "cpu" if provider == _CPU[0] else "cuda"
        self._number = int(device.partition(":")[2] or 0) if self._device == "cuda" else 0
        self._feeds_on = _torch_device(self._device, self._number)
        on_cpu = max(1, cores() // threads) if threads else 1
        self.streams = on_cpu if self._device == "cpu" else 2
        given = _image_input(self._session, spec, path.name)
        self._input, self._dtype = given.name, _INPUTS[given.type]
        self._output = _output(self._session, output, path.name)
        self.runtime = (
            f"onnxruntime {import_onnxruntime().__version__} {provider} "
            f"{np.dtype(self._dtype)}, output {self._output}"
        )
        declared = given.shape[0] if isinstance(given.shape[0], int) else None
        if declared is not None and declared < 1:
            raise ModelError(f"{path.name} declares a batch of {declared}")
        self.dim, self.batch = probe(lambda x: self._passes(x, len(x)), spec, declared)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32, not normalised."""
        if self.batch is None:
            return self._passes(images, len(images))
        step = -(-_TOGETHER // self.batch) * self.batch
        starts = range(0, max(1, len(images)), step)
        return np.concatenate([self._passes(images[o : o + step], self.batch) for o in starts])

    def _passes(self, images: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
        """Embed in passes of `batch` images, the last one filled up with black.

        All are normalised first, and all bindings made: a pass leaves nothing of Python in the
        caches, so that each line between two of them costs ten times its usual time.
        """
        check_images(images, self.spec)
        try:
            x = self._feed(filled(images, batch))
            first = self._bound(x[:batch])
            first.bind_output(self._output, "cpu")
            self._session.run_with_iobinding(first)
            y = self._checked(first.get_outputs()[0].numpy(), batch)
            rows = np.empty((len(x), *y.shape[1:]), y.dtype)
            rows[:batch] = y
            others = [self._bound(x[o : o + batch]) for o in range(batch, len(x), batch)]
            for k, binding in enumerate(others, 1):
                place = rows[k * batch : (k + 1) * batch]
                binding.bind_ortvalue_output(self._output, _value(place))
            for binding in others:
                self._session.run_with_iobinding(binding)
        except (ModelError, MemoryError):
            raise
        except Exception as e:
            if _OUT_OF_MEMORY.search(str(e)):
                raise MemoryError(str(e)) from e
            raise ModelError(
                f"{self._name} fails on {batch} images: {_reason(e)}", fed_as(self.spec)
            ) from e
        return rows.reshape(len(rows), -1)[: len(images)].astype(np.float32, copy=False)

    def _checked(self, y: NDArray[Any], batch: int) -> NDArray[Any]:
        if y.ndim < 2 or len(y) != batch:
            raise ModelError(
                f"{self._name} returned shape {y.shape} for {batch} images",
                "rows out must equal rows in: export it with a free batch, or with batch 1",
            )
        return y

    def _feed(self, images: NDArray[np.uint8]) -> Any:
        """Normalise the images, on the GPU where torch sees it too."""
        if self._feeds_on is None:
            return feed(images, self.spec, self._dtype)
        from evalkit.adapters import torch_model

        torch = torch_model.import_torch()
        x = torch_model.feed(images, self.spec, self._feeds_on)
        x = x.to(getattr(torch, np.dtype(self._dtype).name)).contiguous()
        if self._feeds_on.type == "cuda":  # the runtime has a stream of its own
            torch.cuda.current_stream(self._feeds_on).synchronize()
        return x

    def _bound(self, x: Any) -> Any:
        """Make a binding whose input is the memory of `x`."""
        binding = self._session.io_binding()
        if self._feeds_on is None:
            binding.bind_ortvalue_input(self._input, _value(x, self._device, self._number))
        else:
            shape, kind, at = tuple(x.shape), self._dtype, x.data_ptr()
            binding.bind_input(self._input, self._device, self._number, kind, shape, at)
        return binding


def _value(x: NDArray[Any], device: str = "cpu", number: int = 0) -> Any:
    """Let ONNX Runtime see an array: its own memory on the CPU, a copy on a GPU."""
    return import_onnxruntime().OrtValue.ortvalue_from_numpy(x, device, number)


def _torch_device(device: str, number: int) -> Any:
    """Where torch can put the input, on a GPU; None where floats are to be sent."""
    if device == "cpu" or not find_spec("torch"):
        return None
    import torch

    return torch.device("cuda", number) if torch.cuda.is_available() else None


def feed(images: NDArray[np.uint8], spec: InputSpec, dtype: Any = np.float32) -> NDArray[Any]:
    """Turn (N, H, W, 3) RGB uint8 into the network's input: order, mean and std, layout.

    Computed in float32, then rounded to `dtype`.
    """
    ordered = images if spec.color == "rgb" else images[..., ::-1]
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    if spec.layout == "nchw":
        ordered = ordered.transpose(0, 3, 1, 2)
        mean, std = mean[:, None, None], std[:, None, None]
    x = np.subtract(ordered, mean, dtype=np.float32, order="C")
    x /= std
    return x.astype(dtype, copy=False)


def import_onnxruntime() -> Any:
    """Import ONNX Runtime, or say how to install it."""
    try:
        import onnxruntime
    except ImportError as e:
        raise MissingPackageError("onnxruntime", "onnx", "an ONNX model") from e
    return onnxruntime


def _session(path: Path, device: str, allow_cpu: bool, threads: int) -> Any:
    ort = import_onnxruntime()
    available = ort.get_available_providers()
    if device == "auto":
        device = "cuda" if _CUDA[0] in available else "cpu"
    device, _, number = device.partition(":")
    if device not in _PROVIDERS or (number and not number.isdigit()):
        raise ModelError(f"no device {device!r}", f"one of auto, {', '.join(_PROVIDERS)}")
    if device != "cpu" and hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
            ort.preload_dlls()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; they are raised here as well
    on_gpu = {"device_id": number} if number else {}
    wanted = [(p, o | on_gpu if p != _CPU[0] else o) for p, o in _PROVIDERS[device]]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            session = ort.InferenceSession(
                str(path), options, providers=[p for p in wanted if p[0] in available]
            )
    except Exception as e:
        raise ModelError(f"{path.name} is not a usable ONNX model: {_reason(e)}") from e
    used = session.get_providers()[0]
    if used != wanted[0][0] and not allow_cpu:
        hint = "--device cpu runs it there on purpose, --allow-cpu where no GPU starts"
        if wanted[0][0] not in available:
            hint += "; a GPU needs pip install 'face-evalkit[gpu]' in place of onnxruntime"
        raise ModelError(f"asked for {wanted[0][0]}, ONNX Runtime would use {used}", hint)
    return session


def _image_input(session: Any, spec: InputSpec, name: str) -> Any:
    inputs = session.get_inputs()
    listed = ", ".join(f"{i.name} {i.shape} {i.type}" for i in inputs)
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise ModelError(
            f"{name} has input {listed}", "an image model has one, of shape (N, 3, H, W)"
        )
    given = inputs[0]
    if given.type not in _INPUTS:
        raise ModelError(f"{name} has input {listed}", f"its type must be of {', '.join(_INPUTS)}")
    channels_first = spec.layout == "nchw"
    wanted = (3, *spec.size) if channels_first else (*spec.size, 3)
    fits = [not isinstance(n, int) or n == w for n, w in zip(given.shape[1:], wanted, strict=True)]
    if not all(fits):
        other = "nhwc" if channels_first else "nchw"
        turned = given.shape[3 if channels_first else 1] == 3
        h, w = given.shape[2:] if channels_first else given.shape[1:3]
        raise ModelError(
            f"{name} has input {listed}, but is to be fed (N, {', '.join(map(str, wanted))})",
            f"--layout {other}" if turned else f"--input-size {h}x{w}, and crops of that size",
        )
    return given


def _output(session: Any, wanted: str | None, name: str) -> str:
    outputs = session.get_outputs()
    names = [output.name for output in outputs]
    listed = ", ".join(f"{output.name} {output.shape}" for output in outputs)
    if wanted is None and len(names) > 1:
        raise ModelError(f"{name} has {len(names)} outputs: {listed}", "choose by --output NAME")
    if wanted is not None and wanted not in names:
        raise ModelError(f"{name} has no output {wanted!r}", f"it has {listed}")
    return wanted or str(names[0])


def _digest(path: Path) -> str:
    """SHA-256 of the model and of the weight files it names, which must lie in its own folder."""
    data = path.read_bytes()
    h = hashlib.sha256(data)
    for name in sorted({_named(data, found.start(), path) for found in _LOCATION.finditer(data)}):
        inside = os.path.normpath(name)
        if Path(inside).is_absolute() or inside.startswith(".."):
            raise ModelError(
                f"{path.name} keeps weights outside its folder: {name!r}",
                "put them beside the model and export it again",
            )
        if (path.parent / inside).is_file():
            with (path.parent / inside).open("rb") as weights:
                h.update(hashlib.file_digest(weights, "sha256").digest())
    return f"sha256:{h.hexdigest()[:16]}"


def _named(data: bytes, at: int, path: Path) -> str:
    """Read the file name of the entry whose key begins at `at`.

    The entry must be exactly key and value: protobuf also knows other orders, and takes the last of
    several values, so that the runtime would read another file than the one seen here.
    """
    if found := _ENTRY.match(data, at):
        low, *high = found[1]
        end = found.end() + ((low & 0x7F) | (high[0] << 7 if high else 0))
        size = end - at
        announced = bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])
        if data[at - len(announced) : at] == announced and end <= len(data):
            return data[found.end() : end].decode("utf-8", "replace")
    raise ModelError(f"{path.name} names its weights in a way that no exporter does")


def _reason(error: Exception) -> str:
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    return text.splitlines()[0][:200] if text else type(error).__name__
