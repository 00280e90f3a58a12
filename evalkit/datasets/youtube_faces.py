"""YouTube Faces: the list of video pairs, and which frames are of which video."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evalkit.datasets import pair_list_layouts
from evalkit.datasets.pair_list import PairList
from evalkit.errors import DataError
from evalkit.keys import canonical, last_parts


def read_pairs(path: str | os.PathLike[str], layout: str | None = None) -> PairList:
    """Read pairs of videos, `splits.txt`; the folder of a video (Sadie_Frost/1) is its person."""
    listed = pair_list_layouts.read(path, layout).pairs
    named = all("/" in video for video in (*listed.left, *listed.right))
    return replace(listed, subject=lambda video: video.rpartition("/")[0]) if named else listed


def videos_of(keys: Sequence[str], videos: Sequence[str]) -> NDArray[np.int64]:
    """Find the video of each frame, whose folder ends in the video's name: (N,), -1 for others.

    DataError names videos that have no frame at all.
    """
    names = [canonical(video) for video in videos]
    number = {name: n for n, name in enumerate(names)}
    depths = {name.count("/") + 1 for name in names}
    found = np.full(len(keys), -1, np.int64)
    for row, key in enumerate(keys):
        folder = canonical(key).rpartition("/")[0]
        found[row] = max((number.get(last_parts(folder, d), -1) for d in depths), default=-1)
    missing = np.setdiff1d(np.arange(len(names)), found)
    if len(missing):
        shown = ", ".join(videos[n] for n in missing[:5].tolist())
        raise DataError(
            f"{len(missing)} of {len(names)} videos have no frame: {shown}",
            "a frame's key has its video's name for folder, as Sadie_Frost/1/0.12.jpg; a frame "
            "without a face is a row of NaN with --allow-failures",
        )
    return found
