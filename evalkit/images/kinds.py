"""Image formats by file name: readable ones, and others that are only counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence, Sized
from functools import cache
from pathlib import PurePosixPath

from evalkit.errors import first_few
from evalkit.images.decoding import HEIF, formats
from evalkit.keys import AVIF_FILES, HEIF_FILES, IMAGES, JPEG2000_FILES

_CAMERA = (".raw", ".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef")
_OTHERS = (
    *(".jxl", ".jxr", ".wdp", ".svg", ".svgz"),
    *(".eps", ".psd", ".xcf", ".exr", ".hdr", ".pfm", ".tga", ".ico", ".pcx", ".dds", ".sgi"),
    *(".ras", ".xbm", ".xpm", ".qoi", ".flif", ".bpg"),
)
_SHOWN = 3
# a.jpg?size=large, a.jpg_large, "a.jpg (1)", a.jpg.1; but not a.jpg.txt, which is about an image
_RENAMED = re.compile(rf"({'|'.join(map(re.escape, IMAGES))})([^a-z0-9.]|\.\d+$)", re.IGNORECASE)


def chosen(names: Iterable[str], links: Sequence[str] = ()) -> tuple[list[str], tuple[str, ...]]:
    """Choose the images among file names, sorted, and tell in a line each what is left out.

    Left out are hidden images (.a.jpg), images of a kind that is not read and what may be an image
    by another name (a, a.jpg?size=large); what macOS keeps beside a file, `._a.jpg`, is no image.
    links : of an archive, which are not followed.
    """
    read, not_read = _kinds()
    images, hidden, unread, other = list[str](), list[str](), list[str](), list[str]()
    for name in sorted(names):
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if path.name.startswith("._"):
            continue
        if suffix in read:
            (hidden if path.name.startswith(".") else images).append(name)
        elif suffix in not_read:
            unread.append(name)
        elif not path.name.startswith(".") and (not suffix or _RENAMED.search(path.name)):
            other.append(name)
    lines = []
    if unread:
        kinds = Counter(PurePosixPath(name).suffix.lower() for name in unread)
        counts = ", ".join(f"{kind} ({n:,})" for kind, n in sorted(kinds.items()))
        files = counted(unread, "file is an image", "files are images")
        lines.append(f"{files} of a kind that is not read, {counts}: {shown(unread)}")
    if other:
        files = counted(other, "file may be an image", "files may be images")
        lines.append(f"{files} by another name, and left out: {shown(other)}")
    if hidden:
        files = counted(hidden, "image is hidden", "images are hidden")
        lines.append(f"{files} and left out: {shown(hidden)}")
    if links:
        what = counted(links, "link in the archive is", "links in the archive are")
        lines.append(f"{what} not followed: {shown(links)}")
    return images, tuple(lines)


@cache
def _kinds() -> tuple[frozenset[str], frozenset[str]]:
    """Suffixes of the images that are read here, and of others."""
    lacking = frozenset(
        (
            *(() if "AVIF" in formats() else AVIF_FILES),
            *(() if HEIF else HEIF_FILES),
            *(() if "JPEG2000" in formats() else JPEG2000_FILES),
        )
    )
    return frozenset(IMAGES) - lacking, lacking.union(_CAMERA, _OTHERS)


def counted(names: Sized, one: str, many: str) -> str:
    """Count names in words: "1 file is", "2 files are"."""
    return f"{len(names):,} {one if len(names) == 1 else many}"


def shown(names: Sequence[str]) -> str:
    """Show the first few names; what is not UTF-8 in them is escaped."""
    return first_few(names, _SHOWN).encode(errors="backslashreplace").decode()
