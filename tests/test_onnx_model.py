"""ONNX models of every shape that is met in the wild, and those that must be refused."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evalkit import adapters
from evalkit.adapters.calling import in_order
from evalkit.adapters.onnx import model as onnx_model
from evalkit.adapters.onnx import session
from evalkit.adapters.presets import PRESETS, build, resolve
from evalkit.errors import MissingPackageError, ModelError, UndeclaredInputError
from evalkit.types import InputSpec

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
sys.path.insert(0, str(Path(__file__).parent))
import onnx
import small_models
from onnx import TensorProto

SPEC = InputSpec(size=(8, 8), color="rgb", mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))


def images(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def by_hand(x: NDArray[np.uint8], spec: InputSpec = SPEC) -> NDArray[np.float32]:
    rows = []
    for image in x.astype(np.float32):
        ordered = image if spec.color == "rgb" else image[:, :, ::-1]
        fed = (ordered - np.float32(spec.mean)) / np.float32(spec.std)
        fed = fed.transpose(2, 0, 1) if spec.layout == "nchw" else fed
        rows.append(fed.ravel() @ small_models.weights())
    return np.array(rows)


@pytest.mark.parametrize("batch", ["n", 1, 3])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_rows_out_equal_rows_in_for_any_declared_batch(
    tmp_path: Path, batch: int | str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.adapters.onnx.model._TOGETHER", 4)
    model = adapters.load(str(small_models.save(tmp_path / "m.onnx", batch=batch)), spec=SPEC)
    assert model.dim == small_models.DIM
    np.testing.assert_allclose(model.embed(images(n)), by_hand(images(n)), rtol=1e-4, atol=1e-2)


def test_passes_in_memory_that_is_kept_give_the_bits_of_a_new_model(tmp_path: Path) -> None:
    path = str(small_models.save(tmp_path / "m.onnx", batch=1))
    some = [images(n)[::-1] for n in (7, 7, 4, 1, 7)]
    alone = [adapters.load(path, spec=SPEC).embed(x) for x in some]
    model: Any = adapters.load(path, spec=SPEC)
    made = [model.embed(x) for x in some]
    assert model._idle  # the memory of a pass
    with ThreadPoolExecutor(4) as threads:
        made += threads.map(model.embed, some * 25)
    for x, expected in zip(made, alone * 26, strict=True):
        np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("color", ["rgb", "bgr", "grey"])
def test_an_input_fed_into_given_memory_has_the_same_bits(color: str, dtype: type) -> None:
    spec = replace(SPEC, color=color)
    fed = onnx_model.feed(images(5), spec, dtype)
    into = np.full_like(fed, np.nan)
    assert onnx_model.feed(images(5), spec, dtype, into) is into
    np.testing.assert_array_equal(into, fed)
    mean, std = (np.float32(v[: spec.channels]) for v in (spec.mean, spec.std))
    ordered = in_order(images(5), color).astype(np.float32)
    plain = ((ordered - mean) / std).transpose(0, 3, 1, 2).astype(dtype)
    np.testing.assert_array_equal(fed, plain)


def test_a_run_asks_for_no_graph_of_a_gpu(tmp_path: Path) -> None:
    model: Any = adapters.load(str(small_models.save(tmp_path / "m.onnx")), spec=SPEC)
    assert model._run_options.get_run_config_entry("gpu_graph_id") == "-1"


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_colour_order_and_layout(tmp_path: Path, color: str, layout: str) -> None:
    fields = {"size": (8, 8), "mean": SPEC.mean, "std": SPEC.std, "color": color, "layout": layout}
    spec = build(fields)
    path = small_models.save(tmp_path / "m.onnx", layout=layout)
    made = adapters.load(str(path), spec=spec).embed(images(3))
    np.testing.assert_allclose(made, by_hand(images(3), spec), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_an_input_that_torch_normalises_gives_the_same_bits(
    tmp_path: Path, color: str, layout: str, kind: int
) -> None:
    torch = pytest.importorskip("torch")
    fields = {"size": (8, 8), "mean": SPEC.mean, "std": SPEC.std, "color": color, "layout": layout}
    path = small_models.save(tmp_path / "m.onnx", layout=layout, kind=kind)
    model: Any = adapters.load(str(path), spec=build(fields))
    assert model._feeds_on is None  # on a processor numpy does it
    made = model.embed(images(5))
    model._feeds_on = torch.device("cpu")
    np.testing.assert_array_equal(model.embed(images(5)), made)


def test_half_precision_input(tmp_path: Path) -> None:
    path = small_models.save(tmp_path / "m.onnx", kind=TensorProto.FLOAT16)
    made = adapters.load(str(path), spec=SPEC).embed(images(2))
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, by_hand(images(2)), rtol=0.05, atol=2)


def test_several_outputs_are_chosen_by_name(tmp_path: Path) -> None:
    path = str(small_models.save(tmp_path / "m.onnx", outputs=2))
    with pytest.raises(ModelError, match=r"2 outputs: y .*, other"):
        adapters.load(path, spec=SPEC)
    assert adapters.load(path, spec=SPEC, output="other").dim == small_models.DIM
    with pytest.raises(ModelError, match="no output 'z'"):
        adapters.load(path, spec=SPEC, output="z")


def test_a_two_dimensional_input_is_refused(tmp_path: Path) -> None:
    path = small_models.save(tmp_path / "m.onnx", rank=2)
    with pytest.raises(ModelError, match="has input x"):
        adapters.load(str(path), spec=SPEC)


def test_a_missing_runtime_is_not_the_models_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_models.save(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError) as e:
        adapters.load(path, spec=SPEC)
    assert e.value.message == "an ONNX model needs onnxruntime, which is not installed"
    assert e.value.hint == "pip install 'face-evalkit[onnx]'"


def test_a_text_file_called_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("not a model")
    with pytest.raises(ModelError, match=r"m\.onnx is not a usable ONNX model"):
        adapters.load(str(tmp_path / "m.onnx"), spec=SPEC)


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        ({"ir_version": 99}, r"model: Unsupported model IR version: 99, max .*: \d+$", "newer"),
        ({"opset": 99}, r"model: .*Opset 99 is under development.*is till opset \d+\.$", "newer"),
        ({"op": "NoSuch"}, "Error No Op registered for NoSuch with domain_version of 17$", "newer"),
        ({"weights": "gone.data"}, "(not exist|No such file).*gone.data", "beside"),
        ({"cut": 40}, r"model: Protobuf parsing failed\.$", "is it whole"),
    ],
)
def test_the_runtimes_whole_reason_is_shown(
    tmp_path: Path, change: dict[str, Any], said: str, hint: str
) -> None:
    path = small_models.save(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.ir_version = change.get("ir_version", model.ir_version)
    model.opset_import[0].version = change.get("opset", 17)
    model.graph.node[0].op_type = change.get("op", "Flatten")
    aside = {"save_as_external_data": True, "location": change.get("weights"), "size_threshold": 0}
    onnx.save_model(model, path, **(aside if "weights" in change else {}))
    (tmp_path / "gone.data").unlink(missing_ok=True)
    path.write_bytes(path.read_bytes()[: change.get("cut")])
    with pytest.raises(ModelError) as told:
        adapters.load(path, spec=SPEC)
    assert re.search(said, told.value.message), told.value.message
    assert hint in told.value.hint


def test_a_reason_without_the_runtimes_own_source() -> None:
    told = (
        "[ONNXRuntimeError] : 1 : FAIL : Load model from a b.onnx failed:/src/core/graph/model.cc:7"
        " ort::Model::Model(const std::unordered_map<int, std::function<void(int)>>&, bool) const "
        "the reason (in (brackets)) in full\n index: 2 Got: 9\n"
    )
    reason = session.reason(RuntimeError(told))
    assert reason == "the reason (in (brackets)) in full index: 2 Got: 9"
    assert session.reason(RuntimeError("x" * 3000)) == "x" * 2000
    assert session.reason(RuntimeError()) == "RuntimeError"


def test_another_image_size_is_refused(tmp_path: Path) -> None:
    path = small_models.save(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="is to be fed") as told:
        adapters.load(str(path), preset="arcface")
    assert "--input-size 8x8" in told.value.hint


@pytest.mark.parametrize(
    ("image", "layout", "hint"),
    [
        ([3, 8, 8], "nhwc", "--layout nchw"),
        ([8, 8, 3], "nchw", "--layout nhwc"),
        ([8, 4, 6], "nhwc", "images have 3 channels, the model takes 6"),
        ([12, 4, 4], "nchw", "images have 3 channels, the model takes 12"),
        ([3, 4, 16], "nchw", "--input-size 4x16, and crops of that size"),
    ],
)
def test_an_input_that_does_not_fit_says_what_to_do(
    tmp_path: Path, image: list[int], layout: str, hint: str
) -> None:
    path = small_models.save(tmp_path / "m.onnx", image=image)
    with pytest.raises(ModelError, match="is to be fed") as told:
        adapters.load(str(path), spec=replace(SPEC, layout=layout))
    assert told.value.hint == hint


def test_a_network_that_fails_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = small_models.save(tmp_path / "m.onnx", image=[3, "h", "w"])
    with pytest.raises(ModelError, match="fails on 1 images") as told:
        adapters.load(str(path), spec=replace(SPEC, size=(4, 4)))
    assert told.value.hint == "it was fed 4x4 nchw; is that what it wants?"
    assert capfd.readouterr().err == ""


def test_whole_numbers_of_eight_bits_are_fed_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.load(small_models.save(path))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT))
    model.graph.node[1].input[0] = "real"
    onnx.save(model, path)
    plain = replace(SPEC, mean=(0.0,) * 3, std=(1.0,) * 3)
    made = adapters.load(path, spec=plain).embed(images(3))
    np.testing.assert_allclose(made, by_hand(images(3), plain), rtol=1e-4, atol=1e-2)
    with pytest.raises(ModelError, match=r"tensor\(uint8\)") as told:
        adapters.load(path, spec=SPEC)
    assert "--mean 0 --std 1" in told.value.hint


def test_double_precision_input(tmp_path: Path) -> None:
    path = small_models.save(tmp_path / "m.onnx", kind=TensorProto.DOUBLE)
    made = adapters.load(path, spec=SPEC).embed(images(2))
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, by_hand(images(2)), rtol=1e-5, atol=1e-3)


def test_other_pixels_are_refused(tmp_path: Path) -> None:
    path = small_models.save(tmp_path / "m.onnx", kind=TensorProto.INT64)
    with pytest.raises(ModelError, match=r"tensor\(int64\)") as told:
        adapters.load(path, spec=SPEC)
    assert "tensor(float16)" in told.value.hint


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_one_channel_is_fed_grey(tmp_path: Path, layout: str) -> None:
    shape = {"nchw": [1, 8, 8], "nhwc": [8, 8, 1]}[layout]
    path = small_models.save(tmp_path / "m.onnx", image=shape, by=small_models.weights()[:64])
    fields = {"size": (8, 8), "mean": 10, "std": 4, "layout": layout}
    model = adapters.load(path, spec=build({**fields, "color": "gray"}))
    assert model.spec.color == "grey"
    grey = np.stack([np.asarray(Image.fromarray(x).convert("L")) for x in images(300)])
    expected = ((grey - 10.0) / 4).reshape(300, -1) @ small_models.weights()[:64]
    np.testing.assert_allclose(model.embed(images(300)), expected, rtol=1e-4, atol=1e-3)
    with pytest.raises(ModelError) as told:
        adapters.load(path, spec=build({**fields, "color": "rgb"}))
    assert told.value.hint == "--color grey"


def test_a_grey_channel_has_one_mean() -> None:
    with pytest.raises(ModelError, match="one mean and one std"):
        resolve("m.onnx", "imagenet", color="grey")


@pytest.mark.parametrize("batch", [1, "n"])
def test_one_vector_without_a_batch_axis(tmp_path: Path, batch: int | str) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.load(small_models.save(path, batch=batch))
    del model.graph.output[:]
    shape = onnx.numpy_helper.from_array(np.array([small_models.DIM]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("Reshape", ["y", "shape"], ["z"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", 1, [small_models.DIM]))
    onnx.save(model, path)
    found = adapters.load(path, spec=SPEC)
    assert (found.dim, found.batch) == (small_models.DIM, 1)
    np.testing.assert_allclose(found.embed(images(5)), by_hand(images(5)), rtol=1e-4, atol=1e-2)


def test_a_file_in_the_runtimes_own_format(tmp_path: Path) -> None:
    import onnxruntime

    plain = small_models.save(tmp_path / "m.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    made = adapters.load(tmp_path / "m.ort", spec=SPEC).embed(images(3))
    np.testing.assert_allclose(made, by_hand(images(3)), rtol=1e-4, atol=1e-2)


def test_a_gpu_that_is_not_there_is_an_error_unless_allowed(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine's ONNX Runtime knows CUDA")
    path = str(small_models.save(tmp_path / "m.onnx"))
    with pytest.raises(
        ModelError, match="asked for cuda, this onnxruntime is built for processors alone"
    ):
        adapters.load(path, spec=SPEC, device="cuda")
    model = adapters.load(path, spec=SPEC, device="cuda", allow_cpu=True)
    assert "CPUExecutionProvider" in model.runtime  # type: ignore[attr-defined]
    assert model.doubt.startswith("m.onnx runs on the processor, no GPU starts: this onnxruntime")  # type: ignore[attr-defined]


def test_nothing_is_guessed(tmp_path: Path) -> None:
    path = small_models.save(tmp_path / "m.onnx")
    with pytest.raises(UndeclaredInputError, match=r"spec of m[.]onnx is not declared"):
        adapters.load(str(path))


def test_the_side_car_speaks_for_its_model(tmp_path: Path) -> None:
    model = str(tmp_path / "m.onnx")
    (tmp_path / "m.evalkit.toml").write_text('[input]\npreset = "sphereface"\nsize = [8, 8]\n')
    spec = resolve(model)
    assert spec is not None and (spec.size, spec.color, spec.std) == ((8, 8), "bgr", (128.0,) * 3)
    assert resolve(model, color="rgb") == build(
        {"preset": "sphereface", "size": (8, 8), "color": "rgb"}
    )
    assert resolve(model, "arcface") == PRESETS["arcface"]


def with_metadata(path: Path, **parts: str) -> str:
    import onnx

    model = onnx.load(small_models.save(path))
    onnx.helper.set_model_props(model, {f"evalkit.{k}": v for k, v in parts.items()})
    onnx.save(model, path)
    return str(path)


def test_the_metadata_of_a_model_declare_its_input(tmp_path: Path) -> None:
    by_hand = with_metadata(
        tmp_path / "a.onnx", size="8x8", color="bgr", mean="1,2.5, 3", std="127.5"
    )
    spec = build({"size": (8, 8), "color": "bgr", "mean": (1, 2.5, 3), "std": 127.5})
    assert resolve(by_hand) == spec and adapters.load(by_hand).spec == spec
    small = with_metadata(tmp_path / "b.onnx", preset="imagenet", size="8x8", crop="mine")
    assert resolve(small) == build({"preset": "imagenet", "size": (8, 8), "crop": "mine"})
    assert resolve(small, color="bgr") == replace(resolve(small), color="bgr")  # type: ignore[type-var]
    assert resolve(small, "sface") == PRESETS["sface"]
    (tmp_path / "b.evalkit.toml").write_text('[input]\npreset = "magface"\n')
    assert resolve(small) == PRESETS["magface"]


@pytest.mark.parametrize(
    ("key", "text"),
    [("size", "8"), ("mean", "a"), ("std", "1,2,3,4"), ("mean", "1e"), ("sice", "")],
)
def test_metadata_that_say_nothing_are_refused(tmp_path: Path, key: str, text: str) -> None:
    path = with_metadata(tmp_path / "m.onnx", **{"preset": "arcface", key: text})
    with pytest.raises(ModelError, match=key):
        resolve(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[input", "is not TOML"),
        ("[output]\n", "must hold one table"),
        ("[input]\nsize = [8, 8]\n", "lacks color, mean, std"),
        ('[input]\npreset = "nosuch"\n', "no preset 'nosuch'"),
        ('[input]\npreset = "arcface"\nsice = 3\n', "an input spec has no sice"),
        ("[input]\npreset = 3\n", "a preset is named by a text, not 3"),
        ('[input]\npreset = ["arcface"]\n', "a preset is named by a text, not"),
        *[
            (f'[input]\npreset = "arcface"\n{part} = {value}\n', f"not an input spec: its {part}")
            for part, values in {
                "std": ("0", "1e-300", "-1"),
                "size": ("112", '"112"', "[112]", "[112.0, 112]", "[true, true]", "[0, 112]"),
                "color": ("3", '["rgb"]'),
                "layout": ("true",),
                "crop": ("3", '""', '"a\\nb"'),
            }.items()
            for value in values
        ],
        *[
            (f'[input]\npreset = "arcface"\n{part} = {value}\n', "mean and std are one number")
            for part in ("mean", "std")
            for value in ("nan", "inf", "1e400", "true", '"1"', "[1, 2]", "[1, nan, 1]", "{a = 1}")
        ],
    ],
)
def test_a_wrong_side_car_is_told(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "m.evalkit.toml").write_text(text)
    with pytest.raises(ModelError, match=rf"^m\.evalkit\.toml: .*{says}"):
        resolve(str(tmp_path / "m.onnx"))


def test_the_real_model_has_a_fixed_batch_and_still_gives_all_rows(shared_data: Path) -> None:
    path = shared_data / "models" / "mobilefacenet_foamliu.onnx"
    model = adapters.load(str(path), preset="imagenet")
    x = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    made = model.embed(x)
    assert made.shape == (3, 128)
    np.testing.assert_array_equal(made[1:2], model.embed(x[1:2]))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What sessions are asked for where no GPU starts; those of the processor are real."""
    import onnxruntime as ort

    known, real, seen = ["CUDAExecutionProvider", "CPUExecutionProvider"], ort.InferenceSession, []

    class OnProcessor:
        def get_providers(self) -> list[str]:
            return known[1:]

    def session(path: str, options: object, providers: list[Any], enable_fallback: int) -> Any:
        seen.append((providers, enable_fallback))
        print("EP Error")  # as the real one does, on stdout
        return real(path, options, providers=providers) if providers == known[1:] else OnProcessor()

    monkeypatch.setattr(
        ort, "get_available_providers", lambda: ["TensorrtExecutionProvider", *known]
    )
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load"), raising=False)
    monkeypatch.setattr(ort, "InferenceSession", session)
    return seen


def test_a_gpu_that_does_not_start_is_refused_and_stdout_kept_clean(
    tmp_path: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(small_models.save(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match=r"asked for cuda:1, ONNX Runtime would use the processor"):
        adapters.load(path, spec=SPEC, device="cuda:1")
    ([(provider, given), second], fallback), _ = asked
    assert (provider, second, fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider", 0)
    assert given["use_tf32"] == "0" and given["device_id"] == "1"
    captured = capsys.readouterr()
    assert captured.out == "" and "Failed to load" in captured.err
    with pytest.raises(ModelError, match="no device 'tensorrt'"):
        adapters.load(path, spec=SPEC, device="tensorrt")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"broken\.onnx is not a usable ONNX model"):
        adapters.load(str(broken), spec=SPEC, device="cuda")


def test_the_runtime_names_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cards do not share cached vectors, nor the images of one run."""
    path = str(small_models.save(tmp_path / "m.onnx"))
    start, value = session.start, onnx_model._value

    class OnGpu:
        def __init__(self, real: Any) -> None:
            self.real = real

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    cards = ["RTX 3090", "RTX 4090"]

    def started(path: Path, device: str, *how: Any) -> tuple[OnGpu, str]:
        return OnGpu(start(path, "cpu", *how)[0]), ""

    monkeypatch.setattr(session, "start", started)
    monkeypatch.setattr(onnx_model, "_torch_device", lambda *of: None)
    monkeypatch.setattr(onnx_model, "_value", lambda x, *of: value(x))
    monkeypatch.setattr(onnx_model.gpus, "name_of", lambda number: cards[number])
    made = [adapters.load(path, spec=SPEC, device=f"cuda:{n}").runtime for n in (0, 1)]
    assert ["on RTX 3090 " in made[0], "on RTX 4090 " in made[1]] == [True, True]


@pytest.mark.parametrize("how", [{"device": "auto"}, {"device": "cuda", "allow_cpu": True}])
def test_without_a_gpu_that_starts_the_processor_does_the_work_and_says_so(
    tmp_path: Path, asked: list[Any], how: dict[str, Any]
) -> None:
    path = str(small_models.save(tmp_path / "m.onnx"))
    model: Any = adapters.load(path, spec=SPEC, **how)
    np.testing.assert_allclose(model.embed(images(2)), by_hand(images(2)), rtol=1e-4, atol=1e-2)
    assert "CPUExecutionProvider float32" in model.runtime and len(asked) == 2
    assert "no GPU starts: ONNX Runtime would use the processor" in model.doubt


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (small_models.dropout(), "m.onnx answers differently to the same image, by"),
        (small_models.centred(), "m.onnx answers differently to an image alone and among others"),
        (small_models.mapped(2), r"m.onnx returned float32 of shape \(1, 2, 2, 1\) for 1 images"),
    ],
    ids=["dropout", "batch statistics", "feature map"],
)
def test_what_is_no_embedding_of_the_image_alone(
    tmp_path: Path, head: list[Any], says: str
) -> None:
    path = small_models.save_with_head(tmp_path / "m.onnx", head, ["n", "c", "h", "w"][:2])
    with pytest.raises(ModelError, match=says) as told:
        adapters.load(str(path), spec=SPEC)
    assert "eval()" in told.value.hint or "pool or flatten" in told.value.hint


def test_a_vector_with_axes_of_one_is_one(tmp_path: Path) -> None:
    head = small_models.mapped(1)
    path = small_models.save_with_head(tmp_path / "m.onnx", head, ["n", 4, 1, 1])
    made = adapters.load(str(path), spec=SPEC).embed(images(3))
    np.testing.assert_allclose(made, by_hand(images(3)), rtol=1e-4, atol=1e-2)


def test_a_switch_to_training_is_off(tmp_path: Path) -> None:
    head = small_models.switched("phase_train")
    path = small_models.save_with_head(tmp_path / "m.onnx", head, ["n", 4], "phase_train")
    model: Any = adapters.load(str(path), spec=SPEC)
    np.testing.assert_allclose(model.embed(images(3)), by_hand(images(3)), rtol=1e-4, atol=1e-2)
    assert model.runtime.endswith(", phase_train false")
    path = small_models.save_with_head(path, small_models.switched("mask"), ["n", 4], "mask")
    with pytest.raises(ModelError, match=r"has input x .*, mask \[\] tensor\(bool\)") as told:
        adapters.load(str(path), spec=SPEC)
    assert "keep mask in the file" in told.value.hint


@pytest.mark.parametrize(("name", "value"), [("dropout_keep_prob", 1), ("dropout", 0)])
def test_numbers_of_dropout_are_those_of_evaluation(
    tmp_path: Path, name: str, value: float
) -> None:
    head = [onnx.helper.make_node("Add", ["y", name], ["z"])]
    path = small_models.save_with_head(tmp_path / "m.onnx", head, ["n", 4], name, TensorProto.FLOAT)
    model: Any = adapters.load(path, spec=SPEC)
    expected = by_hand(images(3)) + value
    np.testing.assert_allclose(model.embed(images(3)), expected, rtol=1e-4, atol=1e-2)
    assert model.runtime.endswith(f", {name} {value}.0")


def test_a_pass_that_never_ends_is_stopped(tmp_path: Path) -> None:
    path = small_models.save_endless(tmp_path / "m.onnx")
    model: Any = adapters.load(str(path), spec=SPEC)
    white = np.full((2, 8, 8, 3), 255, np.uint8)
    with ThreadPoolExecutor(2) as threads:
        passes = [threads.submit(model.embed, white) for _ in range(2)]
        assert not wait(passes, timeout=0.2).done
        session.stop()
        for one in passes:
            assert isinstance(one.exception(timeout=60), ModelError)


def test_telemetry_is_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    calls = list[str]()
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: calls.append("off"))
    adapters.load(str(small_models.save(tmp_path / "m.onnx")), spec=SPEC)
    assert calls == ["off"]


def test_onnx_runtime_keeps_no_record_of_this_machine(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "from evalkit.adapters.onnx import session as s; s.import_onnxruntime()",
        ],
        env={**os.environ, "HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
