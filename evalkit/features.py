"""FeatureStore: one model's vectors for one manifest, in an HDF5 file that survives its writer.

The file, format "evalkit-features" version 1:

    features   (N, V, D) float32 or float16, contiguous and uncompressed; V views an image
               (original, mirrored); a failed row is all NaN
    done       (N,) uint8: PENDING, DONE or a reason of FAILURES; written after the row and its crc
    crc        (N,) uint32: zlib.crc32 of the row's bytes, started from its done byte
    keys       the manifest's keys joined by newlines, as UTF-8 bytes
    subject    (N,) int32
    attributes `format`, `version`; `key` and `provenance` as JSON text

HDF5 makes the file once, complete and closed; rows then go to their places by plain writes. HDF5
never has the file open for writing, so a kill -9 at any moment leaves a file that opens, in which
every row with a done byte is right. A power cut may lose rows the disk had not got yet: their
checksums tell.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from evalkit import hdf5
from evalkit.errors import FeatureStoreError
from evalkit.files import cache_folder
from evalkit.types import Manifest

FORMAT = "evalkit-features"
VERSION = 1
PENDING, DONE, UNREADABLE, NO_TEMPLATE = 0, 1, 2, 3
FAILURES = {UNREADABLE: "the image cannot be read", NO_TEMPLATE: "the model gave no template"}
_ATTRIBUTES = ("format", "version", "manifest", "key", "provenance")
_DTYPES = ("<f4", "<f2")
_AGAIN = "delete it and embed again"


class FeatureStore:
    """Features on disk: `create` or `open` one, close it with `with`.

    manifest : the rows.  key : what the features depend on, by part.  provenance : what else is
    known about how they were made.  done : (N,) uint8, the state of each row.
    """

    manifest: Manifest
    key: dict[str, str]
    provenance: dict[str, Any]
    done: NDArray[np.uint8]

    def __init__(self, path: Path, handle: IO[bytes] | None) -> None:
        self.path = path
        self._handle = handle  # open, and locked, where rows may be written
        try:
            hdf5.refuse_damaged_heap(path)
            with h5py.File(path, "r", locking=False) as file:
                self._read(file)
            self._verify()
        except BaseException as e:
            self.close()
            if isinstance(e, FeatureStoreError | MemoryError) or not isinstance(e, Exception):
                raise
            raise FeatureStoreError(f"{path} is no evalkit feature file, or cut: {e}") from e

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        manifest: Manifest,
        *,
        dim: int,
        key: Mapping[str, str],
        views: int = 1,
        dtype: str = "<f4",
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a file with every row pending, open for writing.

        key : what the features depend on (model, input spec, manifest, decoder, ...), by part.
        dtype : "<f4", or "<f2" for half the size.
        The disk space is taken here, so a full disk shows before any image is embedded.
        """
        path, shape = Path(path), (len(manifest.keys), views, dim)
        if min(shape) < 1 or dtype not in _DTYPES:
            raise FeatureStoreError(
                f"no feature file can hold (images, views, dimensions) {shape} of {dtype!r}",
                f"each is at least 1, the dtype one of {', '.join(_DTYPES)}",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        # The lock belongs to the file, not to its name: it stays through the rename.
        handle = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        try:
            _lock(handle, path)
        except BaseException:
            handle.close()
            raise
        try:
            if path.exists():
                raise FeatureStoreError(f"{path} exists already", "open it to resume")
            _reserve(handle, manifest, shape, dtype)
            _lay_out(part, manifest, shape, dtype, key, provenance or {})
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle.fileno(), 0, part.stat().st_size)
            part.rename(path)
        except BaseException:
            handle.close()
            part.unlink(missing_ok=True)
            raise
        return cls(path, handle)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        expect: Mapping[str, str] | None = None,
        write: bool = False,
    ) -> Self:
        """Open a file, checking every row that is done against its checksum.

        expect : refuse a file whose key differs, naming the parts that do.
        write : take the lock and go on with the pending rows; else nothing needs write permission.
        """
        path = Path(path)
        if not path.is_file():
            raise FeatureStoreError(f"no feature file at {path}")
        handle = None
        if write:
            handle = path.open("r+b")
            try:
                _lock(handle, path)
            except BaseException:
                handle.close()
                raise
        store = cls(path, handle)
        if expect is not None and store.key != dict(expect):
            store.close()
            raise FeatureStoreError(
                f"{path} holds other features: {difference(store.key, expect)}",
                "give another file, or delete this one",
            )
        return store

    @property
    def features(self) -> NDArray[Any]:
        """(N, V, D) float32 or float16, a read-only memory map without a copy; NaN where failed.

        FeatureStoreError while rows are pending: a file half made must not be scored.
        """
        pending = len(self.pending())
        if pending:
            raise FeatureStoreError(
                f"{self.path} is unfinished: {pending} of {len(self.done)} images are not embedded",
                "run the same command again; it goes on where it stopped",
            )
        return self._rows

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(N,) bool: images without a template."""
        return self.done > DONE

    def reasons(self) -> dict[str, str]:
        """Key -> why it has no template, for each failed image."""
        return {self.manifest.keys[r]: FAILURES[self.done[r]] for r in np.flatnonzero(self.failed)}

    def pending(self) -> NDArray[np.int64]:
        """Rows still to be written, ascending int64."""
        return np.flatnonzero(self.done == PENDING)

    def write(
        self, rows: NDArray[np.int64], x: NDArray[Any], ok: NDArray[np.bool_] | None = None
    ) -> None:
        """Write pending rows.

        rows : (n,) ascending.  x : (n, V, D) float.  ok : (n,) bool, False for an unreadable image
        (its x is ignored).  A row of x with a value that is not finite is a failure of the model.
        """
        if self._handle is None:
            raise FeatureStoreError(f"{self.path} was opened for reading", "open it with write")
        if not len(rows):
            return
        if x.shape != (len(rows), *self._rows.shape[1:]):
            raise FeatureStoreError(
                f"{len(rows)} rows of {x.shape} do not fit features of {self._rows.shape}"
            )
        if np.any(np.diff(rows) <= 0) or np.any(self.done[rows] != PENDING):
            raise FeatureStoreError("a row can be written once, and rows in ascending order")
        finite = np.isfinite(x).all(axis=(1, 2))
        state = np.where(finite, DONE, NO_TEMPLATE).astype(np.uint8)
        if ok is not None:
            state[~ok] = UNREADABLE
        with np.errstate(over="ignore"):
            stored = x.astype(self._rows.dtype)
        stored[state != DONE] = np.nan
        if not np.isfinite(stored[state == DONE]).all():
            raise FeatureStoreError(
                f"values up to {np.abs(x[finite]).max():g} do not fit {stored.dtype}",
                "store them as float32",
            )
        crc = [zlib.crc32(row, one) for row, one in zip(stored, state.tolist(), strict=True)]
        self._put(self._handle, "features", rows, stored)
        self._put(self._handle, "crc", rows, np.array(crc, "<u4"))
        self._put(self._handle, "done", rows, state)
        self.done[rows] = state

    def _put(
        self, handle: IO[bytes], name: str, rows: NDArray[np.int64], values: NDArray[Any]
    ) -> None:
        """Hand values[i] to the system for row rows[i]; a run of neighbouring rows is one write."""
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for run in np.split(np.arange(len(rows)), breaks):
            handle.seek(self._place[name] + int(rows[run[0]]) * values[0].nbytes)
            handle.write(values[run[0] : run[-1] + 1].tobytes())
        handle.flush()

    def _read(self, file: h5py.File) -> None:
        attributes = {name: hdf5.attribute(file, name) for name in _ATTRIBUTES}
        if attributes["format"] != FORMAT:
            raise FeatureStoreError(f"{self.path} is HDF5, but not an evalkit feature file")
        if attributes["version"] != VERSION:
            raise FeatureStoreError(
                f"{self.path} has version {attributes['version']}, this evalkit reads {VERSION}",
                "upgrade evalkit, or embed again",
            )
        self.key = json.loads(attributes["key"])
        self.provenance = json.loads(attributes["provenance"])
        keys = tuple(hdf5.dataset(file, "keys")[()].tobytes().decode().split("\n"))
        self.manifest = Manifest(keys, hdf5.dataset(file, "subject")[()])
        if attributes["manifest"] != self.manifest.digest():
            raise FeatureStoreError(f"{self.path}: its list of images is damaged", _AGAIN)
        held = {n: hdf5.dataset(file, n, plain=True) for n in ("features", "crc", "done")}
        rows = held["features"]
        if rows.dtype.str not in _DTYPES or rows.ndim != 3 or len(rows) != len(keys):
            raise FeatureStoreError(f"{self.path}: {rows.dtype} {rows.shape} for {len(keys)} keys")
        self._place = {name: each.id.get_offset() for name, each in held.items()}
        self.done, self._crc = held["done"][()], held["crc"][()]
        if not self.done.shape == self._crc.shape == rows.shape[:1]:
            raise FeatureStoreError(f"{self.path}: {len(rows)} rows, {len(self.done)} done bytes")
        mapped = np.memmap(self.path, rows.dtype, "r", self._place["features"], rows.shape)
        self._rows: NDArray[Any] = mapped.view(np.ndarray)

    def _verify(self) -> None:
        known = np.isin(self.done, [PENDING, DONE, *FAILURES])
        for r in np.flatnonzero(self.done != PENDING):
            row = self._rows[r]
            if not known[r] or zlib.crc32(row, int(self.done[r])) != self._crc[r]:
                raise FeatureStoreError(
                    f"{self.path} is damaged: the features of {self.manifest.keys[r]} (row {r}) "
                    "differ from their checksum",
                    _AGAIN,
                )

    def close(self) -> None:
        """Give the lock back.  Arrays that were handed out stay valid."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def cache_path(key: Mapping[str, str]) -> Path:
    """Place of the features with this key in the user's cache."""
    digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
    return cache_folder() / "features" / f"{digest[:16]}.h5"


def _reserve(
    handle: IO[bytes], manifest: Manifest, shape: tuple[int, int, int], dtype: str
) -> None:
    """Raise OSError where the disk has no room: HDF5 itself crashes on a full one."""
    if hasattr(os, "posix_fallocate"):
        rows = shape[0] * (shape[1] * shape[2] * int(dtype[-1]) + 16)
        os.posix_fallocate(handle.fileno(), 0, rows + sum(map(len, manifest.keys)) * 4 + (1 << 16))
        os.ftruncate(handle.fileno(), 0)


def _lay_out(
    path: Path,
    manifest: Manifest,
    shape: tuple[int, int, int],
    dtype: str,
    key: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> None:
    """Write the whole file but the rows, and close it."""
    newline = next((k for k in manifest.keys if "\n" in k), None)
    if newline is not None:
        raise FeatureStoreError(f"a key holds a line break: {newline!r}")
    place = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    place.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # so that the rows have a place in the file
    with h5py.File(_new_file(path)) as file:
        for name, size, kind in (
            ("done", shape[:1], "u1"),
            ("crc", shape[:1], "<u4"),
            ("features", shape, dtype),
        ):
            fill = "never" if name == "features" else "alloc"
            file.create_dataset(name, size, kind, dcpl=place.copy(), fill_time=fill)
        file["keys"] = np.frombuffer("\n".join(manifest.keys).encode(), np.uint8)
        file["subject"] = manifest.subject.astype("<i4")
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
    made, access = h5py.h5p.create(h5py.h5p.FILE_CREATE), h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    made.set_obj_track_times(False)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_alignment(1, 64)
    access.set_file_locking(False, False)
    return h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, fcpl=made, fapl=access)


def _lock(handle: IO[bytes], path: Path) -> None:
    """Keep a second writer out; the system drops the lock with the process."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows, where nothing keeps a second writer out
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise FeatureStoreError(
            f"another process is writing {path}", "wait for it, or give another file"
        ) from e


def difference(held: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Name the parts of two keys that differ, and how."""
    parts = [part for part in {**held, **wanted} if held.get(part) != wanted.get(part)]
    return "; ".join(
        f"{part} {held.get(part, 'not given')}, not {wanted.get(part, 'given')}" for part in parts
    )
