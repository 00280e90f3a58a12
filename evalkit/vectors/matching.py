"""The vectors that a protocol scores: row i belongs to key i of its manifest, whoever made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import refuse_unwritten
from evalkit.keys import rows_of
from evalkit.types import Manifest
from evalkit.vectors import embeddings
from evalkit.vectors.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Vectors:
    """(N, D) or (N, V, D) features in the manifest's order, and where they came from.

    images : (N, 32) uint8, SHA-256 of the image of each row, zeros where it is not known.
    """

    features: NDArray[Any]
    provenance: Mapping[str, Any]
    images: NDArray[np.uint8] | None = None


def in_order(features: NDArray[Any], have: tuple[str, ...], manifest: Manifest) -> NDArray[Any]:
    """Put the rows called `have` into the manifest's order; no copy where they already are."""
    rows = rows_of(manifest.keys, have)
    if len(rows) == len(have) and np.array_equal(rows, np.arange(len(rows))):
        return features
    return features[rows]


def from_embeddings(
    path: Path, keys: Path | None, manifest: Manifest, *, allow_failures: bool = False
) -> Vectors:
    """Take vectors made elsewhere (see `adapters.embeddings`); a row of zeros was never written."""
    made = embeddings.read(path, keys, allow_failures=allow_failures)
    provenance = {
        "features": path.name,
        "features_sha256": made.digest,
        "manifest": manifest.digest(),
    }
    features = in_order(made.features, made.keys, manifest)
    if not embeddings.is_own(path):
        refuse_unwritten(features, path.name, manifest.keys)
        return Vectors(features, provenance)
    with FeatureStore.open(path, check=False) as store:
        if store.version == 1:
            provenance["rows"] = f"by name: {path.name} is of version 1 and knows no images"
        return Vectors(features, provenance, _images(store, made.keys, manifest))


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
        in_order(store.features, keys, manifest), provenance, _images(store, keys, manifest)
    )


def digests_in(path: Path) -> NDArray[np.uint8] | None:
    """Read the digests of the images of a feature file, (N, 32); None where it knows none."""
    with FeatureStore.open(path, check=False) as store:
        return store.images if store.images.any() else None


def _images(
    store: FeatureStore, keys: tuple[str, ...], manifest: Manifest
) -> NDArray[np.uint8] | None:
    """Give the digests of the manifest's images; None where the file knows none."""
    return in_order(store.images, keys, manifest) if store.images.any() else None
