"""Keys of images: matching of two lists that spell the same image differently."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from pathlib import Path
from tokenize import TokenError
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError, first_few
from evalkit.files import BLANKS, as_path, numbered_lines, read_text
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
_ONE_OF_TWO = {
    "features": "every image has one row, or equal ones; views of one image go into the second "
    "axis (N, V, D)",
    "images": "give the folder of one of them alone, or rename it",
}
VECTORS = (".bin", ".npy", ".feat", ".txt")
_SUFFIXES = frozenset(suffix[1:] for suffix in IMAGES + VECTORS)
_LONGEST = max(map(len, _SUFFIXES)) + 1
# What `canonical` may change besides, where each name begins a line.
_ODD = ("\0", "\\", "//", "/.", "\n/", "\n.", *(f"\n{blank}" for blank in BLANKS))


def canonical(key: str) -> str:
    """Spell a key with "/" and without the suffix of an image or feature file.

    In Unicode's form C: file systems and lists compose "é" in different ways.
    """
    text = normalize("NFC", key.strip(BLANKS)).replace("\\", "/")
    root = ""
    if text[:1] in "/." or text[-1] in "/." or "//" in text or "/./" in text:
        slashes = len(text) - len(text.lstrip("/"))
        root = "/" * min(slashes, 2 if slashes == 2 else 1)  # POSIX leaves two to each system
        text = "/".join(part for part in text.split("/") if part not in ("", "."))
    dot = text.rfind(".")
    if dot > 0 and text[dot - 1] != "/" and text[dot + 1 :].lower() in _SUFFIXES:
        text = text[:dot]
    return root + text or "."


def canonical_of(names: Iterable[str]) -> list[str]:
    """Spell each name as `canonical` does; a million usual ones in half of the time.

    Usual are names in ASCII without any of `_ODD`: of these `canonical` cuts the suffix alone.
    """
    names = [*names]
    text = "\n".join(["", *names, ""])
    ends = {name[-_LONGEST:] for name in names}
    odd = any(sign[-1] in text and sign in text for sign in _ODD)
    odd = odd or any(not end or end[-1] in f"/.{BLANKS}" for end in ends)
    if odd or not text.isascii() or text.count("\n") > len(names) + 1:
        return [canonical(name) for name in names]
    for suffix in {end[end.rfind(".") :] for end in ends if "." in end}:
        if suffix[1:].lower() in _SUFFIXES:
            text = text.replace(f"{suffix}\n", "\0\n")  # of two suffixes the last one only
    return text.replace("\0", "").split("\n")[1:-1]


class Spelled(list[str]):
    """Names that `canonical` has spelled already: those of a file, where several lists ask.

    Their rows are found at once where they were last looked for by as many parts.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        super().__init__(names)
        self.deepest = _deepest(self)
        self._depth, self._rows = 0, (dict[str, int](), dict[str, list[int]]())

    def rows(self, depth: int) -> tuple[dict[str, int], dict[str, list[int]]]:
        """Find the first row of each name's last `depth` parts, and all further ones."""
        depth = min(depth, self.deepest)
        if depth != self._depth:
            known = self if depth == self.deepest else [last_parts(k, depth) for k in self]
            row = dict(zip(reversed(known), range(len(known) - 1, -1, -1), strict=True))
            again: dict[str, list[int]] = {}
            for r, tail in enumerate(known) if len(row) < len(known) else ():
                if row[tail] != r:
                    again.setdefault(tail, []).append(r)
            self._depth, self._rows = depth, (row, again)
        return self._rows


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
    Names in `have` that are `Spelled` stay as they are.
    same_folders : refuse a key and a row whose folders differ, as those of two sets whose images
    are numbered; a name without a folder matches any.
    """
    asked, wanted = wanted, canonical_of(wanted)
    have = have if isinstance(have, Spelled) else Spelled(canonical_of(have))
    row, tails, twice = by_last_parts(wanted, have, equal)
    unfound = np.flatnonzero(row < 0).tolist()
    if missing := [wanted[k] for k in unfound if tails[k] not in twice]:
        raise DataError(
            f"{what} are missing for {len(missing)} of {len(wanted)} images: {first_few(missing)}",
            f"the first one here is called {have[0]!r}" if have else "the file has no rows",
        )
    for tail, (a, b) in twice.items():
        raise DataError(
            f"two rows of {what} claim {tail!r}: rows {a} ({have[a]}) and {b} ({have[b]})",
            _ONE_OF_TWO.get(what, "leave one of them out, or rename it"),
        )
    if np.bincount(row).max(initial=0) > 1 and (both := sharing(asked, tails)):
        raise DataError(
            f"{both[0]!r} and {both[1]!r} would share the one row of {what} called {both[2]!r}",
            "name the rows as the list names its images, with their folders",
        )
    if same_folders:
        require_folders(wanted, [have[r] for r in row.tolist()], tails, what)
    return row


def by_last_parts(
    wanted: Sequence[str],
    have: Sequence[str],
    equal: Callable[[int, int], bool] | None = None,
) -> tuple[NDArray[np.int64], list[str], dict[str, tuple[int, int]]]:
    """Match names whole, else by as many trailing parts as find the most of them.

    Row in `have` of each wanted name, (len(wanted),) int64, -1 = none; the parts of each that were
    compared; and of these the ones that two rows claim which are not `equal`, with those rows.
    """
    best, rank = (np.full(len(wanted), -1), [*wanted], dict[str, tuple[int, int]]()), (-1, 0)
    have = have if isinstance(have, Spelled) else Spelled(have)
    deepest = _deepest(wanted)
    for depth in dict.fromkeys([max(deepest, have.deepest), *range(deepest, 0, -1)]):
        tails = [*wanted] if depth >= deepest else [last_parts(k, depth) for k in wanted]
        row, again = have.rows(depth)
        twice: dict[str, tuple[int, int]] = {}
        for tail in dict.fromkeys(tails) if again else ():
            others = (r for r in again.get(tail, ()) if equal is None or not equal(row[tail], r))
            if (other := next(others, None)) is not None:
                twice[tail] = row[tail], other
        places = [*map(row.get, tails, repeat(-1))]
        if twice:
            places = [-1 if t in twice else r for t, r in zip(tails, places, strict=True)]
        count = len(places) - places.count(-1)
        if (now := (count, 0 if count else len(twice))) > rank:
            best, rank = (np.array(places, np.int64), tails, twice), now
        if count == len(places):
            break
    return best


def _deepest(names: Sequence[str]) -> int:
    """Count the parts of the longest name; 1 without names."""
    return max((name.count("/") for name in names), default=0) + 1


def sharing(names: Iterable[str], tails: Iterable[str]) -> tuple[str, str, str] | None:
    """Find two names that were matched by the same parts, and those; None where none were."""
    first: dict[str, str] = {}
    both = (
        (first.setdefault(tail, name), name, tail) for name, tail in zip(names, tails, strict=True)
    )
    return next((each for each in both if each[0] != each[1]), None)


def ending_in(keys: Iterable[str], names: Iterable[str]) -> NDArray[np.int64]:
    """Find the name, whole, that each key ends in: its number, (N,) int64, -1 where it is none."""
    number = {canonical(name): n for n, name in enumerate(names)}
    depths = sorted({name.count("/") + 1 for name in number})
    spelled = canonical_of(keys)
    return np.array(
        [max((number.get(last_parts(k, d), -1) for d in depths), default=-1) for k in spelled],
        np.int64,
    )


def require_folders(
    wanted: Sequence[str], found: Sequence[str], tails: Iterable[str], what: str
) -> None:
    """Refuse names that match by name alone, in other folders, as those of two numbered sets do.

    found : what each wanted name was matched with, by these tails.  A name without a folder
    matches any.
    """
    other = [] if any("/" in tail for tail in tails) else _elsewhere(wanted, found, innermost=1)
    if other:
        raise DataError(
            f"{what} match {len(other)} of {len(wanted)} images by name alone, in other folders: "
            f"{other[0][0]} is not {other[0][1]}",
            f"are they of another set? name the images as the {what} are, or leave their folders "
            "out",
        )


def other_folders(wanted: Sequence[str], have: Sequence[str], rows: NDArray[np.int64]) -> str:
    """Say that names match and their folders do not, as of another set; "" where none do so.

    rows : of `have`, by `rows_of`.  "lfw/0.jpg" and "agedb/0.jpg" match by "0" alone.

    >>> other_folders(["lfw/0.jpg", "lfw/1.jpg"], ["agedb/0.png", "1"], np.array([0, 1]))
    'by name without folders, which differ for 1 of 2 images: lfw/0.jpg is taken for agedb/0.png'
    """
    pairs = _elsewhere(wanted, [have[r] for r in rows.tolist()])
    if not pairs:
        return ""
    return (
        f"by name without folders, which differ for {len(pairs)} of {len(rows)} images: "
        f"{pairs[0][0]} is taken for {pairs[0][1]}"
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


def folder_of(key: str) -> str:
    r"""Take the folder of a key, "" where it has none; "\" parts folders as "/" does.

    >>> folder_of(r"lfw\A\A_0001.jpg")
    'lfw/A'
    """
    return normalize("NFC", key).replace("\\", "/").rpartition("/")[0]


def subjects_of(keys: Sequence[str]) -> NDArray[np.int32]:
    """Take the folder of each key for its subject, numbered by name: (N,); -1 without a folder."""
    folders = [folder_of(key) for key in keys]
    number = {name: i for i, name in enumerate(sorted({f for f in folders if f}))}
    return np.array([number.get(f, -1) for f in folders], np.int32)


def spelled_alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ in case, blanks and underscores alone, in order.

    >>> spelled_alike(["ada", "Bob", "Ada", "bob ", "cy"])
    [('Ada', 'ada'), ('Bob', 'bob ')]
    """
    first = dict[str, str]()
    spelled = sorted(dict.fromkeys(names))
    both = ((first.setdefault(_bare(name), name), name) for name in spelled)
    return [pair for pair in both if pair[0] != pair[1]]


def _bare(name: str) -> str:
    return " ".join(normalize("NFC", name).casefold().replace("_", " ").split())


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


def as_texts(keys: Any) -> Any:
    """Decode names that are bytes in UTF-8, as h5py and `np.bytes_` hold them; others as they are.

    >>> as_texts([b"Ada/1.jpg", "Bob/2.jpg"])
    ['Ada/1.jpg', 'Bob/2.jpg']
    """
    if not isinstance(keys, Iterable) or not any(isinstance(key, bytes) for key in keys):
        return keys
    try:
        return [key.decode() if isinstance(key, bytes) else key for key in keys]
    except UnicodeDecodeError as e:
        raise DataError(f"a name is not UTF-8: {e.object[:40]!r}", "give names as texts") from e


def read_keys(path: str | os.PathLike[str]) -> list[str]:
    """Read keys: a text file with a key per line (`files.numbered_lines`), or MegaFace's JSON list.

    Or an array of texts, .npy, as `numpy.save` writes it.
    """
    path = as_path(path)
    if path.suffix.lower() == ".npy":
        return _array_of_keys(path)
    if ".json" in path.name:
        return json_lists(path, "path")["path"]
    try:
        return [line for _, line in numbered_lines(read_text(path))]
    except DataError as e:
        raise DataError(e.message, e.hint or "a list has a key per line, or is an .npy") from e


def json_lists(path: str | os.PathLike[str], *names: str) -> dict[str, list[str]]:
    """Read lists of texts, of one length, in MegaFace's JSON: {"path": [...], "id": [...]}."""
    path = as_path(path)
    try:
        document = parsed(read_text(path))
    except ValueError as e:
        raise DataError(f"{path} is not a MegaFace list: {e}") from e
    lists: dict[str, Any] = {
        name: document.get(name) if isinstance(document, dict) else None for name in names
    }
    for name, values in lists.items():
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise DataError(
                f"{path} is not a MegaFace list: {name!r} is not a list of texts",
                'expected {"path": [...], "id": [...]}; distractors need no "id"',
            )
    lengths = {*map(len, lists.values())}
    if len(lengths) > 1 or lengths == {0}:
        raise DataError(
            f"the lists in {path} have {sorted(lengths)} entries", "expected one number"
        )
    return lists


def _array_of_keys(path: Path) -> list[str]:
    try:
        keys = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, TokenError) as e:
        raise DataError(
            f"{path.name} is not an array of texts: {e}", "numpy.save(FILE, numpy.array(keys, str))"
        ) from e
    if keys.ndim != 1 or keys.dtype.kind not in "SU":
        raise DataError(
            f"{path.name} holds {keys.dtype} of shape {keys.shape}, expected (N,) texts",
            "names of rows go to --keys, vectors to --features",
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
