"""Templates of IJB: many images of a person pooled to one vector, by InsightFace's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import numbers, vectors, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.identity import digest
from evalkit.protocols.ahead import each_ahead
from evalkit.protocols.groups import Condition, Grouping, refuse_other_rows
from evalkit.protocols.metrics.flip_fusion import Flip, fuse
from evalkit.protocols.metrics.similarity import failed, normalise
from evalkit.types import Ints

_IMAGES = 4096  # pooled at a time
_IN_ORDER = 8  # rows that NumPy sums one after the other; more in several sums beside each other
_BAND, _TABLE = 1 << 18, 1 << 24  # ids looked up together; numbers that a table is made of


@dataclass(frozen=True, slots=True)
class Pooling:
    """Pooling of images to a template, with InsightFace's switches (F, N, D).

    flip : F1 is "sum", F0 "none".  keep_norm : N1, images count by the length of their vectors;
    else N0, all are made unit length.  detector_score : D1, a vector is multiplied by its face's
    detection score.  media : images of one video are averaged first, then all media are summed.
    unit_views : an image's views are made unit length before they are fused (no name there).
    """

    flip: Flip = "sum"
    keep_norm: bool = True
    detector_score: bool = True
    media: bool = True
    unit_views: bool = False

    @property
    def name(self) -> str:
        """InsightFace's short name: N1D1F1, with M0 where media are not averaged.

        Its scripts add the views; side by side, for which they have no switch, is "Fconcat".
        """
        flip = {"none": "0", "sum": "1"}.get(self.flip, self.flip)
        name = f"N{self.keep_norm:d}D{self.detector_score:d}F{flip}"
        return name if self.media else f"{name}M0"


@dataclass(frozen=True, slots=True)
class Templates:
    """Unit vectors (T, D) of templates `ids`, (T,) ascending; NaN where no image has a vector.

    images : how many were pooled; pooled : SHA-256 of the assignment of images to templates and
    media.
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    failed_images: int
    images: int = 0
    pooled: str = ""

    def rows(self, ids: Ints) -> NDArray[np.int32]:
        """Row of each template id, (P,); ProtocolError names one that has no image."""
        ids = whole_numbers(ids, "template")
        rows, missing = np.empty(ids.shape, np.int32), [ids[:0]]
        place = _place_among(self.ids)
        for o in range(0, len(ids), _BAND):  # there are millions of pairs
            some = ids[o : o + _BAND].astype(np.int64)
            rows[o : o + _BAND] = at = place(some)
            missing.append(some[self.ids[at] != some])
        absent = np.concatenate(missing)
        if len(absent):
            raise ProtocolError(f"{len(absent)} templates have no images, the first is {absent[0]}")
        return rows


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Template ids with their subjects, (G,) each: a gallery, or the probes."""

    template: Ints
    subject: Ints

    def __post_init__(self) -> None:
        for name in ("template", "subject"):
            object.__setattr__(self, name, whole_numbers(getattr(self, name), name))
        if self.subject.shape != self.template.shape:
            raise ProtocolError(
                f"{len(self.template)} templates have subjects of shape {self.subject.shape}"
            )


def pool(
    features: NDArray[Any],
    template: Ints,
    media: Ints,
    detector_score: NDArray[np.floating[Any]] | None,
    how: Pooling,
) -> Templates:
    """Pool (N, D) or (N, V, D) features, not normalised, to one unit vector per template.

    template, media : (N,) ids of each image; detector_score : (N,), where `how` asks for it.
    ProtocolError where these do not fit together.  Order of the steps: flip,
    length, detector score, mean over a medium's images, sum over media, unit length.  Sums are in
    float64.  An image without a vector (not finite) is excluded and counted.
    """
    features = vectors(features)
    n = len(features)
    template, media = whole_numbers(template, "template"), whole_numbers(media, "media")
    if template.shape != (n,) or media.shape != (n,):
        raise ProtocolError(f"{n} features, {len(template)} templates and {len(media)} media")
    if detector_score is not None:
        detector_score = numbers(detector_score, "detector_score")
    if how.detector_score and (detector_score is None or detector_score.shape != (n,)):
        raise ProtocolError(
            f"{n} features have no detection score each", "give the scores, or pool without them"
        )
    if detector_score is not None and not np.isfinite(detector_score).all():
        raise ProtocolError("a detection score is not finite", "a failed image has NaN features")
    ids = np.unique(template)
    pooled = np.full((len(ids), _width(features, how.flip)), np.nan, np.float32)
    lost = 0
    made = partial(_pooled, features, template, media, detector_score, how)
    for failures, of, vector in each_ahead(made, _whole_templates(template, media)):
        pooled[np.searchsorted(ids, of)] = vector
        lost += failures
    return Templates(ids.astype(np.int64), pooled, lost, n, digest(template, media))


def _pooled(
    features: NDArray[Any],
    template: Ints,
    media: Ints,
    detector_score: NDArray[np.floating[Any]] | None,
    how: Pooling,
    chosen: NDArray[np.int64],
) -> tuple[int, Ints, NDArray[np.float32]]:
    """Pool the images of whole templates: how many failed, and the others' ids and vectors."""
    x = fuse(features[chosen], how.flip, unit=how.unit_views)
    ok = ~failed(x)
    if not ok.all():
        chosen, x = chosen[ok], x[ok]
    if not len(x):
        return len(ok), template[:0], x
    if not how.keep_norm:
        x = normalise(x)
    if how.detector_score and detector_score is not None:
        x = x * detector_score[chosen, None].astype(np.float32)
    total = x.astype(np.float64)
    of, medium = template[chosen], media[chosen]
    if how.media:
        first = _firsts(of, medium)
        counts = np.diff(np.append(first, len(of)))
        total = _sums(total, first) / counts[:, None]
        of = of[first]
    first = _firsts(of)
    total = _sums(total, first)
    return len(ok) - len(x), of[first], normalise(total)


def _sums(x: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum the rows from each of `first` to before the next: (R, D).

    In the order of `np.add.reduceat`, which goes down one column after another and takes four times
    as long: the first row, and to it the sum of the others.
    """
    sums = np.empty((len(first), x.shape[1]))
    for total, (a, b) in zip(sums, pairwise([*first.tolist(), len(x)]), strict=True):
        if b - a <= _IN_ORDER:
            np.add(x[a], np.add.reduce(x[a + 1 : b], axis=0), out=total)
        else:
            np.add.reduceat(x[a:b], [0], axis=0, out=total[np.newaxis])
    return sums


def of_templates(by: Grouping | Condition, template: Ints) -> Grouping | Condition:
    """Give every template the group, or the number, of its images: in the order of their ids.

    template : (N,) id of each image.  A template is of the group that all its images with a known
    one have, else of none; its number is the mean of theirs.

    >>> by = Grouping.of("sex", ["male", "", "female", "male"])
    >>> of_templates(by, np.array([7, 7, 8, 8])).code.tolist()
    [1, -1]
    """
    ids, place = np.unique(whole_numbers(template, "template"), return_inverse=True)
    refuse_other_rows([by], len(place), "images")
    if isinstance(by, Condition) and by.rule != "same":
        known = ~np.isnan(by.value)
        count = np.bincount(place[known], minlength=len(ids))
        total = np.bincount(place[known], by.value[known], len(ids))
        mean = np.divide(total, count, out=np.full(len(ids), np.nan), where=count > 0)
        return replace(by, value=mean)
    code = by.code if isinstance(by, Grouping) else np.nan_to_num(by.value, nan=-1).astype(int)
    low, high = np.full(len(ids), np.iinfo(np.int64).max), np.full(len(ids), -1)
    np.minimum.at(low, place[code >= 0], code[code >= 0])
    np.maximum.at(high, place[code >= 0], code[code >= 0])
    one = np.where(low == high, high, -1)
    if isinstance(by, Grouping):
        return replace(by, code=one)
    return replace(by, value=np.where(one < 0, np.nan, one))


def _width(features: NDArray[Any], flip: Flip) -> int:
    one: NDArray[np.float32] = fuse(np.zeros((1, *features.shape[1:]), np.float32), flip)
    return len(one[0])


def _place_among(ids: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], Ints]:
    """Find where numbers lie among ascending ids; one that is not among them lies anywhere."""
    low, high = int(ids[0]), int(ids[-1])
    if high - low >= _TABLE:
        return lambda some: np.minimum(np.searchsorted(ids, some), len(ids) - 1)
    table = np.zeros(high - low + 1, np.int32)
    table[ids - low] = np.arange(len(ids))
    return lambda some: table[some.clip(low, high) - low]


def _whole_templates(template: Ints, media: Ints) -> Iterator[NDArray[np.int64]]:
    """Yield rows by template, then medium, some `_IMAGES` at a time, no template in two parts."""
    order = np.lexsort((media, template))
    first = _firsts(template[order])
    at = 0
    while at < len(order):
        later = first[first >= at + _IMAGES]
        end = int(later[0]) if len(later) else len(order)
        yield order[at:end]
        at = end


def _firsts(*columns: Ints) -> NDArray[np.int64]:
    """Where a new run of equal rows starts."""
    new = np.any([np.diff(c) != 0 for c in columns], axis=0)
    return np.concatenate([[0], np.flatnonzero(new) + 1])
