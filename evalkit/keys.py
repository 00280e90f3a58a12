"""Keys of images: matching of two lists that spell the same image differently."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError
from evalkit.files import BLANKS, as_path, lines_of, read_text
from evalkit.strict_json import parsed

AVIF_FILES = (".avif", ".avifs")
HEIF_FILES = (".heic", ".heics", ".heif", ".heifs", ".hif")
JPEG2000_FILES = (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc")
IMAGES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".jif", ".mpo", *JPEG2000_FILES, *AVIF_FILES),
    *HEIF_FILES,
    *(".png", ".apng", ".bmp", ".dib", ".pgm", ".ppm", ".pbm", ".pnm"),
    *(".webp", ".tif", ".tiff", ".gif"),
)
VECTORS = (".bin", ".npy", ".feat", ".txt")
_SUFFIXES = frozenset(suffix[1:] for suffix in IMAGES + VECTORS)


def canonical(key: str) -> str:
    """Spell a key with "/" and without the suffix of an image or feature file.

    In Unicode's form C: file systems and lists compose "é" in different ways.
    """
    text = normalize("NFC", key.strip(BLANKS)).replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if parts:
        stem, _, suffix = parts[-1].rpartition(".")
        parts[-1] = stem if stem and suffix.lower() in _SUFFIXES else parts[-1]
    slashes = len(text) - len(text.lstrip("/"))
    root = "/" * min(slashes, 2 if slashes == 2 else 1)  # POSIX leaves two to each system
    return root + "/".join(parts) or "."


def last_parts(key: str, depth: int) -> str:
    """Cut a key to its last `depth` parts."""
    return "/".join(key.split("/")[-depth:])


def rows_of(
    wanted: Sequence[str],
    have: Sequence[str],
    what: str = "features",
    *,
    equal: Callable[[int, int], bool] | None = None,
    same_folders: bool = False,
) -> NDArray[np.int64]:
    """Row in `have` of each wanted key: (len(wanted),) int64.

    Keys match with or without a folder prefix and a suffix: the deepest number of trailing parts
    at which every wanted key is found decides, so "lfw/A/A_0001.jpg" and "A_0001" both serve
    "A/A_0001.jpg".  DataError lists what is missing, the two rows that claim one key, or the two
    keys that would share a row.
    equal : whether two rows hold the same, so that a name may stand twice and its first row serves.
    same_folders : refuse a key and a row whose folders differ, as those of two sets whose images
    are numbered; a name without a folder matches any.
    """
    asked, wanted = wanted, [canonical(k) for k in wanted]
    have = [canonical(k) for k in have]
    deepest = max((k.count("/") + 1 for k in wanted), default=1)
    for depth in range(deepest, 0, -1):
        row: dict[str, int] = {}
        twice: dict[str, list[int]] = {}
        for r, key in enumerate(have):
            tail = last_parts(key, depth)
            if tail in row:
                twice.setdefault(tail, [row[tail]]).append(r)
            else:
                row[tail] = r
        tails = [last_parts(k, depth) for k in wanted]
        if all(t in row for t in tails):
            _refuse_two_rows(tails, twice, have, what, equal)
            _refuse_one_row(asked, tails, what)
            if same_folders and depth == 1:
                _refuse_other_folders(wanted, [have[row[t]] for t in tails], what)
            return np.fromiter((row[t] for t in tails), np.int64, len(tails))
        if depth == deepest:
            missing = [k for k, t in zip(wanted, tails, strict=True) if t not in row]
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    raise DataError(
        f"{what} are missing for {len(missing)} of {len(wanted)} images: {shown}",
        f"the first row here is called {have[0]!r}" if have else "there are no rows at all",
    )


def _refuse_two_rows(
    tails: Iterable[str],
    twice: dict[str, list[int]],
    have: Sequence[str],
    what: str,
    equal: Callable[[int, int], bool] | None,
) -> None:
    for tail in (t for t in dict.fromkeys(tails) if t in twice):
        a, *others = twice[tail]
        b = next((r for r in others if equal is None or not equal(a, r)), None)
        if b is not None:
            raise DataError(
                f"two rows of {what} claim {tail!r}: rows {a} ({have[a]}) and {b} ({have[b]})",
                "every image has one row, or equal ones; views of one image go into the second "
                "axis (N, V, D)"
                if what == "features"
                else "leave one of them out, or rename it",
            )


def other_folders(wanted: Sequence[str], have: Sequence[str], rows: NDArray[np.int64]) -> str:
    """Say that names match and their folders do not, as of another set; "" where none do so.

    rows : of `have`, by `rows_of`.  "lfw/0.jpg" and "agedb/0.jpg" match by "0" alone.

    >>> other_folders(["lfw/0.jpg", "lfw/1.jpg"], ["agedb/0.png", "1"], np.array([0, 1]))
    'by name without folders, which differ for 1 of 2 images: lfw/0.jpg is taken for agedb/0.png'
    """
    found = _elsewhere(wanted, [have[r] for r in rows.tolist()])
    if not found:
        return ""
    return (
        f"by name without folders, which differ for {len(found)} of {len(rows)} images: "
        f"{found[0][0]} is taken for {found[0][1]}"
    )


def _refuse_other_folders(wanted: Sequence[str], found: Sequence[str], what: str) -> None:
    if other := _elsewhere(wanted, found, innermost=1):
        raise DataError(
            f"{what} match {len(other)} of {len(wanted)} images by name alone, in other folders: "
            f"{other[0][0]} is not {other[0][1]}",
            f"are they of another set? name the images as the {what} are, or leave their folders "
            "out",
        )


def _elsewhere(
    wanted: Sequence[str], found: Sequence[str], innermost: int | None = None
) -> list[tuple[str, str]]:
    """List the names whose folders, so many seen from the image, differ where both have one."""

    def folders(name: str) -> list[str]:
        return canonical(name).split("/")[-2::-1][:innermost]

    both = ((w, h) for w, h in zip(wanted, found, strict=True) if w != h)
    return [
        (w, h) for w, h in both if any(a != b for a, b in zip(folders(w), folders(h), strict=False))
    ]


def _refuse_one_row(asked: Sequence[str], tails: Sequence[str], what: str) -> None:
    if len(set(tails)) == len(set(asked)):
        return
    first: dict[str, str] = {}
    for key, tail in zip(asked, tails, strict=True):
        if first.setdefault(tail, key) != key:
            raise DataError(
                f"{first[tail]!r} and {key!r} would share the one row of {what} called {tail!r}",
                "name the rows as the list names its images, with their folders",
            )


def subjects_of(keys: Sequence[str]) -> NDArray[np.int32]:
    """Take the folder of each key for its subject, numbered by name: (N,); -1 without a folder."""
    folders = [normalize("NFC", key.rpartition("/")[0]) for key in keys]
    number = {name: i for i, name in enumerate(sorted({f for f in folders if f}))}
    return np.array([number.get(f, -1) for f in folders], np.int32)


def people_of(keys: Sequence[str], where: str | os.PathLike[str], hint: str) -> NDArray[np.int32]:
    """Take `subjects_of` images in a folder; DataError with the hint where nobody has two."""
    subject = subjects_of(keys)
    if np.bincount(subject[subject >= 0], minlength=1).max() < 2:
        what = (
            "no person in {} has two images"
            if (subject >= 0).any()
            else "{} has no folder per person"
        )
        raise DataError(what.format(as_path(where)), hint)
    return subject


def read_keys(path: str | os.PathLike[str]) -> list[str]:
    """Read keys: a text file with one key per line (`files.lines_of`), or MegaFace's JSON list.

    Or an array of texts, .npy, as `numpy.save` writes it.
    """
    path = as_path(path)
    if path.suffix.lower() == ".npy":
        return _array_of_keys(path)
    text = read_text(path)
    if ".json" not in path.name:
        return [line for line in lines_of(text) if line]
    try:
        keys = parsed(text)["path"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise DataError(f"{path} is not a list of keys: {e}") from e
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys):
        raise DataError(f"{path} is not a list of keys: 'path' is not a list of texts")
    return keys


def _array_of_keys(path: Path) -> list[str]:
    try:
        keys = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, TokenError) as e:
        raise DataError(
            f"{path.name} is not an array of texts: {e}", "numpy.save(FILE, numpy.array(keys, str))"
        ) from e
    if keys.ndim != 1 or keys.dtype.kind not in "SU":
        raise DataError(
            f"{path.name} holds {keys.dtype} of shape {keys.shape}, expected (N,) texts"
        )
    try:
        return texts_of(keys)
    except ValueError as e:
        raise DataError(f"{path.name} is not an array of texts: {e}") from e


def texts_of(array: NDArray[Any]) -> list[str]:
    """Give the texts of an array; ValueError where bytes are not UTF-8, or numbers no characters.

    Python itself ends in a SystemError where a damaged file has such.
    """
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind == "U":
        codes = np.frombuffer(array.astype(array.dtype.newbyteorder("<")).tobytes(), "<u4")
        if codes.max(initial=0) > sys.maxunicode:
            raise ValueError(f"the number {codes.max()} is not a character")
    return [str(text) for text in array]
