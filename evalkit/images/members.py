"""What every container of images shares: names of its images, pieces of its file, stamps."""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import IO

from evalkit.errors import DataError, first_few
from evalkit.images.kinds import counted, shown
from evalkit.images.source import Encoded, ImageSource, Stamp, encoded

MOST_BYTES = 256 << 20  # of an image
NOBODY = frozenset(("", "-1", "-1.0", "nan", "None"))  # labels that say who is not known


def file_stamp(path: Path) -> Stamp:
    """Take what changes with a file: device, inode, size, times of its content and of itself.

    The last cannot be set back by programs that keep the one before it (`cp -p`, `rsync -t`).
    """
    at = os.stat(path)  # noqa: PTH116 - a third faster than Path.stat, of 100,000 files
    token = struct.pack("<QQqqq", at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns)
    return token, max(at.st_mtime_ns, at.st_ctime_ns)


def of_container(
    path: Path,
    names: Sequence[str],
    fetch: Callable[[int], bytes],
    place: Callable[[int], int],
    left_out: tuple[str, ...] = (),
) -> ImageSource:
    """Make a source of images that lie in one file, image i at `place(i)`, below 2^64."""
    token, changed = file_stamp(path)

    def stamp(row: int) -> Stamp:
        return token + struct.pack("<Q", place(row)), changed

    return replace(encoded(tuple(names), fetch), stamp=stamp, left_out=left_out)


def refuse_large(size: int) -> None:
    """Raise DataError where a file has more bytes than an image of a face."""
    if size > MOST_BYTES:
        raise DataError("the file is larger than any face image")


def piece(file: IO[bytes], offset: int, size: int) -> bytes:
    """Read bytes of a file; DataError where they are more than an image's, or it ends before."""
    refuse_large(size)
    file.seek(offset)
    data = file.read(size)
    while len(data) < size and (more := file.read(size - len(data))):  # of a network's file system
        data += more
    if len(data) < size:
        raise DataError("the file ends before the image does")
    return data


def piece_of(path: Path, offset: int, size: int) -> bytes:
    """Open a file for a `piece` of it."""
    with path.open("rb", buffering=0) as f:
        return piece(f, offset, size)


def labelled(name: str, label: str) -> str:
    """Name an image under its label, which so is its subject; a label of `NOBODY` is none.

    >>> labelled("train/000001.jpg", "17"), labelled("train/000002.jpg", "-1")
    ('17/train_000001.jpg', 'train_000002.jpg')
    """
    parts = (name,) if label in NOBODY else (label, name)
    return "/".join(part.replace("\\", "/").replace("/", "_") for part in parts)


def of_nobody(names: Sequence[str]) -> tuple[str, ...]:
    """Tell in a line how many images named by `labelled` have no label; none where all have one."""
    without = [name for name in names if "/" not in name]
    images = counted(without, "image has", "images have")
    line = f"{images} no label (-1, nan or none), and are of nobody known: {shown(without)}"
    return (line,) if without else ()


def as_key(name: str) -> str:
    """Spell the name of an archive's member as a key: UTF-8, no "./" and no "/" before it.

    >>> as_key("./A/A_0001.jpg")
    'A/A_0001.jpg'
    """
    try:
        name.encode()
    except UnicodeEncodeError as e:
        raise DataError(f"the name {name!a} is not UTF-8", "pack the archive again") from e
    parts = PurePosixPath(name).parts
    return "/".join(parts[1:] if parts[:1] == ("/",) else parts)


def together(
    sources: Sequence[ImageSource], folder: Path, names: Sequence[str] = ()
) -> ImageSource:
    """Join the images of several containers of a folder, such as WebDataset's shards.

    Names that come in several are told apart by a number before them: `17/0_000001.jpg`.  Told is
    where these are of people called alike, who may be others: unless the names of the containers
    differ in numbers alone, as those of shards do.
    """
    starts = list(accumulate([len(source.keys) for source in sources], initial=0))
    left_out = tuple(line for source in sources for line in source.left_out)
    keys = [key for source in sources for key in source.keys]
    if len(set(keys)) < len(keys):
        if not all("/" in key for key in keys):
            raise DataError(
                f"{folder} has containers that name {len(keys) - len(set(keys)):,} images alike",
                "give one of them",
            )
        if len({re.sub("[0-9]+", "", name) for name in names}) > 1:
            left_out += (
                f"{first_few(names, 3)} have {len(keys) - len(set(keys)):,} names of images in "
                "common: people called alike count as one person (if not, give one of them)",
            )
        keys = [
            f"{key.rpartition('/')[0]}/{n}_{key.rpartition('/')[2]}"
            for n, source in enumerate(sources)
            for key in source.keys
        ]

    def at(row: int) -> tuple[ImageSource, int]:
        number = bisect_right(starts, row) - 1
        return sources[number], row - starts[number]

    def fetch(row: int) -> Encoded:
        source, own = at(row)
        return source.fetch(own)

    return ImageSource(tuple(keys), fetch, sources[0].decoder, left_out=left_out)
