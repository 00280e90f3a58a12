"""Digests of images, lists, sets and vectors: equal if and only if the data are the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.arrays import require
from evalkit.errors import ProtocolError
from evalkit.files import as_path
from evalkit.keys import canonical_of
from evalkit.types import PairSet, SetIdentity

DIGEST = 32  # bytes of a SHA-256
_BLOCK = 1 << 16  # numbers

Names = Sequence[str] | Sequence[int]

COMPARISONS = "comparisons"  # whether anything is known of them
LIST, IMAGES, KEYS, SET = "list", "images", "keys", "set"
FIELDS = (COMPARISONS, LIST, IMAGES, KEYS, SET)


def image_digest(image: bytes | NDArray[np.uint8]) -> bytes:
    """SHA-256 (32 bytes) of an image: of its file, or of shape and pixels without one."""
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    h = hashlib.sha256(f"pixels {image.dtype} {image.shape}".encode())
    h.update(np.ascontiguousarray(image).data)
    return h.digest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hex."""
    path = as_path(path)
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def with_extra(digest: bytes, extra: bytes) -> bytes:
    """Digest of an image together with what else decides its pixels; its own where that is b""."""
    return hashlib.sha256(digest + extra).digest() if extra else digest


def known_images(digests: NDArray[np.uint8] | None) -> str | None:
    """SHA-256 in hex of the digests of all images, (N, 32), in row order; None where one is 0."""
    if digests is None or not digests.any(axis=1).all():
        return None
    return hashlib.sha256(np.ascontiguousarray(digests, np.uint8).data).hexdigest()


def digest(*columns: Sequence[str] | NDArray[Any]) -> str:
    """SHA-256 of lists of names and arrays of whole numbers, each with its length."""
    h = hashlib.sha256()
    for column in columns:
        if isinstance(column, np.ndarray):
            h.update(f"{column.shape}".encode())
            flat = column.reshape(-1)  # widened some at a time: of 20 million rows 160 MB
            for o in range(0, len(flat), _BLOCK):
                h.update(np.ascontiguousarray(flat[o : o + _BLOCK], "<i8").data)
        else:
            h.update(json.dumps(list(column)).encode())
    return h.hexdigest()


def of_pairs(
    pairs: PairSet,
    fold: NDArray[Any] | None,
    subject: NDArray[Any] | None,
    rows: int,
    *,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> SetIdentity:
    """Identity of P listed pairs of `rows` rows, with their folds; see `of_rows`.

    Rows are numbered as the list names them first, so that neither their order nor rows that no
    pair names matter.
    """
    named, number = by_appearance(np.column_stack([pairs.left, pairs.right]).ravel())
    columns = {
        "pairs": number,
        "genuine": pairs.genuine,
        "fold": fold,
        "subject": None if subject is None else numbered(subject[named]),
    }
    return of_rows(columns, rows, named, keys=keys, images=images, set_name=set_name)


def of_rows(
    columns: Mapping[str, NDArray[Any] | Sequence[str] | None],
    rows: int,
    named: NDArray[np.int64] | None = None,
    *,
    keys: Names | None = None,
    images: ArrayLike | None = None,
    set_name: str | None = None,
) -> SetIdentity:
    """Identity of comparisons among rows: what is compared, and what the rows are.

    columns : names and whole numbers that say who is compared with whom; None is left out.
    named : (R,) the rows that take part, in an order that the comparisons decide; None is all.
    keys : (rows,) names; range(rows) says that row i is image i of the set.
    images : (rows, 32) uint8, SHA-256 of each image, all zero where it is not known.
    ProtocolError where keys or images are not as many as the rows.
    """
    require(set_name, str | None, "set_name", "the name of the set")
    refuse_other_names(keys, images, rows)
    chosen = range(rows) if named is None else named
    said = [part for name, c in columns.items() if c is not None for part in ([name], c)]
    spelled = None if keys is None or not len(keys) else canonical_of(names_of(keys, chosen))
    return SetIdentity(
        list=digest(np.array(len(chosen)), *said),
        images=_images(images, named),
        keys=None if spelled is None else digest(spelled),
        set=set_name or None,
    )


def refuse_other_names(
    keys: Names | None, images: ArrayLike | None, rows: int, what: str = "rows"
) -> None:
    """ProtocolError where keys, unless there are none, or images are not as many as the rows."""
    if keys is not None and (count := key_count(keys)) not in (0, rows):
        raise ProtocolError(f"{rows} {what} have {count} keys", "one name per row")
    if images is None:
        return
    digests = np.asarray(images)
    if digests.shape != (rows, DIGEST) or digests.dtype != np.uint8:
        raise ProtocolError(
            f"'images' of {rows} {what} are {digests.dtype} of shape {digests.shape}",
            f"one SHA-256 per row: ({rows}, {DIGEST}) uint8",
        )


def names_of(keys: Names, rows: Iterable[int]) -> list[str]:
    """Names of rows by their place; a column of pandas would give them by its index."""
    placed = getattr(keys, "iloc", keys)
    return [str(placed[row]) for row in rows]


def key_count(keys: Names) -> int:
    """Count the names of rows; ProtocolError where they are no list."""
    is_table = getattr(keys, "ndim", 1) != 1
    if not isinstance(keys, Sized) or isinstance(keys, str | bytes) or is_table:
        raise ProtocolError(f"keys given as {keys!r:.80}", "expected a list of names, one per row")
    if isinstance(first := next(iter(keys), ""), bytes):  # keys[0] of pandas is the row called 0
        raise ProtocolError(f"keys are bytes, {bytes(first)!r:.80} first", "np.char.decode them")
    return len(keys)


def _images(images: ArrayLike | None, chosen: NDArray[np.int64] | None) -> str | None:
    """SHA-256 of the digests of the chosen rows' images, else of all; None where one is unknown."""
    if images is None:
        return None
    digests = np.asarray(images)
    return known_images(digests if chosen is None else digests[chosen])


def by_appearance(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct values in the order in which they come, and (N,) the number of each value there.

    >>> by_appearance(np.array([7, 3, 7, 5]))
    (array([7, 3, 5]), array([0, 1, 0, 2]))
    """
    distinct, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(distinct), np.int64)
    number[order] = np.arange(len(distinct))
    return distinct[order], number[inverse]


def numbered(subject: NDArray[Any]) -> NDArray[np.int64]:
    """Assign numbers to (N,) subjects in order of appearance; below 0 becomes -1, unlabelled.

    >>> numbered(np.array([7, -1, 7, 5])).tolist()
    [0, -1, 0, 2]
    """
    named = subject >= 0
    lowest = int(subject.min(initial=0))
    if lowest == -1:
        named[np.argmin(named)] = True  # the first without a label has a number, which is not used
    elif lowest < -1:
        named[:] = True
    number = np.full(len(subject), -1, np.int64)
    number[named] = by_appearance(subject[named])[1]
    number[subject < 0] = -1
    return number


def difference(a: SetIdentity, b: SetIdentity, ignore: Collection[str] = ()) -> str:
    """Name the field by which two sets of comparisons are not the same; "" where they are.

    The same: one list, and images of equal digests; where neither side knows its images (embeddings
    from elsewhere), equal keys in a set of one name.  What a side does not know is not equal.
    ignore : fields of `FIELDS` that are not looked at; COMPARISONS is all of them.
    """
    if COMPARISONS in ignore:
        return ""
    if a.list is None or b.list is None:
        return COMPARISONS
    by_image = IMAGES not in ignore and (a.images is not None or b.images is not None)
    for field in (LIST, IMAGES) if by_image else (LIST, KEYS, SET):
        value = getattr(a, field)
        if field not in ignore and (value is None or value != getattr(b, field)):
            return field
    return ""
