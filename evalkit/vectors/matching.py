"""The vectors that a protocol scores, in the order of its list, whoever made them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import refuse_unwritten
from evalkit.arrays import vectors as vectors_of
from evalkit.bfloat16 import Bfloat16
from evalkit.files import as_path
from evalkit.identity import Names
from evalkit.keys import other_folders, rows_of
from evalkit.types import Manifest
from evalkit.vectors import embeddings, hdf5, readers
from evalkit.vectors.store import FeatureStore

CACHE = "cache"  # what a run took from there, in a report's provenance
TYPE = "features_type"  # of numbers of which NumPy has no type, in a report's provenance


@dataclass(frozen=True, slots=True)
class Vectors:
    """(N, D) or (N, V, D) features, and where they came from; an array wherever one belongs.

    images : (N, 32) uint8, SHA-256 of the image of each row, zeros where it is not known.
    keys : the rows' names.  subject : (N,), whom each shows, where their file says it.
    given : (N,) which of the rows that were given each one is, and how many these were; None where
    all stand in their order.
    """

    features: Any
    provenance: Mapping[str, Any]
    images: NDArray[np.uint8] | None = None
    keys: Names | None = None
    subject: NDArray[np.int32] | None = None
    given: tuple[NDArray[np.int64], int] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = np.asarray(self.features, dtype)
        return array.copy() if copy and np.may_share_memory(array, self.features) else array

    def __repr__(self) -> str:
        n, *views, dim = np.shape(self.features)
        each = f"{views[0]} views of " if views else ""
        return f"<Vectors of {n:,} images: {each}{dim} dimensions>"

    def with_provenance(self, more: Mapping[str, Any]) -> Vectors:
        """Add to where they came from."""
        return replace(self, provenance={**self.provenance, **more})


def found_by_name(vectors: Vectors, manifest: Manifest) -> Vectors:
    """Put vectors into the manifest's order by their names; those without any are in it already.

    No copy where they lie so.  A name may stand before several rows that are equal, as in vectors
    in the order of pairs.  Folders that differ are told in "names" of the provenance.
    """
    names, features, images, given = vectors.keys, vectors.features, vectors.images, None
    provenance = {**vectors.provenance, "manifest": manifest.digest()}
    if names is None:
        return vectors
    if tuple(names) != manifest.keys:
        have = [str(name) for name in names]
        rows = rows_of(manifest.keys, have, equal=lambda a, b: _equal(features[a], features[b]))
        if other := other_folders(manifest.keys, have, rows):
            provenance["names"] = other
        if len(rows) != len(names) or not np.array_equal(rows, np.arange(len(rows))):
            features = vectors_of(features)[rows]
            images = None if images is None else np.asarray(images)[rows]
            given = rows, len(names)
    return Vectors(features, provenance, images, manifest.keys, manifest.subject, given)


def _equal(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)


def from_embeddings(
    path: str | os.PathLike[str],
    keys: str | os.PathLike[str] | None = None,
    manifest: Manifest | None = None,
    *,
    allow_failures: bool = False,
    numbered: bool = False,
) -> Vectors:
    """Take vectors made elsewhere (see `embeddings.read`), those of a manifest or all of them.

    A row of zeros was never written: DataError, unless `allow_failures`.
    """
    path = as_path(path)
    keys = None if keys is None else as_path(keys)
    read = embeddings.read(path, keys, allow_failures=allow_failures, numbered=numbered)
    provenance = {"features": path.name, "features_sha256": read.digest}
    if read.told:
        provenance["features_columns"] = read.told
    provenance |= type_of(read.features, path)
    vectors, version = Vectors(read.features, provenance, keys=read.keys), None
    if hdf5.is_feature_file(path):
        with FeatureStore.open(path, check=False) as store:
            vectors = replace(vectors, images=_images(store), subject=store.manifest.subject)
            version = store.version
    if manifest is not None:
        vectors = found_by_name(vectors, manifest)
    if version is None:
        refuse_unwritten(vectors.features, path.name, [str(key) for key in vectors.keys or ()])
    if manifest is None:
        return vectors
    if version != 1:
        return vectors
    return vectors.with_provenance(
        {"rows": f"by name: {path.name} is of version 1 and knows no images"}
    )


def by_position(path: str | os.PathLike[str], *, allow_failures: bool = False) -> Vectors:
    """Take all vectors of a file whose rows need no names; a feature file knows its own.

    A row of zeros was never written: DataError, unless `allow_failures`.
    """
    path = as_path(path)
    provenance = {"features": path.name}
    if path.suffix.lower() in hdf5.SUFFIXES:
        store = FeatureStore.open(path)
        manifest = store.manifest
        return Vectors(store.features, provenance, store.images, manifest.keys, manifest.subject)
    features = readers.read(path)[0]
    embeddings.check(features, path)
    if allow_failures:
        features = embeddings.without_zeros(features)
    refuse_unwritten(features, path.name)
    return Vectors(features, provenance | type_of(features, path))


def type_of(features: Any, path: str | os.PathLike[str]) -> dict[str, str]:
    """Say for a report that vectors are bfloat16, for which .npy has no name; {} for others."""
    path = as_path(path)
    if not isinstance(features, Bfloat16):
        return {}
    taken = ", taken for what the file calls V2" if path.suffix.lower() == ".npy" else ""
    return {TYPE: f"bfloat16{taken}"}


def from_store(store: FeatureStore, manifest: Manifest) -> Vectors:
    """Take vectors that evalkit embedded or imported."""
    provenance = {"features": store.path.name, **store.key}
    vectors = Vectors(store.features, provenance, _images(store), store.manifest.keys)
    return found_by_name(vectors, manifest).with_provenance({"made": store.provenance})


def embedded(store: FeatureStore, manifest: Manifest, crop: str) -> Vectors:
    """Take what the embedder made or took from the cache.

    crop : that the model declares; said is how evalkit aligned the images, where it did.
    """
    vectors = from_store(store, manifest)
    provenance = {"crop": crop_of(store.key["decoder"], crop)}
    if n := store.reused:
        provenance[CACHE] = f"{n:,} vectors from the cache, {len(store.done) - n:,} embedded"
    return vectors.with_provenance(provenance)


def crop_of(decoder: str, declared: str) -> str:
    """Say how images were cropped: as evalkit aligned them, else as the model declares."""
    return next((s for s in decoder.split("; ") if s.startswith("aligned to ")), declared)


def _images(store: FeatureStore) -> NDArray[np.uint8] | None:
    """Give the digests of a file's images, (N, 32); None where it knows none."""
    return store.images if store.images.any() else None
