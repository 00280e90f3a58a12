"""An earlier result is replaced; a file of somebody else is not."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evalkit import report as reports
from evalkit.cli import run
from evalkit.datasets import trillion
from evalkit.errors import DataError
from evalkit.images import landmarks
from evalkit.protocols.calibration import fits
from evalkit.report import plots
from evalkit.types import Estimate, Report

pytestmark = pytest.mark.once

VERIFY = "verify pairs.txt --features x.npy --keys keys.txt --far 1e-1 --quiet"
PEOPLE = "people --features x.npy --keys keys.txt --far 1e-1 --quiet"
TRILLION = "trillion --features x.npy --subjects who.txt --one-set --far 1e-1 --quiet"
GATE = "gate base.json --baseline base.json"
LISTS = "--probe-list P.json --distractor-list D.json_8_1"
MEGAFACE = f"megaface --features x.npy --keys keys.txt {LISTS} --far 0.5 --quiet"
RESULTS = [  # a command, and the file that it writes last
    (f"{VERIFY} --out r.json", "r.json"),
    (f"{VERIFY} --out r.json", "r.npz"),
    (f"{VERIFY} --json r.json", "r.json"),
    (f"{PEOPLE} --page r.html", "r.html"),
    (f"{PEOPLE} --doubtful r.csv", "r.csv"),
    (f"{TRILLION} --submission r.bin", "r.bin"),
    (f"{MEGAFACE} --devkit-out .", "cmc_facescrub_megaface_evalkit_8_1.json"),
    (f"{MEGAFACE} --devkit-out .", "matches_facescrub_megaface_evalkit_8_1.json"),
    ("score scores.txt --json r.json", "r.json"),
    ("compare base.json base.json --json r.json", "r.json"),
    ("threshold base.json --far 1e-1 --json r.json", "r.json"),
    ("calibrate base.json --save r.json", "r.json"),
    ("calibrate base.json --out r.json", "r.json"),
    (f"{GATE} --junit r.xml", "r.xml"),
    (f"{GATE} --markdown r.md", "r.md"),
    ("report base.json -o r.html", "r.html"),
    ("report base.json --frte -o r.html", "r.html"),
    ("report base.json --plot roc.png", "roc.png"),
    ("report base.json --plot roc.svg", "roc.svg"),
    ("report base.json --plot roc.pdf", "roc.pdf"),
    ("table base.json -o r.txt", "r.txt"),
    ("table base.json base.json --name a --name b -o r.txt", "r.txt"),
    ("table base.json -o r.md", "r.md"),
    ("table base.json -o r.csv", "r.csv"),
    ("table base.json -o r.html", "r.html"),
]
FOREIGN = b'{"name": "x", "model": [1, 2]}'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with vectors of ten people, pairs of them, scores, and a report."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(10, 8)), 4, axis=0) + rng.normal(size=(40, 8))
    np.save("x.npy", x.astype(np.float32))
    keys = [f"p{row // 4}/{row}.jpg" for row in range(40)]
    Path("keys.txt").write_text("\n".join(keys))
    Path("who.txt").write_text("\n".join(key[:2] for key in keys))
    lines = [f"{keys[row]} {keys[row + 1]} {int(row % 4 < 3)}" for row in range(39)]
    lines += [f"{keys[row]} {keys[row + 9]} 0" for row in range(31)]
    Path("pairs.txt").write_text("\n".join(lines))
    probes = {"id": [key[:2] for key in keys[:32]], "path": keys[:32]}
    Path("P.json").write_text(json.dumps(probes))
    Path("D.json_8_1").write_text(json.dumps({"path": keys[32:]}))
    Path("scores.txt").write_text("".join(f"{n % 2} {n % 7 / 10 + n % 2 / 5}\n" for n in range(40)))
    assert run(shlex.split(f"{VERIFY} --out base.json")) == 0
    return tmp_path


@pytest.mark.parametrize(("line", "name"), RESULTS)
def test_an_earlier_result_is_replaced_and_no_other_file(
    folder: Path, line: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Path(name)
    assert run(shlex.split(line)) == 0
    assert run(shlex.split(line)) == 0
    before = {path: path.read_bytes() for path in folder.iterdir() if path.suffix != made.suffix}
    made.write_bytes(FOREIGN)
    capsys.readouterr()
    assert run(shlex.split(line)) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{name} is there already, and is no earlier result of this kind\n" in said.err
    assert len(said.err.splitlines()) == 2
    assert made.read_bytes() == FOREIGN
    assert before.items() <= {path: path.read_bytes() for path in folder.iterdir()}.items()


@pytest.mark.parametrize("name", ["mine.npz", "mine.npy", "mine.txt"])
def test_a_file_that_is_no_checkpoint_is_kept(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--checkpoint mine.npy` ended in a TypeError, mine.npz was called that of another job."""
    np.savez("mine.npz", features=np.eye(3))
    np.save("mine.npy", np.eye(3))
    Path("mine.txt").write_text("hello")
    before = Path(name).read_bytes()
    assert run(shlex.split(f"{TRILLION} --checkpoint {name}")) == 3
    said = capsys.readouterr()
    assert f"{name} is there already, and is no earlier result of this kind\n" in said.err
    assert Path(name).read_bytes() == before
    Path("empty.npz").touch()  # as mktemp leaves one
    assert run(shlex.split(f"{TRILLION} --checkpoint empty.npz")) == 0


def test_pictures_and_files_of_python_replace_nobody_s(folder: Path) -> None:
    report = reports.read("base.json")
    figure = report.plot("roc")
    calibration = fits.fitted(np.arange(1.0, 9.0), np.arange(4.0), "isotonic")
    marks = landmarks.Landmarks(("a.jpg",), np.zeros((1, 5, 2), np.float32))
    one = np.ones((1, 4), np.float32)
    writers: dict[str, Callable[[Path], None]] = {
        "mine.png": lambda path: plots.save(figure, path),
        "mine.json": lambda path: fits.write(calibration, path),
        "mine.csv": lambda path: landmarks.write(path, marks),
        "mine.bin": lambda path: trillion.write_submission(path, [one], 1, 4),
    }
    for name, write in writers.items():
        write(Path(name))
        write(Path(name))
        Path(name).write_bytes(FOREIGN)
        with pytest.raises(DataError, match="is no earlier result of this kind"):
            write(Path(name))
        assert Path(name).read_bytes() == FOREIGN


def test_a_file_without_a_byte_is_nobody_s(folder: Path) -> None:
    Path("r.xml").touch()  # as mktemp leaves one
    assert run(shlex.split(f"{GATE} --junit r.xml")) == 0
    assert Path("r.xml").stat().st_size


def test_a_report_in_python_does_not_replace_vectors_beside_it(tmp_path: Path) -> None:
    vectors, report = (
        np.eye(3),
        Report(
            protocol="score",
            protocol_version=1,
            metrics={"auc": Estimate(value=0.5, n=4)},
            outcomes={"score": np.arange(4.0)},
        ),
    )
    np.savez(tmp_path / "mine.npz", features=vectors, identity=["a", "b", "c"])
    with pytest.raises(DataError, match=r"mine\.npz is there already"):
        reports.write(report, tmp_path / "mine.json")
    assert not (tmp_path / "mine.json").exists()
    assert np.array_equal(np.load(tmp_path / "mine.npz")["features"], vectors)


def test_a_set_is_made_in_a_folder_of_its_own(tmp_path: Path) -> None:
    small = ["--subjects", "5", "--images", "2", "--distractors", "20", "--dim", "256"]
    (tmp_path / ".evalkit-0.partial").touch()
    assert run(["synth", str(tmp_path), *small]) == 0
    assert run(["synth", str(tmp_path), *small, "--format", "bin"]) == 3
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "subjects.txt").write_text("labels of a week")
    assert run(["synth", str(mine), *small]) == 3
    assert [path.name for path in mine.iterdir()] == ["subjects.txt"]
