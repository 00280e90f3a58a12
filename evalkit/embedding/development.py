"""Development images: two of each person, on which a model's input spec is tried."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.datasets import lfw
from evalkit.errors import DataError
from evalkit.images import ImageSource, Picture
from evalkit.keys import canonical
from evalkit.types import InputSpec, Manifest

PEOPLE = 100  # of a trial
FEWEST = 20  # people; with fewer hardly any two specs can be told apart
_VIEW_1 = "LFW's View 1"
WANTED = (
    f"two images or more of at least {FEWEST} people, a folder per person, or an InsightFace .bin"
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
    chosen, first of all what is not in the manifest, hence not measured; else of the manifest's
    subjects, which are then the people that are measured.
    DataError where there are two images of fewer than `FEWEST`.
    """
    named, tested = {_tail(key): key for key in source.keys}, {_tail(k) for k in manifest.keys}
    pairs, of = _view_1(tested, named), _VIEW_1
    if len(pairs) < FEWEST:
        pairs, of = _subjects(manifest), "of the images at hand"
    if len(pairs) < FEWEST:
        raise DataError(
            f"{FEWEST} people with two images are needed, {len(pairs)} found", f"give {WANTED}"
        )
    keys = _spread(pairs, people, tested if of == _VIEW_1 else set())
    measured = frozenset(key for key in keys if of == _VIEW_1 and _tail(key) in tested)
    return Development(keys, of, measured)


def _spread(
    found: Sequence[tuple[str, str]], people: int, tested: Collection[str]
) -> tuple[str, ...]:
    """Take pairs of up to `people` people, evenly spread; before others those not tested."""
    chosen = list[tuple[str, str]]()
    for count in range(3):
        some = [pair for pair in found if _tested(pair, tested) == count]
        left = min(people - len(chosen), len(some))
        chosen += [some[k] for k in np.linspace(0, len(some) - 1, left).astype(int)]
    return tuple(key for pair in chosen for key in pair)


def _tested(pair: tuple[str, str], tested: Collection[str]) -> int:
    return sum(_tail(key) in tested for key in pair)


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
        raise DataError(
            f"{FEWEST} people with two usable images are needed, {len(keys) // 2} found ({reason})",
            f"give {WANTED}",
        )
    return replace(sample, keys=tuple(keys))


def view_1(measured: Collection[str], people: int = PEOPLE) -> tuple[str, ...]:
    """List the images of LFW's View 1 that `choose` takes where it has all of them."""
    tested = {_tail(key) for key in measured}
    return _spread(_view_1(tested), people, tested)


def _view_1(
    tested: Collection[str], named: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Find a genuine pair of View 1 of each person, of them the first with the fewest tested.

    named : spelling of the images that there are; None for all of LFW's.
    """
    listed, by_person = lfw.development_pairs(), dict[str, tuple[str, str]]()
    for left, right, genuine in zip(listed.left, listed.right, listed.genuine, strict=True):
        a, b = (k if named is None else named.get(canonical(k)) for k in (left, right))
        if not genuine or a is None or b is None:
            continue
        earlier = by_person.get(who := lfw.subject(left))
        if earlier is None or _tested((a, b), tested) < _tested(earlier, tested):
            by_person[who] = a, b
    return list(by_person.values())


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
                f"{key} is {image.shape[0]}x{image.shape[1]}, "
                f"the model expects {size[0]}x{size[1]}",
                "give aligned crops, or --landmarks, --align, or --resize, which only squashes",
            )
        faces.append(image)
    return np.stack(faces)
