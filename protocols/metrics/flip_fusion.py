"""Fusion of an image's views, original and flip (mirrored), into one vector."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import vectors
from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.similarity import normalise, single

Flip = Literal["none", "sum", "concat"]


def fuse(views: NDArray[Any], flip: Flip = "none", *, unit: bool = False) -> NDArray[np.float32]:
    """One vector an image from its views (original, mirrored, ...), not normalised.

    views : (N, V, D) or (N, D) float; `none` takes view 0, `sum` adds their float32 in order,
    `concat` puts them side by side.  unit : each view is made unit length before.  Returns (N, D)
    or (N, V*D) float32.
    A single view fused by `sum` or `concat` is an error: the mirrored images were never embedded.
    """
    x = np.asarray(vectors(views))
    if flip not in get_args(Flip):
        raise ProtocolError(f"flip fusion {flip!r} is not one of {', '.join(get_args(Flip))}")
    if x.ndim == 2:
        x = x[:, None, :]
    if unit:
        x = normalise(x.reshape(-1, x.shape[-1])).reshape(x.shape)
    if flip == "none":
        return single(x[:, 0])
    if x.shape[1] < 2:
        raise ProtocolError(
            f"flip fusion {flip!r} needs the mirrored view, these features hold one view per image",
            f"embed with --flip {flip}, or score the one view with --flip none",
        )
    if flip == "concat":
        return single(x.reshape(len(x), -1))
    total = single(x[:, 0]).copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for v in range(1, x.shape[1]):
            total += single(x[:, v])
    return total
