"""Digests that name data: two things are the same if and only if these are equal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIGEST = 32  # bytes of a SHA-256


def image_digest(image: bytes | NDArray[np.uint8]) -> bytes:
    """SHA-256 (32 bytes) of an image: of its file, or of shape and pixels without one."""
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    h = hashlib.sha256(f"pixels {image.dtype} {image.shape}".encode())
    h.update(np.ascontiguousarray(image).data)
    return h.digest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def with_extra(digest: bytes, extra: bytes) -> bytes:
    """Digest of an image together with what else decides its pixels; its own where that is b""."""
    return hashlib.sha256(digest + extra).digest() if extra else digest


def known_images(digests: NDArray[np.uint8] | None) -> str | None:
    """SHA-256 in hex of the digests of all images, (N, 32), in row order; None where one is 0."""
    if digests is None or not digests.any(axis=1).all():
        return None
    return hashlib.sha256(np.ascontiguousarray(digests, np.uint8).data).hexdigest()
