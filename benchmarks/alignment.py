"""How far the eyes of images are from the template: the table of docs/alignment.md.

    python benchmarks/alignment.py CROPS.zip [PHOTOGRAPHS.zip]

CROPS.zip holds LFW's images as crops of 112x112, PHOTOGRAPHS.zip as they come, 250x250.  Measured
by the function that warns.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.images import ImageSource, find
from evalkit.images.alignment import eyes_in_mean, standardised

CROP, SIZE = "arcface-112", (112, 112)
COUNT = 200
Measured = tuple[str, list[tuple[float, float]]]  # images; of each sample, how far off, how dark


def of_crops(crops: ImageSource, draws: int) -> Iterator[Measured]:
    """Measure aligned images at random and in a row, and shifted ones."""
    faces = np.asarray(standardised(crops, SIZE, len(crops.keys)), np.float32)
    rng = np.random.default_rng(0)
    drawn = (rng.choice(len(faces), COUNT, replace=False) for _ in range(draws))
    yield f"aligned, {COUNT} at random", [eyes_in_mean(faces[rows].mean(0), CROP) for rows in drawn]
    yield f"aligned, {COUNT} in a row by name", [eyes_in_mean(m, CROP) for m in _in_a_row(faces)]
    down = crops.then(lambda _, image: np.roll(image, 6, 0), "down")
    yield "shifted down by 6 pixels", [_of_sample(down)]
    apart = crops.then(lambda _, i: np.roll(i, rng.integers(-15, 16, 2), (0, 1)), "apart")
    yield "each shifted at random by up to 15", [_of_sample(apart)]


def of_photographs(photographs: ImageSource) -> Iterator[Measured]:
    """Measure whole photographs: squashed, and the middle of each."""
    yield "whole photographs, squashed", [_of_sample(photographs.resized(SIZE))]
    yield "the middle 112x112 of each", [_of_sample(photographs.then(_middle, "middle"))]


def _in_a_row(faces: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    """Means of every COUNT faces in a row."""
    total = faces[:COUNT].sum(0, dtype=np.float64)
    yield total / COUNT
    for first, next_ in zip(faces, faces[COUNT:], strict=False):
        total += next_ - first
        yield total / COUNT


def _middle(_: int, image: NDArray[Any]) -> NDArray[Any]:
    top, left = ((np.array(image.shape[:2]) - SIZE) // 2).tolist()
    return image[top : top + SIZE[0], left : left + SIZE[1]]


def _of_sample(images: ImageSource) -> tuple[float, float]:
    return eyes_in_mean(np.mean(standardised(images, SIZE), axis=0), CROP)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("crops", type=Path)
    parser.add_argument("photographs", type=Path, nargs="?")
    parser.add_argument("--draws", type=int, default=3000)
    given = parser.parse_args()
    measured = list(of_crops(find(given.crops), given.draws))
    if given.photographs is not None:
        measured += of_photographs(find(given.photographs))
    print("| images | samples | eye off by, pixels | above 5 | eyes darker by, deviations |")
    print("|---|---|---|---|---|")
    for name, samples in measured:
        off, darker = np.array(samples).T
        above = np.count_nonzero(off > 5)
        print(f"| {name} | {len(off):,} | {off.max():.2f} | {above:,} | {darker.min():.2f} |")


if __name__ == "__main__":
    main()
