"""Images by row: bytes, digests and pixels."""

from __future__ import annotations

import lzma
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.errors import DataError
from evalkit.identity import image_digest, with_extra
from evalkit.images.decoding import Picture, decode, decoder
from evalkit.keys import other_folders, rows_of, subjects_of
from evalkit.types import Manifest

_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, struct.error),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
Encoded = bytes | Picture  # an image file's bytes, or pixels where there is no file
Stamp = tuple[bytes, int]  # see `ImageSource.stamp`
Decoded = tuple[bytes, Picture | DataError]  # see `ImageSource.decoded`


@dataclass(frozen=True, slots=True)
class Step:
    """A change of every image, such as its alignment.

    identity : what it does to all of them.  apply : (row, pixels) -> pixels.
    of_row : row -> what it does to that one alone, such as the bytes of its landmarks; None where
    it treats all alike.
    """

    identity: str
    apply: Callable[[int, Picture], Picture]
    of_row: Callable[[int], bytes] | None = None


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Images that can be read by row: row i is called `keys[i]`.

    fetch : row -> the bytes of its file, or (H, W, 3) RGB uint8 where there is none, at any moment
    from any thread; any OSError or DataError where it cannot be had.
    decoder : what turns bytes into pixels, with versions.  steps : what is done to pixels after.
    stamp : row -> (token, when it last changed in nanoseconds, 0 = cannot be too recent); an image
    with the token of an earlier run has the bytes of then.  None where only reading can tell.
    left_out : lines that tell what beside the images was not read, and why, and by which names
    they were found.
    place : the folder or file that holds the images; what is known of their stamps is kept under
    this name.
    """

    keys: tuple[str, ...]
    fetch: Callable[[int], Encoded]
    decoder: str
    steps: tuple[Step, ...] = ()
    stamp: Callable[[int], Stamp] | None = None
    left_out: tuple[str, ...] = ()
    place: str = ""

    @property
    def identity(self) -> str:
        """What else than their bytes decides the pixels of all images: decoder and steps."""
        return "; ".join([self.decoder, *(step.identity for step in self.steps)])

    def raw(self, row: int) -> Encoded:
        """Fetch an image's bytes (pixels where there are none); DataError where it cannot be."""
        try:
            return self.fetch(row)
        except (DataError, *_UNREADABLE) as e:
            raise self._unreadable(row, e) from e

    def read(self, row: int, data: Encoded | None = None) -> Picture:
        """Give an image as (H, W, 3) RGB uint8; DataError where it cannot be read.

        data : what `raw` gave for this row, where it is at hand.
        """
        content = self.raw(row) if data is None else data
        try:
            picture = decode(content) if isinstance(content, bytes) else content
        except DataError as e:
            raise self._unreadable(row, e) from e
        for step in self.steps:
            picture = step.apply(row, picture)
        return picture

    def decoded(self, row: int) -> Decoded:
        """Give the SHA-256 of an image's bytes, or b"", and its pixels, or why there are none."""
        digest = b""
        try:
            data = self.raw(row)
            digest = image_digest(data)
            return digest, self.read(row, data)
        except DataError as e:
            return digest, e.with_traceback(None)  # frames would be kept with it

    def why(self, row: int) -> str:
        """Say why an image cannot be read, in its decoder's words; empty where it can."""
        try:
            self.read(row)
        except DataError as e:
            return e.message
        return ""

    def digest(self, row: int, data: Encoded | None = None) -> bytes:
        """SHA-256 (32 bytes) of an image's bytes, and of what the steps do to it alone."""
        return self.named(row, image_digest(self.raw(row) if data is None else data))

    def named(self, row: int, digest: bytes) -> bytes:
        """Add to the digest of an image's bytes what the steps do to it alone (landmarks)."""
        return with_extra(digest, b"".join(s.of_row(row) for s in self.steps if s.of_row))

    def select(self, keys: Sequence[str]) -> ImageSource:
        """Put these images in this order, under these names, with or without prefix and suffix.

        Outer folders that differ are told in `left_out`.
        """
        places = rows_of(keys, self.keys, "images", same_folders=True)
        other, rows = other_folders(keys, self.keys, places), places.tolist()
        fetch, stamp = self.fetch, self.stamp
        return replace(
            self.telling(other and f"images are matched {other}"),
            keys=tuple(keys),
            fetch=lambda i: fetch(rows[i]),
            stamp=None if stamp is None else lambda i: stamp(rows[i]),
            steps=tuple(_of(step, rows) for step in self.steps),
        )

    def telling(self, line: str) -> ImageSource:
        """Add a line, if there is one, to what is told of the images."""
        return replace(self, left_out=(*self.left_out, line)) if line else self

    def then(
        self,
        apply: Callable[[int, Picture], Picture],
        identity: str,
        of_row: Callable[[int], bytes] | None = None,
    ) -> ImageSource:
        """Add a step, see `Step`."""
        return replace(self, steps=(*self.steps, Step(identity, apply, of_row)))

    def resized(self, size: tuple[int, int]) -> ImageSource:
        """Bring every image to (height, width) by Pillow's bilinear filter, not keeping aspect."""
        from PIL import Image

        def step(_: int, image: Picture) -> Picture:
            if image.shape[:2] == size:
                return image
            shape = (size[1], size[0])
            return np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR))

        return self.then(step, f"resized to {size[0]}x{size[1]}")

    def manifest(self) -> Manifest:
        """Take the folder of each image for its subject; -1 for images without a folder."""
        return Manifest(self.keys, subjects_of(self.keys))

    def _unreadable(self, row: int, error: Exception) -> DataError:
        reason = error.message if isinstance(error, DataError) else str(error)
        return DataError(f"{self.keys[row]} cannot be read: {reason}")


def encoded(keys: Sequence[str], fetch: Callable[[int], bytes]) -> ImageSource:
    """Make a source of image files: `fetch(i)` gives the bytes of the one called `keys[i]`."""
    return ImageSource(tuple(keys), fetch, decoder())


def _of(step: Step, rows: Sequence[int]) -> Step:
    apply, of_row = step.apply, step.of_row
    return Step(
        step.identity,
        lambda i, picture: apply(rows[i], picture),
        None if of_row is None else lambda i: of_row(rows[i]),
    )


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
