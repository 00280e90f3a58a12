"""A model given to megaface, trillion and ijb says what its embeddings say."""

import json
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from evalkit.cli import cli, run
from evalkit.cli.model_options import model_options

pytestmark = pytest.mark.once

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PROBES = [f"P_{k // 3}/P_{k // 3}_{k}.png" for k in range(9)]
DISTRACTORS = [f"1/2@N0/{k}_0.png" for k in range(12)]
MODEL = ["--input-size", "8x8", "--color", "rgb", "--mean", "127.5", "--std", "128"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make images of 3 people and of 12 others, a model, its embeddings, and lists of them."""
    import small_models

    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    face = rng.integers(0, 256, (3, 8, 8, 3))
    for k, name in enumerate([*PROBES, *DISTRACTORS]):
        of = face[k // 3] if k < 9 else rng.integers(0, 256, (8, 8, 3))
        noisy = np.clip(of + rng.integers(-60, 60, (8, 8, 3)), 0, 255).astype(np.uint8)
        path = tmp_path / ("probes" if k < 9 else "others") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(path)
    small_models.save(tmp_path / "m.onnx")
    ids = [p.split("/")[0] for p in PROBES]
    (tmp_path / "p.json").write_text(json.dumps({"path": PROBES, "id": ids}))
    (tmp_path / "d.json_12_1").write_text(json.dumps({"path": DISTRACTORS}))
    for name in ("probes", "others"):
        words = ["embed", "--model", "m.onnx", *MODEL, "--data", name, "--quiet", "--views", "2"]
        assert run([*words, f"{name}.h5"]) == 0
    return tmp_path


def numbers(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert run([*words, "--json", "-", "--quiet"]) == 0, capsys.readouterr().err
    return {k: m.get("value") for k, m in json.loads(capsys.readouterr().out)["metrics"].items()}


@pytest.mark.parametrize("flip", ["none", "sum"])
def test_megaface(data: Path, capsys: pytest.CaptureFixture[str], flip: str) -> None:
    lists = ["megaface", "--probe-list", "p.json", "--distractor-list", "d.json_12_1"]
    lists += ["--far", "1e-1", "--flip", flip]
    model = ["--model", "m.onnx", *MODEL, "--data", "probes", "--distractor-data", "others"]
    of_model = numbers(capsys, *lists, *model)
    if flip == "sum":
        files = ["--features", "probes.h5", "--distractor-features", "others.h5"]
        assert of_model == numbers(capsys, *lists, *files)
    assert 0 < (of_model["rank-1@distractors=12"] or 0) <= 1
    assert run([*lists, "--model", "m.onnx", *MODEL, "--data", "probes"]) == 3
    assert "missing for 12 of 12 images" in capsys.readouterr().err
    assert run([*lists, "--model", "m.onnx", *MODEL]) == 2


@pytest.mark.parametrize("flip", ["none", "sum", "concat"])
def test_trillion(data: Path, capsys: pytest.CaptureFixture[str], flip: str) -> None:
    (data / "others").rename(data / "probes" / "x")
    for k, name in enumerate(DISTRACTORS):
        (data / "probes" / "x" / name).rename(data / "probes" / f"{k}.png")
    words = ["trillion", "--far", "1e-1", "--fpir", "1e-1", "--flip", flip]
    of_model = numbers(capsys, *words, "--model", "m.onnx", *MODEL, "--data", "probes")
    views = "1" if flip == "none" else "2"
    made = ["embed", "--model", "m.onnx", *MODEL, "--data", "probes", "--quiet", "--views", views]
    assert run([*made, "x.h5"]) == 0
    assert of_model == numbers(capsys, *words, "--features", "x.h5")
    assert of_model["tpr@far=1e-1"]
    other = "sum" if flip == "none" else "none"
    assert run([*words[:-1], other, "--features", "x.h5"]) == 3
    told = {"none": "hold one view per image", "sum": "say --flip sum or concat"}
    assert told["none" if flip == "none" else "sum"] in capsys.readouterr().err


def test_blufr(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scipy.io import savemat

    def cells(*rows: list[int]) -> np.ndarray:
        held = np.empty((1, len(rows)), object)
        held[0] = [np.array(r, float)[:, None] for r in rows]
        return held

    names = np.empty((9, 1), object)
    names[:, 0] = [Path(p).name for p in PROBES]
    trials = {
        "testIndex": cells([*range(1, 10)], [*range(1, 10)]),
        "galIndex": cells([1, 4], [4, 7]),
        "probIndex": cells([2, 3, 5, 6, 7, 8, 9], [5, 6, 8, 9, 1, 2, 3]),
    }
    savemat("c.mat", {"imageList": names, "labels": np.repeat([1, 2, 3], 3)[:, None], **trials})
    words = ["blufr", "--config", "c.mat", "--far", "0.1", "--fpir", "0.5", "--flip", "sum"]
    of_model = numbers(capsys, *words, "--model", "m.onnx", *MODEL, "--data", "probes")
    assert of_model == numbers(capsys, *words, "--features", "probes.h5")
    assert of_model["vr@far=0.1"] is not None
    assert run([*words, "--model", "m.onnx", *MODEL]) == 2


def test_every_command_with_a_model_takes_what_lfw_takes() -> None:
    """Everything about the model, where its images are, and how its views are fused."""
    held = {}
    for name in ("lfw", "verify", "megaface", "trillion", "ijb", "blufr"):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        held[name] = {p.name for p in command.params}
    of_model = {p.name for p in model_options(lambda: None).__click_params__}  # type: ignore[attr-defined]
    for name, options in held.items():
        assert of_model | {"data", "flip"} <= options, name


def test_ijb(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    media = [f"{name} {k // 2} {k}" for k, name in enumerate(PROBES[:8])]
    (data / "media.txt").write_text("\n".join(media))
    pairs = [f"{a} {b} {int(a % 2 == b % 2)}" for a in range(4) for b in range(a)]
    (data / "pairs.txt").write_text("\n".join(pairs))
    words = ["ijb", "--media", "media.txt", "--pairs", "pairs.txt", "--far", "0.5"]
    words += ["--flip", "sum"]
    of_model = numbers(capsys, *words, "--model", "m.onnx", *MODEL, "--data", "probes")
    assert of_model == numbers(capsys, *words, "--features", "probes.h5")
    assert of_model["tpr@far=0.5"] is not None
    points = " ".join(map(str, [2, 3, 5, 3, 4, 4, 2, 6, 5, 6]))
    (data / "points.txt").write_text("\n".join(f"{name} {points} 0.9" for name in PROBES[:8]))
    aligned = ["--model", "m.onnx", *MODEL, "--data", "probes", "--detections", "points.txt"]
    assert numbers(capsys, *words, *aligned, "--resize").keys() == of_model.keys()


def test_what_is_left_out_is_said_once_and_kept(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "probes" / "P_0" / "P_0_0.jxl").write_bytes(b"")
    (data / "probes" / "P_0" / ".x.png").write_bytes(b"")
    (data / "probes" / "gone").symlink_to("nowhere")
    lines = [
        "1 link leads nowhere: gone",
        "1 file is an image of a kind that is not read, .jxl (1): P_0/P_0_0.jxl",
        "1 image is hidden and left out: P_0/.x.png",
    ]
    model = ["--model", "m.onnx", *MODEL, "--data", "probes"]
    for _ in range(2):  # embedded, and from the cache
        capsys.readouterr()
        (data / "pairs.txt").write_text(f"{PROBES[0]} {PROBES[1]} 1\n{PROBES[0]} {PROBES[3]} 0\n")
        assert run(["verify", "pairs.txt", *model, "--json", "-"]) == 0
        told = capsys.readouterr()
        assert [told.err.count(line) for line in lines] == [1, 1, 1]
        assert json.loads(told.out)["provenance"]["made"]["left out"] == lines
    assert run(["embed", *model, "new.h5"]) == 0
    told = capsys.readouterr()
    assert all(line in told.err for line in lines)


TALKS = """import os
from evalkit.types import InputSpec
print("imported")

class Talks:
    spec = InputSpec(size=(8, 8), color="rgb", mean=(0,) * 3, std=(1,) * 3)
    dim = 12

    def __init__(self):
        os.makedirs("elsewhere")
        os.chdir("elsewhere")
        os.system("echo of a program")
        print("made")

    def embed(self, images):
        print("embedded")
        return images[:, ::4, ::4].reshape(len(images), -1).astype("float32")
"""


def test_what_a_model_prints_is_no_result_and_its_folder_is_not_the_commands(
    data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "talks.py").write_text(TALKS)
    monkeypatch.syspath_prepend(data)
    model = ["--model", "talks:Talks", "--trust-model", "--out", "r.json", "--json", "-"]
    assert run(["people", "probes", *model]) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["protocol"] == "people"
    assert (data / "r.json").is_file()
    for line in ("imported", "of a program", "made", "embedded"):
        assert line in printed.err.splitlines()
