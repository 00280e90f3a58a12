"""ONNX Runtime sessions: the requested provider or an error; the input and output to use."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.errors import MissingPackageError, ModelError, needing
from evalkit.types import InputSpec

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# TF32 off: "float32" must mean it, whatever the age of the GPU. TensorRT is not offered: it has no
# such switch, and two of its builds of one network differ. The arena grows by what is asked, not by
# doubling, so that torch finds room beside it.
_ON_CUDA = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
INPUTS: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
_SCALARS = INPUTS | {"tensor(bool)": np.bool_, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
_KEPT = re.compile("keep", re.IGNORECASE)  # the share of values that dropout leaves
_SWITCH = re.compile("train|phase|drop", re.IGNORECASE)

# What stands around a reason: the code of the error, the file again, a place in the runtime's own
# source with a function, in full or by its name.
_SOURCE = r"\.(?:cc|cpp|cu|h|hpp):\d+"
_AROUND = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .{1,999}? failed: ?"
    rf"|\S*[/\\]\S+{_SOURCE} .{{1,999}}?\)(?: const)? |\b\w+{_SOURCE} \w+ "
)
_LONGEST = 2000  # characters of a reason
_NEWER = "take a newer onnxruntime than {version}, or export the model for an older version"
_WAYS_OUT = {
    r"IR version|Opset \d+ is|No Op registered|is not a registered function": _NEWER,
    "[Ee]xternal data|cannot get file size": (
        "put its file of weights beside the model, under the name that it had then"
    ),
    "Protobuf parsing|No graph was found": "is it whole? compare its size with the original's",
}

# y = Relu(x) of one number: operators 13, format 7.
_SMALLEST = (
    b'\x08\x07\x12\x00:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n'
    b"\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
_WITHOUT_GPU = (
    "--device cpu runs it there on purpose, --allow-cpu where no GPU starts; "
    "`evalkit devices` says what is missing"
)

_running = weakref.WeakSet[Any]()  # the run options of every model


class _NoGpuError(Exception):
    """Why a session does not start on a GPU."""


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off; MissingPackageError without it."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read as its library is loaded
    with needing("onnxruntime", "onnx", "an ONNX model"):
        import onnxruntime
    return onnxruntime


def run_options() -> Any:
    """Create the options of a model's runs, through which `stop` ends them."""
    options = import_onnxruntime().RunOptions()
    options.log_severity_level = 4  # errors are raised here
    # No graph of a GPU. Unset, it is asked for in every run, which throws and catches for 0.03 ms.
    options.add_run_config_entry("gpu_graph_id", "-1")
    _running.add(options)
    return options


def stop() -> None:
    """End every run in this process, those of a model still loading included."""
    for options in list(_running):
        options.terminate = True


def start(path: Path, device: str, allow_cpu: bool, threads: int) -> tuple[Any, str]:
    """Start a session on the device; return it, and why it is not on a GPU, or "".

    device : auto, cpu, cuda or cuda:N.  A GPU that does not start is an error where it was asked
    for; with auto or `allow_cpu` the processor does the work and the reason is returned.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not number.isdigit()):
        raise ModelError(f"no device {device!r}", "one of auto, cpu, cuda, cuda:1")
    why = ""
    if kind == "cuda" or (
        kind == "auto" and CUDA in import_onnxruntime().get_available_providers()
    ):
        try:
            return _on_gpu(path, int(number or 0), threads), ""
        except _NoGpuError as e:
            why = str(e)
        if kind == "cuda" and not allow_cpu:
            on_processor(path, threads)  # a broken file is told as one, not as a missing GPU
            raise ModelError(f"asked for {device}, {why}", _WITHOUT_GPU)
    return on_processor(path, threads), why


def on_processor(path: Path, threads: int = 1) -> Any:
    """Start a session on the processor; ModelError where the file is no usable model."""
    try:
        return _session(path, threads, [CPU])
    except MissingPackageError:
        raise
    except Exception as e:
        text = reason(e)
        raise ModelError(f"{path.name} is not a usable ONNX model: {text}", _way_out(text)) from e


def gpu_problem() -> str:
    """Why no session starts on a GPU here; "" where one does."""
    try:
        _on_gpu(_SMALLEST, 0, 1)
    except _NoGpuError as e:
        return str(e)
    return ""


def _on_gpu(path: Path | bytes, number: int, threads: int) -> Any:
    """Start a session on a GPU; _NoGpuError with the reason where that fails."""
    ort = import_onnxruntime()
    if CUDA not in ort.get_available_providers():
        raise _NoGpuError("this onnxruntime is built for processors alone")
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
            ort.preload_dlls()
    try:
        started = _session(path, threads, [(CUDA, _ON_CUDA | {"device_id": str(number)}), CPU])
    except Exception as e:
        raise _NoGpuError(reason(e)) from e
    if started.get_providers()[0] != CUDA:
        raise _NoGpuError("ONNX Runtime would use the processor: a library of CUDA is missing")
    return started


def _session(path: Path | bytes, threads: int, providers: list[Any]) -> Any:
    ort = import_onnxruntime()
    if hasattr(ort, "disable_telemetry_events"):
        ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised here
    # By itself the runtime would try again with fewer providers and without their options.
    with contextlib.redirect_stdout(sys.stderr):
        model = path if isinstance(path, bytes) else str(path)
        return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)


def image_input(session: Any, spec: InputSpec, name: str) -> Any:
    """Find the image input of a model, training switches aside; it must fit `spec`."""
    inputs = [i for i in session.get_inputs() if i.name not in training_switches(session)]
    listed = ", ".join(f"{i.name} {i.shape} {i.type}" for i in inputs)
    images = [i for i in inputs if len(i.shape) == 4]
    if len(inputs) != 1 or len(images) != 1:
        hint = "an image model has one, of shape (N, 3, H, W)"
        if len(images) == 1:
            others = ", ".join(i.name for i in inputs if i is not images[0])
            hint = f"evalkit feeds images alone: keep {others} in the file as an initializer"
        raise ModelError(f"{name} has input {listed}", hint)
    image = images[0]
    if image.type not in INPUTS:
        hint = f"export it with one of {', '.join(INPUTS)}; evalkit normalises the pixels"
        raise ModelError(f"{name} has input {listed}", hint)
    if INPUTS[image.type] is np.uint8 and (*spec.mean, *spec.std) != (0, 0, 0, 1, 1, 1):
        hint = "--mean 0 --std 1: a network of whole numbers normalises them itself"
        raise ModelError(f"{name} has input {listed}", hint)
    if hint := _misfit(image.shape[1:], spec):
        c = spec.channels
        shape = (c, *spec.size) if spec.layout == "nchw" else (*spec.size, c)
        raise ModelError(
            f"{name} has input {listed}, but is to be fed (N, {', '.join(map(str, shape))})", hint
        )
    return image


def training_switches(session: Any) -> dict[str, Any]:
    """Find the inputs of one number that switch to training, each set to evaluation.

    FaceNet's `phase_train` is false, a `dropout` 0, TensorFlow's `keep_prob` 1.
    """
    switches = {}
    for node in session.get_inputs():
        keeps = bool(_KEPT.search(node.name))
        named = keeps or _SWITCH.search(node.name)
        if named and node.type in _SCALARS and len(node.shape) <= 1:
            switches[node.name] = np.full([1] * len(node.shape), keeps, _SCALARS[node.type])
    return switches


def _misfit(shape: list[Any], spec: InputSpec) -> str:
    """Hint for an input whose shape is not the spec's; free sizes fit any."""

    def differs(n: Any, size: int) -> bool:
        return isinstance(n, int) and n != size

    first = spec.layout == "nchw"
    c, h, w = shape if first else (shape[2], *shape[:2])
    if not any(map(differs, (c, h, w), (spec.channels, *spec.size))):
        return ""
    if shape[2 if first else 0] in (1, 3) and c not in (1, 3):
        return f"--layout {'nhwc' if first else 'nchw'}"
    if differs(c, spec.channels):
        fitting = {1: "--color grey", 3: "--color rgb or bgr"}
        return fitting.get(c, f"images have {spec.channels} channels, the model takes {c}")
    return f"--input-size {h}x{w}, and crops of that size"


def output_name(session: Any, requested: str | None, name: str) -> str:
    """Find the output: the requested one, or the only one."""
    outputs = session.get_outputs()
    names = [output.name for output in outputs]
    listed = ", ".join(f"{output.name} {output.shape}" for output in outputs)
    if requested is None and len(names) > 1:
        raise ModelError(f"{name} has {len(names)} outputs: {listed}", "choose by --output NAME")
    if requested is not None and requested not in names:
        raise ModelError(f"{name} has no output {requested!r}", f"it has {listed}")
    return requested or str(names[0])


def reason(error: Exception) -> str:
    """Give the runtime's whole message on one line, without codes and places in its own source."""
    text = _AROUND.sub("", " ".join(str(error).split()))
    return text[:_LONGEST] or type(error).__name__


def _way_out(text: str) -> str:
    for pattern, hint in _WAYS_OUT.items():
        if re.search(pattern, text):
            return hint.format(version=import_onnxruntime().__version__)
    return ""
