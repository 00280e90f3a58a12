"""The vectors that a protocol scores, in the order of its list, whoever made them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import refuse_unwritten
from evalkit.arrays import vectors as vectors_of
from evalkit.files import as_path
from evalkit.identity import Names
from evalkit.keys import rows_of
from evalkit.types import Manifest
from evalkit.vectors import embeddings
from evalkit.vectors.store import FeatureStore

CACHE = "cache"  # what a run took from there, in a report's provenance


@dataclass(frozen=True, slots=True)
class Vectors:
    """(N, D) or (N, V, D) features, and where they came from; an array wherever one belongs.

    images : (N, 32) uint8, SHA-256 of the image of each row, zeros where it is not known.
    keys : the rows' names.  subject : (N,), whom each shows, where their file says it.
    """

    features: Any
    provenance: Mapping[str, Any]
    images: NDArray[np.uint8] | None = None
    keys: Names | None = None
    subject: NDArray[np.int32] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        made = np.asarray(self.features, dtype)
        return made.copy() if copy and np.may_share_memory(made, self.features) else made

    def __repr__(self) -> str:
        n, *views, dim = np.shape(self.features)
        each = f"{views[0]} views of " if views else ""
        return f"<Vectors of {n:,} images: {each}{dim} dimensions>"


def in_order(features: NDArray[Any], have: Sequence[str], manifest: Manifest) -> NDArray[Any]:
    """Put the rows called `have` into the manifest's order; no copy where they already are."""
    rows = rows_of(manifest.keys, have)
    if len(rows) == len(have) and np.array_equal(rows, np.arange(len(rows))):
        return features
    return features[rows]


def found_by_name(vectors: Vectors, manifest: Manifest) -> Vectors:
    """Put vectors into the manifest's order by their names; those without any are in it already."""
    if vectors.keys is None or tuple(vectors.keys) == manifest.keys:
        return vectors
    names = [str(key) for key in vectors.keys]
    images = None if vectors.images is None else np.asarray(vectors.images)
    return Vectors(
        in_order(vectors_of(vectors.features), names, manifest),
        {**vectors.provenance, "manifest": manifest.digest()},
        None if images is None else in_order(images, names, manifest),
        manifest.keys,
        manifest.subject,
    )


def from_embeddings(
    path: str | os.PathLike[str],
    keys: str | os.PathLike[str] | None = None,
    manifest: Manifest | None = None,
    *,
    allow_failures: bool = False,
) -> Vectors:
    """Take vectors made elsewhere (see `embeddings.read`), those of a manifest or all of them.

    A row of zeros of a manifest was never written: DataError.
    """
    path = as_path(path)
    keys = None if keys is None else as_path(keys)
    made = embeddings.read(path, keys, allow_failures=allow_failures)
    provenance = {"features": path.name, "features_sha256": made.digest}
    own = embeddings.is_own(path)
    if manifest is None and not own:
        return Vectors(made.features, provenance, None, made.keys)
    if manifest is None:
        with FeatureStore.open(path, check=False) as store:
            held = store.manifest
            images = _images(store, made.keys, held)
            return Vectors(made.features, provenance, images, made.keys, held.subject)
    provenance["manifest"] = manifest.digest()
    features = in_order(made.features, made.keys, manifest)
    if not own:
        refuse_unwritten(features, path.name, manifest.keys)
        return Vectors(features, provenance, None, manifest.keys)
    with FeatureStore.open(path, check=False) as store:
        if store.version == 1:
            provenance["rows"] = f"by name: {path.name} is of version 1 and knows no images"
        images = _images(store, made.keys, manifest)
        return Vectors(features, provenance, images, manifest.keys)


def from_store(store: FeatureStore, manifest: Manifest) -> Vectors:
    """Take vectors that evalkit embedded or imported."""
    provenance = {
        "features": store.path.name,
        **store.key,
        "manifest": manifest.digest(),
        "made": store.provenance,
    }
    keys = store.manifest.keys
    return Vectors(
        in_order(store.features, keys, manifest),
        provenance,
        _images(store, keys, manifest),
        manifest.keys,
        manifest.subject,
    )


def embedded(store: FeatureStore, manifest: Manifest, crop: str) -> Vectors:
    """Take what the embedder made or took from the cache.

    crop : that the model declares; said is how evalkit aligned the images, where it did.
    """
    made = from_store(store, manifest)
    told = {"crop": crop_of(store.key["decoder"], crop)}
    if n := store.reused:
        told[CACHE] = f"{n:,} vectors from the cache, {len(store.done) - n:,} embedded"
    return replace(made, provenance={**made.provenance, **told})


def crop_of(decoder: str, declared: str) -> str:
    """Say how images were cropped: as evalkit aligned them, else as the model declares."""
    return next((s for s in decoder.split("; ") if s.startswith("aligned to ")), declared)


def digests_in(path: str | os.PathLike[str]) -> NDArray[np.uint8] | None:
    """Read the digests of the images of a feature file, (N, 32); None where it knows none."""
    path = as_path(path)
    with FeatureStore.open(path, check=False) as store:
        return store.images if store.images.any() else None


def _images(
    store: FeatureStore, keys: tuple[str, ...], manifest: Manifest
) -> NDArray[np.uint8] | None:
    """Give the digests of the manifest's images; None where the file knows none."""
    return in_order(store.images, keys, manifest) if store.images.any() else None
