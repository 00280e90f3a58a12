"""Digests of images, cached while their files stay unchanged.

As git's index does it: what `os.stat` says of a file (of an archive's member, what the archive's
directory says) is kept beside the digest of its bytes.  Where that is the same again, so is the
digest; where it is not, or cannot tell (a file that changed within the clock's grain of being
looked at: git's "racy" entries), the bytes are read.
"""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalkit.cache import STAMPS
from evalkit.errors import DataError, EvalkitError
from evalkit.files import cache_folder, whole_file
from evalkit.identity import DIGEST, image_digest
from evalkit.images.source import ImageSource, Stamp

_GRAIN = 2_000_000_000  # ns; the coarsest clock of a file system, FAT's
_MOST = 1_000_000  # stamps kept of one place
_BLOCK = 256  # images that a thread reads at a time
_UNKNOWN = bytes(DIGEST)
_FORMAT = "evalkit-stamps 1"


class ImageDigests:
    """SHA-256 of every image of a source, as far as it is known.

    own : (N, 32) uint8, of the images' bytes; zeros where it is not known.
    verify : believe no stamp; then nothing is known until it is read.
    """

    def __init__(self, source: ImageSource, *, verify: bool = False) -> None:
        self.source = source
        self.own = np.zeros((len(source.keys), DIGEST), np.uint8)
        self._kept = {} if source.stamp is None else _read(source.place)
        self._stamps: list[bytes] = []
        if source.stamp is not None:
            self._look(source.stamp, verify)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) bool: whether an image's digest is known."""
        return np.asarray(self.own.any(axis=1))

    def named(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """Give the digests with what the source's steps do to each image alone; 0 if not known.

        rows : (n,), None = all.  Returns (n, 32) uint8.
        """
        own = self.own if rows is None else self.own[rows]
        if not any(step.of_row for step in self.source.steps):
            return own
        digests = np.zeros_like(own)
        for i, row in enumerate(range(len(own)) if rows is None else rows.tolist()):
            if own[i].any():
                digests[i] = np.frombuffer(self.source.named(row, own[i].tobytes()), np.uint8)
        return digests

    def read(self, rows: NDArray[np.int64], workers: int) -> None:
        """Read the images of these rows; the digest of one that cannot be read stays unknown."""

        def digest(row: int) -> bytes:
            try:
                return image_digest(self.source.raw(row))
            except DataError:
                return _UNKNOWN

        def of_block(some: NDArray[np.int64]) -> None:
            self.own[some] = _column([digest(row) for row in some.tolist()])

        blocks = np.split(rows, range(_BLOCK, len(rows), _BLOCK)) if len(rows) else []
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(of_block, blocks):
                pass

    def keep(self) -> None:
        """Keep stamps and digests for the next run; where there is no cache, it reads again."""
        digests = dict(self._kept)
        for row in np.flatnonzero(self.known).tolist() if self._stamps else ():
            if self._stamps[row]:
                digests[self._stamps[row]] = self.own[row].tobytes()
        if digests == self._kept:
            return
        newest = list(digests.items())[-max(_MOST, len(self._stamps)) :]
        with suppress(OSError, EvalkitError):
            path = _index(self.source.place)
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as f:
                columns = [_column([pair[c] for pair in newest]) for c in (0, 1)]
                np.savez(f, format=_FORMAT, stamps=columns[0], digests=columns[1])

    def _look(self, stamp: Callable[[int], Stamp], verify: bool) -> None:
        # Before the bytes are read: a change in between gives the next run another stamp.
        latest = time.time_ns() - _GRAIN
        for row in range(len(self.source.keys)):
            try:
                token, changed = stamp(row)
            except (OSError, DataError):
                token, changed = b"", 0
            self._stamps.append(token if changed < latest else b"")
        if not verify:
            self.own = _column([self._kept.get(token, _UNKNOWN) for token in self._stamps]).copy()


def _index(place: str) -> Path:
    return cache_folder() / STAMPS / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.npz"


def _read(place: str) -> dict[bytes, bytes]:
    """Stamp -> digest; empty where there is no cache or file of them, or a damaged one."""
    try:
        with _index(place).open("rb") as f, np.load(f, allow_pickle=False) as arrays:
            if str(arrays["format"]) != _FORMAT:
                return {}
            stamps, digests = arrays["stamps"], arrays["digests"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, EvalkitError):
        return {}
    if stamps.ndim != 2 or digests.shape != (len(stamps), DIGEST) or digests.dtype != np.uint8:
        return {}
    return dict(zip(map(bytes, stamps), map(bytes, digests), strict=True))


def _column(texts: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(texts), np.uint8).reshape(len(texts), -1)
