"""Where the rows of a memory map lie, so that another process can map them instead of a copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError


class Mapped(NamedTuple):
    """An array in a file that others see under the same path; size and time tell whether it is."""

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
        """Map the rows again; DataError where the file here is not the one that was meant."""
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
    """Give the name of its file for a memory map, which then travels to another process so."""
    return Mapped.of(x) or x


def opened(x: Any) -> Any:
    """Undo `closed`."""
    return x.open() if isinstance(x, Mapped) else x


def _stamp(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_size, found.st_mtime_ns
