"""YouTube Faces: pairs of videos, MATLAB's arrays of them, and which frames are of which video.

Ten splits of 250 + 250 pairs [Wolf, Hassner, Maoz, CVPR 2011].  As a text a line is `split, number,
video, video, same`; an array of (P, 3, splits) holds the numbers of two videos, from 1, and 1 where
they show one person.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.datasets.pair_list import PairList, build
from evalkit.errors import DataError, first_few
from evalkit.files import as_path
from evalkit.keys import ending_in, folder_of, read_keys
from evalkit.vectors import matlab

_NAMES = "Youtube_names.txt"  # what bob's copy calls the list of videos


def splits_of(held: dict[str, Any]) -> NDArray[np.int64] | None:
    """Find the array of splits among a file's variables: (P, 3, splits); None where none is."""
    arrays = [x for x in held.values() if isinstance(x, np.ndarray) and x.ndim == 3]
    if len(arrays) != 1 or arrays[0].shape[1] != 3 or arrays[0].dtype.kind not in "fiu":
        return None
    return np.asarray(arrays[0], np.int64) if np.isfinite(arrays[0]).all() else None


def read_splits(path: str | os.PathLike[str]) -> PairList:
    """Read the official `meta_and_splits.mat`, which names its videos, or an array alone.

    Beside `Youtube_splits.mat` lies the list `Youtube_names.txt`.  Folds are from 0.
    """
    path = as_path(path)
    variables = matlab.read(path)
    splits = splits_of(variables)
    if splits is None:
        raise DataError(
            f"{path.name} has no array of splits; it holds {', '.join(variables) or 'no arrays'}",
            "expected (500, 3, 10): the numbers of two videos, and 1 where they show one person",
        )
    videos = variables.get("video_names")
    if videos is None:
        if not (beside := path.with_name(_NAMES)).is_file():
            raise DataError(
                f"{path.name} names its videos by number only; "
                f"the list of names, {beside}, is missing"
            )
        videos = read_keys(beside)
    if not isinstance(videos, list) or not all(isinstance(name, str) for name in videos):
        raise DataError(f"the names of videos in {path.name} are not texts")
    number = splits[:, :2]
    if number.min(initial=1) < 1 or number.max(initial=1) > len(videos):
        raise DataError(f"{path.name} numbers other videos than the {len(videos)} that have names")
    if not np.isin(splits[:, 2], (0, 1)).all():
        raise DataError(f"{path.name} has labels that are neither 0 nor 1")

    def rows() -> Iterator[tuple[str, str, bool, int, int]]:
        for fold in range(splits.shape[2]):
            for line, (left, right, same) in enumerate(splits[:, :, fold].tolist()):
                yield videos[left - 1], videos[right - 1], same == 1, fold, line + 1

    return build(rows(), str(path))


def videos_of(keys: Sequence[str], videos: Sequence[str]) -> NDArray[np.int64]:
    """Find the video of each frame, whose folder ends in the video's name: (N,), -1 for others.

    DataError names videos that have no frame at all.
    """
    video = ending_in(map(folder_of, keys), videos)
    missing = np.setdiff1d(np.arange(len(videos)), video).tolist()
    if missing:
        raise DataError(
            f"{len(missing)} of {len(videos)} videos have no frame: "
            f"{first_few([videos[n] for n in missing])}"
            + (f"; the first frame here is called {keys[0]!r}" if keys else ""),
            "a frame's key has its video's name for folder, as Sadie_Frost/1/0.12.jpg; a frame "
            "without a face is a row of NaN with --allow-failures; of one vector a video: "
            "evalkit verify",
        )
    return video
