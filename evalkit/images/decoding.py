"""Image files decoded to RGB uint8, by Pillow or, with the same pixels, by simplejpeg."""

from __future__ import annotations

import io

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from evalkit import jpeg
from evalkit.errors import DataError

AVIF = "avif" in features.modules and features.check("avif")  # since Pillow 11.3
JPEG2000 = bool(features.check("jpg_2000"))
# Pillow also knows formats that start other programs; face images come in these.
_FORMATS = (
    *("JPEG", "PNG", "BMP", "PPM", "WEBP", "TIFF", "GIF"),
    *(["JPEG2000"] if JPEG2000 else []),
    *(["AVIF"] if AVIF else []),
)
_MAX_PIXELS = 64 << 20

Picture = NDArray[np.uint8]


def decoder() -> str:
    """Name what decodes, with versions: other versions may give other pixels."""
    turbo = features.version("libjpeg_turbo")
    library = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"
    return f"pillow {PIL.__version__}, {library}"


def decode(data: bytes) -> Picture:
    """Decode one image file to (H, W, 3) RGB uint8.

    Grey, palette and CMYK become RGB by Pillow's rules; 16-bit grey is scaled by 255/65535 and
    rounded; alpha is dropped; an animation gives its first frame; EXIF orientation is applied, as
    a viewer shows it. A cut or damaged file, more than 64 Mi pixels, or floating-point pixels are
    a DataError: no image is better than half of one.
    """
    usual = jpeg.decode(data, _MAX_PIXELS)
    if usual is not None:
        return usual
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise DataError(f"{image.width}x{image.height} pixels are more than a face needs")
            ImageOps.exif_transpose(image, in_place=True)
            return np.array(_rgb(image))
    except DataError:
        raise
    except Exception as e:  # decoders raise anything at all on damaged files
        raise DataError(_reason(e)) from e


def _reason(error: Exception) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):
        return "not an image file"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise DataError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.float64)
        if wide.min(initial=0) < 0 or wide.max(initial=0) > 65535:
            raise DataError("its pixels do not fit 16 bits")
        image = Image.fromarray(np.rint(wide * (255 / 65535)).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
