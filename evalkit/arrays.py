"""Validate and convert the array arguments of the public functions.

The arrays of a report's .npz are described in `evalkit.protocols.uncertainty.outcomes`.

A label of 0 or 1 that is no boolean would index scores instead of choosing among them; NumPy alone
would score what lies under a mask and the real part of a complex number, and read text as numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import UnionType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.bfloat16 import Bfloat16
from evalkit.errors import DataError, ProtocolError, first_few
from evalkit.table_headers import INDEX, stands_beside, word

_BAND = 1024  # vectors looked at together
_ROUNDING = 1e-6  # of a unit vector
_BLOCK = 8192  # rows of a map looked at together
_BEGIN = 16  # values of a row that are looked at first


def vectors(
    values: ArrayLike, what: str = "features", *, dimensions: tuple[int, ...] = (2, 3)
) -> NDArray[Any]:
    """Read real vectors: (N, D), or (N, V, D) where `dimensions` has 3; memory maps stay mapped.

    `Bfloat16` stays that, to be read as float32 in bands.

    A masked value becomes NaN, so that its row has no template.  Tensors may lie on any device,
    have a gradient or be bfloat16.  ProtocolError for other shapes (a feature map (N, C, H, W) is
    no embedding), vectors of no length, complex numbers, truths and text, and for a table with
    columns that are called as a label, an index or a score.
    """
    columns = [str(c) for c in getattr(values, "column_names", getattr(values, "columns", ()))]
    if beside := [c for c in columns if word(c) in INDEX or stands_beside(c)]:
        raise ProtocolError(f"{what} have columns that are no coordinates: {first_few(beside)}")
    x: Any = values if isinstance(values, Bfloat16) else _read(values, what)
    if x.ndim not in dimensions or 0 in x.shape[1:]:
        expected = "expected (N, D) or (N, V, D)" if 3 in dimensions else "expected (N, D)"
        if x.ndim > 3:
            expected += "; a feature map is pooled or flattened by the model's head"
        raise ProtocolError(f"{what} have shape {x.shape}", expected)
    if x.ndim == 3 and x.shape[2] == 1 < x.shape[1]:
        told = f"{what} of shape {x.shape} are {x.shape[1]} views of one number each"
        raise ProtocolError(told, "leave the last axis out: x[..., 0]")
    if x.dtype.kind not in "iuf":
        raise ProtocolError(f"{what} hold {x.dtype}", "expected real numbers, such as float32")
    if isinstance(x, np.ma.MaskedArray):
        wide = x.astype(np.promote_types(x.dtype, np.float32))
        x = np.asarray(np.ma.filled(wide, np.nan))
    return x if isinstance(values, Bfloat16) else np.asarray(x)


def alike(rows: NDArray[Any]) -> bool:
    """Whether all rows, (N, D) or (N, V, D), have one direction to 1e-6, or no length, N > 1.

    So has what a model gives that answers the same to every image.  Rows that are not finite are
    passed over.

    >>> alike(np.array([[1, 2], [np.nan, 1], [2, 4]])), alike(np.array([[1, 2], [2, 1]]))
    (True, False)
    """
    first, count = np.empty((0, 1)), 0
    for start in range(0, len(rows), _BAND):
        x = np.asarray(rows[start : start + _BAND], np.float64)
        x = x.reshape(len(x), -1)
        x = x[np.isfinite(x).all(axis=1)]
        for length in (np.max, np.linalg.norm):  # of the first, so that squares are finite
            by = length(np.abs(x), axis=1, keepdims=True)
            x = np.divide(x, by, out=np.zeros_like(x), where=by > 0)
        first, count = (first if len(first) else x[:1]), count + len(x)
        if len(x) and np.abs(x - first).max() > _ROUNDING:
            return False
    return count > 1


def require(value: object, kind: type | UnionType, what: str, expected: str) -> None:
    """Raise ProtocolError, with what was expected, where a value is not of its kind."""
    if not isinstance(value, kind):
        raise ProtocolError(f"{what} given as {value!r:.80}", f"expected {expected}")


def whole_number(value: object, what: str, least: int = 0) -> int:
    """Read one whole number of at least `least`; ProtocolError for truths, fractions and text."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least:
        return int(value)
    expected = f"expected a whole number of at least {least}"
    raise ProtocolError(f"{what} given as {value!r:.80}", expected)


def array(values: ArrayLike, what: str) -> NDArray[Any]:
    """Read an array of any type from lists, tensors and objects; ProtocolError where one is masked.

    An array of objects becomes one of what they are, if that is one type.
    """
    x = _read(values, what)
    if np.ma.is_masked(x):
        masked = int(np.count_nonzero(np.ma.getmaskarray(x)))
        raise ProtocolError(
            f"{what!r} masks {masked} of its {x.size} values", "leave their rows out"
        )
    return np.asarray(x)


def _read(values: Any, what: str) -> NDArray[Any]:
    """Read an array, which may still be a masked one; ProtocolError for what is none."""
    try:
        if hasattr(values, "detach"):
            values = _of_tensor(values)
        if isinstance(values, np.ma.MaskedArray):
            return values
        if isinstance(values, list | tuple) and any(map(np.ma.isMaskedArray, values)):
            return np.ma.array(values)
        x = np.asarray(values)
        return np.array(x.tolist()) if x.dtype == object else x
    except (TypeError, ValueError, RuntimeError, OverflowError) as e:
        reason = str(e).split("\n")[0][:120]
        raise ProtocolError(f"{what!r} is {type(values).__name__}, not an array: {reason}") from e


def _of_tensor(tensor: Any) -> NDArray[Any]:
    on_cpu = tensor.detach().cpu()
    try:
        return np.asarray(on_cpu.numpy())
    except TypeError:
        if not on_cpu.is_floating_point():
            raise
        return np.asarray(
            on_cpu.float().numpy()
        )  # bfloat16, which NumPy lacks, is exact in float32


def numbers(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Read real numbers as float64; ProtocolError for truths, complex numbers and text."""
    x = array(values, what)
    if x.dtype.kind not in "iuf":
        raise ProtocolError(f"{what!r} holds {x.dtype}", "expected real numbers")
    return x.astype(np.float64, copy=False)


def labels(values: ArrayLike, what: str = "genuine") -> NDArray[np.bool_]:
    """Read one label per comparison, booleans or 0 and 1: (P,) bool; ProtocolError for all else."""
    x = array(values, what)
    if x.dtype == np.bool_:
        return x
    if x.dtype.kind not in "iuf" or not np.isin(x, (0, 1)).all():
        raise ProtocolError(
            f"{what!r} must be boolean or 0/1, got {x.dtype} with other values",
            "one boolean per comparison: label == 1",
        )
    return x.astype(np.bool_)


def whole_numbers(values: ArrayLike, what: str, hint: str = "") -> NDArray[np.integer[Any]]:
    """Read whole numbers, as rows, folds and subjects are; ProtocolError for all else.

    Signed integers stay as they are; unsigned ones and floats without a fraction become int64.
    A number beyond int64, or beyond what its float type counts by ones, is refused.
    """
    x = array(values, what)
    if x.dtype.kind == "i":
        return x
    if x.dtype.kind == "u" and x.max(initial=0) <= np.iinfo(np.int64).max:
        return x.astype(np.int64)
    if x.dtype.kind == "f":
        counted = np.abs(x) <= 2 / np.finfo(x.dtype).eps
        if (counted & (x == np.trunc(x))).all():
            return x.astype(np.int64)
    raise ProtocolError(f"{what!r} holds {x.dtype} that are not all whole numbers", hint)


def identities(subject: ArrayLike, rows: int, what: str = "features") -> NDArray[np.integer[Any]]:
    """Read the subject of each of N rows: (N,) whole numbers, below 0: unlabelled.

    Names, texts or UTF-8, of which "-" is unlabelled, and hashes beyond int64 are numbered in their
    order, from 0; those of several arrays by `identities_of_all`.
    ProtocolError for an empty name, and for another number of rows.
    """
    return identities_of_all([(subject, rows)], what)[0]


def identities_of_all(
    sets: Sequence[tuple[ArrayLike, int]], what: str = "features"
) -> list[NDArray[np.integer[Any]]]:
    """Read the subjects of several sets of rows, each as `identities` does, numbered together."""
    read = [_subjects(subject, rows, what) for subject, rows in sets]
    if all(who.dtype.kind == "i" for who in read):
        return read
    if any(who.dtype.kind == "U" for who in read):
        return _numbered_names(read)
    hashes = np.unique(np.concatenate([who[who >= 0].astype(np.uint64) for who in read]))
    return [np.where(who >= 0, np.searchsorted(hashes, who.astype(np.uint64)), -1) for who in read]


def _subjects(subject: ArrayLike, rows: int, what: str) -> NDArray[np.integer[Any]]:
    """Read the subjects of N rows, (N,): unsigned of hashes beyond int64, and names as they are."""
    who = array(subject, "subject")
    if who.shape != (rows,):
        raise ProtocolError(f"{rows} {what} have subjects of shape {who.shape}")
    if who.dtype.kind == "u" and who.max(initial=0) > np.iinfo(np.int64).max:
        return who
    if who.dtype.kind == "S":  # as h5py gives names
        try:
            who = np.char.decode(who, "utf-8")
        except UnicodeDecodeError as e:
            raise ProtocolError(f"a subject's name is not UTF-8: {e.object!r}") from e
    if who.dtype.kind in "UT":
        return who.astype(np.str_)
    return whole_numbers(who, "subject", "expected a number or a name per row; -1 is unlabelled")


def _numbered_names(sets: Sequence[NDArray[Any]]) -> list[NDArray[np.integer[Any]]]:
    """Give the names of several arrays numbers, in their order: -1 for "-" and "-1"."""
    if any(len(who) and who.dtype.kind != "U" for who in sets):
        raise ProtocolError("some subjects are names and others numbers", "expected one kind")
    names, number = np.unique(np.concatenate(sets).astype(np.str_), return_inverse=True)
    for none in {"", "nan"} & set(names.tolist()):  # a table's missing value is nan
        raise ProtocolError(f"a subject is called {none!r}", "a row of nobody known is called -")
    unlabelled = np.isin(names, ["-", "-1"])
    number = np.where(unlabelled, -1, np.cumsum(~unlabelled) - 1)[number]
    return np.split(number, np.cumsum([len(who) for who in sets])[:-1])


def run(rows: NDArray[np.integer[Any]]) -> slice | NDArray[np.integer[Any]]:
    """Give rows that follow each other as a slice, which copies nothing; others as they are."""
    if not len(rows) or rows[-1] - rows[0] + 1 != len(rows) or (np.diff(rows) != 1).any():
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1)


def refuse_unwritten(features: NDArray[Any], name: str, keys: Sequence[str] = ()) -> None:
    """Raise DataError for the `unwritten` rows of (N, ...): a writer that stopped leaves such.

    name : of the file.  keys : of the rows, where they have any.
    """
    empty = unwritten(features).tolist()
    if not empty:
        return
    zeros = "have a view of zeros" if np.any(features[empty[0]]) else "are all zero"
    raise DataError(
        f"{name}: {len(empty)} rows {zeros}, the first is {keys[empty[0]]!r}"
        if keys
        else f"{len(empty)} of {len(features)} rows of {name} were never written: "
        f"{first_few([*map(str, empty)])}",
        "the program that wrote it had fewer images than rows, or was stopped; where zeros stand "
        "for an image without a face, --allow-failures, or NaN in their place",
    )


def unwritten(features: NDArray[Any]) -> NDArray[np.int64]:
    """Row numbers of (N, D) or (N, V, D) with a vector of zeros; maps are read a block at a time.

    A row is read whole only where one of its vectors begins with zeros, as few do.
    """
    views = tuple(range(1, features.ndim - 1))
    empty = [np.empty(0, np.int64)]
    for o in range(0, len(features), _BLOCK):
        some = np.any(features[o : o + _BLOCK, ..., :_BEGIN], axis=-1).all(axis=views)
        rows = o + np.flatnonzero(~some)
        empty.append(rows[~np.any(features[rows], axis=-1).all(axis=views)])
    return np.concatenate(empty)
