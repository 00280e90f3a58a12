"""A vector belongs to the bytes of an image: what is embedded again, and what never is."""

import time
from pathlib import Path

import mutations
import numpy as np
import pytest
from PIL import Image

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import FeatureStoreError, ModelError
from evalkit.images import digests
from evalkit.vectors.store import FeatureStore

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "time", digests.time)  # put back what a change replaces
    return tmp_path / "cache"


@pytest.mark.parametrize("change", mutations.CHANGES)
def test_what_changed_is_embedded_again_and_nothing_else(change: str, tmp_path: Path) -> None:
    must, was = mutations.embedded_again(change, tmp_path)
    assert was == must


def test_one_file_follows_its_folder(tmp_path: Path) -> None:
    w = mutations.World(tmp_path, path=tmp_path / "f.h5")
    w.run()
    w.put("P9/new.bmp", 99)
    (w.data / "P0" / "0.bmp").unlink()
    store = w.run()
    assert (len(store.done), store.reused) == (12, 11)
    w.path = tmp_path / "g.h5"
    fresh = w.run()
    assert np.array_equal(store.features, fresh.features)
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "g.h5").read_bytes()


def test_a_file_of_another_model_is_refused_and_stays(tmp_path: Path) -> None:
    w = mutations.World(tmp_path, path=tmp_path / "f.h5")
    w.run()
    before = (tmp_path / "f.h5").read_bytes()
    w.model.weight = 1.5
    with pytest.raises(FeatureStoreError, match=r"f\.h5 holds other features: this model answers"):
        w.run()
    assert (tmp_path / "f.h5").read_bytes() == before


def test_a_random_model_is_refused(tmp_path: Path) -> None:
    class Dropout(mutations.Colours):
        def embed(self, x: np.ndarray) -> np.ndarray:
            kept = np.random.default_rng().random((len(x), 6)) < 0.5
            return super().embed(x) * kept.astype(np.float32)

    w = mutations.World(tmp_path, model=Dropout(fingerprint="colours"))
    with pytest.raises(ModelError, match="answers differently to the same image"):
        w.run()
    assert not list(tmp_path.rglob("*.h5"))


def test_the_quick_check_reads_nothing_and_verify_reads_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = mutations.World(tmp_path)
    w.run()
    read = list[int]()
    source = w.source()
    counted = mutations.replace(source, fetch=lambda i: (read.append(i), source.fetch(i))[1])
    known = digests.ImageDigests(counted)
    assert known.known.all() and read == []
    assert not digests.ImageDigests(counted, verify=True).known.any()
    again = mutations.embedder.embed(w.model, counted, source.manifest(), batch=4, verify=True)
    assert again.reused == 12 and sorted(read) == list(range(12))


def test_a_file_that_changed_a_moment_ago_is_not_known_by_its_stamp(tmp_path: Path) -> None:
    token, found = b"t" * 40, mutations.World(tmp_path).source()
    changed = 0

    def stamp(row: int) -> tuple[bytes, int]:
        return token, changed

    for age_s, known in ((3600, True), (0.5, False), (-60, False)):
        changed = mutations.Later.time_ns() - int(age_s * 1e9)
        source = mutations.replace(found, stamp=stamp, place=f"{age_s}")
        first = digests.ImageDigests(source)
        first.read(np.arange(12), 1)
        first.keep()
        assert digests.ImageDigests(source).known.all() == known


def test_damaged_stamps_are_no_stamps(tmp_path: Path, cache: Path) -> None:
    w = mutations.World(tmp_path)
    w.run()
    (stamps,) = (cache / "stamps").iterdir()
    for damage in (b"", b"PK\x03\x04 nonsense", stamps.read_bytes()[:-40]):
        stamps.write_bytes(damage)
        assert not digests.ImageDigests(w.source()).known.any()
        assert w.run().reused == 12


def test_a_file_of_version_1_is_made_again_and_says_so(tmp_path: Path, monkeypatch) -> None:
    w, said = mutations.World(tmp_path, path=tmp_path / "f.h5"), list[str]()
    new = w.run()
    key = {**new.key, "manifest": new.manifest.digest()}
    (tmp_path / "f.h5").unlink()
    with FeatureStore.create(tmp_path / "f.h5", new.manifest, dim=6, key=key) as old:
        old.write(np.arange(12), np.ones((12, 1, 6)))
    version_1(tmp_path / "f.h5")
    store = mutations.embedder.embed(
        w.model, w.source(), new.manifest, tmp_path / "f.h5", batch=4, say=said.append
    )
    assert store.reused == 0 and np.array_equal(store.features, w.truth())
    assert any("version 1, which does not say of which images" in line for line in said)


def version_1(path: Path) -> None:
    """Write a feature file anew as evalkit 0.1 did: without digests, its checksum without them."""
    import zlib

    import h5py

    with h5py.File(path, "r+") as f:
        f.attrs["version"] = 1
        del f["image"]
        rows = f["features"][:]
        f["crc"][:] = [zlib.crc32(row.tobytes(), 1) for row in rows]


def test_rows_lost_in_a_finished_file_are_made_again(tmp_path: Path) -> None:
    import h5py

    w = mutations.World(tmp_path, path=tmp_path / "f.h5")
    w.run()
    whole = (tmp_path / "f.h5").read_bytes()
    with h5py.File(tmp_path / "f.h5") as f:
        at = f["features"].id.get_offset()
    (tmp_path / "f.h5").write_bytes(whole[: at + 50] + bytes(60) + whole[at + 110 :])
    with pytest.raises(FeatureStoreError, match="is damaged"):
        FeatureStore.open(tmp_path / "f.h5")
    store = w.run()
    assert len(store.done) - store.reused in (3, 4)
    assert (tmp_path / "f.h5").read_bytes() == whole


def test_the_cache_is_bounded_by_what_was_used_last(tmp_path: Path) -> None:
    import os

    from evalkit import cache as kept

    w = mutations.World(tmp_path)
    for k in range(3):
        w.model = mutations.Colours(fingerprint=f"m{k}")
        os.utime(w.run().path, (k, k))
    newest, *rest = kept.entries()
    assert newest.used == 2 and "12 images, m2" in newest.describe()
    gone = kept.clear(keep=newest.size)
    assert [e.path for e in gone] == [e.path for e in rest]
    assert [e.path for e in kept.entries()] == [newest.path]
    assert kept.clear(keep=0, spare=newest.path) == []
    with FeatureStore.open(newest.path, write=True):
        assert kept.clear() == []  # a command is writing it
    assert len(kept.clear()) == 1


def test_who_comes_second_waits_and_says_so(tmp_path: Path) -> None:
    import threading

    from evalkit import locks

    said, order = list[str](), list[str]()

    def second() -> None:
        with locks.exclusive(tmp_path / "f.h5", said.append):
            order.append("second")

    with locks.exclusive(tmp_path / "f.h5", said.append):
        other = threading.Thread(target=second)
        other.start()
        while not said:
            time.sleep(0.01)
        order.append("first")
    other.join(60)
    assert order == ["first", "second"]
    assert said == ["waiting for another evalkit that is making f.h5"]
    with locks.exclusive(tmp_path / "g.h5", said.append):  # another file is no concern of theirs
        assert len(said) == 1


def test_without_a_cache_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "a file"))
    w = mutations.World(tmp_path, path=tmp_path / "f.h5")
    assert w.run().reused == 0
    assert w.run().reused == 12  # every image was read again


FED = ["--preset", "arcface", "--input-size", "8x8", "--quiet"]


def test_the_commands_tell_what_the_cache_gave(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    import small_models

    model, faces = small_models.save(tmp_path / "m.onnx"), tmp_path / "faces"
    for k in range(6):
        (faces / f"P{k // 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
            faces / f"P{k // 2}" / f"{k}.png"
        )
    (tmp_path / "p.txt").write_text("P0/0.png P0/1.png 1\nP1/2.png P2/4.png 0\nP1/2.png P2/5.png 0")
    given = ["verify", tmp_path / "p.txt", "--model", model, *FED[:-1], "--data", faces]

    def evalkit(*arguments: object) -> tuple[str, str]:
        assert run([str(a) for a in arguments]) == 0
        told = capsys.readouterr()
        return told.out, told.err

    one, talk = evalkit(*given, "--json", "-", "--out", tmp_path / "a.json")
    assert "cache" not in talk
    again, talk = evalkit(*given, "--json", "-", "--out", tmp_path / "b.json")
    assert "5 vectors from the cache, 0 to embed" in talk
    assert again == one
    assert reports.read(tmp_path / "b.json").provenance["cache"].startswith("5 vectors from")
    assert "cache" not in reports.read(tmp_path / "a.json").provenance
    (faces / "P1" / "2.png").write_bytes((faces / "P1" / "3.png").read_bytes())
    changed, talk = evalkit(*given, "--json", "-", "--verify-data")
    assert "4 vectors from the cache, 1 to embed" in talk and changed != one
    out, _ = evalkit("cache", "list")
    assert "1 feature file, " in out and "5 images, sha256:" in out
    evalkit(*given, "--cache-size", "1KB")  # its own file stays
    assert len(list(cache.glob("features/*/*.h5"))) == 1
    out, _ = evalkit("cache", "clear", "--keep", "1GB")
    assert "0 feature files deleted" in out
    out, _ = evalkit("cache", "clear")
    assert "1 feature file deleted" in out and not list(cache.glob("stamps/*"))
    assert run(["cache", "clear", "--keep", "lots"]) == 2
    assert "'lots' is not a size, such as 500MB or 20GB" in capsys.readouterr().err
