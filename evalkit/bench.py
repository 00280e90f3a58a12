"""Several test sets for one model: lists of pairs, sets with images, people, searches, IJB.

>>> from evalkit import bench, load_model
>>> model = load_model("model.onnx", preset="arcface")  # doctest: +SKIP
>>> sets = bench.read_sets(["agedb_30.bin", "cfp_fp.bin", "FACES"])  # doctest: +SKIP
>>> print(bench.evaluate(model, sets))  # doctest: +SKIP
"""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit import adapters, images, run, templates
from evalkit.adapters import answers
from evalkit.datasets import bcolz, pair_list_layouts, search_lists
from evalkit.datasets import ijb as ijb_lists
from evalkit.datasets.search_lists import SearchLists
from evalkit.embedding import in_memory
from evalkit.embedding.from_images import on_stderr
from evalkit.embedding.in_memory import SharePasses
from evalkit.embedding.passes import READERS, FedModel
from evalkit.errors import DataError, ProtocolError
from evalkit.files import as_path, read_text
from evalkit.images import ImageSource, alignment
from evalkit.images.kept import KeptImages
from evalkit.images.landmarks import Landmarks
from evalkit.keys import people_of
from evalkit.protocols import ijb, recipes
from evalkit.protocols.metrics import Rates, Thresholds
from evalkit.protocols.metrics.flip_fusion import Flip, fuse
from evalkit.protocols.recipes.recipe import Recipe, recipe_of
from evalkit.run import Compared
from evalkit.templates import PooledPairs
from evalkit.types import InputSpec, Ints, Manifest, Progress, Report
from evalkit.vectors.matching import Vectors
from evalkit.verdict import leaderboard_formats
from evalkit.verdict.leaderboard import Leaderboard, headline, leaderboard

LIST = "bench.toml"
BATCH = 64  # images in a forward pass: of one size, so that every run gets the same bits
ROOM = 4 << 30  # bytes of kept images
IJB_IMAGES = "loose_crop"  # beside IJB's lists
_KEYS = ("path", "data", "format", "name")
_CFP = ("Protocol", "Split")  # folders of CFP, which holds two lists
_CFP_IMAGES = "Data/Images"
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
    [[set]] with path, and where it needs them data, format and name, for each set, relative to its
    own folder.
    data : the images of lists that hold none.
    DataError for the first set that cannot be measured, and where two have one name.
    """
    root = None if data is None else as_path(data)
    found = [one for path in paths for one in _sets_at(as_path(path), root)]
    for name, count in Counter(one.name for one in found).items():
        if count > 1:
            where = " and ".join(str(one.path) for one in found if one.name == name)
            hint = f'give each its own: [[set]] with path and name = "..." in a {LIST}'
            raise DataError(f"{count} sets are called {name!r}: {where}", hint)
    return found


def keep(sets: Sequence[BenchSet], room: int = ROOM) -> list[BenchSet]:
    """Keep the decoded images of sets in memory, from the first time that a model is fed with them.

    room : bytes at most, for all sets together; what finds no room is decoded each time, and so is
    what has to be aligned for the model.
    """
    chosen = [one.images.select(one.manifest.keys) for one in sets]
    return [
        replace(one, images=source, kept=KeptImages(source, room // len(sets)))
        if one.landmarks is None
        else one
        for one, source in zip(sets, chosen, strict=True)
    ]


class SetReports(Mapping[str, Report]):
    """A report per set, by its name; printed as one table."""

    def __init__(self, reports: Mapping[str, Report]) -> None:
        self._reports = dict(reports)

    def __getitem__(self, name: str) -> Report:
        return self._reports[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reports)

    def __len__(self) -> int:
        return len(self._reports)

    def __str__(self) -> str:
        return leaderboard_formats.text(self.board())

    def _repr_html_(self) -> str:
        return leaderboard_formats.html(self.board())

    def board(self, metrics: Sequence[str] = ()) -> Leaderboard:
        """Lay the sets out as rows: these metrics, or accuracy and TPR at the FARs of any set."""
        columns = dict.fromkeys(n for r in self.values() for n in r.metrics if headline(n))
        return leaderboard(
            [*self.values()],
            [*self],
            metrics=metrics or sorted(columns, key=lambda name: name != "accuracy"),
            ranked=False,
        )

    def flat(self) -> dict[str, float]:
        """Give every number under "SET/METRIC", as trackers take it."""
        return {f"{name}/{m}": v for name, report in self.items() for m, v in report.flat().items()}


def evaluate(
    model: adapters.Adapter | str | os.PathLike[str] | Callable[..., Any],
    sets: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | BenchSet],
    *,
    spec: InputSpec | None = None,
    preset: str | None = None,
    data: str | os.PathLike[str] | None = None,
    flip: Flip = "none",
    recipe: Recipe | None = None,
    fars: Rates | None = None,
    batch: int = BATCH,
    say: Callable[[str], None] = on_stderr,
) -> SetReports:
    """Measure a model on sets; nothing is written.

    model : whatever `evalkit.load_model` takes, with its spec or preset.
    sets : paths as `read_sets` takes them, with `data`; or what it read, which `keep` decodes once
    for many calls.
    flip : "sum" and the like fuse an image with its mirror image.  recipe, fars : see `measured`.
    batch : pictures in a forward pass; of one size, so that every run gets the same bits.
    say : told what is doubtful about the model, and which sets have images without a vector.
    What readers, model and protocols raise passes through.
    """
    adapter = adapters.load(model, spec=spec, preset=preset)
    ready = opened(sets, data)
    vectors = embed_sets(adapter, ready, recipe_of(flip, recipe).fusion, batch, say=say)
    return SetReports(
        {
            one.name: measured(one, vectors[one.name], flip, recipe=recipe, fars=fars)
            for one in ready
        }
    )


def opened(
    sets: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | BenchSet],
    data: str | os.PathLike[str] | None = None,
) -> list[BenchSet]:
    """Read the sets that are given by their paths; see `evaluate`."""
    given = [*sets] if isinstance(sets, Sequence) and not isinstance(sets, str) else [sets]
    read = [one for one in given if isinstance(one, BenchSet)]
    return read + read_sets([one for one in given if not isinstance(one, BenchSet)], data)


def embed_sets(
    adapter: adapters.Adapter,
    sets: Sequence[BenchSet],
    flip: Flip = "none",
    batch: int = BATCH,
    *,
    share: SharePasses | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = on_stderr,
) -> dict[str, Vectors]:
    """Embed the images of sets in memory: name of the set -> vectors, (N, V, D).

    share, progress : see `in_memory.embedded`.  ModelError where the model is random.
    """
    doubt = answers.refuse_random(adapter, answers.answers(adapter))
    made = {"batch": batch} | ({"warning": doubt} if doubt else {})
    views, found = 1 if flip == "none" else 2, dict[str, Vectors]()
    for one in sets:
        source = one.images if one.kept else one.images.select(one.manifest.keys)
        if one.landmarks is not None:
            points = one.landmarks.of(source.keys)
            source = alignment.aligned(source, points, adapter.spec.crop)
        for line in source.left_out:
            say(f"{one.name}: {line}")
        decode = None if one.kept is None else one.kept.decoded
        fed = FedModel(adapter, source, views, batch, READERS, decode)
        vectors = found[one.name] = in_memory.embedded(fed, made, progress, share)
        lost = int((~np.isfinite(vectors.features).all(axis=(1, 2))).sum())
        if lost:
            say(f"{one.name}: {lost:,} of {len(source.keys):,} images have no vector")
    if doubt:
        say(f"warning: {doubt}")
    return found


def measured(
    one: BenchSet,
    vectors: Vectors | adapters.Adapter,
    flip: Flip = "none",
    *,
    recipe: Recipe | None = None,
    fars: Rates | None = None,
    threshold: Thresholds = None,
) -> Report:
    """Measure a set as `verification`, `ijb` (pairs of templates), `search` or `people`.

    vectors : of the set's images, or of pairs or a folder the model that embeds them.
    recipe : of a published system; ProtocolError for one that learns on folds, where there are
    none.  fars : of TPR@FAR; None is what each protocol gives.  threshold : see these protocols.
    """
    common: dict[str, Any] = {"set_name": one.name, "threshold": threshold}
    if isinstance(one.comparisons, SearchLists):
        how = recipe_of(flip, recipe)
        return _searched(one, one.comparisons, _vectors(one, vectors, how), how, common)
    common |= {} if fars is None else {"fars": fars}
    if isinstance(one.comparisons, Compared):
        common |= {"images": one.images, "flip": flip, "recipe": recipe}
        return run.evaluate("verification", vectors, one.comparisons, **common)
    how = recipe_of(flip, recipe)
    if how.unfit:
        raise ProtocolError(f"{one.path.name}: recipe {how.name!r} {how.unfit}")
    if isinstance(one.comparisons, PooledPairs):
        return _measured_templates(one, one.comparisons, vectors, how, common)
    common["unknown"] = one.comparisons < 0
    if recipe is None:
        return run.evaluate(
            "people", vectors, one.comparisons, images=one.images, flip=flip, **common
        )
    made = _vectors(one, vectors, how)
    made = replace(made, features=fuse(made.features, how.fusion, unit=how.unit_views))
    return run.evaluate("people", made, one.comparisons, provenance=how.scored_by(), **common)


def _measured_templates(
    one: BenchSet,
    compared: PooledPairs,
    vectors: Vectors | adapters.Adapter,
    how: Recipe,
    common: Mapping[str, Any],
) -> Report:
    listed = compared.listed
    return templates.evaluate(
        ijb.verify,
        listed.in_order(_vectors(one, vectors, how)),
        listed,
        compared.arguments,
        templates.pooling(listed, how),
        file=compared.file,
        provenance=how.scored_by(),
        **common,
    )


def _searched(
    one: BenchSet, lists: SearchLists, made: Vectors, how: Recipe, common: Mapping[str, Any]
) -> Report:
    manifest, gallery, probe = lists.resolve()
    made = replace(made, features=recipes.without_folds(how, made.features))
    told = {"people": lists.named_by, **how.scored_by()}
    return run.evaluate("search", made, manifest.subject, gallery, probe, provenance=told, **common)


def _vectors(one: BenchSet, given: Vectors | adapters.Adapter, how: Recipe) -> Vectors:
    return given if isinstance(given, Vectors) else embed_sets(given, [one], how.fusion)[one.name]


def _sets_at(path: Path, data: Path | None) -> list[BenchSet]:
    if path.suffix.lower() == ".toml":
        return _listed(path, data)
    if not path.is_dir() or bcolz.is_carray(path) or (path / "pairs_01.txt").is_file():
        return [_pairs(path, data)]
    if (path / LIST).is_file():
        return _listed(path / LIST, data)
    if (lists := ijb_lists.find(path)) is not None:
        return [_templates(path, lists, data)]
    if searches := search_lists.below(path):
        source = images.find(path)
        return [
            BenchSet(name=n, path=path, images=source, comparisons=of) for n, of in searches.items()
        ]
    if any((path / name).is_dir() for name in _CFP):
        own = data or path / _CFP_IMAGES
        return [_pairs(path, own, layout, layout) for layout in ("cfp-ff", "cfp-fp")]
    if files := sorted(each for each in path.iterdir() if each.suffix.lower() == ".bin"):
        return [_pairs(each, data) for each in files]
    listed = sorted({each for names in _PAIRS_IN for each in path.glob(names)})
    return [_pairs(each, data or path) for each in listed] or [_people(path)]


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
        _of_table(table, f"{path}: set {n}", path.parent, data) for n, table in enumerate(tables, 1)
    ]


def _of_table(table: Any, where: str, root: Path, data: Path | None) -> BenchSet:
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise DataError(f"{where} is not a table of texts", f"its keys are {', '.join(_KEYS)}")
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
    if not path.is_dir() or layout is not None or bcolz.is_carray(path):
        return _pairs(path, own, layout, name)
    lists = ijb_lists.find(path)
    return _people(path, name) if lists is None else _templates(path, lists, own, name)
