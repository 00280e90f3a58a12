"""A Git LFS pointer in place of a model, list, image or feature file is called that."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit import cli
from evalkit.adapters import load
from evalkit.adapters.presets import PRESETS
from evalkit.datasets import bin as bin_sets
from evalkit.datasets import lfw
from evalkit.errors import EvalkitError
from evalkit.images import find, landmarks
from evalkit.keys import read_keys
from evalkit.vectors import matlab, readers
from evalkit.vectors.store import FeatureStore

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 1234\n"
SPEC = PRESETS["arcface"]


def _model(path: Path) -> Any:
    return load(path, spec=SPEC)


def _weights(path: Path) -> Any:
    pytest.importorskip("torch")
    return load("mobilefacenet", spec=SPEC, weights=str(path))


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (_model, "m.onnx"),
        (_model, "m.pt"),
        (_model, "m.pt2"),
        (_weights, "w.pth"),
        (_weights, "w.safetensors"),
        *((readers.read, f"x{s}") for s in (".npy", ".npz", ".h5", ".csv", ".parquet", ".pt")),
        (FeatureStore.open, "x.h5"),
        (matlab.read, "x.mat"),
        (bin_sets.read, "lfw.bin"),
        (landmarks.read, "points.npz"),
        (landmarks.read, "points.txt"),
        (lfw.read_pairs, "pairs.txt"),
        (read_keys, "keys.txt"),
        (find, "images.zip"),
        (find, "images.txt"),
    ],
)
def test_a_pointer_in_place_of_a_file_is_named(
    tmp_path: Path, read: Callable[[Path], Any], name: str
) -> None:
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(EvalkitError, match=r"is a Git LFS pointer") as told:
        read(tmp_path / name)
    assert name in told.value.message
    assert "git lfs pull" in told.value.hint


def test_weights_beside_an_onnx_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import small_models

    model = onnx.load(small_models.save(tmp_path / "m.onnx"))
    onnx.save_model(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0
    )
    (tmp_path / "w.data").write_bytes(POINTER)
    with pytest.raises(EvalkitError, match=r"w\.data is a Git LFS pointer"):
        load(tmp_path / "m.onnx", spec=SPEC)


def test_images_in_a_folder_and_in_an_archive(tmp_path: Path) -> None:
    good = io.BytesIO()
    Image.new("RGB", (4, 4)).save(good, "PNG")
    (tmp_path / "A").mkdir()
    with zipfile.ZipFile(tmp_path / "A.zip", "w") as archive:
        for name, data in (("1.png", good.getvalue()), ("2.png", POINTER)):
            (tmp_path / "A" / name).write_bytes(data)
            archive.writestr(name, data)
    for place in ("A", "A.zip"):
        source = find(tmp_path / place)
        assert source.read(0).shape == (4, 4, 3)
        with pytest.raises(EvalkitError, match=r"2\.png cannot be read: it is a Git LFS pointer"):
            source.read(1)


def test_every_file_that_a_command_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.txt").write_bytes(POINTER)
    assert cli.run(["score", str(tmp_path / "scores.txt")]) == 3
    assert "scores.txt is a Git LFS pointer" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["m.onnx", "m.ort", "m.pt", "m.pt2"])
def test_a_pointer_is_no_program_to_trust_and_has_no_input_to_declare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_bytes(POINTER)
    for more in ([], ["--preset", "arcface"]):
        assert cli.run(["check", "--model", str(tmp_path / name), *more]) == 3
        assert f"{name} is a Git LFS pointer" in capsys.readouterr().err
