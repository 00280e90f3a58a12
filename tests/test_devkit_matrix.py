import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from evalkit.errors import DataError
from evalkit.vectors import devkit_matrix

pytestmark = pytest.mark.once


def _matrix(x: np.ndarray, stride: int | None = None, kind: int = 5) -> bytes:
    rows, columns = x.shape
    stride = stride or columns * x.itemsize
    pad = bytes(stride - columns * x.itemsize)
    body = b"".join(row.tobytes() + pad for row in x)
    return struct.pack("<4i", rows, columns, stride, kind) + body


def test_a_real_devkit_feature(shared_data: Path) -> None:
    path = shared_data / "formats" / "Abdullah_Gul_0001.jpg_foam.bin"
    x = devkit_matrix.read_features([path, path.with_name("Abdullah_Gul_0002.jpg_foam.bin")])
    keys = (shared_data / "features" / "lfw_paths.txt").read_text().splitlines()
    held = np.load(shared_data / "features" / "lfw_mobilefacenet_flipsum_l2.npy", mmap_mode="r")
    row = keys.index("Abdullah_Gul/Abdullah_Gul_0001.jpg")
    assert_array_equal(x, held[row : row + 2])


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
@pytest.mark.parametrize("pad", [0, 1])
def test_strides_and_types(tmp_path: Path, kind: str, pad: int) -> None:
    x = np.arange(12, dtype=kind).reshape(4, 3)
    stride = (3 + pad) * x.itemsize
    path = tmp_path / "m.bin"
    path.write_bytes(_matrix(x, stride, 5 if kind == "<f4" else 6))
    assert_array_equal(devkit_matrix.read_matrix(path), x)
    assert_array_equal(devkit_matrix.map_matrix(path), x)


def test_the_devkit_writers_wrong_stride_of_float64_is_understood(tmp_path: Path) -> None:
    x = np.arange(5.0)[:, None]
    path = tmp_path / "m.bin"
    path.write_bytes(struct.pack("<4i", 5, 1, 4, 6) + x.tobytes())
    assert_array_equal(devkit_matrix.read_matrix(path), x)
    assert_array_equal(devkit_matrix.read_features([path])[0], x[:, 0])


def test_features_come_back_as_written(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2100, 4)).astype(np.float32)
    paths = [tmp_path / f"{i}.bin" for i in range(len(x))]
    for path, row in zip(paths, x, strict=True):
        devkit_matrix.write_feature(path, row)
    assert_array_equal(devkit_matrix.read_features(paths), x)
    paths[1500].write_bytes(paths[1500].read_bytes()[:-1])
    with pytest.raises(DataError, match=r"1500\.bin is not a feature of 4 float32"):
        devkit_matrix.read_features(paths)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"short", "within its 16-byte header"),
        (struct.pack("<4i", -1, 1, 4, 5), "not a devkit matrix"),
        (struct.pack("<4i", 1, 1, 4, 0), "not a devkit matrix"),
        (struct.pack("<4i", 1, 2, 4, 5) + bytes(9), "4 bytes per row for 2 columns"),
        (struct.pack("<4i", 2**31 - 1, 1, 2**31 - 4, 5), "after its header and has 0"),
        (struct.pack("<4i", 1, 1, 4, 5) + bytes(5), "1 bytes after its last"),
    ],
)
def test_what_is_no_matrix_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(data)
    for read in (devkit_matrix.read_matrix, devkit_matrix.map_matrix):
        with pytest.raises(DataError, match=message):
            read(path)


def test_three_matrices_of_a_model() -> None:
    shapes = [(1, 4), (2, 4), (3, 4)]
    data = b"".join(_matrix(np.full(s, i, np.float32)) for i, s in enumerate(shapes))
    assert [m.shape for m in devkit_matrix.read_matrices(data, 3, "jb.bin")] == shapes
    empty = devkit_matrix.read_matrices(bytes(48), 3, "jb_identity.bin")
    assert [m.size for m in empty] == [0, 0, 0]


_INT = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 2**31 - 1, -1, -(2**31)])


@given(st.tuples(_INT, _INT, _INT, _INT), st.binary(max_size=80), st.integers(1, 3))
def test_any_bytes_give_matrices_or_one_clear_error(
    fields: tuple[int, int, int, int], body: bytes, count: int
) -> None:
    data = struct.pack("<4i", *fields) + body
    try:
        found = devkit_matrix.read_matrices(data, count, "x.bin")
    except DataError:
        return
    assert len(found) == count
    assert sum(m.nbytes for m in found) <= len(data)
