"""Triton kernel for a tile: product, comparison and count in registers; candidates are appended.

The scores of a tile are never written: that would cost more than computing them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl

from evalkit.protocols.allpairs.kernels.by_numpy import Level, Sifted
from evalkit.protocols.allpairs.kernels.room import TooManyError, room_for

# Blocks by whether codes are int8: so small that the registers of two fit a multiprocessor, where
# one multiplies while the other compares.
BLOCKS: dict[bool, dict[str, int]] = {
    True: {"rows": 128, "columns": 64, "depth": 64, "num_warps": 8, "maxnreg": 128},
    False: {"rows": 64, "columns": 64, "depth": 32, "num_warps": 4},
}


@triton.jit(do_not_specialize=["m", "n", "offset", "room"])  # else each tile's sizes compile anew
def _kernel(  # type: ignore[no-untyped-def]
    x, y, below, above, place, key, counts, m, n, k, offset, room,
    once: tl.constexpr, levels: tl.constexpr, closed: tl.constexpr, whole: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """Sift one block of rows and columns; counts[0]: candidates, counts[1 + l]: above level l."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    total = tl.zeros((rows, columns), tl.int32 if whole else tl.float32)
    for start in range(0, k, depth):
        part = start + tl.arange(0, depth)
        a = tl.load(
            x + row[:, None] * k + part[None, :],
            mask=(row < m)[:, None] & (part < k)[None, :],
            other=0,
        )
        b = tl.load(
            y + column[None, :] * k + part[:, None],
            mask=(column < n)[None, :] & (part < k)[:, None],
            other=0,
        )
        if whole:
            total = tl.dot(a, b, total, out_dtype=tl.int32)
        else:  # "ieee": float32 products are float32, not TF32
            total = tl.dot(a, b, total, input_precision="ieee")
    counted = (row < m)[:, None] & (column < n)[None, :]
    if once:
        counted = counted & (column[None, :] + offset > row[:, None])
    inside = tl.zeros((rows, columns), tl.int1)
    for level in tl.static_range(levels):
        low = tl.load(below + level * m + row, mask=row < m, other=0)
        part_of = total > low[:, None]
        if level < closed:
            high = tl.load(above + level * m + row, mask=row < m, other=0)
            over = total > high[:, None]
            tl.atomic_add(counts + 1 + level, tl.sum((over & counted).to(tl.int32)).to(tl.int64))
            part_of = part_of & (over == 0)
        inside = inside | part_of
    inside = inside & counted
    in_row = tl.sum(inside.to(tl.int32), axis=1)
    found = tl.sum(in_row)
    if found > 0:  # one place for the whole block: rows by their counts, columns by theirs
        first = tl.minimum(tl.atomic_add(counts, found.to(tl.int64)), room).to(tl.int32)
        before = tl.cumsum(in_row, axis=0) - in_row
        taken = first + before[:, None] + tl.cumsum(inside.to(tl.int32), axis=1) - 1
        fits = inside & (taken < room)
        tl.store(place + taken, row[:, None] * n + column[None, :], mask=fits)
        tl.store(key + taken, total, mask=fits)


def sift(x: torch.Tensor, y: torch.Tensor, levels: Sequence[Level], offset: int | None) -> Sifted:
    """Sift codes (m, k) and (n, k), contiguous, m * n < 2^31, in one launch; see `on_gpu.sift`.

    TooManyError where there are more candidates than `room_for`.
    """
    m, n, whole = len(x), len(y), x.dtype == torch.int8
    kind = torch.int32 if whole else torch.float32
    below = _cuts([level.below for level in levels], x.device)
    above = _cuts([level.above for level in levels if level.above is not None], x.device)
    room = min(room_for(n), m * n)
    place = torch.empty(room, dtype=torch.int32, device=x.device)
    key = torch.empty(room, dtype=kind, device=x.device)
    counts = torch.zeros(1 + len(levels), dtype=torch.int64, device=x.device)
    block = BLOCKS[whole]
    grid = (triton.cdiv(m, block["rows"]), triton.cdiv(n, block["columns"]))
    _kernel[grid](
        x, y, below, above, place, key, counts, m, n, x.shape[1], offset or 0, room,
        once=offset is not None, levels=len(levels), closed=len(above), whole=whole, **block,
    )  # fmt: skip
    candidates, *over = counts.tolist()
    if candidates > room:
        raise TooManyError(candidates)
    flat, keys = place[:candidates].cpu().numpy(), key[:candidates].cpu().numpy()
    order = np.argsort(flat)  # blocks end in any order
    return Sifted.of(flat[order].astype(np.int64), n, keys[order], over[: len(above)])


def _cuts(cuts: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.stack(cuts) if cuts else np.zeros((0, 1), np.int32)).to(device)
