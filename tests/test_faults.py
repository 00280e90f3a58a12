"""What can go wrong while evalkit works: each fault is made to happen, in a process of its own."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import evalkit
from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import DataError, FeatureStoreError
from evalkit.protocols import all_vs_all, blufr, megaface, trillion, verification
from evalkit.types import Manifest, PairSet, Report
from evalkit.vectors import embeddings
from evalkit.vectors.store import FeatureStore

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(os.name != "posix", reason="signals, limits and mounts of POSIX"),
]

MAIN = "from evalkit.cli import main; main()"
ROOT = str(Path(evalkit.__file__).parents[1])
FULL = (
    "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, resource.RLIM_INFINITY))\n"
)


def command(*given: object, before: str = "") -> list[str]:
    return [sys.executable, "-P", "-c", before + MAIN, *map(str, given)]


def environment(**changed: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    own = {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
    # Under a limit on files Python would keep half a compiled module.
    return {**kept, **own, "PYTHONDONTWRITEBYTECODE": "1", **changed}


def done(*given: object, before: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"env": environment(), "timeout": 120, **options}
    return subprocess.run(command(*given, before=before), capture_output=True, text=True, **options)


def code(process: subprocess.Popen[Any] | subprocess.CompletedProcess[Any]) -> int:
    """Give the exit code as a shell shows it."""
    return 128 - process.returncode if process.returncode < 0 else process.returncode


def litter(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.name.startswith(".evalkit-")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    sys.path.insert(0, str(Path(__file__).parent))
    import small_models

    return small_models.save(tmp_path_factory.mktemp("model") / "m.onnx")


def faces(folder: Path, n: int = 40) -> Path:
    for k in range(n):
        path = folder / f"P{k % 5}" / f"{k:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


FED = ("--preset", "arcface", "--input-size", "8x8")


@pytest.fixture
def inputs(tmp_path: Path, two_reports: tuple[Report, Report]) -> Path:
    """Two reports, a list of pairs with its embeddings, a small MegaFace."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, report in zip(("a", "b"), two_reports, strict=True):
        reports.write(report, folder / f"{name}.json")
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.normal(size=(60, 8)).astype("f4"))
    keys = [f"p{k // 3}/{k}.png" for k in range(60)]
    (folder / "keys.txt").write_text("\n".join(keys))
    lines = [f"{keys[k]} {keys[(k + 1 + 30 * (k % 2)) % 60]} {1 - k % 2}" for k in range(0, 57)]
    (folder / "pairs.txt").write_text("\n".join(lines))
    (folder / "who.txt").write_text("\n".join([k[:2] for k in keys[:30]] + ["-"] * 30))
    (folder / "scores.txt").write_text("\n".join(f"{k % 2} {k % 2 + k * 7 % 19}" for k in range(9)))
    (folder / "P.json").write_text(
        json.dumps({"path": keys[:30], "id": [k[:2] for k in keys[:30]]})
    )
    (folder / "D.json_30_1").write_text(json.dumps({"path": keys[30:]}))
    return folder


def writes(inputs: Path, out: Path) -> dict[str, list[object]]:
    """Every command that writes a file, by name; it writes below `out`."""
    features = ["--features", inputs / "x.npy", "--keys", inputs / "keys.txt"]
    verify = ["verify", inputs / "pairs.txt", *features]
    gate = ["gate", inputs / "a.json", "--baseline", inputs / "b.json"]
    trillion = ["trillion", "--features", inputs / "x.npy", "--subjects", inputs / "who.txt"]
    lists = ["--probe-list", inputs / "P.json", "--distractor-list", inputs / "D.json_30_1"]
    return {
        "out": [*verify, "--out", out / "a.json"],
        "json": [*verify, "--json", out / "a.json"],
        "devkit": ["megaface", *features, *lists, "--devkit-out", out],
        "synth": ["synth", out, "--subjects", 20, "--images", 3, "--distractors", 60, "--dim", 256],
        "junit": [*gate, "--junit", out / "a.xml"],
        "markdown": [*gate, "--markdown", out / "a.md"],
        "accept": ["gate", inputs / "a.json", "--baseline", out / "new.json", "--accept"],
        "page": ["report", inputs / "a.json", "-o", out / "a.html"],
        "plot": ["report", inputs / "a.json", "--plot", out / "roc.png"],
        "import": ["import", inputs / "x.npy", out / "f.h5", "--keys", inputs / "keys.txt"],
        "score": ["score", inputs / "scores.txt", "--out", out / "a.json"],
        "checkpoint": ["megaface", *features, *lists, "--checkpoint", out / "half.npz"],
        "submission": [*trillion, "--submission", out / "s.bin"],
    }


# Matplotlib takes seconds to start, so the ordinary run draws nothing.
WRITES = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("page", "plot") else name
    for name in writes(Path(), Path())
]


def needs(name: str) -> None:
    if name in ("page", "plot"):
        pytest.importorskip("matplotlib")
    if name == "page":
        pytest.importorskip("jinja2")


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 2 MiB, or skip where that is not allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("free", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    inputs: Path, small_disk: Path, name: str, free: int
) -> None:
    needs(name)
    out = small_disk / "out"
    out.mkdir()
    older = out / "a.json"
    alone = name in ("accept", "synth")  # an older file would be taken for what it is not
    if not alone:
        older.write_text('"evalkit-report"')
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as f:
        try:
            while True:
                f.write(bytes(4096))
        except OSError:
            f.truncate(f.tell() - 4096 * free)
    given = writes(inputs, out)[name]
    process = done(*given)
    if free and process.returncode in (0, 1):
        pytest.skip("a page is enough for it")
    assert process.returncode == 3, process.stderr
    assert f"No space left on device: {out}" in process.stderr
    assert "Traceback" not in process.stderr
    if name == "checkpoint" and (kept := out / "half.npz").exists():
        with np.load(kept) as held:  # of a question that was answered while there was room: whole
            assert held["done"].tolist() == [0]
        kept.unlink()
    left = {p.name: p.read_text() for p in out.iterdir()}
    assert alone or left.pop("a.json") == '"evalkit-report"'
    if name != "devkit":  # whose first file may have found room, whole
        assert left == {}
    assert all(json.loads(text) for text in left.values())
    assert litter(out) == []
    filler.unlink()
    assert done(*given).returncode in (0, 1)  # and then it works


@pytest.mark.parametrize("name", WRITES)
def test_a_file_that_may_not_grow_is_one_line_and_leaves_nothing(
    inputs: Path, tmp_path: Path, name: str
) -> None:
    needs(name)
    out = tmp_path / "out"
    out.mkdir()
    process = done(*writes(inputs, out)[name], before=FULL.format(100))
    assert process.returncode == 3, process.stderr
    assert f"File too large: {out}" in process.stderr
    assert "Traceback" not in process.stderr and list(out.iterdir()) == []


def test_embedding_on_a_full_disk(model: Path, tmp_path: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(2044 << 10))
    given = ["embed", "--model", model, *FED, "--data", faces(tmp_path / "faces")]
    process = done(*given, small_disk / "f.h5")
    assert process.returncode == 3
    assert f"No space left on device: {small_disk / 'f.h5'}" in process.stderr
    assert [p.name for p in small_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("given", [["list"], ["score"], ["threshold"]], ids=lambda g: g[0])
def test_a_result_that_finds_no_room_is_one_line(inputs: Path, given: list[object]) -> None:
    """As of `evalkit threshold report.json > file` on a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    given = (
        given
        + {
            "list": [],
            "score": [inputs / "scores.txt"],
            "threshold": [inputs / "a.json", "--far", "1e-2"],
        }[str(given[0])]
    )
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            command(*given), stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )
    assert process.returncode == 3, process.stderr
    assert process.stderr.count("\n") == 1 and "No space left on device" in process.stderr


# Folders that may not be written


def drop_rights() -> None:
    """Let the program that is started next respect permissions, although it is root's."""
    import ctypes

    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(24, 1, 0, 0, 0):  # CAP_DAC_OVERRIDE
        os._exit(77)


@pytest.mark.parametrize("name", WRITES)
def test_a_read_only_folder_is_one_line(inputs: Path, tmp_path: Path, name: str) -> None:
    needs(name)
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    process = done(*writes(inputs, out)[name], preexec_fn=drop_rights)
    if process.returncode == 77:
        pytest.skip("root cannot be kept from writing here")
    assert process.returncode == 3, process.stderr
    assert "Permission denied" in process.stderr and "Traceback" not in process.stderr
    assert list(out.iterdir()) == []


# Signals


@pytest.mark.parametrize(
    ("sent", "told"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_at_any_moment_leaves_nothing_half_written(
    inputs: Path, tmp_path: Path, sent: signal.Signals, told: int
) -> None:
    out, moments, ended = tmp_path / "out", random.Random(1), []
    for n in range(6):
        given = ["synth", out, "--subjects", 500, "--distractors", 60_000, "--dim", 256]
        process = subprocess.Popen(
            command(*given), env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        if n < 4:  # two of six may come while Python starts
            while not out.exists() and process.poll() is None:
                time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.4))
        process.send_signal(sent)
        _, talk = process.communicate(timeout=30)
        ended.append(code(process))
        assert litter(tmp_path) == []
        if n < 4:
            assert b"Traceback" not in talk
        shutil.rmtree(out, ignore_errors=True)
    assert set(ended) <= {0, told} and ended.count(told) >= 3


def test_sigterm_while_embedding_is_resumed(model: Path, tmp_path: Path) -> None:
    slow = "from evalkit.adapters.onnx.model import OnnxModel as M; import time\n"
    slow += "e = M.embed; M.embed = lambda s, x: (time.sleep(0.1), e(s, x))[1]\n"
    given = ["embed", "--model", model, *FED, "--data", faces(tmp_path / "faces"), "--batch", 2]
    process = subprocess.Popen(command(*given, tmp_path / "f.h5", before=slow), env=environment())
    while not (tmp_path / "f.h5").exists():
        time.sleep(0.01)
    time.sleep(0.7)
    process.terminate()
    assert process.wait(30) == 143 and litter(tmp_path) == []
    with FeatureStore.open(tmp_path / "f.h5") as begun:
        assert 0 < len(begun.pending()) < 40
    for name in ("f.h5", "whole.h5"):
        assert done(*given, tmp_path / name).returncode == 0
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


# Two at once


def test_two_processes_on_one_feature_file(model: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    waits = "from evalkit import embedder as e; import os, time\nfill = e._fill\n"
    waits += f"def wait(*a):\n    while not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
    waits += "    fill(*a)\ne._fill = wait\n"
    given = ["embed", "--model", model, *FED, "--data", faces(tmp_path / "faces"), "--batch", 2]
    given.append(tmp_path / "f.h5")
    with subprocess.Popen(
        command(*given, before=waits), env=environment(), stdout=subprocess.DEVNULL
    ) as first:
        while not (tmp_path / "f.h5").exists():
            time.sleep(0.01)
        with subprocess.Popen(
            command(*given), env=environment(), stderr=subprocess.PIPE, text=True
        ) as second:
            told = second.stderr.readline() if second.stderr else ""
            unfinished = done("trillion", "--features", tmp_path / "f.h5")
            go.touch()
            rest = second.stderr.read() if second.stderr else ""
    assert told == "waiting for another evalkit that is making f.h5\n"
    assert second.returncode == 0 and "40 vectors from f.h5, 0 to embed" in rest
    assert unfinished.returncode == 3 and "images are not embedded" in unfinished.stderr
    assert first.returncode == 0


def test_hdf5_of_others_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    writer = "import h5py, sys, time\nf = h5py.File(sys.argv[1], 'w')\nf['keys'] = ['a']\n"
    writer += "f['features'] = [[1.0]]\nf.flush()\nprint(1, flush=True)\ntime.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", writer, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(DataError, match="not a usable HDF5 file"):
            embeddings.read(path)
        process.kill()


def test_an_array_cut_before_it_is_read(inputs: Path) -> None:
    whole = (inputs / "x.npy").read_bytes()
    given = ["verify", inputs / "pairs.txt", "--features", inputs / "x.npy"]
    given += ["--keys", inputs / "keys.txt"]
    for size in (0, 50, len(whole) // 2, len(whole) - 1):
        (inputs / "x.npy").write_bytes(whole[:size])
        process = done(*given)
        assert process.returncode == 3 and "x.npy" in process.stderr, process.stderr
        assert process.stdout == "" and "Traceback" not in process.stderr


def test_an_array_cut_under_its_reader_gives_no_number(inputs: Path) -> None:
    """Nobody checks a mapped file again: the system ends the process before it can print."""
    cut = "from evalkit.protocols import trillion as t; import os\nevaluate = t.evaluate\n"
    cut += f"t.evaluate = lambda *a, **k: (os.truncate({str(inputs / 'x.npy')!r}, 0), "
    cut += "evaluate(*a, **k))[1]\n"
    given = ["trillion", "--features", inputs / "x.npy", "--subjects", inputs / "who.txt"]
    assert done(*given).returncode == 0
    process = done(*given, before=cut)
    assert process.returncode == -signal.SIGBUS and process.stdout == ""


# Memory


def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    given = ["synth", tmp_path / "out", "--subjects", 1, "--images", 2_000_000, "--distractors", 9]
    process = done(*given, before="import resource; resource.setrlimit(9, (3 << 30,) * 2)\n")
    assert process.returncode == 3, process.stderr
    assert "out of memory" in process.stderr and "Traceback" not in process.stderr
    assert litter(tmp_path) == []


# Places and clocks


LOCALES = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "german": {"LC_ALL": "de_DE.UTF-8", "LC_NUMERIC": "de_DE.UTF-8"},
    "turkish": {"LC_ALL": "tr_TR.UTF-8"},
    "clock": {"TZ": "Asia/Kathmandu", "SOURCE_DATE_EPOCH": "0"},
    "encoding": {"PYTHONIOENCODING": "ascii"},
}


@pytest.fixture(scope="module")
def usual(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    """Faces whose names are not ASCII, with the feature file and the report of a usual run."""
    folder = tmp_path_factory.mktemp("usual")
    faces(folder / "faces", 20)
    (folder / "faces" / "P0").rename(folder / "faces" / "Ümit_İçtürk_李")
    keys = sorted(p.relative_to(folder / "faces").as_posix() for p in folder.rglob("*.png"))
    lines = [f"{a}\t{b}\t{int(a[:2] == b[:2])}" for a in keys for b in keys if a < b]
    (folder / "pairs.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "images.txt").write_text("\n".join(f"faces/{k}" for k in keys), encoding="utf-8")
    store, report = both(folder, model, "usual", environment(LC_ALL="C.UTF-8"))
    return folder, store, report


def both(folder: Path, model: Path, name: str, env: dict[str, str]) -> tuple[bytes, bytes]:
    given = ["--model", model, *FED, "--data"]
    for data, path in (("faces", f"{name}.h5"), ("images.txt", f"{name}-list.h5")):
        process = done("embed", *given, folder / data, folder / path, "--batch", 4, env=env)
        assert process.returncode == 0, process.stderr
    # the stored features are read as embeddings, so no clock or path of this run is in the report
    shutil.copy(folder / f"{name}.h5", folder / "f.h5")
    process = subprocess.run(
        command("verify", folder / "pairs.txt", "--features", folder / "f.h5", "--json", "-"),
        capture_output=True,
        env=env,
    )
    assert process.returncode == 0, process.stderr
    table = done("verify", folder / "pairs.txt", "--features", folder / "f.h5", env=env)
    assert table.returncode == 0, table.stderr
    return (folder / f"{name}.h5").read_bytes(), process.stdout


@pytest.mark.parametrize(
    "name", ["ascii", *(pytest.param(n, marks=pytest.mark.slow) for n in list(LOCALES)[1:])]
)
def test_no_bit_depends_on_place_or_clock(
    usual: tuple[Path, bytes, bytes], model: Path, name: str
) -> None:
    folder, store, report = usual
    assert both(folder, model, name, environment(**LOCALES[name])) == (store, report)


def test_a_name_that_is_not_utf8_is_told(model: Path, tmp_path: Path) -> None:
    picture = faces(tmp_path / "faces", 1) / "P0" / "000.png"
    try:
        shutil.copy(picture, os.fsencode(tmp_path / "faces") + b"/\xff.png")
    except OSError:
        pytest.skip("this file system knows only UTF-8 names")
    process = done("embed", "--model", model, *FED, "--data", tmp_path / "faces", tmp_path / "f.h5")
    assert process.returncode == 3 and r"\udcff.png' is not UTF-8" in process.stderr


# Vectors that are none


N, PEOPLE = 48, 12
SUBJECT = np.repeat(np.arange(PEOPLE), N // PEOPLE).astype(np.int32)
WITH_NOBODY = np.where(SUBJECT < 8, SUBJECT, -1)


def people() -> Any:
    rng = np.random.default_rng(4)
    centre = rng.normal(size=(PEOPLE, 8))
    return (centre[SUBJECT] + 0.7 * rng.normal(size=(N, 8))).astype(np.float32)


def _pairs() -> PairSet:
    i, j = np.triu_indices(N, 1)
    return PairSet(i.astype(np.int64), j.astype(np.int64), SUBJECT[i] == SUBJECT[j])


def _blufr(x: Any) -> Report:
    rows = np.arange(N)
    trial = blufr.Trial(rows, rows[::8], np.setdiff1d(rows, rows[::8]))
    return blufr.evaluate(x, SUBJECT, [trial, trial], far="1e-1", fpir="1e-1")


PROTOCOLS: dict[str, Callable[[Any], Report]] = {
    "verification": lambda x: verification.evaluate(x, _pairs(), SUBJECT, fars=("1e-1",)),
    "all_vs_all": lambda x: all_vs_all.evaluate(x, SUBJECT, fars=("1e-1",)),
    "megaface": lambda x: megaface.evaluate(
        x[:32], SUBJECT[:32], {"distractors=16": x[32:]}, fars=("1e-1",)
    ),
    "trillion": lambda x: trillion.evaluate(x, WITH_NOBODY, fars=("1e-1",), fpir="1e-1"),
    "one set": lambda x: trillion.evaluate_one_set(x, SUBJECT, fars=("1e-1",)),
    "blufr": _blufr,
}


@pytest.mark.parametrize("row", [0, 5, 40])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_row_that_is_no_vector_is_never_accepted(name: str, row: int) -> None:
    evaluate, x = PROTOCOLS[name], people()
    whole, found = evaluate(x), []
    for bad in (np.nan, np.inf, -np.inf):
        y = x.copy()
        y[row, 3] = bad
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found.append(evaluate(y))
    assert found[0].metrics == found[1].metrics == found[2].metrics
    assert found[0].failures.images == 1
    for metric, m in found[0].metrics.items():
        assert m.value is None or np.isfinite(m.value)
        if metric.startswith("tpr@") and m.far is not None:
            assert m.far <= 0.1
        if metric.startswith(("tpr@", "vr@")) and whole.metrics[metric].n:
            assert m.n == whole.metrics[metric].n  # it still counts, as a miss


@pytest.mark.parametrize("name", PROTOCOLS)
def test_zero_and_huge_vectors_give_finite_numbers(name: str) -> None:
    for value in (0.0, 3e38, 1e-45):
        x = people()
        x[[0, 33]] = value
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = PROTOCOLS[name](x)
        for m in report.metrics.values():
            assert m.value is None or 0 <= m.value <= 1
            assert m.threshold is None or np.isfinite(m.threshold)


@pytest.mark.parametrize("flip", ["none", "sum", "concat"])
def test_doubles_beyond_float32_are_no_vectors(flip: Any) -> None:
    x = people().astype(np.float64)
    x[5, 3] = 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        views = np.stack([x, x], axis=1)
        report = verification.evaluate(views, _pairs(), SUBJECT, fars=("1e-1",), flip=flip)
    assert report.failures.images == 1


# Damage


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_report_that_is_cut_is_told(inputs: Path, share: float) -> None:
    for name in ("a.json", "a.npz"):
        whole = (inputs / name).read_bytes()
        (inputs / name).write_bytes(whole[: int(len(whole) * share)])
        assert run(["gate", str(inputs / "a.json"), "--baseline", str(inputs / "b.json")]) == 3
        (inputs / name).write_bytes(whole)


def test_the_outcomes_of_another_report_are_told(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(inputs / "b.npz", inputs / "a.npz")
    assert run(["report", str(inputs / "a.json")]) == 3
    assert "is not the outcomes of the report beside it" in capsys.readouterr().err


def test_a_store_damaged_while_it_is_written_is_told_at_the_next_start(tmp_path: Path) -> None:
    manifest = Manifest(("a", "b"), np.array([0, 1], np.int32))
    with FeatureStore.create(tmp_path / "f.h5", manifest, dim=4, key={}) as store:
        store.write(np.array([0]), np.ones((1, 1, 4), np.float32))
        with h5py.File(tmp_path / "f.h5", "r+", locking=False) as f:
            f["features"][0, 0, 2] = 7
    with pytest.raises(FeatureStoreError, match=r"the features of a \(row 0\) differ"):
        FeatureStore.open(tmp_path / "f.h5", write=True)
