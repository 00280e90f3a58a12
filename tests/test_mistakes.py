"""What is typed wrong is told in one line: what, where, what to do; with the right exit code."""

import json
import shlex
from pathlib import Path

import click
import numpy as np
import pytest

from evalkit import cli
from evalkit.cli import COMMANDS, run
from evalkit.cli.parameters import FileKind

X = "faces/x.npy"
TRILLION = f"trillion --features {X} --subjects who.txt --far 1e-1"
MODEL = "--model m.onnx --preset arcface"
MEGAFACE = f"megaface --features {X} --keys keys.txt --probe-list"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with one good set, and files that are empty or of another kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    rng = np.random.default_rng(0)
    np.save(X, rng.normal(size=(12, 4)).astype(np.float32))
    Path("who.txt").write_text("\n".join("aabbcc------"))
    keys = [f"p{k // 2}/{k}.jpg" for k in range(12)]
    Path("keys.txt").write_text("\n".join(keys))
    Path("set.bin").write_bytes(b"\x80")
    Path("P.json").write_text(json.dumps({"path": keys[:4], "id": ["a", "a", "b", "b"]}))
    Path("D.json_8_1").write_text(json.dumps({"path": keys[4:]}))
    np.savez("x.npz", features=np.load(X), keys=keys)
    assert run([*TRILLION.split(), "--out", "base.json", "--quiet"]) == 0
    for name in ("gone.txt", "gone.onnx"):
        (tmp_path / name).symlink_to(".git/annex/objects/gone")
    (tmp_path / "round.txt").symlink_to("round.txt")
    for name in ("empty.npy", "empty.txt", "empty.json", "empty.toml", "empty.h5"):
        Path(name).touch()
    for name in ("text.npy", "text.npz", "text.zip", "text.json", "text.toml", "text.onnx"):
        Path(name).write_text("hello\n")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str]:
    capsys.readouterr()
    code = run(shlex.split(line))
    said = capsys.readouterr()
    assert said.out == "", line
    return code, said.err


# kind of mistake -> lines, each with the exit code and what must be said
MISTAKES = {
    "missing": [
        ("lfw --features no.npy", 3, "--features: no such file or folder: no.npy"),
        (f"lfw --features {X} --keys key.txt", 3, "--keys: no such file or folder: key.txt"),
        (f"lfw {MODEL}", 3, "no model at m.onnx\nhint: looked in "),
        ("lfw --model m.pt --preset arcface", 3, "no model at m.pt"),
        (f"verify no.txt --features {X}", 3, "PAIRS: no such file or folder: no.txt"),
        (f"embed f.h5 {MODEL} --data no", 3, "--data: no such file or folder: no"),
        ("import no.npy f.h5", 3, "SOURCE: no such file or folder: no.npy"),
        (f"{MEGAFACE} no --distractor-list no", 3, "--probe-list: no such file or folder: no"),
        (f"ijb --features {X} --media no --pairs no", 3, "--media: no such file or folder: no"),
        (f"blufr --features {X} --config no.mat", 3, "--config: no such file or folder: no.mat"),
        ("geometry no.h5", 3, "FEATURES.h5: no such file or folder: no.h5"),
        ("score no.txt", 3, "SCORES: no such file or folder: no.txt"),
        ("compare base.json no.json", 3, "OTHER: no such file or folder: no.json"),
        ("gate no.json --baseline base.json", 3, "REPORT: no such file or folder: no.json"),
        ("gate base.json --baseline no.json", 3, "no report at no.json"),
        (
            "gate base.json --baseline base.json --rules no.toml",
            3,
            "--rules: no such file or folder: no.toml",
        ),
        ("rules no.toml", 3, "RULES: no such file or folder: no.toml"),
        ("threshold no.json --far 1e-2", 3, "REPORT: no such file or folder: no.json"),
        ("report base.json no.json", 3, "REPORT: no such file or folder: no.json"),
        ("report base.json -o r.html --data no", 3, "--data: no such file or folder: no"),
        (f"{TRILLION} --expect no.json", 3, "--expect: no such file or folder: no.json"),
        (f"{TRILLION} --gate no.json", 3, "no report at no.json"),
    ],
    "a folder": [
        (f"lfw --features {X} --keys faces", 3, "--keys: faces is a folder"),
        (f"trillion --features {X} --subjects faces", 3, "--subjects: faces is a folder"),
        ("score faces", 3, "SCORES: faces is a folder"),
        ("gate base.json --baseline faces", 3, "faces cannot be read: Is a directory"),
        (f"{TRILLION} --out faces", 3, "--out: a file cannot be written over a folder: faces"),
        (f"{TRILLION} --out .", 3, "--out: a file cannot be written over a folder: ."),
        ("compare base.json .", 3, "OTHER: . is a folder"),
    ],
    "a link that leads nowhere": [
        (f"lfw --features {X} --keys gone.txt", 3, "--keys: gone.txt is a link that leads nowhere"),
        (
            f"embed f.h5 {MODEL} --data gone.txt",
            3,
            "gone.txt is a link that leads nowhere, to .git",
        ),
        ("check --model gone.onnx --preset arcface", 3, "gone.onnx is a link that leads nowhere"),
        ("score round.txt", 3, "SCORES: round.txt is a link that leads nowhere, to round.txt"),
    ],
    "empty": [
        (f"lfw --features {X} --keys empty.txt", 3, "--keys: empty.txt is empty"),
        ("trillion --features empty.npy --subjects who.txt", 3, "--features: empty.npy is empty"),
        ("geometry empty.h5", 3, "FEATURES.h5: empty.h5 is empty"),
        ("threshold empty.json --far 1e-2", 3, "REPORT: empty.json is empty"),
        ("gate base.json --baseline base.json --rules empty.toml", 3, "empty.toml is empty"),
    ],
    "of another kind": [
        ("lfw --features text.npy", 3, "--features: text.npy is not a .npy file: it begins with"),
        ("import text.npz f.h5", 3, "SOURCE: text.npz is not a .npz file"),
        (f"embed f.h5 {MODEL} --data text.zip", 3, "--data: text.zip is not a .zip file"),
        ("compare text.json base.json", 3, "text.json is not a JSON document"),
        (
            "compare base.npz base.json",
            3,
            "base.npz is not a JSON document: it is a zip archive, as .npz files are\n"
            "hint: give base.json",
        ),
        (f"report {X}", 3, f"{X} is not a JSON document: it is an .npy array"),
        ("threshold x.npz --far 1e-1", 3, "x.npz is not a JSON document: it is a zip archive"),
        ("gate base.json --baseline base.json --rules text.toml", 3, "text.toml is not TOML"),
        (f"{MEGAFACE} base.json --distractor-list base.json", 3, "is not a MegaFace list"),
    ],
    "swapped": [
        (
            f"trillion --features who.txt --subjects {X}",
            3,
            "x.npy holds float32 of shape (12, 4)\nhint: expected (N,) whole numbers or texts",
        ),
        (f"verify {X} --features keys.txt", 3, f"{X} is not a text file"),
        (f"import f.h5 {X}", 3, "SOURCE: no such file or folder: f.h5"),
        (f"import {X} keys.txt", 2, "keys.txt has no suffix .h5: a feature file is HDF5"),
        (
            f"import {X} f.h5 --keys {X}",
            3,
            "expected (N,) texts\nhint: names of rows go to --keys, vectors to --features",
        ),
        ("gate base.json base.json", 2, "Missing option '--baseline'"),
    ],
    "a value that is none": [
        (f"lfw --features {X} --flip summ", 2, "'summ' is not one of 'none', 'sum', 'concat'"),
        (f"{TRILLION} --far x", 2, "Invalid value for '--far': 'x' is not decimal text"),
        (f"{TRILLION} --far 1e-1,1e-2", 2, "one at a time, --far 1e-3 --far 1e-4"),
        (f"{TRILLION} --memory nan", 2, "'--memory': 'nan' is not a finite number"),
        (f"{TRILLION} --memory 1e300", 2, "1e+300 is not in the range 0<x<=1048576"),
        (f"{TRILLION} --threshold inf", 2, "'--threshold': 'inf' is not a finite number"),
        ("calibrate base.json --prior nan", 2, "'--prior': 'nan' is not a finite number"),
        (f"{TRILLION} --far", 2, "evalkit trillion: error: Option '--far' requires an argument"),
        ("threshold base.json --far 1e-1,distractors=9", 3, "has no set 'distractors=9'"),
        (f"lfw {MODEL} --mean nan", 2, "'nan' is not a number, or three with commas"),
        (f"lfw {MODEL} --std 1,2", 2, "'1,2' is not a number, or three with commas"),
        (f"{TRILLION} --fpir 5", 2, "Invalid value for '--fpir': 5 is outside (0, 1]"),
        ("threshold base.json --far 2", 2, "Invalid value for '--far': 2 is outside (0, 1]"),
        (f"lfw {MODEL} --device gpu", 2, "'gpu' is not one of auto, cpu, cuda"),
        ("compare base.json base.json --draws -3", 2, "-3 is not in the range x>=2"),
        ("compare base.json base.json --flips=3", 2, "--flips was removed: ten of each kind"),
        ("compare base.json base.json --seed 7", 2, "evalkit.compare(..., seed=N)"),
        ("synth s --dim 0", 2, "0 is not in the range x>=1"),
        ("report base.json --plot x.png", 3, "called 'x'\nhint: its file is named for the kind"),
    ],
    "not known": [
        ("trilion", 2, "No such command 'trilion'. Did you mean 'trillion'?"),
        (f"lfw --feature {X}", 2, "--features"),
        ("list all", 2, "unexpected extra argument (all)\nhint: evalkit list --help"),
        ("lfw m.onnx", 2, "argument (m.onnx)\nhint: did you mean --model m.onnx?"),
        ("people m.onnx faces", 2, "argument (faces)\nhint: did you mean --model m.onnx?"),
        (f"lfw {X} --keys keys.txt", 2, f"hint: did you mean --features {X}?"),
        ("list all --model m.onnx", 2, "No such option"),  # older clicks quote none
        ("bench lfw --model m.onnx", 3, "hint: it has a command of its own: evalkit lfw"),
        ("threshold base.json", 2, "give --far FAR (1e-"),
        (f"people --features {X}", 3, "of rows without names --subjects LIST.txt says"),
        ("lfw", 2, "give --model MODEL, or --features FILE with embeddings"),
        (f"blufr {MODEL} --config who.txt", 2, "give --data IMAGES"),
        (f"lfw {MODEL} --features {X}", 2, "both are given"),
        (
            f"lfw --features {X} --preset arcface",
            2,
            "--preset needs --model; it has no effect with --features",
        ),
        (f"lfw {MODEL} --data set.bin --pairs who.txt", 2, "set.bin holds its own pairs"),
        (f"lfw {MODEL} --landmarks who.txt --align x", 2, "--landmarks or --align, not both"),
        (
            f"lfw {MODEL} --keys who.txt",
            2,
            "--keys needs --features; it has no effect with --model",
        ),
        ("report base.json --data faces", 2, "add -o FILE.html"),
        (f"verify who.txt --features {X} --cluster here:1", 2, "--cluster needs --model"),
        (f"geometry x.npz --features {X}", 2, "both are given"),
        (
            f"{MEGAFACE} P.json --distractor-list D.json_8_1 --distractor-features {X}",
            3,
            "x.npy does not say which row is which image",
        ),
        ("report base.json --markdown --model-card", 2, "only one of"),
        (f"import {X} f.h5 --keys keys.txt --subset", 2, "add --list LIST"),
    ],
    "in the place of something else": [
        (f"{TRILLION} --out who.txt", 2, "--out: who.txt would be written over what --subjects"),
        (f"{TRILLION} --out r.txt", 3, "--out: r.txt does not end in .json"),
        (f"{TRILLION} --out r.npz", 3, "--out: r.npz does not end in .json"),
        ("verify who.txt --features x.npz --out x.json", 2, "x.npz would be written over what --f"),
        (f"{TRILLION} --json who.txt", 2, "who.txt would be written over what --subjects reads"),
        ("report base.json -o page.pdf", 3, "-o: page.pdf does not end in .html or .htm"),
        ("report base.json --plot roc", 3, "--plot: roc does not end in .png or .svg or .pdf"),
        ("synth who.txt", 3, "FOLDER: who.txt is a file"),
        (
            f"{MEGAFACE} P.json --distractor-list P.json --devkit-out who.txt",
            3,
            "who.txt is a file",
        ),
    ],
    "nowhere to write": [
        (f"{TRILLION} --out no/r.json", 3, "--out: no such folder: no"),
        (f"{TRILLION} --json no/r.json", 3, "--json: no such folder: no"),
        (f"{TRILLION} --submission no/s.bin", 3, "--submission: no such folder: no"),
        ("gate base.json --baseline base.json --junit no/x.xml", 3, "--junit: no such folder"),
        ("report base.json -o no/r.html", 3, "-o: no such folder: no"),
        ("report base.json --plot no/roc.png", 3, "--plot: no such folder: no"),
    ],
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_told_in_one_line(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    for line, expected, message in MISTAKES[kind]:
        code, said = told(capsys, line)
        assert (code, message in said) == (expected, True), f"{line}\n{code} {said}"
        first, *rest = said.splitlines()
        assert first.startswith("evalkit") and ": error: " in first, line
        assert not rest or (len(rest) == 1 and rest[0].startswith("hint: ")), f"{line}\n{said}"
    assert sorted(folder.rglob("*")) == before


def test_the_nearest_name_is_suggested(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "hint: did you mean base.json?" in told(capsys, "report bse.json")[1]
    assert f"hint: looked in {folder}" in told(capsys, "report other.txt")[1]


def test_every_command_looks_at_its_files_before_it_works() -> None:
    """What an option reads or writes says so by its type, and its command holds it to that."""
    for name in COMMANDS:
        command = cli.cli.get_command(click.Context(cli.cli), name)
        assert command is not None
        files = [p for p in command.params if isinstance(p.type, FileKind)]
        assert not files or type(command).__name__ == "Command", name


def test_a_fault_of_evalkit_does_not_look_like_a_closed_gate(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr("evalkit.report.read", fault)
    code, said = told(capsys, "threshold base.json --far 1e-2")
    assert code == 3
    assert "ZeroDivisionError: broken" in said
    assert said.endswith("please report it with the traceback above\n")
