"""FeatureStore: one model's vectors for one manifest, in an HDF5 file that survives its writer.

What lies in the file, `layout` says.

HDF5 makes the file once, complete and closed; rows then go to their places by plain writes. HDF5
never has the file open for writing, so a kill -9 at any moment leaves a file that opens, in which
every row with a done byte is right. A power cut may lose rows the disk had not got yet: their
checksums tell.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from evalkit import locks
from evalkit.errors import DataError, FeatureStoreError
from evalkit.files import as_path, hidden, real_path, refuse_lfs_pointer, rename, take_place
from evalkit.identity import DIGEST
from evalkit.types import Manifest
from evalkit.vectors import hdf5
from evalkit.vectors.layout import (
    DONE,
    FAILURES,
    FORMAT,
    NO_TEMPLATE,
    PENDING,
    TAKEN,
    VERSION,
    checksum,
    lay_out,
    reserve,
)

if TYPE_CHECKING:
    import h5py

_READ = (1, VERSION)
_BLOCK = 4096  # rows copied at a time
_ATTRIBUTES = ("format", "version", "manifest", "key", "provenance")
_DTYPES = ("<f4", "<f2")
_AGAIN = "delete it and embed again"


class FeatureStore:
    """Features on disk: `create` or `open` one, close it with `with`.

    manifest : the rows.  key : what the features depend on, by part.  provenance : what else is
    known about how they were made.  done : (N,) uint8, the state of each row.  taken : (N,) bool,
    rows that came from an earlier file.  images : (N, 32) uint8, the digest of each row's image, 0
    where it is not known.  answers : (4, D) float32 or None.  version : the file's.
    damaged : rows that differ from their checksum, where `open` was told to make them again.
    reused : rows that the run which returned the store had not to make.
    """

    manifest: Manifest
    key: dict[str, str]
    provenance: dict[str, Any]
    done: NDArray[np.uint8]
    taken: NDArray[np.bool_]
    images: NDArray[np.uint8]
    answers: NDArray[np.float32] | None
    version: int

    def __init__(
        self, path: Path, handle: IO[bytes] | None, check: bool = True, repair: bool = False
    ) -> None:
        import h5py

        self.path = path
        self.damaged = self.reused = 0
        self._handle = handle  # open, and locked, where rows may be written
        try:
            hdf5.refuse_damaged_heap(path)
            with h5py.File(path, "r", locking=False) as file:
                self._read(file)
            if check:
                self._verify(repair)
        except BaseException as e:
            self.close()
            if isinstance(e, FeatureStoreError | MemoryError) or not isinstance(e, Exception):
                raise
            raise FeatureStoreError(f"{path} is not an evalkit feature file, or cut: {e}") from e

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
        answers: NDArray[np.float32] | None = None,
    ) -> Self:
        """Make a file with every row pending, open for writing.

        key : what the features depend on (model, input spec, decoder, ...), by part.
        dtype : "<f4", or "<f2" for half the size.  answers : the model's, see `adapters.answers`.
        The disk space is taken here, so a full disk shows before any image is embedded.
        """
        path = as_path(path)
        path, shape = Path(path), (len(manifest.keys), views, dim)
        if min(shape) < 1 or dtype not in _DTYPES:
            raise FeatureStoreError(
                f"no feature file can hold (images, views, dimensions) {shape} of {dtype!r}",
                f"each is at least 1, the dtype one of {', '.join(_DTYPES)}",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        part = hidden(path, "part")
        # The lock belongs to the file, not to its name: it stays through the rename.
        handle = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        locks.take(handle, path)
        try:
            if path.exists():
                raise FeatureStoreError(f"{path} exists already", "open it to resume")
            reserve(handle, manifest, shape, dtype)
            lay_out(part, manifest, shape, dtype, key, provenance or {}, answers)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle.fileno(), 0, part.stat().st_size)
            os.fsync(handle.fileno())
            rename(part, real_path(path))
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
        check: bool = True,
        repair: bool = False,
    ) -> Self:
        """Open a file, checking every row that is done against its checksum unless `check` is off.

        expect : refuse a file whose key differs, naming the parts that do.
        write : take the lock and go on with the pending rows; else nothing needs write permission.
        repair : a row that differs from its checksum is pending again, not an error.
        """
        path = as_path(path)
        if not path.is_file():
            raise FeatureStoreError(f"no feature file at {path}")
        refuse_lfs_pointer(path, FeatureStoreError)
        handle = None
        if write:
            handle = path.open("r+b")
            locks.take(handle, path)
        store = cls(path, handle, check, repair)
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
    def shape(self) -> tuple[int, int, int]:
        """(N, V, D): images, views per image, dimensions."""
        n, views, dim = self._rows.shape
        return n, views, dim

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
        self,
        rows: NDArray[np.int64],
        x: NDArray[Any],
        image_state: NDArray[np.uint8] | None = None,
        images: NDArray[np.uint8] | None = None,
    ) -> None:
        """Write pending rows.

        rows : (n,) ascending.  x : (n, V, D) float.  images : (n, 32) uint8, the digest of each
        row's image.  image_state : (n,) uint8, DONE, or a reason of FAILURES where there is no
        image for a model (its x is ignored).
        A row of x with a value that is not finite is a failure of the model.
        """
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
        if image_state is not None:
            state = np.where(image_state == DONE, state, image_state)
        with np.errstate(over="ignore"):
            stored = x.astype(self._rows.dtype)
        stored[state != DONE] = np.nan
        if not np.isfinite(stored[state == DONE]).all():
            raise FeatureStoreError(
                f"values up to {np.abs(x[finite]).max():g} do not fit {stored.dtype}",
                "store them as float32",
            )
        digests = np.zeros((len(rows), DIGEST), np.uint8) if images is None else images
        self._write(rows, stored, state, digests)

    def take(self, rows: NDArray[np.int64], other: FeatureStore, at: NDArray[np.int64]) -> None:
        """Copy rows `at` of an earlier file to pending `rows`, (n,) ascending, failures too.

        A row of the other that differs from its checksum stays pending.
        """
        for o in range(0, len(rows), _BLOCK):
            some, here = at[o : o + _BLOCK], rows[o : o + _BLOCK]
            good = np.array([other._is_whole(r) for r in some.tolist()], np.bool_)
            some, here = some[good], here[good]
            x, state = other._rows[some], other.done[some] | TAKEN
            self._write(here, x, state, other.images[some])

    def replace(self, path: str | os.PathLike[str]) -> None:
        """Take the place of the file at `path`, which is this one's from now on."""
        path = as_path(path)
        if self._handle is not None:
            self._handle.flush()
            os.fsync(self._handle.fileno())
        take_place(self.path, path)
        self.path = path

    def settle(self) -> None:
        """Forget which rows were taken from an earlier file: a finished file is that of one run."""
        rows = np.flatnonzero(self.taken)
        if self._handle is not None and len(rows):
            self._put(self._handle, "done", rows, self.done[rows])
            self.taken[rows] = False

    def _write(
        self,
        rows: NDArray[np.int64],
        stored: NDArray[Any],
        state: NDArray[np.uint8],
        images: NDArray[np.uint8],
    ) -> None:
        if self._handle is None:
            raise FeatureStoreError(f"{self.path} was opened for reading", "open it with write")
        if "image" not in self._place:
            raise FeatureStoreError(f"{self.path} is of version 1, which is only read", _AGAIN)
        if not len(rows):
            return
        each = zip(stored, (state & ~TAKEN).tolist(), images, strict=True)
        crc = [checksum(row, one, digest) for row, one, digest in each]
        self._put(self._handle, "features", rows, stored)
        self._put(self._handle, "image", rows, images)
        self._put(self._handle, "crc", rows, np.array(crc, "<u4"))
        self._put(self._handle, "done", rows, state)
        self.done[rows], self.taken[rows] = state & ~TAKEN, (state & TAKEN) > 0
        self.images[rows], self._crc[rows] = images, crc

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
        self.version = attributes["version"]
        if self.version not in _READ:
            raise FeatureStoreError(
                f"{self.path} has version {self.version}, this evalkit reads {VERSION} and below",
                "upgrade evalkit, or embed again",
            )
        self.key = json.loads(attributes["key"])
        self.provenance = json.loads(attributes["provenance"])
        keys = tuple(hdf5.dataset(file, "keys")[()].tobytes().decode().split("\n"))
        self.manifest = Manifest(keys, hdf5.dataset(file, "subject")[()])
        if attributes["manifest"] != self.manifest.digest():
            raise FeatureStoreError(f"{self.path}: its list of images is damaged", _AGAIN)
        names = ("features", "crc", "done", *(["image"] if self.version > 1 else []))
        datasets = {n: hdf5.dataset(file, n, plain=True) for n in names}
        rows = datasets["features"]
        if rows.dtype.str not in _DTYPES or rows.ndim != 3 or len(rows) != len(keys):
            raise FeatureStoreError(f"{self.path}: {rows.dtype} {rows.shape} for {len(keys)} keys")
        self._place = {name: each.id.get_offset() for name, each in datasets.items()}
        raw, self._crc = datasets["done"][()], datasets["crc"][()]
        if not raw.shape == self._crc.shape == rows.shape[:1]:
            raise FeatureStoreError(f"{self.path}: {len(rows)} rows, {len(raw)} done bytes")
        self.taken, self.done = raw >= TAKEN, raw & ~TAKEN
        self.images = np.zeros((len(rows), DIGEST), np.uint8)
        if "image" in datasets:
            hdf5.dataset(file, "image").read_direct(self.images)
        self.answers = hdf5.dataset(file, "answers")[()] if "answers" in file else None
        if self.answers is not None and (self.answers.dtype.str, self.answers.ndim) != ("<f4", 2):
            raise FeatureStoreError(f"{self.path}: its model's answers are damaged", _AGAIN)
        mapped = np.memmap(self.path, rows.dtype, "r", self._place["features"], rows.shape)
        self._rows: NDArray[Any] = mapped.view(np.ndarray)

    def _verify(self, repair: bool) -> None:
        for r in np.flatnonzero(self.done != PENDING).tolist():
            if self._is_whole(r):
                continue
            if not repair:
                raise FeatureStoreError(
                    f"{self.path} is damaged: the features of {self.manifest.keys[r]} (row {r}) "
                    "differ from their checksum",
                    _AGAIN,
                )
            self.done[r], self.damaged = PENDING, self.damaged + 1

    def _is_whole(self, row: int) -> bool:
        """Tell whether a row that is done has its checksum."""
        state, digest = int(self.done[row]), None if self.version == 1 else self.images[row]
        known = state in (DONE, *FAILURES)
        return known and checksum(self._rows[row], state, digest) == self._crc[row]

    def close(self) -> None:
        """Give the lock back.  Arrays that were handed out stay valid."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def answers_in(path: str | os.PathLike[str]) -> NDArray[np.float32] | None:
    """Read what the model of a feature file answered; None where the file does not say."""
    import h5py

    path = as_path(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            answers = hdf5.dataset(file, "answers")
            return answers[()] if (answers.dtype.str, answers.ndim) == ("<f4", 2) else None
    except (OSError, DataError):
        return None


def difference(held: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Name the parts of two keys that differ, and how."""
    parts = [part for part in {**held, **wanted} if held.get(part) != wanted.get(part)]
    return "; ".join(
        f"{part} {held.get(part, 'not given')}, not {wanted.get(part, 'given')}" for part in parts
    )
