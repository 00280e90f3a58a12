"""Images in MXNet's RecordIO files, InsightFace's `train.rec` among them; no `.idx` is needed.

A file is a row of records: the magic number, a word with 29 bits of length and 3 that say which
part of a record it is, the bytes, and zeros to a whole word.  A record of an image begins with
`IRHeader` (flag, label, id, id2; `flag` labels follow where it is not 0), then come the image's
bytes.  InsightFace's first record, and those of its people, hold labels alone.
"""

from __future__ import annotations

import io
import re
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from evalkit.errors import DataError
from evalkit.images.members import labelled, of_container, of_nobody, piece, refuse_large
from evalkit.images.source import ImageSource

ENDINGS = (".rec",)
_MAGIC = 0xCED7230A
_HEAD, _LABELS = struct.Struct("<II"), struct.Struct("<IfQQ")
_WHOLE, _FIRST, _LAST = 0, 1, 3  # part of a record; 2 is one between
_PROPERTY = 40  # bytes of that file that are looked at
_LONGEST = _LABELS.size + 4  # bytes of a header that are looked at
_LINE, _PLACE = 64, re.compile(rb"[0-9]{1,19}\Z")  # bytes of a line of `.idx`, and its last word


def read(path: Path) -> ImageSource:
    """Open a RecordIO file: its images under label and id, `17/0000001`, as they come.

    The label of an image, its subject, is its header's (of several the first).  Told is where
    `property` or the `.idx` beside it count others.
    """
    starts, offsets, names = array("Q"), array("Q"), list[str]()
    with path.open("rb", buffering=0) as f:
        size, at = f.seek(0, io.SEEK_END), 0
        while at < size:
            part, length = _head(f, at) if at + _HEAD.size <= size else (_WHOLE, 0)
            if at + _HEAD.size + length > size:
                raise DataError(f"{path} ends in the record at byte {at:,}")
            if part in (_WHOLE, _FIRST):
                starts.append(at)
                label, number, content = _header(piece(f, at + _HEAD.size, min(length, _LONGEST)))
                if content > length and part == _WHOLE:
                    raise DataError(f"{path}: the record at byte {at:,} is shorter than its labels")
                if content < length or part == _FIRST:
                    offsets.append(at)
                    names.append(labelled(f"{number:07d}", label))
            at += _HEAD.size + -(-length // 4) * 4
    if len(set(names)) < len(names):  # ids that name nothing
        names = [labelled(f"{row:07d}", name.rpartition("/")[0]) for row, name in enumerate(names)]
    unlike = _unlike_property(path, names) + _unlike_index(path, starts, offsets)
    notes = of_nobody(names) + unlike
    return of_container(
        path, names, lambda row: _image(path, offsets[row]), offsets.__getitem__, notes
    )


def _unlike_property(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Tell where InsightFace's `property` beside the file, `people,height,width`, counts others."""
    beside = path.with_name("property")
    if not beside.is_file():
        return ()
    with beside.open("rb") as f:
        said = f.read(_PROPERTY).partition(b",")[0].strip().decode("ascii", "replace")
    people = len({name.rpartition("/")[0] for name in names} - {""})
    if said == str(people):
        return ()
    return (f"{beside.name} says {said[:20]!r} people, the records of {path.name} have {people:,}",)


def _unlike_index(path: Path, starts: array[int], images: array[int]) -> tuple[str, ...]:
    """Tell where the `.idx` beside the file, `number place` a line, names other records.

    MXNet's readers take those that it names, and so leave out what was taken off it.
    """
    beside = path.with_suffix(".idx")
    if not beside.is_file():
        return ()
    with beside.open("rb") as f:
        last = (line.split()[-1:] for line in f.read(_LINE * (len(starts) + 1)).splitlines())
        named = np.array([int(word[0]) for word in last if word and _PLACE.match(word[0])], "u8")
    listed = int(np.isin(images, named).sum())
    absent = int(np.isin(named, starts, invert=True).sum())
    if listed == len(images) and not absent:
        return ()
    others = f", and {absent:,} more of which the file has none" if absent else ""
    return (
        f"{beside.name} names {listed:,} of the {len(images):,} images in {path.name}{others}: "
        "all are read",
    )


def _head(file: IO[bytes], at: int) -> tuple[int, int]:
    """Read which part of a record is at a byte, and its length."""
    magic, word = _HEAD.unpack(piece(file, at, _HEAD.size))
    if magic != _MAGIC:
        raise DataError(f"no record of MXNet's is at byte {at:,} of {file.name}")
    return word >> 29, word & (1 << 29) - 1


def _header(data: bytes) -> tuple[str, int, int]:
    """Read the label and the id of a record, and at which byte its image begins."""
    if len(data) < _LABELS.size:
        raise DataError(f"a record of {len(data)} bytes has no header of an image")
    flag, label, number, _ = _LABELS.unpack_from(data)
    begins = _LABELS.size + 4 * flag
    if flag and len(data) < _LABELS.size + 4:
        raise DataError(f"a record says it has {flag:,} labels, and has none")
    if flag:
        (label,) = struct.unpack_from("<f", data, _LABELS.size)
    return f"{label:.9g}", number, begins


def _image(path: Path, at: int) -> bytes:
    """Read the image of the record at a byte, which may lie in parts.

    Where the magic number is among its bytes, a record is parted there, and the number left out.
    """
    parts, size = [], 0
    with path.open("rb", buffering=0) as f:
        while True:
            part, length = _head(f, at)
            size += length
            refuse_large(size)
            parts.append(piece(f, at + _HEAD.size, length))
            if part in (_WHOLE, _LAST):
                break
            at += _HEAD.size + -(-length // 4) * 4
    record = _HEAD.pack(_MAGIC, 0)[:4].join(parts)
    return record[_header(record)[2] :]
