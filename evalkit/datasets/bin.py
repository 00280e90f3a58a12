"""InsightFace's `.bin` sets: a Python pickle of encoded images and labels, read without running it.

`pickle.dump((images, issame))`: 2 P encoded images in the order a0, b0, a1, b1, ..., each `bytes`
or a uint8 array, and P booleans (recognition/arcface_mxnet/common/build_eval_pack.py).
Folds are not in the file: fold k is the k-th tenth of the genuine pairs and the k-th tenth of the
impostor pairs, in the order of the file (`verification.folds_by_position`).
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.datasets.pair_list import PairList
from evalkit.errors import DataError
from evalkit.files import as_path, refuse_lfs_pointer
from evalkit.images import ImageSource, encoded

# No set needs dictionaries or sets, and hashing nested tuples takes any time one likes.
_REFUSED = (
    *("DICT", "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "FROZENSET"),
    *("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"),
    "NEXT_BUFFER",
)
_LARGEST = 4 << 30
_TRUTHS = "expected True or False"


class _OnlyArrays(pickle._Unpickler):
    """Python's own unpickler: the one in C takes 24 GB for a file of 68 bytes (a high memo key)."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks to load {module}.{name}")
        return _STAND_INS[module, name]


class _Array:
    """An array as a pickle tells it: its type, and its bytes or its list of objects.

    numpy's own take any state from a file, change the types that all arrays share by it, and end
    the process some time later.
    """

    def __init__(self, *_: Any) -> None:
        self.kind, self.data = "", b""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, self.data = state
        self.kind = _kind(kind)
        if by_columns and len(shape) > 1:
            raise DataError(
                f"an array of the .bin set has the shape {shape!r:.40}", "expected (N,)"
            )

    def __iter__(self) -> Iterator[Any]:
        if self.kind == _BOOL:
            return (byte == 1 for byte in self.data)
        if self.kind in _WHOLE and isinstance(self.data, bytes):
            return iter(np.frombuffer(self.data, self.kind).tolist())
        if not isinstance(self.data, list):
            raise DataError(f"the labels of the .bin set are {_shown(self)}", _TRUTHS)
        return iter(self.data)


class _Type:
    """A dtype as a pickle tells it: its name alone."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name.decode("ascii") if isinstance(name, bytes) else name

    def __setstate__(self, state: Any) -> None:
        """Leave out byte order and fields: a byte has neither."""


def _kind(of: Any) -> str:
    if not isinstance(of, _Type) or not isinstance(of.name, str):
        raise pickle.UnpicklingError("an array has no type")
    return of.name.removeprefix("|")


def _from_buffer(data: Any, kind: Any, *_: Any) -> _Array:
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError("an array has no bytes")
    array = _Array()
    array.data, array.kind = bytes(data), _kind(kind)
    return array


def _scalar(kind: Any, data: Any) -> bool:
    truths = _kind(kind) in (_BOOL, *_WHOLE) and isinstance(data, bytes)
    if not truths or not data or max(data[1:], default=0) or data[0] > 1:
        raise pickle.UnpicklingError("a label is not a truth value")
    return bool(data[0] == 1)


def _encode(text: str, encoding: str) -> bytes:
    """Python 2 wrote its strings as latin-1 text; no other codec is let in."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the codec {encoding}")
    return text.encode("latin-1")


_BYTE, _BOOL = "u1", "b1"
_WHOLE = (_BYTE, "i1", "i4", "i8")  # of labels
# What stands for all that an array of numbers or a text of Python 2 needs; else code could run.
_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}
for _module in ("numpy.core", "numpy._core"):
    _STAND_INS |= {
        (f"{_module}.multiarray", "_reconstruct"): _Array,
        (f"{_module}.multiarray", "scalar"): _scalar,
        (f"{_module}.numeric", "_frombuffer"): _from_buffer,
    }


def read(path: str | os.PathLike[str]) -> tuple[ImageSource, PairList]:
    """Read a `.bin` set: its images under the keys 0000000, 0000001, ..., and its pairs.

    Folds are not in the file: the pairs carry none.  A pickle that would load anything but arrays,
    or holds anything but images and booleans, is a DataError; none of its code runs.
    """
    path = as_path(path)
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path.name} is larger than any .bin set")
    refuse_lfs_pointer(path)
    images, same = _content(path)
    keys = tuple(f"{i:07d}" for i in range(len(images)))
    genuine = np.array(same, np.bool_)
    lines = np.arange(1, len(genuine) + 1)
    pairs = PairList(keys[::2], keys[1::2], genuine, None, path.name, lines)
    return encoded(keys, lambda row: bytes(images[row])), pairs


def _content(path: Path) -> tuple[list[memoryview], list[bool]]:
    data = path.read_bytes()
    try:
        for opcode, _, _ in pickletools.genops(data):
            if opcode.name in _REFUSED:
                raise pickle.UnpicklingError(f"it asks to build by {opcode.name}")
        content = _OnlyArrays(io.BytesIO(data), encoding="bytes").load()
        images, same = content
        images = [_buffer(image) for image in images]
        same = [_flag(each) for each in same]
    except DataError:
        raise
    except Exception as e:  # a damaged pickle raises anything at all
        begins = data[:1] in (b"\x80", b"(", b"]")  # as pickles of a tuple or list do
        cut = "its end is missing: was it cut short?" if begins else "expected a pickle"
        cut = "" if data.endswith(pickle.STOP) else cut
        raise DataError(f"{path.name} is not a .bin set: {_first_line(e)}", cut) from e
    if len(images) != 2 * len(same) or not same:
        raise DataError(f"{path.name} holds {len(images)} images for {len(same)} pairs")
    return images, same


def _buffer(image: Any) -> memoryview:
    """View the bytes of an item; a pickle may name one a million times, so none is copied."""
    if isinstance(image, bytes):
        return memoryview(image)
    if isinstance(image, _Array) and image.kind == _BYTE and isinstance(image.data, bytes):
        return memoryview(image.data)
    raise DataError(f"an image of the .bin set is {_shown(image)}")


def _flag(value: Any) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise DataError(f"a label of the .bin set is {_shown(value)}", _TRUTHS)


def _shown(value: Any) -> str:
    if isinstance(value, _Array):
        return f"an array of {value.kind!r:.20}"
    if isinstance(value, int) and abs(value) > 2**63:  # whose digits might be millions
        return "an int"
    return f"{value!r:.40}" if isinstance(value, str | float | int) else f"a {type(value).__name__}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
