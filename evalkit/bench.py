"""Several test sets for one model: lists of pairs, sets with their images, folders of people.

>>> from evalkit import bench, load_model
>>> model = load_model("model.onnx", preset="arcface")  # doctest: +SKIP
>>> sets = bench.read_sets(["agedb_30.bin", "cfp_fp.bin", "FACES"])  # doctest: +SKIP
>>> {one.name: bench.measured(one, model) for one in sets}  # doctest: +SKIP
"""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import adapters, images, run
from evalkit.datasets import bcolz, pair_list_layouts
from evalkit.errors import DataError
from evalkit.files import as_path, read_text
from evalkit.images import ImageSource
from evalkit.keys import subjects_of
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.run import Compared
from evalkit.types import Ints, Manifest, Report
from evalkit.vectors.matching import Vectors

LIST = "bench.toml"
_KEYS = ("path", "data", "format", "name")
_LISTS_OF_PAIRS = ("Protocol", "Split")  # folders of CFP, which has two


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSet:
    """A set read and found whole, its images not yet embedded.

    name : of its report and its row.  path : that it was read from.
    comparisons : its pairs; or the subject of each image, (N,), -1 for nobody's.
    """

    name: str
    path: Path
    images: ImageSource
    comparisons: Compared | Ints

    @property
    def manifest(self) -> Manifest:
        """Name the images that are compared."""
        if isinstance(self.comparisons, Compared):
            return self.comparisons.manifest
        return self.images.manifest()


def read_sets(
    paths: Sequence[str | os.PathLike[str]], data: str | os.PathLike[str] | None = None
) -> list[BenchSet]:
    """Read sets of any mix, and find every image that they name.

    paths : files as `evalkit verify` takes them; a folder of .bin sets, with a bench.toml, or with
    a folder per person; or a bench.toml, which has a [[set]] with path, and where it needs them
    data, format and name, for each set, relative to its own folder.
    data : the images of lists that hold none.
    DataError for the first set that cannot be measured, and where two have one name.
    """
    root = None if data is None else as_path(data)
    found = [one for path in paths for one in _sets_at(as_path(path), root)]
    for name, count in Counter(one.name for one in found).items():
        if count > 1:
            raise DataError(f"{count} sets are called {name!r}", f"name them in a {LIST}")
    return found


def measured(one: BenchSet, vectors: Vectors | adapters.Adapter, flip: Flip = "none") -> Report:
    """Measure a set: pairs as `verification`, a folder as `people`.

    vectors : of the set's images, or the model that embeds them.
    """
    common: dict[str, Any] = {"images": one.images, "flip": flip, "set_name": one.name}
    if isinstance(one.comparisons, Compared):
        return run.evaluate("verification", vectors, one.comparisons, **common)
    away = one.comparisons < 0
    return run.evaluate("people", vectors, one.comparisons, unknown=away, **common)


def _sets_at(path: Path, data: Path | None) -> list[BenchSet]:
    if path.suffix.lower() == ".toml":
        return _listed(path, data)
    if not path.is_dir() or bcolz.is_carray(path) or (path / "pairs_01.txt").is_file():
        return [_pairs(path, data)]
    if (path / LIST).is_file():
        return _listed(path / LIST, data)
    if any((path / name).is_dir() for name in _LISTS_OF_PAIRS):
        wanted = f'[[set]] path = "{path}", format = "cfp-fp", data = "IMAGES"'
        raise DataError(f"{path} holds two protocols", f"say which in a {LIST}: {wanted}")
    files = sorted(each for each in path.iterdir() if each.suffix.lower() == ".bin")
    return [_pairs(each, data) for each in files] or [_people(path)]


def _pairs(path: Path, data: Path | None, layout: str | None = None, name: str = "") -> BenchSet:
    compared = run.read_pairs(path, layout)
    source = compared.images
    if source is None and data is None:
        how = f'--data IMAGES, or data = "IMAGES" in a {LIST}'
        raise DataError(f"{path} holds no images, only their names", how)
    if source is None:
        source = images.find(data or "")
    source.select(compared.manifest.keys)  # what is missing is told before any is embedded
    return BenchSet(name=name or path.stem, path=path, images=source, comparisons=compared)


def _people(path: Path, name: str = "") -> BenchSet:
    source = images.find(path)
    subject = subjects_of(source.keys)
    if max(Counter(subject[subject >= 0].tolist()).values(), default=0) < 2:
        raise DataError(
            f"nobody in {path} has two images", "give a folder per person, or of .bin sets"
        )
    return BenchSet(name=name or path.resolve().name, path=path, images=source, comparisons=subject)


def _listed(path: Path, data: Path | None) -> list[BenchSet]:
    """Read the sets of a bench.toml."""
    try:
        tables = tomllib.loads(read_text(path)).get("set")
    except tomllib.TOMLDecodeError as e:
        raise DataError(f"{path} is no TOML: {e}") from e
    if not isinstance(tables, list) or not tables:
        raise DataError(f"{path} lists no set", 'write [[set]] and path = "FILE" for each')
    return [
        _of_table(table, f"{path}: set {n}", path.parent, data) for n, table in enumerate(tables, 1)
    ]


def _of_table(table: Any, where: str, root: Path, data: Path | None) -> BenchSet:
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise DataError(f"{where} is no table of texts", f"its keys are {', '.join(_KEYS)}")
    if unknown := set(table) - set(_KEYS):
        raise DataError(f"{where}: unknown key {min(unknown)!r}", f"known are {', '.join(_KEYS)}")
    if "path" not in table:
        raise DataError(f"{where} has no path", 'write path = "FILE"')
    path, layout, name = root / table["path"], table.get("format"), table.get("name", "")
    if name and Path(name).name != name:
        raise DataError(f"{where}: {name!r} cannot be the name of a file")
    if layout is not None and layout not in pair_list_layouts.LAYOUTS:
        known = ", ".join(pair_list_layouts.LAYOUTS)
        raise DataError(f"{where}: no format {layout!r}", f"known are {known}")
    own = root / table["data"] if "data" in table else data
    if path.is_dir() and layout is None and not bcolz.is_carray(path):
        return _people(path, name)
    return _pairs(path, own, layout, name)
