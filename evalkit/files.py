"""Files that are either whole or not there, and the folder that keeps what can be made again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def cache_folder() -> Path:
    """Find the user's cache: `$EVALKIT_CACHE`, else evalkit's part of XDG's."""
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("EVALKIT_CACHE") or Path(user) / "evalkit")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing under another name; it takes its own name when the block is done.

    If the block raises, or the disk is full, nothing of it is left and an older file stays.
    FileNotFoundError names the folder where that is missing.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no folder", str(path.parent))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as f:
            yield f
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
