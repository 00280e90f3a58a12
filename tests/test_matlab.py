import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from evalkit.errors import DataError
from evalkit.vectors import matlab

CELL = np.empty((3, 1), object)
CELL[:, 0] = ["Aaron_Eckhart/Aaron_Eckhart_0001.jpg", np.array([[1, 2]]), "é"]
HELD = {
    "x": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "d": np.arange(6.0).reshape(2, 3),
    "labels": np.array([[1, -1, 1]], np.int8),
    "big": np.array([[2**40]], np.int64),
    "cube": np.arange(24, dtype=np.uint16).reshape(2, 3, 4),
    "yes": np.array([[True, False]]),
    "names": CELL,
    "rows": np.array(["ab ", "cde"]),
    "s": {"pairs": np.eye(2), "who": "me"},
    "none": np.empty((0, 0)),
}


@pytest.mark.parametrize("compressed", [True, False])
def test_what_scipy_wrote_is_read(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "x.mat"
    savemat(path, HELD, do_compression=compressed)
    found = matlab.read(path)
    for name in ("x", "d", "labels", "big", "cube", "yes", "none"):
        assert np.array_equal(found[name], HELD[name]), name
    assert found["x"].dtype == np.float32 and found["labels"].dtype == np.int8
    assert found["names"][0] == CELL[0, 0] and found["names"][2] == "é"
    assert found["names"][1].tolist() == [[1, 2]]
    assert found["rows"] == ["ab", "cde"]
    assert np.array_equal(found["s"]["pairs"], np.eye(2)) and found["s"]["who"] == "me"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a MATLAB file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "save it with -v7"),
        (bytes(126) + b"IM" + bytes(4), "4 bytes are not an element"),
        (bytes(126) + b"IM" + struct.pack("<II", 14, 99), "an element of 99 bytes where 0"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        matlab.read(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.booleans(), st.binary(max_size=12), st.integers(0, 4000), st.booleans())
def test_any_bytes_give_values_or_one_clear_error(
    tmp_path: Path, compressed: bool, noise: bytes, at: int, cut: bool
) -> None:
    good = tmp_path / f"good{compressed}.mat"
    if not good.exists():
        savemat(good, HELD, do_compression=compressed)
    data = good.read_bytes()
    at %= len(data)
    bad = tmp_path / "bad.mat"
    bad.write_bytes(data[:at] + noise + (b"" if cut else data[at + len(noise) :]))
    try:
        found = matlab.read(bad)
    except DataError:
        return
    assert isinstance(found, dict)
