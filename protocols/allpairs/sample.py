"""First guesses from a sample of pairs, and the screen that suits: only speed depends on them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from evalkit.errors import ProtocolError
from evalkit.protocols.allpairs.checkpoints import Collector
from evalkit.protocols.allpairs.collect import Subjects, same_subject
from evalkit.protocols.allpairs.scan import Scan
from evalkit.protocols.allpairs.screens import Projection, Screen
from evalkit.protocols.allpairs.sides import Floats, Side

GPU_SCREENS = ("triton-int8", "triton-float32", "cuda-int8", "cuda-float32")
SCREENS = ("auto", "float32", "torch-float32", "bfloat16", "int8", *GPU_SCREENS)
_SEED = 0
_BLOCK = 128
_ROWS = 1 << 15
_COLUMNS = 256  # columns from which a row learns what is high for it
_EASY = 3  # the place among them from which a score is high for its row
_WORTH_TORCH = 2e11  # products: below, importing torch costs more than it saves
_WORTH_TRIAL = 2e10
_WORTH_GPU = 2e12  # below, a GPU is done before its kernels are compiled


class Sample:
    """Scores of impostor pairs in which every sampled row and column occurs equally often.

    Blocks of 128 x 128 along shifted diagonals of shuffled rows and columns: their effects,
    which dominate the variance of one large block, cancel; the spread between blocks is measured.
    """

    def __init__(self, scan: Scan, subjects: Subjects) -> None:
        rng = np.random.default_rng(_SEED)
        i = rng.permutation(len(scan.x))[:_ROWS]
        j = rng.permutation(len(scan.y))[:_ROWS]
        side = max(1, min(_BLOCK, len(i), len(j)))
        blocks = max(1, min(len(i), len(j)) // side)
        turns = int(np.clip(scan.pairs // 300 // max(1, blocks * side * side), 1, 16))
        a, b = scan.x.pick(np.sort(i)), scan.y.pick(np.sort(j))
        i, j = np.sort(i), np.sort(j)
        pi, pj = rng.permutation(len(i)), rng.permutation(len(j))
        parts, self.error = [], scan.error
        for turn in range(turns):
            for block in range(blocks):
                r = pi[block * side : (block + 1) * side]
                start = (block * side + turn * (len(j) // turns)) % len(j)
                c = pj[(start + np.arange(side)) % len(j)]
                score = a[r] @ b[c].T
                skip = same_subject(subjects[0][i[r]][:, None], subjects[1][j[c]][None, :])
                if scan.within:
                    skip |= i[r][:, None] == j[c][None, :]
                parts.append(score[~skip])
        self._parts = parts
        self._every = np.concatenate([*parts, np.empty(0, np.float32)])
        self._sorted = np.empty(0, np.float32)  # the highest, rising: as many as were asked for

    def reached_by(self, share: float) -> float:
        """Find a score that at least about twice this share of the impostor pairs reach."""
        place = int(max(2 * share * len(self._every), 60))
        return self._highest(place) - self.error

    def _highest(self, place: int) -> float:
        """Find the score that `place` others of the sample exceed; none exceed -inf."""
        n = len(self._every)
        if place >= n:
            return -np.inf
        if place >= len(self._sorted):
            part = min(n, max(2 * (place + 1), n // 6))
            self._sorted = np.sort(np.partition(self._every, n - part)[n - part :])
        return float(self._sorted[len(self._sorted) - 1 - place])

    def bracket(self, share: float) -> tuple[float, float]:
        """Bracket the score that this share of the impostor pairs exceed, four deviations wide."""
        n = len(self._every)
        if n < 1000:
            return -np.inf, np.inf
        middle = self._highest(min(n - 1, int(share * n)))
        over = np.array([np.count_nonzero(p > middle) / max(1, len(p)) for p in self._parts])
        deviation = max(float(over.std()) / np.sqrt(len(over)), np.sqrt(share / n))
        wide = 4 * deviation * n + 8
        first, last = int(share * n - wide), int(share * n + wide)
        high = self._highest(first) if first >= 0 else np.inf
        low = self._highest(last)
        return low - 2 * self.error, high + 2 * self.error


class RowLevels(NamedTuple):
    """Scores a row (m,), from a sample of columns; -inf where the sample is too small."""

    kth: Floats  # k pairs reach it for certain
    easy: Floats  # a few in a hundred reach it
    impostor: Floats  # an impostor pair reaches it for certain


def row_levels(scan: Scan, k: int, subjects: Subjects | None = None) -> RowLevels:
    """Learn from some columns what is high for a row; without subjects everybody is an impostor."""
    j = np.sort(np.random.default_rng(_SEED).permutation(len(scan.y))[:_COLUMNS])
    kth, easy, impostor = np.full((3, len(scan.x)), -np.inf)
    most = min(max(k, _EASY), len(j))
    if not most:
        return RowLevels(kth, easy, impostor)
    y = scan.y.pick(j).T
    for o in range(0, len(scan.x), 4096):
        rows = slice(o, min(o + 4096, len(scan.x)))
        score = scan.x.band(rows.start, rows.stop) @ y
        top = np.sort(np.partition(score, -most, axis=1)[:, -most:], axis=1)
        if k <= most:
            kth[rows] = top[:, -k] - scan.error
        easy[rows] = top[:, -min(_EASY, most)]
        if subjects is not None:
            score[same_subject(subjects[0][rows, None], subjects[1][None, j])] = -np.inf
        impostor[rows] = score.max(axis=1) - scan.error
    return RowLevels(kth, easy, impostor)


def choose_screen(scan: Scan, wanted: str, collectors: Sequence[Collector]) -> Screen:
    """Take the screen asked for, or by a short trial the one that costs least.

    A trial runs tiles of this very job, with its cuts and what they let through, so it sees
    the spectrum, the processor and the FARs at once.
    """
    arithmetic, _, directions = wanted.partition("/")
    if arithmetic not in SCREENS or not (directions or "1").isdecimal():
        raise ProtocolError(f"no screen is called {wanted!r}", f"one of {', '.join(SCREENS)}")
    if scan.wide or not scan.pairs:
        return Screen("float64")
    if arithmetic != "auto":
        if arithmetic != "float32" and not trusted(arithmetic):
            raise ProtocolError(
                f"the screen {arithmetic} needs a torch that has it"
                + (", and a GPU" if arithmetic in GPU_SCREENS else ""),
                "pip install torch",
            )
        p = int(directions) if directions else (scan.x.dim if "int8" in arithmetic else 0)
        return Screen(arithmetic, projection(scan, p) if p else None)
    if scan.pairs * scan.x.dim < _WORTH_TRIAL:
        return Screen("float32")
    screens = _candidates(scan)
    return min(screens, key=lambda s: scan.trial(s, collectors)) if screens[1:] else screens[0]


def _candidates(scan: Scan) -> list[Screen]:
    at_hand = "torch" in sys.modules or (
        scan.pairs * scan.x.dim >= _WORTH_TORCH and find_spec("torch")
    )
    plain, low = ["float32"], []
    if at_hand:
        gpu = [a for a in GPU_SCREENS if trusted(a)]
        low = [a for a in ("int8",) if trusted(a)]
        plain = ["torch-float32", *(a for a in ("bfloat16",) if trusted(a))]
        if gpu and scan.pairs * scan.x.dim >= _WORTH_GPU:  # Triton's where it works
            low, plain = [a for a in gpu if "int8" in a][:1], [a for a in gpu if "float" in a][:1]
    out, dim = [Screen(a) for a in plain], scan.x.dim
    directions, rest = principal_directions(scan)
    # A width that leaves little is for tails; one that leaves hardly anything for high FARs too.
    enough = [int(np.argmax(rest <= left)) for left in (0.05, 1e-4)]
    widths = sorted({-(-p // 32) * 32 for p in enough})
    # One place of each width is for the length of the rest.
    out += [
        Screen(a, projection(scan, p - 1, directions))
        for p in widths
        if 1 < p <= 0.75 * dim
        for a in (*low, plain[0])
    ]
    if low and widths[-1] > 0.75 * dim:
        out.append(Screen(low[0], projection(scan, dim)))
    return out


def trusted(arithmetic: str) -> bool:
    """Whether torch is here and multiplies as this screen must."""
    if not find_spec("torch"):
        return False
    from evalkit.protocols.allpairs import by_torch, on_gpu

    return bool((on_gpu if arithmetic in GPU_SCREENS else by_torch).trusted(arithmetic))


def projection(scan: Scan, p: int, directions: Floats | None = None) -> Projection:
    """Take the first p principal directions of a sample, or where p = D a rotation."""
    dim = scan.x.dim
    if not 0 < p <= dim:
        raise ProtocolError(f"{p} directions of {dim}", f"give 1 to {dim}")
    if p == dim:
        return Projection.of(np.eye(dim))
    directions = principal_directions(scan)[0] if directions is None else directions
    return Projection.of(directions[:p])


def principal_directions(scan: Scan) -> tuple[Floats, Floats]:
    """Eigenvectors (D, D) of a sample's second moment by falling eigenvalue, and what is left.

    The second is (D + 1,): the share of the energy that the first p directions leave out.
    """
    energy, vectors = np.linalg.eigh(_second_moment(scan.x) + _second_moment(scan.y))
    kept = np.cumsum(np.maximum(energy[::-1], 0))
    rest = 1 - np.append(0, kept) / (kept[-1] or 1)
    return np.asarray(vectors[:, ::-1].T), rest


def _second_moment(side: Side) -> Floats:
    rng = np.random.default_rng(_SEED)
    rows = side.pick(np.sort(rng.permutation(len(side))[:4096]))
    return np.asarray(rows.T @ rows, np.float64) / max(1, len(rows))
