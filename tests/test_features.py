import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.embedding import reuse
from evalkit.errors import EvalkitError, FeatureStoreError
from evalkit.files import hidden
from evalkit.types import Manifest
from evalkit.vectors.layout import DONE, NO_FACE, UNREADABLE
from evalkit.vectors.store import FeatureStore

N, V, D = 60, 2, 16
KEY = {"model": "mobilefacenet", "input": "rgb 112x112", "views": "2"}
MANIFEST = Manifest(
    tuple(f"p{i // 3}/{i}.jpg" for i in range(N)), np.arange(N, dtype=np.int32) // 3
)
X = np.random.default_rng(0).standard_normal((N, V, D)).astype(np.float32)
ALL = np.arange(N)


def create(path: Path, dtype: str = "<f4") -> FeatureStore:
    return FeatureStore.create(
        path, MANIFEST, dim=D, views=V, key=KEY, dtype=dtype, provenance={"seen": [1, 2]}
    )


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    with create(tmp_path / "x.h5") as store:
        store.write(ALL, X)
    return tmp_path / "x.h5"


def test_what_is_written_is_read(whole: Path) -> None:
    with FeatureStore.open(whole, expect=KEY) as store:
        assert np.array_equal(store.features, X)
        assert store.manifest.digest() == MANIFEST.digest()
        assert (store.key, store.provenance) == (KEY, {"seen": [1, 2]})
        assert not store.failed.any()


def test_the_array_is_the_file_and_outlives_the_store(whole: Path) -> None:
    with FeatureStore.open(whole) as store:
        x = store.features
    assert isinstance(x.base, np.memmap) or isinstance(x.base.base, np.memmap)
    assert not x.flags.writeable
    assert np.array_equal(x, X)


def test_other_programs_can_read_it(whole: Path) -> None:
    with h5py.File(whole) as f:
        assert np.array_equal(f["features"][:], X)
        assert f["features"].chunks is None
        assert f["keys"][:].tobytes().decode().split("\n") == list(MANIFEST.keys)
        assert f["crc"][7] == zlib.crc32(b"\1" + bytes(32) + X[7].tobytes())
        assert json.loads(f.attrs["key"]) == KEY


def test_rows_in_any_order_make_the_same_features(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(N)
    with create(tmp_path / "x.h5") as store:
        for rows in np.array_split(order, 7):
            rows = np.sort(rows)
            store.write(rows, X[rows])
        assert np.array_equal(store.features, X)


def test_subjects_of_any_whole_number(tmp_path: Path) -> None:
    for n, kind in enumerate((np.int8, np.uint32, np.int64)):
        who = np.array([np.iinfo(kind).max, 1], kind)
        path, manifest = tmp_path / f"{n}.h5", Manifest(("a", "b"), who)
        with FeatureStore.create(path, manifest, dim=2, key=KEY) as store:
            store.write(np.arange(2), np.ones((2, 1, 2), np.float32))
        with FeatureStore.open(path) as store:
            assert store.manifest.subject.tolist() == who.tolist()


def test_half_precision(tmp_path: Path) -> None:
    with create(tmp_path / "x.h5", "<f2") as store:
        store.write(ALL, X)
    assert FeatureStore.open(tmp_path / "x.h5").features.dtype == np.float16
    assert np.array_equal(FeatureStore.open(tmp_path / "x.h5").features, X.astype(np.float16))


def test_what_half_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    with (
        create(tmp_path / "x.h5", "<f2") as store,
        pytest.raises(FeatureStoreError, match="values up to 100000 do not fit"),
    ):
        store.write(ALL, np.full_like(X, 1e5))


def test_failures_are_nan_counted_and_explained(tmp_path: Path) -> None:
    x, state = X.copy(), np.full(N, DONE, np.uint8)
    x[3, 1, 5] = np.nan
    state[[4, 5]] = UNREADABLE, NO_FACE
    with create(tmp_path / "x.h5") as store:
        store.write(ALL, x, state)
    store = FeatureStore.open(tmp_path / "x.h5")
    assert np.flatnonzero(store.failed).tolist() == [3, 4, 5]
    assert np.isnan(store.features[3:6]).all()
    assert np.array_equal(np.delete(store.features, [3, 4, 5], 0), np.delete(X, [3, 4, 5], 0))
    assert store.reasons() == {
        "p1/3.jpg": "the model gave no template",
        "p1/4.jpg": "the image cannot be read",
        "p1/5.jpg": "no face was found",
    }


def test_an_unfinished_file_resumes_and_is_not_scored(tmp_path: Path) -> None:
    with create(tmp_path / "x.h5") as store:
        store.write(ALL[:20], X[:20])
    with FeatureStore.open(tmp_path / "x.h5") as store:
        with pytest.raises(FeatureStoreError, match="40 of 60 images are not embedded"):
            _ = store.features
        with pytest.raises(FeatureStoreError, match="opened for reading"):
            store.write(ALL[20:], X[20:])
    with FeatureStore.open(tmp_path / "x.h5", write=True) as store:
        assert store.pending().tolist() == list(range(20, 60))
        store.write(store.pending(), X[20:])
        assert np.array_equal(store.features, X)


def test_a_row_is_written_once(tmp_path: Path) -> None:
    with create(tmp_path / "x.h5") as store:
        store.write(ALL[:2], X[:2])
        with pytest.raises(FeatureStoreError, match="written once"):
            store.write(ALL[1:3], X[1:3])
        with pytest.raises(FeatureStoreError, match="ascending"):
            store.write(ALL[[5, 4]], X[:2])
        with pytest.raises(FeatureStoreError, match="do not fit"):
            store.write(ALL[2:4], X[2:3])


def test_another_key_names_the_part_that_differs(whole: Path) -> None:
    other = {**KEY, "model": "iresnet50", "decoder": "pillow 13"}
    with pytest.raises(FeatureStoreError) as e:
        FeatureStore.open(whole, expect=other)
    assert "model mobilefacenet, not iresnet50" in e.value.message
    assert "decoder not given, not pillow 13" in e.value.message
    assert "views" not in e.value.message


def test_the_second_writer_is_told(tmp_path: Path) -> None:
    with create(tmp_path / "x.h5") as store:
        store.write(ALL, X)
        with pytest.raises(FeatureStoreError, match="another process is writing"):
            FeatureStore.open(tmp_path / "x.h5", write=True)
        assert np.array_equal(FeatureStore.open(tmp_path / "x.h5").features, X)  # readers may
    with pytest.raises(FeatureStoreError, match="exists already"):
        create(tmp_path / "x.h5")
    FeatureStore.open(tmp_path / "x.h5", write=True).close()
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]


def test_two_creators_at_once(tmp_path: Path) -> None:
    import fcntl

    part = hidden(tmp_path / "x.h5", "part")
    with part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FeatureStoreError, match="another process"):
            create(tmp_path / "x.h5")
        assert part.exists()
    with create(tmp_path / "x.h5") as store:  # what a killed creator left is taken over
        store.write(ALL, X)
        assert np.array_equal(store.features, X)


def test_reading_needs_no_write_permission(whole: Path) -> None:
    whole.chmod(0o444)
    whole.parent.chmod(0o555)
    try:
        assert np.array_equal(FeatureStore.open(whole).features, X)
    finally:
        whole.parent.chmod(0o755)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        create(tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []


def test_the_first_damaged_row_is_named(whole: Path) -> None:
    with h5py.File(whole, "r+") as f:
        f["features"][41, 1, 3] += 1e-3
        f["features"][50, 0, 0] = 0
    with pytest.raises(FeatureStoreError, match=r"the features of p13/41.jpg \(row 41\)"):
        FeatureStore.open(whole)


def test_a_changed_state_is_damage(whole: Path) -> None:
    with h5py.File(whole, "r+") as f:
        f["done"][7] = 2
    with pytest.raises(FeatureStoreError, match=r"p2/7.jpg \(row 7\)"):
        FeatureStore.open(whole)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.999])
def test_a_cut_file_is_refused(whole: Path, share: float) -> None:
    os.truncate(whole, int(whole.stat().st_size * share))
    with pytest.raises(FeatureStoreError, match="not an evalkit feature file, or cut"):
        FeatureStore.open(whole)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with pytest.raises(FeatureStoreError, match="no feature file at"):
        FeatureStore.open(path)
    path.write_text("hello")
    with pytest.raises(FeatureStoreError, match="not an evalkit feature file"):
        FeatureStore.open(path)
    with h5py.File(path, "w") as f:
        f["features"] = X
    with pytest.raises(FeatureStoreError, match="HDF5, but not"):
        FeatureStore.open(path)


def test_a_later_version_is_refused(whole: Path) -> None:
    with h5py.File(whole, "r+") as f:
        f.attrs["version"] = 3
    with pytest.raises(FeatureStoreError, match="has version 3, this evalkit reads 2 and below"):
        FeatureStore.open(whole)


@pytest.mark.parametrize(
    ("manifest", "dim", "views", "dtype"),
    [
        (Manifest((), np.zeros(0, np.int32)), 4, 1, "<f4"),
        (MANIFEST, 0, 1, "<f4"),
        (MANIFEST, 4, 0, "<f4"),
        (MANIFEST, 4, 1, "<f8"),
    ],
)
def test_what_no_file_can_hold(
    tmp_path: Path, manifest: Manifest, dim: int, views: int, dtype: str
) -> None:
    with pytest.raises(FeatureStoreError, match="no feature file can hold"):
        FeatureStore.create(tmp_path / "x", manifest, dim=dim, views=views, dtype=dtype, key=KEY)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), data=st.booleans())
def test_a_flipped_bit_never_gives_a_wrong_number(
    tmp_path_factory: pytest.TempPathFactory, where: float, bit: int, data: bool
) -> None:
    path = tmp_path_factory.mktemp("flip") / "x.h5"
    with create(path) as store:
        store.write(ALL, X)
        head = store._place["features"]
    raw = bytearray(path.read_bytes())
    raw[int(where * (len(raw) if data else head))] ^= 1 << bit
    path.write_bytes(raw)
    try:
        store = FeatureStore.open(path, expect=KEY)
        assert np.array_equal(store.features, X)
        assert store.manifest.keys == MANIFEST.keys
    except EvalkitError:
        pass


WRITER = """
    import sys, time
    import numpy as np
    from evalkit.vectors.store import FeatureStore
    from evalkit.types import Manifest
    path, n, d = sys.argv[1], 4000, 64
    manifest = Manifest(tuple(map(str, range(n))), np.arange(n, dtype=np.int32))
    x = np.random.default_rng(5).standard_normal((n, 1, d)).astype(np.float32)
    try:
        store = FeatureStore.open(path, write=True)
    except Exception:
        print("new", flush=True)
        store = FeatureStore.create(path, manifest, dim=d, key={})
    print("start", len(store.pending()), flush=True)
    pending, size = store.pending(), 1
    while len(pending):
        rows, pending, size = pending[:size], pending[size:], size % 9 + 1
        store.write(rows, x[rows])
        time.sleep(0.0002)
    print("end", flush=True)
"""


def test_twenty_kills_lose_nothing(tmp_path: Path) -> None:
    path, moments = tmp_path / "x.h5", random.Random(3)
    command = [sys.executable, "-P", "-c", textwrap.dedent(WRITER), str(path)]
    left = []
    for _ in range(20):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            while not (line := writer.stdout.readline()).startswith("start"):
                assert line == "new\n" and not left
            left.append(int(line.split()[1]))
            time.sleep(moments.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
        with FeatureStore.open(path) as store:  # every kill leaves a file that opens
            assert len(store.pending()) <= left[-1]
    assert len(set(left)) > 5  # the kills fell into the writing
    subprocess.run(command, check=True, capture_output=True)
    x = np.random.default_rng(5).standard_normal((4000, 1, 64)).astype(np.float32)
    assert np.array_equal(FeatureStore.open(path).features, x)


def test_the_cache_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def place(**key: str) -> Path:
        return reuse.place(key, MANIFEST)

    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    assert place(a="1", b="2") == place(b="2", a="1") != place(a="1", b="3")
    assert place().parents[1] == tmp_path / "features"
    monkeypatch.delenv("EVALKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert place().parents[1] == tmp_path / "evalkit" / "features"


@pytest.mark.parametrize("writes", range(4))
def test_a_writer_that_dies_while_it_settles_leaves_a_whole_file(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    put, left = FeatureStore._put, writes

    def dies(self: FeatureStore, *given: Any) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        put(self, *given)

    with create(tmp_path / "next.h5") as store, FeatureStore.open(whole) as earlier:
        store.take(ALL, earlier, ALL)
        monkeypatch.setattr(FeatureStore, "_put", dies)
        with contextlib.suppress(KeyboardInterrupt):
            store.settle()
    monkeypatch.undo()
    assert np.array_equal(FeatureStore.open(tmp_path / "next.h5").features, X)
