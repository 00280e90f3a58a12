"""Errors that mean: out of memory; and memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import re
import sys

# Python and torch on a processor; CUDA; cuBLAS and cuDNN (8 and 9); ONNX Runtime's arena.
_WORDS = re.compile(
    r"can'?t allocate memory|not enough memory|bad[_ ]?alloc|out[ _]of[ _]memory|MemoryAllocation"
    r"|CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_\w*ALLOC|failed to allocate|smaller than requested",
    re.IGNORECASE,
)

# Looked up now: a reader of files, which gives memory back, opens no library.  musl has none.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a processor's or a GPU's memory ran out: fewer images or a smaller tile may do."""
    named = type(error).__name__ == "OutOfMemoryError"  # torch's, without importing it
    return isinstance(error, MemoryError) or named or bool(_WORDS.search(str(error)))


def give_back() -> None:
    """Return freed memory to the system, which glibc keeps between pieces that are still in use."""
    if _trim is not None:
        _trim(0)
