"""First guesses from a sample of pairs, and the screen that suits: only speed depends on them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from evalkit.errors import ProtocolError
from evalkit.protocols.allpairs.checkpoints import Collector
from evalkit.protocols.allpairs.scan import Scan
from evalkit.protocols.allpairs.screens import Projection, Screen
from evalkit.protocols.allpairs.sides import Floats, Side, Subjects, same_subject

GPU_SCREENS = ("triton-int8", "triton-float32", "cuda-int8", "cuda-float32")
SCREENS = ("auto", "float32", "torch-float32", "bfloat16", "int8", *GPU_SCREENS)
_SEED = 0
_GROUPS = 256
_ROWS = 1 << 15
_COLUMNS = 256  # columns from which a row learns what is high for it
_EASY = 3  # the place among them from which a score is high for its row
_LITTLE, _HARDLY = 0.05, 1e-4  # of the energy
_DEPTH = 64  # terms of a projection that float32 sums
_WORTH_TORCH = 2e11  # products: below, importing torch costs more than it saves
_WORTH_TRIAL = 2e10
_WORTH_GPU = 2e12  # below, a GPU is done before its kernels are compiled


class Sample:
    """Scores of impostor pairs in which every sampled row and column occurs equally often.

    Shuffled rows and columns are cut into 256 groups each, and each group of rows meets `turns`
    groups of columns along shifted diagonals: what a row or a column adds to its scores, most of
    the variance of one large block, cancels where all of them are in the sample.
    """

    def __init__(self, scan: Scan, subjects: Subjects, turns: int) -> None:
        rng = np.random.default_rng(_SEED)
        self.error, self._covered = scan.rounding, []
        groups = min(_GROUPS, len(scan.x), len(scan.y))
        rows = []
        for side in (scan.x, scan.y):
            count = min(len(side), _ROWS) // groups
            rows.append(rng.permutation(len(side))[: count * groups].reshape(groups, count))
            self._covered.append(count * groups / max(1, len(side)))
        self._columns = (np.arange(groups) + (groups // turns) * np.arange(turns)[:, None]) % groups
        self._parts = []
        for r, c in zip(np.tile(np.arange(groups), turns), self._columns.ravel(), strict=True):
            i, j = rows[0][r], rows[1][c]
            skip = same_subject(subjects[0][i][:, None], subjects[1][j][None, :])
            if scan.within:
                skip |= i[:, None] == j[None, :]
            self._parts.append((scan.x.pick(i) @ scan.y.pick(j).T)[~skip])
        self._every = np.concatenate([*self._parts, np.empty(0, np.float32)])
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
        over = [np.count_nonzero(p > middle) / max(1, len(p)) for p in self._parts]
        deviation = max(self._deviation(np.reshape(over, self._columns.shape)), np.sqrt(share / n))
        wide = 4 * deviation * n + 8
        first, last = int(share * n - wide), int(share * n + wide)
        high = self._highest(first) if first >= 0 else np.inf
        low = self._highest(last)
        return low - 2 * self.error, high + 2 * self.error

    def _deviation(self, over: Floats) -> float:
        """Estimate the standard error of the mean of shares (turns, groups) two-way.

        What rows (and columns) add is an error only as far as some are outside the sample.
        """
        turns, groups = over.shape
        if turns < 3:  # cannot tell one from the other
            return float(over.std() / np.sqrt(over.size))
        left = over - over.mean()
        row, column = np.zeros(groups), np.zeros(groups)
        for _ in range(20):  # least squares, by turns
            row = (left - column[self._columns]).mean(axis=0)
            residue = left - row
            column = np.bincount(self._columns.ravel(), residue.ravel(), groups) / turns
        spread = (left - row - column[self._columns]).var() * turns / (turns - 2)
        outside = 1 - np.array(self._covered)
        variance = spread / over.size + outside @ [row.var(), column.var()] / groups
        return float(np.sqrt(variance))


class RowLevels(NamedTuple):
    """Scores a row (m,), from a sample of columns; -inf where the sample is too small."""

    kth: Floats  # k pairs reach it for certain
    easy: Floats  # a few in a hundred reach it
    impostor: Floats  # an impostor pair reaches it for certain
    late_kth: Floats  # about where the first and the third are once all columns have been seen
    late_impostor: Floats


def row_levels(scan: Scan, k: int, subjects: Subjects | None = None) -> RowLevels:
    """Learn from some columns what is high for a row; without subjects everybody is an impostor."""
    j = np.sort(np.random.default_rng(_SEED).permutation(len(scan.y))[:_COLUMNS])
    kth, easy, impostor, first = np.full((4, len(scan.x)), -np.inf)
    most = min(max(k, _EASY), len(j))
    if not most:
        return RowLevels(kth, easy, impostor, kth, impostor)
    y = scan.y.pick(j).T
    for o in range(0, len(scan.x), 4096):
        rows = slice(o, min(o + 4096, len(scan.x)))
        score = scan.x.band(rows.start, rows.stop) @ y
        top = np.sort(np.partition(score, -most, axis=1)[:, -most:], axis=1)
        if k <= most:
            kth[rows] = top[:, -k] - scan.rounding
        easy[rows], first[rows] = top[:, -min(_EASY, most)], top[:, -1]
        if subjects is not None:
            score[same_subject(subjects[0][rows, None], subjects[1][None, j])] = -np.inf
        impostor[rows] = score.max(axis=1) - scan.rounding
    return RowLevels(
        kth,
        easy,
        impostor,
        np.maximum(kth, _highest(first, k * len(j) / len(scan.y))),
        np.maximum(impostor, _highest(impostor, len(j) / len(scan.y))),
    )


def _highest(score: Floats, share: float) -> float:
    """Find the score that this share of them reach; none reach inf."""
    if not len(score):
        return np.inf
    place = min(len(score), max(1, round(share * len(score))))
    return float(np.partition(score, -place)[-place])


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
        return _projected(scan, arithmetic, p) if p else Screen(arithmetic)
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
        low = [a for a in ("int8", "bfloat16") if trusted(a)]
        plain = ["torch-float32"]
        if gpu and scan.pairs * scan.x.dim >= _WORTH_GPU:  # Triton's where it works
            low, plain = [a for a in gpu if "int8" in a][:1], [a for a in gpu if "float" in a][:1]
    dim = scan.x.dim
    directions, rest = principal_directions(scan)
    # A width that leaves little is for tails; one that leaves hardly anything for high FARs too.
    enough = [int(np.argmax(rest <= left)) for left in (_LITTLE, _HARDLY)]
    # One place of each width is for the length of the rest.
    widths = sorted({-(-(p + 1) // 16) * 16 for p in enough})
    short = [p for p in widths if p <= 0.75 * dim]
    out = [_projected(scan, low[0], p - 1, directions) for p in short if low]
    if short == widths:
        return [*out, _projected(scan, plain[0], widths[-1] - 1, directions)]
    out += [Screen(plain[0]), *(Screen("bfloat16") for a in low if a == "bfloat16")]
    return out + [_projected(scan, a, dim) for a in low[:1] if a.endswith("int8")]


def trusted(arithmetic: str) -> bool:
    """Whether torch is here and multiplies as this screen must."""
    if not find_spec("torch"):
        return False
    from evalkit.protocols.allpairs import by_torch, on_gpu

    return bool((on_gpu if arithmetic in GPU_SCREENS else by_torch).trusted(arithmetic))


def _projected(scan: Scan, arithmetic: str, p: int, directions: Floats | None = None) -> Screen:
    """Take the first p principal directions of a sample, or where p = D a rotation."""
    dim = scan.x.dim
    if not 0 < p <= dim:
        raise ProtocolError(f"{p} directions of {dim}", f"give 1 to {dim}")
    if p == dim:
        directions = np.eye(dim)
    elif directions is None:
        directions = principal_directions(scan)[0]
    # A float screen would feel what float32 loses in long sums; int8 would not.
    depth = _DEPTH if arithmetic.endswith("float32") else dim
    return Screen(arithmetic, Projection.of(directions[:p], depth))


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
