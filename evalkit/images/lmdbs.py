"""Images in LMDB files, a key and an encoded image an entry, read without its library.

liblmdb ends the process on a damaged file (SIGBUS in 12 of 60 tried).  A file is pages: two of
them say where the root of a B+tree is, whose leaves hold keys and values, long values on pages of
their own (lmdb 0.9, `mdb.c`).  The numbers are those of a little-endian machine of 64 bits.
"""

from __future__ import annotations

import io
import struct
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from evalkit.errors import DataError
from evalkit.images.kinds import counted, shown
from evalkit.images.members import as_key, of_container, piece, piece_of
from evalkit.images.source import ImageSource
from evalkit.keys import IMAGES

ENDINGS = (".lmdb", "data.mdb")
# Magic, version, the size of a page, the root, and how many times the file was written.
_META, _TREE = struct.Struct("<16xII16xI44x40xQ8xQ"), struct.Struct("<IHH5Q")
_PAGE, _NODE = struct.Struct("<Q2xHH2x"), struct.Struct("<HHHH")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF = 1, 2  # kinds of page
_LONG, _SUBTREE, _SEVERAL = 1, 2, 4  # kinds of value
_SIZES = {1 << bits for bits in range(9, 17)}  # of a page
_NOWHERE = (1 << 64) - 1  # the root of an empty tree
# How files begin that hold an image.
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"RIFF", b"P5", b"P6")
_LOOK = 4

_Value = tuple[bytes, int, int]  # key, and where the value begins and how many bytes it has


def read(path: Path) -> ImageSource:
    """Open an LMDB file, or the `data.mdb` of its folder: images under their keys, in that order.

    Entries that begin as no image, such as `__len__`, are left out and told; one that is named as
    an image is one, and its reading will tell.  DataError where all are so (arrays and pickles are
    not read), and where two entries have one name.
    """
    names, offsets, sizes, whole = list[str](), array("Q"), array("Q"), bytearray()
    try:
        with path.open("rb", buffering=0) as f:
            for key, at, size in _values(f):
                names.append(as_key(key.decode("utf-8", "surrogateescape")))
                offsets.append(at)
                sizes.append(size)
                f.seek(at)
                whole.append(f.read(_LOOK).startswith(_IMAGES))
    except (struct.error, ValueError, IndexError) as e:
        raise DataError(f"{path} is not a whole LMDB file: {e}") from e
    images = [name for name, is_whole in zip(names, whole, strict=True) if is_whole]
    others = [name for name, is_whole in zip(names, whole, strict=True) if not is_whole]
    left_out: tuple[str, ...] = ()
    if others:
        several = "entries are not images"
        left_out = (f"{counted(others, 'entry is not an image', several)}: {shown(others)}",)
    if others and not images:
        raise DataError(
            f"{path} holds no encoded image; {left_out[0]}",
            "put the bytes of a JPEG or PNG file under each key, not an array or a pickle",
        )
    if len(set(images)) < len(images):
        twice = next(name for name, n in Counter(images).items() if n > 1)
        raise DataError(
            f"{path} has {len(images):,} images of {len(set(images)):,} names, {twice!r} twice",
            "put each of its databases into a file of its own",
        )
    broken = {n for n in others if PurePosixPath(n).suffix.lower() in IMAGES} - {*images}
    rows = [row for row, name in enumerate(names) if whole[row] or name in broken]
    return of_container(
        path,
        [names[row] for row in rows],
        lambda k: piece_of(path, offsets[rows[k]], sizes[rows[k]]),
        lambda k: offsets[rows[k]],
        left_out,
    )


def _values(f: IO[bytes]) -> Iterator[_Value]:
    """Yield every key with the place of its value, in the order of the keys; each page once.

    So a file of loops and of pages that many name ends, and what it names is less than itself.
    """
    page, root = _root(f)
    pages = f.seek(0, io.SEEK_END) // page
    seen, waiting = {_NOWHERE}, [root]
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        if number >= pages:
            raise ValueError(f"no page {number}")
        data = piece(f, number * page, page)
        said, kind, lower = _PAGE.unpack_from(data)
        places = struct.unpack_from(f"<{(lower - _PAGE.size) // 2}H", data, _PAGE.size)
        if said != number or not kind & (_BRANCH | _LEAF):
            raise ValueError(f"page {number} is not one of a tree")
        nodes = [_node(data, at) for at in places]
        if sum(len(key) for key, _, _, _ in nodes) > page:
            raise ValueError(f"the keys of page {number} overlap")
        if kind & _BRANCH:
            waiting += [child | flags << 32 for _, flags, child, _ in reversed(nodes)]
            continue
        for key, flags, size, at in nodes:
            if flags & _SUBTREE:
                waiting.append(_TREE.unpack_from(data, at)[-1])
            elif not flags & _SEVERAL:
                if flags & _LONG:
                    yield key, struct.unpack_from("<Q", data, at)[0] * page + _PAGE.size, size
                else:
                    yield key, number * page + at, size


def _node(data: bytes, at: int) -> tuple[bytes, int, int, int]:
    """Read key, flags, the size of its value or a page's number, and where the value begins."""
    low, high, flags, length = _NODE.unpack_from(data, at)
    begins = at + _NODE.size + length
    if begins > len(data):
        raise ValueError("a key ends behind its page")
    return data[at + _NODE.size : begins], flags, low | high << 16, begins


def _root(f: IO[bytes]) -> tuple[int, int]:
    """Read the size of a page, and the root of the newer of the two trees."""
    page, roots = 0, list[tuple[int, int]]()
    for number in range(2):
        f.seek(number * page)
        magic, version, page, root, edition = _META.unpack(f.read(_META.size))
        if (magic, version) != (_MAGIC, _VERSION) or page not in _SIZES:
            raise ValueError("it does not begin as one of version 0.9")
        roots.append((edition, root))
    return page, max(roots)[1]
