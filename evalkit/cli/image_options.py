"""The options that say which images are embedded, and how they are brought to a model's crop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from evalkit import images
from evalkit.cli.options import Option
from evalkit.cli.parameters import Readable
from evalkit.images import ImageSource, alignment, detectors, landmarks
from evalkit.images.kinds import counted, shown
from evalkit.images.landmarks import Landmarks
from evalkit.types import InputSpec
from evalkit.vectors.layout import FAILURES, NO_FACE, SEVERAL_FACES


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChoice:
    """The images that were given, and how they are brought to a model's crop and size."""

    data: Path | None
    landmarks: Path | None
    order: str
    detector: str | None
    faces: detectors.FaceChoice
    resize: bool

    def find(self) -> ImageSource:
        """Find the images of --data, which must have been given."""
        if self.data is None:
            raise click.UsageError("give --data IMAGES: a folder, archive or list")
        return images.find(self.data)

    def fitted(
        self,
        source: ImageSource,
        spec: InputSpec,
        of_set: Landmarks | None = None,
        several: Callable[[str], None] = lambda key: None,
    ) -> ImageSource:
        """Bring images to the model's crop and size, where the user said how.

        of_set : landmarks that come with the images, used where the user names none.
        several : told of each image in which one of several faces was taken.
        """
        marks = of_set if self.detector is None else None
        if self.landmarks is not None:
            marks = landmarks.read(self.landmarks, self.order)
        if marks is not None:
            points = marks.of(source.keys)
            source = alignment.aligned(source, points, spec.crop).telling(
                marks.folder_note(source.keys)
            )
        if self.detector is not None:
            finder = detectors.finder(self.detector)
            source = alignment.detected(source, finder, spec.crop, self.faces, several)
        source = alignment.narrowed(source, spec.size, to_scale=self.resize)
        return source.resized(spec.size) if self.resize else source


def faces_told(failed: Mapping[str, str], several: Collection[str], total: int) -> list[str]:
    """Tell in how many images no face was found, or several; those cached are not looked at."""
    lines = []
    for reason in (FAILURES[NO_FACE], FAILURES[SEVERAL_FACES]):
        if keys := [key for key, why in failed.items() if why == reason]:
            lines.append(f"{reason} in {len(keys):,} of {total:,} images: {shown(keys)}")
    if several:
        what = counted(several, "image", "images")
        lines.append(f"one of several faces was taken in {what}: {shown(sorted(several))}")
    return lines


of_model = functools.partial(click.option, cls=Option, section="Model")

data_option = of_model(
    "--data",
    type=Readable(folder=True),
    metavar="IMAGES",
    help="Images: a folder, container (.zip .tar .rec .lmdb .parquet) or list of paths.",
)

placing_options = (
    of_model("--resize", is_flag=True, help="Scale images of any size to the model's."),
    of_model(
        "--landmarks",
        type=Readable(),
        metavar="FILE",
        help="Align by five points per face: .npz, .json or .csv.",
    ),
    of_model(
        "--landmark-order",
        type=click.Choice(list(landmarks.ORDERS)),
        default="xy",
        help="Order in --landmarks: x1 y1 x2 ..., or MTCNN's x1 ... x5 y1 ... y5.",
    ),
    of_model(
        "--align",
        "detector",
        metavar="NAME",
        help=f"Align by a detector: {', '.join(detectors.BUILT_IN)}, a plug-in or module:Class.",
    ),
    of_model(
        "--faces",
        type=click.Choice(detectors.CHOICES),
        help="Face to take of several: nearest the centre (default), largest, or none (only).",
    ),
    of_model(
        "--verify-data",
        is_flag=True,
        help="Read every image again, even where its file is unchanged.",
    ),
)
