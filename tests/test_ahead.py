"""Items made in other threads: in order, and no more at once than asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from evalkit.protocols.ahead import each_ahead


def test_items_come_in_order_and_few_are_made_ahead() -> None:
    taken, met = list[int](), threading.Barrier(3, timeout=30)

    def items() -> Iterator[int]:
        for n in range(9):
            taken.append(n)
            yield n

    def squared(n: int) -> int:
        if n < 3:
            met.wait()  # passes only where three are made side by side
        return n * n

    made = each_ahead(squared, items(), 3)
    assert next(made) == 0
    assert taken == [0, 1, 2, 3]
    assert list(made) == [n * n for n in range(1, 9)]
    assert not list(each_ahead(squared, [], 3))


def test_what_making_raises_is_raised_in_its_turn() -> None:
    made = each_ahead(lambda n: 1 // (2 - n), [0, 1, 2, 3], 2)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(made)
