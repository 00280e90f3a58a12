"""Errors that mean: out of memory, in the words of each library that has no type for it."""

from __future__ import annotations

import re

# Python and torch on a processor; CUDA; cuBLAS and cuDNN (8 and 9); ONNX Runtime's arena.
_WORDS = re.compile(
    r"can'?t allocate memory|not enough memory|bad[_ ]?alloc|out[ _]of[ _]memory|MemoryAllocation"
    r"|CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_\w*ALLOC|failed to allocate|smaller than requested",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a processor's or a GPU's memory ran out: fewer images or a smaller tile may do."""
    named = type(error).__name__ == "OutOfMemoryError"  # torch's, without importing it
    return isinstance(error, MemoryError) or named or bool(_WORDS.search(str(error)))
