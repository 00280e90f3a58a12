"""Room for the candidates of a GPU's tile, and what is raised where there are more."""

from __future__ import annotations


class TooManyError(Exception):
    """A tile holds more candidates than there is room for; `count` of them."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


def room_for(columns: int) -> int:
    """Candidates for which there is room in a tile of so many columns: a whole row always fits."""
    return max(1 << 20, columns)
