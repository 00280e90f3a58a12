"""`evalkit score`: numbers from plain scores, with no embedding at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from evalkit import run
from evalkit.cli.options import columns_option, fars_option, file_option, groups_option, new_command
from evalkit.cli.output import Output, output_options, warn_of_turned
from evalkit.cli.parameters import Readable
from evalkit.cli.terminal import say
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.datasets import pair_list_layouts, roc_curves, score_lists
from evalkit.datasets.group_table import GroupFile
from evalkit.datasets.pair_list import PairList
from evalkit.datasets.score_lists import ScoreList
from evalkit.datasets.trillion import read_subjects
from evalkit.errors import DataError
from evalkit.identity import digest
from evalkit.protocols import score
from evalkit.protocols.metrics.score_unit import MINUS_DISTANCE

_CLASSES = {True: "genuine", False: "impostor"}


@new_command(
    "score",
    "evalkit score scores.txt --far 1e-3",
    "evalkit score distances.txt --distance --threshold 0.738",
)
@click.argument("scores", type=Readable(stream=True))
@file_option(
    "--pairs",
    "LIST",
    "List of pairs in the order of the scores, for labels and people.",
    folder=True,
)
@file_option("--labels", "LIST", "Labels of the scores in their order, one per line, or .npy.")
@file_option(
    "--impostors", "FILE", "Scores of the impostor pairs; SCORES are then the genuine ones."
)
@file_option("--subjects", "LIST", "Subject of each row of a matrix (.npy), one per line.")
@columns_option(score_lists.ROLES)
@click.option("--distance", is_flag=True, help="The numbers are distances: lower is more alike.")
@click.option(
    "--roc",
    is_flag=True,
    help="SCORES is a published ROC curve of LFW's 3,000 + 3,000 pairs, 'TPR FPR' per line.",
)
@click.option(
    "--allow-failures", is_flag=True, help="Count a missing score or NaN as a failed comparison."
)
@fars_option(score.FARS)
@threshold_options
@groups_option
@output_options
def command(
    scores: Path,
    pairs: Path | None,
    labels: Path | None,
    impostors: Path | None,
    subjects: Path | None,
    columns: dict[str, str] | None,
    distance: bool,
    roc: bool,
    allow_failures: bool,
    fars: tuple[str, ...],
    given: GivenThresholds,
    groups: GroupFile | None,
    output: Output,
) -> int:
    """AUC, EER, TPR@FAR and the best accuracy of SCORES: 'label score' or 'label score fold'.

    Label 1 is genuine, 0 or -1 impostor; or same and different, True and False. A table may have
    other columns, by its header or --columns. SCORES may be an .npy, or a matrix with --subjects.
    The 10-fold accuracy is given only where there are folds. Intervals resample people with
    --pairs, --subjects, where lines name images whose folders or names agree with the labels, and
    where they are 'claimed real probe score' or 'claimed model real probe score', which give rank-k
    and TPIR too.
    """
    sources = {"--pairs": pairs, "--labels": labels, "--impostors": impostors}
    named = [name for name, path in {**sources, "--subjects": subjects}.items() if path]
    if len(named) > 1:
        raise click.UsageError(f"{' and '.join(named)} say each who is genuine: give one of them")
    how: dict[str, bool] = {"distance": distance, "allow_failures": allow_failures}
    if roc and (named or columns or distance or allow_failures):
        raise click.UsageError("--roc reads a curve: leave lists, --columns and --distance out")
    if roc:
        score_list = roc_curves.read(scores)
    elif subjects is not None:
        score_list = score_lists.read_matrix(scores, read_subjects(subjects), **how)
    else:
        score_list = score_lists.read(scores, labelled=not named, columns=columns, **how)
    if labels is not None:
        score_list = _with_labels(score_list, scores, score_lists.read_labels(labels), labels)
    if impostors is not None:
        other = score_lists.read(impostors, labelled=False, columns=columns, **how)
        _refuse_labels(score_list, scores, genuine=True)
        _refuse_labels(other, impostors, genuine=False)
        score_list = _joined(score_list, other)
    fold, listed, subject, keys = score_list.fold, score_list.pairs, score_list.subject, None
    if pairs is not None and score_list.claims is not None:
        raise click.UsageError(f"{scores.name} says who is compared: leave --pairs out")
    if pairs is None:
        compared = score_list.named_pairs(scores.name)
    else:
        compared = pair_list_layouts.read(pairs).pairs
        score_list = _same_order(score_list, scores, compared)
    if score_list.genuine is None:
        raise DataError(f"{scores.name} holds no labels", "add --labels LIST, or --pairs LIST")
    names = {"manifest": digest(score_list.genuine, *([] if fold is None else [fold]))}
    if compared is not None:
        manifest, listed = compared.resolve()
        subject, fold = manifest.subject, listed.fold if fold is None else fold
        keys = manifest.keys
        names = {"list": (pairs or scores).name, "manifest": manifest.digest()}
        names |= compared.doubts()
    unit = "minus the step of the curve" if roc else "as given"
    provenance = {"scores": scores.name, "score": MINUS_DISTANCE if distance else unit}
    if distance:
        _look_at_distances(-score_list.score, given.typed)
    if score_list.told:
        say(f"{scores.name}: {score_list.told}")
        names["columns"] = score_list.told
    report = run.evaluate(
        "score",
        score_list.score,
        score_list.genuine,
        fold,
        pairs=listed,
        subject=subject,
        claims=score_list.claims,
        fars=fars,
        threshold=given.of(provenance),
        groups=groups,
        keys=keys,
        set_name=output.set_name(pairs or scores),
        file=pairs or scores,
        provenance={**provenance, **names, **given.provenance()},
    )
    turn = "leave --distance out" if distance else "for distances say --distance"
    warn_of_turned(report, turn)
    title = f"{scores.name}: {len(score_list.score):,} scored pairs"
    title += ", score = minus distance" if distance else ""
    return output.deliver(report, title)


def _look_at_distances(distances: NDArray[np.float64], thresholds: tuple[float, ...]) -> None:
    """Doubt the few distances, (P,), that are below 0, and refuse a threshold there without them.

    Scripts write -1 where they found no face, and it would be the nearest of all.
    """
    below = distances < -1e-6  # a cosine distance of one image with itself may miss 0 by rounding
    count = int(np.count_nonzero(below))
    if 0 < count <= len(distances) // 2:
        say(
            f"warning: {count:,} of {len(distances):,} distances lie below 0, the first is "
            f"{distances[below][0]:g}: of a comparison that failed write inf"
        )
    if not count and (wrong := [t for t in thresholds if t < 0]):
        raise click.UsageError(
            f"no distance is below 0, so --threshold {wrong[0]:g} accepts nobody: give the "
            f"distance itself, {-wrong[0]:g}"
        )


def _with_labels(
    held: ScoreList, scores: Path, genuine: NDArray[np.bool_], labels: Path
) -> ScoreList:
    if len(genuine) != len(held.score):
        raise DataError(
            f"{scores.name} has {len(held.score)} scores, {labels.name} {len(genuine)} labels",
            "line i of the one belongs to line i of the other",
        )
    if (at := _otherwise(held, genuine)) >= 0:
        raise DataError(
            f"score {at + 1} of {scores.name} is {_CLASSES[not genuine[at]]} there, "
            f"{_CLASSES[bool(genuine[at])]} in {labels.name}",
            "leave --labels out, or the column of labels",
        )
    return replace(held, genuine=genuine)


def _otherwise(held: ScoreList, genuine: NDArray[np.bool_] | bool) -> int:
    """Find the first score whose own label is another; -1 where none is, or none has a label."""
    if held.genuine is None:
        return -1
    other = np.flatnonzero(held.genuine != genuine)
    return int(other[0]) if len(other) else -1


def _refuse_labels(held: ScoreList, path: Path, *, genuine: bool) -> None:
    """Raise DataError where a file of one class has labels of its own that say the other."""
    if (at := _otherwise(held, genuine)) >= 0:
        raise DataError(
            f"score {at + 1} of {path.name} is labelled {_CLASSES[not genuine]}, and with "
            f"--impostors the file is of {_CLASSES[genuine]} pairs alone",
            "leave --impostors out where one file holds both",
        )


def _joined(genuine: ScoreList, impostor: ScoreList) -> ScoreList:
    """Join the scores of genuine pairs and those of impostor pairs, each in a file of its own."""
    count = len(genuine.score), len(impostor.score)
    folds = [held.fold for held in (genuine, impostor) if held.fold is not None]
    names = None
    if genuine.names is not None and impostor.names is not None:
        left, right = ([*a, *b] for a, b in zip(genuine.names, impostor.names, strict=True))
        names = left, right
    return ScoreList(
        np.concatenate([genuine.score, impostor.score]),
        np.repeat([True, False], count),
        np.concatenate(folds) if len(folds) == 2 else None,
        names=names,
        line=[*genuine.line, *impostor.line],
    )


def _same_order(held: ScoreList, scores: Path, compared: PairList) -> ScoreList:
    """Take the labels of pairs in the scores' order; DataError where the scores have others."""
    if len(held.score) != len(compared):
        raise DataError(
            f"{scores.name} has {len(held.score)} scores, {compared.source} {len(compared)} pairs",
            "line i of the one belongs to pair i of the other",
        )
    at = score_lists.other_pair(held, compared)
    if held.names is not None and at >= 0:
        raise DataError(
            f"score {at + 1} of {scores.name} is of {held.names[0][at]} and {held.names[1][at]}, "
            f"the pair on line {compared.line[at]} of {compared.source} of {compared.left[at]} and "
            f"{compared.right[at]}",
            "both must have the same pairs in the same order",
        )
    if (at := _otherwise(held, compared.genuine)) >= 0:
        raise DataError(
            f"score {at + 1} of {scores.name} is {_CLASSES[not compared.genuine[at]]}, the pair on "
            f"line {compared.line[at]} of {compared.source} {_CLASSES[bool(compared.genuine[at])]}",
            "both must have the same pairs in the same order",
        )
    return replace(held, genuine=compared.genuine)
