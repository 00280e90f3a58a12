"""`evalkit score`: numbers from plain scores, with no embedding at all."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from evalkit import run
from evalkit.cli.options import Command, fars_option
from evalkit.cli.output import Output, output_options, warn_of_turned
from evalkit.cli.parameters import Readable
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.datasets import pair_list_layouts, score_lists
from evalkit.datasets.pair_list import PairList
from evalkit.errors import DataError
from evalkit.identity import digest
from evalkit.protocols import score


@click.command(
    "score",
    cls=Command,
    examples=[
        "evalkit score scores.txt --far 1e-3",
        "evalkit score distances.txt --distance --threshold 0.738",
    ],
)
@click.argument("scores", type=Readable(stream=True))
@click.option(
    "--pairs",
    type=Readable(folder=True),
    metavar="LIST",
    help="The pair list, in the scores' order.",
)
@click.option("--distance", is_flag=True, help="Lower is more alike: a score is minus the number.")
@fars_option(score.FARS)
@threshold_options
@output_options
def command(
    scores: Path,
    pairs: Path | None,
    distance: bool,
    fars: tuple[str, ...],
    given: GivenThresholds,
    output: Output,
) -> int:
    """AUC, EER, TPR@FAR and the best accuracy of SCORES: 'label score' or 'label score fold'.

    Label 1 is genuine, 0 or -1 impostor. The 10-fold accuracy is given only where a third column
    or the list of --pairs has folds. With --pairs, intervals resample people; and where lines are
    'claimed real probe score' or 'claimed model real probe score', which give rank-k and TPIR too.
    """
    held = score_lists.read(scores, distance=distance)
    fold, listed, subject, keys = held.fold, None, None, None
    names = {"manifest": digest(held.genuine, *([] if fold is None else [fold]))}
    if pairs is not None and held.claims is not None:
        raise click.UsageError(f"{scores.name} says who is compared: leave --pairs out")
    if pairs is not None:
        compared = pair_list_layouts.read(pairs).pairs
        _same_order(held, scores, compared)
        manifest, listed = compared.resolve()
        subject, fold = manifest.subject, listed.fold if fold is None else fold
        keys = manifest.keys
        names = {"list": pairs.name, "manifest": manifest.digest(), **compared.of_one_image()}
    made = {"scores": scores.name, "score": score.MINUS_DISTANCE if distance else "as given"}
    report = run.evaluate(
        "score",
        held.score,
        held.genuine,
        fold,
        pairs=listed,
        subject=subject,
        claims=held.claims,
        fars=fars,
        threshold=given.of(made),
        keys=keys,
        set_name=output.set_name(pairs or scores),
        file=pairs or scores,
        provenance={**made, **names, **given.provenance()},
    )
    turn = "leave --distance out" if distance else "for distances say --distance"
    warn_of_turned(report, turn)
    title = f"{scores.name}: {len(held.score):,} scored pairs"
    title += ", score = minus distance" if distance else ""
    return output.deliver(report, title)


def _same_order(held: score_lists.ScoreList, scores: Path, compared: PairList) -> None:
    """Raise DataError unless scores and pairs are as many and have the same labels, in order."""
    if len(held.score) != len(compared):
        raise DataError(
            f"{scores.name} has {len(held.score)} scores, {compared.source} {len(compared)} pairs",
            "line i of the one belongs to pair i of the other",
        )
    other = np.flatnonzero(held.genuine != compared.genuine)
    if len(other):
        k = int(other[0])
        classes = {True: "genuine", False: "impostor"}
        raise DataError(
            f"score {k + 1} of {scores.name} is {classes[bool(held.genuine[k])]}, the pair on line "
            f"{compared.line[k]} of {compared.source} {classes[bool(compared.genuine[k])]}",
            "both must have the same pairs in the same order",
        )
