"""What callers hand over as arrays: what cannot be meant is refused before it makes a number wrong.

A label of 0 or 1 that is no boolean would index scores instead of choosing among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.errors import DataError, ProtocolError

_BLOCK = 65536  # rows of a map looked at together


def labels(values: ArrayLike, what: str = "genuine") -> NDArray[np.bool_]:
    """Read one truth a comparison, booleans or 0 and 1: (P,) bool; ProtocolError for all else."""
    given = np.asarray(values)
    if given.dtype == np.bool_:
        return given
    if given.dtype.kind not in "iuf" or not np.isin(given, (0, 1)).all():
        raise ProtocolError(
            f"{what!r} holds {given.dtype} that are not all 0 or 1",
            "one boolean a comparison: label == 1",
        )
    return given.astype(np.bool_)


def whole_numbers(values: ArrayLike, what: str, hint: str = "") -> NDArray[np.integer[Any]]:
    """Read whole numbers, as rows, folds and subjects are; ProtocolError for all else.

    Signed integers stay as they are; unsigned ones and floats without a fraction become int64.
    """
    given = np.asarray(values)
    if given.dtype.kind == "i":
        return given
    if given.dtype.kind in "uf":
        whole = np.isfinite(given) & (given == np.trunc(given))
        if whole.all():
            return given.astype(np.int64)
    raise ProtocolError(f"{what!r} holds {given.dtype} that are not all whole numbers", hint)


def identities(subject: ArrayLike, rows: int) -> NDArray[np.integer[Any]]:
    """Read the subject of each of N rows: (N,) whole numbers, below 0 = nobody's mate.

    ProtocolError for names, which have to be numbered, and for another number of rows.
    """
    given = np.asarray(subject)
    if given.shape != (rows,):
        raise ProtocolError(f"{rows} features have subjects of shape {given.shape}")
    hint = "number names by numpy.unique(names, return_inverse=True)[1]; -1 is nobody's mate"
    return whole_numbers(given, "subject", hint)


def refuse_unwritten(features: NDArray[Any], name: str, keys: Sequence[str] = ()) -> None:
    """Raise DataError where rows of (N, ...) are all zero: a writer that stopped leaves such.

    name : of the file.  keys : of the rows, where they have any.
    """
    empty: list[int] = []
    for o in range(0, len(features), _BLOCK):
        unwritten = ~np.any(features[o : o + _BLOCK], axis=tuple(range(1, features.ndim)))
        empty.extend((o + np.flatnonzero(unwritten)).tolist())
    if not empty:
        return
    shown = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
    raise DataError(
        f"{name}: {len(empty)} rows are all zero, the first is {keys[empty[0]]!r}"
        if keys
        else f"{len(empty)} of {len(features)} rows of {name} were never written: {shown}",
        "the program that wrote it had fewer images than rows, or was stopped",
    )
