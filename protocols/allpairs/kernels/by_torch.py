"""int8, bfloat16 and float32 products of tiles by torch on a processor.

Imported only where torch is installed and the job is large enough.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evalkit.torch_float32 import float32_is_float32
from evalkit.types import Floats

GPU = "cuda" if torch.cuda.is_available() else None
_here = threading.local()
_OUT = {"int8": torch.int32, "bfloat16": torch.bfloat16, "torch-float32": torch.float32}


def tensor(x: NDArray[Any], *, bfloat16: bool = False) -> Any:
    """Share an array's memory with torch; nothing is ever written through it.

    bfloat16 : the array, int16, holds its bits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "the array is not writable"
        shared = torch.from_numpy(x)
    return shared.view(torch.bfloat16) if bfloat16 else shared


def to_bfloat16(x: NDArray[np.float32]) -> tuple[NDArray[np.int16], Floats]:
    """Round rows to bfloat16: its bits, (n, k), and the length of what each row lost, (n,)."""
    wide = tensor(x)
    short = wide.bfloat16()
    lost = (wide.double() - short.double()).norm(dim=1)
    return short.view(torch.int16).numpy(), lost.numpy()


def product(arithmetic: str, x: Any, y: Any) -> NDArray[Any]:
    """Multiply a tile into keys, (m, n) int32, float32, or the bits of bfloat16 as int16.

    The next product of the same thread overwrites them.
    """
    m, n, dtype = len(x), len(y), _OUT[arithmetic]
    buffer = getattr(_here, arithmetic.replace("-", "_"), None)
    if buffer is None or buffer.numel() < m * n:
        buffer = torch.empty(m * n, dtype=dtype)
        setattr(_here, arithmetic.replace("-", "_"), buffer)
    out = buffer[: m * n].view(m, n)
    if arithmetic == "int8":
        torch._int_mm(x, y.T, out=out)
    else:
        torch.mm(x, y.T, out=out)
    keys: NDArray[Any] = (out.view(torch.int16) if dtype == torch.bfloat16 else out).numpy()
    return keys


def trusted(arithmetic: str) -> bool:
    """Test an arithmetic on inputs that break weak kernels: extremes of int8, odd lengths.

    Some int8 kernels saturate 16-bit intermediates; some builds lack the operation.
    """
    rng = np.random.default_rng(0)
    for m, k, n in ((3, 36, 5), (64, 128, 96), (65, 124, 33), (1, 512, 1), (2, 4, 3), (1, 4, 7)):
        a, b = rng.choice([-127, 127], (m, k)), rng.choice([-127, 127], (n, k))
        b[0] = a[0]
        try:
            x, y = torch.from_numpy(a), torch.from_numpy(b)
            to = {"int8": torch.int8, "bfloat16": torch.bfloat16}.get(arithmetic, torch.float32)
            keys = product(arithmetic, x.to(to), y.to(to))
        except (RuntimeError, AttributeError, NotImplementedError):
            return False
        if arithmetic == "bfloat16":
            keys = (keys.astype(np.int32) << 16).view(np.float32)
        exact = (a @ b.T).astype(np.float64)
        if not (
            np.abs(keys - exact) <= (2.0**-8 * np.abs(exact) if "b" in arithmetic else 0)
        ).all():
            return False
    return True


def one_thread_here() -> None:
    """Let torch use one thread inside this thread; OpenMP's number is each thread's own."""
    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Context in which torch uses one thread, while tiles run in parallel, and float32 is float32.

    Threads that are started meanwhile call `one_thread_here`.  The caller's program may allow TF32
    or bfloat16 for its own products.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with float32_is_float32():
            yield
    finally:
        torch.set_num_threads(before)
