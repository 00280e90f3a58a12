"""Collectors of a pass over all pairs: highest pairs, pairs around a rank, the best per row.

Each collector stores a little more than the answer, by scores with a known error, and settles it
afterwards by exact scores: neither the order of tiles nor the rounding of the screen can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from evalkit.protocols.allpairs.screening.tiles import Candidates, Interval, Tile

State = dict[str, NDArray[Any]]


class Collector(Protocol):
    """One result of a pass: which pairs to request, how to store them, how to merge."""

    def intervals(self, i0: int, i1: int) -> Sequence[Interval]:
        """Request intervals of scores for rows i0..i1."""

    def examine(self, tile: Tile, sifted: Sequence[tuple[Candidates, int]]) -> Any:
        """Reduce a tile to a result: its candidates in each interval and the count above it.

        Called in any thread; must not change the collector.
        """

    def absorb(self, result: Any) -> None:
        """Add what `examine` returned; never in two threads at once."""

    def question(self) -> str:
        """Describe the question, so that a checkpoint of another one is refused."""

    def state(self) -> State:
        """Return everything absorbed, as arrays, without the starting estimates."""

    def merge(self, state: State) -> None:
        """Absorb the state of another collector of the same question."""
