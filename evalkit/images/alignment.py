"""Face alignment: five landmarks moved onto the template that a network was trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError, NoFaceError
from evalkit.images import ImageSource, Picture
from evalkit.images.detectors import FaceChoice, FaceFinder, FacePoints, chosen

# Left eye, right eye, nose tip, left and right mouth corner (as seen), x and y in pixels.
# arcface-112: insightface's reference points; sphereface-112x96: wy1iu/sphereface preprocess.
_EYES_NOSE_MOUTH = np.array(
    [
        [30.2946, 51.6963],
        [65.5318, 51.5014],
        [48.0252, 71.7366],
        [33.5493, 92.3655],
        [62.7299, 92.2041],
    ]
)
Template = tuple[tuple[int, int], NDArray[np.float64]]  # (height, width), (5, 2) points
TEMPLATES: dict[str, Template] = {
    "arcface-112": ((112, 112), _EYES_NOSE_MOUTH + np.array([8, 0])),
    "sphereface-112x96": ((112, 96), _EYES_NOSE_MOUTH),
}

_NARROWED = "square crops less 1/14 of their columns on each side"  # 8 of 112
_MARGIN = 0.1  # a detector may see a mouth corner beyond the edge of a tight crop
_SAMPLE, _FEWEST, _REACH = 400, 200, 12
_OFF, _DARKER = 5, 0.6


def similarity(
    points: NDArray[np.floating[Any]], target: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Fit the (2, 3) rotation, scale and shift that moves (P, 2) points nearest to target.

    Least squares, without reflection [Umeyama, IEEE TPAMI 13, 1991].  DataError where all points
    fall together.
    """
    a, b = np.asarray(points, np.float64), np.asarray(target, np.float64)
    z, w = (p[:, 0] + 1j * p[:, 1] for p in (a - a.mean(0), b - b.mean(0)))
    spread = float((np.abs(z) ** 2).sum())
    if not spread > 0:
        raise DataError("the landmarks of a face are one point")
    turn = complex((z.conj() * w).sum()) / spread  # rotation and scale as one complex number
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([linear, b.mean(0) - linear @ a.mean(0)])


def warp(image: Picture, matrix: NDArray[np.float64], size: tuple[int, int]) -> Picture:
    """Move an image by a (2, 3) map of its pixel positions, bilinear, black outside.

    A pixel's position is its centre: the first one is (0, 0).
    """
    from PIL import Image

    inverse = np.linalg.inv(matrix[:, :2])
    shift = -inverse @ matrix[:, 2] + 0.5 - inverse @ [0.5, 0.5]  # Pillow counts from the corner
    turned = np.column_stack([inverse, shift]).ravel().tolist()
    picture = Image.fromarray(image)
    return np.asarray(
        picture.transform(
            (size[1], size[0]), Image.Transform.AFFINE, turned, Image.Resampling.BILINEAR
        )
    )


def aligned(source: ImageSource, landmarks: NDArray[np.float32], crop: str) -> ImageSource:
    """Align every image of a source: landmarks (N, 5, 2), row i for `source.keys[i]`.

    The points of an image become part of its digest; one more face leaves the others' as they are.
    A point further outside its image than a tenth of its size is a DataError on reading: such
    points belong to another size of the image; points that are NaN, a NoFaceError.
    """
    template = _template(crop)
    if landmarks.shape != (len(source.keys), 5, 2):
        raise DataError(f"{len(source.keys)} images have landmarks of shape {landmarks.shape}")

    def step(row: int, image: Picture) -> Picture:
        if np.isnan(landmarks[row]).all():
            raise NoFaceError(f"no face was found in {source.keys[row]}")
        return _placed(image, landmarks[row], template, source.keys[row])

    def points(row: int) -> bytes:
        return np.ascontiguousarray(landmarks[row], "<f4").tobytes()

    return source.then(step, f"aligned to {crop} by 5 landmarks", points)


def detected(
    source: ImageSource,
    finder: FaceFinder,
    crop: str,
    faces: FaceChoice = "centre",
    several: Callable[[str], None] = lambda key: None,
) -> ImageSource:
    """Align every image by a face that is found in it.

    faces : which of several: that nearest the image's centre, the largest, or none.
    several : told of each image in which one of several was taken.
    NoFaceError on reading an image without a face, SeveralFacesError where `faces` is "only" and
    there are more, so a counted failure.
    """
    template = _template(crop)

    def step(row: int, image: Picture) -> Picture:
        key = source.keys[row]
        points = finder.find(image, key)
        if len(points) > 1 and faces != "only":
            several(key)
        return _placed(image, chosen(points, image, faces, key), template, key)

    which = {"centre": "face at the centre", "largest": "largest face", "only": "only face"}
    return source.then(step, f"aligned to {crop} by {finder.fingerprint}, {which[faces]}")


def narrowed(source: ImageSource, size: tuple[int, int], to_scale: bool = False) -> ImageSource:
    """Cut square crops for a model of 112x96, or as narrow: 1/14 of the columns off each side.

    The templates of 112x112 and 112x96 differ by 8 columns on each side; a squash would move every
    point.  size : (height, width) of the model.  to_scale : images of another height are cut too.
    Others stay, and so does a source whose first readable image is not to be cut.
    """
    if size[0] * 6 != size[1] * 7:
        return source

    def square(image: Picture) -> bool:
        height, width = image.shape[:2]
        return height == width and (to_scale or height == size[0])

    def step(_: int, image: Picture) -> Picture:
        off = round(image.shape[1] / 14)
        return image[:, off:-off] if square(image) else image

    first = _first(source)
    return source if first is None or not square(first) else source.then(step, _NARROWED)


def cuts(source: ImageSource, size: tuple[int, int]) -> str:
    """Say how `narrowed` cuts the images of a source; empty where it does not."""
    if _NARROWED not in source.identity:
        return ""
    height, width = size
    return f"square crops are cut to {height}x{width}, {height // 14} columns off each side"


def _first(source: ImageSource) -> Picture | None:
    """Read the first of a few images that can be read."""
    for row in range(min(len(source.keys), 10)):
        with contextlib.suppress(DataError):
            return source.read(row)
    return None


def cut(image: Picture, points: FacePoints, crop: str, key: str) -> Picture:
    """Cut a face out of an image by its (5, 2) points; the image is called `key` in errors."""
    return _placed(image, points, _template(crop), key)


def doubt(source: ImageSource, crop: str) -> str:
    """Say why images do not look aligned to a crop, with the evidence; empty where they do.

    They look unaligned where, in the mean of up to 400 images, evenly spread, the eyes are more
    than 5 pixels off, or not darker than the cheeks by 0.6 deviations (`eyes_in_mean`).  Aligned
    images of LFW, 200 at random, are at most 4.2 off and at least 1.0 darker; squashed whole ones
    are 13 off.  Empty too where fewer than 200 images have the template's size: too few to tell.
    """
    if crop not in TEMPLATES:
        return ""
    faces = standardised(source, TEMPLATES[crop][0])
    if len(faces) < _FEWEST:
        return ""
    offset, darker = eyes_in_mean(np.mean(faces, axis=0), crop)
    if offset <= _OFF and darker >= _DARKER:
        return ""
    return (
        f"the images do not look aligned to {crop}: in the mean of {len(faces)} of them an eye's "
        f"darkest point is {offset:.1f} pixels from its place (aligned: at most {_OFF}), eyes "
        f"darker than cheeks by {darker:.1f} deviations (aligned: at least {_DARKER}); "
        "align them by --landmarks FILE or --align NAME"
    )


def eyes_in_mean(mean: NDArray[np.floating[Any]], crop: str) -> tuple[float, float]:
    """Distance of the eyes of a mean face (H, W) from the template's, and how dark they are.

    In the mean of aligned faces the eyes are dark spots at the template's places.  Returned are the
    distance in pixels of the darkest point near an eye, the farther of both (mean blurred by 2
    pixels, at most 12 away in x and y), and the grey of the cheeks less that of the eyes.
    """
    from scipy.ndimage import gaussian_filter  # takes longer to import than numpy

    template = TEMPLATES[crop][1]
    mean = gaussian_filter(mean, 2)
    offset, eyes, cheeks = 0.0, 0.0, 0.0
    for eye, corner in zip(template[:2], template[3:], strict=True):
        x, y = np.rint(eye).astype(int)
        cheek_x, cheek_y = np.rint((eye + corner) / 2).astype(int)
        near = mean[y - _REACH : y + _REACH + 1, x - _REACH : x + _REACH + 1]
        shift = np.array(np.unravel_index(near.argmin(), near.shape)) - _REACH
        offset = max(offset, float(np.hypot(*shift)))
        eyes, cheeks = eyes + mean[y, x] / 2, cheeks + mean[cheek_y, cheek_x] / 2
    return offset, cheeks - eyes


def standardised(
    source: ImageSource, size: tuple[int, int], most: int = _SAMPLE
) -> list[NDArray[np.float64]]:
    """Read up to `most` images, evenly spread, of this size: grey, of mean 0 and deviation 1."""
    from PIL import Image

    faces = []
    rows = np.linspace(0, len(source.keys) - 1, min(len(source.keys), most)).astype(int)
    for row in rows.tolist():
        try:
            image = source.read(row)
        except DataError:
            continue  # the embedder counts it
        if image.shape[:2] == size and image.std() > 0:
            grey = np.asarray(Image.fromarray(image).convert("L"), np.float64)
            faces.append((grey - grey.mean()) / max(grey.std(), 1e-9))
    return faces


def _template(crop: str) -> Template:
    if crop not in TEMPLATES:
        raise DataError(f"no template for crop {crop!r}", f"known: {', '.join(TEMPLATES)}")
    return TEMPLATES[crop]


def _placed(image: Picture, points: NDArray[Any], template: Template, key: str) -> Picture:
    if not np.isfinite(points).all():
        raise DataError(
            f"{key} has landmarks that cannot be used: NaN, infinite, or crossed as in no face"
        )
    size = np.array([image.shape[1], image.shape[0]])
    outside = (points < -_MARGIN * size) | (points > (1 + _MARGIN) * size)
    if outside.any():
        x, y = points[outside.any(axis=1)][0]
        raise DataError(
            f"a landmark of {key} at ({x:g}, {y:g}) lies outside its {size[0]}x{size[1]} pixels",
            "are the points of another size of the image?",
        )
    return warp(image, similarity(points, template[1]), template[0])
