"""What a command reads, it does not write; nor two results into one file."""

from pathlib import Path

import numpy as np
import pytest

from evalkit import report as reports
from evalkit.cli import run
from evalkit.types import Estimate, Report

pytestmark = pytest.mark.once


def keep(name: str, outcomes: bool = True) -> None:
    report = Report(
        protocol="score",
        protocol_version=1,
        metrics={"auc": Estimate(value=0.5, n=4)},
        outcomes={"score": np.arange(4.0)} if outcomes else None,
    )
    reports.write(report, Path(name))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("base.json", "new.json"):
        keep(name)
    keep("none.json", outcomes=False)
    Path("faces").mkdir()
    Path("faces/link").symlink_to("../base.json")
    Path("hard.json").hardlink_to("base.json")
    Path("outcomes").symlink_to("base.npz")
    np.save("x.npy", np.eye(4, dtype=np.float32))
    Path("keys.txt").write_text("a\nb\nc\nd\n")
    Path("scores.txt").write_text("1 .9\n0 .1\n1 .8\n0 .2\n")
    Path("rules.toml").write_text("")
    for name in ("m.onnx", "m.evalkit.toml", "m.onnx.data", "net.py", "w.pt", "points.csv"):
        Path(name).write_text("x")
    return tmp_path


GATE = "gate new.json --baseline base.json"
TRILLION = "trillion --features x.npy --subjects keys.txt"
LFW = "lfw --features x.npy --keys keys.txt"
CLASHES = [
    ("gate none.json --baseline base.json --junit base.json", "--junit --baseline"),
    (f"{GATE} --junit base.npz", "--junit --baseline"),
    (f"{GATE} --markdown new.npz", "--markdown REPORT"),
    (f"{GATE} --markdown ./faces/../new.json", "--markdown REPORT"),
    (f"{GATE} --rules rules.toml --junit rules.toml", "--junit --rules"),
    (f"{GATE} --junit hard.json", "--junit --baseline"),
    (f"{GATE} --junit outcomes", "--junit --baseline"),
    (f"{GATE} --junit faces/link", "--junit --baseline"),
    (f"{GATE} --junit v.xml --markdown v.xml", "--junit --markdown"),
    (f"{GATE} --junit v.xml --markdown faces/../V.XML", "--junit --markdown"),
    ("gate base.json --baseline hard.json --accept", "--baseline REPORT"),
    ("gate base.json --baseline base.other --accept", "--baseline REPORT"),
    ("compare base.json new.json --json new.npz", "--json OTHER"),
    ("compare base.json new.json --json base.json", "--json BASE"),
    ("threshold base.json --far 1e-1 --json base.npz", "--json REPORT"),
    ("report base.json -o base.html --plot base.npz", "--plot REPORT"),
    ("report base.json --data faces --plot faces/roc.png", "--plot --data"),
    (f"{LFW} --gate base.json --out base.json", "--out --gate"),
    (f"{LFW} --gate base.json --json base.npz", "--json --gate"),
    (f"{LFW} --out r.json --json r.json", "--out --json"),
    (f"{LFW} --out r.json --json r.npz", "--out --json"),
    (f"{LFW} --json keys.txt", "--json --keys"),
    (f"{LFW} --pairs scores.txt --json scores.txt", "--json --pairs"),
    ("score scores.txt --json scores.txt", "--json SCORES"),
    ("lfw --model m.onnx --json m.onnx", "--json --model"),
    ("lfw --model m.onnx --json m.evalkit.toml", "--json --model"),
    ("lfw --model m.onnx --json m.onnx.data", "--json --model"),
    ("lfw --model net:make --json net.py", "--json --model"),
    ("lfw --model net:make --weights w.pt --json w.pt", "--json --weights"),
    ("lfw --model m.onnx --landmarks points.csv --json points.csv", "--json --landmarks"),
    ("lfw --model m.onnx --data faces --json faces", "--json --data"),
    (f"{TRILLION} --submission x.npy", "--submission --features"),
    (f"{TRILLION} --checkpoint keys.txt", "--checkpoint --subjects"),
    (f"{TRILLION} --expect base.json --out base.json", "--out --expect"),
    ("import x.npy keys.txt --keys keys.txt", "FEATURES --keys"),
    ("embed m.onnx --model m.onnx --data faces", "FEATURES --model"),
]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("line", "options"), CLASHES, ids=[line for line, _ in CLASHES])
def test_what_is_read_is_not_written(
    folder: Path, line: str, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(folder)
    assert run(line.split()) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 2
    assert all(name in said.err for name in options.split()), said.err
    assert "would be written" in said.err or "is what" in said.err
    assert tree(folder) == before


@pytest.mark.parametrize(
    "line",
    [
        f"{GATE} --junit v.xml --markdown v.md",
        "gate new.json --baseline base.json --accept",
        "gate new.json --baseline first.json --accept",
        "score scores.txt --json faces/s.json",
        "compare base.json new.json --json faces/c.json",
    ],
)
def test_what_is_no_clash(folder: Path, line: str) -> None:
    assert run(line.split()) != 2


def test_one_device_takes_several_results(folder: Path, null: Path) -> None:
    assert run([*GATE.split(), "--junit", str(null), "--markdown", str(null)]) != 2
    assert null.is_char_device()
