"""Any bytes give a right answer or one clear error; what longer runs found stays mended."""

import io
import pickle
import resource
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path

import fuzz_targets
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pickled_calls import Reduced

from evalkit.datasets import bcolz
from evalkit.datasets import bin as bin_sets
from evalkit.errors import DataError
from evalkit.vectors import readers

TARGETS = fuzz_targets.targets()
fuzz_targets.watch()
edits = st.lists(st.tuples(st.integers(0, 1 << 13), st.binary(max_size=6), st.booleans()))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_a_good_file_is_read(target: fuzz_targets.Target, tmp_path: Path) -> None:
    folder = fuzz_targets.place(target, tmp_path)
    assert fuzz_targets.answers(target, folder, target.good[target.victim])


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_any_bytes_are_read_or_refused(target: fuzz_targets.Target, tmp_path: Path) -> None:
    folder = fuzz_targets.place(target, tmp_path)

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(edits)
    def one(changes: list[tuple[int, bytes, bool]]) -> None:
        data = target.good[target.victim]
        for at, new, insert in changes:
            at %= len(data) + 1
            data = data[:at] + new + data[at + (0 if insert else len(new)) :]
        fuzz_targets.answers(target, folder, data)

    one()


def test_a_file_that_starts_a_program_is_caught(tmp_path: Path) -> None:
    def parse(folder: Path) -> None:
        try:
            subprocess.run(["true"], check=False)
        except Exception as e:
            raise DataError("refused") from e

    target = fuzz_targets.Target("runs", parse, {}, "x", True)
    with pytest.raises(fuzz_targets.CodeRanError):
        fuzz_targets.answers(target, tmp_path, b"")


def test_a_pickle_of_a_few_bytes_takes_no_memory(tmp_path: Path) -> None:
    """The C unpickler made a table of 24 GB for a memo key, an array of 3 GB had no data."""
    path = tmp_path / "x.bin"
    path.write_bytes(b"\x80\x02]q\x00r" + struct.pack("<I", 1_560_445_042) + b"q\x00.")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"not a \.bin set"):
        bin_sets.read(path)

    huge = [Reduced(np.ndarray, ((3 << 30,), np.dtype(np.uint8))) for _ in range(2)]
    path.write_bytes(pickle.dumps((huge, [True])))
    with pytest.raises(DataError, match=r"an image of the \.bin set is an array"):
        bin_sets.read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB


def test_an_npy_header_of_broken_python_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    for name, data in {
        p.relative_to(fuzz_targets.GOLDEN): p.read_bytes()
        for p in fuzz_targets.GOLDEN.rglob("*")
        if p.is_file()
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    header = b"{'descr': '|b1', 'fortran_order': False, 'shape': (2,"
    (tmp_path / "toy_list.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    )
    with pytest.raises(DataError, match=r"is not a usable \.npy array"):
        bcolz.read(folder)
    (folder / "meta" / "storage").write_text('{"dtype": "f4,(", "chunklen": 2}')
    with pytest.raises(DataError, match="not a bcolz array"):
        bcolz.read(folder)


@pytest.mark.parametrize("name", [".h5", "feature file .h5"])
def test_a_table_of_texts_that_hdf5_reads_for_ever_is_refused(name: str, tmp_path: Path) -> None:
    target = next(t for t in TARGETS if t.name == name)
    data = bytearray(target.good[target.victim])
    table = data.find(b"GCOL\1\0\0\0")
    here, number = table + 16, 1
    while number:
        number, _, _, size = struct.unpack_from("<HHIQ", data, here)
        here += 16 + size + -size % 8 if number else 0
    struct.pack_into("<Q", data, here + 8, 0)  # a free rest of no bytes
    assert not fuzz_targets.answers(target, fuzz_targets.place(target, tmp_path), bytes(data))


@pytest.mark.parametrize("pieces", [{}, {"chunks": (2,), "compression": "gzip"}])
def test_a_text_of_4_gib_in_a_small_hdf5_file_takes_no_memory(
    pieces: dict[str, object], tmp_path: Path
) -> None:
    """libhdf5 makes room for what a reference says, whether or not the file can hold it."""
    path, text = tmp_path / "x.h5", h5py.string_dtype()
    with h5py.File(path, "w") as f:
        f["features"] = fuzz_targets.X
        f.create_dataset("keys", data=["aaa", "b", "c", "d"], dtype=text, **pieces)
    assert readers.read(path)[1] == ["aaa", "b", "c", "d"]
    data = path.read_bytes()
    with h5py.File(path) as f:
        keys = f["keys"].id
        first = keys.get_chunk_info(0) if pieces else None
        at, size = (first.byte_offset, first.size) if first else (keys.get_offset(), 64)
    raw = data[at : at + size]
    plain = bytearray(zlib.decompress(raw) if pieces else raw)
    assert plain[:4] == b"\x03\0\0\0"
    plain[:4] = b"\xf0\xff\xff\xff"
    raw = zlib.compress(plain, 0)[:size] if pieces else bytes(plain)
    if pieces:  # a stored block is longer than the piece: put it at the end of the file
        raw = zlib.compress(plain)
        data = data.replace(struct.pack("<Q", at), struct.pack("<Q", len(data)))
        data, at = data.replace(struct.pack("<I", size), struct.pack("<I", len(raw))), len(data)
    path.write_bytes(data[:at] + raw + data[at + len(raw) :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"names 4 texts of 42949|addr overflow"):
        readers.read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # KiB


@pytest.mark.parametrize("name", ["features", "done"])
def test_lists_where_numbers_belong_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset(name, (3,), h5py.vlen_dtype(np.float32))
        f.attrs["format"] = "other"
    with pytest.raises(DataError, match="not a usable HDF5 file"):
        readers.read(path)


def test_a_member_of_an_npz_that_is_no_array_is_refused(tmp_path: Path) -> None:
    target = next(t for t in TARGETS if t.name == "landmarks .npz")
    path = fuzz_targets.place(target, tmp_path) / target.victim
    with zipfile.ZipFile(path) as z:
        held = {name: z.read(name) for name in z.namelist()}
    with zipfile.ZipFile(path, "w") as z:
        for name, data in held.items():
            z.writestr(name, b"?" + data)  # numpy gives the bytes of what does not start as .npy
    assert not fuzz_targets.answers(target, tmp_path, path.read_bytes())


def test_a_cut_pickle_of_torch_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    target = next(t for t in TARGETS if t.name == ".pt")
    assert not fuzz_targets.answers(target, tmp_path, b"\x80\x02J\x01")  # half a number
    good = target.good[target.victim]
    with (
        zipfile.ZipFile(io.BytesIO(good)) as old,
        zipfile.ZipFile(tmp_path / target.victim, "w") as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, b"\x80\x02K\x01Q." if name.endswith("data.pkl") else data)
    damaged = (tmp_path / target.victim).read_bytes()  # a storage called 1
    assert not fuzz_targets.answers(target, tmp_path, damaged)


def test_a_parquet_page_of_2_gib_in_a_small_file_is_refused(tmp_path: Path) -> None:
    """A buffered stream of pyarrow does not come back from this; a mapped file does."""
    pytest.importorskip("pyarrow")
    target = next(t for t in TARGETS if t.name == ".parquet")
    good = target.good[target.victim]
    size = b"\x15\xaa\x01\x4c\x15\x18"  # of the page as it is packed: 85
    if size not in good:
        pytest.skip("this pyarrow packs a page otherwise")
    damaged = good.replace(size, b"\x15\xaa\xff\xff\xff\xff")
    assert not fuzz_targets.answers(target, fuzz_targets.place(target, tmp_path), damaged)


def test_a_parquet_column_that_its_schema_does_not_describe(tmp_path: Path) -> None:
    """Asked for that column's share, pyarrow 26 ends the process; a reader of it raises."""
    pytest.importorskip("pyarrow")
    target = next(t for t in TARGETS if t.name == ".parquet")
    good = target.good[target.victim]
    may_be_null, never_null = b"\x25\x02\x18\x03key", b"\x25\x00\x18\x03key"
    assert may_be_null in good
    damaged = good.replace(may_be_null, never_null)
    fuzz_targets.answers(target, fuzz_targets.place(target, tmp_path), damaged)


@pytest.mark.parametrize("name", ["bcolz toy_list.npy", "keys .npy"])
def test_an_array_of_more_rows_than_numbers_count_is_refused(name: str, tmp_path: Path) -> None:
    target = next((t for t in TARGETS if t.name == name), None)
    if target is None:
        pytest.skip("numcodecs is not installed")
    out = io.BytesIO()
    about = {"descr": "|b1", "fortran_order": False, "shape": (10**30,)}
    np.lib.format.write_array_header_1_0(out, about)
    assert not fuzz_targets.answers(
        target, fuzz_targets.place(target, tmp_path), out.getvalue() + b"1"
    )


def test_a_librarys_message_of_several_lines_becomes_one() -> None:
    assert DataError("it says: first\nsecond\n").message == "it says: first second"
