"""Input specs of models: from options, a preset, a side-car file or an ONNX file's metadata.

A new preset is its entry in PRESETS; `--preset` follows.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from evalkit.adapters.onnx import declared
from evalkit.errors import ModelError
from evalkit.files import as_path, decoded, whole_file
from evalkit.types import InputSpec

# A mean or deviation is not beyond it, a deviation not below its inverse: float32 holds the rest.
_LARGEST = 1e6


def _spec(
    size: tuple[int, int],
    color: str,
    mean: tuple[float, ...] | float,
    std: tuple[float, ...] | float,
    crop: str,
) -> InputSpec:
    return InputSpec(
        size=size,
        color=color,  # type: ignore[arg-type]
        mean=_three(mean),
        std=_three(std),
        crop=crop,
    )


def _three(value: Any) -> tuple[float, float, float]:
    values = value if isinstance(value, list | tuple) else [value] * 3
    if len(values) != 3 or not all(map(_is_number, values)):
        raise ModelError(f"mean and std are one number or three, not {value!r}")
    return tuple(map(float, values))  # type: ignore[return-value]


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value) and abs(value) <= _LARGEST


# mean and std are on the 0..255 scale and in the network's channel order.
PRESETS: dict[str, InputSpec] = {
    # insightface recognition/arcface_torch/inference.py; python-package model_zoo/arcface_onnx.py
    "arcface": _spec((112, 112), "rgb", 127.5, 127.5, "arcface-112"),
    # mk-minchul/AdaFace inference.py, to_input
    "adaface": _spec((112, 112), "bgr", 127.5, 127.5, "arcface-112"),
    # MuggleWang/CosFace_pytorch lfw_eval.py
    "cosface": _spec((112, 96), "rgb", 127.5, 127.5, "sphereface-112x96"),
    # timesler/facenet-pytorch, fixed_image_standardization; MTCNN boxes, not a 5-point alignment
    "facenet": _spec((160, 160), "rgb", 127.5, 128.0, "mtcnn-160"),
    # torchvision's classifiers; foamliu/MobileFaceNet and foamliu/InsightFace-PyTorch at 112x112
    "imagenet": _spec(
        (112, 112), "rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "arcface-112"
    ),
    # IrvingMeng/MagFace inference/gen_feat.py: cv2.imread, ToTensor, mean 0, std 1
    "magface": _spec((112, 112), "bgr", 0.0, 255.0, "arcface-112"),
    # Xiaoccer/MobileFaceNet_Pytorch dataloader/LFW_loader.py; the built-in network is another's
    "mobilefacenet-112x96": _spec((112, 96), "rgb", 127.5, 128.0, "sphereface-112x96"),
    # opencv modules/objdetect face_recognize.cpp (SFace): blobFromImage, scale 1, swapRB
    "sface": _spec((112, 112), "rgb", 0.0, 1.0, "arcface-112"),
    # wy1iu/sphereface test/code/evaluation.m, extractDeepFeature
    "sphereface": _spec((112, 96), "bgr", 127.5, 128.0, "sphereface-112x96"),
}

ONNX_FILES = (".onnx", ".ort")
COLORS = ("rgb", "bgr", "grey")
FORMER = {"mobilefacenet": "mobilefacenet-112x96"}  # it never fitted the network of that name
_NEEDED = ("size", "color", "mean", "std")


def sidecar(model: str | os.PathLike[str]) -> Path:
    """Name the side-car file of a model: `model.onnx` has `model.evalkit.toml` beside it."""
    model = as_path(model)
    return model.with_suffix(".evalkit.toml")


def write_sidecar(model: str | os.PathLike[str], spec: InputSpec) -> Path:
    """Write a spec into the side-car file of a model, in place of one that is there."""
    path = sidecar(model)
    parts = {**asdict(spec), "size": [*spec.size], "mean": [*spec.mean], "std": [*spec.std]}
    lines = [f"{part} = {json.dumps(value)}" for part, value in parts.items()]
    with whole_file(path) as f:
        f.write("\n".join(["[input]", *lines, ""]).encode())
    return path


def resolve(model: str, preset: str | None = None, **given: Any) -> InputSpec | None:
    """Resolve the input spec of `model`; None where it is declared nowhere.

    The base is `preset` where given, else the model's side-car file, else what an ONNX file's
    metadata say (`onnx.declared`); `given` fields of InputSpec (None = not given) replace the
    base's, or make a spec on their own when size, color, mean and std are all there.
    The side-car is TOML::

        [input]
        preset = "arcface"      # optional base; or all of size, color, mean, std
        size = [112, 112]       # height, width
        color = "rgb"           # or "bgr": the network's own order; "grey": one channel
        mean = 127.5            # one number or three, on 0..255, in the network's order
        std = 127.5
        layout = "nchw"         # or "nhwc"
        crop = "arcface-112"    # the alignment the images must already have
    """
    changes = {name: value for name, value in given.items() if value is not None}
    beside = sidecar(Path(model))
    if preset is not None:
        changes = {"preset": preset, **changes}
    elif beside.is_file():
        try:
            return build({**_read(beside), **changes})
        except ModelError as e:
            raise ModelError(f"{beside.name}: {e.message}", e.hint) from e
    elif not changes.keys() >= {*_NEEDED} and _is_onnx(model):
        changes = {**declared.metadata(Path(model)), **changes}
    return build(changes) if changes else None


def _is_onnx(model: str) -> bool:
    return Path(model).suffix.lower() in ONNX_FILES and Path(model).is_file()


def build(parts: Mapping[str, Any]) -> InputSpec:
    """Build an InputSpec from its fields as plain values, over a `preset` where one is named."""
    parts = dict(parts)
    name = parts.pop("preset", None)
    if name is not None:
        if not isinstance(name, str):
            raise ModelError(f"a preset is named by a text, not {name!r}")
        name = FORMER.get(name, name)
    unknown = set(parts) - {field.name for field in fields(InputSpec)}
    if unknown:
        raise ModelError(f"an input spec has no {', '.join(sorted(unknown))}")
    if name is not None and name not in PRESETS:
        raise ModelError(f"no preset {name!r}", f"known: {', '.join(PRESETS)}")
    missing = [field for field in _NEEDED if field not in parts]
    if name is None and missing:
        options = ", ".join("--input-size" if f == "size" else f"--{f}" for f in missing)
        raise ModelError(
            f"the input spec lacks {', '.join(missing)}",
            f"give {options}, or --preset NAME as a base",
        )
    for field in {"mean", "std"} & set(parts):
        parts[field] = _three(parts[field])
    if isinstance(parts.get("size"), list):
        parts["size"] = tuple(parts["size"])
    if parts.get("color") == "gray":
        parts["color"] = "grey"
    spec = replace(PRESETS[name], **parts) if name is not None else InputSpec(**parts)
    _check(spec)
    return spec


def _check(spec: InputSpec) -> None:
    size = spec.size
    good = {
        "size": isinstance(size, tuple) and len(size) == 2 and all(map(_is_side, size)),
        "color": spec.color in COLORS,
        "layout": spec.layout in ("nchw", "nhwc"),
        "std": all(s >= 1 / _LARGEST for s in spec.std),
        "crop": isinstance(spec.crop, str) and spec.crop.isprintable() and bool(spec.crop),
    }
    for part in (part for part, is_good in good.items() if not is_good):
        raise ModelError(
            f"not an input spec: its {part} is {getattr(spec, part)!r}",
            "size is height and width, color rgb, bgr or grey, layout nchw or nhwc, std above 0, "
            "crop a name",
        )
    if spec.channels == 1 and not len({*spec.mean}) == len({*spec.std}) == 1:
        raise ModelError(
            f"a grey channel has one mean and one std: {describe(spec)}", "--mean M --std S"
        )


def _is_side(n: Any) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and 0 < n <= 4096


def describe(spec: InputSpec) -> str:
    """One line with everything a spec decides; part of a feature file's key."""

    def short(values: tuple[float, ...]) -> str:
        same = len(set(values)) == 1
        return f"{values[0]:g}" if same else "(" + ", ".join(f"{v:.7g}" for v in values) + ")"

    return (
        f"{'x'.join(map(str, spec.size))} {spec.color} {spec.layout}, "
        f"(pixel - {short(spec.mean)}) / {short(spec.std)}, {spec.crop}"
    )


def described(text: str) -> InputSpec | None:
    """Take a spec back out of what `describe` said of it; None where this says none.

    >>> described(describe(PRESETS["imagenet"])) == PRESETS["imagenet"]
    True
    """
    numbers = r"([-+.\de]+|\([-+.\de, ]+\))"
    form = rf"(\d+)x(\d+) (\w+) (\w+), \(pixel - {numbers}\) / {numbers}, (.+)"
    match = re.fullmatch(form, text)
    if match is None:
        return None
    parts: dict[str, Any] = dict(zip(("color", "layout"), match.group(3, 4), strict=True))
    parts |= {"size": (int(match[1]), int(match[2])), "crop": match[7]}
    for name, values in (("mean", match[5]), ("std", match[6])):
        each = [float(value) for value in values.strip("()").split(", ")]
        parts[name] = each if len(each) > 1 else each[0]
    return build(parts)


def usual(spec: InputSpec) -> InputSpec:
    """Give the preset that feeds the same but for rounding, such as 128 for 127.5; else `spec`."""
    if spec in PRESETS.values():
        return spec
    return next((known for known in PRESETS.values() if alike(known, spec)), spec)


def alike(a: InputSpec, b: InputSpec) -> bool:
    """Whether two specs differ by less than anybody could measure, such as 127.5 and 128."""
    same = replace(a, mean=b.mean, std=b.std) == b
    means = all(abs(m - n) <= 1 for m, n in zip(a.mean, b.mean, strict=True))
    return same and means and all(abs(s / t - 1) <= 0.01 for s, t in zip(a.std, b.std, strict=True))


def options(spec: InputSpec) -> str:
    """Spell a spec as options: the nearest preset of its crop, and what differs from it.

    >>> options(replace(PRESETS["adaface"], std=(128.0,) * 3))
    '--preset adaface --std 128'
    """

    def changes(name: str) -> list[str]:
        base = PRESETS[name]
        shape = "x".join(map(str, spec.size))
        mean, std = (",".join(f"{v:.9g}" for v in _short(of)) for of in (spec.mean, spec.std))
        said = {"size": f"--input-size {shape}", "color": f"--color {spec.color}"}
        said |= {"mean": f"--mean {mean}", "std": f"--std {std}"}
        said |= {"layout": f"--layout {spec.layout}"}
        return [text for part, text in said.items() if getattr(spec, part) != getattr(base, part)]

    near = [name for name, known in PRESETS.items() if known.crop == spec.crop] or list(PRESETS)
    best = min(near, key=lambda name: len(changes(name)))
    return " ".join([f"--preset {best}", *changes(best)])


def name(spec: InputSpec) -> str:
    """Name a spec: its preset, else everything that it decides."""
    return next((n for n, known in PRESETS.items() if known == spec), describe(spec))


def _short(values: tuple[float, ...]) -> tuple[float, ...]:
    return values[:1] if len(set(values)) == 1 else values


def _read(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(decoded(path.read_bytes()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ModelError(f"it is not TOML: {e}") from e
    spec = document.get("input")
    if not isinstance(spec, dict) or set(document) != {"input"}:
        raise ModelError(
            f"it must hold one table, [input], and has {', '.join(document) or 'none'}"
        )
    return spec
