"""Images in tar archives, packed or not, WebDataset's shards among them.

A member is read where it lies.  A packed archive is unpacked once, into a file without a name that
goes with the process.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import IO, Any

from evalkit.errors import DataError
from evalkit.images.kinds import chosen
from evalkit.images.members import as_key, labelled, of_container, of_nobody, piece, piece_of
from evalkit.images.source import ImageSource

ENDINGS = (".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
_UNPACKERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_TIMES, _ROOM = 64, 64 << 20  # what a packed byte may become, and all of them in any case
_STEP = 1 << 20
_LONGEST_NAME, _LONGEST_LABEL = 1 << 16, 256  # bytes
_HOLDS_NAMES = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_DAMAGED = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class _Member:
    offset: int
    size: int


def read(path: Path) -> ImageSource:
    """Open a tar archive: its images under their names, sorted.

    Of two members of one name the later holds, as in tar.  Links are not followed.  Where each
    image has a `.cls` beside it, as in WebDataset, that is its subject: `17/000001.jpg`.
    DataError where a second archive follows the first, as `cat a.tar b.tar` makes it.
    """
    try:
        with path.open("rb") as f:
            begins = f.read(8)
        unpack = next((u for magic, u in _UNPACKERS.items() if begins.startswith(magic)), None)
        bytes_at: Callable[[int, int], bytes] = partial(piece_of, path)
        if unpack is None:
            with path.open("rb") as f:
                members, links, cut = _members(f)
        else:
            bytes_at = unpacked = _Unpacked(path, unpack)
            members, links, cut = _members(unpacked.file)
    except _DAMAGED as e:
        raise DataError(f"{path} is not a whole tar archive: {e}") from e
    images, left_out = chosen(members, links)
    places = [members[name] for name in images]
    labels = _labels(images, members, bytes_at)
    names = images if labels is None else list(map(labelled, images, labels))
    return of_container(
        path,
        names,
        lambda row: bytes_at(places[row].offset, places[row].size),
        lambda row: places[row].offset,
        (*left_out, *cut, *(() if labels is None else of_nobody(names))),
    )


class _Unpacked:
    """A packed archive's bytes, unpacked; a worker unpacks it for itself."""

    def __init__(self, path: Path, unpack: Callable[[Path], Any]) -> None:
        self._made_of = path.absolute(), unpack
        self._alone, self.file = Lock(), tempfile.TemporaryFile()  # noqa: SIM115
        most = max(_ROOM, _TIMES * path.stat().st_size)
        with unpack(path) as packed:
            while some := packed.read(_STEP):
                if self.file.tell() + len(some) > most:
                    raise DataError(f"{path} unpacks to more than {most >> 20:,} MiB")
                try:
                    self.file.write(some)
                    self.file.flush()
                except OSError as e:
                    raise DataError(
                        f"no room to unpack {path} in {tempfile.gettempdir()}: {e.strerror}",
                        "set TMPDIR to a folder with more, or unpack it and give the folder",
                    ) from e

    def __call__(self, offset: int, size: int) -> bytes:
        with self._alone:
            return piece(self.file, offset, size)

    def __del__(self) -> None:
        self.file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Unpacked, self._made_of


class _Header(tarfile.TarInfo):
    """A header of a member, or of names, which are read whole, so that they must be names."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Take a block of 512 bytes."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _HOLDS_NAMES and not 0 <= header.size <= _LONGEST_NAME:
            raise DataError(f"a name in the archive has {header.size:,} bytes")
        return header


def _members(file: IO[bytes]) -> tuple[dict[str, _Member], list[str], list[str]]:
    """List the regular files of an archive, its links, and that it lacks its end where it does."""
    members, links = dict[str, _Member](), list[str]()
    file.seek(0)
    with tarfile.open(
        fileobj=file, mode="r:", tarinfo=_Header, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        while (entry := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it keeps a kilobyte of each
            if entry.islnk() or entry.issym():
                links.append(as_key(entry.name))
            elif entry.isreg() and not entry.issparse():
                members[as_key(entry.name)] = _Member(entry.offset_data, entry.size)
        file.seek(archive.offset)
        end = file.read(tarfile.BLOCKSIZE)
        if end.strip(b"\0"):
            raise tarfile.ReadError(f"no header at byte {archive.offset:,}")
        if file.read(_STEP).strip(b"\0"):
            raise tarfile.ReadError("more follows behind its end, as where two are joined by cat")
    return members, links, [] if end else ["the tar archive has no end: was it cut short?"]


def _labels(
    images: list[str], members: Mapping[str, _Member], bytes_at: Callable[[int, int], bytes]
) -> list[str] | None:
    """Read WebDataset's `.cls` of each image; None where one has none."""
    beside = [members.get(str(PurePosixPath(name).with_suffix(".cls"))) for name in images]
    labels = []
    for member in beside:
        if member is None or not 0 < member.size <= _LONGEST_LABEL:
            return None
        labels.append(bytes_at(member.offset, member.size).decode("utf-8", "replace").strip())
    return labels
