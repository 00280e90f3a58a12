"""bcolz folders of aligned faces, as InsightFace_Pytorch, face.evoLVe and AdaFace hand them out.

`NAME/` is a carray of (2 P, 3, H, W) floats in -1..1, BGR, in the order a0, b0, a1, b1, ...;
`NAME_list.npy` beside it holds P booleans.  A carray is a folder: `meta/sizes` and `meta/storage`
in JSON, `data/__N.blp` with `chunklen` rows each: a 16-byte header and one Blosc frame.
bcolz itself is no longer built; numcodecs unpacks Blosc.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.datasets.pair_list import PairList
from evalkit.errors import DataError, needing
from evalkit.files import as_path
from evalkit.images import ImageSource
from evalkit.strict_json import parsed
from evalkit.vectors import readers

_HEADER = 16
_CHUNKS_HELD = 4
_LARGEST_IMAGE = 1 << 24


@dataclass(frozen=True, slots=True)
class _Layout:
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    rows: int  # in a chunk


def is_carray(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is a carray."""
    folder = as_path(folder)
    return (folder / "meta" / "sizes").is_file()


def read(folder: str | os.PathLike[str]) -> tuple[ImageSource, PairList]:
    """Read `NAME/` and `NAME_list.npy`: images under the keys 0000000, 0000001, ..., and pairs.

    Pixels come back as RGB uint8, round(255 (x + 1) / 2).  The pairs carry no folds.
    """
    folder = as_path(folder)
    layout = _layout(folder)
    same = _labels(folder.with_name(f"{folder.name}_list.npy"))
    n = layout.shape[0]
    if n != 2 * len(same) or n == 0:
        raise DataError(f"{folder} holds {n} images for {len(same)} pairs")
    keys = tuple(f"{i:07d}" for i in range(n))

    @lru_cache(maxsize=_CHUNKS_HELD)
    def chunk(number: int) -> NDArray[Any]:
        return _chunk(folder / "data" / f"__{number}.blp", layout, number)

    @lru_cache(maxsize=1)
    def darkest() -> float:
        try:
            return float(chunk(0).min())
        except DataError:  # told of its own images
            return -1.0

    def picture(row: int) -> NDArray[np.uint8]:
        number, place = divmod(row, layout.rows)
        values = chunk(number)[place].astype(np.float64)
        if not (np.abs(values) <= 1).all():
            raise DataError(f"image {row} of {folder} has values outside -1..1")
        if darkest() >= 0:  # no pixel of several images is below the middle
            raise DataError(f"the pixels of {folder} are in 0..1, not in -1..1 as bcolz sets' are")
        bgr = np.rint((values + 1) * 127.5).astype(np.uint8)
        return np.ascontiguousarray(bgr[::-1].transpose(1, 2, 0))

    pairs = PairList(keys[::2], keys[1::2], same, None, folder.name, np.arange(1, len(same) + 1))
    return ImageSource(keys, picture, "bcolz, BGR -1..1"), pairs


def _layout(folder: Path) -> _Layout:
    try:
        sizes = parsed((folder / "meta" / "sizes").read_text())
        storage = parsed((folder / "meta" / "storage").read_text())
        n, channels, height, width = (int(side) for side in sizes["shape"])
        layout = _Layout(
            (n, channels, height, width), np.dtype(storage["dtype"]), int(storage["chunklen"])
        )
    except (OSError, ValueError, TypeError, KeyError, OverflowError, SyntaxError) as e:
        raise DataError(f"{folder} is not a bcolz array of images: {e}") from e
    pixels = layout.shape[1:]
    fits = channels == 3 and min(pixels) > 0 and math.prod(pixels) <= _LARGEST_IMAGE
    if n < 0 or layout.rows < 1 or layout.dtype.kind != "f" or not fits:
        raise DataError(
            f"{folder} holds {layout.dtype} of shape {layout.shape}",
            "expected floats of shape (images, 3, height, width)",
        )
    return layout


def _labels(path: Path) -> NDArray[np.bool_]:
    same = readers.read_npy(path)[0]
    if same.ndim != 1 or same.dtype != np.bool_:
        raise DataError(f"{path.name} is not a list of booleans")
    return np.array(same)


def _chunk(path: Path, layout: _Layout, number: int) -> NDArray[Any]:
    """Unpack one chunk: (rows, 3, H, W); the last one holds only what is left."""
    with needing("numcodecs", "bcolz", "reading a bcolz folder"):
        from numcodecs import blosc
    rows = min(layout.rows, layout.shape[0] - number * layout.rows)
    need = rows * math.prod(layout.shape[1:])
    try:
        packed = path.read_bytes()[_HEADER:]
        # Blosc's own header says how much it will write: compared before memory is taken.
        unpacked_size, packed_size = (int.from_bytes(packed[o : o + 4], "little") for o in (4, 12))
        if packed_size != len(packed) or not need * layout.dtype.itemsize <= unpacked_size <= (
            layout.rows * math.prod(layout.shape[1:]) * layout.dtype.itemsize
        ):
            raise ValueError("its size is not what the array needs")
        values = np.frombuffer(blosc.decompress(packed), layout.dtype)
    except (OSError, ValueError, RuntimeError) as e:
        raise DataError(f"{path} cannot be unpacked: {e}") from e
    return values[:need].reshape(rows, *layout.shape[1:])
