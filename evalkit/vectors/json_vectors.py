"""Vectors in JSON: an object with a list of numbers for every name."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError, first_few
from evalkit.files import as_path, read_text
from evalkit.strict_json import parsed

_WHOLE = 2 << 30  # bytes
_EXPECTED = '{"A/1.jpg": [0.1, ...], ...}: a list of as many numbers for every name, or null'


def read(path: str | os.PathLike[str]) -> tuple[NDArray[np.float64], list[str], str]:
    """Read `{name: [numbers]}`: (N, D) float64, the names, and "".

    Null is an image without a template, a row of NaN.  DataError for whatever else there is.
    """
    path = as_path(path)
    if path.stat().st_size > _WHOLE:
        raise DataError(f"{path.name} would be read whole", "save .npz, or .npy and a list of keys")
    try:
        held = parsed(read_text(path))
    except ValueError as e:
        raise DataError(f"{path.name} is not JSON: {e}") from e
    rows = list(held.values()) if isinstance(held, dict) else []
    lengths = {len(row) if isinstance(row, list) else 0 for row in rows if row is not None}
    if not rows or len(lengths) != 1 or not min(lengths):
        shown = first_few(list(held), 3) if isinstance(held, dict) else type(held).__name__
        problem = f"vectors of {sorted(lengths)} numbers" if min(lengths, default=0) else shown
        raise DataError(f"{path.name} holds {problem or 'nothing'}", f"expected {_EXPECTED}")
    dim = lengths.pop()
    if not all(type(n) in (int, float) for row in rows if row is not None for n in row):
        raise DataError(f"{path.name} holds lists of other than numbers", f"expected {_EXPECTED}")
    try:
        whole = np.array([[np.nan] * dim if row is None else row for row in rows], np.float64)
    except OverflowError as e:
        raise DataError(f"{path.name} holds a number that is too large") from e
    return whole, list(held), ""
