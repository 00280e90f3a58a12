"""`evalkit ytf`: YouTube Faces, pairs of videos."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit import run
from evalkit.cli.options import fars_option, new_command
from evalkit.cli.output import Output, output_options
from evalkit.cli.parameters import Readable
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.cli.vector_options import VectorSource, layout_option, vector_options
from evalkit.datasets import pair_list_layouts, youtube_faces
from evalkit.identity import digest
from evalkit.protocols import ytf
from evalkit.types import Manifest


@new_command(
    "ytf",
    "evalkit ytf splits.txt --features frames.npz",
    "evalkit ytf splits.txt --features frames.npz --comparison pairs-top-10",
)
@click.argument("pairs", type=Readable())
@layout_option
@click.option(
    "--comparison",
    default="mean-vector",
    metavar="NAME",
    help=f"Score of two videos: {', '.join(ytf.COMPARISONS)}.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=0),
    default=ytf.FRAMES,
    metavar="N",
    help="Frames per video, drawn at random from longer ones; 0 takes all.",
)
@click.option(
    "--frames-seed",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Random seed of the frames.",
)
@vector_options()
@fars_option(ytf.FARS)
@threshold_options
@output_options
def command(
    pairs: Path,
    set_format: str | None,
    comparison: str,
    frames: int,
    frames_seed: int,
    source: VectorSource,
    fars: tuple[str, ...],
    given: GivenThresholds,
    output: Output,
) -> int:
    """YouTube Faces: 10-fold accuracy, AUC, EER, TPR@FAR of pairs of videos.

    PAIRS names videos (splits.txt); the frames of one are the rows whose keys lie in its folder,
    as Sadie_Frost/1/0.12.jpg. With --model, only the frames that are drawn are embedded.
    """
    listed = pair_list_layouts.read(pairs, set_format).pairs
    manifest, compared = listed.resolve()
    most = frames or None
    if source.features is None:
        found = source.choice.images.find()
        names = found.manifest().keys
        video = youtube_faces.videos_of(names, manifest.keys)
        rows = ytf.drawn_frames(video, most, frames_seed, names)
        drawn = tuple(names[row] for row in rows.tolist())
        vectors = source.vectors(Manifest(drawn, manifest.subject[video[rows]]), found)
    else:
        vectors = source.vectors(None)
    video = youtube_faces.videos_of([str(key) for key in vectors.keys or ()], manifest.keys)
    report = run.evaluate(
        "ytf",
        source.without_folds(vectors),
        video,
        compared,
        manifest.subject,
        comparison=comparison,
        frames=most,
        frames_seed=frames_seed,
        fars=fars,
        threshold=given.of(source.how.provenance()),
        set_name=output.set_name(pairs),
        file=pairs,
        provenance={
            "list": pairs.name,
            "manifest": digest(manifest.keys, compared.left, compared.right, compared.genuine),
            **listed.doubts(),
            **source.how.scored_by(),
            **given.provenance(),
        },
    )
    title = f"YouTube Faces, {comparison}: {len(compared):,} pairs of videos, {source.name}"
    return output.deliver(report, title)
