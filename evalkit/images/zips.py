"""Images in zip archives."""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

from evalkit.errors import DataError
from evalkit.images.kinds import chosen
from evalkit.images.members import as_key, refuse_large
from evalkit.images.source import ImageSource, Stamp, encoded

ENDINGS = (".zip",)


class _Archive(zipfile.ZipFile):
    """An archive that a worker opens for itself."""

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return _Archive, (Path(str(self.filename)).absolute(),)


def read(path: Path) -> ImageSource:
    """Open a zip archive: its images under their names, sorted.

    Of two members of one name the later holds, as where it is unpacked.  Links are not followed.
    """
    try:
        archive = _Archive(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as e:
        raise DataError(f"{path} is not a whole zip archive: {e}") from e
    members = {as_key(entry.filename): entry for entry in archive.infolist() if not entry.is_dir()}
    links = [name for name, entry in members.items() if stat.S_ISLNK(entry.external_attr >> 16)]
    images, left_out = chosen(members.keys() - set(links), links)
    entries = [members[name] for name in images]
    if any(entry.flag_bits & 1 for entry in entries):
        raise DataError(f"{path} is encrypted", "unpack it and give the folder")

    def fetch(row: int) -> bytes:
        refuse_large(entries[row].file_size)
        return archive.read(entries[row])

    def stamp(row: int) -> Stamp:
        entry = entries[row]
        name = hashlib.sha256(entry.filename.encode()).digest()[:28]
        return struct.pack("<Iq", entry.CRC, entry.file_size) + name, 0

    source = encoded(images, fetch)
    return replace(source, stamp=stamp, left_out=left_out)
