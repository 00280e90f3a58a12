"""Vectors of images for a program, `evalkit.embed`: in memory, or kept in a feature file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit import adapters
from evalkit.adapters import Adapter, answers
from evalkit.arrays import array
from evalkit.embedding import embedder, in_memory
from evalkit.embedding.batch_size import batch_difference, best_batch
from evalkit.embedding.passes import READERS, FedModel
from evalkit.errors import DataError, ModelError, as_keywords, first_few
from evalkit.escaping import printable
from evalkit.images import ImageSource, Picture, alignment, find
from evalkit.images.finding import of_paths
from evalkit.types import Progress
from evalkit.vectors import matching
from evalkit.vectors.matching import Vectors

File = str | os.PathLike[str]
_FILE = (str, os.PathLike)
_SHOWN = 3  # images without a vector that are named


def on_stderr(line: str) -> None:
    """Say a line to the user of a program."""
    sys.stderr.write(f"{printable(as_keywords(line))}\n")


def embed(
    model: Adapter | File | Callable[..., Any],
    images: ImageSource | ArrayLike | File,
    path: File | None = None,
    *,
    keys: Sequence[str] | None = None,
    views: int = 1,
    batch: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = on_stderr,
    **loading: Any,
) -> Vectors:
    """Embed aligned images with a model; `evalkit.evaluate` and every protocol take the result.

    model : a file such as "model.onnx", a `torch.nn.Module`, a function or what else
    `evalkit.load_model` takes, with its options in `loading` (preset="arcface", device="cuda",
    spec=InputSpec(...), ...); or a loaded model.
    images : a folder, .zip or list of files, or the paths of some, ["1.jpg", ...]; (N, H, W, 3) RGB
    uint8; or an `ImageSource`.
    path : feature file that keeps the vectors, and from which a later call takes those that still
    belong.  None keeps them in memory, and nothing is written.
    keys : names of paths, else these, or of an array's rows, else "0000000", "0000001", ...; of a
    folder, archive or list file the images that are wanted, in this order, else all of them.
    views : 2 embeds the mirror image too.  batch, workers, progress : as `embedder.embed` has them.
    say : told which images are left out, fail or look unaligned; the default prints on stderr.

    Returns features (N, D) float32, or (N, 2, D) of two views, as the model makes them; NaN in the
    row of an image without a vector, which every protocol counts as failed.  With them: keys, the
    SHA-256 of each image, subjects by folder (-1 without one), and provenance for a report.
    DataError where there are no images, one has not the model's size, or none has a vector;
    ModelError where the model cannot be loaded, nothing declares its input, or it is random.

    >>> from evalkit.types import InputSpec
    >>> class MeanColour:
    ...     spec = InputSpec(size=(8, 8), color="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)
    ...     dim = 3
    ...     def embed(self, images):
    ...         return images.mean(axis=(1, 2), dtype=np.float32)
    >>> crops = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    >>> embed(MeanColour(), crops, keys=["A/1.png", "A/2.png", "B/1.png", "B/2.png"])
    <Vectors of 4 images: 3 dimensions>
    """
    if views not in (1, 2):
        raise DataError(f"views is {views!r}", "1, or 2 to embed the mirror image too")
    adapter = _loaded(model, loading)
    source = alignment.narrowed(source_of(images, keys), adapter.spec.size)
    cuts = alignment.cuts(source, adapter.spec.size)
    for line in (*source.left_out, cuts, _doubt(source, adapter.spec.crop)):
        if line:
            say(line)
    fed = FedModel(adapter, source, views, batch or 0, workers or READERS)
    if path is None:
        vectors, lost = _in_memory(fed, progress, say)
    else:
        manifest = source.manifest()
        store = embedder.embed(
            adapter,
            source,
            manifest,
            path,
            views=views,
            batch=batch,
            workers=workers,
            progress=progress,
            say=say,
        )
        vectors, lost = matching.embedded(store, manifest, adapter.spec.crop), store.failed
    failed = [source.keys[row] for row in np.flatnonzero(lost).tolist()]
    if len(failed) == len(source.keys):
        raise DataError(f"not one of {len(failed):,} images has a vector")
    if failed:
        named = first_few(failed, _SHOWN)
        reason = source.why(int(np.flatnonzero(lost)[0]))
        named += f" ({reason})" if reason else ""
        say(f"{len(failed):,} of {len(source.keys):,} images have no vector: {named}")
    return vectors if views == 2 else replace(vectors, features=vectors.features[:, 0])


def source_of(
    given: ImageSource | ArrayLike | File, keys: Sequence[str] | None = None
) -> ImageSource:
    """Find images in a folder, .zip or list, or take paths or an array, (N, H, W, 3) RGB uint8.

    keys : see `embed`.  DataError where there are none, or the array holds anything else.
    """
    if isinstance(given, list | tuple) and given and all(isinstance(p, _FILE) for p in given):
        return of_paths([*map(str, given)], keys)
    if isinstance(given, str | os.PathLike):
        given = find(given)
    if isinstance(given, ImageSource):
        return given if keys is None else given.select(keys)
    pixels = array(given, "images")
    if pixels.dtype.kind == "U" and pixels.ndim == 1:
        return of_paths(pixels.tolist(), keys)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not len(pixels):
        raise DataError(
            f"images are {pixels.dtype} of shape {pixels.shape}",
            "give (N, H, W, 3) RGB uint8, paths, or the folder, .zip or list that holds them",
        )
    names = [f"{row:07d}" for row in range(len(pixels))] if keys is None else list(map(str, keys))
    if len(names) != len(pixels):
        raise DataError(f"{len(pixels)} images have {len(names)} keys", "one name per image")

    def picture(row: int) -> Picture:
        return np.asarray(pixels[row])

    return ImageSource(tuple(names), picture, "pixels as given")


def _loaded(model: Adapter | File | Callable[..., Any], loading: dict[str, Any]) -> Adapter:
    if not isinstance(model, Adapter):
        return adapters.load(model, **loading)
    if loading:
        names = ", ".join(loading)
        raise ModelError(f"a loaded model takes no {names}", "give them to load_model")
    return model


def _doubt(source: ImageSource, crop: str) -> str:
    doubt = alignment.doubt(source, crop)
    return f"warning: {doubt}" if doubt else ""


def _in_memory(
    fed: FedModel, progress: Progress | None, say: Callable[[str], None]
) -> tuple[Vectors, NDArray[np.bool_]]:
    """Embed all images, in the passes of the embedder: vectors, and (N,) bool, which have none."""
    adapter = fed.adapter
    doubt = answers.refuse_random(adapter, answers.answers(adapter))
    if doubt:
        say(f"warning: {doubt}")
    fed = replace(fed, batch=fed.batch or best_batch(adapter, fed.views * len(fed.images.keys)))
    change = batch_difference(adapter, fed.batch)
    provenance = {"batch difference": change} | ({} if change == 0.0 else {"batch": fed.batch})
    vectors = in_memory.embedded(fed, provenance | ({"warning": doubt} if doubt else {}), progress)
    return vectors, np.asarray(~np.isfinite(vectors.features).all(axis=(1, 2)))
