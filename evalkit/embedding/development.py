"""Development images: two of each person, on which a model's input spec is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from evalkit.datasets import lfw
from evalkit.errors import DataError
from evalkit.images import ImageSource, Picture
from evalkit.keys import canonical
from evalkit.types import InputSpec, Manifest

FEWEST = 20  # people; with fewer hardly any two specs can be told apart
_VIEW_1 = "LFW's View 1"
WANTED = (
    f"two images or more of at least {FEWEST} people, a folder a person, or an InsightFace .bin"
)


@dataclass(frozen=True, slots=True)
class Development:
    """Images of P people.

    keys : 2 P names; those at 2 i and 2 i + 1 show one person.  of : which images these are.
    measured : those of them that, meant for choosing a model, are to be measured too.
    """

    keys: tuple[str, ...]
    of: str
    measured: frozenset[str] = frozenset()

    def __str__(self) -> str:
        n = len(self.keys) // 2
        text = f"{n} genuine and {2 * n * (n - 1):,} impostor pairs of {n} people, {self.of}"
        both = sum(key in self.measured for key in self.keys)
        return text + f" ({both:,} of these {2 * n:,} images are measured too)" * bool(both)


def choose(source: ImageSource, manifest: Manifest, people: int) -> Development:
    """Choose two images each of up to `people` people, evenly spread.

    Those of LFW's View 1 where it has enough of them among the images, for there models are to be
    chosen; else of the manifest's subjects, which are then the people that are measured.
    DataError where there are two images of fewer than `FEWEST`.
    """
    found, of = _view_1(source), _VIEW_1
    if len(found) < FEWEST:
        found, of = _subjects(manifest), "of the images at hand"
    if len(found) < FEWEST:
        raise DataError(f"there are two images of {len(found)} people", f"give {WANTED}")
    spread = np.linspace(0, len(found) - 1, min(people, len(found))).astype(int)
    keys = tuple(key for k in spread for key in found[k])
    tested = {_tail(key) for key in manifest.keys} if of == _VIEW_1 else set()
    return Development(keys, of, frozenset(key for key in keys if _tail(key) in tested))


def readable(source: ImageSource, sample: Development) -> Development:
    """Leave out people of whom an image cannot be read, or has no face.

    source : of the sample's images, brought to any model's crop.  DataError where fewer than
    `FEWEST` are left.
    """
    keys, reason = list[str](), ""
    for row in range(0, len(sample.keys), 2):
        try:
            source.read(row), source.read(row + 1)
        except DataError as e:
            reason = reason or e.message
        else:
            keys += sample.keys[row : row + 2]
    if len(keys) < 2 * FEWEST:
        raise DataError(f"of {len(keys) // 2} people two images can be used ({reason})", WANTED)
    return replace(sample, keys=tuple(keys))


def view_1() -> list[str]:
    """List LFW's images of View 1 that a trial takes where it has them: two of 788 people."""
    return [key for pair in _first_pairs(lambda key: key).values() for key in pair]


def _view_1(source: ImageSource) -> list[tuple[str, str]]:
    """Find the first genuine pair of View 1 of each person, as far as its images are there."""
    named = {_tail(key): key for key in source.keys}
    return list(_first_pairs(lambda key: named.get(canonical(key))).values())


def _first_pairs(name: Callable[[str], str | None]) -> dict[str, tuple[str, str]]:
    """Find each person's first genuine pair in View 1 of which both images have a name."""
    listed, found = lfw.development_pairs(), dict[str, tuple[str, str]]()
    for left, right, genuine in zip(listed.left, listed.right, listed.genuine, strict=True):
        a, b = name(left), name(right)
        if genuine and a is not None and b is not None:
            found.setdefault(lfw.subject(left), (a, b))
    return found


def _tail(key: str) -> str:
    """Spell an image of LFW as its lists do: person and image."""
    return "/".join(canonical(key).split("/")[-2:])


def _subjects(manifest: Manifest) -> list[tuple[str, str]]:
    """Find the first two images of each subject."""
    order = np.argsort(manifest.subject, kind="stable")
    subject = manifest.subject[order]
    start = np.flatnonzero((subject >= 0) & np.append(True, subject[1:] != subject[:-1]))
    pairs = [order[o : o + 2] for o in start if o + 1 < len(order) and subject[o + 1] == subject[o]]
    return [(manifest.keys[a], manifest.keys[b]) for a, b in pairs]


def pixels(source: ImageSource, spec: InputSpec) -> Picture:
    """Read all images of a source: (N, H, W, 3) uint8; DataError where one has not the size."""
    faces = []
    for row, key in enumerate(source.keys):
        image, size = source.read(row), spec.size
        if image.shape[:2] != size:
            raise DataError(
                f"{key} is {image.shape[0]}x{image.shape[1]}, the model wants {size[0]}x{size[1]}",
                "give aligned crops, or --landmarks, --align, or --resize, which only squashes",
            )
        faces.append(image)
    return np.stack(faces)
