"""The built-in networks: known parameter counts, published names, and the real weights."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from evalkit import adapters
from evalkit.errors import ModelError
from evalkit.images import find

torch = pytest.importorskip("torch")
from evalkit.adapters.torch import networks  # noqa: E402

# Parameters as counted on the definitions that the checkpoints were published with
# (insightface arcface_torch, clcarwin/sphereface_pytorch without its head, facenet-pytorch).
KNOWN = {
    "mobilefacenet": (999_936, (112, 112), 128),
    "iresnet18": (24_025_600, (112, 112), 512),
    "iresnet34": (34_139_328, (112, 112), 512),
    "iresnet50": (43_590_848, (112, 112), 512),
    "iresnet100": (65_156_160, (112, 112), 512),
    "sphereface20": (22_670_656, (112, 96), 512),
    "sphereface64": (47_905_088, (112, 96), 512),
    "inception_resnet_v1": (23_482_624, (160, 160), 512),
}
NAMES = {
    "mobilefacenet": ["conv1.0.weight", "dw_conv.bn2.bias", "features.14.conv.3.running_var"],
    "iresnet50": ["layer3.13.bn3.weight", "layer1.0.downsample.1.bias", "features.running_mean"],
    "sphereface20": ["conv3_9.bias", "relu2_5.weight", "fc5.weight"],
    "inception_resnet_v1": [
        "repeat_1.4.branch2.2.bn.running_var",
        "repeat_2.9.branch1.2.conv.weight",
        "mixed_7a.branch2.1.conv.weight",
        "block8.conv2d.bias",
        "last_bn.weight",
    ],
}


def test_every_network_is_listed() -> None:
    assert set(KNOWN) == set(adapters.NETWORKS)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_size_and_names(name: str) -> None:
    count, size, dim = KNOWN[name]
    with torch.device("meta"):
        net = getattr(networks, name)()
        assert net.eval()(torch.zeros(2, 3, *size)).shape == (2, dim)
    assert sum(p.numel() for p in net.parameters()) == count
    assert set(NAMES.get(name, [])) <= set(net.state_dict())
    stated = re.search(r"([\d.]+) M parameters", getattr(networks, name).__doc__)
    assert stated is not None and float(stated[1]) == round(count / 1e6, 2)


def test_a_published_checkpoint_is_one_command(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = networks.iresnet18()
    torch.save({"module." + k: v for k, v in net.state_dict().items()}, tmp_path / "backbone.pth")
    weights = str(tmp_path / "backbone.pth")
    model = adapters.load("iresnet18", preset="arcface", weights=weights)
    x = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)
    fed = torch.from_numpy((x.astype(np.float32) - 127.5) / 127.5).permute(0, 3, 1, 2)
    with torch.inference_mode():
        y = net.eval()(fed).numpy()
    np.testing.assert_allclose(model.embed(x), y, rtol=0, atol=1e-5 * np.abs(y).max())
    with pytest.raises(ModelError, match=r"backbone\.pth lacks .* of the network's"):
        adapters.load("iresnet50", preset="arcface", weights=weights)
    with pytest.raises(ModelError, match="iresnet18 alone has random weights"):
        adapters.load("iresnet18", preset="arcface")


def test_the_real_weights_give_the_real_vectors(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "models" / "mobilefacenet_foamliu_torchscript.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        real = list(torch.jit.load(str(path), map_location="cpu").state_dict().values())
    # The file has the same layers in the same order, under its own names, without conv3's bias.
    wanted = [k for k in networks.mobilefacenet().state_dict() if k != "conv3.bias"]
    state = dict(zip(wanted, real, strict=True)) | {"conv3.bias": torch.zeros(128)}
    torch.save(state, tmp_path / "mobilefacenet.pt")
    weights = str(tmp_path / "mobilefacenet.pt")
    built = adapters.load("mobilefacenet", preset="imagenet", weights=weights)
    script = adapters.load(str(path), preset="imagenet")
    source = find(shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip")
    x = np.stack([source.read(i) for i in range(0, 7701, 1600)])
    np.testing.assert_allclose(built.embed(x), script.embed(x), rtol=0, atol=1e-5)


def test_a_preset_of_other_images_is_refused_with_the_one_that_fits(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes images of 112x112, and mobilefacenet-112x96") as e:
        adapters.load("mobilefacenet", preset="mobilefacenet", weights=str(tmp_path / "w.pt"))
    assert e.value.hint == "its published weights take --preset imagenet"


@pytest.mark.parametrize("name", ["backbone.pth", "last.ckpt", "model.safetensors"])
def test_weights_in_place_of_a_network_say_how_they_are_given(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(ModelError, match=f"{name} is taken for weights") as e:
        adapters.load(str(tmp_path / name), preset="arcface")
    assert f"--weights {tmp_path / name}" in e.value.hint
    assert "iresnet50" in e.value.hint and "module:factory" in e.value.hint
