"""SIGINT and SIGTERM end a command within seconds, whatever it waits for."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evalkit
from evalkit.vectors.store import FeatureStore

pytestmark = [pytest.mark.once, pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")]

ROOT = Path(evalkit.__file__).parents[1]
SENT = pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)

# Each writes the number of its process before it waits; models wait at the first white image.
PLUGIN = """
import ctypes, os, pathlib, sys, time
import numpy as np
from evalkit.types import InputSpec

def ready():
    pathlib.Path("ready").write_text(str(os.getpid()))

class Model:
    def __init__(self, wait):
        self.spec, self.dim, self.fingerprint, self.wait = SPEC, 2, "m", wait
    def embed(self, images):
        x = images.reshape(len(images), -1)[:, :2].astype(np.float32)
        if (images == 255).all(axis=(1, 2, 3)).any():
            ready()
            self.wait()
        return x

SPEC = InputSpec(size=(8, 8), color="rgb", mean=(0, 0, 0), std=(1, 1, 1), layout="nchw", crop="x")

def sleep():
    time.sleep(10_000)

def spin():
    while True:
        pass

def c_code():
    ctypes.CDLL(None).pause()

def stubborn():
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass

def sleeping(): return Model(sleep)
def spinning(): return Model(spin)
def in_c(): return Model(c_code)
def never_loaded():
    ready()
    stubborn()
def loaded_in_c():
    ready()
    while True:
        c_code()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    for k in range(12):
        path = tmp_path / "faces" / f"P{k % 3}" / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((8, 8, 3), 255 if k >= 8 else 9 * k, np.uint8)
        Image.fromarray(image).save(path)
    (tmp_path / "list.txt").write_text("".join(f"faces/P{k % 3}/{k:02d}.png\n" for k in range(12)))
    return tmp_path


def start(
    folder: Path, model: str, *given: str, before: str = "from evalkit.cli import main; main()"
) -> subprocess.Popen[str]:
    call = ["embed", "f.h5", "--data", "list.txt"]
    if ":" not in model:  # a factory's model brings its own
        call += ["--preset", "arcface", "--input-size", "8x8"]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", before, *call, "--trust-model", "--model", model, *given],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    time.sleep(0.2)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait no longer than a user would: exit code, and what was said."""
    try:
        _, talk = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, talk


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("sleeping", signal.SIGINT),
        ("spinning", signal.SIGTERM),
        ("in_c", signal.SIGINT),
        ("never_loaded", signal.SIGTERM),
        ("loaded_in_c", signal.SIGINT),
    ],
)
def test_a_plug_in_that_never_returns(folder: Path, model: str, sent: signal.Signals) -> None:
    code = 128 + sent
    patience = "" if model == "sleeping" else "signals._PATIENCE_S = 1; "  # else 5 s
    before = f"from evalkit.cli import signals, main; {patience}main()"
    process = start(folder, f"plugin:{model}", "--batch", "4", before=before)
    wait_for(folder / "ready", process)
    process.send_signal(sent)
    returned, talk = ended(process)
    assert returned == code and "Traceback" not in talk


def test_what_was_made_before_is_kept(folder: Path) -> None:
    process = start(folder, "plugin:sleeping", "--batch", "4")
    wait_for(folder / "ready", process)
    process.terminate()
    assert ended(process)[0] == 143
    with FeatureStore.open(folder / "f.h5") as begun:
        assert begun.pending().tolist() == [8, 9, 10, 11]


@SENT
def test_a_second_signal_ends_at_once(folder: Path, sent: signal.Signals, code: int) -> None:
    before = "from evalkit.cli import signals, main; signals._PATIENCE_S = 10_000; main()"
    process = start(folder, "plugin:sleeping", "--batch", "4", before=before)
    wait_for(folder / "ready", process)
    process.send_signal(sent)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(sent)
    assert ended(process)[0] == code


@SENT
def test_onnx_runtime_is_told_to_stop(folder: Path, sent: signal.Signals, code: int) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    sys.path.insert(0, str(Path(__file__).parent))
    import small_models

    model = small_models.save_endless(folder / "m.onnx")
    before = "from evalkit.cli import signals, main; signals._PATIENCE_S = 10_000; main()"
    raw = ("--mean", "0", "--std", "1", "--batch", "4")
    process = start(folder, str(model), *raw, before=before)
    wait_for(folder / "f.h5", process)
    time.sleep(1)
    process.send_signal(sent)
    returned, talk = ended(process)
    assert returned == code and "Traceback" not in talk


@SENT
def test_the_process_of_a_device_never_outlives_the_first(
    folder: Path, sent: signal.Signals, code: int
) -> None:
    process = start(folder, "plugin:sleeping", "--batch", "4", "--device", "cpu,cpu")
    wait_for(folder / "ready", process)
    process.send_signal(sent)
    assert ended(process)[0] == code
    gone(int((folder / "ready").read_text()))


def test_the_process_of_a_device_ends_where_the_first_is_killed(folder: Path) -> None:
    process = start(folder, "plugin:sleeping", "--batch", "4", "--device", "cpu,cpu")
    wait_for(folder / "ready", process)
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL
    gone(int((folder / "ready").read_text()))


def gone(number: int) -> None:
    """Wait until a process has ended."""
    for _ in range(600):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{number}/stat").exists():  # ended, and nobody has asked how
            with suppress(OSError):
                if Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return
        time.sleep(0.1)
    os.kill(number, signal.SIGKILL)
    pytest.fail("it still runs")
