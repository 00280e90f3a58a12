"""Scores of listed pairs: exact, or faster with a known error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np

from evalkit.protocols.allpairs.kernels import by_numpy
from evalkit.protocols.allpairs.sides import Side
from evalkit.types import Floats, Ints

MANY = 1 << 18  # listed pairs, about two seconds of exact scores: worth sending to workers
_PART = 1 << 14  # pairs that a thread scores at a time
_U64 = 2.0**-53
_WORTH_NUMBA = 2e11  # products: below, importing numba costs more than it saves


class PairScores:
    """Scores of positions (i, j) of x and y, or of x with itself once (i < j).

    error : |score - exact score| of `rough` and `score`, and of a tile's candidates.
    rounding : error bound of any float32 product, `settled` of any float64 product, for any order
    of sums.
    threads : of `rough` and `exact`.
    shared : function (x, i, y, j) that scores many pairs exactly on workers; None: this process.
    compiled : use numba's loops; None: where numba is installed and the job is large enough.
    """

    def __init__(
        self,
        x: Side,
        y: Side | None,
        *,
        threads: int = 1,
        shared: Callable[..., Floats] | None = None,
        compiled: bool | None = None,
    ) -> None:
        self.x, self.y = x, x if y is None else y
        self.within = y is None
        self.threads, self._shared, self.compiled = threads, shared, compiled
        longest, d = x.longest() * self.y.longest(), x.dim
        self.settled = 4 * d * _U64 * longest
        gamma = (d + 1) * 2.0**-24 / (1 - (d + 1) * 2.0**-24)
        # Outside these lengths float32 products overflow or vanish: then float64 screens.
        self.wide = not (1e-12 < longest < 1e24)
        self.pairs = len(x) * (len(x) - 1) // 2 if self.within else len(x) * len(self.y)
        if self.compiled is None:
            self.compiled = "numba" in sys.modules or self.pairs * d >= _WORTH_NUMBA
        # Compiled, candidates cost as much in float64 as in float32, and leave less to settle.
        self.fine = self.loops is not by_numpy
        self.rounding = gamma * longest + d * 2.0**-148
        self.error = self.settled if self.wide or self.fine else self.rounding

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the workers, which stay with this process."""
        return {**self.__dict__, "_shared": None}

    def rough(self, i: Ints, j: Ints) -> Floats:
        """Score pairs within `error` of the exact score, fast."""
        return self._in_threads(self.score, i, j)

    def score(self, i: Ints, j: Ints) -> Floats:
        """Score pairs within `error` of the exact score, in this thread."""
        if self.fine and self.loops is not by_numpy:
            products: Floats = self.loops.products(self.x, i, self.y, j)
            return products
        if self.fine or self.wide:
            return self.approximate(i, j)
        return by_numpy.products(self.x, i, self.y, j)

    def approximate(self, i: Ints, j: Ints) -> Floats:
        """Score pairs in float64: within `settled` of the exact score, whatever the order."""
        out = np.empty(len(i))
        step = min(4096, max(1, (1 << 20) // max(1, self.x.dim)))
        for o in range(0, len(i), step):
            a = self.x.pick(i[o : o + step]).astype(np.float64)
            out[o : o + step] = np.einsum("ij,ij->i", a, self.y.pick(j[o : o + step]))
        return out

    def exact(self, i: Ints, j: Ints) -> Floats:
        """Score pairs exactly, rounded once."""
        if self._shared is not None and len(i) > MANY:
            x, y = self.x, self.y
            return self._shared(x.vectors, x.row(i), y.vectors, y.row(j))
        loops = self.loops if self.fine else by_numpy
        return self._in_threads(lambda i, j: loops.exact(self.x, i, self.y, j), i, j)

    def _in_threads(self, score: Callable[[Ints, Ints], Floats], i: Ints, j: Ints) -> Floats:
        """Score pairs in parts, side by side."""
        if len(i) <= _PART:
            return score(i, j)
        out = np.empty(len(i))

        def one(o: int) -> None:
            out[o : o + _PART] = score(i[o : o + _PART], j[o : o + _PART])

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(one, range(0, len(i), _PART)))
        return out

    @property
    def loops(self) -> ModuleType:
        """The module that sifts tiles and scores pairs: `by_numba`, or `by_numpy`."""
        chosen = loops(bool(self.compiled))
        self.compiled = chosen is not by_numpy
        return chosen


def loops(compiled: bool) -> ModuleType:
    """Choose `by_numba` where that is wanted and works, else `by_numpy`."""
    if compiled:
        try:
            from evalkit.protocols.allpairs.kernels import by_numba
        # Not installed, not built for this numpy, or no folder for the compiled code.
        except (ImportError, RuntimeError):
            return by_numpy
        return by_numba
    return by_numpy
