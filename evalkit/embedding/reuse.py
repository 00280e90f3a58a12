"""Reuse of stored vectors, by the digest of their image and the answers of their model."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalkit import cache
from evalkit.adapters import Adapter, answers, fingerprint
from evalkit.errors import EvalkitError, FeatureStoreError
from evalkit.types import Manifest
from evalkit.vectors.layout import PENDING
from evalkit.vectors.store import FeatureStore, answers_in, difference

Say = Callable[[str], None]
_AGAIN = "all images are embedded again"


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows of a new file, (n,) ascending, and the rows `at` of an earlier one that they are."""

    store: FeatureStore
    rows: NDArray[np.int64]
    at: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier runs left of the vectors that are wanted.

    path : where they are to be.  held : the file that is there, where its vectors are this model's.
    others : further files of the cache with vectors of this model, the one used last first.
    name : of the place, for what is said.
    """

    path: Path
    held: FeatureStore | None
    name: str
    others: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return self.held is not None or bool(self.others)

    def begun(self, manifest: Manifest, images: NDArray[np.uint8]) -> FeatureStore | None:
        """Give the file at `path` if every row it has done belongs to its image: (N, 32) digests.

        None where it holds other images, or one that has changed since.
        """
        store = self.held
        if store is None or store.version == 1 or store.manifest.digest() != manifest.digest():
            return None
        done = store.done != PENDING
        return store if np.array_equal(store.images[done], images[done]) else None

    def rows_of(self, images: NDArray[np.uint8]) -> list[Taken]:
        """Find the rows of earlier files made of these images, (N, 32) digests, failures too."""
        wanted: dict[bytes, list[int]] = defaultdict(list)
        for row in np.flatnonzero(images.any(axis=1)).tolist():
            wanted[images[row].tobytes()].append(row)
        matches = [] if self.held is None else [_matched(self.held, wanted)]
        for path in self.others:
            if wanted:
                with suppress(EvalkitError, OSError):
                    matches.append(_matched(FeatureStore.open(path, check=False), wanted))
        return [taken for taken in matches if len(taken.rows)]

    def summary(self, store: FeatureStore, left: int) -> str:
        """Say how many vectors were there and how many are to be made."""
        line = f"{len(store.done) - left:,} vectors from {self.name}, {left:,} to embed"
        held = self.held
        if held is not None and held.path == store.path and held.damaged:
            line += f" ({held.damaged:,} of them damaged on the disk)"
        return line


def place(key: Mapping[str, str], manifest: Manifest) -> Path:
    """Name the cache's place for vectors of these images under this key, but for the model."""
    digest = hashlib.sha256("\n".join(f"{k}\t{v}" for k, v in sorted(key.items())).encode())
    return cache.feature_folder(digest.hexdigest()) / manifest.digest()[:16]


def find(
    path: Path | None,
    key: Mapping[str, str],
    manifest: Manifest,
    adapter: Adapter,
    answered: NDArray[np.float32],
    say: Say,
) -> Earlier:
    """Find what earlier runs left at `path`, or in the cache (None), of this model's vectors.

    A model without a fingerprint whose answers prove nothing shares no vector with any other run.
    """
    if not fingerprint(adapter) and not answers.prove(answered):
        say(f"nothing shows which model this is, so no earlier vector is taken: {_AGAIN}")
        return Earlier(path or place(key, manifest).with_suffix(".h5"), None, "")
    if path is not None:
        return _at(path, key, adapter, answered, say)
    return _cached(place(key, manifest), answered, say)


def _cached(stem: Path, answered: NDArray[np.float32], say: Say) -> Earlier:
    """Look in the folder of a key for files of this model; another's stay, and it is said."""
    paths = [e.path for e in cache.entries() if e.path.parent == stem.parent]
    same = [path for path in paths if _agrees(path, answered)]
    mine = next((path for path in same if path.name.startswith(stem.name)), None)
    if paths and not same:
        say(f"this model answers differently than the one that filled the cache: {_AGAIN}")
    mark = hashlib.sha256(answered.tobytes()).hexdigest()[:16]
    path = mine or stem.with_name(f"{stem.name}-{mark}.h5")
    store = None
    if path.exists():
        try:
            store = FeatureStore.open(path, repair=True)
        except FeatureStoreError as e:
            say(f"{e.message}: {_AGAIN}")
    return Earlier(path, store, "the cache", tuple(p for p in same if p != path))


def _at(
    path: Path, key: Mapping[str, str], adapter: Adapter, answered: NDArray[np.float32], say: Say
) -> Earlier:
    """Open the file at `path`; FeatureStoreError where its vectors are another model's."""
    if not path.exists():
        return Earlier(path, None, path.name)
    store = FeatureStore.open(path, repair=True)
    kept = {part: value for part, value in store.key.items() if part != "manifest"}  # version 1's
    refusal = difference(kept, key)
    if not refusal and store.version == 1:
        say(f"{path} is of version 1, which does not say of which images its vectors are: {_AGAIN}")
    elif not refusal and not _same(store.answers, answered):
        answers.refuse_random(adapter, answered)
        refusal = "this model answers differently"
    if refusal:
        raise FeatureStoreError(
            f"{path} holds other features: {refusal}", "give another file, or delete this one"
        )
    return Earlier(path, store, path.name)


def _matched(store: FeatureStore, wanted: dict[bytes, list[int]]) -> Taken:
    """Match the rows of a file with the rows that are wanted of each digest, which it then has."""
    pairs: list[tuple[int, int]] = []
    for row in np.flatnonzero(store.done != PENDING).tolist() if store.version > 1 else ():
        pairs += [(place, row) for place in wanted.pop(store.images[row].tobytes(), ())]
    rows, at = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    return Taken(store, rows, at)


def _agrees(path: Path, answered: NDArray[np.float32]) -> bool:
    return _same(answers_in(path), answered)


def _same(kept: NDArray[np.float32] | None, answered: NDArray[np.float32]) -> bool:
    return kept is not None and answers.agree(kept, answered)
