"""Images found by name: in a folder, a container (`CONTAINERS`) or a list of paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from evalkit.errors import DataError
from evalkit.files import as_path, numbered_lines, read_text, refuse_lfs_pointer
from evalkit.images import image_tables, lmdbs, record_io, tars, zips
from evalkit.images.folders import files_below
from evalkit.images.kinds import chosen, counted, shown
from evalkit.images.members import NOBODY, file_stamp, labelled, of_nobody, piece_of, together
from evalkit.images.source import ImageSource, encoded
from evalkit.keys import IMAGES, folder_of
from evalkit.table_headers import is_header
from evalkit.tables import fields_of, parted, separator_of

# What images come packed in: a new kind is its module and its line here.
CONTAINERS: dict[tuple[str, ...], Callable[[Path], ImageSource]] = {
    zips.ENDINGS: zips.read,
    tars.ENDINGS: tars.read,
    record_io.ENDINGS: record_io.read,
    image_tables.ENDINGS: image_tables.read,
    lmdbs.ENDINGS: lmdbs.read,
}
_KINDS = f"give a folder, a {' '.join(chain(*CONTAINERS))} file or a .txt list of paths"


def find(path: str | os.PathLike[str]) -> ImageSource:
    """Open a folder (with its sub-folders), a container of images or a text file of paths.

    A list names one image per line, relative to the list's own folder, perhaps with its label
    (`path label`, `label path`, MXNet's `index label path`), which then is its subject.  Images
    are sorted by name, those of a list, of records and of a table keep their order.  A folder
    without images of its own is the containers in it.  What is not read is told in `left_out`;
    DataError for a folder that may not be read.
    """
    path = as_path(path)
    if path.is_dir():
        source = _folder(path)
    elif not path.is_file():
        raise DataError(f"no images at {path}", _KINDS)
    elif (opened := _opener(path.name)) is not None:
        refuse_lfs_pointer(path)
        source = opened(path)
    elif path.suffix.lower() in (".txt", ".lst", ".list"):
        source = _list(path)
    else:
        raise DataError(f"cannot find images in {path.name!r}", _KINDS)
    if not source.keys:
        hint = "; ".join(source.left_out) or f"looked for {' '.join(IMAGES)}"
        raise DataError(f"no images in {path}", hint)
    return replace(source, place=str(path.resolve()))


def of_paths(
    paths: Sequence[str | os.PathLike[str]], keys: Sequence[str] | None = None
) -> ImageSource:
    """Open image files by their paths, in this order, called by these or by `keys`.

    DataError where one is not there, or the keys are not one per path.
    """
    files = [as_path(path) for path in paths]
    names = [_name(file.as_posix()) for file in files] if keys is None else [*map(str, keys)]
    if len(names) != len(files):
        raise DataError(f"{len(files)} images have {len(names)} keys", "one name per image")
    if missing := [file for file in files if not _is_there(Path(), str(file))]:
        raise DataError(
            f"{len(missing)} of {len(files)} images are not there, first {str(missing[0])!r}",
            f"looked in {Path.cwd()}",
        )
    return _of_files(names, files)


def _opener(name: str) -> Callable[[Path], ImageSource] | None:
    return next((o for ends, o in CONTAINERS.items() if name.lower().endswith(ends)), None)


def _folder(root: Path) -> ImageSource:
    every, by_links = files_below(root)
    names, left_out = chosen(every)
    containers = sorted(name for name in every if _opener(name))
    if containers and not names:
        return together([find(root / name) for name in containers], root, containers)
    if containers:
        what = counted(containers, "container of images is", "containers of images are")
        left_out = (*left_out, f"{what} beside the images and not opened: {shown(containers)}")
    paths = {_name(name): root / name for name in names}
    keys = sorted(paths)
    return replace(_of_files(keys, [paths[key] for key in keys]), left_out=by_links + left_out)


def _name(path: str) -> str:
    """Spell a path as a key: files are named in UTF-8, whatever the locale."""
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError as e:
        raise DataError(f"the name {path!a} is not UTF-8", "rename the file") from e


def _path(folder: Path, name: str) -> Path:
    """Give the path of a listed image, as Windows writes it where no file is called so."""
    path = folder / os.fsdecode(name.encode())
    return _path(folder, name.replace("\\", "/")) if "\\" in name and not path.exists() else path


def _list(path: Path) -> ImageSource:
    lines = [line for _, line in numbered_lines(read_text(path))]
    names, labels = lines, list[str]()
    missing = [name for name in names if not _is_there(path.parent, name)]
    rows = lines[is_header(fields_of(lines[0])) :] if lines else []
    if len(missing) == len(lines) and (with_labels := _with_labels(path.parent, rows)):
        names, labels = [name for name, _ in with_labels], [label for _, label in with_labels]
        missing = []
    if missing:
        raise DataError(
            f"{path.name} names {len(missing)} of {len(names)} images that are not there, "
            f"first {missing[0]!r}",
            f"paths are relative to {path.parent}, with one label or none before or after each; "
            "a list of pairs is for evalkit verify",
        )
    paths = [_path(path.parent, name) for name in names]
    slashed = [n for n, p in zip(names, paths, strict=True) if "\\" in n and "\\" not in p.name]
    note = f"{counted(slashed, 'path is', 'paths are')} read with / for \\: {shown(slashed)}"
    keys = _under_labels(names, labels)
    source = _of_files(keys, paths).telling(note if slashed else "")
    return replace(source, left_out=source.left_out + of_nobody(keys)) if labels else source


def _is_there(folder: Path, name: str) -> bool:
    try:
        return _path(folder, name).is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def _with_labels(folder: Path, lines: Sequence[str]) -> list[tuple[str, str]]:
    """Part every line into image and label: `path label`, `label path`, `index label path`.

    Parted by tabs, semicolons, commas or blanks.  Empty where a line is none of these.
    """
    found = []
    for line in lines:
        apart = separator_of(line)
        fields = [field for field in parted(line, apart, 1) if field]
        ways = [(apart.join(fields[:-1]), fields[-1])] if len(fields) > 1 else []
        ways += [(apart.join(fields[n:]), fields[n - 1]) for n in (1, 2) if len(fields) > n]
        way = next((way for way in ways if _is_there(folder, way[0])), None)
        if way is None:
            return []
        found.append(way)
    return found


def _under_labels(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Name images so that labels are their subjects: as they are where their folders say the same.

    >>> _under_labels(["A/1.jpg", "A/2.jpg", "B/1.jpg"], ["7", "7", "8"])
    ['A/1.jpg', 'A/2.jpg', 'B/1.jpg']
    >>> _under_labels(["1.jpg", "2.jpg"], ["7", "8"])
    ['7/1.jpg', '8/2.jpg']
    """
    folders = [folder_of(name) for name in names]
    both = set(zip(folders, labels, strict=False))
    known = not NOBODY & {*labels} and "" not in folders
    if not labels or (known and len(both) == len({*folders}) == len({*labels})):
        return list(names)
    return list(map(labelled, names, labels))


def _of_files(names: Sequence[str], paths: Sequence[Path]) -> ImageSource:
    source = encoded(names, lambda i: _file(paths[i]))
    return replace(source, stamp=lambda i: file_stamp(paths[i]))


def _file(path: Path) -> bytes:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # a pipe or a device would never end
        raise DataError("not a regular file")
    return piece_of(path, 0, about.st_size)
