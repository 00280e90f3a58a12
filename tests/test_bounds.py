"""What small files may unpack to: more than is promised is one line, before memory is taken."""

import io
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from evalkit.errors import DataError
from evalkit.images import decoding, jpeg
from evalkit.types import Manifest
from evalkit.vectors import embeddings, readers
from evalkit.vectors.store import FeatureStore

pytestmark = pytest.mark.once

MIB = 1 << 20
# HDF5


DEFLATE, SHUFFLE, FLETCHER32, SZIP, NBIT, SCALEOFFSET = 1, 2, 3, 4, 5, 6
LZF, UNKNOWN = 32000, 32001

PEAK = """
import resource, sys
from pathlib import Path
from evalkit.adapters import embeddings
from evalkit.errors import EvalkitError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    embeddings.read(Path(sys.argv[1]))
    print("read")
except EvalkitError as e:
    print(e.message)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def told(path: Path) -> tuple[str, int]:
    """Read embeddings in a process of its own: what is said of them, and MiB taken meanwhile."""
    import evalkit

    done = subprocess.run(
        [sys.executable, "-P", "-c", PEAK, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(Path(evalkit.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    *said, mib = done.stdout.splitlines()
    return "\n".join(said), int(mib)


def deflated_zeros(size: int) -> bytes:
    stream, block = zlib.compressobj(1), bytes(16 * MIB)
    return b"".join(stream.compress(block) for _ in range(size // len(block))) + stream.flush()


def write_chunk(held: h5py.h5d.DatasetID, raw: bytes, mask: int = 0) -> None:
    """Write the first chunk of a dataset as it is; libhdf5 before 2.0 writes none that large."""
    try:
        held.write_direct_chunk((0,) * held.rank, raw, mask)
    except OSError as e:
        if "can't be encoded" not in str(e):
            raise
        pytest.skip(f"this libhdf5 cannot write it: {e}")


def one_chunk(
    path: Path,
    chunk: tuple[int, ...],
    filters: list[Any],
    raw: bytes,
    *,
    name: str = "features",
    kind: Any = h5py.h5t.IEEE_F32LE,
    mask: int = 0,
) -> Path:
    """Write (2, 4) features and 2 keys, one of the two in one chunk of these bytes as they are."""
    with h5py.File(path, "w") as f:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk(chunk)
        for code, *values in filters:
            made.set_filter(code, h5py.h5z.FLAG_OPTIONAL, tuple(values))
        shape = (2, 4) if name == "features" else (2,)
        space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED,) * len(shape))
        held = h5py.h5d.create(f.id, name.encode(), kind, space, made)
        write_chunk(held, raw, mask)
        others: dict[str, Any] = {"features": np.ones((2, 4), np.float32), "keys": ["a", "b"]}
        other = "keys" if name == "features" else "features"
        f[other] = others[other]
    return path


GZIP = (DEFLATE, 9)
ROW = np.ones((2, 4), np.float32).tobytes()


def test_a_chunk_much_larger_than_its_dataset(tmp_path: Path) -> None:
    raw = zlib.compress(deflated_zeros(1024 * MIB), 9)
    path = one_chunk(tmp_path / "x.h5", (1 << 14, 1 << 14), [GZIP, GZIP], raw)
    said, mib = told(path)
    assert "packed by the filters [1, 1]" in said and mib < 64
    path = one_chunk(tmp_path / "y.h5", (1 << 14, 1 << 14), [GZIP], raw)
    said, mib = told(path)
    assert "'features' has chunks of shape (16384, 16384) in a file of" in said and mib < 64


@pytest.mark.parametrize("filters", [[GZIP], [(SHUFFLE, 4), GZIP, (FLETCHER32,)]])
def test_a_chunk_that_unpacks_to_more_than_its_shape(tmp_path: Path, filters: list[Any]) -> None:
    path = one_chunk(tmp_path / "x.h5", (2, 4), filters, deflated_zeros(1024 * MIB))
    said, mib = told(path)
    assert "a chunk of 'features' unpacks to more, not 32 bytes" in said and mib < 64


def test_a_chunk_that_unpacks_to_less_than_its_shape(tmp_path: Path) -> None:
    """libhdf5 2.0 would give what lies in the memory behind it as features."""
    path = one_chunk(tmp_path / "x.h5", (2, 4), [GZIP], zlib.compress(ROW[:16]))
    with pytest.raises(DataError, match="unpacks to 16, not 32 bytes"):
        embeddings.read(path)
    path = one_chunk(tmp_path / "y.h5", (2, 4), [GZIP], ROW[:16], mask=1)
    with pytest.raises(DataError, match="unpacks to 16, not 32 bytes"):
        embeddings.read(path)


@pytest.mark.parametrize(
    "filters",
    [
        [(SHUFFLE, 4), (SHUFFLE, 4)],
        [GZIP, (LZF, 4, 261, 32)],
        [(SZIP, 4, 8, 32, 8)],
        [(NBIT, 8, 1, 1 << 30, 1, 4, 0, 32, 0)],
        [(SCALEOFFSET, 0, 2, 1 << 30, 1, 4, 0, 0)],
        [(UNKNOWN, 1, 2)],
    ],
)
def test_chunks_packed_in_a_rare_way_are_refused(tmp_path: Path, filters: list[Any]) -> None:
    try:
        path = one_chunk(tmp_path / "x.h5", (2, 4), filters, ROW)
    except ValueError as e:
        pytest.skip(f"this libhdf5 cannot write it: {e}")
    with pytest.raises(DataError, match=r"'features' is packed by the filters .* h5repack"):
        embeddings.read(path)


def test_keys_in_a_chunk_that_unpacks_to_more(tmp_path: Path) -> None:
    kind = h5py.h5t.py_create(np.dtype("S8"))
    big = deflated_zeros(1024 * MIB)
    cases = ((2,), big, "unpacks to more, not 16"), ((1 << 27,), b"x", "has chunks of shape")
    for chunk, raw, said in cases:
        path = one_chunk(tmp_path / "x.h5", chunk, [GZIP], raw, name="keys", kind=kind)
        message, mib = told(path)
        assert said in message and "'keys'" in message and mib < 64


def test_many_short_keys_in_a_small_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as f:
        f["features"] = np.ones((2, 4), np.float32)
        f.create_dataset("keys", data=np.full(1 << 22, b"ab"), chunks=(1 << 16,), compression=9)
    said, mib = told(tmp_path / "x.h5")
    assert "'keys' names 4194304 texts of 8388608 bytes in a file of" in said and mib < 64


def test_references_to_texts_that_look_deflated(tmp_path: Path) -> None:
    """A chunk whose filter is left out is read as it lies, here too: its lengths are judged."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as f:
        f["features"] = np.ones((2, 4), np.float32)
        f.create_dataset("keys", data=["a" * 40, "b" * 40], chunks=(2,), compression="gzip")
    with h5py.File(path, "r+") as f:
        _, packed = f["keys"].id.read_direct_chunk((0,))
        plain = bytearray(zlib.decompress(packed))
        plain[:4] = np.uint32(1 << 31).tobytes()
        write_chunk(f["keys"].id, bytes(plain), 1)
    said, mib = told(path)
    assert "'keys' names 2 texts of 2147483688 bytes" in said and mib < 64


@pytest.mark.parametrize("name", ["keys", "subject"])
def test_the_list_of_a_feature_file_in_a_chunk_that_unpacks_to_more(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "x.h5"
    manifest = Manifest(("a/1.jpg", "b/2.jpg"), np.array([0, 1], np.int32))
    with FeatureStore.create(path, manifest, dim=4, key={}) as store:
        store.write(np.arange(2), np.ones((2, 1, 4), np.float32))
    with h5py.File(path, "r+") as f:
        held = f[name][()]
        del f[name]
        f.create_dataset(name, data=held, chunks=held.shape, compression="gzip")
        write_chunk(f[name].id, deflated_zeros(1024 * MIB))
    said, mib = told(path)
    assert f"a chunk of '{name}' unpacks to more, not" in said and mib < 64


@pytest.mark.parametrize("chunks", [(3000, 64), (100, 64), (700, 5), True])
@pytest.mark.parametrize(
    "packing",
    [
        {},
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf", "shuffle": True},
        {"fletcher32": True},
    ],
)
def test_what_h5py_packs_is_read(tmp_path: Path, packing: dict[str, Any], chunks: Any) -> None:
    x = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float16)
    keys = [f"é{k}" for k in range(len(x))]
    with h5py.File(tmp_path / "x.h5", "w") as f:
        f.create_dataset("features", data=x, chunks=chunks, **packing)
        gzip = {k: v for k, v in packing.items() if v == "gzip"}
        f.create_dataset("keys", data=keys, chunks=(512,), **gzip)
    made = embeddings.read(tmp_path / "x.h5")
    np.testing.assert_array_equal(made.features, x)
    assert list(made.keys) == keys


# Tables


@pytest.mark.parametrize("shape", [(10**9, 512), (2, 10**9)])
def test_a_tensor_of_one_value_for_all_rows(tmp_path: Path, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.ones(1).expand(shape), tmp_path / "x.pt")
    with pytest.raises(DataError, match="of 4 bytes: its rows overlap"):
        readers.read(tmp_path / "x.pt")
    torch.save(torch.ones(4, 6)[::2, 1:3], tmp_path / "y.pt")
    assert readers.read(tmp_path / "y.pt")[0].shape == (2, 2)


def test_parquet_of_one_value_for_all_rows(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"key": ["a"] * 10**6, "x": np.zeros(10**6), "y": np.zeros(10**6)})
    with parquet.ParquetWriter(tmp_path / "rows.parquet", table.schema, compression="zstd") as f:
        for _ in range(5):
            f.write_table(table)
    wide = arrow.FixedSizeListArray.from_arrays(np.zeros(1 << 26, np.float32), 1 << 24)
    table = arrow.table({"key": list("abcd"), "x": wide})
    parquet.write_table(table, tmp_path / "wide.parquet", compression="zstd")
    texts = arrow.array(["a" * MIB]).dictionary_encode()
    long = arrow.DictionaryArray.from_arrays(np.zeros(4096, np.int32), texts.dictionary)
    table = arrow.table({"key": long, "x": np.zeros(4096)})
    parquet.write_table(table, tmp_path / "texts.parquet", compression="zstd")
    for name, why in (
        ("rows", "it would unpack to 5000000 rows"),
        ("wide", "it would unpack to 4 rows, 67108868 values"),
        ("texts", "the texts of 'key' would unpack to far more than it is"),
    ):
        said, mib = told(tmp_path / f"{name}.parquet")
        assert why in said and mib < 256


def test_parquet_as_programs_write_it_is_read(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    x = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    keys = [f"é{k}" for k in range(len(x))]
    lists = arrow.FixedSizeListArray.from_arrays(x.ravel(), 8)
    for kind in (arrow.string(), arrow.large_string(), arrow.dictionary("int32", arrow.string())):
        table = arrow.table({"key": arrow.array(keys).cast(kind), "x": lists})
        parquet.write_table(table, tmp_path / "x.parquet", row_group_size=700)
        made = embeddings.read(tmp_path / "x.parquet")
        assert list(made.keys) == keys
        np.testing.assert_array_equal(made.features, x)


# Images


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_scans(data: bytes, n: int) -> bytes:
    """Repeat the last scan of a JPEG until it has n of them."""
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[last:end] * (n - jpeg.scans(data)) + data[end:]


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_scans_of_a_jpeg_are_counted(mode: str, progressive: bool) -> None:
    comment = b"\xff\xda" * 1000
    plain = encoded(NOISE.convert(mode), "JPEG", progressive=progressive)
    talks = encoded(NOISE.convert(mode), "JPEG", progressive=progressive, comment=comment)
    assert jpeg.scans(plain) == jpeg.scans(talks) == plain.count(b"\xff\xda")
    assert (jpeg.scans(plain) > 1) == progressive
    assert decoding.decode(talks).shape == (40, 56, 3)
    assert jpeg.scans(plain + plain) == jpeg.scans(plain)  # libjpeg stops there too


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_of_thousands_of_scans_is_not_decoded(mode: str) -> None:
    data = encoded(NOISE.convert(mode), "JPEG", progressive=True)
    assert decoding.decode(with_scans(data, 100)).shape == (40, 56, 3)
    with pytest.raises(DataError, match="its 101 scans are more than any program writes"):
        decoding.decode(with_scans(data, 101))


def test_a_tiff_whose_tile_is_larger_than_its_picture() -> None:
    packed = zlib.compress(bytes(1 << 20))
    entries = [(256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1)]
    entries += [(322, 1 << 15), (323, 1 << 15), (324, 0), (325, len(packed))]
    place = 8 + 2 + 12 * len(entries) + 4
    fields = [struct.pack("<HHII", tag, 4, 1, n or place) for tag, n in entries]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    with pytest.raises(DataError, match="32768x32768 pixels are more than a face needs"):
        decoding.decode(head + b"".join(fields) + bytes(4) + packed)


def test_every_16_bit_grey_is_rounded() -> None:
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = decoding.decode(encoded(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(pixels[..., 0], np.rint(grey * (255 / 65535)))


def test_threads_decode_so_many_pixels_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_SMALL", 3)
    monkeypatch.setattr(decoding, "_MAX_PIXELS", 10)
    under_way, most = [], []

    def decode(pixels: int) -> None:
        with decoding._room(pixels):
            under_way.append(pixels)
            most.append(sum(under_way))
            time.sleep(0.002)
            under_way.remove(pixels)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(decode, [10, 4, 5, 6, 4] * 8))
    assert len(most) == 40 and max(most) <= 10
    assert decoding._under_way == [0]
