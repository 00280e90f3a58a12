"""Items of an iterator made in other threads while those before are used."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")
_THREADS = min(4, os.cpu_count() or 1)  # that make items side by side, each of which takes memory


def one_ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield the items in order, the next of which is made meanwhile; None ends them.

    Closing this iterator waits for the one in the making; what making one raises is raised here.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, items, None)
        while (one := future.result()) is not None:
            future = pool.submit(next, items, None)
            yield one


def each_ahead(
    make: Callable[[T], U], items: Iterable[T], threads: int = _THREADS
) -> Generator[U, None, None]:
    """Yield what `make` makes of each item, in their order, several made side by side.

    At most `threads` are made or wait; closing this iterator waits for those in the making.
    """
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        made = deque(pool.submit(make, item) for item in islice(rest, threads))
        while made:
            one = made.popleft().result()
            made.extend(pool.submit(make, item) for item in islice(rest, 1))
            yield one
