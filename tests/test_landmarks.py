"""Landmarks from files and from detectors, through the command."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evalkit
from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import DataError, EvalkitError, ModelError, ReportError
from evalkit.images import ImageSource, find, landmarks
from evalkit.images.alignment import (
    TEMPLATES,
    aligned,
    cuts,
    detected,
    doubt,
    eyes_in_mean,
    narrowed,
    standardised,
)
from evalkit.images.detectors import GROUP, FaceFinder, load
from evalkit.vectors.store import FeatureStore
from evalkit.verdict.compare import check_comparable

pytestmark = pytest.mark.once

PACKAGE = Path(__file__).parent / "detector"
SIZE, TEMPLATE = TEMPLATES["arcface-112"]
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))
POINTS = np.stack([TEMPLATE * s + [20 * s, 30] for s in (1.0, 1.3, 1.6)]).astype(np.float32)
KEYS = ("A/a1.png", "A/a2.png", "B/b1.png")


def save(path: Path, keys: tuple[str, ...] = KEYS, points: np.ndarray = POINTS) -> Path:
    if path.suffix == ".npz":
        np.savez(path, paths=np.array(keys), landmarks=points)
    elif path.suffix == ".json":
        held = {k: p.tolist() for k, p in zip(keys, points, strict=True)}
        path.write_text(json.dumps({"note": "ours", "points": held}))
    else:
        with path.open("w", newline="") as f:
            rows = csv.writer(f, delimiter="," if path.suffix == ".csv" else " ")
            rows.writerows([k, *p.ravel().tolist()] for k, p in zip(keys, points, strict=True))
    return path


def draw(points: np.ndarray) -> np.ndarray:
    image = np.full((260, 260, 3), 60, np.uint8)
    for (x, y), colour in zip(np.rint(points).astype(int), COLOURS, strict=True):
        image[y - 3 : y + 4, x - 3 : x + 4] = colour
    return image


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    for key, points in zip(KEYS, POINTS, strict=True):
        (tmp_path / "faces" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(points)).save(tmp_path / "faces" / key)
    return tmp_path / "faces"


@pytest.mark.parametrize("suffix", [".npz", ".json", ".csv", ".txt"])
def test_every_layout_gives_the_same_points(tmp_path: Path, suffix: str) -> None:
    read = landmarks.read(save(tmp_path / f"marks{suffix}"))
    np.testing.assert_allclose(read.of(KEYS[::-1]), POINTS[::-1], rtol=1e-6)
    assert read.of(["faces/A/a2.jpg"]).shape == (1, 5, 2)


def test_a_header_and_tabs_are_read(tmp_path: Path) -> None:
    numbers = "\t".join(str(v) for v in POINTS[0].ravel())
    (tmp_path / "m.txt").write_text(f"name\tx1\ty1\nwith blank.png\t{numbers}\n\n")
    assert landmarks.read(tmp_path / "m.txt").keys == ("with blank.png",)


def test_decimal_commas_and_semicolons_are_read(tmp_path: Path) -> None:
    numbers = ";".join(str(v).replace(".", ",") for v in POINTS[0].ravel())
    (tmp_path / "m.tsv").write_text(f'"a;1.png";{numbers}\n')
    marks = landmarks.read(tmp_path / "m.tsv")
    assert marks.keys == ("a;1.png",)
    np.testing.assert_allclose(marks.points, POINTS[:1], rtol=1e-6)


def test_the_lists_of_celeba_and_rfw_are_read(tmp_path: Path) -> None:
    whole = np.rint(POINTS)
    lines = [f"{n}.jpg  " + "  ".join(f"{v:.0f}" for v in p.ravel()) for n, p in enumerate(whole)]
    (tmp_path / "celeba.txt").write_text("\n".join(["3", "lefteye_x lefteye_y nose_x", *lines]))
    marks = landmarks.read(tmp_path / "celeba.txt")
    assert marks.keys == ("0.jpg", "1.jpg", "2.jpg")
    np.testing.assert_array_equal(marks.points, whole)
    rows = [f"/data/Asian/m.{n}/m.{n}_0001.jpg\t{n}" for n in range(3)]
    rows = [
        f"{row}\t" + "\t".join(map(str, p.ravel())) for row, p in zip(rows, POINTS, strict=True)
    ]
    (tmp_path / "rfw.txt").write_text("\n".join(rows))
    marks = landmarks.read(tmp_path / "rfw.txt")
    assert marks.keys[1] == "/data/Asian/m.1/m.1_0001.jpg"
    np.testing.assert_allclose(marks.points, POINTS, rtol=1e-6)


WRONG = {
    "no landmarks at": lambda p: p,
    "missing for 1 of 4 images: C/c1": lambda p: save(p),
    "mirrored, or in another order": lambda p: save(p, points=POINTS[:, [1, 0, 2, 4, 3]]),
    r"landmarks of shape \(3, 4, 2\)": lambda p: save(p, points=POINTS[:, :4]),
    "has arrays x": lambda p: np.savez(p, x=1) or p,
    "not a whole .npz": lambda p: p.write_bytes(save(p).read_bytes()[:200]) and p,
    "holds no landmarks": lambda p: save(p, (), POINTS[:0]),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_landmarks_are_named(tmp_path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        landmarks.read(WRONG[message](tmp_path / "m.npz")).of([*KEYS, "C/c1.png"])


@pytest.mark.parametrize("suffix", [".npz", ".json", ".txt"])
def test_mtcnns_order_is_refused_with_the_evidence_and_read_on_demand(
    tmp_path: Path, suffix: str
) -> None:
    numbers = POINTS.transpose(0, 2, 1).reshape(3, 10)
    path = save(tmp_path / f"m{suffix}", points=numbers)
    with pytest.raises(DataError, match=r"are \d+\.\d pixels of 112 .* as MTCNN's x1 .* 0\.0") as e:
        landmarks.read(path)
    assert e.value.hint == "--landmark-order mtcnn reads it so"
    np.testing.assert_allclose(landmarks.read(path, "mtcnn").points, POINTS, rtol=1e-6)
    with pytest.raises(DataError, match=r"as x1 y1 .* 0\.0"):
        landmarks.read(save(tmp_path / f"n{suffix}"), "mtcnn")


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4], [0, 1, 2, 4, 3], [2, 0, 1, 3, 4]])
def test_points_in_another_order(tmp_path: Path, order: list[int]) -> None:
    with pytest.raises(DataError, match="in another order"):
        landmarks.read(save(tmp_path / "m.npz", points=POINTS[:, order]))


@pytest.mark.parametrize("wrong", ["crossed", "NaN"])
def test_a_face_without_its_points_is_a_failed_image(
    faces: Path, tmp_path: Path, wrong: str
) -> None:
    points = np.concatenate([POINTS, POINTS, POINTS, POINTS])
    points[1] = points[1, [1, 0, 2, 3, 4]] if wrong == "crossed" else [np.nan, 1]
    marks = landmarks.read(save(tmp_path / "m.npz", tuple(map(str, range(12))), points))
    source = aligned(find(faces), marks.points[:3], "arcface-112")
    assert source.read(0).shape == source.read(2).shape == (*SIZE, 3)
    with pytest.raises(DataError, match=r"A/a2\.png has landmarks that cannot be used: NaN"):
        source.read(1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.txt", "a.png 1 2 3 4 5 6 7 8 9\n", "m.txt line 1: 9 numbers, not 10"),
        ("m.csv", "a.png,1,2,3,4,5,6,7,8,9,ten\n", "m.csv line 1: not all numbers"),
        ("m.txt", "a.png 0.5 1 2 3 4 5 6 7 8 9 10\n", "m.txt line 1: 11 numbers, not 10"),
        ("m.txt", "2\na.png 1 2 3 4 5 6 7 8 9 10\n", "m.txt: line 1 says 2, 1 follow"),
        ("m.txt", "3\n", "m.txt: line 1 says 3, 0 follow"),
        ("m.json", '{"a": [[1, 2]]}', "m.json a: 2 numbers, not 10"),
        ("m.json", '{"a": "x"}', "m.json a: not all numbers"),
        ("m.json", "[1]", "m.json holds a list"),
        ("m.json", "{", "m.json is not JSON"),
        ("m.mat", "", "cannot read landmarks from 'm.mat'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        landmarks.read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("crop", TEMPLATES)
def test_every_face_lands_on_the_template(faces: Path, crop: str) -> None:
    source = aligned(find(faces), POINTS, crop)
    size, template = TEMPLATES[crop]
    for row in range(3):
        image = source.read(row).astype(int)
        assert image.shape == (*size, 3)
        blue = np.argwhere((image[..., 2] > 150) & (image[..., 1] < 100))
        np.testing.assert_allclose(blue.mean(0)[::-1], template[2], atol=1)


def test_points_of_another_size_of_the_image_are_refused(faces: Path) -> None:
    source = aligned(find(faces), POINTS * 2, "arcface-112")
    with pytest.raises(DataError, match=r"landmark of A/a2.png at .* outside its 260x260 pixels"):
        source.read(1)


def install(root: Path) -> Path:
    """Lay the package out as an installer does, from its own pyproject."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = root / f"evalkit_dots-{project['version']}.dist-info"
    info.mkdir(parents=True)
    shutil.copy(PACKAGE / "evalkit_dots.py", root)
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{n} = {target}" for n, target in project["entry-points"][GROUP].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    return root


def test_an_installed_detector_aligns_as_its_landmarks_would(faces: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = save_model(tmp_path)
    Image.fromarray(np.full((260, 260, 3), 60, np.uint8)).save(faces / "A" / "no face.png")
    roots = [str(install(tmp_path / "site")), str(Path(evalkit.__file__).parents[1])]
    given = ["--model", model, "--preset", "arcface", "--data", faces]
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "evalkit",
            "embed",
            *given,
            "--align",
            "dots",
            tmp_path / "d.h5",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "4 images, 1 x 3, 1 failed" in done.stdout
    found = FeatureStore.open(tmp_path / "d.h5")
    assert found.key["decoder"].endswith("aligned to arcface-112 by dots 1.0, face at the centre")
    (faces / "A" / "no face.png").unlink()
    marks = save(tmp_path / "m.csv")
    assert run(["embed", *map(str, given), "--landmarks", str(marks), str(tmp_path / "m.h5")]) == 0
    by_file = FeatureStore.open(tmp_path / "m.h5")
    assert by_file.key["decoder"].endswith("; aligned to arcface-112 by 5 landmarks")
    good = ~found.failed
    np.testing.assert_allclose(found.features[good], by_file.features, atol=0.02)


def save_model(folder: Path) -> Path:
    """Write a network that gives the mean of each channel."""
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    kind = onnx.TensorProto.FLOAT
    graph = h.make_graph(
        [h.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        "mean",
        [h.make_tensor_value_info("x", kind, ["n", 3, 112, 112])],
        [h.make_tensor_value_info("y", kind, ["n", 3])],
    )
    opset = [h.make_opsetid("", 17)]
    onnx.save(h.make_model(graph, opset_imports=opset, ir_version=9), folder / "mean.onnx")
    return folder / "mean.onnx"


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--align", "uniface2"], 3, "no detector is called 'uniface2'"),
        (["--align", "a", "--landmarks", __file__], 2, "--landmarks or --align, not both"),
        (["--landmarks", "absent.npz"], 3, "--landmarks: no such file or folder: absent.npz"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    faces: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    code: int,
    message: str,
) -> None:
    pytest.importorskip("onnxruntime")
    arguments = ["--model", save_model(tmp_path), "--preset", "arcface", "--data", faces, *given]
    assert run(["embed", *map(str, arguments), str(tmp_path / "f.h5")]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "f.h5").exists()


def test_the_face_nearest_the_centre_is_taken() -> None:
    class Two:
        fingerprint = "two"

        def detect(self, image: np.ndarray) -> np.ndarray:
            return np.stack([TEMPLATE + 140, TEMPLATE + 70])

    image = draw(TEMPLATE + 70)
    source = ImageSource(("a",), lambda _: image, "drawn")
    by_points = aligned(source, TEMPLATE[None].astype(np.float32) + 70, "arcface-112")
    face = detected(source, FaceFinder(Two()), "arcface-112").read(0)
    assert np.abs(face.astype(int) - by_points.read(0)).max() <= 1


@pytest.mark.parametrize(
    "returned",
    [np.zeros((1, 6, 2)), np.full((1, 5, 2), np.nan), np.full((1, 5, 2), "x"), np.array(None)],
)
def test_a_detector_of_other_points_is_refused(returned: np.ndarray) -> None:
    class Other:
        fingerprint = "other"

        def detect(self, image: np.ndarray) -> np.ndarray:
            return returned

    source = ImageSource(("a",), lambda _: draw(TEMPLATE + 70), "drawn")
    with pytest.raises(ModelError, match=r"detector other returned .* of shape .* for a"):
        detected(source, FaceFinder(Other()), "arcface-112").read(0)


def test_an_error_of_a_detector_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        name, fingerprint = "broken", "broken 1.0"

        def detect(self, image: np.ndarray) -> np.ndarray:
            raise KeyError("anchors")

        def load(self) -> type:
            raise AttributeError("no such class")

    source = ImageSource(("a",), lambda _: draw(TEMPLATE + 70), "drawn")
    with pytest.raises(ModelError, match=r"detector broken 1\.0 failed on a: KeyError") as told:
        detected(source, FaceFinder(Broken()), "arcface-112").read(0)
    assert "test_landmarks.py, line" in told.value.hint
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Broken()])
    with pytest.raises(ModelError, match="detector broken failed: AttributeError"):
        load("broken")


def test_what_is_no_detector_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offered:
        name = "half"

        def load(self) -> type:
            return dict

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Offered()])
    with pytest.raises(EvalkitError, match="half gave a dict without detect"):
        load("half")


@pytest.fixture(scope="session")
def crops(shared_data: Path) -> ImageSource:
    return find(shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip")


def test_aligned_photographs_raise_no_doubt(crops: ImageSource) -> None:
    assert doubt(crops, "arcface-112") == ""
    few = [crops.select(crops.keys[o : o + 200]) for o in range(0, 7600, 760)]
    assert [doubt(some, "arcface-112") for some in few] == [""] * 10


def test_the_table_of_the_documents_is_what_is_measured(crops: ImageSource) -> None:
    """Two of its rows: the eyes of images shifted by 6 pixels, and of aligned ones in a row."""

    def measured(images: ImageSource) -> tuple[float, float]:
        return eyes_in_mean(np.mean(standardised(images, SIZE), axis=0), "arcface-112")

    page = Path(__file__).parents[1] / "docs" / "alignment.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    off, darker = measured(crops.then(lambda _, image: np.roll(image, 6, 0), "down"))
    assert not text or f"| shifted down by 6 pixels | {off:.1f} | {darker:.1f} | no |" in text
    off, darker = measured(crops.select(crops.keys[:200]))
    assert off < 5.83 and darker > 1.0


@pytest.mark.parametrize("shift", [(0, 8), (8, 0), (0, -8), (-8, 0), (10, 10)])
def test_shifted_photographs_do(crops: ImageSource, shift: tuple[int, int]) -> None:
    moved = crops.then(lambda _, image: np.roll(image, shift, (0, 1)), "shifted")
    assert "do not look aligned to arcface-112" in doubt(moved, "arcface-112")


def test_loosely_cropped_and_turned_photographs_do(crops: ImageSource) -> None:
    def loose(_: int, image: np.ndarray) -> np.ndarray:
        return np.pad(image, ((60, 40), (50, 50), (0, 0)), mode="edge")

    for other in (crops.then(loose, "").resized(SIZE), crops.then(lambda _, i: i[::-1], "")):
        assert "do not look aligned" in doubt(other, "arcface-112")


def test_too_few_images_or_an_unknown_crop_are_not_judged(crops: ImageSource) -> None:
    upside_down = crops.select(crops.keys[:199]).then(lambda _, image: image[::-1], "")
    assert doubt(upside_down, "arcface-112") == "" == doubt(crops, "mtcnn-160")


def test_the_warning_reaches_the_user(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    archive = zipfile.ZipFile(shared_data / "lfw" / "lfw_pairs_aligned112_q90.zip")
    for name in [n for n in archive.namelist() if n.endswith(".jpg")][::38]:
        archive.extract(name, tmp_path / "faces")
    given = ["--model", save_model(tmp_path), "--preset", "arcface", "--data", tmp_path / "faces"]
    assert run(["embed", *map(str, given), str(tmp_path / "good.h5")]) == 0
    assert "warning" not in capsys.readouterr().err
    for path in (tmp_path / "faces").rglob("*.jpg"):
        Image.open(path).rotate(180).save(path)
    assert run(["embed", *map(str, given), str(tmp_path / "bad.h5")]) == 0
    assert "warning: the images do not look aligned" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # draws of two people
def test_how_it_was_aligned_is_in_the_report(faces: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    marks = save(tmp_path / "marks.npz")
    (tmp_path / "pairs.txt").write_text(
        "A/a1.png A/a2.png 1\nA/a1.png B/b1.png 0\nA/a2.png B/b1.png 0\n"
    )
    model = ["--model", save_model(tmp_path), "--preset", "arcface", "--data", faces, "--resize"]
    for name, how in (("m", ["--landmarks", marks]), ("r", [])):
        given = ["verify", tmp_path / "pairs.txt", *model, *how, "--out", tmp_path / f"{name}.json"]
        assert run(list(map(str, given))) == 0
    crop = {n: reports.read(tmp_path / f"{n}.json") for n in "mr"}
    held = str(crop["m"].provenance["crop"])
    assert held == "aligned to arcface-112 by 5 landmarks"
    assert str(crop["m"].provenance["landmarks"]).startswith("marks.npz sha256:")
    assert crop["r"].provenance["crop"] == "arcface-112"
    with pytest.raises(ReportError, match=r"'crop'.*the images were aligned differently"):
        check_comparable(crop["m"], crop["r"])


def test_the_real_files_of_lfw(shared_data: Path) -> None:
    files = shared_data / "lfw_landmarks"
    mtcnn = files / "pfe_ldmark_lfw_mtcnncaffe.txt"
    with pytest.raises(DataError, match=r"17\.\d pixels .* as MTCNN's x1 .* 2\.\d"):
        landmarks.read(mtcnn)
    theirs = landmarks.read(mtcnn, "mtcnn")
    ours = landmarks.read(files / "sphereface_pytorch_lfw_landmark.txt")
    assert len(ours.keys) == len(theirs.keys) == 13233
    apart = np.linalg.norm(theirs.of(ours.keys) - ours.points, axis=2)
    assert np.median(apart) < 4  # two detectors, one face


def test_two_crossed_profiles_of_cfp(shared_data: Path) -> None:
    marks = landmarks.read(shared_data / "cfp" / "cfp_landmarks5_retinaface_m025.npz")
    lost = np.isinf(marks.points).all(axis=(1, 2))
    assert len(lost) == 7000 and np.isfinite(marks.points[~lost]).all()
    named = [marks.keys[row] for row in np.flatnonzero(lost)]
    assert named == ["088/profile/04.jpg", "364/profile/02.jpg"]


SQUARE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("side", "size", "to_scale", "kept"),
    [
        (112, (112, 96), False, slice(8, -8)),
        (224, (224, 192), False, slice(16, -16)),
        (224, (112, 96), True, slice(16, -16)),
        (224, (112, 96), False, slice(None)),  # of another scale: an error, not a guess
        (112, (112, 112), False, slice(None)),
        (112, (112, 64), False, slice(None)),
    ],
)
def test_square_crops_are_cut_for_a_narrow_model(
    side: int, size: tuple[int, int], to_scale: bool, kept: slice
) -> None:
    image = SQUARE[:side, :side]
    source = narrowed(ImageSource(("a",), lambda _: image, "drawn"), size, to_scale)
    assert np.array_equal(source.read(0), image[:, kept])
    cut = kept != slice(None)
    assert (source.identity == "drawn") is not cut
    told = f"cut to {size[0]}x{size[1]}, {size[0] // 14} columns off each side"
    assert (told in cuts(source, size)) is cut


def test_crops_as_narrow_as_the_model_stay() -> None:
    source = ImageSource(("a",), lambda _: SQUARE[:112, :96], "drawn")
    assert narrowed(source, (112, 96)) is source
