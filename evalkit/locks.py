"""File locks: one writer at a time; a second one waits, or is refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from evalkit import files
from evalkit.errors import EvalkitError, FeatureStoreError


def take(handle: IO[bytes], path: Path) -> None:
    """Lock an open file; the system drops the lock with the process.

    FeatureStoreError, and the file is closed, where another process has it.  On Windows nothing
    keeps a second writer out.
    """
    if os.name == "nt":  # pragma: no cover
        return
    try:
        files.lock(handle.fileno())
    except OSError as e:
        handle.close()
        if not isinstance(e, BlockingIOError):
            raise
        raise FeatureStoreError(
            f"another process is writing {path}", "wait for it, or give another file"
        ) from e


def is_taken(path: Path) -> bool:
    """Tell whether a process has a file locked."""
    try:
        with path.open("rb") as handle:
            take(handle, path)
    except FeatureStoreError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def exclusive(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let one command at a time make a file; others that ask for it wait, and say so.

    The lock is an empty file in the cache.  Without a cache, or on Windows, nobody waits: the lock
    of the file itself then refuses the second.
    """
    try:
        import fcntl

        name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
        lock = files.cache_folder() / "locks" / name
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("ab")
    except (ImportError, OSError, EvalkitError):
        yield
        return
    with handle:
        try:
            files.lock(handle.fileno())
        except BlockingIOError:
            say(f"waiting for another evalkit that is making {path.name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
