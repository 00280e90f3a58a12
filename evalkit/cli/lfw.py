"""`evalkit lfw`: Labeled Faces in the Wild, View 2."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import click

from evalkit import images, run
from evalkit.cli.options import fars_option, file_option, groups_option, new_command
from evalkit.cli.output import Output, bar, output_options
from evalkit.cli.terminal import show
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.cli.vector_options import ALL, VectorSource, flip_given, vector_options, warn_if_slow
from evalkit.datasets import bin as bin_sets
from evalkit.datasets import lfw as lists
from evalkit.datasets import lfw_images
from evalkit.datasets.group_table import GroupFile
from evalkit.datasets.pair_list import PairList
from evalkit.embedding import development
from evalkit.errors import EXIT_DONE, DataError
from evalkit.escaping import narrow
from evalkit.protocols import lfw as protocol
from evalkit.protocols import verification
from evalkit.protocols.recipes.side_by_side import side_by_side


@new_command(
    "lfw",
    "evalkit lfw --model model.onnx",
    "evalkit lfw --features F.npy --keys K.txt --out report.json",
    "evalkit lfw --features F.npy --keys K.txt --recipe all",
)
@file_option("--pairs", "LIST", "List of pairs in LFW's layout, instead of View 2.", folder=True)
@click.option(
    "--errata",
    is_flag=True,
    help="Also give the accuracy without the pairs that LFW's site lists as wrong.",
)
@fars_option(protocol.FARS)
@threshold_options
@groups_option
@vector_options(ALL, data=False, folds=True)
@output_options
def command(
    source: VectorSource,
    pairs: Path | None,
    errata: bool,
    fars: tuple[str, ...],
    given: GivenThresholds,
    groups: GroupFile | None,
    output: Output,
) -> int:
    """LFW View 2: 10-fold verification accuracy, AUC, EER, TPR@FAR.

    --recipe all shows every published system's recipe on the same vectors.
    With a model and no --data, LFW is fetched once from its site (68 MB) and aligned.
    Where the input spec is not declared, it is found by trial on View 1, and the options that
    declare it are printed.
    """
    every = source.recipe_name == ALL
    kept = output.out or output.gate or output.json_path or groups
    if every and (flip_given() or errata or kept or given != GivenThresholds()):
        raise click.UsageError(
            "--recipe all prints a table: leave --flip, --errata, thresholds, reports, groups out"
        )
    warn_if_slow(source.recipe_name)
    data = source.choice.images.data
    bin_images, own = None, pairs
    if data is not None and data.suffix.lower() == ".bin":
        if pairs is not None:
            raise click.UsageError(f"{data.name} holds its own pairs: leave --pairs out")
        bin_images, compared = _from_bin(data)
        own = data
    else:
        compared = lists.official_pairs() if pairs is None else lists.read_pairs(pairs)
    manifest, comparisons = compared.resolve()
    if source.features is None and data is None:
        adapter = source.choice.model.if_declared()
        tried = [] if adapter is not None else development.view_1(manifest.keys)
        own_images = fetched({*manifest.keys, *tried})
        vectors = source.embed(adapter, own_images, manifest, lfw_images.landmarks())
    else:
        vectors = source.vectors(manifest, bin_images)
    if every:
        with bar("recipes", "recipe") as progress:
            lines, spread = side_by_side(vectors.features, comparisons, manifest.subject, progress)
        laid = narrow(lines, left=range(len(lines[0])))
        show(*(line for row in laid for line in row), spread)
        return EXIT_DONE
    report = run.evaluate(
        "lfw",
        vectors,
        comparisons,
        manifest.subject,
        flip=source.how.fusion,
        recipe=source.recipe,
        errata=lists.errata(compared) if errata else None,
        fars=fars,
        threshold=given.of(source.how.provenance()),
        groups=groups,
        provenance={**compared.doubts(), **given.provenance()},
        set_name=output.set_name(Path("lfw") if lists.is_official(compared) else own),
        file=own,
    )
    return output.deliver(report, _title(compared, source.name))


def _from_bin(path: Path) -> tuple[images.ImageSource, PairList]:
    """Read the images and pairs of an InsightFace .bin, in ten folds by position."""
    bin_images, compared = bin_sets.read(path)
    folds = verification.folds_by_position(compared.genuine)
    if folds is None:
        n = int(compared.genuine.sum())
        raise DataError(
            f"{path.name} holds {n} genuine and {len(compared) - n} impostor pairs",
            "ten folds need ten of each",
        )
    return bin_images, replace(compared, fold=folds)


def fetched(wanted: Collection[str]) -> images.ImageSource:
    """Images of LFW from its own site."""
    with bar("fetching LFW", "image") as progress:
        return images.find(lfw_images.fetch(wanted, progress))


def _title(compared: PairList, source: str) -> str:
    official = "official View 2" if lists.is_official(compared) else compared.source
    return f"LFW, {official}: {len(compared):,} pairs, {source}"
