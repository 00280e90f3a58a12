"""IJB on the vectors of its images: pooled to templates, compared, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit import run
from evalkit.datasets import group_table
from evalkit.datasets import ijb as files
from evalkit.datasets.group_table import GroupFile
from evalkit.errors import DataError
from evalkit.files import as_path
from evalkit.identity import digest
from evalkit.images.landmarks import Landmarks
from evalkit.keys import rows_of
from evalkit.protocols import ijb
from evalkit.protocols.groups import By, Condition, Grouping
from evalkit.protocols.recipes.recipe import Recipe
from evalkit.types import Manifest, Report
from evalkit.vectors.matching import Vectors

_OF_IMAGES = "give a table of images, whose first column is key"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImages:
    """Images with their templates and media, and their detections where these are listed.

    file : the name of the list.
    """

    file: str
    media: files.Media
    detections: files.Detections | None = None

    @property
    def manifest(self) -> Manifest:
        """Name each image once; whom it shows is not listed."""
        names = tuple(dict.fromkeys(self.media.names))
        return Manifest(names, np.full(len(names), -1, np.int32))

    @property
    def landmarks(self) -> Landmarks | None:
        """Five points of each detected face."""
        detections = self.detections
        return None if detections is None else Landmarks(detections.names, detections.landmarks)

    def scores(self) -> NDArray[np.float32] | None:
        """Give the detection score of each line's image, (N,)."""
        detections = self.detections
        if detections is None or detections.names == self.media.names:
            return None if detections is None else detections.score
        names = self.media.names
        rows = rows_of(names, detections.names, "detection scores", same_folders=True)
        return detections.score[rows]

    def in_order(self, made: Vectors) -> Vectors:
        """Give every line the vectors of its image; `made` has those of `manifest`."""
        names = self.manifest.keys
        if names == self.media.names:
            return made
        rows = rows_of(self.media.names, names)
        digests = None if made.images is None else np.asarray(made.images)[rows]
        return replace(made, features=np.asarray(made.features)[rows], images=digests)


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledPairs:
    """What IJB's 1:1 compares: pairs of templates of listed images.

    file : of the pairs.  doubts : what its report says of them.
    """

    listed: ListedImages
    pairs: files.TemplatePairs
    file: Path
    doubts: Mapping[str, str] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """Name the images that are pooled."""
        return self.listed.manifest

    @property
    def arguments(self) -> tuple[NDArray[Any], ...]:
        """Give what `protocols.ijb.verify` takes after the templates."""
        return self.pairs.left, self.pairs.right, self.pairs.genuine


def read_template_pairs(lists: files.MetaLists) -> PooledPairs:
    """Read the lists of 1:1; DataError where they do not fit together."""
    detections = None if lists.detections is None else files.read_detections(lists.detections)
    media, pairs = files.read_media(lists.media), files.read_pairs(lists.pairs)
    listed = ListedImages(file=lists.media.name, media=media, detections=detections)
    listed.scores()
    for ids in (pairs.left, pairs.right):
        if len(missing := np.setdiff1d(ids, media.template)):
            raise DataError(f"template {missing[0]} of {lists.pairs.name} has no image")
    doubts = files.doubts(pairs, lists.pairs.name)
    return PooledPairs(listed=listed, pairs=pairs, file=lists.pairs, doubts=doubts)


def pooling(
    listed: ListedImages, how: Recipe, *, norm: bool = True, media: bool = True
) -> ijb.Pooling:
    """Say how the images of a template become one vector: InsightFace's switches, see `Pooling`.

    how : fuses the views of an image.  Detection scores count where they are listed.
    """
    scored = listed.detections is not None
    return ijb.Pooling(how.fusion, norm, scored, media, unit_views=how.unit_views)


def evaluate(
    protocol: Callable[..., Report],
    made: Vectors,
    listed: ListedImages,
    comparisons: Sequence[Any],
    how: ijb.Pooling,
    *,
    groups: GroupFile | None = None,
    known: Sequence[ijb.Enrolled] = (),
    **options: Any,
) -> Report:
    """Pool the vectors of every line to templates, and compare these.

    protocol : `ijb.verify` or `ijb.identify`.  comparisons : what it takes after the templates.
    groups : a table of groups of the images, or of the subjects of `known` templates.
    options : those of `run.evaluate` and of the protocol.
    """
    templates = ijb.pool(
        made.features, listed.media.template, listed.media.media, listed.scores(), how
    )
    provenance = {"pooling": how.name, "media": listed.file, "images": len(made.features)}
    columns = [listed.media.template, listed.media.media, *_columns(comparisons)]
    provenance |= options.pop("provenance", {})
    if groups is not None:
        protocol = partial(protocol, groups=groups_of(groups, listed.media, known))
        provenance["groups file"] = as_path(groups.path).name
    return run.evaluate(
        protocol,
        replace(made, features=templates, keys=listed.media.names),
        *comparisons,
        provenance={**provenance, "manifest": digest(listed.media.names, *columns)},
        **options,
    )


def groups_of(file: GroupFile, media: files.Media, known: Sequence[ijb.Enrolled] = ()) -> list[By]:
    """Group the templates by a table of their images, or of the people whom they show.

    known : templates with their subjects.  DataError for a table of pairs, or of people where
    nobody knows whom the templates show.
    """
    table = group_table.read(file.path)
    if table.of_pairs:
        raise DataError(f"{table.source} names pairs, and IJB's are of templates", _OF_IMAGES)
    if table.named_by == "subject" and not known:
        problem = f"{table.source} names subjects, and no list says whom a template shows"
        raise DataError(problem, f"add --subjects LIST.csv, or {_OF_IMAGES}")
    subject = {t: str(who) for each in known for t, who in zip(*_columns([each]), strict=True)}
    shown = [subject.get(t, "") for t in media.template.tolist()] if known else None
    of_images = table.of_rows(media.names, shown, file.by)
    return [
        ijb.of_templates(by, media.template)
        for by in of_images
        if isinstance(by, Grouping | Condition)
    ]


def _columns(comparisons: Sequence[Any]) -> list[NDArray[Any]]:
    """List what is compared: columns of pairs as they are, of the enrolled ids and subjects."""
    each = [e for c in comparisons for e in (c if isinstance(c, list) else [c])]
    enrolled = ((e.template, e.subject) if isinstance(e, ijb.Enrolled) else (e,) for e in each)
    return [column for columns in enrolled for column in columns]
