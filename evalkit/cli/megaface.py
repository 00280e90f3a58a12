"""`evalkit megaface`: find a face among up to a million others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from evalkit import images, run
from evalkit.arrays import refuse_unwritten
from evalkit.cli import spec_trial
from evalkit.cli.engine_options import engine_options
from evalkit.cli.options import fars_option, file_option, groups_option, new_command
from evalkit.cli.output import Output, output_options
from evalkit.cli.parameters import Folder, Readable
from evalkit.cli.terminal import say
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.cli.vector_options import VectorSource, input_provenance, say_type, vector_options
from evalkit.datasets import megaface as files
from evalkit.datasets.group_table import GroupFile
from evalkit.errors import DataError
from evalkit.files import whole_file
from evalkit.identity import digest
from evalkit.keys import Spelled, canonical_of, ending_in, rows_of
from evalkit.protocols import megaface, recipes
from evalkit.protocols.allpairs import Engine
from evalkit.protocols.megaface import devkit
from evalkit.protocols.megaface.noise_lists import CleaningRule, Noises, clean
from evalkit.protocols.metrics.flip_fusion import fuse
from evalkit.protocols.recipes.joint_bayesian import JointBayesian
from evalkit.protocols.recipes.recipe import Recipe
from evalkit.replacing import DEVKIT, refuse_replacing
from evalkit.types import Manifest
from evalkit.vectors import matching
from evalkit.vectors.embeddings import refuse_failures, without_zeros
from evalkit.vectors.matching import Vectors
from evalkit.vectors.shared import of_several_images

if TYPE_CHECKING:
    from evalkit.cluster import Cluster

# From keys to their features, and the digests of their images where known.
Take = Callable[[Sequence[str], str], tuple[NDArray[Any], NDArray[np.uint8] | None]]
_DEVKIT = ("cmc", "matches")  # how its files are named
NAMELESS = (".npy", ".safetensors", ".bin")  # files of embeddings that hold no keys


@new_command(
    "megaface",
    "evalkit megaface --features F.npy --keys K.txt --probe-list P.json \\",
    "    --distractor-list D.json_4000_1",
)
@file_option(
    "--probe-list", "LIST", "JSON list of the probes, of FaceScrub or FG-NET.", required=True
)
@click.option(
    "--distractor-list",
    "distractor_lists",
    type=Readable(),
    metavar="LIST",
    required=True,
    multiple=True,
    help="JSON list of distractors; may be repeated, one per size and set.",
)
@file_option(
    "--distractor-features",
    "FILE",
    "Vectors of the distractors, if not in --features.",
    folder=True,
)
@file_option(
    "--distractor-data", "IMAGES", "Images of the distractors, if not in --data.", folder=True
)
@vector_options()
@click.option(
    "--file-ending", metavar="_ALGO.bin", help="Ending of the file names in a folder of vectors."
)
@click.option(
    "--clean",
    "rules",
    type=click.Choice(["insightface", "facex"]),
    multiple=True,
    help="Also give the numbers without noisy images, by that project's rule; may be repeated.",
)
@click.option(
    "--probe-noises",
    type=Readable(empty=True),
    metavar="LIST",
    help="InsightFace's list of noisy probes, facescrub_noises.txt.",
)
@click.option(
    "--distractor-noises",
    type=Readable(empty=True),
    metavar="LIST",
    help="InsightFace's list of noisy distractors, megaface_noises.txt.",
)
@file_option("--jb-model", "JB.bin", "Joint Bayesian model of the devkit, to score by.")
@fars_option(megaface.FARS)
@threshold_options
@groups_option
@click.option(
    "--devkit-out",
    type=Folder(),
    metavar="FOLDER",
    help="Also write the devkit's cmc_*.json and matches_*.json, by its own rules.",
)
@engine_options
@output_options
def command(
    source: VectorSource,
    probe_list: Path,
    distractor_lists: tuple[Path, ...],
    distractor_features: Path | None,
    distractor_data: Path | None,
    file_ending: str | None,
    rules: tuple[CleaningRule, ...],
    probe_noises: Path | None,
    distractor_noises: Path | None,
    jb_model: Path | None,
    fars: tuple[str, ...],
    given: GivenThresholds,
    groups: GroupFile | None,
    devkit_out: Path | None,
    cluster: Cluster | None,
    engine: Engine,
    output: Output,
) -> int:
    """MegaFace challenge 1: rank-1, rank-10 and TPR@FAR at each number of distractors.

    FILE holds embeddings with a key for each row, or the devkit's folder of one .bin per image.
    With --model, the listed images of --data and --distractor-data are embedded once.
    """
    if bool(rules) != bool(probe_noises or distractor_noises):
        raise click.UsageError(
            "--clean insightface (or facex, or both) and the lists belong together: "
            "--probe-noises facescrub_noises.txt --distractor-noises megaface_noises.txt"
        )
    model = None if jb_model is None else files.read_model(jb_model)
    probes = files.read_probe_list(probe_list)
    with ThreadPoolExecutor(1) as pool:  # a million names, while their rows are looked at
        listed = pool.submit(_lists, distractor_lists, probes)
        if source.features is not None:
            numbers = (distractor_features or source.features).stat().st_size / 4
            engine.load_ahead(len(probes.keys) * numbers)
            take, other, provenance = _given(
                source, source.features, distractor_features, file_ending
            )
            provenance |= input_provenance(source.recipe, source.features)
        lists = listed.result()
    end = f"{files.probes_name(probe_list)}_megaface_{files.algorithm(file_ending or 'evalkit')}"
    endings = {name: f"{end}_{each.size}_{each.set}.json" for name, each in lists.items()}
    for folder in () if devkit_out is None else (devkit_out, *_cleaned_in(devkit_out, rules)):
        _refuse_replacing(folder, endings.values())
    if source.features is None:
        named = tuple(dict.fromkeys(k for each in lists.values() for k in each.keys))
        take, other, provenance = _embedded(source, distractor_data, probes.keys, named, cluster)
    x, images_of_probes = take(probes.keys, "probe features")
    by_list = {name: other(each.keys, "distractor features") for name, each in lists.items()}
    del take, other  # and their names, a million
    distractors = {name: features for name, (features, _) in by_list.items()}
    noises = _noises(rules, probes, lists, probe_noises, distractor_noises) if rules else None
    if noises is not None:
        say(_cleaned(noises))
    doubts = _doubts(distractors, lists)
    names = {
        "probe_list": probe_list.name,
        "distractor_lists": [p.name for p in distractor_lists],
        "manifest": digest(probes.keys, probes.subject, *(each.keys for each in lists.values())),
    }
    report = run.evaluate(
        "megaface",
        Vectors(x, provenance, images_of_probes, probes.keys),
        probes.subject,
        distractors,
        noises=noises,
        model=model,
        fars=fars,
        threshold=given.of({}),
        groups=groups,
        engine=engine,
        distractor_keys={name: each.keys for name, each in lists.items()},
        distractor_images={name: d for name, (_, d) in by_list.items() if d is not None},
        set_name=output.set_name(probe_list),
        file=probe_list,
        provenance=names | doubts | source.how.scored_by() | given.provenance(),
    )
    if devkit_out is not None:
        for name, ending in endings.items():
            features = x, probes.subject, distractors[name]
            _write_devkit(devkit_out, ending, *features, model)
            if noises is not None:
                bad = noises.probe, noises.distractor[name]
                folders = _cleaned_in(devkit_out, noises.rules)
                for rule, folder in zip(noises.rules, folders, strict=True):
                    p, d = clean(*features, *bad, rule)
                    _write_devkit(folder, ending, p, probes.subject, d, model)
        say(f"the devkit's files are in {devkit_out}")
    done = output.deliver(report, f"MegaFace: {len(probes.keys):,} probes, {source.name}")
    engine.forget()
    return done


def _doubts(
    distractors: Mapping[str, NDArray[Any]], lists: Mapping[str, files.DistractorList]
) -> dict[str, str]:
    """Warn of vectors that several distractors share, and say it for the report."""
    doubts = {}
    for name, each in lists.items():
        for what, line in of_several_images(distractors[name], each.keys).items():
            doubts[f"{what} of {name}"] = line
            say(f"warning: {name}: {line}")
    return doubts


def _lists(paths: Sequence[Path], probes: files.ProbeList) -> dict[str, files.DistractorList]:
    """Read lists of distractors, none of which is a probe, by the parameters that name them."""
    lists = {_name(each): each for each in map(files.read_distractor_list, paths)}
    if len(lists) != len(paths):
        raise click.UsageError("two distractor lists have one size and set")
    for path, each in zip(paths, lists.values(), strict=True):
        files.refuse_probes(probes, each, path)
    return lists


def _name(each: files.DistractorList) -> str:
    return f"distractors={each.size}" + (f",set={each.set}" if each.set != 1 else "")


def _given(
    source: VectorSource, probes: Path, distractors: Path | None, ending: str | None
) -> tuple[Take, Take, dict[str, Any]]:
    """Find the features in files: the probes', and the distractors', in the same one or another."""
    take, provenance = _read(source, probes, source.keys, ending)
    if distractors is None:
        return take, take, provenance
    if distractors.suffix.lower() in NAMELESS:
        raise DataError(
            f"{distractors.name} does not say which row is which image",
            "--keys names the probes' rows: evalkit import makes a file with names of it",
        )
    other, more = _read(source, distractors, None, ending)
    return take, other, provenance | {f"distractor_{name}": v for name, v in more.items()}


def _read(
    source: VectorSource, path: Path, keys: Path | None, ending: str | None
) -> tuple[Take, dict[str, Any]]:
    """Give a function from keys to features, and where these come from."""
    how = source.how
    if path.is_dir():
        if ending is None:
            raise click.UsageError(
                f"{path} is a folder: say --file-ending, such as _foam.bin; a tree of .npy files "
                "goes through evalkit import first"
            )

        def take(wanted: Sequence[str], _: str) -> tuple[NDArray[Any], None]:
            x: NDArray[Any] = files.read_folder(path, wanted, ending)
            if source.allow_failures:
                x = without_zeros(x)
            else:
                refuse_failures(x, wanted, path.name)
                refuse_unwritten(x, path.name, wanted)
            return _fused(x, how), None

        return take, {"features": path.name}
    vectors = matching.from_embeddings(path, keys, allow_failures=source.allow_failures)
    say_type(vectors.features, path)
    views = vectors.features.shape[1] if vectors.features.ndim == 3 else 1
    if how.fusion == "none" and views > 1 and not how.name:
        raise DataError(f"{path.name} holds {views} views per image", "say --flip sum or concat")
    return _taker(vectors, how), dict(vectors.provenance)


def _taker(vectors: Vectors, how: Recipe) -> Take:
    """Give a function from keys to their fused features; no copy of one view in one run of rows."""
    have = Spelled(canonical_of(map(str, vectors.keys or ())))
    features, digests = vectors.features, vectors.images

    def take(wanted: Sequence[str], what: str) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        rows = rows_of(wanted, have, what, same_folders=True)
        run = np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows)))
        x = features[rows[0] : rows[0] + len(rows)] if run else features[rows]
        return _fused(x, how), None if digests is None else digests[rows]

    return take


def _fused(x: NDArray[Any], how: Recipe) -> NDArray[Any]:
    if how.name:
        return recipes.without_folds(how, x)
    if how.fusion == "none":
        return x if x.ndim == 2 else x[:, 0]
    return fuse(x, how.fusion)


def _embedded(
    source: VectorSource,
    distractor_data: Path | None,
    probes: Sequence[str],
    distractors: Sequence[str],
    cluster: Cluster | None,
) -> tuple[Take, Take, dict[str, Any]]:
    """Embed the listed images: the probes', then all distractors', each into its feature file."""
    own = source.choice.images.find()
    other = own if distractor_data is None else images.find(distractor_data)
    adapter, choice = spec_trial.loaded(source.choice, own, own.manifest())
    source = replace(source, choice=choice)
    takes: list[Take] = []
    provenance: dict[str, Any] = {}
    for name, keys, source_images in (("probes", probes, own), ("distractors", distractors, other)):
        manifest = Manifest(tuple(keys), np.full(len(keys), -1, np.int32))
        vectors = source.embed(adapter, source_images, manifest, cluster=cluster)
        takes.append(_taker(vectors, source.how))
        provenance |= {**vectors.provenance, f"{name}_features": vectors.provenance["features"]}
    return takes[0], takes[1], provenance


def _noises(
    rules: Sequence[CleaningRule],
    probes: files.ProbeList,
    lists: dict[str, files.DistractorList],
    of_probes: Path | None,
    of_distractors: Path | None,
) -> Noises:
    first, second = (
        files.read_noises(path) if path else frozenset[str]()
        for path in (of_probes, of_distractors)
    )
    return Noises(
        tuple(dict.fromkeys(rules)),
        ending_in(probes.keys, first) >= 0,
        {name: ending_in(each.keys, second) >= 0 for name, each in lists.items()},
    )


def _cleaned(noises: Noises) -> str:
    bad = [f"{of.sum()} of {len(of):,} at {name}" for name, of in noises.distractor.items()]
    return (
        f"on the noise lists: {noises.probe.sum()} of {len(noises.probe):,} probes; "
        f"distractors {', '.join(bad)}"
    )


def _cleaned_in(folder: Path, rules: Sequence[CleaningRule]) -> list[Path]:
    return [folder / f"cleaned={rule}" for rule in rules]


def _refuse_replacing(folder: Path, endings: Iterable[str]) -> None:
    """DataError where a folder has files of these names that evalkit did not write."""
    for ending in endings:
        for kind in _DEVKIT:
            refuse_replacing(folder / f"{kind}_{ending}", DEVKIT)


def _write_devkit(
    folder: Path,
    ending: str,
    probe: NDArray[Any],
    subject: NDArray[np.int32],
    distractor: NDArray[Any],
    model: JointBayesian | None,
) -> None:
    """Write cmc_ENDING and matches_ENDING, as the devkit does from these features."""
    folder.mkdir(parents=True, exist_ok=True)
    results = devkit.evaluate(
        devkit.project(probe, model), subject, devkit.project(distractor, model)
    )
    for kind, content in zip(_DEVKIT, (results.curves(), results.matches), strict=True):
        with whole_file(folder / f"{kind}_{ending}") as f:
            f.write(json.dumps(content).encode())
