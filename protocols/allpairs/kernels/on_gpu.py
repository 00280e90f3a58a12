"""Sifting of tiles on a GPU, which returns only candidates and counts.

By torch's products and comparisons, or by one Triton kernel that multiplies, compares and counts in
registers.  Both run on a processor too, slowly: so their tests need no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from evalkit.protocols.allpairs.kernels import by_torch
from evalkit.protocols.allpairs.kernels.by_numpy import Level, Sifted

Sift = Callable[[Any, Any, Sequence[Level], int | None], Sifted]


def sift(arithmetic: str) -> Sift:
    """Return the function that sifts tiles of codes (m, k) and (n, k) by an arithmetic.

    It takes the levels, closed ones first, and j0 - i0 where only pairs with j > i count.
    """
    if arithmetic.startswith("cuda"):
        return partial(_by_torch, arithmetic)
    from evalkit.protocols.allpairs.kernels import by_triton

    return by_triton.sift


def keys(x: Any, y: Any) -> Any:
    """Multiply codes (m, k) and (n, k) into (m, n) int32 or float32 keys on their device."""
    if x.dtype != torch.int8:
        return x @ y.T
    # int8 products on a GPU need more than 16 rows, and columns in eights.
    m, n = len(x), len(y)
    x = torch.nn.functional.pad(x, (0, 0, 0, max(0, 17 - m)))
    y = torch.nn.functional.pad(y, (0, 0, 0, -n % 8))
    return torch._int_mm(x, y.T)[:m, :n]


def _by_torch(
    arithmetic: str, x: Any, y: Any, levels: Sequence[Level], offset: int | None
) -> Sifted:
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


def trusted(arithmetic: str) -> bool:
    """Whether there is a GPU, and its products are exact where weak kernels err."""
    if by_torch.GPU is None:
        return False
    rng = np.random.default_rng(0)
    for m, k, n in ((3, 40, 5), (64, 128, 96), (65, 128, 33), (1, 512, 1)):
        a, b = (rng.choice([-127, 127], (rows, k)) for rows in (m, n))
        kind = torch.int8 if arithmetic.endswith("int8") else torch.float32
        x, y = (torch.from_numpy(v).to(by_torch.GPU, kind) for v in (a, b))
        level = Level(np.full(m, -(2**24)).astype(np.int32 if kind == torch.int8 else np.float32))
        try:
            sifted = sift(arithmetic)(x, y, [level], None)
        except (RuntimeError, ImportError, AttributeError, NotImplementedError):
            return False
        all_pairs = np.array_equal(sifted.i * n + sifted.j, np.arange(m * n))
        if not (all_pairs and (sifted.key == (a @ b.T).ravel()).all()):
            return False
    return True
