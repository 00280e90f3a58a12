"""Long life: memory and descriptors stay flat however long evalkit runs.  `tox -e soak`.

EVALKIT_SOAK_PAIRS, EVALKIT_SOAK_IMAGES and EVALKIT_SOAK_RUNS set the sizes, EVALKIT_SOAK_OUT a
folder for the curves.
"""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit import images
from evalkit.embedding import embedder
from evalkit.protocols import allpairs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc"),
]
PAIRS = int(float(os.environ.get("EVALKIT_SOAK_PAIRS", "1e10")))
IMAGES = int(float(os.environ.get("EVALKIT_SOAK_IMAGES", "1e5")))
RUNS = int(float(os.environ.get("EVALKIT_SOAK_RUNS", "1000")))
MIB = 1 << 20


def resident() -> float:
    """Memory of this process that no file backs, MiB: mapped features come and go as they like."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Curve:
    """(seconds, MiB, descriptors) through a run."""

    def __init__(self, name: str) -> None:
        self.name, self.points = name, list[tuple[float, float, int]]()
        self.start = time.monotonic()

    def look(self) -> None:
        self.points.append((time.monotonic() - self.start, resident(), descriptors()))

    def keep(self) -> str:
        lines = [f"{t:.1f},{m:.1f},{d}" for t, m, d in self.points]
        folder = os.environ.get("EVALKIT_SOAK_OUT")
        if folder:
            (Path(folder) / f"{self.name}.csv").write_text(
                "\n".join(["seconds,mib,descriptors", *lines]) + "\n"
            )
        memory = [m for _, m, _ in self.points]
        half = memory[len(memory) // 4 :]
        told = f"{self.name}: {self.points[-1][0]:.0f} s, {len(memory)} looks, after the first "
        return (
            f"{told}quarter {min(half):.0f}..{max(half):.0f} MiB, {self.points[-1][2]} descriptors"
        )

    def flat(self, mib: float) -> None:
        """Assert that the last quarter's peak is not `mib` above that of the second quarter.

        The last look's descriptors are no more than the most of that quarter: files come and go.
        """
        memory = [m for _, m, _ in self.points]
        q = len(memory) // 4
        assert q >= 2, "the run was too short to say"
        assert max(memory[-q:]) <= max(memory[q : 2 * q]) + mib, self.keep()
        opened = [d for _, _, d in self.points]
        assert opened[-1] <= max(opened[q : 2 * q]), self.keep()


@contextmanager
def looked_at(name: str, seconds: float = 0.2) -> Iterator[Curve]:
    curve, over = Curve(name), threading.Event()

    def look() -> None:
        while not over.wait(seconds):
            curve.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield curve
    finally:
        over.set()
        thread.join()
        print("\n" + curve.keep(), file=sys.stderr)


def test_a_growing_process_is_noticed() -> None:
    held = []
    with looked_at("growing", 0.02) as curve:
        for _ in range(60):
            held.append(np.ones(MIB // 8))
            time.sleep(0.02)
    with pytest.raises(AssertionError, match="growing"):
        curve.flat(8)


def test_all_pairs_in_bounded_memory(tmp_path: Path) -> None:
    rows, dim = int(PAIRS**0.5) + 1, 64
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (rows, dim))
    rng = np.random.default_rng(0)
    for o in range(0, rows, 8192):
        block = rng.standard_normal((len(x[o : o + 8192]), dim), np.float32)
        x[o : o + 8192] = block / np.linalg.norm(block, axis=1, keepdims=True)
    x.flush()
    held = np.load(tmp_path / "x.npy", mmap_mode="r")
    subject = np.arange(rows, dtype=np.int32) // 2
    with looked_at("all-pairs") as curve:
        engine = allpairs.Engine(memory=256 * MIB)
        fars = ("1e-3", "1e-6")
        found = allpairs.verify(held, subject, held, subject, fars=fars, engine=engine)
    assert found.n_genuine + found.n_impostor == rows**2 >= PAIRS
    curve.flat(256)  # pairs around a rank are kept and settled, within what was allowed


def test_many_images_embedded(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    sys.path.insert(0, str(Path(__file__).parent))
    import small_models

    from evalkit import adapters
    from evalkit.adapters import presets

    pictures = []
    for k in range(100):
        out = io.BytesIO()
        pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(out, "JPEG")
        path = tmp_path / f"{k}.jpg"
        path.write_bytes(out.getvalue())
        pictures.append(path)
    path = small_models.save(tmp_path / "m.onnx")
    adapter = adapters.load(str(path), spec=presets.resolve(str(path), "arcface", size=(8, 8)))
    keys = [f"{k // 100}/{k}.jpg" for k in range(IMAGES)]
    source = images.encoded(keys, lambda row: pictures[row % 100].read_bytes())
    with looked_at("embedding") as curve:
        store = embedder.embed(adapter, source, source.manifest(), tmp_path / "f.h5", workers=2)
    assert len(store.features) == IMAGES and not store.failed.any()
    np.testing.assert_array_equal(store.features[:100], store.features[-100:])
    curve.flat(32)


def test_many_runs_of_the_command(tmp_path: Path) -> None:
    """Each is a process; one in ten is refused.  Nothing is left, no answer differs."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(60, 8)).astype("f4"))
    keys = [f"p{k // 3}/{k}.png" for k in range(60)]
    (tmp_path / "keys.txt").write_text("\n".join(keys))
    lines = [f"{keys[k]} {keys[(k + 1 + 30 * (k % 2)) % 60]} {1 - k % 2}" for k in range(57)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    given = [
        "verify",
        "pairs.txt",
        "--features",
        "x.npy",
        "--keys",
        "keys.txt",
        "--json",
        "out.json",
    ]
    answers, codes, before = set[bytes](), list[int](), None
    for n in range(RUNS):
        more = ["--far", "nonsense"] if n % 10 == 9 else []
        command = [sys.executable, "-P", "-m", "evalkit", *given, *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True)
        codes.append(done.returncode)
        answers.add((tmp_path / "out.json").read_bytes())
        before = before or sorted(tmp_path.rglob("*"))
        if n % 100 == 0:
            assert sorted(tmp_path.rglob("*")) == before
    assert len(answers) == 1
    assert codes == [3 if n % 10 == 9 else 0 for n in range(RUNS)]
