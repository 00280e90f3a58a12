"""Face-like feature sets of any size whose exact answer is known without comparing all pairs.

Every row is drawn from the spectrum of real face embeddings.  A subject's images lie close to its
centre, all other rows are independent, and each subject has one planted distractor close to its
first image.  Independent rows stay below a `ceiling` that follows from the spectrum and the number
of pairs, so every score above it is a genuine or a planted one, and those are few: their exact
scores give every threshold, TPR and rank that lies above the ceiling.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from evalkit import report as reports
from evalkit.errors import ProtocolError
from evalkit.files import as_path, whole_file
from evalkit.protocols import metrics
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.types import Estimate, Report
from evalkit.vectors import devkit_matrix

FARS = tuple(f"1e-{k}" for k in range(1, 13))
NOISE = (0.05, 0.27)  # an image's distance from its subject's centre of length 1: good to bad
CLOSEST = 0.97  # highest cosine of a planted distractor with the image it imitates
_BLOCK = 16384
_SPECTRUM = Path(__file__).parent / "datasets" / "data" / "face_spectrum512.txt"
_PROBES, _DISTRACTORS, _PLANTED, _PLACES, _ORDER = range(5)  # independent random streams


@dataclass(frozen=True)
class FaceSet:
    """What to draw: rows are subject 0's images, subject 1's, ..., then the distractors.

    One planted distractor a subject, at random places among the distractors.
    """

    subjects: int
    images: int
    distractors: int
    dim: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.subjects < 1 or self.images < 2:
            raise ProtocolError("a set needs at least one subject with two images")
        if self.distractors < self.subjects:
            raise ProtocolError(
                f"{self.subjects} subjects need as many distractors, there are {self.distractors}",
                "each subject has one planted distractor",
            )
        if self.ceiling > CLOSEST - 0.05:
            raise ProtocolError(
                f"in {self.dim} dimensions independent faces may reach cosine {self.ceiling:.2f}",
                "the answer is only known for more dimensions; take at least 128",
            )

    @property
    def probes(self) -> int:
        """Rows that belong to a subject."""
        return self.subjects * self.images

    @property
    def rows(self) -> int:
        """All rows."""
        return self.probes + self.distractors

    @cached_property
    def deviation(self) -> NDArray[np.float32]:
        """Standard deviation of each dimension, (dim,): the real spectrum in a random order."""
        table = np.loadtxt(_SPECTRUM)
        spectrum = table[np.minimum(np.arange(self.dim), len(table) - 1)]
        order = self._random(_ORDER).permutation(self.dim)
        return np.sqrt(spectrum[order]).astype(np.float32)

    @cached_property
    def ceiling(self) -> float:
        """Cosine that independent rows do not reach, but for one set in a thousand.

        Their cosine has mean 0 and standard deviation sqrt(sum l^2) / sum l for a spectrum l, and
        lighter tails than a Gaussian; N pairs of a Gaussian exceed z(1 - 0.001 / N) that rarely.
        """
        variance = self.deviation.astype(np.float64) ** 2
        spread = math.sqrt(float(np.square(variance).sum())) / float(variance.sum())
        return spread * float(-ndtri(1e-3 / (self.probes * self.rows)))

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Row of each subject's planted distractor, (subjects,)."""
        places = self._random(_PLACES).choice(self.distractors, self.subjects, replace=False)
        return self.probes + places.astype(np.int64)

    def subject(self) -> NDArray[np.int32]:
        """Subject of each row, (rows,); -1 = distractor."""
        of = np.full(self.rows, -1, np.int32)
        of[: self.probes] = np.repeat(np.arange(self.subjects, dtype=np.int32), self.images)
        return of

    def _random(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])

    def _face(self, random: np.random.Generator, n: int) -> NDArray[np.float32]:
        return normalise(random.standard_normal((n, self.dim), np.float32) * self.deviation)

    def images_of(self, subject: int) -> NDArray[np.float32]:
        """Draw the unit rows of one subject: (images, dim) float32."""
        random = self._random(_PROBES, subject)
        faces = self._face(random, 1 + self.images)
        noise = random.uniform(*NOISE, (self.images, 1)).astype(np.float32)
        return normalise(faces[:1] + noise * faces[1:])

    def planted(self, subject: int) -> NDArray[np.float32]:
        """Draw the distractor that imitates a subject's first image: (1, dim) float32."""
        random = self._random(_PLANTED, subject)
        x = self.images_of(subject)[0].astype(np.float64)
        other = self._face(random, 1)[0].astype(np.float64)
        other -= x * (other * x).sum()
        other /= math.sqrt(float((other * other).sum()))
        cosine = random.uniform(self.ceiling, CLOSEST)
        return normalise((cosine * x + math.sqrt(1 - cosine**2) * other)[None])

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield all rows in order, unit length, a block at a time; the same for every machine."""
        for first in range(0, self.subjects, 256):
            last = min(first + 256, self.subjects)
            yield np.concatenate([self.images_of(s) for s in range(first, last)])
        by_row = np.argsort(self.places)
        for o in range(0, self.distractors, _BLOCK):
            start, n = self.probes + o, min(_BLOCK, self.distractors - o)
            rows = self._face(self._random(_DISTRACTORS, o // _BLOCK), n)
            low, high = np.searchsorted(self.places[by_row], [start, start + n])
            for s in by_row[low:high]:
                rows[self.places[s] - start] = self.planted(int(s))[0]
            yield rows


def answer(faces: FaceSet, fars: Sequence[str] = FARS, fpir: str = "1e-3") -> Report:
    """Give the exact numbers of `evalkit trillion` on this set, from the few scores that matter.

    Those that lie below the ceiling are None: they would need all pairs.
    """
    i, j = np.triu_indices(faces.images, 1)
    genuine = np.empty((faces.subjects, len(i)))
    planted = np.empty((faces.subjects, faces.images))
    for s in range(faces.subjects):
        x, y = normalise(faces.images_of(s)), normalise(faces.planted(s))
        genuine[s] = exact_scores(x, i, x, j)
        planted[s] = exact_scores(x, np.arange(len(x)), y, np.zeros(len(x), np.int64))
    # Each unordered pair is searched from both sides.
    probe, mate = np.concatenate([i, j]), np.concatenate([genuine, genuine], axis=1)
    first = mate >= planted[:, probe]
    pairs = faces.probes * faces.distractors
    found = {f"tpr@far={far}": _tpr(faces, genuine, planted, far, pairs) for far in fars}
    hit = np.where(first, mate, -np.inf)
    found[f"tpir@fpir={fpir}"] = _tpr(faces, hit, planted, fpir, faces.probes)
    lowest = float(mate.min())
    found[f"rank-1@distractors={faces.distractors}"] = (
        metrics.rank_within(first.ravel().astype(np.int64), 1)
        if lowest > faces.ceiling
        else Estimate(value=None, note=f"a mate scores {lowest:.3f}, not above the ceiling")
    )
    provenance = {
        "made by": "evalkit synth",
        **{name: getattr(faces, name) for name in ("subjects", "images", "distractors", "dim")},
        "seed": faces.seed,
        "ceiling": faces.ceiling,
    }
    return Report(protocol="trillion", protocol_version=1, metrics=found, provenance=provenance)


def _tpr(
    faces: FaceSet,
    genuine: NDArray[np.float64],
    known: NDArray[np.float64],
    far: str,
    impostors: int,
) -> Estimate:
    """TPR at the lowest threshold with FAR at most x, if that lies among the known scores."""
    top = np.sort(known, axis=None)[::-1]
    allowed = metrics.false_accepts_allowed(far, impostors)
    if allowed and (allowed >= len(top) or top[allowed] <= faces.ceiling):
        return Estimate(value=None, note=f"needs scores below {faces.ceiling:.3f}")
    return metrics.tpr_of_highest(far, genuine.ravel(), top, impostors)


def write(
    faces: FaceSet, folder: str | os.PathLike[str], kind: Literal["npy", "bin"] = "npy"
) -> Iterator[int]:
    """Write features.npy or features.bin (a devkit matrix), subjects.txt and answer.json.

    Yields the rows done after each block.  Line i of subjects.txt is the subject of row i, - for a
    distractor.  Memory: one block.
    """
    folder = as_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    with whole_file(folder / f"features.{kind}") as f:
        if kind == "npy":
            shape = {"descr": "<f4", "fortran_order": False, "shape": (faces.rows, faces.dim)}
            np.lib.format.write_array_header_1_0(f, shape)
        else:
            f.write(devkit_matrix.header(faces.rows, faces.dim))
        for rows in faces.blocks():
            f.write(np.ascontiguousarray(rows, "<f4").data)
            done += len(rows)
            yield done
    with whole_file(folder / "subjects.txt") as f:
        for s in range(faces.subjects):
            f.write(f"{s}\n".encode() * faces.images)
        f.write(b"-\n" * faces.distractors)
    reports.write(answer(faces), folder / "answer.json")
