"""`evalkit drift`: planted mistakes of an export are named, and rounding is not."""

import io
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.adapters.onnx.model import feed
from evalkit.cli import run
from evalkit.embedding import drift
from evalkit.embedding.drift import DriftCause, Fed
from evalkit.embedding.input_check import NORMALISATIONS
from evalkit.errors import ModelError
from evalkit.types import InputSpec

pytestmark = pytest.mark.once

SIZE = 8
ARCFACE, IMAGENET = (
    InputSpec(size=(SIZE, SIZE), color="rgb", mean=mean, std=std)
    for mean, std in (NORMALISATIONS[0], NORMALISATIONS[3])
)
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(3 * SIZE * SIZE, 16)).astype(np.float32)
IMAGES = RNG.normal(127, 60, (24, SIZE, SIZE, 3)).clip(0, 255).astype(np.uint8)
Change = Callable[[np.ndarray], np.ndarray]


class Export:
    """One layer with a bias and ReLU; `before` is what an export does to its input, by mistake."""

    dim = 16

    def __init__(self, spec: InputSpec, before: Change, after: Change) -> None:
        self.spec, self.before, self.after = spec, before, after

    def embed(self, images: np.ndarray) -> np.ndarray:
        x = self.before(feed(images, self.spec)).reshape(len(images), -1)
        return self.after(np.maximum(x @ WEIGHTS + 2, 0)).astype(np.float32)


def same(x: np.ndarray) -> np.ndarray:
    return x


def fed(spec: InputSpec, before: Change = same, after: Change = same) -> Fed:
    return Fed(lambda way: Export(way, before, after), spec, IMAGES)


def cause_of(spec: InputSpec, before: Change = same, after: Change = same) -> DriftCause | None:
    return drift.cause(fed(spec), fed(spec, before, after))


def turned(x: np.ndarray) -> np.ndarray:
    return x[:, ::-1]


def wants_shares(x: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Take 0..1, and normalise inside."""
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
    return (255 * x - mean) / std


@pytest.mark.parametrize("spec", [ARCFACE, IMAGENET, replace(IMAGENET, color="bgr")])
@pytest.mark.parametrize(
    ("before", "name"),
    [
        (lambda x, spec: turned(x), "channel order"),
        (wants_shares, "scale"),
        (lambda x, spec: x / 100, "scale"),
        (lambda x, spec: wants_shares(turned(x), spec), "channel order and scale"),
        (lambda x, spec: x + 0.2, "zero point of the input"),
        (lambda x, spec: x - 1.1, "zero point of the input"),
    ],
    ids=["turned", "0..1", "small", "0..1 turned", "brighter", "darker"],
)
def test_a_planted_mistake_is_named(
    spec: InputSpec, before: Callable[[np.ndarray, InputSpec], np.ndarray], name: str
) -> None:
    found = cause_of(spec, lambda x: before(x, spec))
    assert found is not None and found.name == name
    assert found.before < 0.99 < found.after


def test_the_error_of_a_zero_point_is_measured() -> None:
    found = cause_of(ARCFACE, before=lambda x: x + 24 / 127.5)
    assert found is not None and found.error == 24
    found = cause_of(ARCFACE, before=lambda x: x * 16)
    assert found is not None and (found.name, found.error) == ("scale", 4)
    found = cause_of(ARCFACE, after=lambda x: x + 30)
    assert found is not None and found.name == "zero point of the output"
    assert found.spec is None and found.error == pytest.approx(30, rel=0.01)


@pytest.mark.parametrize("spec", [ARCFACE, IMAGENET, replace(IMAGENET, color="bgr")])
@pytest.mark.parametrize("sign", [-1, 1], ids=["dark", "bright"])
@pytest.mark.parametrize("shifts", [True, False])
def test_a_zero_point_of_a_quantised_input_is_named(
    spec: InputSpec, sign: int, shifts: bool
) -> None:
    """It is held in a file twice: wrong once it shifts, wrong twice it cuts what it is fed."""
    ends = feed(np.array([0, 255], np.uint8)[:, None, None, None] + np.zeros_like(IMAGES[:1]), spec)
    low, high, step = ends.min(), ends.max(), 0.02
    off = sign * 80 / np.mean(spec.std)

    def quantised(x: np.ndarray) -> np.ndarray:
        if shifts:
            return np.round(x.clip(low, high) / step) * step + off
        return np.round(x.clip(low - min(off, 0), high - max(off, 0)) / step) * step

    found = cause_of(spec, quantised)
    assert found is not None and found.name == "zero point of the input"
    assert (found.cut, found.spec) == (not shifts, None)
    assert found.error == pytest.approx(sign * 80, abs=4) and found.after > 0.999


@pytest.mark.parametrize(
    "before",
    [same, lambda x: np.round(x * 8) / 8, lambda x: x[..., ::-1], lambda x: x[:, [1, 0, 2]]],
    ids=["nothing", "rounding", "mirrored", "two channels"],
)
def test_nothing_else_is_called_one_of_them(before: Change) -> None:
    assert cause_of(ARCFACE, before) is None


def test_grey_has_no_order() -> None:
    grey = replace(ARCFACE, color="grey")
    ways = [name for name, _ in drift._known(fed(grey))]
    assert ways and set(ways) == {"scale"}


def test_cosines_of_what_has_none() -> None:
    a = np.array([[3, 4], [0, 0], [np.nan, 1], [1, 0]], np.float32)
    b = np.array([[4, 3], [1, 1], [1, 1], [-2, 0]], np.float32)
    np.testing.assert_allclose(drift.cosines(a, b), [0.96, np.nan, np.nan, -1], rtol=1e-9)
    with pytest.raises(ModelError, match="vectors of 2 and of 3 numbers"):
        drift.cosines(a, np.ones((4, 3), np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 40 people, a network, and exports of it with and without mistakes."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("drift")
    people = RNG.normal(127, 50, (40, SIZE, SIZE, 3))
    held = [_png(p + RNG.normal(0, 25, p.shape)) for p in people for _ in (0, 1)]
    rows = [(2 * k, 2 * k + 1) for k in range(40)] + [(2 * k, 2 * k - 1) for k in range(40)]
    data = [held[r % 80] for pair in rows for r in pair], [k < 40 for k in range(80)]
    (folder / "set.bin").write_bytes(pickle.dumps(data))
    h, of = onnx.helper, onnx.numpy_helper.from_array
    swapped = WEIGHTS.reshape(3, -1, 16)[::-1].reshape(-1, 16)

    def write(
        name: str, weights: np.ndarray, zero_point: int | None = None, of_input: int = 128
    ) -> None:
        values = {
            "w": weights,
            "b": np.full(weights.shape[1], 2, np.float32),
            "s": np.float32(0.02),
        }
        nodes, x = [], "x"
        if zero_point is not None:
            values |= {"z": np.uint8(of_input), "y": np.uint8(zero_point)}
            nodes = [
                h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
                h.make_node("DequantizeLinear", ["q", "s", "y"], ["d"]),
            ]
            x = "d"
        nodes += [
            h.make_node("Flatten", [x], ["f"]),
            h.make_node("Gemm", ["f", "w", "b"], ["g"]),
            h.make_node("Relu", ["g"], ["v"]),
        ]
        kind = onnx.TensorProto.FLOAT
        graph = h.make_graph(
            nodes,
            "export",
            [h.make_tensor_value_info("x", kind, ["n", 3, SIZE, SIZE])],
            [h.make_tensor_value_info("v", kind, ["n", weights.shape[1]])],
            [of(np.asarray(value), key) for key, value in values.items()],
        )
        made = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
        onnx.save(made, folder / name)

    write("a.onnx", WEIGHTS)
    write("int8.onnx", WEIGHTS, zero_point=128)
    write("swapped.onnx", swapped)
    write("zero.onnx", WEIGHTS, zero_point=118)
    write("cut.onnx", WEIGHTS, zero_point=235, of_input=235)
    write("narrow.onnx", WEIGHTS[:, :12])
    return folder


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def drifted(folder: Path, other: str, *more: str) -> int:
    fed = ["--preset", "arcface", "--input-size", "8x8", "--data", str(folder / "set.bin")]
    return run(["drift", str(folder / "a.onnx"), str(folder / other), *fed, *more])


@pytest.mark.parametrize(
    ("other", "code", "says"),
    [
        ("int8.onnx", 0, "the vectors agree"),
        ("swapped.onnx", 1, "likely cause: channel order; without it the median cosine is 1.0"),
        ("zero.onnx", 1, "likely cause: zero point of the input, off by 2"),
        ("cut.onnx", 1, "zero point of the input, off by 76 pixel values: those above 179 are cut"),
    ],
)
def test_the_command(
    folder: Path, other: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drifted(folder, other) == code
    out = capsys.readouterr().out
    assert says in out and "cosine of an image's two vectors: lowest" in out
    (head,) = (line.split() for line in out.splitlines() if line.startswith("FMR  "))
    assert head[head.index("Holm") - 1] == "p"  # of the row alone, as its interval is
    if other == "swapped.onnx":
        assert "feed it so: --preset adaface --input-size 8x8" in out


def test_the_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drifted(folder, "a.onnx", "--json") == 0
    held = json.loads(capsys.readouterr().out)
    assert held["cause"] is None and held["cosine"]["lowest"] == pytest.approx(1)
    (rate,) = held["rates"]
    assert (rate["low"], rate["high"], rate["kept fmr"]) == (0, 0, 0.1)
    assert rate["threshold"][0] == rate["threshold"][1]


def test_two_networks_are_not_two_exports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drifted(folder, "narrow.onnx") == 3
    assert "vectors of 16 and of 12 numbers have no cosine" in capsys.readouterr().err
    assert run(["drift", str(folder / "a.onnx"), str(folder / "a.onnx")]) == 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_table_of_exports_is_of_the_benchmark(
    shared_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).resolve().parents[1]
    script, page = root / "benchmarks" / "drift_exports.py", root / "docs" / "drift.md"
    if not script.is_file():
        pytest.skip("benchmarks are not in a source distribution")
    model = shared_data / "models" / "mobilefacenet_foamliu.onnx"
    crops = shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip"
    subprocess.run([sys.executable, script, model, crops], check=True)

    def rows(text: str) -> dict[str, list[str]]:
        lines = [line for line in text.splitlines() if line.startswith("| ") and "[" in line]
        return {name: held for name, *held in (line.strip("| ").split(" | ") for line in lines)}

    shown, made = rows(page.read_text(encoding="utf-8")), rows(capfd.readouterr().out)
    assert shown.keys() - made.keys() <= {"float32, OpenVINO", "float16, OpenVINO"}
    assert made.keys() <= shown.keys() and len(made) >= 4
    for name, (cosines, *_, cause) in made.items():  # kernels of processors differ in int8
        median = float(shown[name][0].rpartition(", ")[2])
        assert float(cosines.rpartition(", ")[2]) == pytest.approx(median, abs=2e-3), name
        assert cause.partition(",")[0] == shown[name][-1].partition(",")[0], name
