"""Models of this process: a network in training is given back as it was, and nothing is written."""

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import evalkit
from evalkit import adapters
from evalkit.adapters.presets import build
from evalkit.errors import EvalkitError, ModelError, UndeclaredInputError, WrongTypeError

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages

SPEC = build({"size": (8, 8), "color": "bgr", "mean": (10, 20, 30), "std": (2, 4, 8)})


def images(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def colours(x: NDArray[np.uint8]) -> NDArray[np.float64]:
    return x.mean(axis=(1, 2))


@pytest.mark.parametrize("kind", ["array", "list", "tensor", "bfloat16"])
def test_any_callable_is_a_model(kind: str) -> None:
    turned: dict[str, Callable[[Any], Any]] = {"array": lambda y: y, "list": lambda y: y.tolist()}
    if kind in ("tensor", "bfloat16"):
        torch = pytest.importorskip("torch")
        turned["tensor"] = lambda y: torch.tensor(y, requires_grad=True)
        turned["bfloat16"] = lambda y: torch.tensor(y).bfloat16()
    model = evalkit.load_model(lambda x: turned[kind](colours(x)), spec=SPEC)
    made = model.embed(images(5))
    assert made.dtype == np.float32 and made.shape == (5, 3)
    np.testing.assert_allclose(made, colours(images(5)), rtol=1e-2 if kind == "bfloat16" else 1e-6)


def noisy(x: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.random.default_rng().normal(size=(len(x), 3))


def broken(x: NDArray[np.uint8]) -> None:
    raise KeyError("no such layer")


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        (noisy, ModelError, "noisy answers differently to the same image"),
        (broken, ModelError, "broken failed on 1 images: KeyError"),
        (lambda x: colours(x).T, ModelError, "rows out must equal rows in"),
        (lambda x: "text", EvalkitError, "returned <U4 of shape"),
        (lambda x: {"embedding": x}, EvalkitError, "returned dict"),
        (dict, ModelError, "dict is a class, not a model"),
        (3, WrongTypeError, "a int where a model belongs"),
    ],
)
def test_what_is_no_model_is_named(model: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        evalkit.load_model(model, spec=SPEC)


def test_a_callable_declares_no_input() -> None:
    with pytest.raises(UndeclaredInputError, match="input spec of colours is not declared") as told:
        evalkit.load_model(colours)
    assert "spec=InputSpec(...) or preset=arcface|" in told.value.hint
    with pytest.raises(ModelError, match="colours stays on its own device, not on cuda"):
        evalkit.load_model(colours, spec=SPEC, device="cuda")
    with pytest.raises(ModelError, match="colours takes no precision"):
        evalkit.load_model(colours, spec=SPEC, precision="float16")


@pytest.fixture
def network() -> Any:
    """A network in training that draws, counts and keeps values when it is called."""
    torch = pytest.importorskip("torch")
    from small_networks import Plain

    class Restless(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.calls, self.seen = torch.nn.Dropout(), 0, None
            self.register_buffer("count", torch.zeros(()))
            self.register_buffer("late", None)

        def forward(self, x: Any) -> Any:
            self.calls += 1
            self.count += 1
            self.late = x
            self.seen = super().forward(self.drop(x))
            torch.rand(1), random.random(), np.random.random()  # noqa: NPY002
            return self.seen

    net = Restless()
    net.norm.eval()  # frozen, as in fine-tuning
    net.conv.weight.requires_grad_(False)
    net(torch.ones(2, 3, 8, 8)).sum().backward()
    return net


def state(net: Any) -> dict[str, Any]:
    """Everything that must be the same afterwards."""
    import torch

    held: dict[str, Any] = {}
    for name, layer in net.named_modules():
        own = {k: v for k, v in vars(layer).items() if not k.startswith("_")}
        held |= {f"{name}.{k}": v for k, v in own.items()} | {f"{name}.training": layer.training}
    for name, x in [*net.named_parameters(), *net.named_buffers()]:
        grad = None if x.grad is None else x.grad.clone()
        facts = x.clone(), x.stride(), x.device, x.dtype, x.requires_grad, grad, id(x), x.data_ptr()
        held |= {f"{name} {i}": fact for i, fact in enumerate(facts)}
    drawn = np.random.get_state()  # noqa: NPY002
    held |= {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": drawn[1].copy()}  # type: ignore[index]
    held |= {"position": drawn[2], "threads": torch.get_num_threads()}  # type: ignore[index]
    held |= {"grad": torch.is_grad_enabled(), "autocast": torch.is_autocast_enabled("cpu")}
    return held


def same(a: Any, b: Any) -> bool:
    if hasattr(a, "shape"):
        return (
            a is b or np.array_equal(np.asarray(a.detach()), np.asarray(b.detach()))
            if hasattr(a, "detach")
            else bool(np.array_equal(a, b))
        )
    return a is b or bool(a == b)


def test_a_network_in_training_is_given_back_as_it_was(network: Any) -> None:
    import torch

    before = state(network)
    model = evalkit.load_model(network, spec=SPEC)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = model.embed(images(9))
        assert torch.is_autocast_enabled("cpu")
    after = state(network)
    assert before.keys() == after.keys()
    assert [name for name in before if not same(before[name], after[name])] == []
    np.testing.assert_array_equal(within, model.embed(images(9)))  # no dropout, no autocast
    network.seen = None
    copy = adapters.torch.model.TorchModel(network, SPEC, name="net", fingerprint="1")
    np.testing.assert_allclose(copy.embed(images(9)), within, rtol=1e-5)
    network(torch.ones(2, 3, 8, 8)).sum().backward()  # it can be trained on


def hostile(kind: str) -> Any:
    """A network whose pass rewrites what no pass should."""
    import torch
    from small_networks import Plain

    class Rewriting(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.seen, self.by = list[Any](), dict[int, Any]()

        def forward(self, x: Any) -> Any:
            weight = self.fc.weight
            if kind == "in place":
                weight.data.div_(weight.data.norm())
            elif kind == "another tensor":
                weight.data = torch.nn.functional.normalize(weight.data)
            elif kind == "buffer":
                self.norm.running_mean.data.add_(1)
            elif kind == "resized buffer":
                self.norm.running_mean.resize_(2, 4)[0] = 1
                return x.flatten(1)
            elif kind == "hook":
                self.conv.register_forward_hook(lambda *_: None)
            self.seen.append(x)
            self.by[len(self.by)] = x
            return super().forward(x)

    if kind == "weight norm":
        net = Plain()
        torch.nn.utils.parametrizations.weight_norm(net.fc)
    elif kind == "spectral norm":
        net = Plain()
        torch.nn.utils.parametrizations.spectral_norm(net.fc)
    elif kind == "channels last":
        net = Rewriting().to(memory_format=torch.channels_last)
    else:
        with torch.inference_mode(kind == "inference tensors"):
            net = Rewriting()
    return net


@pytest.mark.parametrize(
    "kind",
    [
        *("in place", "another tensor", "buffer", "resized buffer", "hook", "weight norm"),
        *("spectral norm", "channels last", "inference tensors"),
    ],
)
def test_whatever_a_pass_rewrites_is_given_back(kind: str) -> None:
    pytest.importorskip("torch")
    net = hostile(kind)
    before = state(net)
    model = evalkit.load_model(net, spec=SPEC)
    model.embed(images(3))
    after = state(net)
    assert before.keys() == after.keys()
    address = " 7" if kind == "resized buffer" else "no name"  # torch moves what it makes larger
    differ = [name for name in before if not same(before[name], after[name])]
    assert [name for name in differ if not name.endswith(address)] == []
    assert (
        not net.conv._forward_hooks and not getattr(net, "seen", []) and not getattr(net, "by", {})
    )


def test_a_caller_s_autocast_keeps_no_weights_without_a_gradient(network: Any) -> None:
    import torch

    model = evalkit.load_model(network, spec=SPEC, precision="bfloat16")
    network.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.embed(images(2))
        network(torch.ones(2, 3, 8, 8)).sum().backward()
    assert network.fc.weight.grad is not None


def test_a_network_whose_weights_are_not_all_here_is_refused() -> None:
    torch = pytest.importorskip("torch")
    from small_networks import Plain

    shard = torch.nn.Parameter(torch.zeros(2))
    shard.placements = ()  # as torch's DTensor has them
    sharded = Plain()
    sharded.fc.bias = shard

    for net, says in (
        (torch.nn.Sequential(sharded), r"shared out over the ranks \(FSDP\)"),
        (torch.nn.LazyLinear(5), "layers without weights yet"),
        (torch.nn.Linear(4, 5, device="meta"), "weights on the meta device"),
    ):
        with pytest.raises(ModelError, match=says):
            evalkit.load_model(net, spec=SPEC)


@pytest.mark.slow  # torch's sharding is long to import
@pytest.mark.parametrize("size", [1, 2])
def test_a_sharded_network_is_measured_whole_and_given_back(tmp_path: Path, size: int) -> None:
    """Inside `summon_full_params`, after `unshard`, or as a copy; else it is refused."""
    torch = pytest.importorskip("torch")
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("torch has no gloo")
    import ranks

    torch.multiprocessing.spawn(ranks.shard, (size, tmp_path, SPEC, images(2)), nprocs=size)
    assert sorted(path.name for path in tmp_path.glob("done*")) == [f"done{k}" for k in range(size)]


def test_a_script_is_a_module_too() -> None:
    torch = pytest.importorskip("torch")
    from small_networks import Plain

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.trace(Plain().eval(), torch.zeros(2, 3, 8, 8)).train()
    mean = script.norm.running_mean.clone()
    made = evalkit.load_model(script, spec=SPEC).embed(images(3))
    plain = evalkit.load_model(Plain(), spec=SPEC).embed(images(3))
    np.testing.assert_allclose(made, plain, rtol=1e-5)
    assert script.training and script.norm.training
    assert torch.equal(mean, script.norm.running_mean)


def test_it_is_given_back_where_its_pass_fails(network: Any) -> None:
    model: Any = evalkit.load_model(network, spec=SPEC)
    network.fc.register_forward_hook(lambda *_: 1 / 0)
    before = state(network)
    with pytest.raises(ModelError, match="ZeroDivisionError"):
        model.embed(images(1))
    after = state(network)
    assert [name for name in before if not same(before[name], after[name])] == []


def test_each_call_takes_the_weights_of_that_moment(network: Any) -> None:
    import torch

    model: Any = evalkit.load_model(network, spec=SPEC)
    first, name = model.embed(images(2)), model.fingerprint
    assert model.fingerprint == name
    with torch.no_grad():
        network.fc.bias += 1
    np.testing.assert_allclose(model.embed(images(2)) - first, 1, rtol=1e-4)
    assert model.fingerprint != name


def test_the_network_inside_wrappers_is_called_itself(network: Any) -> None:
    import torch

    same_inside(network, torch.nn.DataParallel(torch.nn.DataParallel(network)))


@pytest.mark.slow  # torch's compiler is long to import
def test_the_network_inside_a_compiled_one_is_called_itself(network: Any) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same_inside(network, torch.compile(torch.nn.DataParallel(network)))


def same_inside(network: Any, wrapped: Any) -> None:
    plain = evalkit.load_model(network, spec=SPEC).embed(images(3))
    model: Any = evalkit.load_model(wrapped, spec=SPEC)
    assert model.name == "Restless"
    np.testing.assert_array_equal(model.embed(images(3)), plain)


def test_a_network_of_half_precision_is_fed_its_own(network: Any) -> None:
    plain = evalkit.load_model(network, spec=SPEC).embed(images(3))
    for half in (
        evalkit.load_model(network, spec=SPEC, precision="bfloat16"),
        evalkit.load_model(network.bfloat16(), spec=SPEC),
    ):
        made = half.embed(images(3))
        assert made.dtype == np.float32 and not np.array_equal(made, plain)
        np.testing.assert_allclose(made, plain, atol=0.05 * np.abs(plain).max())


def test_of_a_model_in_memory_no_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    model = evalkit.load_model(colours, spec=SPEC)
    pairs = evalkit.PairSet([0, 1, 2, 3], [1, 2, 3, 0], [1, 0, 1, 0])
    embedded = evalkit.embed(model, images(4))
    report = evalkit.evaluate("verification", model, pairs, images=images(4))
    assert report["auc"].value == evalkit.evaluate("verification", embedded, pairs)["auc"].value
    evalkit.evaluate("all-vs-all", model, [0, 0, 1, 1], images=images(4), flip="sum", fars=["0.5"])
    assert list(tmp_path.iterdir()) == []
    evalkit.embed(model, images(4), tmp_path / "asked.h5")
    assert (tmp_path / "asked.h5").is_file()
