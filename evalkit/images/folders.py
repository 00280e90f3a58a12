"""Every file below a folder, through symbolic links too; folders that may be nobody's own."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from evalkit.errors import DataError
from evalkit.images.kinds import counted, shown
from evalkit.keys import IMAGES, folder_of, spelled_alike

# Names of folders that hold the images of several people.
_PARTS = {"gallery", "gallery_match", "gallery_distractor", "probe", "probes", "query", "queries"}
_PARTS |= {"train", "training", "test", "testing", "val", "valid", "validation", "distractors"}
_PARTS |= {"images", "faces", "unknown", "mugshot_frontal_cropped_all"}


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


def people_in_doubt(keys: Iterable[str]) -> list[str]:
    r"""Say in a line each which folders may not be people of their own, where each counts as one.

    Those inside another person's, those that have one name in several places, or nearly one name,
    those that are called as parts of a set, and one that is alone are.

    >>> people_in_doubt(["ada/1.jpg", "ada/old/2.jpg"])[0].partition(":")[0]
    "1 folder is inside another person's and counts as a person"
    >>> people_in_doubt(["train/ada/1.jpg", "test/ada/2.jpg"])[0].partition(":")[0]
    '2 folders share their names and count as people'
    """
    folders = sorted({folder_of(key) for key in keys} - {""})
    known, places = set(folders), dict[str, list[str]]()
    for folder in folders:
        places.setdefault(folder.rpartition("/")[2], []).append(folder)
    inside = [f for f in folders if any(f[:k] in known for k, c in enumerate(f) if c == "/")]
    alike = [f for of_name in places.values() if len(of_name) > 1 for f in of_name]
    one, many = "folder is inside another person's and counts as", "folders are inside others' and"
    lines = []
    if len(folders) == 1:
        lines.append(f"1 folder alone is there and counts as the only person: {folders[0]}")
    if inside:
        what = "a person" if len(inside) == 1 else "count as people"
        lines.append(f"{counted(inside, one, many)} {what}: {shown(inside)}")
    if alike:
        shared = f"{len(alike):,} folders share their names and count as people"
        lines.append(f"{shared}: {shown(alike)}")
    if nearly := [f"{a} and {b}" for a, b in spelled_alike(folders)]:
        what = "pair of folders differs in case or blanks alone and counts as two people"
        several = "pairs of folders differ in case or blanks alone and count as two people each"
        lines.append(f"{counted(nearly, what, several)}: {shown(nearly)}")
    if parts := [f for f in folders if f.rpartition("/")[2].casefold() in _PARTS]:
        what = "folder is called as a part of a set and counts as a person"
        several = "folders are called as parts of a set and count as people"
        lines.append(f"{counted(parts, what, several)}: {shown(parts)}")
    return [f"{line} (if not, give a list with 'path person' on each line)" for line in lines]
