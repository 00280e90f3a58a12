"""PyTorch in every form it is published in, and what must be refused."""

import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pickled_calls import Reduced
from skipped_everywhere import A_GPU, NO_GPU

from evalkit import adapters
from evalkit.adapters import answers
from evalkit.adapters.presets import build
from evalkit.adapters.torch import model as torch_adapter
from evalkit.adapters.torch import programs
from evalkit.adapters.torch.model import TorchModel
from evalkit.cli import run
from evalkit.errors import ModelError
from evalkit.images import find

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
import small_networks
import torch

SPEC = build({"size": (8, 8), "color": "bgr", "mean": (10, 20, 30), "std": (2, 4, 8)})


PLAIN = "small_networks:plain"


def images(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def by_hand(net: torch.nn.Module, x: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = []
    for image in x.astype(np.float32):
        fed = (image[:, :, ::-1] - np.float32([10, 20, 30])) / np.float32([2, 4, 8])
        fed = torch.from_numpy(fed.transpose(2, 0, 1).copy())[None]
        rows.append(net.eval()(fed).detach().numpy()[0])
    return np.array(rows)


def test_a_factory(tmp_path: Path) -> None:
    model = adapters.load(PLAIN, spec=SPEC)
    assert (model.dim, model.batch) == (5, None)
    made = model.embed(images(7))
    np.testing.assert_allclose(
        made, by_hand(small_networks.plain(), images(7)), rtol=1e-4, atol=1e-4
    )


def script(tmp_path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(small_networks.plain().eval(), torch.zeros(2, 3, 8, 8)).save(
            tmp_path / "m.pt"
        )
    return tmp_path / "m.pt"


def program(tmp_path: Path, free: bool) -> Path:
    shapes = ({0: torch.export.Dim("n")},) if free else None
    net = small_networks.plain().eval()
    made = torch.export.export(net, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(made, tmp_path / "m.pt2")
    return tmp_path / "m.pt2"


def test_a_program_of_another_size_says_what_it_was_fed(tmp_path: Path) -> None:
    other = replace(SPEC, size=(6, 9))
    with pytest.raises(ModelError, match=r"m\.pt2 fails on 1 images: .*[Gg]uard") as told:
        adapters.load(str(program(tmp_path, free=True)), spec=other)
    assert told.value.hint == "it was fed 6x9 nchw; is that what it wants?"


def test_a_program_takes_the_tensors_it_makes_to_its_device() -> None:
    class Making(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) + torch.arange(12.0)

    made = torch.export.export(Making(), (torch.zeros(2, 3, 2, 2),))
    elsewhere = torch.device("meta")  # a device of every machine, without numbers
    moved = programs.on_device(made, elsewhere)
    assert moved.module()(torch.zeros(2, 3, 2, 2, device=elsewhere)).device == elsewhere
    assert programs.on_device(made, torch.device("cpu")) is made


@pytest.mark.parametrize(
    ("version", "graphs"), [("2.13.1+cu130", False), ("2.14.0", True), ("3.0.1", True)]
)
def test_cuda_graphs_only_where_any_thread_may_run_them(
    version: str, graphs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    assert torch_adapter._has_cuda_graphs() is graphs


@pytest.mark.parametrize("kind", ["script", "free program", "program for two"])
def test_files(tmp_path: Path, kind: str) -> None:
    path = script(tmp_path) if kind == "script" else program(tmp_path, kind == "free program")
    model = adapters.load(str(path), spec=SPEC)
    assert model.batch == (2 if kind == "program for two" else None)
    for n in (1, 2, 7):
        np.testing.assert_allclose(
            model.embed(images(n)), by_hand(small_networks.plain(), images(n)), rtol=1e-4, atol=1e-4
        )


def test_a_scale_of_the_pass_is_told_and_images_are_fed_alone() -> None:
    model: Any = adapters.load("small_networks:Scaled", spec=SPEC)
    assert model.batch == 1
    assert "Scaled change with the other images of a pass" in model.doubt
    assert model.doubt.endswith("fed one at a time")
    assert answers.refuse_random(model, answers.answers(model)) == model.doubt
    np.testing.assert_array_equal(model.embed(images(3))[2:], model.embed(images(3)[2:]))


def test_what_is_not_in_evaluation_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Mixed answers differently to an image alone") as told:
        adapters.load("small_networks:Mixed", spec=SPEC)
    assert "batch normalisation in training mode" in told.value.hint
    with pytest.raises(ModelError, match="Dropping answers differently to the same image") as told:
        adapters.load("small_networks:Dropping", spec=SPEC)
    assert "dropout" in told.value.hint
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.nn.Sequential(small_networks.plain(), torch.nn.Dropout()).train()
        torch.jit.trace(net, torch.zeros(2, 3, 8, 8), check_trace=False).save(tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"m\.pt answers differently to the same image"):
        adapters.load(str(tmp_path / "m.pt"), spec=SPEC)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(net).save(tmp_path / "m.pt")
    assert adapters.load(str(tmp_path / "m.pt"), spec=SPEC).dim == 5  # put into evaluation mode


def test_a_network_in_training_stays_as_it_is() -> None:
    net = torch.nn.Sequential(small_networks.plain(), torch.nn.Dropout()).train()
    kept = {name: (x.clone(), x.stride()) for name, x in net.state_dict().items()}
    model = TorchModel(net, SPEC, name="net", fingerprint="1")
    np.testing.assert_array_equal(model.embed(images(9)), model.embed(images(9)))
    assert all(layer.training for layer in net.modules())
    for name, x in net.state_dict().items():
        assert torch.equal(x, kept[name][0]) and x.stride() == kept[name][1]


def test_a_network_in_training_inside_an_adapter_is_refused() -> None:
    class OneByOne:
        spec, dim = SPEC, 5

        def __init__(self) -> None:
            self.net = small_networks.plain()

        def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
            fed = torch.from_numpy(x).permute(0, 3, 1, 2).float()
            with torch.no_grad():
                return torch.cat([self.net(one[None]) for one in fed]).numpy()

    model = OneByOne()
    model.net.eval()
    assert answers.refuse_random(model, answers.answers(model)) == ""
    model.net.train()
    with pytest.raises(ModelError, match="has BatchNorm2d in training mode"):
        answers.refuse_random(model, answers.answers(model))


def test_a_feature_map_is_no_embedding() -> None:
    with pytest.raises(ModelError, match=r"Map returned float32 of shape \(1, 4, 6, 6\)") as told:
        adapters.load("small_networks:Map", spec=SPEC)
    assert "a feature map is not an embedding" in told.value.hint
    assert adapters.load("small_networks:Pooled", spec=SPEC).embed(images(3)).shape == (3, 4)


@pytest.mark.parametrize(
    ("body", "says", "where"),
    [
        ("def make(): assert False, 'set it'", "net:make failed: AssertionError: set it", "line 1"),
        ("def make():\n  return open('w.pth')", "net:make failed: FileNotFoundError", "line 2"),
        ("def make(depth): pass", "net:make takes arguments: missing a required", "without any"),
        ("def make(): raise SystemExit(1)", "net:make failed: SystemExit: 1", "line 1"),
        ("x = 1 / 0", "net:make failed: ZeroDivisionError: division by zero", "net.py, line 1"),
        ("def make(: pass", "net:make failed: SyntaxError", "net.py, line 1"),
        ("import nosuch", "no factory net:make: No module named 'nosuch'", "net.py, line 1"),
        ("make = 3", "no factory net:make: net has a int make to call", "module:function"),
    ],
)
def test_an_error_of_a_factory_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, says: str, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "net", raising=False)
    (tmp_path / "net.py").write_text(body)
    with pytest.raises(ModelError) as told:
        adapters.load("net:make", spec=SPEC)
    assert says in told.value.message and where in told.value.hint
    sys.modules.pop("net", None)


def test_what_is_no_tensor_is_named() -> None:
    with pytest.raises(ModelError, match="small_networks:Bag returned a object, not a tensor"):
        adapters.load("small_networks:Bag", spec=SPEC)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "conv", torch.nn.Conv2d(3, 4, 3, padding_mode="reflect")),
        lambda net: net.register_buffer("shift", torch.ones(1), persistent=False),
        lambda net: setattr(net.norm, "eps", 1e-3),
    ],
)
def test_the_fingerprint_follows_layers_and_buffers_that_are_not_saved(
    change: Callable[[torch.nn.Module], None],
) -> None:
    def made(other: bool) -> str:
        net = small_networks.plain()
        weights = net.state_dict()
        if other:
            change(net)
            net.load_state_dict(weights)
        return adapters.fingerprint(programs.network(net, "net", SPEC))

    assert made(False) == made(False) != made(True)


def test_one_of_several_outputs() -> None:
    with pytest.raises(ModelError, match=r"has 2 outputs: 0 \(1, 5\), 1 \(1, 1\)"):
        adapters.load("small_networks:with_norm", spec=SPEC)
    with pytest.raises(ModelError, match="has no output '7'"):
        adapters.load("small_networks:with_norm", spec=SPEC, output="7")
    model = adapters.load("small_networks:with_norm", spec=SPEC, output="0")
    plain = adapters.load(PLAIN, spec=SPEC)
    np.testing.assert_array_equal(model.embed(images(3)), plain.embed(images(3)))


def test_memory_that_runs_out() -> None:
    model = adapters.load("small_networks:hungry", spec=SPEC)
    assert len(model.embed(images(3))) == 3
    with pytest.raises(MemoryError, match="CUDA out of memory"):
        model.embed(images(4))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_and_says_so(precision: str) -> None:
    model = adapters.load(PLAIN, spec=SPEC, precision=precision)
    plain = adapters.load(PLAIN, spec=SPEC)
    x, y = model.embed(images(5)), plain.embed(images(5))
    assert x.dtype == np.float32 and not np.array_equal(x, y)
    np.testing.assert_allclose(x, y, atol=0.02 * np.abs(y).max())
    assert model.runtime != plain.runtime and model.fingerprint == plain.fingerprint


def test_the_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    net = small_networks.plain()
    with torch.no_grad():
        net.fc.bias += 1
    torch.save(net.state_dict(), tmp_path / "w.pth")
    a = adapters.load(PLAIN, spec=SPEC)
    b = adapters.load(PLAIN, spec=SPEC, weights=str(tmp_path / "w.pth"))
    assert a.fingerprint != b.fingerprint
    np.testing.assert_allclose(b.embed(images(2)) - a.embed(images(2)), 1, rtol=1e-4)


def saved(path: Path, prefix: str, depth: int, **more: object) -> Path:
    table: object = {prefix + k: v for k, v in small_networks.plain().state_dict().items()}
    table = {**table, "head.weight": torch.zeros(9, 5)}  # type: ignore[dict-item]
    for _ in range(depth):
        table = {"epoch": 3, "state_dict": table, "optimizer": {"state": {}}}
    torch.save(table, path)
    return path


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.features."])
def test_published_checkpoints_are_understood(tmp_path: Path, prefix: str, depth: int) -> None:
    path = saved(tmp_path / "w.pth", prefix, depth)
    other = adapters.load(PLAIN, spec=SPEC, weights=str(path))
    assert np.array_equal(other.embed(images(2)), adapters.load(PLAIN, spec=SPEC).embed(images(2)))


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    state = {k: v + 1 for k, v in small_networks.plain().state_dict().items()}
    safetensors.save_file(state, tmp_path / "w.safetensors")
    model = adapters.load(PLAIN, spec=SPEC, weights=str(tmp_path / "w.safetensors"))
    net = small_networks.plain()
    net.load_state_dict(state)
    np.testing.assert_allclose(model.embed(images(2)), by_hand(net, images(2)), rtol=1e-4)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:99])
    with pytest.raises(ModelError, match="not whole safetensors"):
        adapters.load(PLAIN, spec=SPEC, weights=str(tmp_path / "cut.safetensors"))


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    bomb = Reduced(Path.touch, (mark,))
    for path, held in (("w.pth", {"a": bomb}), ("x.pth", bomb)):
        torch.save(held, tmp_path / path)
        with pytest.raises(ModelError, match=r"cannot be read as weights alone: it names "):
            adapters.load(PLAIN, spec=SPEC, weights=str(tmp_path / path))
    (tmp_path / "z.pth").write_text("<html>")
    with pytest.raises(ModelError, match=r"weights alone: no file of torch.save"):
        adapters.load(PLAIN, spec=SPEC, weights=str(tmp_path / "z.pth"))
    (tmp_path / "y.pth").write_bytes(pickle.dumps(bomb))
    with pytest.raises(ModelError, match="cannot be read as weights alone"):
        adapters.load(PLAIN, spec=SPEC, weights=str(tmp_path / "y.pth"))
    assert not mark.exists()
    pickle.loads(pickle.dumps(bomb))
    assert mark.exists()  # it does work where pickles are run


def test_a_checkpoint_that_was_cut_is_not_blamed_for_code(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(small_networks.plain().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"no file of torch.save \(\w+\)") as told:
        adapters.load(PLAIN, spec=SPEC, weights=str(path))
    assert told.value.hint.startswith("is it whole?")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_script_in_place_of_weights_is_told(tmp_path: Path) -> None:
    torch.jit.script(small_networks.plain()).save(str(tmp_path / "w.pth"))
    with pytest.raises(ModelError, match="it is TorchScript, a whole network") as told:
        adapters.load(PLAIN, spec=SPEC, weights=str(tmp_path / "w.pth"))
    assert told.value.hint == f"--model {tmp_path / 'w.pt'}"


def other_weights() -> dict[str, torch.Tensor]:
    return {k: v + 1 for k, v in small_networks.plain().state_dict().items()}


def tables(kind: str) -> dict[str, Any]:
    plain, other = small_networks.plain().state_dict(), other_weights()
    if kind == "nested":
        return {"epoch": 1, "model": plain, "more": {"ema": other}}
    if kind == "prefixes":
        prefixed = {
            f"{p}.{k}": v for p, t in (("net", plain), ("ema", other)) for k, v in t.items()
        }
        return {"state_dict": prefixed}
    return {**plain, "ema": other}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("nested", ["model", "more/ema"]),
        ("prefixes", ["state_dict/net", "state_dict/ema"]),
        ("beside", [".", "ema"]),
    ],
)
def test_of_two_tables_that_fit_one_is_chosen_by_name(
    tmp_path: Path, kind: str, names: list[str], turned: bool
) -> None:
    held = tables(kind)
    path = str(tmp_path / "w.pth")
    torch.save(dict(reversed(held.items())) if turned else held, path)
    listed = ", ".join(sorted(names))
    with pytest.raises(ModelError, match=f"holds 2 tables of weights that fit: {listed}") as told:
        adapters.load(PLAIN, spec=SPEC, weights=path)
    assert told.value.hint == "choose by --weights-table NAME"
    with pytest.raises(ModelError, match=r"w\.pth has no table 'swa'"):
        adapters.load(PLAIN, spec=SPEC, weights=path, weights_table="swa")
    for name, weights in zip(
        names, (small_networks.plain().state_dict(), other_weights()), strict=True
    ):
        net = small_networks.plain()
        net.load_state_dict(weights)
        made = adapters.load(PLAIN, spec=SPEC, weights=path, weights_table=name).embed(images(2))
        np.testing.assert_allclose(made, by_hand(net, images(2)), rtol=1e-4, atol=1e-4)


def test_two_tables_of_the_same_weights_are_no_question(tmp_path: Path) -> None:
    weights, few = small_networks.plain().state_dict(), {"fc.bias": torch.zeros(5)}
    torch.save({"model": weights, "copy": weights, "ema": few}, tmp_path / "w.pth")
    made = adapters.load(PLAIN, spec=SPEC, weights=str(tmp_path / "w.pth")).embed(images(2))
    np.testing.assert_array_equal(made, adapters.load(PLAIN, spec=SPEC).embed(images(2)))
    with pytest.raises(ModelError, match="lacks 7 of the network's 9"):
        adapters.load(PLAIN, spec=SPEC, weights=str(tmp_path / "w.pth"), weights_table="ema")
    with pytest.raises(ModelError, match="weights_table='ema' without a file"):
        adapters.load(PLAIN, spec=SPEC, weights_table="ema")


def test_weights_of_another_network(tmp_path: Path) -> None:
    state = small_networks.plain().state_dict()
    del state["fc.bias"]
    torch.save(state, tmp_path / "a.pth")
    torch.save(
        {**small_networks.plain().state_dict(), "fc.weight": torch.zeros(6, 9)}, tmp_path / "b.pth"
    )
    torch.save({"epoch": 3}, tmp_path / "c.pth")
    for name, reason in {
        "a.pth": "lacks 1 of the network's 9 tensors, first fc.bias",
        "b.pth": r"has fc.weight of shape \(6, 9\), the network wants \(5, 144\)",
        "c.pth": "holds no tensors by name",
        "none.pth": "no weights at",
    }.items():
        with pytest.raises(ModelError, match=reason):
            adapters.load(PLAIN, spec=SPEC, weights=str(tmp_path / name))


def test_torch_keeps_its_tracebacks_and_guesses(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.save(small_networks.plain().state_dict(), tmp_path / "state.pt")
    (tmp_path / "cut.pt2").write_bytes((tmp_path / "state.pt").read_bytes()[:500])
    for name, says in (("cut.pt2", "is not a zip file"), ("state.pt", "constants.pkl")):
        with pytest.raises(ModelError, match=says) as told:
            adapters.load(str(tmp_path / name), spec=SPEC)
        assert len(told.value.message) < 200
    assert "Traceback" not in "".join(capfd.readouterr())


def test_what_is_no_model(tmp_path: Path) -> None:
    torch.save(small_networks.plain().state_dict(), tmp_path / "state.pt")
    (tmp_path / "text.pt2").write_text("hello")
    for model, reason in {
        str(tmp_path / "state.pt"): "is not TorchScript",
        str(tmp_path / "text.pt2"): "is not an exported program",
        "small_networks:nobody": "no factory small_networks:nobody",
        "no_such_module:make": "no factory no_such_module:make",
        "small_networks:nothing": "gave a int without spec, dim",
    }.items():
        with pytest.raises(ModelError, match=reason):
            adapters.load(model, spec=SPEC)


def test_options_it_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes no weights"):
        adapters.load(str(script(tmp_path)), spec=SPEC, weights="w.pth")
    with pytest.raises(ModelError, match="no precision 'int8'"):
        adapters.load(PLAIN, spec=SPEC, precision="int8")
    with pytest.raises(ModelError, match="no device 'tensorrt' for a PyTorch model"):
        adapters.load(PLAIN, spec=SPEC, device="tensorrt")
    with pytest.raises(ModelError, match=r"8x8|\(N, 8, 8, 3\)"):
        adapters.load(PLAIN, spec=SPEC).embed(images(2)[:, :4])


@pytest.mark.skipif(torch.cuda.is_available(), reason=A_GPU)
def test_a_gpu_that_is_not_there_is_an_error_unless_allowed() -> None:
    with pytest.raises(ModelError, match=r"asked for cuda, torch .* finds no GPU"):
        adapters.load(PLAIN, spec=SPEC, device="cuda")
    model = adapters.load(PLAIN, spec=SPEC, device="cuda", allow_cpu=True)
    assert " cpu " in model.runtime


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_a_gpu_agrees_with_the_processor() -> None:
    for options in ({}, {"compile": 4}):
        gpu = adapters.load(PLAIN, spec=SPEC, device="cuda", **options)
        cpu = adapters.load(PLAIN, spec=SPEC, device="cpu")
        np.testing.assert_allclose(gpu.embed(images(7)), cpu.embed(images(7)), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_passes_have_one_size() -> None:
    model = adapters.load(PLAIN, spec=SPEC, compile=4)
    assert model.batch == 4
    plain = adapters.load(PLAIN, spec=SPEC)
    np.testing.assert_allclose(model.embed(images(7)), plain.embed(images(7)), rtol=1e-4, atol=1e-4)


def test_the_real_model_agrees_with_its_onnx(shared_data: Path) -> None:
    pytest.importorskip("onnxruntime")
    models = shared_data / "models"
    script = adapters.load(str(models / "mobilefacenet_foamliu_torchscript.pt"), preset="imagenet")
    graph = adapters.load(str(models / "mobilefacenet_foamliu.onnx"), preset="imagenet")
    source = find(shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip")
    x = np.stack([source.read(i) for i in range(0, 7701, 1600)])
    np.testing.assert_allclose(script.embed(x), graph.embed(x), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_real_model_has_one_lfw_number_in_both_runtimes(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    images = shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip"
    found = []
    for name in ("mobilefacenet_foamliu_torchscript.pt", "mobilefacenet_foamliu.onnx"):
        model = shared_data / "models" / name
        given = ["lfw", "--model", model, "--trust-model", "--preset", "imagenet", "--data", images]
        with pytest.MonkeyPatch.context() as m:
            m.setenv("EVALKIT_CACHE", str(tmp_path))
            assert run([*map(str, given), "--json", "-"]) == 0
        found.append(json.loads(capsys.readouterr().out)["metrics"])
    script, graph = ({k: one["value"] for k, one in metrics.items()} for metrics in found)
    assert script["accuracy"] == graph["accuracy"]
    assert script == pytest.approx(graph, abs=1e-5)


FAULTS = """
import resource
from concurrent.futures import ThreadPoolExecutor

import torch
from evalkit.adapters.torch import model as torch_adapter
from evalkit.adapters.torch import programs


def faults(passes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(passes):
        held = [torch.ones(k << 18) for k in range(1, 9)]  # 1 to 8 MiB
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


programs.network(torch.nn.Flatten(), "net", SPEC, device="cpu")
with ThreadPoolExecutor(1) as thread:
    thread.submit(faults, 1).result()
    print(thread.submit(faults, 10).result())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted on Linux")
@pytest.mark.parametrize("user", [{}, {"MALLOC_ARENA_MAX": "2"}], ids=["default", "the user's own"])
def test_what_a_layer_frees_is_kept_for_the_next_one(user: dict[str, str]) -> None:
    spec = "from evalkit.adapters.presets import PRESETS\nSPEC = PRESETS['arcface']\n"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_T"))}
    made = subprocess.run(
        [sys.executable, "-P", "-c", spec + FAULTS],
        capture_output=True,
        text=True,
        env=inherited | user,
    )
    kept = int(made.stdout) < 9216  # pages of one pass, of ten
    assert kept == (not user), made.stderr
