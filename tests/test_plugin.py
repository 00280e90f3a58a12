"""A package that offers an adapter is found, used through the command and held to the interface."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evalkit
from evalkit import adapters
from evalkit.errors import ModelError
from evalkit.features import FeatureStore

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The package as an installer lays it out, made from its own pyproject."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / f"evalkit_thumbnail-{project['version']}.dist-info"
    info.mkdir(parents=True)
    shutil.copy(PLUGIN / "evalkit_thumbnail.py", tmp_path / "site")
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"{name} = {target}" for name, target in project["entry-points"][adapters.GROUP].items()
    ]
    (info / "entry_points.txt").write_text("\n".join([f"[{adapters.GROUP}]", *lines, ""]))
    return tmp_path / "site"


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    for k in range(6):
        pixels = np.random.default_rng(k).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        (tmp_path / "faces" / f"P{k % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "faces" / f"P{k % 2}" / f"{k}.png")
    return tmp_path / "faces"


def evalkit_with(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    roots = [str(site), str(Path(evalkit.__file__).parents[1])]
    return subprocess.run(
        [sys.executable, "-m", "evalkit", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("model", "dim"), [("thumbnail", 16), ("small.thumbnail", 4)])
def test_an_installed_package_embeds(
    site: Path, faces: Path, tmp_path: Path, model: str, dim: int
) -> None:
    (tmp_path / "small.thumbnail").write_text("2")
    named = tmp_path / model if "." in model else model
    done = evalkit_with(site, "embed", "--model", named, "--data", faces, tmp_path / "f.h5")
    assert done.returncode == 0, done.stderr
    assert f"6 images, 1 x {dim}, 0 failed" in done.stdout
    store = FeatureStore.open(tmp_path / "f.h5")
    assert store.key["model"] == f"thumbnail {int(dim**0.5)}"
    pixels = np.asarray(Image.open(faces / store.manifest.keys[0]), np.float64)
    side = int(dim**0.5)
    grey = np.array(
        [np.mean(part) for row in np.split(pixels, side) for part in np.split(row, side, 1)]
    )
    np.testing.assert_allclose(store.features[0, 0], grey - grey.mean(), atol=1e-3)


def test_the_plug_ins_are_named_where_a_model_is_not_found(site: Path, faces: Path) -> None:
    given = ["--model", "thumbnial", "--data", faces, faces / "f.h5"]
    done = evalkit_with(site, "embed", *given)
    assert done.returncode == 3
    assert "no model at thumbnial" in done.stderr and "plug-ins here: thumbnail" in done.stderr


def test_what_is_no_adapter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        def __init__(self, model: str, **options: object) -> None:
            self.dim = 3

    class Offered:
        name = "half"

        def load(self) -> type:
            return Half

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Offered()])
    with pytest.raises(ModelError, match="half gave a Half without spec, fingerprint, embed"):
        adapters.load("half")
