"""Vectors of a model's images in memory, by one process or by several that share them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from evalkit.embedding.embedder import feature_key
from evalkit.embedding.passes import Embedded, FedModel, Passes
from evalkit.images.digests import ImageDigests
from evalkit.types import Progress
from evalkit.vectors import matching
from evalkit.vectors.matching import Vectors

# Given a model's `embed` and all passes: what they give out, whoever embeds them.
SharePasses = Callable[[Callable[[Passes], Iterator[Embedded]], Passes], Iterable[Embedded]]


def embedded(
    fed: FedModel,
    made: Mapping[str, Any],
    progress: Progress | None = None,
    share: SharePasses | None = None,
) -> Vectors:
    """Embed all images of a model: (N, V, D) float32, NaN in the rows of those without a vector.

    Each image meets the same ones in its pass, whoever embeds it, so it gets the same bits.
    made : for the provenance: how the vectors were made.  share : None embeds here.
    """
    adapter, source, n = fed.adapter, fed.images, len(fed.images.keys)
    size = max(1, fed.batch // fed.views)
    passes = np.split(np.arange(n), range(size, n, size))
    features = np.empty((n, fed.views, adapter.dim), np.float32)
    digests, done = ImageDigests(replace(source, stamp=None)), 0  # no look into the cache
    for rows, x, _, own in share(fed.embed, passes) if share else fed.embed(passes):
        features[rows], digests.own[rows] = x, own
        done += len(rows)
        if progress is not None:
            progress(done, n)
    key, manifest = feature_key(adapter, source, fed.views), source.manifest()
    left_out = {"left out": list(source.left_out)} if source.left_out else {}
    provenance = {
        **key,
        "manifest": manifest.digest(),
        "made": {**made, **left_out},
        "crop": matching.crop_of(key["decoder"], adapter.spec.crop),
    }
    return Vectors(features, provenance, digests.named(), source.keys, manifest.subject)
