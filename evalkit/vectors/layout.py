"""Layout of a feature file: written whole by HDF5, with a place for every row.

Format "evalkit-features" version 2:

    features   (N, V, D) float32 or float16, contiguous and uncompressed; V views per image
               (original, mirrored); a failed row is all NaN
    image      (N, 32) uint8: the digest of the image that the row was made of; 0 = not known
    done       (N,) uint8: PENDING, DONE or a reason of FAILURES, plus TAKEN where the row came from
               an earlier file; written after all else of the row
    crc        (N,) uint32: zlib.crc32 of done byte (TAKEN left out), digest and row
    keys       the manifest's keys joined by newlines, as UTF-8 bytes
    subject    (N,) int32, or int64 where a number needs it
    answers    (4, D) float32: what the model answered to four fixed images; absent where the
               vectors are not evalkit's own (see `adapters.answers`)
    attributes `format`, `version`; `key` and `provenance` as JSON text

Version 1 had neither `image` nor `answers`, and its checksum no digest: its rows are known by their
names alone.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import FeatureStoreError
from evalkit.identity import DIGEST
from evalkit.types import Manifest

if TYPE_CHECKING:
    import h5py

FORMAT = "evalkit-features"
VERSION = 2
PENDING, DONE, UNREADABLE, NO_TEMPLATE, NO_FACE, SEVERAL_FACES = range(6)
TAKEN = np.uint8(0x80)
FAILURES = {
    UNREADABLE: "the image cannot be read",
    NO_TEMPLATE: "the model gave no template",
    NO_FACE: "no face was found",
    SEVERAL_FACES: "several faces were found",
}


def reserve(handle: IO[bytes], manifest: Manifest, shape: tuple[int, int, int], dtype: str) -> None:
    """Raise OSError where the disk has no room: HDF5 itself crashes on a full one."""
    if hasattr(os, "posix_fallocate"):
        rows = shape[0] * (shape[1] * shape[2] * int(dtype[-1]) + DIGEST + 16)
        os.posix_fallocate(handle.fileno(), 0, rows + sum(map(len, manifest.keys)) * 4 + (1 << 16))
        os.ftruncate(handle.fileno(), 0)


def lay_out(
    path: Path,
    manifest: Manifest,
    shape: tuple[int, int, int],
    dtype: str,
    key: Mapping[str, str],
    provenance: Mapping[str, Any],
    answers: NDArray[np.float32] | None,
) -> None:
    """Write the whole file but the rows, and close it."""
    import h5py

    newline = next((k for k in manifest.keys if "\n" in k), None)
    if newline is not None:
        raise FeatureStoreError(f"a key holds a line break: {newline!r}")
    place = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    place.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # so that the rows have a place in the file
    with h5py.File(_new_file(path)) as file:
        for name, size, kind in (
            ("done", shape[:1], "u1"),
            ("crc", shape[:1], "<u4"),
            ("image", (shape[0], DIGEST), "u1"),
            ("features", shape, dtype),
        ):
            fill = "never" if name == "features" else "alloc"
            file.create_dataset(name, size, kind, dcpl=place.copy(), fill_time=fill)
        file["keys"] = np.frombuffer("\n".join(manifest.keys).encode(), np.uint8)
        narrow = np.array_equal(manifest.subject, manifest.subject.astype("<i4"))
        file["subject"] = manifest.subject.astype("<i4" if narrow else "<i8")
        if answers is not None:
            file["answers"] = answers.astype("<f4")
        file.attrs.update(
            format=FORMAT,
            version=VERSION,
            manifest=manifest.digest(),
            key=json.dumps(dict(key)),
            provenance=json.dumps(dict(provenance)),
        )


def _new_file(path: Path) -> h5py.h5f.FileID:
    """Create a file of 1.10's layout, with checksums on its own structures and no times in it.

    Offsets are aligned for any number type.  h5py.File cannot leave the times out everywhere.
    """
    import h5py

    creation, access = h5py.h5p.create(h5py.h5p.FILE_CREATE), h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    creation.set_obj_track_times(False)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_alignment(1, 64)
    access.set_file_locking(False, False)
    return h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access)


def checksum(row: NDArray[Any], state: int, digest: NDArray[np.uint8] | None) -> int:
    """Sum over state, digest and row; in version 1, without a digest, the state is its start."""
    head = None if digest is None else bytes([state]) + digest.tobytes()
    return zlib.crc32(row.tobytes(), state if head is None else zlib.crc32(head))
