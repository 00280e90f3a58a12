"""The two sets of a scan: rows read in bands, failed rows excluded, norms bounded from above."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.made_rows import UNIT, MadeRows
from evalkit.protocols.allpairs.rows_on_disk import closed, opened
from evalkit.types import Floats, Ints

Subjects = tuple[Ints, Ints]  # of the positions of both sides of a scan
_CHUNK = 1024
_TERMS = 64  # squares that float32 sums, where the dimension allows it


class Side:
    """One set of N vectors; `rows` maps a position in the scan to a row of `vectors`.

    x : (N, D) numpy array, memory map or `MadeRows`; it is read in bands, never copied whole, and
    kept as `vectors`.
    rows : (n,) those that are not failures; all of them, a slice, where none is.
    norm : (n,) float64, at least the length of each of them.
    threads : bands measured in parallel.
    """

    def __init__(self, x: Any, threads: int = 1) -> None:
        self.total = len(x)  # failed rows included
        self.vectors = x
        if isinstance(x, MadeRows) and x.failed is not None:
            good, norm = ~x.lost, np.broadcast_to(UNIT, len(x))
        else:
            norm = _measured(x, threads)
            good = np.isfinite(norm)
        plain = bool(good.all())
        self.rows = slice(None) if plain else np.flatnonzero(good)
        self.norm = norm[self.rows]
        self.dim = int(x.shape[1])
        # Rows that need neither conversion nor selection are used where they lie.
        self.resident = plain and isinstance(x, np.ndarray) and x.dtype == np.float32

    def __len__(self) -> int:
        return len(self.norm)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle rows of a memory map as the name of their file."""
        return {**self.__dict__, "vectors": closed(self.vectors)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, vectors=opened(state["vectors"]))

    def band(self, a: int, b: int) -> NDArray[np.float32]:
        """Read rows a..b of those that are not failures, (b - a, D) float32."""
        rows = slice(a, b) if isinstance(self.rows, slice) else self.rows[a:b]
        return np.asarray(self.vectors[rows], np.float32)

    def pick(self, i: Ints) -> NDArray[np.float32]:
        """Read the rows at these positions, (P, D) float32."""
        return np.asarray(self.vectors[self.row(i)], np.float32)

    def distinct(self, i: Ints) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Read the rows at these positions, each once where they lie near each other.

        i : (P,).  Returns (R, D) rows, R <= P, and the place of each position among them, (P,).
        """
        positions, place = distinct(i)
        return self.pick(positions), place

    def row(self, i: Ints) -> NDArray[np.int64]:
        """Rows of `vectors` at these positions."""
        return np.asarray(i if isinstance(self.rows, slice) else self.rows[i], np.int64)

    def marks(self) -> tuple[NDArray[Any], ...]:
        """Arrays that tell this set from another, short of all its values."""
        x = self.vectors
        arrays = [*x.columns, x.sums, x.rows] if isinstance(x, MadeRows) else [self.norm]
        return tuple(a for a in (*arrays, self.rows) if isinstance(a, np.ndarray))

    def longest(self) -> float:
        """Upper bound of the rows' lengths; 0 without rows."""
        return float(self.norm.max(initial=0.0))


def distinct(i: Ints) -> tuple[Ints, NDArray[np.intp]]:
    """Give each of the whole numbers (P,) once, rising, and the place of each among them.

    Where they lie too far apart for a table of all between, they are given as they are.
    """
    first, last = (int(i.min()), int(i.max())) if len(i) else (0, 0)
    if last - first >= 4 * len(i):
        return i, np.arange(len(i))
    there = np.zeros(last - first + 1, bool)
    there[i - first] = True
    place = np.cumsum(there, dtype=np.intp) - 1
    return np.flatnonzero(there) + first, place[i - first]


def same_subject(a: Any, b: Any) -> NDArray[np.bool_]:
    """Whether pairs are genuine: equal subjects other than -1, which is unlabelled."""
    same: NDArray[np.bool_] = (a == b) & (a >= 0)
    return same


def _measured(x: Any, threads: int) -> Floats:
    """Tight upper bound of the length of each row of a set, (N,); not finite where a row is not."""
    norm = np.zeros(len(x))

    def measure(o: int) -> None:
        norm[o : o + _CHUNK] = _lengths(np.asarray(x[o : o + _CHUNK], np.float32))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(measure, range(0, len(x), _CHUNK)))
    return norm


def _lengths(rows: NDArray[np.float32]) -> Floats:
    """Tight upper bound of the length of each row, (n,); not finite where a row is not.

    float32 sums of n squares err by at most (n + 1) 2^-24 of themselves, so roots by half of that;
    where squares could leave the range of float32, float64 takes over.
    """
    dim = rows.shape[1]
    terms = _TERMS if dim % _TERMS == 0 else dim
    parts = rows.reshape(len(rows), -1, terms) if dim else rows[:, None]
    with np.errstate(over="ignore", under="ignore"):
        square = np.einsum("ijk,ijk->ij", parts, parts).sum(axis=1, dtype=np.float64)
    length: Floats = np.sqrt(square) * (1 + (terms + 2) * 2.0**-24)
    rare = np.flatnonzero(~((length > 1e-8) & (length < 1e15)))
    if len(rare):
        wide = rows[rare].astype(np.float64)
        length[rare] = np.sqrt(np.einsum("ij,ij->i", wide, wide)) * (1 + 1e-9)
    return length
