"""Scratch arrays per thread, reused by its next tile."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

_here = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array that the next call of the same thread with the same name overwrites."""
    size = math.prod(shape)
    buffer = getattr(_here, name, None)
    if buffer is None or buffer.size < size or buffer.dtype != dtype:
        buffer = np.empty(size, dtype)
        setattr(_here, name, buffer)
    out: NDArray[Any] = buffer[:size].reshape(shape)
    return out
