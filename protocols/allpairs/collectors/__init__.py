"""What a pass over all pairs keeps: the highest, those around a wanted rank, each row's best.

Each collector keeps a little more than the answer, by scores with a known error, and settles it
afterwards by exact scores: neither the order of tiles nor the rounding of the screen can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from evalkit.protocols.allpairs.screening.tiles import Found, Interval, Tile

State = dict[str, NDArray[Any]]


class Collector(Protocol):
    """What a pass keeps."""

    def intervals(self, i0: int, i1: int) -> Sequence[Interval]:
        """Say which scores of rows i0..i1 it wants to see."""

    def examine(self, tile: Tile, found: Sequence[tuple[Found, int]]) -> Any:
        """Look at a tile, and at what lies in each of the intervals and how many pairs above it.

        In any thread, changing nothing.
        """

    def absorb(self, found: Any) -> None:
        """Take what `examine` returned; never in two threads at once."""

    def question(self) -> str:
        """Say what is wanted, so that a checkpoint of another question is refused."""

    def state(self) -> State:
        """All that was absorbed, as arrays; not what it started from."""

    def merge(self, state: State) -> None:
        """Absorb what another collector of the same question held."""
