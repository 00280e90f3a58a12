"""Sifting of tiles on a GPU, which returns only candidates and counts.

By torch's products and comparisons, or by one Triton kernel that multiplies, compares and counts in
registers.  Both run on a processor too, slowly: so their tests need no GPU.  A tile that is too
large for the memory at hand, or holds too many candidates, is sifted in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evalkit.memory import is_out_of_memory
from evalkit.protocols.allpairs.kernels import by_torch
from evalkit.protocols.allpairs.kernels.by_numpy import Level, Sifted
from evalkit.protocols.allpairs.kernels.room import TooManyError, room_for

_BYTES = 9  # of a pair in torch's products and masks, keys included
_SHARE = 0.4  # of the free memory for a tile: two are at work, see `Screen.in_flight`

Sift = Callable[[Any, Any, Sequence[Level], int | None], Sifted]


def sift(
    arithmetic: str, x: Any, y: Any, levels: Sequence[Level], offset: int | None = None
) -> Sifted:
    """Sift a tile of codes (m, k) and (n, k), in as many bands of rows as the memory asks for.

    levels : closed ones first.  offset : j0 - i0 where only pairs with j > i count.  MemoryError
    where not even one row fits.
    """
    way, m, n = _way(arithmetic), len(x), max(1, len(y))
    rows = m
    if arithmetic.startswith("cuda") and (unused := free()) is not None:
        rows = max(1, min(m, int(unused * _SHARE) // (_BYTES * n)))
    parts, start = list[Sifted](), 0
    while start < m:
        band = slice(start, min(start + rows, m))
        cuts = [Level(w.below[band], None if w.above is None else w.above[band]) for w in levels]
        try:
            part = way(x[band], y, cuts, None if offset is None else offset - start)
        except TooManyError as e:
            rows = max(1, min(rows // 2, rows * room_for(n) // (2 * e.count)))
            continue
        except Exception as e:
            if not is_out_of_memory(e):
                raise
            _forget()
            if rows == 1:
                raise MemoryError(f"a row of {n:,} pairs does not fit the GPU: {e}") from e
            rows = -(-rows // 2)
            continue
        parts.append(part._replace(i=part.i + start))
        start = band.stop
    i, j, key = (np.concatenate([part[c] for part in parts]) for c in range(3))
    return Sifted(i, j, key, np.sum([part.above for part in parts], axis=0, dtype=np.int64))


def _way(arithmetic: str) -> Sift:
    """Return the function that sifts one band of rows."""
    if arithmetic.startswith("cuda"):
        return _by_torch
    from evalkit.protocols.allpairs.kernels import by_triton

    return by_triton.sift


def free() -> int | None:
    """Bytes of the GPU that are free or that torch holds unused; None where it cannot be told."""
    if by_torch.GPU is None or torch.device(by_torch.GPU).type != "cuda":
        return None
    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return int(torch.cuda.mem_get_info()[0] + unused)


def _forget() -> None:
    """Give back what torch holds unused."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def placed(x: NDArray[Any]) -> Any:
    """Copy rows to the GPU."""
    return by_torch.tensor(x).to(by_torch.GPU)


def zeros(shape: tuple[int, int], codes: str) -> Any:
    """Codes on the GPU, to be filled; codes : "int8" or "float32"."""
    return torch.zeros(shape, dtype=getattr(torch, codes), device=by_torch.GPU)


def keys(x: Any, y: Any) -> Any:
    """Multiply codes (m, k) and (n, k) into (m, n) int32 or float32 keys on their device."""
    if x.dtype != torch.int8:
        return x @ y.T
    # int8 products on a GPU need more than 16 rows, on the newest more, and columns in sixteens.
    m, n = len(x), len(y)
    x = torch.nn.functional.pad(x, (0, 0, 0, max(0, 32 - m)))
    y = torch.nn.functional.pad(y, (0, 0, 0, -n % 16))
    return torch._int_mm(x, y.T)[:m, :n]


def _by_torch(x: Any, y: Any, levels: Sequence[Level], offset: int | None) -> Sifted:
    key = keys(x, y)
    once = None
    if offset is not None:
        i, j = (torch.arange(s, device=key.device) for s in key.shape)
        once = j[None, :] + offset > i[:, None]
    inside, surely = torch.zeros(key.shape, dtype=torch.bool, device=key.device), []
    for below, above in levels:
        part = key > torch.from_numpy(below).to(key.device)[:, None]
        if above is not None:
            over = key > torch.from_numpy(above).to(key.device)[:, None]
            part &= ~over
            surely.append((over if once is None else over & once).sum())
        inside |= part
    if once is not None:
        inside &= once
    flat = inside.flatten().nonzero().flatten()
    places, values = flat.cpu().numpy(), key.flatten()[flat].cpu().numpy()
    return Sifted.of(places, key.shape[1], values, [int(s) for s in surely])


def problem(arithmetic: str) -> str:
    """Why a GPU's products are not to be had, or not exact where weak kernels err; "" if neither.

    Whatever fails on the way is a reason: a missing compiler, a full disk, a card too old.
    """
    if by_torch.GPU is None:
        return "torch finds no GPU"
    rng = np.random.default_rng(0)
    try:
        for m, k, n in ((3, 48, 5), (64, 128, 96), (65, 128, 33), (1, 512, 1)):
            a, b = (rng.choice([-127, 127], (rows, k)) for rows in (m, n))
            kind = torch.int8 if arithmetic.endswith("int8") else torch.float32
            x, y = (torch.from_numpy(v).to(by_torch.GPU, kind) for v in (a, b))
            cut = np.full(m, -(2**24)).astype(np.int32 if kind == torch.int8 else np.float32)
            sifted = sift(arithmetic, x, y, [Level(cut)])
            all_pairs = np.array_equal(sifted.i * n + sifted.j, np.arange(m * n))
            if not (all_pairs and (sifted.key == (a @ b.T).ravel()).all()):
                return f"its products by {arithmetic} are not exact"
    except Exception as e:  # of CUDA, Triton, the compiler that it starts, the system
        _forget()
        return " ".join(f"{type(e).__name__}: {e}".split())[:300]
    return ""
