"""The embedder: images decoded by threads ahead of the model, vectors written as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evalkit import cache, locks
from evalkit.adapters import Adapter, answers, fingerprint
from evalkit.adapters.presets import describe
from evalkit.embedding import reuse
from evalkit.embedding.batch_size import batch_difference, best_batch
from evalkit.embedding.passes import READERS, Embedded, FedModel, Passes
from evalkit.errors import DataError
from evalkit.files import as_path, hidden, named
from evalkit.images import ImageSource
from evalkit.images.digests import ImageDigests
from evalkit.types import Manifest, Progress
from evalkit.vectors.layout import PENDING
from evalkit.vectors.store import FeatureStore, difference

if TYPE_CHECKING:
    from evalkit.cluster import Cluster

_PIECE = 1024  # images that a worker of a cluster embeds at a time


def feature_key(adapter: Adapter, source: ImageSource, views: int) -> dict[str, str]:
    """Name what all the vectors depend on, part by part; of each one its image's digest tells."""
    return {
        "model": fingerprint(adapter),
        "runtime": str(getattr(adapter, "runtime", type(adapter).__name__)),
        "input spec": describe(adapter.spec),
        "decoder": source.identity,
        "views": "original" if views == 1 else "original, mirrored",
    }


def embed(
    adapter: Adapter,
    source: ImageSource,
    manifest: Manifest,
    path: str | os.PathLike[str] | None = None,
    *,
    views: int = 1,
    batch: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
    load: Callable[[], Adapter] | None = None,
    verify: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> FeatureStore:
    """Embed every image of the manifest once and return its finished feature file.

    path : where to keep it; None is the user's cache.  A vector that is there, or in the cache,
    is taken if it is shown to belong: made of an image of the same digest, under the same key, by a
    model that answers the fixed images of `adapters.answers` as this one.  The others are made;
    rows that are no longer wanted go.  A file of another key or model is refused.
    views : 1, or 2 to embed the mirror image too, in the same forward pass.
    batch : pictures in a forward pass, None = the fastest found; halved where memory runs out.
    workers : threads that read images.  progress : called with (images done, images in all).
    cluster : whose workers embed, each with the model that `load` makes there; this process alone
    writes.  A worker with another model, runtime or decoder is a DataError.
    verify : read every image to know its digest, also where its file looks unchanged.
    say : told what was taken and made, and what stands in the way of taking.

    Threads read and decode ahead, one (or as many as the adapter has `streams`) runs the model,
    this one writes; a few batches are in memory at a time, however many images there are.  Images
    meet in the same batches in every run, interrupted or not, so they get the same bits; what
    another batch would change is measured and kept (`batch_difference`).
    Where another process makes the same file, this one waits for it.
    An image that cannot be read, or aligned, is a failed row.  DataError where an image has not the
    model's size; DataError where `source` lacks an image of the manifest.  ModelError where the
    model answers differently to the same image.
    """
    path = None if path is None else as_path(path)
    images, readers = source.select(manifest.keys), workers or READERS
    key, answered = feature_key(adapter, images, views), answers.answers(adapter)
    with locks.exclusive(path or reuse.place(key, manifest), say):
        earlier = reuse.find(path, key, manifest, adapter, answered, say)
        digests = ImageDigests(images, verify=verify)
        if earlier:
            digests.read(np.flatnonzero(~digests.known), readers)
        store = earlier.begun(manifest, digests.named())
        if store is None:
            new = _New(adapter, key, manifest, views, answered)
            store, batch = new.begin(earlier, digests.named(), batch, say)
        left = len(store.pending())
        if earlier:
            say(earlier.summary(store, left))
        if left:
            batch = batch or store.provenance.get("batch") or best_batch(adapter, views * left)
            fed = images, views, batch, readers
            model = FedModel(adapter, *fed).embed
            if cluster is not None and load is not None:
                model = partial(_elsewhere, cluster, _Piece(load, key, answered, fed))
            _finish(store.path, key, max(1, batch // views), model, digests, progress)
        digests.keep()
    finished = FeatureStore.open(store.path, expect=key)
    finished.reused = len(finished.done) - left
    cache.touch(finished.path)
    return finished


@dataclass(frozen=True, slots=True)
class _New:
    """A feature file to be made."""

    adapter: Adapter
    key: dict[str, str]
    manifest: Manifest
    views: int
    answered: NDArray[np.float32]

    def begin(
        self,
        earlier: reuse.Earlier,
        images: NDArray[np.uint8],
        batch: int | None,
        say: Callable[[str], None],
    ) -> tuple[FeatureStore, int | None]:
        """Write it with all rows that were made before, the others pending; and choose the batch.

        The batch is found by the clock; the file keeps it only where a bit depends on it.
        """
        taken = earlier.rows_of(images)
        left = len(self.manifest.keys) - sum(len(t.rows) for t in taken)
        provenance = dict(taken[0].store.provenance) if taken else self._refuse_random(say)
        if left and provenance.get("batch difference") != 0.0:
            batch = batch or provenance.get("batch") or best_batch(self.adapter, self.views * left)
            provenance |= {
                "batch": batch,
                "batch difference": batch_difference(self.adapter, batch),
            }
            if taken:
                provenance["rows of an earlier run"] = len(self.manifest.keys) - left
        if provenance.get("batch difference") == 0.0:
            provenance.pop("batch", None)
        partial_path = hidden(earlier.path, "new")
        partial_path.unlink(missing_ok=True)  # nobody else makes it: see `locks.exclusive`
        with named(earlier.path):
            store = FeatureStore.create(
                partial_path,
                self.manifest,
                dim=self.adapter.dim,
                key=self.key,
                views=self.views,
                provenance=provenance,
                answers=self.answered,
            )
        with store:
            for some in taken:
                store.take(some.rows, some.store, some.at)
            if not len(store.pending()):
                store.settle()
            store.replace(earlier.path)
        return FeatureStore.open(earlier.path, expect=self.key), batch

    def _refuse_random(self, say: Callable[[str], None]) -> dict[str, Any]:
        doubt = answers.refuse_random(self.adapter, self.answered)
        if not doubt:
            return {}
        say(f"warning: {doubt}")
        return {"warning": doubt}


def _finish(
    path: Path,
    key: dict[str, str],
    size: int,
    model: Callable[[Passes], Iterator[Embedded]],
    digests: ImageDigests,
    progress: Progress | None,
) -> None:
    """Make the pending rows of a feature file; one without any row is not left behind."""
    with FeatureStore.open(path, expect=key, write=True, repair=True) as store:
        try:
            _fill(store, size, model, digests, progress)
            store.settle()
        except BaseException:
            digests.keep()
            if store.done.max() == PENDING:
                path.unlink()
            raise


def _fill(
    store: FeatureStore,
    size: int,
    embed: Callable[[Passes], Iterator[Embedded]],
    digests: ImageDigests,
    progress: Progress | None,
) -> None:
    """Write the pending rows as they are made, in any order, from passes of `size` images.

    Passes are of the rows that were not taken from an earlier file, whether already made or not, so
    that an interrupted run meets the same ones again.
    """
    total = len(store.done)
    own, lost = np.flatnonzero(~store.taken), np.flatnonzero(store.taken & (store.done == PENDING))
    passes = [p for rows in (own, lost) for p in np.split(rows, range(size, len(rows), size))]
    done = total - len(store.pending())
    if progress is not None:
        progress(done, total)
    for rows, x, state, images in embed([p for p in passes if (store.done[p] == PENDING).any()]):
        new = store.done[rows] == PENDING
        digests.own[rows] = images
        store.write(rows[new], x[new], state[new], digests.named(rows[new]))
        done += int(new.sum())
        if progress is not None:
            progress(done, total)


@dataclass
class _Piece:
    """The job of a cluster's worker: some passes in, what they gave out."""

    load: Callable[[], Adapter]
    key: dict[str, str]
    answered: NDArray[np.float32]
    fed: tuple[ImageSource, int, int, int]

    def __call__(self, passes: Passes) -> list[Embedded]:
        return list(self._model.embed(passes))

    @cached_property
    def _model(self) -> FedModel:
        model = FedModel(self.load(), *self.fed)
        key = feature_key(model.adapter, model.images, model.views)
        other = difference(key, self.key)
        if not other and not answers.agree(self.answered, answers.answers(model.adapter)):
            other = "its model answers differently"
        if other:
            raise DataError(
                f"a worker would make other features: {other}",
                "give every worker the same model, packages and kind of device",
            )
        return model


def _elsewhere(cluster: Cluster, piece: _Piece, passes: Passes) -> Iterator[Embedded]:
    """Embed on the workers of a cluster, in pieces of several passes."""
    some = max(1, _PIECE // max((len(p) for p in passes), default=1))
    items = {o: passes[o : o + some] for o in range(0, len(passes), some)}
    with closing(cluster.run(piece, items)) as finished:
        for _, embedded in finished:
            yield from embedded
