"""Fast path for common JPEGs: simplejpeg, used only where its pixels equal Pillow's.

simplejpeg gives Pillow's pixels in half of its time, of usual files.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAMPLINGS = ("444", "422", "420")  # of the colours, against the brightness
# Markers before the first scan (ITU-T T.81, table B.1): baseline and progressive frames, tables,
# restarts, JFIF, Adobe, comments.  Others may turn the picture (EXIF, XMP) or index several (MPO).
_USUAL = frozenset((0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xE0, 0xEE, 0xFE))
_START, _END, _SCAN, _ALONE = 0xD8, 0xD9, 0xDA, 0x01
# A marker; none are the bytes 0 that follow 255 within a scan, restarts, and 255 that fills up.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")


def scans(data: bytes) -> int:
    """Count the scans of the picture in a JPEG file.

    Each goes through all of its pixels again, and need not take more than some ten bytes.
    """
    at, count = 2, 0
    while marker := _MARKER.search(data, at):
        code, at = marker[1][0], marker.end()
        if code == _END:
            break
        if code not in (_START, _ALONE):
            at += int.from_bytes(data[at : at + 2])
        count += code == _SCAN
    return count


def decode(
    data: bytes, most: int, room: Callable[[int], AbstractContextManager[Any]] = nullcontext
) -> NDArray[np.uint8] | None:
    """Decode a whole YCbCr JPEG of at most `most` pixels to (H, W, 3) RGB uint8; None = ask Pillow.

    room : entered with the number of pixels before they are decoded.

    What is damaged, turned, in other colours or not JPEG is left to Pillow, whose rules and errors
    hold, and so is everything where simplejpeg's library decodes otherwise than Pillow's.
    """
    simplejpeg = _like_pillow() if _usual(data) else None
    if simplejpeg is None:
        return None
    try:
        height, width, colors, sampling = simplejpeg.decode_jpeg_header(data)
        if colors != "YCbCr" or sampling not in _SAMPLINGS or height * width > most:
            return None
        with room(height * width):
            picture: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
        return picture
    except Exception:  # whatever it is, Pillow has the word
        return None


def _usual(data: bytes) -> bool:
    """Whether nothing but usual segments comes before the first scan."""
    if data[:2] != b"\xff\xd8":
        return False
    at, marker = 2, 0xFE
    while marker in _USUAL and at + 3 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return marker == _SCAN


@cache
def _like_pillow() -> Any:
    """Import simplejpeg if it gives Pillow's pixels for noise, in every kind of file it gets.

    None where it does not, or is not installed.
    """
    try:
        import simplejpeg
    except (ImportError, ValueError):  # ValueError: built for another numpy
        return None
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (51, 35, 3), dtype=np.uint8)
    for sampling in _SAMPLINGS:
        for progressive in (False, True):
            file = io.BytesIO()
            Image.fromarray(noise).save(
                file, "JPEG", subsampling=":".join(sampling), progressive=progressive
            )
            theirs = simplejpeg.decode_jpeg(file.getvalue())
            if not np.array_equal(theirs, np.asarray(Image.open(file))):
                return None
    return simplejpeg
