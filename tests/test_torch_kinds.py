"""PyTorch networks as people hand them on: halved, quantised, grey, in checkpoints with extras."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit import adapters
from evalkit.adapters.presets import PRESETS, build
from evalkit.cli import run
from evalkit.errors import IdleInputError, ModelError

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
import torch
from pickled_calls import BYTES_AS_OBJECTS, Reduced
from PIL import Image

pytestmark = pytest.mark.once
FIELDS = {"size": (8, 8), "color": "rgb", "mean": 127.5, "std": 127.5}
X = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
NETS = """
import warnings
import numpy as np
import torch
from torch import nn
from evalkit.adapters.presets import PRESETS

def plain(channels=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5))

def half(): return plain().half()
def double(): return plain().double()
def grey(): return plain(1)

class Quantised(nn.Module):  # what torch.ao.quantization's layers keep in a state_dict
    def __init__(self, scale=0.01):
        super().__init__()
        self.net = plain()
        self.scale = scale
    def state_dict(self, *args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such tensors shall go, files of them stay
            weight = torch.quantize_per_tensor(self.net[3].weight, self.scale, 0, torch.qint8)
        return {"packed": (weight, None), "kind": torch.qint8}
    def forward(self, x): return self.net(x)

def coarse(): return Quantised(0.02)

class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()
    def forward(self, x):
        return self.net(x).view(7, -1)

class Mine:
    spec, dim, fingerprint = PRESETS["arcface"], 3, "one"
    def embed(self, images):
        return images[:, 50, 50].astype(np.float32) + images[:, 60, 60]

def whole(): return Mine()
"""


@pytest.fixture(autouse=True)
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to a folder with the factories above."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nets", raising=False)


def made(factory: str, **options: Any) -> Any:
    return adapters.load(f"nets:{factory}", spec=build(FIELDS), device="cpu", **options)


@pytest.mark.parametrize(("kind", "apart"), [("half", 3e-3), ("double", 1e-5)])
def test_a_network_is_fed_its_own_kind_of_numbers(kind: str, apart: float) -> None:
    model = made(kind)
    np.testing.assert_allclose(model.embed(X), made("plain").embed(X), atol=apart)
    weights = {"half": "float16", "double": "float64"}[kind]
    assert model.runtime.endswith(f"float32, weights of {weights}")


@pytest.mark.parametrize(
    ("kind", "made"), [("complex64", lambda y: y + 1j), ("bool", lambda y: y > 0)]
)
def test_an_embedding_is_of_real_numbers(kind: str, made: Any) -> None:
    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = made(x.flatten(1)[:, :5])
            return answer

    with pytest.raises(ModelError, match=f"returned torch.{kind}"):
        adapters.load(Network(), spec=build(FIELDS))


def test_quantised_layers_have_a_digest() -> None:
    one, other = made("Quantised"), made("coarse")
    assert one.fingerprint == made("Quantised").fingerprint != other.fingerprint


def test_one_channel_is_fed_grey() -> None:
    model = adapters.load("nets:grey", spec=build({**FIELDS, "color": "grey"}), device="cpu")
    grey = np.stack([np.asarray(Image.fromarray(x).convert("L"), np.float32) for x in X])
    fed = torch.from_numpy((grey - 127.5) / 127.5)[:, None]
    expected = sys.modules["nets"].grey()(fed).detach().numpy()
    np.testing.assert_allclose(model.embed(X), expected, rtol=1e-4, atol=1e-5)


FLAGGED = Reduced(*np.zeros(1).__reduce__()[:2], (1, (8,), BYTES_AS_OBJECTS, False, b"12345678"))


@pytest.mark.parametrize(
    "beside",
    [
        np.float64(0.5),
        np.int32(3),
        np.arange(3.0),
        np.array(["a"]),
        argparse.Namespace(lr=np.float32(0.1)),
        FLAGGED,
        Path("runs/1"),
    ],
    ids=["float", "int", "array", "texts", "options", "flags", "path"],
)
def test_what_a_training_loop_keeps_beside_the_weights(tmp_path: Path, beside: Any) -> None:
    import nets

    torch.manual_seed(7)
    net = nets.nn.Sequential(*nets.plain()[:3], nets.nn.Linear(216, 5))
    torch.save({"state_dict": net.state_dict(), "beside": [beside]}, tmp_path / "w.pth")
    model = made("plain", weights=str(tmp_path / "w.pth"))
    expected = net((torch.from_numpy(X).permute(0, 3, 1, 2) - 127.5) / 127.5).detach().numpy()
    np.testing.assert_allclose(model.embed(X), expected, rtol=1e-4, atol=1e-5)


def test_a_whole_network_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    import nets

    torch.save(nets.plain(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"it names torch\.nn\.modules") as told:
        made("plain", weights=str(tmp_path / "w.pth"))
    assert "save its state_dict" in told.value.hint


def test_an_error_of_a_forward_pass_names_its_line() -> None:
    with pytest.raises(ModelError, match=r"nets:Fails fails on 1 images: RuntimeError: shape") as e:
        made("Fails")
    assert e.value.hint.endswith("it was raised in nets.py, line 35, in forward")


def test_options_that_an_adapter_would_not_heed(capsys: pytest.CaptureFixture[str]) -> None:
    whole = "nets:whole"
    assert adapters.load(whole, preset="arcface").dim == 3
    with pytest.raises(IdleInputError, match="nets:whole brings its own input spec, 112x112 rgb"):
        adapters.load(whole, preset="magface")
    with pytest.raises(ModelError, match="nets:whole takes no device"):
        adapters.load(whole, device="cuda")
    command = ["check", "--model", whole, "--trust-model"]
    assert run([*command, "--color", "bgr", "--preset", "arcface"]) == 3
    assert "brings its own input spec" in capsys.readouterr().err
    assert adapters.load(whole, spec=PRESETS["arcface"], device="cpu").dim == 3
