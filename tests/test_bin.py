"""InsightFace's pickled sets: the real ones are read, hostile ones never run."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pickled_calls import BYTES_AS_OBJECTS, Reduced
from PIL import Image

from evalkit.datasets import bin as bin_sets
from evalkit.errors import DataError


def encoded(shade: int) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(held, "PNG")
    return held.getvalue()


def written(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


IMAGES = [encoded(k) for k in range(6)]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["bytes", "array"])
def test_both_kinds_of_item_in_every_pickle_protocol(
    tmp_path: Path, protocol: int, kind: str
) -> None:
    items = IMAGES if kind == "bytes" else [np.frombuffer(i, np.uint8) for i in IMAGES]
    path = written(tmp_path / "set.bin", (items, [True, False, np.bool_(True)]), protocol)
    source, pairs = bin_sets.read(path)
    assert pairs.genuine.tolist() == [True, False, True]
    assert (pairs.left, pairs.right) == (source.keys[::2], source.keys[1::2])
    assert [int(source.read(k)[0, 0, 0]) for k in range(6)] == list(range(6))


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int8, np.int32, np.int64, object])
def test_labels_in_an_array(tmp_path: Path, kind: Any) -> None:
    for labels in (np.array([1, 0, 1], kind), list(np.array([1, 0, 1], kind))):
        _, pairs = bin_sets.read(written(tmp_path / "set.bin", (IMAGES, labels)))
        assert pairs.genuine.tolist() == [True, False, True]
    wrong = np.array([1, 0, -1], np.int64)
    with pytest.raises(DataError, match=r"a label of the \.bin set is -1"):
        bin_sets.read(written(tmp_path / "set.bin", (IMAGES, wrong)))


def test_labels_that_no_array_of_truths_holds_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the labels of the \.bin set are an array of 'f8'"):
        bin_sets.read(written(tmp_path / "set.bin", (IMAGES, np.array([1.0, 0, 1]))))
    by_columns = np.asfortranarray(np.array([[1, 0], [0, 1], [1, 1]], bool))
    with pytest.raises(DataError, match=r"an array of the \.bin set has the shape \(3, 2\)"):
        bin_sets.read(written(tmp_path / "set.bin", (IMAGES * 2, by_columns)))
    (tmp_path / "set.bin").write_bytes(b"PK\3\4 what torch.save writes")
    with pytest.raises(DataError) as told:
        bin_sets.read(tmp_path / "set.bin")
    assert told.value.hint == "expected a pickle"


def test_python_2_strings(tmp_path: Path) -> None:
    # Protocol 2 as Python 2 wrote it: str is BINSTRING, here \x80..\xff kept as they are.
    body = b"".join(b"T" + len(i).to_bytes(4, "little") + i for i in IMAGES[:2])
    (tmp_path / "set.bin").write_bytes(b"\x80\x02](" + body + b"e](\x88e\x86.")
    source, pairs = bin_sets.read(tmp_path / "set.bin")
    assert len(pairs) == 1 and int(source.read(1)[0, 0, 0]) == 1


def test_a_real_set(shared_data: Path) -> None:
    source, pairs = bin_sets.read(shared_data / "formats" / "small_lfw.bin")
    assert (len(source.keys), len(pairs)) == (20, 10) and bool(pairs.genuine.all())
    assert source.read(0).shape == (112, 112, 3)


@pytest.mark.parametrize("call", [os.system, eval, exec, Path.unlink, io.open])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, call: Any) -> None:
    told = tmp_path / "ran"
    path = written(tmp_path / "set.bin", (IMAGES[:2], [Reduced(call, (f"touch {told}",))]))
    with pytest.raises(DataError, match=r"set\.bin is not a \.bin set: it asks to load"):
        bin_sets.read(path)
    assert not told.exists()


def test_a_type_whose_flags_say_that_bytes_are_objects(tmp_path: Path) -> None:
    rebuild, arguments, _ = np.zeros(1, np.uint8).__reduce__()
    image = Reduced(rebuild, arguments, (1, (len(IMAGES[0]),), BYTES_AS_OBJECTS, False, IMAGES[0]))
    source, _ = bin_sets.read(written(tmp_path / "set.bin", ([image, image], [True])))
    assert source.read(0).shape == (4, 4, 3)


@pytest.mark.parametrize(
    "content",
    [[], (IMAGES, [True]), (IMAGES, ["yes"] * 3), ([1, 2], [True]), ([], []), (IMAGES, None)],
)
def test_other_contents_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DataError):
        bin_sets.read(written(tmp_path / "set.bin", content))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_is_an_error_or_a_set(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps((IMAGES[:2], [True]), protocol=4))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.bin"
        path.write_bytes(cut)
        try:
            _, pairs = bin_sets.read(path)
        except DataError:
            return
        assert len(pairs) == 1
