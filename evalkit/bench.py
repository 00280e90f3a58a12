"""Several test sets for one model: lists of pairs, sets with images, people, searches, IJB.

>>> from evalkit import bench, load_model
>>> model = load_model("model.onnx", preset="arcface")  # doctest: +SKIP
>>> sets = bench.read_sets(["agedb_30.bin", "cfp_fp.bin", "FACES"])  # doctest: +SKIP
>>> print(bench.evaluate(model, sets))  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evalkit import adapters, run, templates
from evalkit.adapters import answers
from evalkit.bench_sets import BenchSet, read_sets
from evalkit.datasets.group_table import GroupFile
from evalkit.datasets.search_lists import SearchLists
from evalkit.embedding import in_memory
from evalkit.embedding.from_images import on_stderr
from evalkit.embedding.in_memory import SharePasses
from evalkit.embedding.passes import READERS, FedModel
from evalkit.errors import DataError, ProtocolError
from evalkit.images import alignment
from evalkit.images.source import KeptImages
from evalkit.protocols import ijb, recipes
from evalkit.protocols.groups.searches import of_probes
from evalkit.protocols.metrics import Rates, Thresholds
from evalkit.protocols.metrics.flip_fusion import Flip, fuse
from evalkit.protocols.recipes.recipe import Recipe, recipe_of
from evalkit.report import group_table, sub_tables
from evalkit.run import Compared
from evalkit.templates import PooledPairs
from evalkit.types import InputSpec, Progress, Report
from evalkit.vectors.matching import Vectors
from evalkit.verdict import leaderboard_formats
from evalkit.verdict.leaderboard import Leaderboard, headline, leaderboard

__all__ = [
    "BATCH",
    "ROOM",
    "BenchSet",
    "SetReports",
    "embed_sets",
    "evaluate",
    "grouped",
    "keep",
    "measured",
    "opened",
    "read_sets",
]

BATCH = 64  # images in a forward pass: of one size, so that every run gets the same bits
ROOM = 4 << 30  # bytes of kept images


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
    """A report per set, by its name; printed as one table, and below it each set's groups."""

    def __init__(self, reports: Mapping[str, Report]) -> None:
        self._reports = dict(reports)

    def __getitem__(self, name: str) -> Report:
        return self._reports[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reports)

    def __len__(self) -> int:
        return len(self._reports)

    def __str__(self) -> str:
        by_group = [
            replace(table, title=f"{name} {table.title}") if table.title else table
            for name, report in self.items()
            for table in group_table.tables(report)
        ]
        return "\n".join([leaderboard_formats.text(self.board()), *sub_tables.lines(by_group)])

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
    groups: GroupFile | None = None,
    batch: int = BATCH,
    say: Callable[[str], None] = on_stderr,
) -> SetReports:
    """Measure a model on sets; nothing is written.

    model : whatever `evalkit.load_model` takes, with its spec or preset.
    sets : paths as `read_sets` takes them, with `data`; or what it read, which `keep` decodes once
    for many calls.
    flip : "sum" and the like fuse an image with its mirror image.  recipe, fars : see `measured`.
    groups : a table of groups of the images of all sets (`grouped`).
    batch : pictures in a forward pass; of one size, so that every run gets the same bits.
    say : told what is doubtful about the model, and which sets have images without a vector.
    What readers, model and protocols raise passes through.
    """
    adapter = adapters.load(model, spec=spec, preset=preset)
    ready = opened(sets, data)
    by_name = grouped(ready, groups, say)
    vectors = embed_sets(adapter, ready, recipe_of(flip, recipe).fusion, batch, say=say)
    return SetReports(
        {
            one.name: measured(
                one, vectors[one.name], flip, recipe=recipe, fars=fars, groups=by_name[one.name]
            )
            for one in ready
        }
    )


def opened(
    sets: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | BenchSet],
    data: str | os.PathLike[str] | None = None,
) -> list[BenchSet]:
    """Read the sets that are given by their paths; see `evaluate`."""
    entries = [*sets] if isinstance(sets, Sequence) and not isinstance(sets, str) else [sets]
    read = [one for one in entries if isinstance(one, BenchSet)]
    return read + read_sets([one for one in entries if not isinstance(one, BenchSet)], data)


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
    provenance = {"batch": batch} | ({"warning": doubt} if doubt else {})
    views, by_set = 1 if flip == "none" else 2, dict[str, Vectors]()
    for one in sets:
        source = one.images if one.kept else one.images.select(one.manifest.keys)
        if one.landmarks is not None:
            points = one.landmarks.of(source.keys)
            source = alignment.aligned(source, points, adapter.spec.crop)
        for line in source.left_out:
            say(f"{one.name}: {line}")
        decode = None if one.kept is None else one.kept.decoded
        fed = FedModel(adapter, source, views, batch, READERS, decode)
        vectors = by_set[one.name] = in_memory.embedded(fed, provenance, progress, share)
        lost = int((~np.isfinite(vectors.features).all(axis=(1, 2))).sum())
        if lost:
            say(f"{one.name}: {lost:,} of {len(source.keys):,} images have no vector")
    if doubt:
        say(f"warning: {doubt}")
    return by_set


def measured(
    one: BenchSet,
    vectors: Vectors | adapters.Adapter,
    flip: Flip = "none",
    *,
    recipe: Recipe | None = None,
    fars: Rates | None = None,
    threshold: Thresholds = None,
    groups: GroupFile | None = None,
) -> Report:
    """Measure a set as `verification`, `ijb` (pairs of templates), `search` or `people`.

    vectors : of the set's images, or of pairs or a folder the model that embeds them.
    recipe : of a published system; ProtocolError for one that learns on folds, where there are
    none.  fars : of TPR@FAR; None is what each protocol gives.  threshold : see these protocols.
    groups : a table of groups, by the names of the set's images: adds error rates by group.
    """
    common: dict[str, Any] = {"set_name": one.name, "threshold": threshold, "groups": groups}
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


def grouped(
    sets: Sequence[BenchSet], groups: GroupFile | None, say: Callable[[str], None] = on_stderr
) -> dict[str, GroupFile | None]:
    """Find the sets whose images a table of groups names: name -> the table, None for the others.

    Those are told, with the reason.  What is wrong where no set is named is raised.
    """
    files: dict[str, GroupFile | None] = {one.name: groups for one in sets}
    wrong: dict[str, DataError | ProtocolError] = {}
    for one in sets:
        try:
            if groups is not None:
                _refuse_unfit(one, groups)
        except (DataError, ProtocolError) as e:
            files[one.name] = None
            wrong[one.name] = e
    if wrong and len(wrong) == len(sets):
        raise next(iter(wrong.values()))
    for name, error in wrong.items():
        say(f"{name} is not measured by group: {error.message}")
    return files


def _refuse_unfit(one: BenchSet, groups: GroupFile) -> None:
    """Raise DataError or ProtocolError where a table of groups does not fit a set."""
    comparisons, keys = one.comparisons, one.manifest.keys
    if isinstance(comparisons, PooledPairs):
        templates.groups_of(groups, comparisons.listed.media)
        return
    pairs = comparisons.arguments[0] if isinstance(comparisons, Compared) else None
    for by in run.groups_of(groups, keys, None, rows=len(keys), pairs=pairs):
        if isinstance(comparisons, SearchLists):
            of_probes(by)


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
        provenance={**compared.doubts, **how.scored_by()},
        **common,
    )


def _searched(
    one: BenchSet, lists: SearchLists, made: Vectors, how: Recipe, common: Mapping[str, Any]
) -> Report:
    manifest, gallery, probe = lists.resolve()
    made = replace(made, features=recipes.without_folds(how, made.features))
    provenance = {"people": lists.named_by, **how.scored_by()}
    return run.evaluate(
        "search", made, manifest.subject, gallery, probe, provenance=provenance, **common
    )


def _vectors(one: BenchSet, given: Vectors | adapters.Adapter, how: Recipe) -> Vectors:
    return given if isinstance(given, Vectors) else embed_sets(given, [one], how.fusion)[one.name]
