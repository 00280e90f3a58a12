"""A package that offers an adapter is found, used through the command and held to the interface."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import evalkit
from evalkit import adapters
from evalkit.adapters import answers, calling, users_code
from evalkit.adapters.presets import PRESETS
from evalkit.embedding import embedder, input_check
from evalkit.errors import ModelError
from evalkit.images import find
from evalkit.vectors.store import FeatureStore

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
        [sys.executable, "-P", "-m", "evalkit", *map(str, arguments)],
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
    assert store.key["model"] == "" and store.answers is not None
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
    with pytest.raises(ModelError, match="half gave a Half without spec, embed"):
        adapters.load("half")


class Fixed:
    """It takes three images, no more and no fewer."""

    spec, dim, batch = PRESETS["arcface"], 2, 3

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(images) != 3:
            raise ValueError(f"fed {len(images)} images\nof three")
        return images.mean((1, 2))[:, :2].astype(np.float32)


def test_a_batch_is_kept_to_exactly() -> None:
    images = answers.pictures(Fixed.spec)
    model = Fixed()
    for n in (1, 3, 4):
        expected = images[:n].mean((1, 2))[:, :2].astype(np.float32)
        np.testing.assert_array_equal(calling.embed(model, images[:n]), expected)
    assert answers.refuse_random(model, answers.answers(model)) == ""
    assert input_check.behaviour(model, images, seconds=0).batch_difference == 0


def test_an_error_of_a_plug_in_names_it() -> None:
    model = Fixed()
    model.batch = 2
    with pytest.raises(ModelError) as told:
        calling.embed(model, answers.pictures(model.spec))
    assert "test_plugin.Fixed failed on 2 images: ValueError: fed 2 images of" in told.value.message
    assert "test_plugin.py, line" in told.value.hint and "in embed" in told.value.hint


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (np.zeros((2, 2)), r"float64 of shape \(2, 2\) for 3 images"),
        (np.zeros(3), r"of shape \(3,\) for 3 images"),
        (np.zeros((3, 4, 5, 5)), "feature map"),
        (np.zeros((3, 0)), "expected real numbers"),
        (np.zeros((3, 5)), r"expected real numbers of shape \(3, 2\)"),
        (np.zeros((3, 2), complex), "complex128"),
        (np.full((3, 2), "a"), "<U1"),
        (None, "returned NoneType"),
        ([[1, 2], [3]] * 2, "Fixed failed on 3 images: ValueError"),
    ],
)
def test_what_is_no_vector_is_refused(made: object, says: str) -> None:
    model = Fixed()
    model.embed = lambda images: made  # type: ignore[assignment, method-assign, return-value]
    with pytest.raises(ModelError, match=says):
        calling.embed(model, answers.pictures(model.spec)[:3])


@pytest.mark.parametrize("rows", [np.ones((3, 2)), np.ones((3, 2, 1, 1), np.float16)])
def test_vectors_become_float32(rows: NDArray[np.floating]) -> None:
    model = Fixed()
    model.embed = lambda images: rows  # type: ignore[assignment, method-assign, return-value]
    made = calling.embed(model, answers.pictures(model.spec)[:3])
    assert made.dtype == np.float32 and made.shape == (3, 2)


def test_a_plug_in_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: str, **options: object) -> None:
        raise KeyError("licence")

    class Offered:
        name = "half"

        def load(self) -> Callable[..., None]:
            return broken

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Offered()])
    with pytest.raises(ModelError, match="plug-in half failed on half:x: KeyError: 'licence'"):
        adapters.load("half:x")


@pytest.mark.parametrize(
    ("field", "value"), [("spec", None), ("dim", "2"), ("dim", 0), ("batch", 0), ("batch", "8")]
)
def test_an_adapter_of_other_kinds_is_refused(
    monkeypatch: pytest.MonkeyPatch, field: str, value: object
) -> None:
    model = Fixed()
    setattr(model, field, value)
    monkeypatch.setattr(users_code, "factory", lambda name: model)
    with pytest.raises(ModelError, match=f"a:b gave a Fixed whose {field} is {value!r}"):
        adapters.load("a:b")


ADAPTER = """
from pathlib import Path
from evalkit.adapters.presets import build

class Server:
    dim, spec = 2, build({"size": (32, 32), "color": "rgb", "mean": 0, "std": 1})
    def embed(self, images):
        return images[..., :2].mean((1, 2)) * float(Path("scale.txt").read_text())
"""


def test_a_file_of_an_adapter_that_is_overwritten_shows_in_its_answers(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "server.py").write_text(ADAPTER)
    source = find(faces)
    monkeypatch.syspath_prepend(str(tmp_path))
    model = adapters.load("server:Server")
    made = []
    for scale in ("1", "1.001", "1"):
        (tmp_path / "scale.txt").write_text(scale)
        store = embedder.embed(model, source, source.manifest())
        made.append(store.features[:, 0].copy())
    np.testing.assert_allclose(made[1], made[0] * 1.001, rtol=1e-6)
    np.testing.assert_array_equal(made[2], made[0])
    sys.modules.pop("server", None)
