"""Files that are either whole or not there, and the folder that keeps what can be made again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from evalkit.errors import DataError


def cache_folder() -> Path:
    """Find the user's cache: `$EVALKIT_CACHE`, else evalkit's part of XDG's."""
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("EVALKIT_CACHE") or Path(user) / "evalkit")


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a byte order mark, or raise DataError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not a text file: byte {e.start} is not UTF-8") from e
    except FileNotFoundError:
        raise DataError(f"there is no {path}") from None
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror}") from e


def refuse_unwritable(path: Path) -> None:
    """Raise OSError where a file's folder is missing, or a folder has its name."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a file cannot be written over a folder", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no folder", str(path.parent))


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing under another name; it takes its own name when the block is done.

    If the block raises, or the disk is full, nothing of it is left and an older file stays.
    See `refuse_unwritable`.
    """
    refuse_unwritable(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as f:
            yield f
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
