"""Digest of an ONNX model: its file and the weight files that it names."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from evalkit.errors import ModelError
from evalkit.files import as_path, refuse_lfs_pointer

# Protobuf's StringStringEntryProto, as external tensors name their file: any spelling of the key,
# and the one spelling of key and value that is let in.
_LOCATION = re.compile(rb"\x0a(?:\x08|\x88\x80*\x00)location")
_ENTRY = re.compile(rb"\x0a\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x7f])")


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the model and of the weight files it names, which must lie in its own folder."""
    path = as_path(path)
    refuse_lfs_pointer(path, ModelError)
    data = path.read_bytes()
    h = hashlib.sha256(data)
    for name in sorted({_named(data, match.start(), path) for match in _LOCATION.finditer(data)}):
        inside = os.path.normpath(name)
        if Path(inside).is_absolute() or inside.startswith(".."):
            raise ModelError(
                f"{path.name} keeps weights outside its folder: {name!r}",
                "put them beside the model and export it again",
            )
        if (path.parent / inside).is_file():
            refuse_lfs_pointer(path.parent / inside, ModelError)
            with (path.parent / inside).open("rb") as weights:
                h.update(hashlib.file_digest(weights, "sha256").digest())
    return f"sha256:{h.hexdigest()[:16]}"


def _named(data: bytes, at: int, path: Path) -> str:
    """Read the file name in the entry whose key begins at `at`.

    The entry must be exactly key and value: protobuf also knows other orders, and takes the last of
    several values, so that the runtime would read another file than the one seen here.
    """
    if match := _ENTRY.match(data, at):
        low, *high = match[1]
        end = match.end() + ((low & 0x7F) | (high[0] << 7 if high else 0))
        size = end - at
        announced = bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])
        if data[at - len(announced) : at] == announced and end <= len(data):
            return data[match.end() : end].decode("utf-8", "replace")
    raise ModelError(f"{path.name} names its weights in a way that no exporter does")
