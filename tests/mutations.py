"""Changes to images, lists and models: what each makes an evaluation embed again."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evalkit import images
from evalkit.datasets import bin as bin_sets
from evalkit.embedding import embedder
from evalkit.errors import DataError
from evalkit.images import ImageSource, alignment
from evalkit.types import InputSpec, Manifest
from evalkit.vectors.store import FeatureStore

SIDE = 16
SPEC = InputSpec(size=(SIDE, SIDE), color="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)
N, ALL = 12, -1


class Colours:
    """A model of a few numbers: channels weighed and summed over two halves."""

    dim = 6

    def __init__(self, weight: float = 1.0, power: float = 1.0, **known: Any) -> None:
        self.spec = known.pop("spec", SPEC)
        self.weight, self.power = weight, power
        vars(self).update(known)

    def embed(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        y = x[..., ::-1] if self.spec.color == "bgr" else x
        y = (y - np.array(self.spec.mean)) / np.array(self.spec.std)
        halves = [(y[:, :, a : a + SIDE // 2] ** self.power).sum((1, 2)) for a in (0, SIDE // 2)]
        return (np.concatenate(halves, axis=1) * self.weight).astype(np.float32)


@dataclass
class World:
    """What is embedded: images below a folder, perhaps changed on the way, by a model."""

    root: Path
    data: Path = field(init=False)
    model: Colours = field(default_factory=lambda: Colours(fingerprint="colours"))
    views: int = 1
    path: Path | None = None
    aligned: NDArray[np.float32] | None = None
    resize: bool = False
    subjects: int = 0

    def __post_init__(self) -> None:
        self.data = self.root / "faces"
        for k in range(N):
            self.put(f"P{k // 3}/{k}.bmp", k)
        self.age()

    def put(self, name: str, k: int) -> Path:
        """Write picture k of a few pixels' noise under a name, and make it look old."""
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(k))
        return path

    def age(self) -> None:
        """Wait out the clock's grain: files changed a moment ago are read in any case."""
        from evalkit.images import digests

        digests.time = Later  # type: ignore[assignment]

    def source(self) -> ImageSource:
        if self.data.suffix == ".bin":
            return bin_sets.read(self.data)[0]
        found = images.find(self.data)
        if self.aligned is not None:
            points = self.aligned[: len(found.keys)]
            found = replace(alignment.aligned(found, points, "arcface-112"))
        return found.resized((SIDE, SIDE)) if self.resize or self.aligned is not None else found

    def run(self) -> FeatureStore:
        source = self.source()
        manifest = source.manifest()
        if self.subjects:
            manifest = Manifest(manifest.keys, manifest.subject + self.subjects)
        return embedder.embed(
            self.model, source, manifest, self.path, views=self.views, batch=4, workers=1
        )

    def truth(self) -> NDArray[np.float32]:
        source = self.source()
        made = np.full((len(source.keys), self.views, self.model.dim), np.nan, np.float32)
        for row in range(len(source.keys)):
            try:
                pixels = source.read(row)
            except DataError:
                continue
            both = [pixels, pixels[:, ::-1]][: self.views]
            made[row] = self.model.embed(np.stack(both))
        return made


class Later:
    """A clock that is an hour ahead of the files."""

    @staticmethod
    def time_ns() -> int:
        import time

        return time.time_ns() + 3600 * 10**9


def picture(k: int) -> bytes:
    pixels = np.random.default_rng(k).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "BMP")  # every one of the same size
    return held.getvalue()


def _in_place(w: World) -> None:
    w.put("P1/4.bmp", 99)


def _backdated(w: World) -> None:
    about = (w.data / "P1/4.bmp").stat()
    os.utime(w.put("P1/4.bmp", 99), ns=(about.st_atime_ns, about.st_mtime_ns))


def _touched(w: World) -> None:
    for path in w.data.rglob("*.bmp"):
        os.utime(path)


def _re_encoded(w: World) -> None:
    path = w.data / "P1/4.bmp"
    Image.open(io.BytesIO(path.read_bytes())).save(path, "PNG")


def _renamed(w: World) -> None:
    (w.data / "P1/4.bmp").rename(w.data / "P1/44.bmp")


def _moved(w: World) -> None:
    w.data = w.data.rename(w.root / "elsewhere")


def _copied(w: World) -> None:
    w.data = Path(shutil.copytree(w.data, w.root / "copy"))


def _zipped(w: World, other: str = "") -> None:
    with zipfile.ZipFile(w.root / "faces.zip", "w") as archive:
        for path in sorted(w.data.rglob("*.bmp")):
            name = path.relative_to(w.data).as_posix()
            archive.writestr(name, picture(99) if name == other else path.read_bytes())
    w.data = w.root / "faces.zip"


def _zip_changed(w: World) -> None:
    _zipped(w)
    w.run()
    w.data = w.root / "faces"
    _zipped(w, other="P1/4.bmp")


def _added(w: World, *names: str) -> None:
    for k, name in enumerate(names or ["P9/new.bmp"]):
        w.put(name, 200 + k)


def _removed(w: World) -> None:
    (w.data / "P1/4.bmp").unlink()


def _listed(w: World, step: int) -> None:
    names = [p.relative_to(w.data).as_posix() for p in sorted(w.data.rglob("*.bmp"))]
    (w.data / "list.txt").write_text("\n".join(names[::step]))
    w.data = w.data / "list.txt"


def _swapped(w: World) -> None:
    a, b, c = (w.data / f"P1/{n}.bmp" for n in ("3", "4", "x"))
    a.rename(c), b.rename(a), c.rename(b)


def _emptied(w: World) -> None:
    (w.data / "P1/4.bmp").write_bytes(b"")


def _mended(w: World) -> None:
    _emptied(w)
    w.run()
    w.put("P1/4.bmp", 4)


def _mended_anew(w: World) -> None:
    _emptied(w)
    w.run()
    w.put("P1/4.bmp", 98)


def _linked(w: World) -> None:
    path = w.data / "P1/4.bmp"
    path.unlink()
    path.symlink_to(w.data / "P0/0.bmp")


def _retargeted(w: World) -> None:
    _linked(w)
    w.run()
    (w.root / "aside.bmp").write_bytes(picture(97))
    (w.data / "P1/4.bmp").unlink()
    (w.data / "P1/4.bmp").symlink_to(w.root / "aside.bmp")


def _racy(w: World) -> None:
    from evalkit.images import digests

    digests.time = __import__("time")  # type: ignore[assignment]
    _in_place(w)


def _other_mode(w: World) -> None:
    (w.data / "P1/4.bmp").chmod(0o600)


def _landmarks(w: World, change: Callable[[NDArray[np.float32]], Any], count: int = N) -> None:
    template = alignment.TEMPLATES["arcface-112"][1].astype(np.float32) * (SIDE / 112)
    w.aligned = np.repeat(template[None], N + 1, axis=0)
    w.run()
    change(w.aligned)


def _model(w: World, **how: Any) -> None:
    w.model = Colours(**{"fingerprint": "colours", **how})


def _and_back(w: World) -> None:
    _model(w, weight=2.0)
    w.run()
    _model(w)


def _nameless(w: World, power: float) -> None:
    w.model = Colours()
    w.run()
    w.model = Colours(power=power)


def _bin(w: World, first: int) -> None:
    for name, start in (("a", 300), ("b", first)):
        held = [picture(start + k) for k in range(8)]
        (w.root / f"{name}.bin").write_bytes(pickle.dumps((held, [True, False, True, False])))
    w.data = w.root / "a.bin"
    w.run()
    w.data = w.root / "b.bin"


def _setting(w: World, name: str, value: Any) -> None:
    setattr(w, name, value)


# change -> (what it does between two runs, images that the second must embed)
CHANGES: dict[str, tuple[Callable[[World], Any], int]] = {
    "nothing": (lambda w: None, 0),
    "one image replaced in place": (_in_place, 1),
    "one replaced in place, size and time kept": (_backdated, 1),
    "one replaced within the clock's grain": (_racy, 1),
    "all touched without change": (_touched, 0),
    "one with another mode": (_other_mode, 0),
    "one re-encoded": (_re_encoded, 1),
    "one renamed": (_renamed, 0),
    "two swapped": (_swapped, 0),
    "one emptied": (_emptied, 1),
    "an unreadable one mended": (_mended, 1),
    "an unreadable one made anew": (_mended_anew, 1),
    "one is a link to another now": (_linked, 0),
    "a link turned to another image": (_retargeted, 1),
    "one added": (_added, 1),
    "a person of three added": (lambda w: _added(w, *(f"P7/{k}.bmp" for k in range(3))), 3),
    "one removed": (_removed, 0),
    "every second one by a list": (lambda w: _listed(w, 2), 0),
    "order turned round by a list": (lambda w: _listed(w, -1), 0),
    "other numbers of subjects": (lambda w: _setting(w, "subjects", 100), 0),
    "the folder renamed": (_moved, 0),
    "another folder with the same": (_copied, 0),
    "a zip archive of the same": (_zipped, 0),
    "one changed in a zip archive": (_zip_changed, 1),
    "another .bin set of the same size": (lambda w: _bin(w, 400), ALL),
    "a .bin set renamed": (lambda w: _bin(w, 300), 0),
    "landmarks of one image moved": (lambda w: _landmarks(w, lambda x: x[3].__iadd__(0.3)), 1),
    "landmarks of a face not asked for": (lambda w: _landmarks(w, lambda x: x[-1].fill(9)), 0),
    "resized on the way": (lambda w: _setting(w, "resize", True), ALL),
    "mirrored views too": (lambda w: _setting(w, "views", 2), ALL),
    "weights replaced under one name": (lambda w: _model(w, weight=1.5), ALL),
    "another name, the same weights": (lambda w: _model(w, fingerprint="others"), ALL),
    "another activation": (lambda w: _model(w, power=1.01), ALL),
    "another runtime": (lambda w: _model(w, runtime="numpy 9"), ALL),
    "another mean in the preset": (
        lambda w: _model(w, spec=replace(SPEC, mean=(1.0,) * 3)),
        ALL,
    ),
    "another colour order": (lambda w: _model(w, spec=replace(SPEC, color="bgr")), ALL),
    "a model without a fingerprint": (lambda w: _nameless(w, 1.0), 0),
    "another one without a fingerprint": (lambda w: _nameless(w, 1.1), ALL),
    "another model and back": (_and_back, 0),
}


def embedded_again(change: str, root: Path) -> tuple[int, int]:
    """Run, change, run: how many images must be embedded again, and how many were.

    AssertionError where a vector is not that of its image by the model as it is.
    """
    w = World(root)
    w.run()
    do, wanted = CHANGES[change]
    do(w)
    store = w.run()
    n = len(store.done)
    np.testing.assert_array_equal(store.features, w.truth(), err_msg=change)
    return (n if wanted == ALL else wanted), n - store.reused
