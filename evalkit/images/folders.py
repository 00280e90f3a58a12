"""Every file below a folder, through symbolic links too."""

from __future__ import annotations

import errno
import os
from collections import deque
from pathlib import Path, PurePosixPath

from evalkit.errors import DataError
from evalkit.images.kinds import counted, shown
from evalkit.keys import IMAGES


def files_below(root: Path) -> tuple[list[str], tuple[str, ...]]:
    """Names of all files below a folder, with "/", and in a line each what links leave out.

    Links to folders are followed, after the folders themselves; each is read once, so that a loop
    of links ends.  An image behind a link that leads nowhere is named, and its reading will tell.
    DataError for a folder that cannot be read: half of a set is no set.
    """
    names: list[str] = []
    again: list[str] = []
    nowhere: list[str] = []
    seen: set[tuple[int, int]] = set()
    real, linked = deque([""]), deque[str]()
    while real or linked:
        folder = real.popleft() if real else linked.popleft()
        try:
            about = (root / folder).stat()
            if (about.st_dev, about.st_ino) in seen:
                again.append(folder)
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(root / folder) as entries:
                for entry in sorted(entries, key=lambda e: e.name):
                    name = f"{folder}{entry.name}"
                    if not entry.is_symlink():
                        real.append(f"{name}/") if entry.is_dir() else names.append(name)
                    elif _exists(entry) and entry.is_dir():
                        linked.append(f"{name}/")
                    elif _exists(entry) or PurePosixPath(name).suffix.lower() in IMAGES:
                        names.append(name)
                    else:
                        nowhere.append(name)
        except OSError as e:
            raise DataError(
                f"{e.filename or root / folder} cannot be read: {e.strerror}",
                "let it be read, or give a folder without it",
            ) from e
    lines = []
    if again:
        folders = counted(again, "folder behind a link was", "folders behind links were")
        lines.append(f"{folders} read under another name: {shown(again)}")
    if nowhere:
        lines.append(f"{counted(nowhere, 'link leads', 'links lead')} nowhere: {shown(nowhere)}")
    return names, tuple(lines)


def _exists(link: os.DirEntry[str]) -> bool:
    """Whether a link leads to anything; OSError where that may not be seen."""
    try:
        link.stat()
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    return True
