"""MegaFace's files: template lists, feature folders, noise lists, models.

Lists and features come with the MegaFace devkit, noise lists with InsightFace (`evalkit list`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError, first_few
from evalkit.files import as_path, lines_of, read_text
from evalkit.keys import canonical, json_lists, spelled_alike
from evalkit.protocols.recipes.joint_bayesian import JointBayesian
from evalkit.vectors import devkit_matrix

_SPELLED = re.compile(r"\\|//|(^|/)\./")  # one image's path in several ways
_SIGNS = ("\\", "//", "./")  # without which none is: a million paths are searched at once


@dataclass(frozen=True, slots=True)
class ProbeList:
    """Images to search with, in list order (the devkit's ROC takes the first hundred).

    keys : unique relative names.  subject : (P,) int32, numbered in the byte order of the names.
    """

    keys: tuple[str, ...]
    subject: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class DistractorList:
    """Distractor images: `size` and `set` are the end of its name, `..._1000000_1`."""

    keys: tuple[str, ...]
    size: int
    set: int


def read_probe_list(path: str | os.PathLike[str]) -> ProbeList:
    """Read a list of probes: a JSON object with "path" and, of the same length, "id".

    DataError where it lists an image twice, or does not say whom one shows.
    """
    path = as_path(path)
    lists = json_lists(path, "path", "id")
    unnamed = [key for key, who in zip(lists["path"], lists["id"], strict=True) if not who.strip()]
    if unnamed:
        raise DataError(
            f"{path.name} gives no id for {len(unnamed)} of {len(lists['id'])} images: "
            f"{first_few(unnamed)}",
            "a probe is searched for by another image of its person: leave them out",
        )
    if alike := spelled_alike(lists["id"]):
        raise DataError(
            f"{path.name} has ids that differ in case or blanks alone: {alike[0][0]!r} and "
            f"{alike[0][1]!r}",
            "spell each person in one way, or name two people more clearly",
        )
    number = {name: k for k, name in enumerate(sorted(set(lists["id"])))}
    subject = np.array([number[name] for name in lists["id"]], np.int32)
    return ProbeList(_unique(lists["path"], path), subject)


def read_distractor_list(path: str | os.PathLike[str]) -> DistractorList:
    """Read a list of distractors: a JSON object with "path".

    The last two numbers of the file's name are its size and set; a size that is not the number of
    paths is an error, and a name without them is set 1 of the size found.
    """
    path = as_path(path)
    keys = _unique(json_lists(path, "path")["path"], path)
    named = re.search(r"_(\d{1,9})_(\d{1,9})(?:\.json)?$", path.name)
    size, number = (int(named[1]), int(named[2])) if named else (len(keys), 1)
    if size != len(keys):
        raise DataError(f"{path.name} says {size} distractors and lists {len(keys)}", "was it cut?")
    return DistractorList(keys, size, number)


def refuse_probes(
    probes: ProbeList, distractors: DistractorList, path: str | os.PathLike[str]
) -> None:
    """Raise DataError where an image is a probe and a distractor: it is most like itself.

    path : of the list of distractors.
    """
    path = as_path(path)
    both = sorted({*probes.keys} & {*distractors.keys})
    if both:
        raise DataError(
            f"{path.name} lists {len(both):,} probes as distractors: {first_few(both)}",
            "a distractor shows nobody among the probes",
        )


def _unique(keys: list[str], path: Path) -> tuple[str, ...]:
    names, text = keys, "\n".join(keys)
    if any(sign in text for sign in _SIGNS):
        names = [
            str(PurePosixPath(key.replace("\\", "/"))) if _SPELLED.search(key) else key
            for key in keys
        ]
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = next(k for k in names if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise DataError(f"{path} lists {twice!r} twice")
    return tuple(keys)


def read_noises(path: str | os.PathLike[str]) -> frozenset[str]:
    """Read a noise list: a name per line, after a tab where there is one; `#` starts a comment.

    Names are kept without suffix.  A name is that of every image whose key ends in it, see
    `keys.ending_in`: FaceScrub's are bare file names, MegaFace's are
    `375/37531198@N00/4174611825_0.jpg`.
    """
    path = as_path(path)
    names = (line.split("\t") for line in lines_of(read_text(path)) if not line.startswith("#"))
    return frozenset(canonical(fields[min(1, len(fields) - 1)]) for fields in names if fields[0])


def algorithm(ending: str) -> str:
    """Name the algorithm as the devkit does: `_foam.bin` -> `foam`."""
    return ending.partition(".")[0].strip("_") or "features"


def probes_name(probe_list: str | os.PathLike[str]) -> str:
    """Name the probes in the devkit's files: fgnet where the list's name begins so, or facescrub.

    The devkit takes what stands before the first "_" of `fgnet_features_list.json`; plot scripts
    look for these two names.
    """
    probe_list = as_path(probe_list)
    return "fgnet" if probe_list.name.lower().startswith("fgnet") else "facescrub"


def read_folder(
    folder: str | os.PathLike[str], keys: Sequence[str], ending: str
) -> NDArray[np.float32]:
    """Read the features `<folder>/<key><ending>` of a list: (N, D) float32.

    DataError lists what is missing.
    """
    folder = as_path(folder)
    paths = [folder / (key + ending) for key in keys]
    try:
        return devkit_matrix.read_features(paths)
    except FileNotFoundError:
        missing = [k for k, p in zip(keys, paths, strict=True) if not p.is_file()]
        raise DataError(
            f"{folder} lacks the features of {len(missing)} of {len(keys)} images: "
            f"{first_few(missing)}",
            f"looked for files like {PurePosixPath(keys[0]).name + ending}",
        ) from None
    except ValueError as e:
        raise DataError(f"a listed path cannot name a file in {folder}: {e}") from e


def read_model(path: str | os.PathLike[str]) -> JointBayesian | None:
    """Read a devkit model (mean, U, V); None for jb_identity.bin, whose matrices are empty."""
    path = as_path(path)
    mean, u, v = devkit_matrix.read_matrices(path.read_bytes(), 3, path.name)
    if not mean.size and not u.size and not v.size:
        return None
    mean = mean.ravel()
    if u.shape[1:] != mean.shape or v.shape[1:] != mean.shape:
        raise DataError(
            f"{path.name} holds matrices of shapes {mean.shape}, {u.shape} and {v.shape}",
            "expected mean (D,), U (K, D) and V (L, D)",
        )
    return JointBayesian(*(np.asarray(m, np.float32) for m in (mean, u, v)))
