"""The two sets of a scan: rows read in bands, failed rows left out, norms bounded from above."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.mapped import closed, opened

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
_CHUNK = 1024
# A float64 sum of squares errs by far less than this, relatively.
_UP = 1 + 1e-9


class Side:
    """One set of N vectors; `rows` maps a position in the scan to the row that was given.

    x : (N, D) numpy array, memory map or torch tensor; it is read in bands, never copied whole, and
    kept as `vectors`.
    norm : (n,) float64, at least the length of each row that is not a failure.
    threads : bands measured side by side.
    """

    def __init__(self, x: Any, threads: int = 1) -> None:
        if hasattr(x, "detach"):
            x = x.detach().cpu().numpy()
        self.given = len(x)
        self.vectors = x
        good, norm = np.ones(len(x), bool), np.zeros(len(x))

        def measure(o: int) -> None:
            rows = np.asarray(x[o : o + _CHUNK], np.float32)
            good[o : o + _CHUNK] = np.isfinite(rows).all(axis=1)
            wide = rows.astype(np.float64)
            norm[o : o + _CHUNK] = np.sqrt(np.einsum("ij,ij->i", wide, wide)) * _UP

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(measure, range(0, len(x), _CHUNK)))
        self.rows = np.flatnonzero(good)
        self.norm = norm[good]
        self.dim = int(x.shape[1])
        self._plain = bool(good.all())
        # Rows that need neither conversion nor selection are used where they lie.
        self.resident = self._plain and np.asarray(x[:0]).dtype == np.float32

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        """Rows of a memory map travel as the name of their file."""
        return {**self.__dict__, "vectors": closed(self.vectors)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, vectors=opened(state["vectors"]))

    def band(self, a: int, b: int) -> NDArray[np.float32]:
        """Rows a..b of those that are not failures, (b - a, D) float32."""
        if self._plain:
            return np.asarray(self.vectors[a:b], np.float32)
        return np.asarray(self.vectors[self.rows[a:b]], np.float32)

    def pick(self, i: Ints) -> NDArray[np.float32]:
        """Rows at these positions, (P, D) float32."""
        return np.asarray(self.vectors[self.rows[i] if not self._plain else i], np.float32)

    def longest(self) -> float:
        """At least the length of the longest row; 0 where there is none."""
        return float(self.norm.max(initial=0.0))
