"""Items of an iterator made in another thread while the one before is used."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield the items in order, the next of which is made meanwhile; None ends them.

    Closing this iterator waits for the one in the making; what making one raises is raised here.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, items, None)
        while (one := future.result()) is not None:
            future = pool.submit(next, items, None)
            yield one
