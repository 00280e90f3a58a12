"""Tensors of a .safetensors file, mapped where they lie: nothing is read but the header.

Layout: eight bytes, little-endian, with the length of the header; the header, JSON of a name's
dtype, shape and place among the numbers; the numbers, little-endian.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.bfloat16 import Bfloat16
from evalkit.errors import DataError
from evalkit.files import as_path

_LENGTH = 8
_HEADER = 100 << 20  # bytes, as the format's own reader has it
_TYPES = {
    **{"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "BOOL": "?", "U8": "u1"},
    **{"I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"},
}


def map_tensors(path: str | os.PathLike[str]) -> dict[str, NDArray[Any] | Bfloat16]:
    """Map the tensors by name; DataError where the file is damaged, or a type is not known."""
    path = as_path(path)
    size = path.stat().st_size
    with path.open("rb") as f:
        length = int.from_bytes(f.read(_LENGTH), "little")
        if not 2 <= length <= min(size - _LENGTH, _HEADER):
            raise DataError(f"{path.name} is not a safetensors file, or is cut within its header")
        try:
            header = json.loads(f.read(length))
            held = {name: v for name, v in header.items() if name != "__metadata__"}
            return {name: _mapped(path, name, of, _LENGTH + length) for name, of in held.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            raise DataError(f"{path.name} has a damaged header: {e!s:.200}") from e


def _mapped(path: Any, name: str, tensor: dict[str, Any], start: int) -> NDArray[Any] | Bfloat16:
    kind, shape, (begin, end) = tensor["dtype"], tuple(tensor["shape"]), tensor["data_offsets"]
    if kind not in _TYPES:
        raise DataError(
            f"{path.name}: {name!r} is of {kind}", f"expected one of {', '.join(_TYPES)}"
        )
    dtype, room = np.dtype(_TYPES[kind]), path.stat().st_size - start
    whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    if not whole or end - begin != math.prod(shape) * dtype.itemsize or end > room:
        raise DataError(
            f"{path.name} says {name!r} is {kind} of shape {shape} in bytes {begin} to {end} of "
            f"{room}",
            "was it cut?",
        )
    if begin == end:
        return np.empty(shape, dtype)
    numbers = np.memmap(path, dtype, "r", start + begin, shape)
    return Bfloat16(numbers) if kind == "BF16" else numbers
