"""Vectors kept as bfloat16, of which NumPy has no type: they stay in their file, float32 when read.

A bfloat16 is the upper half of a float32, so that a value is widened without any rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bfloat16:
    """(N, D) or (N, V, D) vectors; a slice of rows stays as it lies, all else is read as float32.

    bits : uint16 array or memory map.
    """

    bits: NDArray[np.uint16]
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D) or (N, V, D)."""
        return self.bits.shape

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.bits.ndim

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, rows: Any) -> Any:
        """Slice rows, and columns beside them; of rows by number or by a mask give the vectors."""
        part = self.bits[rows]
        sliced = isinstance(rows[0] if isinstance(rows, tuple) else rows, slice)
        return Bfloat16(part) if sliced else _widened(part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("bfloat16 is widened, which takes a copy")
        return _widened(self.bits).astype(self.dtype if dtype is None else dtype, copy=False)


def _widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
