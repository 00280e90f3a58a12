"""Scratch arrays of a thread, used again by its next tile."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

_here = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Hand out an array that the next call of the same thread with the same name overwrites."""
    size = math.prod(shape)
    held = getattr(_here, name, None)
    if held is None or held.size < size or held.dtype != dtype:
        held = np.empty(size, dtype)
        setattr(_here, name, held)
    out: NDArray[Any] = held[:size].reshape(shape)
    return out
