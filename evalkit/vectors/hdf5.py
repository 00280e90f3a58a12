"""Safe reads from untrusted HDF5: no external or virtual data, no size the file cannot back."""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evalkit.errors import DataError

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".h5", ".hdf5")
_PACKED = 64  # bytes that one byte of a compressed file may become, and
_ROOM = 16 << 20  # these in any case
_LOOK = 1 << 20  # bytes of a header, or of an unpacked chunk, that are looked at together
_KEY = 64  # bytes that Python takes for a text, however short
# What may lie between a chunk and its bytes: one compressor at most, since the second unpacks what
# the first one unpacked to.
_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000  # numbers that the HDF Group gives filters
_ORDINARY = {_DEFLATE, _LZF, _SHUFFLE, _FLETCHER32}
_CHECKSUM = 4  # bytes of fletcher32 after a chunk's own
_TEXT = 64 << 20
_ATTRIBUTE, _CONTINUED = 0x0C, 0x10  # messages in the header of an object
_TABLE = b"GCOL\1\0\0\0"


def refuse_damaged_heap(path: Path) -> None:
    """Raise DataError where a table of texts in the file is damaged: HDF5 reads some for ever.

    A table is "GCOL", version 1, its size, then objects: number, references, size and data, filled
    up to 8 bytes; number 0 is the free rest (HDF5 File Format 3.0, III.E; libhdf5 2.0 does not move
    on from a free rest of no bytes).
    """
    if not path.stat().st_size:
        return
    with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(_TABLE)
        while at >= 0:
            end = at + (int.from_bytes(content[at + 8 : at + 16], "little") or 1)
            here = at + 16
            while here + 16 <= end:
                number = int.from_bytes(content[here : here + 2], "little")
                size = int.from_bytes(content[here + 8 : here + 16], "little")
                width = 16 + size + -size % 8 if number else size
                if width < 16 or here + width > min(end, len(content)):
                    raise DataError(f"{path.name} is a damaged HDF5 file: a text of {size} bytes")
                here += width
            at = content.find(_TABLE, at + 8)


def dataset(file: h5py.File, name: str, *, plain: bool = False) -> h5py.Dataset:
    """Give a dataset of numbers of the file, or raise DataError where it is none that may be read.

    Links to other files, virtual datasets and data kept outside could show a stranger what else
    lies on this machine; a shape of which the file holds next to nothing fills the memory.
    plain : it must lie in the file as it is, in one piece, so that it can be mapped.
    """
    array = _own(file, name)
    if array.dtype.hasobject:
        raise DataError(f"{name!r} holds texts or lists, expected numbers")
    if plain:
        offset, size = array.id.get_offset(), file.id.get_filesize()
        if array.chunks is not None or offset is None or offset + array.nbytes > size:
            raise DataError(f"{name!r} of shape {array.shape} is not in the file in one piece")
    return array


def names(file: h5py.File) -> list[str]:
    """Name the datasets of a file, in groups too, that hard links lead to, in their order.

    DataError where they have more bytes than may be read whole.
    """
    import h5py

    paths: list[str] = []
    total = 0

    def note(name: str, held: Any) -> None:
        nonlocal total
        if isinstance(held, h5py.Dataset):
            paths.append(name)
            total += int(held.nbytes)

    file.visititems(note)
    if total > _room(file):
        raise DataError(f"its {len(paths)} datasets have {total} bytes in a smaller file")
    return paths


def _own(file: h5py.File, name: str) -> h5py.Dataset:
    import h5py

    if name not in file or not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise DataError(f"no dataset {name!r} (links to other files are not followed)")
    array = file[name]
    if not isinstance(array, h5py.Dataset):
        raise DataError(f"{name!r} is not a dataset")
    if array.is_virtual or array.external:
        raise DataError(f"{name!r} keeps its data in other files")
    if array.nbytes > _room(file):
        size = file.id.get_filesize()
        raise DataError(f"{name!r} has shape {array.shape} in a file of {size} bytes")
    if array.chunks is not None:
        _refuse_bomb(array, name)
    return array


def _room(file: h5py.File) -> int:
    return int(_PACKED * file.id.get_filesize() + _ROOM)


def _refuse_bomb(held: h5py.Dataset, name: str) -> None:
    """Raise DataError where a chunk unpacks to other bytes than its shape has, or to too many.

    libhdf5 makes room for whatever comes out, and reads on in the memory behind it where that is
    less.  Only lzf, of which a byte becomes 88 at most, is not looked into.
    """
    size, packed = held.file.id.get_filesize(), _filters(held)
    if len({*packed}) < len(packed) or not {*packed} <= _ORDINARY or {_DEFLATE, _LZF} <= {*packed}:
        raise DataError(
            f"{name!r} is packed by the filters {packed}; gzip or lzf, shuffle and fletcher32 are "
            "read, each once: h5repack -f NONE IN OUT"
        )
    if row_of_chunks(held) > _room(held.file):
        raise DataError(f"{name!r} has chunks of shape {held.chunks} in a file of {size} bytes")
    if held.id.get_storage_size() > size:
        raise DataError(f"the chunks of {name!r} overlap")
    width = math.prod(held.chunks) * _width(held)
    for chunk in _chunks(held) if packed else ():
        by = [code for k, code in enumerate(packed) if not chunk.filter_mask >> k & 1]
        n = chunk.size
        if _DEFLATE in by:
            n = _inflated(held.id.read_direct_chunk(chunk.chunk_offset)[1], width + _CHECKSUM)
        if _LZF not in by and n not in (width, width + _CHECKSUM):
            what = "more" if n > width else f"{n}"
            raise DataError(f"a chunk of {name!r} unpacks to {what}, not {width} bytes")


def _filters(held: h5py.Dataset) -> list[int]:
    properties = held.id.get_create_plist()
    return [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]


def _chunks(held: h5py.Dataset) -> list[Any]:
    """List the chunks that are in the file; one by one by number, libhdf5 would count each time."""
    chunks: list[Any] = []
    held.id.chunk_iter(chunks.append)
    return chunks


def _inflated(raw: bytes, most: int) -> int:
    """Count the bytes that a deflated chunk gives, a little at a time, and no further than `most`.

    More than `most` where there are more.
    """
    stream, left, n = zlib.decompressobj(), raw, 0
    while left and n <= most:
        n += len(stream.decompress(left, _LOOK))
        left = stream.unconsumed_tail
    return n


def row_of_chunks(held: h5py.Dataset) -> int:
    """Count the bytes of all chunks that hold a part of the first row, unpacked.

    A chunk cache of so many reads a dataset from front to back unpacking each chunk once.
    """
    across = [-(-n // c) * c for n, c in zip(held.shape[1:], held.chunks[1:], strict=True)]
    return int(math.prod([held.chunks[0], *across])) * _width(held)


def _width(held: h5py.Dataset) -> int:
    """Count the bytes of a value in the file; of a text, those of the reference to it.

    A reference is 4 bytes of length, an address and 4 bytes of place (HDF5 File Format 3.0, IV.B).
    """
    if held.dtype.kind != "O":
        return int(held.id.get_type().get_size())
    return 8 + int(held.file.id.get_create_plist().get_sizes()[0])


def texts(file: h5py.File, name: str) -> list[str]:
    """Give the texts of a dataset of the file; DataError where it cannot hold as much text.

    libhdf5 makes room for as long a text as its reference says, up to 4 GiB, before it looks for
    it; so the lengths are read first, as they lie in the file.
    """
    array = _own(file, name)
    said, size = array.nbytes, file.id.get_filesize()
    if array.dtype.kind == "O":
        said = sum(int(lengths.sum(dtype=np.int64)) for lengths in _lengths(array))
    if said + array.size * _KEY > _room(file):
        raise DataError(f"{name!r} names {array.size} texts of {said} bytes in a file of {size}")
    return [str(text) for text in array.asstr()[:]]


def _lengths(held: h5py.Dataset) -> Iterator[np.ndarray[Any, np.dtype[np.uint32]]]:
    """Yield what the references of variable-length texts say, in the chunks they are stored in."""
    kind = np.dtype({"names": ["length"], "formats": ["<u4"], "itemsize": _width(held)})
    if held.chunks is None and (offset := held.id.get_offset()) is not None:
        with Path(held.file.filename).open("rb") as f:
            f.seek(offset)
            yield np.frombuffer(f.read(held.size * kind.itemsize), kind)["length"]
        return
    packed = _filters(held)
    if held.chunks is None or not {*packed} <= {_DEFLATE}:
        raise DataError(f"{held.name!r} holds texts packed in a rare way; plain or gzip is read")
    most = math.prod(held.chunks) * kind.itemsize
    for chunk in _chunks(held):
        mask, raw = held.id.read_direct_chunk(chunk.chunk_offset)
        if packed and not mask & 1:
            raw = zlib.decompressobj().decompress(raw, most)
        yield np.frombuffer(raw, kind, count=len(raw) // kind.itemsize)["length"]


def attribute(file: h5py.File, name: str) -> Any:
    """Give a scalar attribute, None where there is none, or raise DataError where it is no scalar.

    Others are left alone: a list of a million references to one long text takes a small file.  How
    long a text says it is, is read first, as it lies in the file (see `texts`).
    """
    import h5py

    if name not in file.attrs:
        return None
    entry = file.attrs.get_id(name)
    text = h5py.check_string_dtype(entry.dtype)
    lists = entry.dtype.hasobject and (text is None or entry.dtype.kind != "O")
    if entry.shape != () or entry.get_storage_size() > _TEXT or lists:
        raise DataError(f"the attribute {name!r} is not a single value")
    if text is not None and text.length is None:
        said, size = _text_length(file, name), file.id.get_filesize()
        if said is None or said > min(size, _TEXT):
            length = "in a rare way" if said is None else f"of {said} bytes in a file of {size}"
            raise DataError(f"the attribute {name!r} is a text {length}")
    return file.attrs[name]


def _text_length(file: h5py.File, name: str) -> int | None:
    """Read what the reference of a text says, an attribute in the header of the root group.

    The longest, should there be several; None where none is there: in a heap of attributes, which
    HDF5 makes for more than eight (HDF5 File Format 3.0, IV.A.2.m).
    """
    said = []
    for kind, body in _messages(file):
        if kind != _ATTRIBUTE or len(body) < 9:
            continue
        version, _, names, types, spaces = struct.unpack_from("<BBHHH", body)
        at, step = (9 if version == 3 else 8), (8 if version == 1 else 1)
        if body[at : at + names].split(b"\0")[0] == name.encode():
            at += sum(-(-size // step) * step for size in (names, types, spaces))
            said.append(int.from_bytes(body[at : at + 4], "little"))
    return max(said, default=None)


def _messages(file: h5py.File) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of the messages in the root group's header, of both its versions.

    HDF5 File Format 3.0, IV.A.1.a and b.
    """
    import h5py

    base, seen = file.userblock_size, set[int]()
    with Path(file.filename).open("rb") as f:

        def read(offset: int, size: int) -> bytes:
            f.seek(base + offset)
            return f.read(min(size, _LOOK))

        start = h5py.h5o.get_info(file.id).addr
        prefix = read(start, 38)
        new, flags = prefix[:4] == b"OHDR", prefix[5]
        head = 4 + 2 * (flags >> 2 & 1) if new else 8
        if new:
            at = 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
            wide = 1 << (flags & 3)
            chunks = [(start + at + wide, int.from_bytes(prefix[at : at + wide], "little"))]
        else:
            chunks = [(start + 16, int.from_bytes(prefix[8:12], "little"))]
        while chunks:
            offset, size = chunks.pop()
            if offset in seen:
                continue
            seen.add(offset)
            block, at = read(offset, size), 0
            while at + head <= len(block):
                kind = block[at] if new else int.from_bytes(block[at : at + 2], "little")
                place = at + 1 if new else at + 2
                long = int.from_bytes(block[place : place + 2], "little")
                body = block[at + head : at + head + long]
                at += head + long
                if kind == _CONTINUED and len(body) >= 16:
                    offset, size = struct.unpack_from("<QQ", body)
                    chunks.append((offset + 4, max(size - 8, 0)) if new else (offset, size))
                yield kind, body


def is_feature_file(path: Path) -> bool:
    """Tell whether a file is HDF5, by its suffix, and evalkit's own; others' attributes are left.

    OSError or ValueError where it is no whole HDF5 file.
    """
    if path.suffix.lower() not in SUFFIXES:
        return False
    import h5py

    refuse_damaged_heap(path)
    with h5py.File(path, "r") as file:
        return "done" in file and attribute(file, "format") == "evalkit-features"
