"""Decoded images kept in memory, for a model that sees the same ones again and again."""

from __future__ import annotations

import threading

from evalkit.images.source import Decoded, ImageSource


class KeptImages:
    """The pixels of a source's images, kept from the first time that they are asked for.

    source : images in the order and size in which the model takes them; they must not change.
    room : bytes of pixels at most; what finds no room is decoded each time.
    """

    def __init__(self, source: ImageSource, room: int) -> None:
        self.source, self._room = source, room
        self._held: dict[int, Decoded] = {}
        self._lock = threading.Lock()

    def decoded(self, row: int) -> Decoded:
        """Give what `ImageSource.decoded` gives; any thread may ask."""
        if row in self._held:
            return self._held[row]
        image = self.source.decoded(row)
        size = getattr(image[1], "nbytes", 0)
        with self._lock:
            if size <= self._room and row not in self._held:
                self._held[row] = image
                self._room -= size
        return image
