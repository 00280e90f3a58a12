"""Float16 and int8 exports of an ONNX network, each by `evalkit drift`: docs/drift.md's table.

    python benchmarks/drift_exports.py model.onnx CROPS.zip [--preset imagenet] [--people 100]

CROPS.zip has a folder per person.  The first people with two images are measured, as many after
them calibrate the int8 file.  Needs onnx and onnxruntime; prints a row for each
export, as Markdown.  Where openvino and `examples/adapters/openvino` are installed, files of
OpenVINO in float32 and float16 have rows too.
"""

import argparse
import importlib.util
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from PIL import Image

from evalkit.adapters.onnx.model import feed
from evalkit.adapters.presets import PRESETS
from evalkit.cli import run
from evalkit.types import InputSpec

STEPS = 64  # by which the zero point of an input is wrong


def people(crops: zipfile.ZipFile) -> list[list[str]]:
    """Names of the images of each person who has two or more, by name."""
    names = sorted(n for n in crops.namelist() if n.endswith((".jpg", ".png")))
    each = (list(images) for _, images in groupby(names, lambda n: n.rpartition("/")[0]))
    return [images for images in each if len(images) > 1]


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Images of other people, one at a time, as the network is fed."""

    def __init__(self, name: str, images: list[np.ndarray], spec: InputSpec) -> None:
        self._left: Iterator[Any] = iter({name: feed(i[np.newaxis], spec)} for i in images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image, or None after the last."""
        return next(self._left, None)


def shifted(quantised: onnx.ModelProto, kinds: set[str]) -> onnx.ModelProto:
    """Move the zero point of the input down by STEPS, in the nodes of these kinds."""
    made = onnx.ModelProto()
    made.CopyFrom(quantised)
    graph = made.graph
    first = next(n for n in graph.node if graph.input[0].name in n.input)
    point = next(i for i in graph.initializer if i.name == first.input[2])
    wrong = onnx.numpy_helper.to_array(point).astype(np.int64) - STEPS
    kind = onnx.numpy_helper.to_array(point).dtype
    wrong = wrong.clip(np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
    graph.initializer.append(onnx.numpy_helper.from_array(wrong, "wrong_zero_point"))
    for node in graph.node:
        if node.op_type in kinds and node.input[2] == point.name:
            node.input[2] = "wrong_zero_point"
    return made


def exports(
    model: Path, images: list[np.ndarray], spec: InputSpec, folder: Path
) -> dict[str, Path]:
    """Write each export into the folder: what it is -> its file."""
    found = {"float16": folder / "float16.onnx", "int8": folder / "int8.onnx"}
    network = onnx.load(model)
    onnx.save(convert_float_to_float16(network, keep_io_types=True), found["float16"])
    quantize_static(
        model,
        found["int8"],
        Calibration(network.graph.input[0].name, images, spec),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )
    quantised = onnx.load(found["int8"])
    both = {"QuantizeLinear", "DequantizeLinear"}
    for name, kinds in (("one place", {"DequantizeLinear"}), ("both places", both)):
        found[f"zero point wrong in {name}"] = path = folder / f"{name.replace(' ', '_')}.onnx"
        onnx.save(shifted(quantised, kinds), path)
    return found


def of_openvino(model: Path, folder: Path) -> dict[str, Path]:
    """Write the network for OpenVINO; nothing where it or its adapter is not installed."""
    if not all(map(importlib.util.find_spec, ("openvino", "evalkit_openvino"))):
        return {}
    import openvino

    network = openvino.convert_model(model)
    found = {}
    for kind in ("float32", "float16"):
        found[f"{kind}, OpenVINO"] = path = folder / f"openvino_{kind}.xml"
        openvino.save_model(network, path, compress_to_fp16=kind == "float16")
    return found


def row(name: str, held: dict[str, Any]) -> str:
    """A row of the table, of what `evalkit drift --json -` prints."""
    cosine = ", ".join(f"{held['cosine'][q]:.5f}" for q in ("lowest", "1 %", "median"))
    at = {rate["fmr"]: rate for rate in held["rates"]}
    cells = [name, cosine]
    for rate in (at["1e-3"], at["1e-4"]):
        gap = 100 * (rate["tpr"][1] - rate["tpr"][0])
        cells.append(f"{gap:+.2f} [{100 * rate['low']:+.2f}, {100 * rate['high']:+.2f}]")
    own, other = at["1e-4"]["threshold"]
    cells += [f"{other - own:+.4f}", f"{at['1e-4']['kept fmr']:.1e}"]
    cause = held["cause"]
    cells.append("none" if cause is None else f"{cause['name']}, off by {cause['error']:g}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--preset", default="imagenet")
    parser.add_argument("--people", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, zipfile.ZipFile(given.crops) as crops:
        os.environ["EVALKIT_CACHE"] = f"{work}/cache"
        rest = iter(people(crops))
        measured, others = (list(islice(rest, given.people)) for _ in range(2))
        for name in (name for images in measured for name in images):
            crops.extract(name, f"{work}/faces")
        calibrating = [
            np.asarray(Image.open(crops.open(name)).convert("RGB"))
            for images in others
            for name in images
        ]
        files = of_openvino(given.model, Path(work))
        files |= exports(given.model, calibrating, PRESETS[given.preset], Path(work))
        print(f"{sum(map(len, measured))} images of {len(measured)} people", flush=True)
        for name, path in files.items():
            line = ["drift", given.model, path, "--preset", given.preset, "--device", "cpu"]
            told = Path(work, f"{path.stem}.json")
            run([*map(str, line), "--data", f"{work}/faces", "--json", str(told), "--quiet"])
            print(row(name, json.loads(told.read_text("utf-8"))), flush=True)


if __name__ == "__main__":
    main()
