"""Screens: cheap products of encoded rows, with a proven bound of their distance from the score.

A row x becomes a = (P x, rho): P has p orthonormal rows (all of them, a rotation, or the first
principal directions) and rho >= |x - P'P x|, so x.y <= a.b and a.b - 2 rho_x rho_y <= x.y by Cauchy
and Schwarz.  The row a is stored as scale * code + r in some arithmetic.  Then

    |a.b - scale_a scale_b code_a.code_b| <= |r_a||b| + (|a| + |r_a|)|r_b|

with measured |r|.  Products of int8 codes are exact integers.  Products of float codes err by
gamma |a'||b'| for any order of summation, with or without FMA [Higham, Accuracy and Stability,
3.1], gamma = k u / (1 - k u) over k terms; a final rounding of the product is monotone, so rounding
the cut outwards covers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs.kernels.scratch import scratch
from evalkit.protocols.allpairs.screening.projection import Projection
from evalkit.protocols.allpairs.sides import Side
from evalkit.types import Floats

COLUMNS = 2048  # columns of a tile; they share one int8 scale
ROWS = 1024  # of a band, whose product stays in the cache until it is sifted
BANDS = 4  # of a tile: the overhead of Python per tile is shared by more pairs
_MORE = 4  # times `memory` on a GPU: codes still fit `memory` where another goes on without one
_U32, _U64 = 2.0**-24, 2.0**-53
_UP = 1 + 1e-9
Each = Callable[..., Iterable[Any]]  # map, or that of a pool


@dataclass(frozen=True, slots=True)
class Codes:
    """A band of n rows as a screen stores them; arrays of n float64 except the codes."""

    code: Any  # (n, k) numpy array or torch tensor
    scale: Floats
    residual: Floats  # >= |r|
    norm: Floats  # >= |a|
    rest: Floats  # rho


@dataclass(frozen=True, slots=True)
class Screen:
    """One way to multiply: an arithmetic, with or without a projection.

    arithmetic : "float64", "float32" (numpy), "torch-float32", "bfloat16" or "int8" (torch), and
        "cuda-float32", "cuda-int8", "triton-float32", "triton-int8" for a GPU.
    """

    arithmetic: str
    projection: Projection | None = None

    @property
    def name(self) -> str:
        """Name for display: the arithmetic and the number of directions."""
        p = self.projection
        return self.arithmetic if p is None else f"{self.arithmetic}/{len(p.matrix)}"

    @property
    def codes(self) -> str:
        """Number type of the codes: "float64", "float32", "bfloat16" or "int8"."""
        return self.arithmetic.rpartition("-")[2]

    @property
    def on_gpu(self) -> bool:
        """Whether tiles are multiplied and sifted on a GPU."""
        return self.arithmetic.startswith(("cuda", "triton"))

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of a tile; larger on a GPU, where calls are expensive."""
        return (16 * ROWS, 16 * COLUMNS) if self.on_gpu else (BANDS * ROWS, COLUMNS)

    @property
    def widths(self) -> list[int]:
        """Columns of a block, from its first, after which narrow early tiles end."""
        return [COLUMNS << n for n in range(4)] if self.on_gpu else [COLUMNS // 8, COLUMNS // 2]

    @property
    def in_flight(self) -> int | None:
        """Tiles at once on a GPU, whose memory they share; None: as many as threads ask for."""
        return 2 if self.on_gpu else None

    @property
    def key(self) -> type:
        """Number type of the keys; those of bfloat16 are its bits."""
        kinds = {"int8": np.int32, "bfloat16": np.int16, "float64": np.float64}
        return kinds.get(self.codes, np.float32)

    @property
    def plain_float(self) -> bool:
        """Whether keys are scores already, within the error of a candidate's score."""
        return self.projection is None and self.codes in ("float32", "float64")

    def in_place(self, side: Side) -> bool:
        """Whether the rows of `side` are their own codes."""
        plain = self.codes == "float32" and self.projection is None
        return plain and side.resident and not self.on_gpu

    def width(self, dim: int) -> int:
        """Entries of a code: those of P x, rho where p < D, and zeros as padding.

        Torch multiplies int8 matrices of one column wrongly on a processor, so codes come in
        eights; a GPU loads sixteen bytes at once, so there in sixteens.
        """
        p = self.projection
        k = dim if p is None else len(p.matrix) + (not p.whole)
        together = 16 if self.on_gpu else 8
        return -(-k // together) * together if self.codes == "int8" else k

    def bytes_per_row(self, side: Side) -> int:
        """Memory of one encoded row."""
        size = {"int8": 1, "bfloat16": 2, "float64": 8}.get(self.codes, 4)
        return 32 + (0 if self.in_place(side) else self.width(side.dim) * size)

    def room(self, memory: int) -> int:
        """Bytes for codes and what goes with them: `memory`, or a GPU's own where it has more."""
        if not self.on_gpu:
            return memory
        from evalkit.protocols.allpairs.kernels import on_gpu

        return max(memory, min(on_gpu.free() or 0, _MORE * memory))

    def encode(self, side: Side, a: int, b: int, *, each: Each = map) -> Codes:
        """Encode rows a..b; the rows of a tile share one int8 scale, so that one cut does.

        A GPU encodes the rows of its tiles itself, and the codes stay there.
        """
        p, n, step = self.projection, b - a, self.tile[1]
        scale, residual, norm, rest = np.ones(n), np.zeros(n), side.norm[a:b], np.zeros(n)
        if self.in_place(side):
            return Codes(self._stored(side.band(a, b)), scale, residual, norm, rest)
        code, norm = self._zeros((n, self.width(side.dim))), np.array(norm)

        def fill(o: int) -> None:
            part = slice(o, min(o + step, n))
            v = self._placed(side.band(a + part.start, a + part.stop))
            error: Floats | float = 0.0
            if p is not None:
                v, rest[part], error = _project(p, v, norm[part])
                norm[part] = _length(v) * _UP + error
            if self.codes == "int8":
                code[part, : v.shape[1]], scale[part], lost = _to_int8(v)
            else:
                code[part], lost = self._rounded(v)
            residual[part] = lost + error

        list((map if self.on_gpu else each)(fill, range(0, n, step)))
        return Codes(self._stored(code), scale, residual, norm, rest)

    def _zeros(self, shape: tuple[int, int]) -> Any:
        """Codes to be filled, on the device that multiplies them; of bfloat16 its bits."""
        if not self.on_gpu:
            return np.zeros(shape, np.int8 if self.codes == "int8" else self.key)
        from evalkit.protocols.allpairs.kernels import on_gpu

        return on_gpu.zeros(shape, self.codes)

    def _placed(self, x: NDArray[np.float32]) -> Any:
        """Rows, on the device that multiplies them."""
        if not self.on_gpu:
            return x
        from evalkit.protocols.allpairs.kernels import on_gpu

        return on_gpu.placed(x)

    def _rounded(self, v: Any) -> tuple[Any, Floats]:
        """Round rows to float codes: the codes, and at least the length of what each row lost."""
        if self.codes != "bfloat16":
            return v, np.zeros(len(v))
        from evalkit.protocols.allpairs.kernels import by_torch

        bits, lost = by_torch.to_bfloat16(v)
        return bits, lost * _UP

    def _stored(self, code: Any) -> Any:
        """Make codes torch's, where it multiplies."""
        if self.on_gpu or self.arithmetic in ("float32", "float64"):
            return code
        from evalkit.protocols.allpairs.kernels import by_torch

        return by_torch.tensor(code, bfloat16=self.codes == "bfloat16")

    def product(self, x: Any, y: Any) -> NDArray[Any]:
        """Multiply encoded rows into keys (m, n), which the thread's next product overwrites."""
        if self.arithmetic in ("float32", "float64"):
            out = scratch(self.arithmetic, (len(x), len(y)), x.dtype)
            return np.matmul(x, y.T, out=out)
        if self.on_gpu:
            from evalkit.protocols.allpairs.kernels import on_gpu

            return np.asarray(on_gpu.keys(x, y).cpu().numpy())
        from evalkit.protocols.allpairs.kernels import by_torch

        return by_torch.product(self.arithmetic, x, y)

    def error(self, x: Codes, i: slice, y: Codes, j: slice, k: int) -> tuple[Floats, Floats]:
        """Bound how far the scores of rows i may lie above and below the screened product."""
        u = {"int8": 0.0, "float64": _U64}.get(self.codes, _U32)
        gamma, tiny = k * u / (1 - k * u), k * 2.0**-148
        longest, left = y.norm[j].max(initial=0), y.residual[j].max(initial=0)
        rx, nx = x.residual[i], x.norm[i]
        e = rx * longest + (nx + rx) * left + gamma * (nx + rx) * (longest + left)
        e = e * _UP + (tiny if u else 0.0)
        return e, e + 2 * x.rest[i] * y.rest[j].max(initial=0) * _UP


def _length(v: Any) -> Floats:
    """Lengths of rows, (n,) numpy, of an array or a tensor."""
    if isinstance(v, np.ndarray):
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", v, v, dtype=np.float64)))
    length: Floats = v.double().square().sum(1).sqrt().cpu().numpy()
    return length


def _project(p: Projection, x: Any, long: Floats) -> tuple[Any, Floats, Floats]:
    """Compute (P x, rho), rho, and an error bound of P x, from rows and their length bounds.

    (P x, rho) is float32, an array or a tensor as `x`; the rest numpy float64.
    """
    error = p.error * long * _UP
    v = p.of_rows(x, spare=not p.whole)
    if p.whole:
        return v, np.zeros(len(x)), error
    short = np.maximum(_length(v[:, :-1]) * (1 - 1e-9) - error, 0)
    rho = np.sqrt(np.maximum(long**2 - short**2, 0)) * (1 + 1e-6)
    rounded = np.nextafter(rho.astype(np.float32), np.float32(np.inf))
    v[:, -1] = rounded if isinstance(v, np.ndarray) else v.new_tensor(rounded)
    return v, rounded.astype(np.float64), error


def _to_int8(v: Any) -> tuple[Any, Floats, Floats]:
    """Quantise to -127..127: codes, one scale for all rows, length of the rounding error.

    v : (n, k) float32 array or tensor; the codes are of its kind, still float32.
    """
    most = max(float(v.max()), -float(v.min())) if len(v) else 0.0
    # Rows too short for a scale are nought, and all of their length is dropped.
    scale = float(np.float32(most if most > 1e-30 else 1) / np.float32(127))
    code = (v / scale).round().clip(-127, 127)
    left = v - code * scale
    # float32 rounds code * scale and the difference: together under 2^-22 of the largest entry.
    slack = np.sqrt(v.shape[1]) * 2.0**-22 * most
    return code, np.full(len(v), scale), _length(left) * _UP + slack
