"""Test sets as files and folders hold them: lists, .bin sets, people, searches, IJB, bench.toml."""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit import images, run, templates
from evalkit.datasets import bcolz, pair_list_layouts, search_lists
from evalkit.datasets import ijb as ijb_lists
from evalkit.datasets.search_lists import SearchLists
from evalkit.errors import DataError
from evalkit.files import as_path, read_text
from evalkit.images import ImageSource
from evalkit.images.folders import people_in_doubt
from evalkit.images.landmarks import Landmarks
from evalkit.images.source import KeptImages
from evalkit.keys import by_last_parts, canonical, people_of
from evalkit.run import Compared
from evalkit.templates import PooledPairs
from evalkit.types import Ints, Manifest

LIST = "bench.toml"
IJB_IMAGES = "loose_crop"  # beside IJB's lists
_KEYS = ("path", "data", "format", "name")
_CFP = ("Protocol", "Split")  # folders of CFP, which holds two lists
_CFP_IMAGES = "Data/Images"
_FEW = 20  # folders that are looked into for sets
# Lists of pairs in the folder of their set: LFW's, XQLFW's, CALFW's and CPLFW's; RFW's four
_PAIRS_IN = ("pairs.txt", "pairs_*.txt", "*_pairs.txt", "txts/*/*_pairs.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSet:
    """A set read and found whole, its images not yet embedded.

    name : of its report and its row.  path : that it was read from.
    comparisons : its pairs, of images or of templates; gallery and probes; or the subject of each
    image, (N,), -1 where unlabelled.  kept : its images in memory, see `keep`.
    """

    name: str
    path: Path
    images: ImageSource
    comparisons: Compared | PooledPairs | SearchLists | Ints
    kept: KeptImages | None = None

    @property
    def manifest(self) -> Manifest:
        """Name the images that are compared."""
        if isinstance(self.comparisons, Compared | PooledPairs):
            return self.comparisons.manifest
        if isinstance(self.comparisons, SearchLists):
            return self.comparisons.resolve()[0]
        return self.images.manifest()

    @property
    def landmarks(self) -> Landmarks | None:
        """Points of its faces, which come with it, by which its images are to be aligned."""
        return (
            self.comparisons.listed.landmarks if isinstance(self.comparisons, PooledPairs) else None
        )


def read_sets(
    paths: Sequence[str | os.PathLike[str]], data: str | os.PathLike[str] | None = None
) -> list[BenchSet]:
    """Read sets of any mix, and find every image that they name.

    paths : files as `evalkit verify` takes them; a folder of .bin sets, with a bench.toml, with
    IJB's lists (in itself or in meta/), as CFP, RFW, TinyFace and SCface come, with pairs.txt or
    the like, with gallery/ and probe/, or with a folder per person; or a bench.toml, which has a
    [[set]] with path, and where it needs them data, format and name, for each, relative to its own
    folder.  Sets may lie one or two folders further in, as archives unpack them.
    data : the images of lists that hold none.
    DataError for the first set that cannot be measured, and where two have one name.
    """
    root = None if data is None else as_path(data)
    sets = [one for path in paths for one in _sets_at(as_path(path), root)]
    for name, count in Counter(one.name for one in sets).items():
        if count > 1:
            where = " and ".join(str(one.path) for one in sets if one.name == name)
            hint = f'give each its own: [[set]] with path and name = "..." in a {LIST}'
            raise DataError(f"{count} sets are called {name!r}: {where}", hint)
    return sets


def _sets_at(path: Path, data: Path | None) -> list[BenchSet]:
    if path.suffix.lower() == ".toml":
        return _listed(path, data)
    if (path / LIST).is_file():
        return _listed(path / LIST, data)
    return _sets_of(path, data)


def _sets_of(path: Path, data: Path | None) -> list[BenchSet]:
    """Read the sets that a file or folder is; a folder that is none of them is one of people."""
    if not path.is_dir() or bcolz.is_carray(path) or (path / "pairs_01.txt").is_file():
        return [_pairs(path, data)]
    if searches := search_lists.below(path):
        source = images.find(path)
        return [
            BenchSet(name=n, path=path, images=source, comparisons=of) for n, of in searches.items()
        ]
    return _published(path, data) or [_people(path)]


def _published(path: Path, data: Path | None, deeper: int = 2) -> list[BenchSet]:
    """Read the sets of pairs or templates that come as this folder, else as few folders in it.

    Archives unpack into a folder of their own: CALFW/calfw/, RFW/images/test/, IJB_release/IJBC/.
    """
    if (lists := ijb_lists.find(path)) is not None:
        return [_templates(path, lists, data)]
    if any((path / name).is_dir() for name in _CFP):
        own = data or path / _CFP_IMAGES
        return [_pairs(path, own, layout, layout) for layout in ("cfp-ff", "cfp-fp")]
    if files := sorted(each for each in path.iterdir() if each.suffix.lower() == ".bin"):
        return [_pairs(each, data) for each in files]
    if listed := sorted({each for names in _PAIRS_IN for each in path.glob(names)}):
        return [_pairs(each, data, beside=path) for each in listed]
    folders = sorted(each for each in path.iterdir() if each.is_dir()) if deeper else []
    few = folders if len(folders) <= _FEW else []  # people are many
    return [one for folder in few for one in _published(folder, data, deeper - 1)]


def _images_beside(path: Path, keys: Sequence[str]) -> ImageSource:
    """Find the images in the folder of their list; of two of a name, those aligned already.

    CALFW, CPLFW, XQLFW and MLFW come with `aligned images`, `aligned` or the like beside the
    photographs that these were cut from.
    """
    source = images.find(path)
    if not by_last_parts([*map(canonical, keys)], [*map(canonical, source.keys)])[2]:
        return source
    aligned = [each for each in path.iterdir() if each.is_dir() and "aligned" in each.name.lower()]
    if len(aligned) != 1:
        return source
    return images.find(aligned[0]).telling(f"images are those of {aligned[0].name}/ alone")


def _pairs(
    path: Path,
    data: Path | None,
    layout: str | None = None,
    name: str = "",
    beside: Path | None = None,
) -> BenchSet:
    """Read a list of pairs.  data : its images; else `beside`, the folder that it is a set in."""
    compared = run.read_pairs(path, layout)
    source = compared.images
    if source is None and data is None and beside is not None:
        source = _images_beside(beside, compared.manifest.keys)
    if source is None and data is None:
        how = f'--data IMAGES, or data = "IMAGES" in a {LIST}'
        raise DataError(f"{path} holds no images, only their names", how)
    if source is None:
        source = images.find(data or "")
    source.select(compared.manifest.keys)  # what is missing is told before any is embedded
    return BenchSet(name=name or path.stem, path=path, images=source, comparisons=compared)


def _templates(
    path: Path, lists: ijb_lists.MetaLists, data: Path | None, name: str = ""
) -> BenchSet:
    crops = path / IJB_IMAGES
    if data is None and not crops.is_dir():
        how = f'put them into {IJB_IMAGES}/ there, --data IMAGES, or data = "IMAGES" in a {LIST}'
        raise DataError(f"{path} holds no images, only their names", how)
    source, compared = images.find(data or crops), templates.read_template_pairs(lists)
    source.select(compared.manifest.keys)
    return BenchSet(
        name=name or path.resolve().name, path=path, images=source, comparisons=compared
    )


def _people(path: Path, name: str = "") -> BenchSet:
    source = images.find(path)
    subject = people_of(source.keys, path, "give a folder per person, or of .bin sets")
    source = replace(source, left_out=(*source.left_out, *people_in_doubt(source.keys)))
    return BenchSet(name=name or path.resolve().name, path=path, images=source, comparisons=subject)


def _listed(path: Path, data: Path | None) -> list[BenchSet]:
    """Read the sets of a bench.toml."""
    try:
        tables = tomllib.loads(read_text(path)).get("set")
    except tomllib.TOMLDecodeError as e:
        raise DataError(f"{path} is not TOML: {e}") from e
    if not isinstance(tables, list) or not tables:
        raise DataError(f"{path} lists no set", 'write [[set]] and path = "FILE" for each')
    return [
        one
        for n, table in enumerate(tables, 1)
        for one in _of_table(table, f"{path}: set {n}", path.parent, data)
    ]


def _of_table(table: Any, where: str, root: Path, data: Path | None) -> list[BenchSet]:
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise DataError(f"{where} is not a table of texts", f"its keys are {', '.join(_KEYS)}")
    if unknown := set(table) - set(_KEYS):
        raise DataError(f"{where}: unknown key {min(unknown)!r}", f"known are {', '.join(_KEYS)}")
    if "path" not in table:
        raise DataError(f"{where} has no path", 'write path = "FILE"')
    path, layout, name = root / as_path(table["path"]), table.get("format"), table.get("name", "")
    if name and Path(name).name != name:
        raise DataError(f"{where}: {name!r} cannot be the name of a file")
    if layout is not None and layout not in pair_list_layouts.LAYOUTS:
        known = ", ".join(pair_list_layouts.LAYOUTS)
        raise DataError(f"{where}: no format {layout!r}", f"known are {known}")
    own = root / as_path(table["data"]) if "data" in table else data
    if layout is not None or not path.is_dir():
        return [_pairs(path, own, layout, name)]
    sets = _sets_of(path, own)
    if name and len(sets) > 1:
        held = ", ".join(one.name for one in sets)
        raise DataError(f"{where}: {path} is {len(sets)} sets, {held}", "leave name out")
    return [replace(one, name=name) for one in sets] if name else sets
