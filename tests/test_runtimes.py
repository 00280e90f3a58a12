"""The adapters of other runtimes under examples/, with the real runtimes: `tox -e runtimes`."""

import http.server
import importlib
import io
import json
import pickle
import shutil
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evalkit import adapters
from evalkit.adapters import answers, calling
from evalkit.adapters.onnx.model import feed
from evalkit.cli import run
from evalkit.embedding import embedder
from evalkit.embedding.drift import cosines
from evalkit.errors import ModelError, UndeclaredInputError
from evalkit.images import find
from evalkit.types import InputSpec

WHY = "run by `tox -e runtimes`"
openvino = pytest.importorskip("openvino", reason=WHY)
pytest.importorskip("ai_edge_litert", reason=WHY)
small_models = importlib.import_module("small_models")
small_tflite = importlib.import_module("small_tflite")

EXAMPLES = Path(__file__).parents[1] / "examples" / "adapters"
SIZE = small_models.SIZE
SPEC = InputSpec(size=(SIZE, SIZE), color="rgb", mean=(127.5,) * 3, std=(127.5,) * 3)
WEIGHTS = small_models.weights()
IMAGES = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
EXPECTED = feed(IMAGES, SPEC).reshape(5, -1) @ WEIGHTS


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lay the packages out as an installer does, from their own pyproject."""
    site = tmp_path / "site"
    for folder in ("openvino", "litert", "rest"):
        project = tomllib.loads((EXAMPLES / folder / "pyproject.toml").read_text())["project"]
        module = project["name"].replace("-", "_")
        info = site / f"{module}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        shutil.copy(EXAMPLES / folder / f"{module}.py", site)
        (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
        points = project["entry-points"][adapters.GROUP]
        lines = [f"{name} = {target}" for name, target in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{adapters.GROUP}]", *lines, ""]))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    yield
    for name in [name for name in sys.modules if name.startswith("evalkit_")]:
        del sys.modules[name]


def nhwc(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring (C x H x W, D) weights to LiteRT's (D, H x W x C)."""
    return weights.reshape(3, SIZE, SIZE, -1).transpose(3, 1, 2, 0).reshape(weights.shape[1], -1)


def xml(path: Path, weights: NDArray[np.float32] = WEIGHTS, batch: int | str = "n") -> Path:
    made = small_models.save(path.with_suffix(".onnx"), by=weights, batch=batch)
    openvino.save_model(openvino.convert_model(made), path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_openvino(tmp_path: Path, batch: int | str) -> None:
    model = adapters.load(xml(tmp_path / "net.xml", batch=batch), spec=SPEC)
    assert (model.dim, getattr(model, "batch", 0)) == (4, None if batch == "n" else batch)
    np.testing.assert_allclose(calling.embed(model, IMAGES), EXPECTED, rtol=1e-4, atol=1e-4)
    assert "openvino" in str(getattr(model, "runtime", ""))


def test_litert(tmp_path: Path) -> None:
    model = adapters.load(small_tflite.save(tmp_path / "net.tflite", nhwc(WEIGHTS)), spec=SPEC)
    assert model.spec.layout == "nhwc" and model.dim == 4
    np.testing.assert_allclose(calling.embed(model, IMAGES), EXPECTED, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("zero_point", [0, -20])
def test_quantised_litert(tmp_path: Path, zero_point: int) -> None:
    path = small_tflite.save(tmp_path / "int8.tflite", nhwc(WEIGHTS), 0.01, zero_point)
    model = adapters.load(path, spec=SPEC)
    assert "int8" in str(getattr(model, "runtime", ""))
    made = calling.embed(model, IMAGES)
    assert cosines(EXPECTED.astype(np.float32), made).min() > 0.995
    np.testing.assert_allclose(made, EXPECTED, atol=2.5)


class Service(http.server.BaseHTTPRequestHandler):
    """It multiplies what it is sent by its weights, two images at most."""

    weights = WEIGHTS

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        images = np.load(io.BytesIO(sent))
        if len(images) > 2:
            self.send_error(413)
            return
        made = feed(images, SPEC).reshape(len(images), -1) @ self.weights
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(made.tolist()).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def service() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"rest:http://127.0.0.1:{server.server_port}/embed"
        server.shutdown()
        thread.join()
    Service.weights = WEIGHTS


def test_rest(service: str) -> None:
    model = adapters.load(service, spec=SPEC)
    np.testing.assert_allclose(calling.embed(model, IMAGES[:2]), EXPECTED[:2], rtol=1e-4, atol=1e-4)
    with pytest.raises(MemoryError, match="fewer than 5 images"):
        calling.embed(model, IMAGES)


def test_what_is_no_service_is_told(service: str) -> None:
    with pytest.raises(ModelError, match="names no service"):
        adapters.load("rest:", spec=SPEC)
    with pytest.raises(UndeclaredInputError, match="wants"):
        adapters.load(service)
    model = adapters.load(service, spec=SPEC)
    Service.weights = np.ones((5, 4), np.float32)  # the service fails
    with pytest.raises(ModelError, match="gives no vectors"):
        calling.embed(model, IMAGES[:1])


def faces(folder: Path) -> Path:
    for k in range(6):
        (folder / "faces" / f"P{k % 2}").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "faces" / f"P{k % 2}" / f"{k}.png")
    return folder / "faces"


@pytest.mark.parametrize("kind", ["xml", "tflite", "rest"])
def test_another_network_under_the_same_name_is_embedded_again(
    tmp_path: Path, kind: str, service: str
) -> None:
    """No adapter here has a digest of its weights: its answers to four images are the proof."""
    source, reused = find(faces(tmp_path)), []
    for weights in (WEIGHTS, WEIGHTS, WEIGHTS * np.float32(1.001)):
        name = service
        if kind == "xml":
            name = str(xml(tmp_path / "net.xml", weights))
        elif kind == "tflite":
            name = str(small_tflite.save(tmp_path / "net.tflite", nhwc(weights)))
        Service.weights = weights
        model = adapters.load(name, spec=SPEC)
        assert adapters.fingerprint(model) == "" and answers.prove(answers.answers(model))
        store = embedder.embed(model, source, source.manifest())
        reused.append(store.reused)
    assert reused == [0, 6, 0]


def bin_set(path: Path) -> Path:
    rng = np.random.default_rng(0)
    held = []
    for person in rng.normal(127, 50, (40, SIZE, SIZE, 3)):
        for _ in (0, 1):
            out = io.BytesIO()
            pixels = (person + rng.normal(0, 25, person.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(out, "PNG")
            held.append(out.getvalue())
    rows = [(2 * k, 2 * k + 1) for k in range(40)] + [(2 * k, 2 * k - 1) for k in range(40)]
    data = [held[r % 80] for pair in rows for r in pair], [k < 40 for k in range(80)]
    path.write_bytes(pickle.dumps(data))
    return path


@pytest.mark.parametrize("kind", ["xml", "tflite"])
def test_drift_between_runtimes(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exports of one network agree; one with its channels turned is told by name."""
    data, base = bin_set(tmp_path / "set.bin"), small_models.save(tmp_path / "a.onnx")
    turned = WEIGHTS.reshape(3, -1, 4)[::-1].reshape(-1, 4)
    told = []
    for name, weights in (("right", WEIGHTS), ("wrong", turned)):
        path = tmp_path / f"{name}.{kind}"
        if kind == "xml":
            xml(path, weights)
        else:
            small_tflite.save(path, nhwc(weights))
        fed = ["--preset", "arcface", "--input-size", "8x8", "--data", str(data)]
        assert run(["drift", str(base), str(path), *fed]) == (name == "wrong")
        told.append(capsys.readouterr().out)
    assert "the vectors agree" in told[0] and "likely cause: channel order;" in told[1]
