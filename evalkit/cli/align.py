"""`evalkit align`: photographs into aligned crops, with the points that made them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

import click
import numpy as np
from PIL import Image

from evalkit import images
from evalkit.cli.options import new_command, quiet_option
from evalkit.cli.output import bar
from evalkit.cli.parameters import Folder, Readable
from evalkit.cli.terminal import say, show
from evalkit.errors import DataError, NoFaceError, SeveralFacesError
from evalkit.files import whole_file
from evalkit.images import ImageSource, alignment, detectors, landmarks
from evalkit.images.landmarks import Landmarks

_POINTS = "landmarks.csv"
_NAMED = 5  # images without a crop


@new_command(
    "align",
    "evalkit align PHOTOS/ CROPS/",
    "evalkit people CROPS/ --model model.onnx",
    "evalkit lfw --model model.onnx --data PHOTOS/ --landmarks CROPS/landmarks.csv",
)
@click.argument("photos", type=Readable(folder=True))
@click.argument("out", type=Folder())
@click.option(
    "--detector",
    "name",
    metavar="NAME",
    default="mtcnn",
    help="Detector: mtcnn, a plug-in or module:Class.",
)
@click.option(
    "--faces",
    type=click.Choice([*detectors.CHOICES, "all"]),
    default="centre",
    help="Face to take of several in an image: nearest the centre, largest, none (only), or all.",
)
@click.option(
    "--crop",
    type=click.Choice(list(alignment.TEMPLATES)),
    default="arcface-112",
    help="Alignment template of the crops: the one that the model expects.",
)
@quiet_option()
def command(
    photos: Path, out: Path, name: str, faces: detectors.FaceChoice | Literal["all"], crop: str
) -> None:
    """Find the face in each of PHOTOS, and write the aligned crops into the new folder OUT.

    OUT/landmarks.csv holds the five points found in each photograph, for --landmarks. An image
    without a face has no points there, and counts as a failure in every command that reads it.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty", "give a new folder")
    source, finder = images.find(photos), detectors.finder(name)
    say(*source.left_out)
    names = _names(source, out)
    rows = list[tuple[str, detectors.FacePoints]]()
    failed = dict[str, str]()
    with bar("aligning", "image") as progress:
        for row, (key, at) in enumerate(zip(source.keys, names, strict=True)):
            progress(row, len(names))
            try:
                points_of_faces = _cut(source, row, finder, faces, crop, at)
            except (NoFaceError, SeveralFacesError) as e:
                failed[key] = e.message
                rows.append((key, np.full((5, 2), np.nan, np.float32)))
            except DataError as e:
                failed[key] = e.message
            else:
                several = faces == "all" and len(points_of_faces) > 1
                rows += [
                    (f"{key}-{n}" if several else key, p) for n, p in enumerate(points_of_faces, 1)
                ]
    say(*list(failed.values())[:_NAMED])
    if len(failed) > _NAMED:
        say(f"{len(failed) - _NAMED:,} more like these")
    if len(failed) == len(names):
        raise DataError(f"not one of {len(names):,} images gave a face")
    keys, points = zip(*rows, strict=True)
    landmarks.write(out / _POINTS, Landmarks(keys, np.stack(points)))
    crops = sum(not np.isnan(p).any() for p in points)
    show(f"{out}: {crops:,} crops ({crop}) of {len(names):,} images, {len(failed):,} failed")


def _cut(
    source: ImageSource,
    row: int,
    finder: detectors.FaceFinder,
    faces: detectors.FaceChoice | Literal["all"],
    crop: str,
    at: Path,
) -> detectors.FacePoints:
    """Write the crops of an image, and return their points, (F, 5, 2)."""
    key, image = source.keys[row], source.read(row)
    points_of_faces = finder.find(image, key)
    if faces != "all":
        points_of_faces = detectors.chosen(points_of_faces, image, faces, key)[None]
    cuts = [alignment.cut(image, points, crop, key) for points in points_of_faces]
    at.parent.mkdir(parents=True, exist_ok=True)
    for n, one in enumerate(cuts, 1):
        path = at if len(cuts) == 1 else at.with_stem(f"{at.stem}-{n}")
        if path.exists():
            raise DataError(f"{path} is there already, of another image: {key}")
        with whole_file(path) as f:
            Image.fromarray(one).save(f, "PNG")
    return points_of_faces


def _names(source: ImageSource, out: Path) -> list[Path]:
    """Name the crop of each image below `out`; DataError for two of one name, and one outside."""
    names = dict[Path, str]()
    for key in source.keys:
        path = PurePosixPath(key.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{key} would be written outside {out}", "give the folder of images")
        at = out / path.with_suffix(".png")
        if at in names:
            raise DataError(f"{names[at]} and {key} would be one crop", "rename one of them")
        names[at] = key
    return list(names)
