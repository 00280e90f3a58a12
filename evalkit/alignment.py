"""Faces brought to the pose a network was trained on: five landmarks moved onto a template."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evalkit.errors import DataError
from evalkit.images import ImageSource, Picture

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
TEMPLATES = {
    "arcface-112": ((112, 112), _EYES_NOSE_MOUTH + np.array([8, 0])),
    "sphereface-112x96": ((112, 96), _EYES_NOSE_MOUTH),
}


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
    """Align every image of a source: landmarks (N, 5, 2), row i for `source.keys[i]`."""
    if crop not in TEMPLATES:
        raise DataError(f"no template for crop {crop!r}", f"known: {', '.join(TEMPLATES)}")
    if landmarks.shape != (len(source.keys), 5, 2):
        raise DataError(f"{len(source.keys)} images have landmarks of shape {landmarks.shape}")
    size, template = TEMPLATES[crop]

    def step(row: int, image: Picture) -> Picture:
        return warp(image, similarity(landmarks[row], template), size)

    return source.then(step, f"aligned to {crop} by 5 landmarks")
