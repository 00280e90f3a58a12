"""Reader of MATLAB's .mat files, version 5 to 7.2, with every length checked.

SciPy's reader ends the process with a segmentation fault on some damaged files (1.17: a few dozen
random byte changes are enough), and lists of pairs and features come from strangers.  Layout:
"MAT-File Format", The MathWorks, chapter 1.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.errors import DataError
from evalkit.files import as_path, refuse_lfs_pointer

# The codes of the format, as numpy spells them.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_NUMBERS |= {12: "i8", 13: "u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CLASSES = dict(enumerate(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"], start=6))
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_LARGEST = 1 << 31  # bytes that all variables may decompress to, or
_PACKED = 32  # as many times the file's own, and
_ROOM = 16 << 20  # these in any case
_COMPLEX = 0x800  # of the array flags
_DEEPEST = 8  # cells within cells


@dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    data: memoryview


class _DamagedError(Exception):
    """What is wrong, for the one place that knows the file's name."""


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the variables of a .mat file by name.

    A numeric array is an ndarray of its own shape; text is a str, or a list of them where it has
    several rows; a cell is a list in column order; a struct is a dict, or a list of them.  Sparse
    arrays, objects and functions are left out.
    """
    path = as_path(path)
    refuse_lfs_pointer(path)
    data = path.read_bytes()
    if data[:4] == b"\x89HDF" or data[512:516] == b"\x89HDF":
        raise DataError(f"{path.name} is a MATLAB 7.3 file", "save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise DataError(f"{path.name} is not a MATLAB file of version 5 to 7")
    variables: dict[str, Any] = {}
    room = min(_LARGEST, max(_ROOM, _PACKED * len(data)))
    try:
        for element in _elements(memoryview(data)[128:], order):
            if element.kind == _COMPRESSED:
                unpacked = _decompressed(element.data, room)
                room -= len(unpacked)
                element = next(_elements(unpacked, order))
            if element.kind == _MATRIX:
                name, value = _matrix(element.data, order, 0)
                if value is not None:
                    variables[name] = value
    except (_DamagedError, zlib.error, UnicodeDecodeError, StopIteration) as e:
        raise DataError(f"{path.name} is a damaged MATLAB file: {e}") from e
    return variables


def _decompressed(data: memoryview, room: int) -> memoryview:
    stream = zlib.decompressobj()
    out = stream.decompress(data, room + 1)
    if len(out) > room:
        raise _DamagedError(f"it unpacks to more than {_PACKED} times its size")
    return memoryview(out)


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Yield the tagged elements that follow each other in `data`."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise _DamagedError(f"{len(data) - at} bytes are not an element")
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # up to four bytes, packed into the tag
            size, kind, start, width = kind >> 16, kind & 0xFFFF, at + 4, 8
            if size > 4:
                raise _DamagedError(f"a packed element of {size} bytes")
        else:
            padding = 0 if kind == _COMPRESSED else -size % 8
            start, width = at + 8, 8 + size + padding
        if start + size > len(data):
            raise _DamagedError(f"an element of {size} bytes where {len(data) - start} are left")
        yield _Element(kind, data[start : start + size])
        at += width


def _matrix(data: memoryview, order: str, depth: int) -> tuple[str, Any]:
    """Give a variable's name and value; None for a kind that is left out."""
    if not len(data):
        return "", np.empty((0, 0))
    if depth > _DEEPEST:
        raise _DamagedError("cells are nested too deeply")
    parts = _elements(data, order)
    flags = _numbers(next(parts), order)
    shape = tuple(_numbers(next(parts), order).tolist())
    name = bytes(next(parts).data).decode("utf-8")
    if not len(flags) or len(shape) < 2 or min(shape) < 0:
        raise _DamagedError(f"{name!r} has no usable shape")
    kind, count = int(flags[0]) & 0xFF, math.prod(int(n) for n in shape)
    if kind in _CLASSES:
        values = _numbers(next(parts), order) if count else np.empty(0)
        if len(values) != count:
            raise _DamagedError(f"{name!r} of shape {shape} holds {len(values)} values")
        if int(flags[0]) & _COMPLEX and count:
            return name, _complex(values, _numbers(next(parts), order), name).reshape(
                shape, order="F"
            )
        return name, values.reshape(shape, order="F").astype(_CLASSES[kind])
    if kind == _CHAR:
        return name, _text(next(parts), order, shape[0], count, name) if count else ""
    if kind == _CELL:
        return name, [_matrix(part.data, order, depth + 1)[1] for part in _take(parts, count, name)]
    if kind == _STRUCT:
        return name, _struct(parts, order, count, name, depth)
    return name, None


def _complex(
    real: np.ndarray[Any, np.dtype[Any]], imaginary: np.ndarray[Any, np.dtype[Any]], name: str
) -> np.ndarray[Any, np.dtype[Any]]:
    """Join both parts, so that whoever expects real numbers sees that these are none."""
    if len(real) != len(imaginary):
        raise _DamagedError(f"{name!r} has {len(real)} real and {len(imaginary)} imaginary values")
    return np.asarray(real + 1j * imaginary)


def _take(parts: Iterator[_Element], count: int, name: str) -> list[_Element]:
    """Take the `count` matrices that a cell or struct should hold."""
    elements: list[_Element] = []
    for part in parts:
        if len(elements) == count:
            break
        if part.kind != _MATRIX:
            raise _DamagedError(f"{name!r} holds an element of kind {part.kind}")
        elements.append(part)
    if len(elements) != count:
        raise _DamagedError(f"{name!r} holds {len(elements)} of {count} entries")
    return elements


def _numbers(element: _Element, order: str) -> np.ndarray[Any, np.dtype[Any]]:
    code = _NUMBERS.get(element.kind)
    if code is None or len(element.data) % int(code[1]):
        raise _DamagedError(f"{len(element.data)} bytes of kind {element.kind} are not numbers")
    return np.frombuffer(element.data, order + code)


def _text(element: _Element, order: str, rows: int, count: int, name: str) -> str | list[str]:
    codec = _TEXT.get(element.kind)
    if codec is None:
        raise _DamagedError(f"{name!r} is text of kind {element.kind}")
    if codec not in ("latin-1", "utf-8"):
        codec += "-le" if order == "<" else "-be"
    text = bytes(element.data).decode(codec)
    if len(text) != count:
        raise _DamagedError(f"{name!r} should have {count} characters and has {len(text)}")
    lines = [text[row::rows].rstrip(" ") for row in range(rows)]  # as MATLAB pads them
    return lines[0] if rows == 1 else lines


def _struct(parts: Iterator[_Element], order: str, count: int, name: str, depth: int) -> Any:
    widths = _numbers(next(parts), order)
    width = int(widths[0]) if len(widths) else 0
    packed = bytes(next(parts).data)
    if width < 1 or len(packed) % width:
        raise _DamagedError(f"{name!r} has field names of {width} bytes")
    starts = range(0, len(packed), width)
    fields = [packed[o : o + width].split(b"\0")[0].decode("utf-8") for o in starts]
    values = _take(parts, count * len(fields), name)
    entries = [
        {f: _matrix(values[k + n].data, order, depth + 1)[1] for n, f in enumerate(fields)}
        for k in range(0, len(values), max(len(fields), 1))
    ]
    return entries[0] if len(entries) == 1 else entries
