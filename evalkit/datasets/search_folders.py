"""Folders of a gallery, probes and distractors; TinyFace's and SCface's, known by their names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from evalkit import images
from evalkit.errors import DataError
from evalkit.files import as_path
from evalkit.vectors import matlab

# search -> the folders of its gallery, probes and distractors below that of its set
LAYOUTS = {
    "search": ("gallery", "probe", "distractors"),
    "tinyface": ("Gallery_Match", "Probe", "Gallery_Distractor"),
    **{
        f"scface-{k}": ("mugshot_frontal_cropped_all", f"surveillance_cameras_distance_{k}", "")
        for k in (1, 2, 3)
    },
}
_INSIDE = ("", "Testing_Set", "SCface_database")  # where the archives of these sets unpack them
_CAMERAS = "surveillance_cameras_distance_"  # SCface's, whose folders below are cameras
# TinyFace's lists, beside its folders: the file, and its cells of names and of identities
_LISTS = {
    "Gallery_Match": ("gallery_match_img_ID_pairs.mat", "gallery_set", "gallery_ids"),
    "Probe": ("probe_img_ID_pairs.mat", "probe_set", "probe_ids"),
}


def find(root: str | os.PathLike[str]) -> dict[str, tuple[Path, Path, Path | None]]:
    """Name the searches whose folders lie below `root`: gallery, probes, distractors if any."""
    for top in (as_path(root) / inside for inside in _INSIDE):
        folders: dict[str, tuple[Path, Path, Path | None]] = {}
        for name, (gallery, probe, more) in LAYOUTS.items():
            if (top / gallery).is_dir() and (top / probe).is_dir():
                aside = top / more if more and (top / more).is_dir() else None
                folders[name] = (top / gallery, top / probe, aside)
        if folders:
            return folders
    return {}


def read(
    folder: str | os.PathLike[str], root: str | os.PathLike[str]
) -> tuple[dict[str, str], str]:
    """Who is on each image below a folder, by its path below `root`; and by what that is told.

    By TinyFace's own list, where one lies beside the folder; else by the first folder below, where
    every image lies in one; else, and on SCface's cameras, by its name up to the first "_".
    """
    folder, top = as_path(folder), as_path(root).resolve()
    if not folder.resolve().is_relative_to(top):
        raise DataError(f"{folder} is not below {root}", "give --data the folder that holds all")
    start = folder.resolve().relative_to(top)
    keys = images.find(folder).keys
    if folder.name in _LISTS and (listed := folder.parent / _LISTS[folder.name][0]).is_file():
        who, by = _by_list(listed, *_LISTS[folder.name][1:]), listed.name
        if unknown := [key for key in keys if key.rpartition("/")[2] not in who]:
            raise DataError(f"{listed.name} does not name {unknown[0]}")
        people = {key: who[key.rpartition("/")[2]] for key in keys}
    elif all("/" in key for key in keys) and not folder.name.startswith(_CAMERAS):
        people, by = {key: key.split("/")[0] for key in keys}, "folders"
    else:
        people = {key: Path(key).stem.split("_")[0] for key in keys}
        by = "image names up to the first _"
    return {(start / key).as_posix(): name for key, name in people.items()}, by


def _by_list(path: Path, names: str, ids: str) -> dict[str, str]:
    """Who is on each image by its name, as two cells of a list say; DataError where two are."""
    variables = matlab.read(path)
    try:
        numbers = np.asarray(variables[ids], np.float64).ravel()
        if not np.array_equal(numbers, np.floor(numbers)) or np.isinf(numbers).any():
            raise ValueError("identities are whole numbers")
        cells = [variables[names]] if isinstance(variables[names], str) else variables[names]
        people = [str(int(n)) for n in numbers.tolist()]
        who = dict(zip(cells, people, strict=True))
    except (KeyError, TypeError, ValueError) as e:
        raise DataError(
            f"{path.name} is not a list of TinyFace",
            f"expected {names}, names of images, and {ids}, a whole number each",
        ) from e
    for name, person in zip(cells, people, strict=True):
        if who[name] != person:
            raise DataError(f"{path.name} calls {name} both {person} and {who[name]}")
    return who
