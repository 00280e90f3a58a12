"""The interface of a model: its input spec, the dimension of its vectors, and `embed`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evalkit.types import InputSpec


@runtime_checkable
class Adapter(Protocol):
    """A model as evalkit uses it.

    spec : the images it wants.  dim : length D of its vectors.
    An adapter may add: `fingerprint`, a digest of the weights, and `runtime`, a line naming
    runtime, device and precision, under which features are stored too (the proof that a
    model made them is its vectors of four fixed images, `answers`); `name`, for messages;
    `batch`, where it takes exactly so many images; `streams`, threads that may call it at once;
    `transient`, true of a model of this process, which may be another one at the next call: its
    vectors are kept in no cache.
    """

    spec: InputSpec
    dim: int

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32, not normalised, for any N >= 1.

        Row i depends on image i alone. A row with a NaN means: no template. Memory that runs out
        is a MemoryError; the caller tries again with fewer images.
        """
        ...


def fingerprint(adapter: Adapter) -> str:
    """Digest of a model's weights; empty where only its answers identify it."""
    return str(getattr(adapter, "fingerprint", ""))
