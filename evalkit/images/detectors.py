"""Face detectors: the built-in MTCNN, those of installed packages, and `module:Class`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
from threading import Lock
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import users_code, users_sources
from evalkit.errors import ModelError, NoFaceError, SeveralFacesError
from evalkit.images import Picture

GROUP = "evalkit.detectors"
BUILT_IN = {"mtcnn": "evalkit.images.mtcnn:Mtcnn"}
FacePoints = NDArray[np.float32]
FaceChoice = Literal["centre", "largest", "only"]
CHOICES: tuple[FaceChoice, ...] = get_args(FaceChoice)
_REMEMBERED = 20_000  # pictures, whose faces a trial, a check and a run would ask for again


@runtime_checkable
class Detector(Protocol):
    """What a package offers, as a callable without arguments, in the group `evalkit.detectors`.

    fingerprint : name and version of the detector and its weights; features are kept under it, and
    those of `module:Class` under its code too.
    """

    fingerprint: str

    def detect(self, image: Picture) -> NDArray[np.floating[Any]]:
        """Find faces in (H, W, 3) RGB uint8: (F, 5, 2) points, in the order of `TEMPLATES`."""
        ...


class FaceFinder:
    """A detector asked once for each picture, by one thread at a time, its answers checked.

    fingerprint : the detector's, and the digest of its code where that is given.
    """

    def __init__(self, detector: Detector, code: str = "") -> None:
        self.fingerprint = f"{detector.fingerprint}, code {code}" if code else detector.fingerprint
        self._detector, self._alone = detector, Lock()  # it may keep state
        self._known: dict[bytes, FacePoints] = {}

    def find(self, image: Picture, key: str) -> FacePoints:
        """Find faces: (F, 5, 2) float32, F >= 1; the image is called `key` in errors.

        NoFaceError where there is none, ModelError where the detector fails or returns else.
        """
        picture = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()
        with self._alone:
            faces = self._known.get(picture)
            if faces is None:
                faces = self._asked(image, key)
                if len(self._known) < _REMEMBERED:
                    self._known[picture] = faces
        if not len(faces):
            raise NoFaceError(f"no face was found in {key}")
        return faces

    def _asked(self, image: Picture, key: str) -> FacePoints:
        who = f"detector {self._detector.fingerprint}"
        with users_code.blamed(who, f"failed on {key}"):
            faces = np.asarray(self._detector.detect(image.copy()))  # some draw what they found
        if faces.size == 0:
            return np.empty((0, 5, 2), np.float32)
        real = faces.shape[1:] == (5, 2) and faces.dtype.kind in "fiu"
        if not real or not np.isfinite(faces).all():
            raise ModelError(
                f"{who} returned {faces.dtype} of shape {faces.shape} for {key}",
                "expected (F, 5, 2), finite",
            )
        return faces.astype(np.float32)


def chosen(faces: FacePoints, image: Picture, choice: FaceChoice, key: str) -> FacePoints:
    """Choose one of an image's faces: (F, 5, 2), F >= 1, to (5, 2).

    choice : the face whose mean point is nearest the image's centre; the largest, whose points are
    furthest from their mean (root mean square); or the only one, SeveralFacesError where it is not.
    Of equal ones the first.
    """
    middle = faces.mean(axis=1, keepdims=True)
    if choice == "only":
        if len(faces) > 1:
            raise SeveralFacesError(f"{len(faces)} faces were found in {key}")
        best = 0
    elif choice == "largest":
        best = int(((faces - middle) ** 2).sum(axis=(1, 2)).argmax())
    else:
        centre = np.array([image.shape[1], image.shape[0]]) / 2
        best = int(np.linalg.norm(middle[:, 0] - centre, axis=1).argmin())
    return np.asarray(faces[best])


def load(name: str) -> Detector:
    """Make a detector: a built-in one, one that an installed package offers, or `module:Class`."""
    from importlib.metadata import entry_points

    offered = {e.name: e for e in entry_points(group=GROUP)}
    if name not in offered and ":" not in name and name not in BUILT_IN:
        here = ", ".join([*BUILT_IN, *sorted(offered)])
        raise ModelError(
            f"no detector is called {name!r}",
            f"known here: {here}; give module:Class, or install a package with one",
        )
    if name in offered:
        with contextlib.redirect_stdout(sys.stderr), users_code.blamed(f"detector {name}"):
            detector = offered[name].load()()
    else:
        detector = users_code.factory(BUILT_IN.get(name, name), "detector")
    if not isinstance(detector, Detector):
        raise ModelError(
            f"detector {name} gave a {type(detector).__name__} without detect, fingerprint"
        )
    return detector


@functools.cache
def finder(name: str) -> FaceFinder:
    """Make a detector once, with what it found so far.

    Of `module:Class` the code counts too: who changes it seldom thinks of its fingerprint.
    """
    detector = load(name)  # first: it makes the module's folder known
    code = users_sources.digest(users_code.module_of(name)) if ":" in name else ""
    return FaceFinder(detector, code)
