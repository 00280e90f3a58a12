"""Images found by name: in a folder, a zip archive or a list of paths."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evalkit.errors import DataError
from evalkit.files import as_path, lines_of, read_text, refuse_lfs_pointer
from evalkit.images.folders import files_below
from evalkit.images.kinds import chosen, counted, shown
from evalkit.images.source import ImageSource, Stamp, encoded
from evalkit.keys import IMAGES

_MAX_BYTES = 256 << 20
_KINDS = "give a folder, a .zip archive or a .txt list of paths"


def find(path: str | os.PathLike[str]) -> ImageSource:
    """Open a folder (with its sub-folders), a zip archive or a text file of paths.

    A list names one image a line, relative to the list's own folder. Images are sorted by name,
    those of a list keep its order. What is not read is told in `left_out`; DataError for a folder
    that may not be read.
    """
    path = as_path(path)
    if path.is_dir():
        source = _folder(path)
    elif not path.is_file():
        raise DataError(
            f"no images at {path}", "give a folder, a .zip archive or a .txt list of paths"
        )
    elif path.suffix.lower() == ".zip":
        refuse_lfs_pointer(path)
        source = _archive(path)
    elif path.suffix.lower() in (".txt", ".lst", ".list"):
        source = _list(path)
    else:
        raise DataError(f"cannot find images in {path.name!r}", _KINDS)
    if not source.keys:
        hint = "; ".join(source.left_out) or f"looked for {' '.join(IMAGES)}"
        raise DataError(f"no images in {path}", hint)
    return replace(source, place=str(path.resolve()))


def _folder(root: Path) -> ImageSource:
    names, by_links = files_below(root)
    names, left_out = chosen(names)
    found = {_name(name): root / name for name in names}
    keys = sorted(found)
    return replace(_of_files(keys, [found[key] for key in keys]), left_out=by_links + left_out)


def _name(path: str) -> str:
    """Spell a path as a key: files are named in UTF-8, whatever the locale."""
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError as e:
        raise DataError(f"the name {path!a} is not UTF-8", "rename the file") from e


def _path(folder: Path, name: str) -> Path:
    return folder / os.fsdecode(name.encode())


def _list(path: Path) -> ImageSource:
    names = [line for line in lines_of(read_text(path)) if line]
    missing = [name for name in names if not _path(path.parent, name).is_file()]
    if missing:
        raise DataError(
            f"{path.name} names {len(missing)} of {len(names)} images that are not there, "
            f"first {missing[0]!r}",
            f"its paths are relative to {path.parent}",
        )
    return _of_files(names, [_path(path.parent, name) for name in names])


def _of_files(names: Sequence[str], paths: Sequence[Path]) -> ImageSource:
    source = encoded(names, lambda i: _file(paths[i]))
    return replace(source, stamp=lambda i: _stamp(paths[i]))


def _stamp(path: Path) -> Stamp:
    """Take what changes with a file: device, inode, size, times of its content and of itself.

    The last cannot be set back by programs that keep the one before it (`cp -p`, `rsync -t`).
    """
    at = os.stat(path)  # noqa: PTH116 - a third faster than Path.stat, of 100,000 files
    token = struct.pack("<QQqqq", at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns)
    return token, max(at.st_mtime_ns, at.st_ctime_ns)


def _file(path: Path) -> bytes:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # a pipe or a device would never end
        raise DataError("not a regular file")
    if about.st_size > _MAX_BYTES:
        raise DataError("the file is larger than any face image")
    with path.open("rb", buffering=0) as file:
        data = file.read(about.st_size)
        # A network's file system may give a part.
        while len(data) < about.st_size and (more := file.read(about.st_size - len(data))):
            data += more
        return data


class _Archive(zipfile.ZipFile):
    """An archive that a worker opens for itself."""

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return _Archive, (Path(str(self.filename)).absolute(),)


def _archive(path: Path) -> ImageSource:
    try:
        archive = _Archive(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as e:
        raise DataError(f"{path} is not a whole zip archive: {e}") from e
    members = [entry for entry in archive.infolist() if not entry.is_dir()]
    images, left_out = chosen({entry.filename for entry in members})
    wanted = set(images)
    entries = sorted(
        (entry for entry in members if entry.filename in wanted), key=lambda e: e.filename
    )
    if any(entry.flag_bits & 1 for entry in entries):
        raise DataError(f"{path} is encrypted", "unpack it and give the folder")

    def fetch(row: int) -> bytes:
        if entries[row].file_size > _MAX_BYTES:
            raise DataError("the file is larger than any face image")
        return archive.read(entries[row])

    def stamp(row: int) -> Stamp:
        entry = entries[row]
        name = hashlib.sha256(entry.filename.encode()).digest()[:28]
        return struct.pack("<Iq", entry.CRC, entry.file_size) + name, 0

    source = encoded([entry.filename for entry in entries], fetch)
    links = [entry.filename for entry in members if stat.S_ISLNK(entry.external_attr >> 16)]
    if links:
        what = counted(links, "link in the archive is", "links in the archive are")
        left_out = (*left_out, f"{what} not followed: {shown(links)}")
    return replace(source, stamp=stamp, left_out=left_out)
