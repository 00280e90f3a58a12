"""An adapter that takes one caller at a time and tells how many it had at most."""

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.types import InputSpec


class OneCaller:
    """Vectors hold the most callers seen at once; `streams` is what it allows, one by default."""

    spec = InputSpec(size=(2, 2), color="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)
    dim = 1

    def __init__(self, streams: int | None = None) -> None:
        self._lock, self._now, self._most = threading.Lock(), 0, 0
        if streams is not None:
            self.streams = streams

    def embed(self, images: NDArray[np.uint8]) -> Any:
        with self._lock:
            self._now += 1
            self._most = max(self._most, self._now)
        time.sleep(0.05)
        with self._lock:
            self._now -= 1
        return np.full((len(images), 1), self._most, np.float32)


def on(device: str) -> OneCaller:
    """Make the adapter of a device: "two" allows two callers."""
    return OneCaller(2 if device == "two" else None)
