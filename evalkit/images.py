"""Images by name, as RGB uint8 arrays: from a folder, a zip archive or a list."""

from __future__ import annotations

import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from evalkit import jpeg
from evalkit.errors import DataError
from evalkit.keys import IMAGES, rows_of, subjects_of
from evalkit.types import Manifest

# Pillow also knows formats that start other programs; face images come in these.
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "WEBP", "TIFF", "GIF")
_MAX_PIXELS = 64 << 20
_MAX_BYTES = 256 << 20
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, struct.error),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
_KINDS = "give a folder, a .zip archive or a .txt list of paths"

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Images that can be read by row: `read(i)` is the image called `keys[i]`.

    read : row -> (H, W, 3) RGB uint8, at any moment from any thread; DataError where unreadable.
    identity : what else decides the pixels: decoder and version, alignment, resizing.
    """

    keys: tuple[str, ...]
    read: Callable[[int], Picture]
    identity: str

    def select(self, keys: Sequence[str]) -> ImageSource:
        """Put these images in this order, under these names, with or without prefix and suffix."""
        rows, read = rows_of(keys, self.keys, "images"), self.read
        return replace(self, keys=tuple(keys), read=lambda i: read(int(rows[i])))

    def then(self, step: Callable[[int, Picture], Picture], identity: str) -> ImageSource:
        """Change every image: `step` gets its row and pixels; `identity` says what it does."""
        read = self.read
        return replace(
            self, read=lambda i: step(i, read(i)), identity=f"{self.identity}; {identity}"
        )

    def resized(self, size: tuple[int, int]) -> ImageSource:
        """Bring every image to (height, width) by Pillow's bilinear filter, not keeping aspect."""

        def step(_: int, image: Picture) -> Picture:
            if image.shape[:2] == size:
                return image
            shape = (size[1], size[0])
            return np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR))

        return self.then(step, f"resized to {size[0]}x{size[1]}")

    def manifest(self) -> Manifest:
        """Take the folder of each image for its subject; -1 for images without a folder."""
        return Manifest(self.keys, subjects_of(self.keys))


def find(path: str | os.PathLike[str]) -> ImageSource:
    """Open a folder (with its sub-folders), a zip archive or a text file of paths.

    A list names one image a line, relative to the list's own folder. Images are sorted by name,
    those of a list keep its order.
    """
    path = Path(path)
    if path.is_dir():
        source = _folder(path)
    elif not path.is_file():
        raise DataError(
            f"no images at {path}", "give a folder, a .zip archive or a .txt list of paths"
        )
    elif path.suffix.lower() == ".zip":
        source = _archive(path)
    elif path.suffix.lower() in (".txt", ".lst", ".list"):
        source = _list(path)
    else:
        raise DataError(f"cannot find images in {path.name!r}", _KINDS)
    if not source.keys:
        raise DataError(f"no images in {path}", f"looked for {' '.join(IMAGES)}")
    return source


def encoded(keys: Sequence[str], fetch: Callable[[int], bytes]) -> ImageSource:
    """Make a source of image files: `fetch(i)` gives the bytes of the one called `keys[i]`."""

    def read(row: int) -> Picture:
        try:
            return decode(fetch(row))
        except (DataError, *_UNREADABLE) as e:
            reason = e.message if isinstance(e, DataError) else str(e)
            raise DataError(f"{keys[row]} cannot be read: {reason}") from e

    return ImageSource(tuple(keys), read, decoder())


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


def _folder(root: Path) -> ImageSource:
    found = {
        _name(path.relative_to(root)): path
        for path in root.rglob("*")
        if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    }
    names = sorted(found)
    return encoded(names, lambda i: _file(found[names[i]]))


def _name(path: Path) -> str:
    """Spell a path as a key: files are named in UTF-8, whatever the locale."""
    try:
        return os.fsencode(path.as_posix()).decode("utf-8")
    except UnicodeDecodeError as e:
        raise DataError(f"the name {path.as_posix()!a} is not UTF-8", "rename the file") from e


def _path(folder: Path, name: str) -> Path:
    return folder / os.fsdecode(name.encode())


def _list(path: Path) -> ImageSource:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not a text file", "a list has one path a line") from e
    names = [line.strip() for line in lines if line.strip()]
    missing = [name for name in names if not _path(path.parent, name).is_file()]
    if missing:
        raise DataError(
            f"{path.name} names {len(missing)} of {len(names)} images that are not there, "
            f"first {missing[0]!r}",
            f"its paths are relative to {path.parent}",
        )
    return encoded(names, lambda i: _file(_path(path.parent, names[i])))


def _file(path: Path) -> bytes:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # a pipe or a device would never end
        raise DataError("it is no file")
    if about.st_size > _MAX_BYTES:
        raise DataError("the file is larger than any face image")
    with path.open("rb", buffering=0) as file:
        data = file.read(about.st_size)
        # A network's file system may give a part.
        while len(data) < about.st_size and (more := file.read(about.st_size - len(data))):
            data += more
        return data


class _Archive(zipfile.ZipFile):
    """An archive that a worker opens for itself."""

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return _Archive, (Path(str(self.filename)).absolute(),)


def _archive(path: Path) -> ImageSource:
    try:
        archive = _Archive(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as e:
        raise DataError(f"{path} is not a whole zip archive: {e}") from e
    entries = sorted(
        (e for e in archive.infolist() if Path(e.filename).suffix.lower() in IMAGES),
        key=lambda e: e.filename,
    )
    entries = [e for e in entries if not Path(e.filename).name.startswith(".")]
    if any(entry.flag_bits & 1 for entry in entries):
        raise DataError(f"{path} is encrypted", "unpack it and give the folder")

    def fetch(row: int) -> bytes:
        if entries[row].file_size > _MAX_BYTES:
            raise DataError("the file is larger than any face image")
        return archive.read(entries[row])

    return encoded([entry.filename for entry in entries], fetch)
