"""Adapter of a function from images to vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import answers, users_code
from evalkit.adapters.calling import check_images, in_batches, vectors
from evalkit.arrays import array
from evalkit.types import InputSpec


class FunctionModel:
    """Any callable from (N, H, W, 3) RGB uint8 to N vectors: an array, tensor or lists of numbers.

    spec : of it, size and crop say which images are wanted; colours, mean and standard deviation
    are the function's own affair.
    """

    fills_passes = True
    transient = True

    def __init__(self, function: Callable[[NDArray[np.uint8]], Any], spec: InputSpec) -> None:
        self.spec, self._function = spec, function
        self.name = getattr(function, "__qualname__", type(function).__qualname__)
        self.dim, self.batch, self.doubt = answers.probe(self._forward, spec, None, self.name)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32, not normalised."""
        return in_batches(self._forward, images, self.batch)

    def _forward(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_images(images, self.spec)
        with users_code.blamed(self.name, f"failed on {len(images)} images"):
            output = self._function(images.copy())  # some write into what they are fed
        return vectors(array(output, f"output of {self.name}"), len(images), self.name)
