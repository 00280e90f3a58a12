"""What ONNX files say of their input: the keys `evalkit.*` of their metadata, and its shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from evalkit.adapters.onnx import session
from evalkit.adapters.onnx.digest import digest
from evalkit.errors import ModelError
from evalkit.files import whole_file
from evalkit.types import InputSpec

PREFIX = "evalkit."
_NUMBER = r"[-+.0-9e]+"
_SIZE, _NUMBERS = re.compile(r"\d{1,4}x\d{1,4}"), re.compile(rf"{_NUMBER}(, ?{_NUMBER}){{0,2}}")


def metadata(path: Path) -> dict[str, Any]:
    """Read the parts of an input spec that the file's metadata hold; none where it has no such key.

    The keys are `evalkit.preset`, `evalkit.size` ("112x96"), `evalkit.color`, `evalkit.mean` and
    `evalkit.std` ("127.5", or three with commas), `evalkit.layout` and `evalkit.crop`.
    """
    entries = _opened(path).get_modelmeta().custom_metadata_map
    named = {k.removeprefix(PREFIX): v for k, v in entries.items() if k.startswith(PREFIX)}
    return {name: _value(name, text, path.name) for name, text in named.items()}


def _opened(path: Path) -> Any:
    digest(path)  # refuses weights outside the model's folder
    return session.on_processor(path)


def _value(name: str, text: str, model: str) -> Any:
    try:
        if name == "size" and _SIZE.fullmatch(text):
            return tuple(map(int, text.split("x")))
        if name in ("mean", "std") and _NUMBERS.fullmatch(text):
            values = tuple(map(float, text.split(",")))
            return values[0] if len(values) == 1 else values
    except ValueError:
        pass
    if name in ("size", "mean", "std"):
        wanted = "112x96" if name == "size" else "127.5, or three numbers with commas"
        raise ModelError(f"{model} has {PREFIX}{name} {text!r} in its metadata", f"as {wanted}")
    return text


def write(path: Path, spec: InputSpec) -> None:
    """Put a spec into the metadata of an ONNX file, in place of the one there; weights stay."""
    try:
        import onnx
    except ImportError as e:
        raise ModelError(
            "writing into an ONNX file needs the package onnx", "pip install onnx"
        ) from e
    model = onnx.load(str(path), load_external_data=False)
    kept = {p.key: p.value for p in model.metadata_props if not p.key.startswith(PREFIX)}
    parts = {
        "size": f"{spec.size[0]}x{spec.size[1]}",
        "color": spec.color,
        "mean": ",".join(map(repr, spec.mean)),
        "std": ",".join(map(repr, spec.std)),
        "layout": spec.layout,
        "crop": spec.crop,
    }
    onnx.helper.set_model_props(model, kept | {PREFIX + k: v for k, v in parts.items()})
    with whole_file(path) as f:
        f.write(model.SerializeToString())


def input_shape(
    path: Path,
) -> tuple[tuple[int, int] | None, Literal["nchw", "nhwc"] | None]:
    """Size (height, width) and layout that the file declares; None for what it leaves open."""
    opened = _opened(path)
    flags = session.training_switches(opened)
    shapes = [i.shape for i in opened.get_inputs() if i.name not in flags and len(i.shape) == 4]
    if not shapes:
        return None, None
    shape = shapes[0][1:]
    layout: Literal["nchw", "nhwc"] | None = None
    if shape[0] in (1, 3) or shape[2] in (1, 3):
        layout = "nchw" if shape[0] in (1, 3) else "nhwc"
    h, w = shape[:2] if layout == "nhwc" else shape[1:]
    return ((h, w) if isinstance(h, int) and isinstance(w, int) else None), layout
