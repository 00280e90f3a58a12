"""The user's cache: its entries, and its size limit."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import EvalkitError
from evalkit.files import cache_folder
from evalkit.locks import is_taken
from evalkit.vectors.store import FeatureStore

STAMPS = "stamps"
SPECS = "specs"
_FEATURES = "features"


@dataclass(frozen=True, slots=True)
class Entry:
    """A feature file in the cache: its size in bytes, when it was last used, in seconds."""

    path: Path
    size: int
    used: float

    def describe(self) -> str:
        """Say which model's vectors it holds, and of how many images."""
        try:
            with FeatureStore.open(self.path, check=False) as store:
                key, n = store.key, len(store.done)
                done = n - len(store.pending())
        except EvalkitError as e:
            return f"unreadable: {e.message}"
        part = "" if done == n else f", {done:,} of them done"
        return f"{n:,} images{part}, {key.get('model') or key.get('runtime', '?')}"


def feature_folder(key_digest: str) -> Path:
    """Folder of the feature files made under one key."""
    return cache_folder() / _FEATURES / key_digest[:16]


def entries() -> list[Entry]:
    """List the feature files in the cache, the one used last first."""
    files = []
    for path in (cache_folder() / _FEATURES).glob("**/*.h5"):
        with suppress(OSError):  # another command may clear it meanwhile
            about = path.stat()
            files.append(Entry(path, about.st_size, about.st_mtime))
    return sorted(files, key=lambda e: (-e.used, e.path))


def clear(*, keep: int = 0, spare: Path | None = None) -> list[Entry]:
    """Delete feature files from the cache, those unused longest first; returns them.

    keep : bytes that may stay, as much as fits of the ones used last.  spare : a file that stays
    whatever it takes.
    A file that another command is writing stays.
    """
    gone, total = [], 0
    for entry in entries():
        total += entry.size
        if entry.path == spare:
            continue
        if total > keep and _delete(entry.path):
            total -= entry.size
            gone.append(entry)
    return gone


def clear_known() -> None:
    """Forget image files, so that every one is read again, and input specs found by trial."""
    for pattern in (f"{STAMPS}/*.npz", f"{SPECS}/*.json"):
        for path in cache_folder().glob(pattern):
            path.unlink(missing_ok=True)


def touch(path: Path) -> None:
    """Note that a file of the cache was used now."""
    with suppress(OSError):
        os.utime(path)


def _delete(path: Path) -> bool:
    if is_taken(path):
        return False
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()
    return True
