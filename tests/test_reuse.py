"""A vector belongs to the bytes of an image: what is embedded again, and what never is."""

from pathlib import Path

import mutations
import numpy as np
import pytest

from evalkit.errors import FeatureStoreError, ModelError
from evalkit.features import FeatureStore
from evalkit.images import digests


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
