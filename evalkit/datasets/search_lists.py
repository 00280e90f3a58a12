"""Lists of a search: whom a gallery enrols, the probes, and distractors; LFW's by Best-Rowden."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalkit import tables
from evalkit.datasets import search_folders
from evalkit.errors import DataError
from evalkit.files import as_path, numbered_lines, read_text
from evalkit.keys import canonical
from evalkit.tables import fields_of
from evalkit.types import Manifest

NOBODY = "-"


@dataclass(frozen=True, slots=True)
class SearchLists:
    """Images by key with the name of whom each shows, NOBODY for people who are not enrolled.

    named_by : what tells whom images of folders show.
    """

    gallery: Mapping[str, str]
    probe: Mapping[str, str]
    named_by: str = ""

    def resolve(self) -> tuple[Manifest, NDArray[np.int64], NDArray[np.int64]]:
        """Each image once, gallery first; and the rows of the gallery and of the probes.

        DataError for an image that is in both.
        """
        both = {*map(canonical, self.gallery)} & {*map(canonical, self.probe)}
        if both:
            raise DataError(f"{min(both)} is in the gallery and among the probes")
        names = [*self.gallery.values(), *self.probe.values()]
        number = {name: n for n, name in enumerate(sorted({*names} - {NOBODY}))}
        subject = np.array([number.get(name, -1) for name in names], np.int32)
        rows = np.arange(len(names))
        manifest = Manifest((*self.gallery, *self.probe), subject)
        return manifest, rows[: len(self.gallery)], rows[len(self.gallery) :]


def read(
    gallery: str | os.PathLike[str],
    probe: str | os.PathLike[str],
    distractors: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> SearchLists:
    """Read lists with an image per line, and behind it who it shows; else the folder of its key.

    Or folders, see `search_folders.read`: keys are paths below `root`, or below the folder that
    holds all that are given.
    """
    paths = [as_path(path) for path in (gallery, probe, distractors) if path is not None]
    if root is None:
        folders = [str(path.absolute().parent) for path in paths if path.is_dir()]
        root = os.path.commonpath(folders or [""])
    top = as_path(root)
    sides, by = zip(*(_side(path, top) for path in paths), strict=True)
    enrolled = dict(sides[0])
    for more in sides[2:]:
        if both := enrolled.keys() & more.keys():
            raise DataError(f"{min(both)} is in the gallery and among the distractors")
        enrolled |= dict.fromkeys(more, NOBODY)
    return SearchLists(enrolled, sides[1], "; ".join(dict.fromkeys(filter(None, by[:2]))))


def below(root: str | os.PathLike[str]) -> dict[str, SearchLists]:
    """Read the searches whose folders lie below `root`, by name; see `search_folders.find`."""
    return {name: read(*folders, root) for name, folders in search_folders.find(root).items()}


def _side(path: Path, root: Path) -> tuple[dict[str, str], str]:
    return search_folders.read(path, root) if path.is_dir() else (_read(path), "")


def _read(path: Path) -> dict[str, str]:
    """Read a table of an image, or of an image and who it shows, a line, with or without header."""
    text = read_text(path)
    first = next((line for _, line in numbered_lines(text)), "")
    layout = ("image", "person")[: len(fields_of(first))]
    table = tables.read(text, str(path), [layout], ("image",), ("person",))
    people: dict[str, str] = {}
    who = table.columns.get("person", table.columns["image"])
    for number, image, name in zip(table.line, table.columns["image"], who, strict=True):
        shown = name if "person" in table.columns else canonical(image).rpartition("/")[0] or NOBODY
        if people.setdefault(image, shown) != shown:
            raise DataError(f"line {number} of {path.name} names {image} again, as {shown}")
    return people


def _of_lfw(keys: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Give the images of the people to look for, and those of people with one image."""
    text = files("evalkit.datasets.data").joinpath("lfw_people_in_ytf.txt").read_text("utf-8")
    of: dict[str, list[str]] = {}
    for key in sorted(keys):
        of.setdefault(key.rpartition("/")[0], []).append(key)
    wanted = {name: of[name] for name in text.split()}
    return wanted, [images[0] for images in of.values() if len(images) == 1]


def lfw_closed(keys: Sequence[str], others: int | None = None) -> SearchLists:
    """Enrol the first image of each of 596 people, and people with one image; 3,143 probes.

    others : so many of the latter, drawn by seed 0; None takes all 4,069.
    """
    wanted, single = _of_lfw(keys)
    if others is not None:
        rows = np.random.default_rng(0).permutation(len(single))[:others]
        single = [single[row] for row in np.sort(rows).tolist()]
    first = {images[0]: name for name, images in wanted.items()}
    probe = {key: name for name, images in wanted.items() for key in images[1:]}
    return SearchLists(first | dict.fromkeys(single, NOBODY), probe)


def lfw_open(keys: Sequence[str], *, one_image: bool = True) -> SearchLists:
    """Enrol 596 people, with a probe of each, and 9,494 probes of everybody else.

    one_image : the first image of each is enrolled and the second the probe; else the first is the
    probe and all others, 3,143, are enrolled.
    """
    wanted, _ = _of_lfw(keys)
    first = {images[0]: name for name, images in wanted.items()}
    if one_image:
        gallery, mated = first, {images[1]: name for name, images in wanted.items()}
    else:
        gallery = {key: name for name, images in wanted.items() for key in images[1:]}
        mated = first
    used = {key for images in wanted.values() for key in images}
    return SearchLists(gallery, mated | {k: NOBODY for k in sorted(keys) if k not in used})


# Of LFW by the rules of Best-Rowden et al. (2014); docs/protocols/search.md says how they are read.
LFW: dict[str, Callable[[Sequence[str]], SearchLists]] = {
    "lfw-closed": lfw_closed,
    "lfw-closed-4249": partial(lfw_closed, others=4249 - 596),
    "lfw-open": lfw_open,
    "lfw-open-3143": partial(lfw_open, one_image=False),
}
