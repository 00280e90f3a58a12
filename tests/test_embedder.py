"""From images to a feature file: every image once, failures counted, interruptions resumed."""

import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evalkit import images
from evalkit.cli import run
from evalkit.embedding import batch_size, embedder
from evalkit.errors import DataError, FeatureStoreError, ModelError
from evalkit.types import InputSpec
from evalkit.vectors.store import FeatureStore

SPEC = InputSpec(size=(8, 8), color="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)


class Sums:
    """An adapter that needs no runtime: the sums of the channels, left and right."""

    runtime = "numpy"

    def __init__(self, most: int = 100) -> None:
        self.spec, self.dim, self.fingerprint = SPEC, 6, "sums"
        self.most, self.batches = most, list[int]()

    def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(x) > self.most:
            raise MemoryError(f"{len(x)} images")
        self.batches.append(len(x))
        halves = [x[:, :, :4], x[:, :, 4:]]
        return np.concatenate([h.sum((1, 2)) for h in halves], axis=1).astype(np.float32)


# Passes before a run begins: the four fixed images, twice and one of them alone; then what the
# batch changes: all together, and two alone.
BEFORE = 3 + 3


def picture(k: int) -> bytes:
    pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Thirty images of six people in a folder."""
    for k in range(30):
        path = tmp_path / "faces" / f"P{k % 6}" / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(k))
    return tmp_path / "faces"


def embedded(folder: Path, path: Path, adapter: Sums | None = None, **options: int) -> FeatureStore:
    source = images.find(folder)
    return embedder.embed(adapter or Sums(), source, source.manifest(), path, **options)


def test_each_row_is_its_image(faces: Path, tmp_path: Path) -> None:
    store = embedded(faces, tmp_path / "f.h5", views=2)
    source = images.find(faces)
    for r, key in enumerate(store.manifest.keys):
        pixels = source.read(source.keys.index(key))
        np.testing.assert_array_equal(store.features[r, 0], Sums().embed(pixels[None])[0])
        np.testing.assert_array_equal(store.features[r, 1], Sums().embed(pixels[None, :, ::-1])[0])


@pytest.mark.parametrize("batch", [1, 7, 30, 1000])
def test_the_batch_does_not_matter(faces: Path, tmp_path: Path, batch: int) -> None:
    a = embedded(faces, tmp_path / "a.h5", batch=batch, workers=1)
    b = embedded(faces, tmp_path / "b.h5")
    np.testing.assert_array_equal(a.features, b.features)


def test_memory_that_runs_out_halves_the_batch(faces: Path, tmp_path: Path) -> None:
    small = Sums(most=5)
    store = embedded(faces, tmp_path / "f.h5", small, batch=16)
    assert max(small.batches) <= 5
    np.testing.assert_array_equal(store.features, embedded(faces, tmp_path / "g.h5").features)
    with pytest.raises(ModelError, match="one image does not fit"):
        embedded(faces, tmp_path / "h.h5", Sums(most=0))


def test_a_second_run_embeds_nothing(faces: Path, tmp_path: Path) -> None:
    embedded(faces, tmp_path / "f.h5")
    idle = Sums()
    assert len(embedded(faces, tmp_path / "f.h5", idle).features) == 30
    assert idle.batches == [4]  # the fixed images


def test_an_interrupted_run_goes_on(faces: Path, tmp_path: Path) -> None:
    class Stops(Sums):
        def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
            if len(self.batches) == 3 + BEFORE:
                raise KeyboardInterrupt
            return super().embed(x)

    with pytest.raises(KeyboardInterrupt):
        embedded(faces, tmp_path / "f.h5", Stops(), batch=4)
    with FeatureStore.open(tmp_path / "f.h5") as begun:
        assert len(begun.pending()) == 30 - 12
    rest = Sums()
    store = embedded(faces, tmp_path / "f.h5", rest, batch=4)
    assert sum(rest.batches) == 4 + 18
    np.testing.assert_array_equal(store.features, embedded(faces, tmp_path / "g.h5").features)


def test_an_unreadable_image_is_a_counted_failure(faces: Path, tmp_path: Path) -> None:
    cut = faces / "P0" / "00.png"
    cut.write_bytes(cut.read_bytes()[:60])
    store = embedded(faces, tmp_path / "f.h5")
    assert store.failed.sum() == 1 and store.reasons() == {"P0/00.png": "the image cannot be read"}
    assert np.isnan(store.features[store.failed]).all()


def test_an_image_of_another_size_is_refused_and_nothing_left(faces: Path, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(faces / "P0" / "00.png")
    with pytest.raises(DataError, match=r"P0/00.png is 16x16, the model expects 8x8"):
        embedded(faces, tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()


def test_the_batch_is_found_and_kept_for_the_next_run(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    class Slow(Sums):
        def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
            clock[0] += 0.001 + 0.004 * max(0, len(x) - 8)  # no faster a picture beyond 8
            return super().embed(x)

    assert embedder.best_batch(Slow()) == 8
    assert embedder.best_batch(Slow(most=4)) == 4

    class Heavy(Sums):
        def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
            clock[0] += 0.06 + 0.12 * len(x)  # 0.54 s for 4 pictures, 1.98 s for 16
            return super().embed(x)

    assert embedder.best_batch(Heavy()) == 16
    assert embedder.best_batch(Heavy(), pictures=1000) == 4
    fixed = Sums()
    fixed.batch = 5  # type: ignore[attr-defined]
    assert embedder.best_batch(fixed) % 5 == 0
    store = embedded(faces, tmp_path / "f.h5", Slow())
    assert store.provenance == {"batch difference": 0.0}


def test_what_a_batch_changes_is_measured() -> None:
    class Drifts(Sums):
        def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
            return super().embed(x) * np.float32(1 + 0.001 * (len(x) - 1))

    assert embedder.batch_difference(Sums(), 8) == 0.0
    assert embedder.batch_difference(Drifts(), 3) == pytest.approx(0.002, rel=1e-3)
    assert embedder.batch_difference(Sums(most=4), 8) is None


def test_an_interrupted_run_meets_the_same_batches(faces: Path, tmp_path: Path) -> None:
    class Neighbours(Sums):
        """What no adapter should do, so that another batch would show."""

        def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
            if self.most == 99 and len(self.batches) == 3 + BEFORE:
                raise KeyboardInterrupt
            return super().embed(x) * np.float32(1 + len(x) / 100)

    whole = embedded(faces, tmp_path / "w.h5", Neighbours(), batch=8, views=2)
    with pytest.raises(KeyboardInterrupt):
        embedded(faces, tmp_path / "f.h5", Neighbours(99), batch=8, views=2)
    resumed = embedded(faces, tmp_path / "f.h5", Neighbours(), views=2)
    np.testing.assert_array_equal(resumed.features, whole.features)


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    alive, most = set[int](), 0

    def fetch(row: int) -> bytes:
        nonlocal most
        alive.add(row)
        most = max(most, len(alive))
        return PICTURE

    class Counts(Sums):
        def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
            time.sleep(0.001)  # slower than the readers, who would otherwise run away
            return super().embed(x)

    def done(n: int, _: int) -> None:
        alive.difference_update(range(n))

    source = images.encoded([f"{k}" for k in range(2000)], fetch)
    where = tmp_path / "f.h5"
    embedder.embed(Counts(), source, source.manifest(), where, batch=10, workers=2, progress=done)
    assert most <= 10 * 8


PICTURE = picture(0)


def test_another_models_features_are_refused(faces: Path, tmp_path: Path) -> None:
    embedded(faces, tmp_path / "f.h5")
    other = Sums()
    other.fingerprint = "others"
    with pytest.raises(FeatureStoreError, match="holds other features: model sums, not others"):
        embedded(faces, tmp_path / "f.h5", other)


# What follows runs the command on a real ONNX model, as a user would.


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    sys.path.insert(0, str(Path(__file__).parent))
    import small_models

    return small_models.save(tmp_path / "m.onnx")


FED = ["--preset", "arcface", "--input-size", "8x8"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run([str(a) for a in arguments]) == 3
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) <= 2
    return captured.err


def test_the_command_embeds_a_zip(
    faces: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for path in faces.rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path))
    given = ["embed", "--model", model, *FED, tmp_path / "f.h5", "--data"]
    assert run([str(a) for a in [*given, tmp_path / "faces.zip"]]) == 0
    assert "30 images, 1 x 4, 0 failed" in capsys.readouterr().out
    assert run([str(a) for a in [*given, faces]]) == 0  # other names, the same bytes
    assert "30 vectors from f.h5, 0 to embed" in capsys.readouterr().err


def test_bad_input_is_one_line_and_leaves_nothing(
    faces: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    start = ["embed", tmp_path / "f.h5", *FED]
    assert "not a usable ONNX model" in refused(capsys, *start, "--model", text, "--data", faces)
    assert "no images in" in refused(capsys, *start, "--model", model, "--data", tmp_path / "empty")
    unlike = ["embed", tmp_path / "f.h5", "--preset", "arcface", "--model", model, "--data", faces]
    assert "is to be fed" in refused(capsys, *unlike)
    lfw = ["lfw", *FED, "--model", model, "--data", faces]
    assert "images are missing for 7701 of 7701" in refused(capsys, *lfw)
    assert sorted(tmp_path.rglob("*")) == before


def test_failed_images_are_named_and_no_vector_at_all_is_an_error(
    faces: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(faces.rglob("*.png"))
    given = ["embed", "--model", model, *FED, "--data", faces]
    for path in files[:7]:
        path.write_bytes(b"no image")
    assert run([str(a) for a in [*given, tmp_path / "some.h5"]]) == 0
    captured = capsys.readouterr()
    assert "30 images, 1 x 4, 7 failed" in captured.out
    *named, more = captured.err.splitlines()
    assert len(named) == 5 and named[0] == "P0/00.png cannot be read: not an image file"
    assert more == "2 more like these"
    for path in files:
        path.write_bytes(b"no image")
    assert run([str(a) for a in [*given, tmp_path / "none.h5"]]) == 3
    assert "not one of 30 images has a vector" in capsys.readouterr().err


def test_an_insightface_bin_set_goes_through(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    pairs = [(k, k) if k % 2 else (k, k + 1) for k in range(40)]
    items = [picture(k) for pair in pairs for k in pair]
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps((items, [a == b for a, b in pairs])))
    given = ["lfw", "--model", model, *FED, "--data", path, "--json", "-"]
    assert run([str(a) for a in given]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["metrics"]["auc"]["value"] == 1.0  # an image is nearest to itself
    assert report["metrics"]["accuracy"]["n"] == 40
    path.write_bytes(pickle.dumps((items[:4], [False, True])))
    assert "holds 1 genuine and 1 impostor pairs" in refused(capsys, *given)


def test_two_processes_make_the_file_of_one(
    faces: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["embed", "--model", model, *FED, "--data", faces, "--batch", 4, "--views", 2]
    for name, devices in (("one.h5", "cpu"), ("two.h5", "cpu,cpu")):
        assert run([*map(str, given), str(tmp_path / name), "--device", devices]) == 0
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    capsys.readouterr()
    gpu = [*given, tmp_path / "f.h5", "--device"]
    assert "cuda: asked for cuda, " in refused(capsys, *gpu, "cpu,cuda")
    assert run([*map(str, gpu), "cpu,gpu"]) == 2
    assert not (tmp_path / "f.h5").exists()


def test_a_process_that_dies_is_told(model: Path) -> None:
    from evalkit import adapters

    spec = InputSpec(size=(8, 8), color="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)
    two = adapters.load(str(model), spec=spec, device="cpu,cpu")
    lane = two._idle.get()  # type: ignore[attr-defined]
    lane[0].kill()
    two._idle.queue.clear()  # type: ignore[attr-defined]
    two._idle.put(lane)  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="the process on cpu ended with -9"):
        two.embed(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_after_twenty_kills_the_file_is_that_of_an_unbroken_run(
    faces: Path, model: Path, tmp_path: Path
) -> None:
    for k in range(30, 400):
        (faces / "P0" / f"{k:03d}.png").write_bytes(picture(k))
    slow = "from evalkit.adapters.onnx.model import OnnxModel as M; import time\n"
    slow += "e = M.embed; M.embed = lambda s, x: (time.sleep(0.05), e(s, x))[1]\n"
    slow += "from evalkit.cli import main; main()"
    given = ["embed", "--model", model, *FED, "--data", faces, "--batch", 2, "--views", 2]
    killed = tmp_path / "killed.h5"

    def pending() -> int:
        with FeatureStore.open(killed) as begun:
            return len(begun.pending())

    moments, left = random.Random(7), 400
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", slow, *map(str, given), str(killed)]
        )
        while process.poll() is None and (not killed.exists() or pending() == left):
            time.sleep(0.01)  # until this run has written rows of its own
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        assert process.wait() == -signal.SIGKILL  # it was still at work
        assert 0 < pending() < left
        left = pending()
    for name in ("killed.h5", "whole.h5"):
        assert run([*map(str, given), str(tmp_path / name)]) == 0
    assert killed.read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_a_kill_at_any_moment_from_the_start_leaves_nothing_wrong(
    faces: Path, model: Path, tmp_path: Path
) -> None:
    given = ["embed", "--model", model, *FED, "--data", faces, "--batch", 2]
    assert run([*map(str, given), str(tmp_path / "whole.h5")]) == 0
    moments = random.Random(8)
    for k in range(20):
        path = tmp_path / f"{k}.h5"
        command = [sys.executable, "-P", "-m", "evalkit", *map(str, given), str(path)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(0, 2))
        process.kill()
        process.wait()
        assert run([*map(str, given), str(path)]) == 0
        assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name != "posix", reason="needs signals")
def test_ctrl_c_exits_with_130_and_resumes(faces: Path, model: Path, tmp_path: Path) -> None:
    slow = "from evalkit.adapters.onnx.model import OnnxModel as M; import time\n"
    slow += "e = M.embed; M.embed = lambda s, x: (time.sleep(0.1), e(s, x))[1]\n"
    slow += "from evalkit.cli import main; main()"
    arguments = ["embed", "--model", model, *FED, "--data", faces, tmp_path / "f.h5", "--batch", 1]
    process = subprocess.Popen([sys.executable, "-P", "-c", slow, *map(str, arguments)])
    while not (tmp_path / "f.h5").exists():
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    with FeatureStore.open(tmp_path / "f.h5") as begun:
        assert 0 < len(begun.pending()) < 30
    assert run([str(a) for a in arguments]) == 0


def test_a_full_disk_is_one_line_and_leaves_nothing(faces: Path, model: Path) -> None:
    disk = Path("/dev/full")
    if not disk.exists():
        pytest.skip("no /dev/full here")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))\n"
        "from evalkit.cli import main; main()"
    )
    target = model.parent / "f.h5"
    given = ["embed", "--model", model, *FED, "--data", faces, target]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, given)], capture_output=True, text=True
    )
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_FSIZE)
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.splitlines()) <= 2 and "File too large" in done.stderr
    assert not list(model.parent.glob("f.h5*"))


@pytest.mark.parametrize("fixed", [1, 8, 32])
def test_a_fixed_batch_is_kept_to_exactly(faces: Path, tmp_path: Path, fixed: int) -> None:
    class Fixed(Sums):
        batch = fixed

        def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
            if len(x) != fixed:
                raise ValueError(f"fed {len(x)}")
            return super().embed(x)

    store = embedded(faces, tmp_path / "fixed.h5", Fixed(), views=2)
    plain = embedded(faces, tmp_path / "plain.h5", views=2)
    np.testing.assert_array_equal(store.features, plain.features)


def test_a_model_that_finds_no_face_in_noise_has_no_batch_difference() -> None:
    class Picky(Sums):
        def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.full((len(x), self.dim), np.nan, np.float32)

    assert batch_size.batch_difference(Picky(), 4) is None


def test_an_error_inside_an_adapter_names_it(faces: Path, tmp_path: Path) -> None:
    class Broken(Sums):
        def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise ConnectionError("refused")

    with pytest.raises(ModelError, match=r"Broken failed on 4 images: ConnectionError: refused"):
        embedded(faces, tmp_path / "f.h5", Broken())
