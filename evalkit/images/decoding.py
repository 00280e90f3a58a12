"""Image files decoded to RGB uint8, by Pillow or, with the same pixels, by simplejpeg.

Pillow is imported with the first image: commands on vectors see none.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from threading import Condition
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError
from evalkit.files import LFS_HINT, is_lfs_pointer
from evalkit.images import jpeg

if TYPE_CHECKING:
    from PIL import Image

HEIF = find_spec("pillow_heif") is not None
_MAX_PIXELS = 64 << 20  # of an image, and of those that all threads decode at a time
_SMALL = 1 << 20  # pixels of which any number of threads may decode
_MAX_SCANS = 100  # of a JPEG; programs write up to about twenty
_changed, _under_way = Condition(), [0]

Picture = NDArray[np.uint8]


@cache
def formats() -> tuple[str, ...]:
    """Name the formats that this Pillow reads; it knows others, some of which start programs."""
    from PIL import Image, features

    # Smaller blocks of a large image would stay with the thread that decoded it, when it is gone.
    Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]
    avif = "avif" in features.modules and features.check("avif")  # since Pillow 11.3
    return (
        *("JPEG", "PNG", "BMP", "PPM", "WEBP", "TIFF", "GIF"),
        *(["JPEG2000"] if features.check("jpg_2000") else []),
        *(["AVIF"] if avif else []),
    )


def decoder() -> str:
    """Name what decodes, with versions: other versions may give other pixels."""
    import PIL
    from PIL import features

    turbo = features.version("libjpeg_turbo")
    library = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"
    heif = ""
    if HEIF:
        from importlib.metadata import version

        heif = f", pillow-heif {version('pillow-heif')}"
    return f"pillow {PIL.__version__}, {library}{heif}"


def decode(data: bytes) -> Picture:
    """Decode one image file to (H, W, 3) RGB uint8.

    Grey, palette and CMYK become RGB by Pillow's rules; 16-bit grey is scaled by 255/65535 and
    rounded; alpha is dropped; an animation gives its first frame; EXIF orientation is applied, as
    a viewer shows it. A cut or damaged file, more than 64 Mi pixels, more than 100 scans, or
    floating-point pixels are a DataError: no image is better than half of one. Threads wait for
    each other where they would decode more than 64 Mi pixels at a time.
    """
    if is_lfs_pointer(data):
        raise DataError("it is a Git LFS pointer, not the image itself", LFS_HINT)
    if data.count(b"\xff\xda") > _MAX_SCANS and data[:2] == b"\xff\xd8":
        scans = jpeg.scans(data)
        if scans > _MAX_SCANS:
            raise DataError(f"its {scans} scans are more than any program writes")
    usual = jpeg.decode(data, _MAX_PIXELS, _room)
    if usual is not None:
        return usual
    from PIL import Image, ImageOps, UnidentifiedImageError

    readable = _with_heif() if HEIF and data[4:8] == b"ftyp" else formats()
    try:
        with Image.open(io.BytesIO(data), formats=readable) as image:
            tile = getattr(image, "tag_v2", {})  # of a TIFF, which is unpacked whole
            width, height = max(image.width, tile.get(322, 0)), max(image.height, tile.get(323, 0))
            if width * height > _MAX_PIXELS:
                raise DataError(f"{width}x{height} pixels are more than a face needs")
            with _room(width * height):
                ImageOps.exif_transpose(image, in_place=True)
                return np.array(_rgb(image))
    except DataError:
        raise
    except UnidentifiedImageError as e:
        raise DataError("not an image file") from e
    except Exception as e:  # decoders raise anything at all on damaged files
        raise DataError(str(e).splitlines()[0] if str(e) else type(e).__name__) from e


@cache
def _with_heif() -> tuple[str, ...]:
    import_module("pillow_heif").register_heif_opener()
    return (*formats(), "HEIF")


@contextmanager
def _room(pixels: int) -> Iterator[None]:
    """Wait until so many pixels may be decoded beside those that are under way."""
    if pixels <= _SMALL:
        yield
        return
    with _changed:
        _changed.wait_for(lambda: _under_way[0] + pixels <= _MAX_PIXELS)
        _under_way[0] += pixels
    try:
        yield
    finally:
        with _changed:
            _under_way[0] -= pixels
            _changed.notify_all()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise DataError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):
        wide = np.array(image, np.int32)
        if wide.min(initial=0) < 0 or wide.max(initial=0) > 65535:
            raise DataError("its pixels do not fit 16 bits")
        wide += 128
        wide //= 257  # 65535 / 255, of which no half is a whole number: rounded
        from PIL import Image

        image = Image.fromarray(wide.astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
