"""References to rows of a memory map, so that another process maps them instead of a copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from evalkit.bfloat16 import Bfloat16
from evalkit.errors import DataError


class Mapped(NamedTuple):
    """An array in a file that other processes see under the same path, checked by size and time."""

    path: str
    offset: int
    dtype: str
    shape: tuple[int, ...]
    file: tuple[int, int]  # bytes, nanoseconds of its last change

    @classmethod
    def of(cls, x: Any) -> Self | None:
        """Find the file of a C-contiguous view of a memory map; None for any other array."""
        owner, part = None, x
        while isinstance(part, np.ndarray):
            owner, part = (part if isinstance(part, np.memmap) else owner), part.base
        if owner is None or owner.filename is None or not x.flags.c_contiguous:
            return None
        begin = x.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
        path = str(owner.filename)
        return cls(path, owner.offset + begin, x.dtype.str, x.shape, _stamp(path))

    def open(self) -> NDArray[Any]:
        """Map the rows again; DataError where the file of that path is another one here."""
        try:
            same = _stamp(self.path) == self.file
        except OSError as e:
            raise DataError(
                f"a worker cannot read {self.path}: {e.strerror}",
                "features and cache must lie where every worker sees them under the same path",
            ) from e
        if not same:
            raise DataError(
                f"{self.path} changed, or a worker has another file of this name",
                "features and cache must lie where every worker sees them under the same path",
            )
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape).view(np.ndarray)


def closed(x: Any) -> Any:
    """Replace a memory map by a reference to its file, for pickling; other arrays stay."""
    if isinstance(x, Bfloat16):
        return Bfloat16(closed(x.bits))
    return Mapped.of(x) or x


def opened(x: Any) -> Any:
    """Map the rows of a reference that `closed` made; other arrays stay."""
    if isinstance(x, Bfloat16):
        return Bfloat16(opened(x.bits))
    return x.open() if isinstance(x, Mapped) else x


def _stamp(path: str) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns
