"""The answers by scoring every pair exactly: for small sets, and until the fast scan stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.definition import (
    Histogram,
    Pairs,
    Search,
    Verification,
    allowed_false_accepts,
    bin_edges,
    no_operating_point,
    operating_point,
    threshold_above,
)
from evalkit.protocols.scores import exact_scores


def _scores(x: NDArray[Any], y: NDArray[Any] | None) -> tuple[NDArray[Any], ...]:
    x = np.asarray(x, np.float32)
    if y is None:
        i, j = np.triu_indices(len(x), 1)
        return i, j, exact_scores(x, i, x, j)
    i, j = (g.ravel() for g in np.indices((len(x), len(y))))
    return i, j, exact_scores(x, i, np.asarray(y, np.float32), j)


def _genuine(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (a == b) & (a >= 0)
    return same


def verify(
    x: NDArray[Any],
    subject: NDArray[Any],
    y: NDArray[Any] | None = None,
    y_subject: NDArray[Any] | None = None,
    *,
    fars: Sequence[str],
    **_: Any,
) -> Verification:
    """Thresholds and TPR at each FAR over all pairs of x and y, or of x with itself."""
    i, j, s = _scores(x, y)
    genuine = _genuine(subject[i], (subject if y_subject is None else y_subject)[j])
    mated, other = s[genuine], np.sort(s[~genuine])[::-1]
    points = []
    for far in fars:
        allowed = allowed_false_accepts(far, len(other))
        if allowed < 1:
            points.append(no_operating_point(far, len(other)))
            continue
        t = threshold_above(other[allowed]) if allowed < len(other) else -np.inf
        accepted = int((other >= t).sum()), int((mated >= t).sum())
        points.append(operating_point(far, len(mated), len(other), t, *accepted))
    return Verification(len(mated), len(other), tuple(points))


def top_impostors(
    x: NDArray[Any],
    subject: NDArray[Any],
    y: NDArray[Any] | None = None,
    y_subject: NDArray[Any] | None = None,
    *,
    count: int,
    **_: Any,
) -> Pairs:
    """List the `count` highest impostor pairs, by (-score, i, j); failed rows never appear."""
    i, j, s = _scores(x, y)
    other = ~_genuine(subject[i], (subject if y_subject is None else y_subject)[j]) & (s > -np.inf)
    i, j, s = i[other], j[other], s[other]
    best = np.lexsort((j, i, -s))[:count]
    return Pairs(i[best], j[best], s[best])


def histogram(
    x: NDArray[Any],
    subject: NDArray[Any],
    y: NDArray[Any] | None = None,
    y_subject: NDArray[Any] | None = None,
    *,
    bins: int | Sequence[float] = 200,
    **_: Any,
) -> Histogram:
    """Genuine and impostor pairs a bin of the score."""
    edges = bin_edges(bins)
    i, j, s = _scores(x, y)
    genuine = _genuine(subject[i], (subject if y_subject is None else y_subject)[j])
    counts = [np.histogram(s[m & (s > -np.inf)], edges)[0] for m in (genuine, ~genuine)]
    return Histogram(edges, counts[0], counts[1], int(genuine.sum()), len(s) - int(genuine.sum()))


def search(
    probe: NDArray[Any],
    gallery: NDArray[Any],
    k: int = 1,
    *,
    probe_subject: NDArray[Any] | None = None,
    gallery_subject: NDArray[Any] | None = None,
    **_: Any,
) -> Search:
    """Find the top k of every probe and, with subjects, how its mate fares."""
    s = _scores(probe, gallery)[2].reshape(len(probe), len(gallery))
    order = np.argsort(-s, axis=1, kind="stable")[:, :k]
    score = np.full((len(s), k), -np.inf)
    row = np.full((len(s), k), -1, np.int64)
    score[:, : order.shape[1]] = np.take_along_axis(s, order, 1)
    row[:, : order.shape[1]] = np.where(score[:, : order.shape[1]] > -np.inf, order, -1)
    if probe_subject is None or gallery_subject is None:
        return Search(score, row)
    same = _genuine(probe_subject[:, None], gallery_subject[None, :])
    mate = np.where(same, s, -np.inf).max(axis=1, initial=-np.inf)
    other = np.where(same, -np.inf, s)
    above = np.where(mate > -np.inf, (other > mate[:, None]).sum(1), (~same).sum(1))
    return Search(
        score, row, np.asarray(same.any(axis=1)), mate, above, other.max(axis=1, initial=-np.inf)
    )


def ranks(
    probe: NDArray[Any],
    gallery: NDArray[Any],
    row: NDArray[Any],
    score: NDArray[Any],
    *,
    probe_subject: NDArray[Any] | None = None,
    gallery_subject: NDArray[Any] | None = None,
    **_: Any,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For (probe row, score) pairs: gallery entries strictly above, and exactly equal."""
    s = _scores(probe, gallery)[2].reshape(len(probe), len(gallery))
    other = np.ones(s.shape, bool)
    if probe_subject is not None and gallery_subject is not None:
        other = ~_genuine(probe_subject[:, None], gallery_subject[None, :])
    above = [int((s[r][other[r]] > v).sum()) for r, v in zip(row, score, strict=True)]
    equal = [int((s[r][other[r]] == v).sum()) for r, v in zip(row, score, strict=True)]
    return np.array(above, np.int64), np.array(equal, np.int64)
