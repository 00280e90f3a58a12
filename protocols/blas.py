"""One thread for the linear algebra of small matrices, and inside tiles that run side by side.

BLAS splits even a product of 128 x 128 matrices over all cores.  Beside other work its threads
mostly wait for each other, and they wait busily: Joint Bayesian on LFW took 259 s of processor time
on two busy cores, and 6 s on one thread.  One thread also makes the result the same for every
number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS use one thread inside, where threadpoolctl is installed; else change nothing."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(limits=1, user_api="blas"):
        yield


def can_be_one_thread() -> bool:
    """Whether `one_thread` has an effect, or the environment sets one thread anyway."""
    settings = (os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))
    return find_spec("threadpoolctl") is not None or "1" in settings
