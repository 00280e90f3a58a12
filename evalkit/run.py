"""The one pipeline: a list, the vectors of its images, a protocol, and the report of all three.

Every command ends in `evaluate`, and so does `evalkit.evaluate`.

>>> import evalkit, numpy as np
>>> from evalkit import run
>>> x = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
>>> report = run.evaluate("all-vs-all", x, [0, 0, 1, 1], fars=["0.5"])
>>> report.metrics["rank-1"].value, report.provenance["evalkit"] == evalkit.__version__
(1.0, True)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit import __version__
from evalkit.arrays import alike, identities, require
from evalkit.arrays import vectors as vectors_of
from evalkit.bfloat16 import Bfloat16
from evalkit.datasets import group_table, lfw
from evalkit.datasets import trillion as subject_lists
from evalkit.datasets.group_table import GroupFile
from evalkit.datasets.pair_list import PairList
from evalkit.errors import DataError
from evalkit.files import as_path, lines_of, read_text
from evalkit.identity import Names
from evalkit.keys import as_texts, read_keys, rows_of
from evalkit.keys import subjects_of as subjects_by_folder
from evalkit.protocols import catalogue
from evalkit.protocols.catalogue import Protocol
from evalkit.protocols.groups import By, PairCondition, refuse_other_rows
from evalkit.protocols.metrics.score_unit import named_by_unit, score_unit
from evalkit.protocols.recipes.recipe import recipe_of
from evalkit.types import Manifest, PairSet, Report
from evalkit.vectors import matching, shared
from evalkit.vectors.matching import Vectors
from evalkit.vectors.store import FeatureStore

if TYPE_CHECKING:
    from evalkit.adapters import Adapter
    from evalkit.images import ImageSource

File = str | os.PathLike[str]
_FILE = (str, os.PathLike)


def evaluate(
    protocol: str | Protocol | Callable[..., Report],
    vectors: ArrayLike | Vectors | FeatureStore | Adapter | File,
    *comparisons: Any,
    keys: Names | File | None = None,
    images: ArrayLike | ImageSource | File | None = None,
    set_name: str | None = None,
    file: File | None = None,
    groups: Sequence[By] | File | GroupFile | None = None,
    provenance: Mapping[str, Any] | None = None,
    **options: Any,
) -> Report:
    """Run a protocol on vectors; its report says where these and the comparisons came from.

    protocol : its name (see `evalkit list`), its record, or the function itself.
    vectors : an (N, D) or (N, V, D) array; {name: vector}; a file of embeddings, or an open
    feature file; a model, which embeds the images; or `Vectors`.
    comparisons : what the protocol takes after the vectors.  Pairs may be the file of a list (and
    of "lfw" nothing, for View 2), whose images are then found by name; subjects a file with a line
    per row, or nothing where the rows' names or their file say who they show.
    keys : names of the rows, texts or UTF-8, or the file of them.  images : the SHA-256 of each
    row's image, (N, 32) uint8; for a model the images: a folder, .zip, list, array or
    `ImageSource`.
    set_name, file : name of the set and file of its list, where they are not read here.
    groups : columns of groups or conditions, of the rows, or a model's images, as they are given (a
    folder's by name); or the file of them (see `groups_of`): adds error rates by group
    (`protocols.groups`).
    provenance : more of that for the report; it stands first, and wins.
    options : those of the protocol.  What its readers, model and `evaluate` raise passes through.
    The report of pairs keeps the names of the rows.
    """
    record = catalogue.find(protocol) if isinstance(protocol, str) else protocol
    call = record.evaluate if isinstance(record, Protocol) else record
    compares = record.compares if isinstance(record, Protocol) else ""
    listed = _listed(protocol, compares, comparisons)
    manifest = None if listed is None else listed.manifest
    made = _vectors(vectors, manifest, keys, images, _views(options))
    told = dict(provenance or {})
    file = None if file is None else as_path(file)
    if listed is not None:
        comparisons, told = listed.arguments, {**listed.provenance, **told}
        file, set_name = file or listed.file, set_name or listed.set_name
    elif compares == "subjects" and not comparisons and "subject" in options:
        comparisons = (options.pop("subject"),)
    if compares == "subjects" and (not comparisons or isinstance(comparisons[0], _FILE)):
        file = Path(comparisons[0]) if comparisons else file
        comparisons = (subjects_of(made) if file is None else subject_lists.read_subjects(file),)
        set_name = set_name or (None if file is None else file.stem)
    features = vectors_of(made.features) if compares else made.features
    if compares == "subjects":
        told = {**({} if file is None else subject_lists.doubts(file)), **told}
        comparisons = (identities(comparisons[0], len(features)), *comparisons[1:])
    if groups is not None:
        of_subjects = file if compares == "subjects" else None
        pairs = comparisons[0] if compares == "pairs" else options.get("pairs")
        columns = groups_of(groups, made.keys, of_subjects, rows=len(features), pairs=pairs)
        if made.given is not None and not isinstance(groups, (GroupFile, *_FILE)):
            columns = _in_order_of_list(columns, *made.given)
        options["groups"] = columns
        path = groups.path if isinstance(groups, GroupFile) else groups
        told = {**told, "groups file": as_path(path).name} if isinstance(path, _FILE) else told
    rows = len(features) if isinstance(features, np.ndarray | Bfloat16) else -1  # not of templates
    if made.keys is not None and len(made.keys) == rows and np.ndim(features) > 1:
        told = {**shared.of_several_images(features, made.keys, made.images), **told}
        if compares == "subjects":
            told |= shared.of_one_name(made.keys)
        elif made.images is not None and isinstance(comparisons[0], PairSet):
            of_pairs = comparisons[0], made.keys, made.images
            told = {**shared.of_one_file(*of_pairs), **shared.of_both_labels(*of_pairs), **told}
    report = call(
        features,
        *comparisons,
        keys=made.keys,
        images=made.images,
        set_name=set_name,
        **options,
    )
    if isinstance(features, np.ndarray) and features.ndim > 1 and alike(features):
        report = _noted(report, f"all {len(features):,} vectors are alike, and ties count as found")
    if compares == "pairs" and made.keys is not None:
        report = _with_names(report, made.keys)
    return _with_provenance(report, made, told, file)


def _with_provenance(
    report: Report, made: Vectors, told: Mapping[str, Any], file: Path | None
) -> Report:
    """Keep in a report what made it: evalkit, the lists, the protocol's own account, the vectors.

    told : of the lists; where two of these say the same, it wins, then the vectors.  In it
    "manifest" is the digest of what was listed, or compared by commands with lists of their own.
    file : that the list of comparisons was read from.  Where scores are minus distances, metrics at
    a given threshold are named by the distance.
    """
    own, of_vectors = report.provenance, made.provenance
    provenance = {"evalkit": __version__, **told, **own, **of_vectors, **told}
    identity = report.identity if file is None else replace(report.identity, file=file.name)
    metrics = named_by_unit(report.metrics, score_unit(provenance))
    return replace(report, metrics=metrics, provenance=provenance, identity=identity)


def _in_order_of_list(columns: Sequence[By], rows: NDArray[np.int64], given: int) -> tuple[By, ...]:
    """Take columns of the rows that were given, (given,), as a list named these: rows, (N,)."""
    refuse_other_rows(columns, given)
    return tuple(by if isinstance(by, PairCondition) else by.take(rows) for by in columns)


def _noted(report: Report, note: str) -> Report:
    """Say something of all numbers of a report, behind what each says itself."""
    return replace(
        report,
        metrics={
            name: m if m.value is None else replace(m, note="; ".join(filter(None, (m.note, note))))
            for name, m in report.metrics.items()
        },
    )


def _with_names(report: Report, keys: Names) -> Report:
    """Keep the names of the rows among the outcomes of pairs, for any protocol: `keys` (N,).

    The page shows the hardest pairs by them, `compare` the pairs whose decision changed.
    """
    return replace(report, outcomes={**(report.outcomes or {}), "keys": np.array(keys)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a list compares: the images that it names, and a protocol's arguments of their rows.

    images : themselves, where the set holds them.
    """

    manifest: Manifest
    arguments: tuple[Any, ...]
    provenance: Mapping[str, Any]
    set_name: str | None = None
    file: Path | None = None
    images: ImageSource | None = None


def pairs_of(listed: PairList) -> Compared:
    """Compare the pairs of a list."""
    manifest, pairs = listed.resolve()
    provenance = {"manifest": manifest.digest(), **listed.doubts()}
    if listed.told:
        provenance["columns"] = listed.told
    if listed.fold_rule:
        provenance["folds"] = listed.fold_rule
    return Compared(manifest=manifest, arguments=(pairs, manifest.subject), provenance=provenance)


def read_pairs(
    path: File, layout: str | None = None, columns: Mapping[str, str] | None = None
) -> Compared:
    """Read a list of pairs, or a set that holds their images too, and compare its pairs.

    layout, columns : as `pair_list_layouts.read` takes them.
    """
    from evalkit.datasets import pair_list_layouts  # and the images that some of them hold

    file = as_path(path)
    contents = pair_list_layouts.read(file, layout, columns)
    compared = pairs_of(contents.pairs)
    provenance = {"list": file.name, "layout": contents.layout, **compared.provenance}
    return replace(
        compared, provenance=provenance, set_name=file.stem, file=file, images=contents.images
    )


def _listed(protocol: Any, compares: str, given: tuple[Any, ...]) -> Compared | None:
    """Read the list of pairs where its file or a `PairList` is given, or LFW's own; else None."""
    if protocol == "lfw" and not given:
        return replace(pairs_of(lfw.official_pairs()), set_name="lfw")
    first = given[0] if given else None
    if isinstance(first, Compared) or compares != "pairs":
        return first if isinstance(first, Compared) else None
    if isinstance(first, PairList):
        return pairs_of(first)
    return read_pairs(first) if isinstance(first, _FILE) else None


def _vectors(
    given: Any,
    manifest: Manifest | None,
    keys: Names | File | None,
    pictures: Any,
    views: int,
) -> Vectors:
    """Take or make the vectors, in the manifest's order where there is one."""
    if isinstance(given, Mapping):
        if keys is not None:
            raise DataError("vectors by name have their names already", "leave keys out")
        given, keys = [*given.values()], [*given]
    if isinstance(given, Vectors):
        return given if manifest is None else matching.found_by_name(given, manifest)
    if isinstance(given, FeatureStore):
        return matching.from_store(given, manifest or given.manifest)
    from evalkit.adapters import Adapter, presets  # which vectors at hand do without

    if isinstance(given, Adapter):
        return _embedded(given, manifest, pictures, views)
    if isinstance(given, _FILE):
        if Path(given).suffix.lower() in (*presets.ONNX_FILES, ".pt2"):
            raise DataError(
                f"{given} is a model, expected vectors or a loaded model",
                "give evalkit.load_model(FILE, preset=NAME) and images=FOLDER",
            )
        return matching.from_embeddings(Path(given), _path(keys), manifest)
    names = read_keys(Path(keys)) if isinstance(keys, _FILE) else as_texts(keys)
    vectors = Vectors(given, {}, pictures, names)
    if manifest is None:
        return vectors
    if names is None:
        raise DataError("a list names images, and the rows have no names", "add keys=NAMES")
    return matching.found_by_name(vectors, manifest)


def _embedded(model: Adapter, manifest: Manifest | None, pictures: Any, views: int) -> Vectors:
    """Embed the images of the manifest, or all that are there."""
    from evalkit.embedding import embedder, from_images
    from evalkit.images import alignment

    if pictures is None:
        raise DataError("a model needs images to embed", "add images=FOLDER")
    source = alignment.narrowed(from_images.source_of(pictures), model.spec.size)
    wanted = manifest or source.manifest()
    rows = rows_of(wanted.keys, source.keys, "images", same_folders=True)
    if getattr(model, "transient", False):
        vectors = from_images.embed(model, source.select(wanted.keys), views=views)
        made = matching.found_by_name(vectors, wanted)
    else:
        store = embedder.embed(model, source.select(wanted.keys), wanted, views=views)
        made = matching.embedded(store, wanted, model.spec.crop)
    return replace(made, given=(rows, len(source.keys)))


def _path(keys: Names | File | None) -> Path | None:
    if keys is None or isinstance(keys, _FILE):
        return None if keys is None else Path(keys)
    raise DataError("names of a file's rows are given as a list", "give the file of them")


def _views(options: Mapping[str, Any]) -> int:
    """How many views of an image the protocol fuses: with its mirror image, or without."""
    how = recipe_of(options.get("flip", "none"), options.get("recipe"))
    return 1 if how.fusion == "none" else 2


def groups_of(
    given: Sequence[By] | File | GroupFile,
    keys: Names | None,
    subjects: Path | None,
    *,
    rows: int,
    pairs: PairSet | None = None,
) -> tuple[By, ...]:
    """Take columns of groups as they are, or find the lines of their file by the rows' names.

    given : columns, or the file of a table (`datasets.group_table`).  subjects : the list of them,
    a line for each of the first `rows`; else the folder of a key is the subject.  pairs : the list
    of them, where there is one.
    """
    file = GroupFile(given) if isinstance(given, _FILE) else given
    if not isinstance(file, GroupFile):
        require(file, Iterable, "groups", "a list of Groupings, one a column, or their file")
        return tuple(file)
    names = None if keys is None else [str(key) for key in keys]
    table = group_table.read(file.path)
    if table.of_pairs:
        return table.of_list(pairs, names, file.by)
    who = None if subjects is None else lines_of(read_text(subjects))
    if who is not None:
        who += [""] * (rows - len(who))
    return table.of_rows(names, who, file.by)


def subjects_of(made: Vectors) -> NDArray[np.int32]:
    """Whom each row shows: as its file says, else the folder of its name."""
    if made.subject is not None:
        return made.subject
    if made.keys is None:
        raise DataError(
            "it is not known whom the rows show",
            "give subject=, a number or a name per row, or keys=NAMES",
        )
    return subjects_by_folder([str(key) for key in made.keys])
