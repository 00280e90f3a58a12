"""IJB-A's ten splits, as NIST's folders of CSVs have them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evalkit.datasets import ijb
from evalkit.datasets.group_table import GroupTable
from evalkit.errors import DataError
from evalkit.files import as_path
from evalkit.protocols.ijb import Enrolled
from evalkit.protocols.ijb.splits import Split
from evalkit.types import Manifest, PairSet

_VERIFY = ("verify_metadata", "verify_comparisons")
_SEARCH = ("search_gallery", "search_probe")


@dataclass(frozen=True, slots=True)
class SplitLists:
    """Splits whose rows are those of a manifest, and their numbers; the lines of all lists."""

    manifest: Manifest
    splits: tuple[Split, ...]
    numbers: tuple[int, ...]
    faces: tuple[ijb.Faces, ...] = ()

    def attributes(self) -> tuple[GroupTable, dict[str, int]]:
        """Columns that all lists have, such as GENDER and FACE_YAW, by the first line of each FILE.

        Beside it by column how many files other lines give another value.
        """
        names = [name for of in self.faces for name in of.names]
        first: dict[str, int] = {}
        for line, name in enumerate(names):
            first.setdefault(name, line)
        columns, other = {}, {}
        for column in self.faces[0].columns:
            if all(column in of.columns for of in self.faces):
                cells = [cell for of in self.faces for cell in of.columns[column]]
                columns[column] = tuple(cells[line] for line in first.values())
                named_cells = zip(names, cells, strict=True)
                other[column] = len(
                    {name for name, cell in named_cells if cell != cells[first[name]]}
                )
        return GroupTable("the lists", "key", tuple(first), columns), other


def doubts(listed: SplitLists) -> dict[str, str]:
    """Say for the report which splits compare a template with itself, or a pair twice."""
    told: dict[str, list[str]] = {}
    for number, split in zip(listed.numbers, listed.splits, strict=True):
        if (pairs := split.pairs) is not None:
            left, right = pairs.left.astype(np.int32), pairs.right.astype(np.int32)
            of_split = ijb.TemplatePairs(left, right, pairs.genuine)
            for kind, doubt in ijb.doubts(of_split, f"split {number}").items():
                told.setdefault(kind, []).append(f"split {number}: {doubt}")
    return {kind: "; ".join(of) for kind, of in told.items()}


def read(folder: str | os.PathLike[str]) -> SplitLists:
    """Read every split below a folder: its pairs, its search, or both.

    Pairs are `verify_metadata_K.csv` and `verify_comparisons_K.csv`, a search
    `search_gallery_K.csv` and `search_probe_K.csv`.  DataError where one of two is missing, or a
    file shows two people.
    """
    folder = as_path(folder)
    found: dict[int, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*.csv")):
        if named := re.fullmatch(r"(verify|search)_([a-z]+)_([0-9]{1,3})", path.stem):
            found.setdefault(int(named[3]), {})[f"{named[1]}_{named[2]}"] = path
    for number, files in found.items():
        for both in (_VERIFY, _SEARCH):
            if len(missing := [name for name in both if name not in files]) == 1:
                raise DataError(f"split {number} in {folder} lacks {missing[0]}_{number}.csv")
    complete = {k: files for k, files in sorted(found.items()) if {*_VERIFY, *_SEARCH} & {*files}}
    if not complete:
        raise DataError(
            f"{folder} holds no split of IJB-A",
            "expected verify_metadata_1.csv with verify_comparisons_1.csv, or search_gallery_1.csv "
            "with search_probe_1.csv",
        )
    faces = {
        (number, name): ijb.read_faces(files[name])
        for number, files in complete.items()
        for name in ("verify_metadata", *_SEARCH)
        if name in files
    }
    subject: dict[str, int] = {}
    for (number, _), of in faces.items():
        for name, who in zip(of.names, of.subject.tolist(), strict=True):
            if subject.setdefault(name, who) != who:
                raise DataError(
                    f"{name} shows subjects {subject[name]} and {who}, in split {number} at last"
                )
    row = {name: n for n, name in enumerate(subject)}
    splits = tuple(
        _split(files, {name: of for (k, name), of in faces.items() if k == number}, row)
        for number, files in complete.items()
    )
    manifest = Manifest(tuple(row), np.array([*subject.values()], np.int32))
    return SplitLists(manifest, splits, tuple(complete), tuple(faces.values()))


def _split(held: dict[str, Path], faces: dict[str, ijb.Faces], row: dict[str, int]) -> Split:
    lists = list(faces.values())
    columns = {
        name: np.concatenate([getattr(of, name) for of in lists]) for name in ("template", "media")
    }
    rows = np.array([row[name] for of in lists for name in of.names])
    once = np.unique(np.column_stack([rows, *columns.values()]), axis=0, return_index=True)[1]
    once.sort()  # a template may stand in both lists
    enrolled = {name: Enrolled(*_templates(of)) for name, of in faces.items()}
    pairs = None
    if "verify_comparisons" in held:
        listed = ijb.read_matches(held["verify_comparisons"], [enrolled["verify_metadata"]])
        left, right = listed.left.astype(np.int64), listed.right.astype(np.int64)
        pairs = PairSet(left, right, listed.genuine)
    return Split(
        row=rows[once],
        template=columns["template"][once],
        media=columns["media"][once],
        pairs=pairs,
        gallery=enrolled.get("search_gallery"),
        probe=enrolled.get("search_probe"),
    )


def _templates(faces: ijb.Faces) -> tuple[np.ndarray, np.ndarray]:
    """Each template once, and its subject."""
    ids, first = np.unique(faces.template, return_index=True)
    return ids, faces.subject[first]
