"""`evalkit people`: a folder of one's own people, measured, and the threshold to deploy."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from evalkit import images, run
from evalkit.cli import spec_trial
from evalkit.cli.engine_options import memory_option
from evalkit.cli.options import (
    file_option,
    groups_option,
    new_command,
    rates_option,
    sizes_option,
    subjects_option,
)
from evalkit.cli.output import Output, output_options
from evalkit.cli.parameters import Readable, Writable
from evalkit.cli.terminal import say, show
from evalkit.cli.threshold_options import GivenThresholds, threshold_options
from evalkit.cli.vector_options import VectorSource, vector_options
from evalkit.datasets.group_table import GroupFile
from evalkit.datasets.trillion import read_subjects
from evalkit.errors import DataError
from evalkit.escaping import laid_out, printable
from evalkit.files import whole_file
from evalkit.identity import SET, difference
from evalkit.images.folders import people_in_doubt
from evalkit.images.kinds import counted
from evalkit.keys import people_of, subjects_of
from evalkit.protocols import recipes
from evalkit.protocols.allpairs import Engine
from evalkit.protocols.doubtful_labels import DoubtfulLabels, doubtful_labels
from evalkit.protocols.metrics import threshold_text
from evalkit.protocols.metrics.vocabulary import resampling_of
from evalkit.protocols.search import Enrolment
from evalkit.protocols.uncertainty.outcomes import SetOutcomes, parts_of
from evalkit.replacing import DOUBTFUL_LABELS, PAGE
from evalkit.report.page import page as page_of
from evalkit.types import Bools, Ints, Report
from evalkit.vectors.matching import Vectors
from evalkit.verdict.threshold import safe_at

_SHOWN = 10  # doubtful labels below the table, and names in a warning
CONFIDENCE = 0.95


@new_command(
    "people",
    "evalkit people FACES/ --model model.onnx --preset arcface",
    "evalkit people FACES/ --model model.onnx --preset arcface --page people.html",
    "evalkit people --features F.npy --keys K.txt",
    "evalkit people --features F.npy --subjects who.txt",
)
@click.argument("folder", type=Readable(folder=True), required=False, metavar="[FOLDER]")
@subjects_option("; else the folder of its key")
@file_option(
    "--unknown", "FOLDER", "Images of people who are not enrolled, for FPIR and TPIR.", folder=True
)
@file_option(
    "--gallery",
    "FOLDER",
    "Images to enrol, a folder per person.  [default: the first image of each]",
    folder=True,
)
@click.option(
    "--template",
    type=click.Choice(["max", "mean"]),
    default="max",
    help="How to combine several images of a person: best score, or mean vector.",
)
@vector_options(data=False)
@rates_option(
    "--far", "FAR for TPR and threshold, as 1e-3; may be repeated.  [default: all the set supports]"
)
@threshold_options
@sizes_option
@groups_option
@click.option(
    "--doubtful",
    type=Writable(endings=(".csv",), mark=DOUBTFUL_LABELS),
    metavar="FILE.csv",
    help="Write all images as CSV, the most doubtful label first.",
)
@click.option(
    "--page",
    type=Writable(endings=(".html", ".htm"), mark=PAGE),
    metavar="FILE.html",
    help="Write the report as an HTML page, with pictures of the hardest pairs.",
)
@memory_option
@output_options
def command(
    folder: Path | None,
    source: VectorSource,
    subjects: Path | None,
    unknown: Path | None,
    gallery: Path | None,
    template: Enrolment,
    fars: tuple[str, ...],
    given: GivenThresholds,
    sizes: tuple[int, ...],
    groups: GroupFile | None,
    doubtful: Path | None,
    page: Path | None,
    engine: Engine,
    output: Output,
) -> int:
    """How good a model is on your own people, and which threshold to deploy.

    FOLDER has a folder per person; images outside these folders are of unknown people. Every two
    images are compared, every image is searched for among the enrolled, and the labels that look
    wrong are listed.
    """
    made = _gathered(source, folder, subjects, unknown, gallery)
    say(*made.check()[len(made.faces) :])
    x = recipes.fused(source.how, made.vectors.features)
    report = run.evaluate(
        "people",
        replace(made.vectors, features=x),
        made.subject,
        unknown=made.unknown,
        enrolled=made.enrolled if gallery is not None else None,
        template=template,
        fars=fars or None,
        threshold=given.of({}),
        sizes=sizes,
        groups=groups,
        curves=output.kept or page is not None,
        engine=engine,
        set_name=output.set_name(folder),
        file=subjects,
        provenance={"data check": made.check(), **source.how.scored_by(), **given.provenance()},
    )
    title = f"People: {len(x):,} images of {report.provenance['subjects']:,}, {source.name}"
    done = output.deliver(report, title)
    if output.out is not None and difference(report.identity, report.identity) == SET:
        say("without --set NAME it can be compared with no other report")
    labels = doubtful_labels(x, np.where(made.unknown, -1, made.subject), engine=engine)
    if output.json_path is None:
        show(*_threshold_lines(*_thresholds(report)), *_doubts(labels, made.keys))
    if doubtful is not None:
        with whole_file(doubtful) as f:
            f.write(_csv(labels, made.keys).encode())
        say(f"{len(labels.row):,} labels written to {doubtful}, the most doubtful first")
    if page is not None:
        with whole_file(page) as f:
            rows, notes = _thresholds(report)
            text = page_of(
                [report], folder, names=[source.name], thresholds=rows, threshold_notes=notes
            )
            f.write(text.encode())
        say(f"{page} written")
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gathered:
    """Vectors of the people, the unknown and the gallery, one after the other.

    by_folder : whether the folder of an image says who it shows.  faces : what a detector did not
    find in their images, or found twice, told already.
    """

    vectors: Vectors
    keys: tuple[str, ...]
    subject: Ints
    unknown: Bools
    enrolled: Bools
    by_folder: bool
    faces: Sequence[str]

    def check(self) -> list[str]:
        """Say what is odd about the data: faces, folders, lone images, the same image twice."""
        lines = list(self.faces)
        known = ~self.unknown & ~self.enrolled
        if self.by_folder:
            lines += people_in_doubt(self.keys[row] for row in np.flatnonzero(known).tolist())
        images_of = Counter(self.subject[known].tolist())
        alone = sum(n == 1 for n in images_of.values())
        if alone:
            lines.append(f"{alone:,} of {len(images_of):,} people have one image: no genuine pair")
        same = [rows for rows in self._copies() if len(rows) > 1]
        for alike, how in ((True, "more than once"), (False, "as two people")):
            copies = [r for r in same if (len(np.unique(self.subject[r])) == 1) == alike]
            if copies:
                what = counted(copies, "image is", "images are")
                lines.append(f"{what} there {how}: {self._named(copies)}")
        return lines

    def _copies(self) -> Iterator[list[int]]:
        """Rows of each image, by the digest of its file."""
        if self.vectors.images is None:
            return
        rows: dict[bytes, list[int]] = {}
        for row, digest in enumerate(np.asarray(self.vectors.images)):
            if digest.any():
                rows.setdefault(digest.tobytes(), []).append(row)
        yield from rows.values()

    def _named(self, groups: Sequence[list[int]]) -> str:
        shown = ["=".join(self.keys[row] for row in rows) for rows in groups[:_SHOWN]]
        return printable(", ".join(shown) + (", ..." if len(groups) > _SHOWN else ""))


def _gathered(
    source: VectorSource,
    folder: Path | None,
    subjects: Path | None,
    unknown: Path | None,
    gallery: Path | None,
) -> _Gathered:
    """Embed the folders, or take the rows of a file, and say who is who."""
    if source.features is not None and (folder or unknown or gallery):
        raise click.UsageError(
            "FOLDER, --unknown and --gallery hold images, --features holds vectors: give one kind "
            "(a vector of nobody known has - in --subjects)"
        )
    root = folder or source.choice.images.data
    if source.features is None and root is None:
        raise click.UsageError("give the FOLDER of the people")
    embed = None if root is None else _embedder(source, root, alone=not (subjects or gallery))
    if embed is None or root is None:
        parts = [source.vectors(None, numbered=subjects is not None)]
    else:
        parts = [embed(root)]
    count = len(parts[0].keys or ())
    who: Any = None if subjects is None else read_subjects(subjects, parts[0].keys)
    if who is not None and len(who) != count:
        raise DataError(
            f"{subjects} has {len(who)} lines for {count} images", "a subject per row, in order"
        )
    if embed is not None:
        parts += [embed(path) for path in (unknown, gallery) if path is not None]
    names = [str(key) for part in parts for key in part.keys or ()]
    kinds = ["known", *(["unknown"] if unknown else []), *(["enrolled"] if gallery else [])]
    kind = np.repeat(kinds, [len(part.keys or ()) for part in parts])
    subject = subjects_of(names)
    if who is not None:
        if gallery is not None:
            raise click.UsageError("--gallery names people by folder: leave --subjects out")
        subject = np.append(who, subject[count:] + who.max(initial=-1) + 1)
    away = kind == "unknown"
    both = np.intersect1d(subject[away & (subject >= 0)], subject[~away])
    if len(both):
        at = names[int(np.flatnonzero(away & (subject == both[0]))[0])]
        raise DataError(f"{at} is of a person who is known", f"other names in {unknown}")
    digests = None
    if all(part.images is not None for part in parts):
        digests = np.concatenate([np.asarray(part.images) for part in parts])
    keys = tuple(n if k == "known" else f"{k}/{n}" for k, n in zip(kind, names, strict=True))
    return _Gathered(
        vectors=Vectors(
            np.concatenate([np.asarray(part.features) for part in parts]),
            parts[0].provenance,
            digests,
            keys,
        ),
        keys=keys,
        subject=subject,
        unknown=away | (subject < 0),
        enrolled=kind == "enrolled",
        by_folder=who is None,
        faces=[line for part in parts for line in part.provenance.get("made", {}).get("faces", ())],
    )


def _embedder(source: VectorSource, root: Path, *, alone: bool) -> Callable[[Path], Vectors]:
    """Embed any folder by one input spec: where it is tried, on the people of `root` alone.

    alone : nothing else says who the people are, or has images of them.
    """
    first = images.find(root)
    if alone:
        people_of(first.keys, root, "give a folder per person, with two images or more of some")
    adapter, choice = spec_trial.loaded(source.choice, first, first.manifest())
    fed = replace(source, choice=choice)

    def embed(folder: Path) -> Vectors:
        source = first if folder == root else images.find(folder)
        return fed.embed(adapter, source, source.manifest())

    return embed


def _thresholds(report: Report) -> tuple[list[tuple[str, ...]], list[str]]:
    """Find, for each FAR, the measured threshold and the one that is safe; and what to say of them.

    The first row is of headings; without a threshold there is none.
    """
    outcomes = parts_of(report.outcomes or {}).get("")
    if not isinstance(outcomes, SetOutcomes):
        return [], []
    rows: list[tuple[str, ...]] = [
        ("FAR", "measured", f"safe at {CONFIDENCE:.0%}", "FNMR there", "95 % interval")
    ]
    notes = list[str]()
    for name, m in report.metrics.items():
        kind, far = resampling_of(name)
        if kind != "tpr" or m.threshold is None:
            continue
        safe = safe_at(outcomes, far, m.threshold, CONFIDENCE)
        at = ("none", "", "")  # the data do not support one
        if safe.threshold is None:
            notes += [f"none: {safe.note}"] * (rows[-1][2] != "none")
        elif safe.fnmr is not None and safe.fnmr_low is not None and safe.fnmr_high is not None:
            ends = f"[{100 * safe.fnmr_low:.2f}, {100 * safe.fnmr_high:.2f}]"
            at = (threshold_text(safe.threshold), f"{100 * safe.fnmr:.2f} %", ends)
            notes += [f"safe at {far}: {safe.note}"] * bool(safe.note)
        rows.append((far, threshold_text(m.threshold), *at))
    return (rows, notes) if len(rows) > 1 else ([], [])


def _threshold_lines(rows: Sequence[tuple[str, ...]], notes: Sequence[str]) -> list[str]:
    """Lay out the thresholds to deploy as text; [] without any."""
    if not rows:
        return []
    return [
        "",
        "Thresholds to deploy: accept if and only if score >= threshold",
        *(f"  {line}" for line in laid_out(rows, left=(0,))),
        *(
            line
            for note in notes
            for line in wrap(note, 80, initial_indent="  ", subsequent_indent="    ")
        ),
    ]


def _doubts(labels: DoubtfulLabels, keys: Sequence[str]) -> list[str]:
    """Show the images that look more like somebody else than like their own subject."""
    doubtful = int(np.count_nonzero(labels.doubt > 0))
    if not doubtful:
        return ["", "No image looks more like somebody else than like its own person."]
    rows = [("image", "looks like", "score", "own mean")]
    for k in range(min(doubtful, _SHOWN)):
        mean = labels.mate_mean[k]
        own = "-" if np.isnan(mean) else f"{mean:.3f}"
        pair = keys[labels.row[k]], keys[labels.stranger[k]]
        rows.append((*pair, f"{labels.stranger_score[k]:.3f}", own))
    more = f" (--doubtful FILE.csv has all {doubtful:,})" if doubtful > _SHOWN else ""
    return [
        "",
        "Doubtful labels: these images look more like somebody else than like their own",
        f"  person; a wrong label moves every number above{more}",
        *(f"  {printable(line)}" for line in laid_out(rows, left=(0, 1))),
    ]


def _csv(labels: DoubtfulLabels, keys: Sequence[str]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "doubt", "looks_like", "score", "own_mean"])
    columns: tuple[NDArray[Any], ...] = (
        labels.row, labels.doubt, labels.stranger, labels.stranger_score, labels.mate_mean
    )  # fmt: skip
    for row, doubt, stranger, score, mean in zip(*(c.tolist() for c in columns), strict=True):
        own = "" if np.isnan(mean) else mean
        table.writerow([keys[row], doubt, keys[stranger], score, own])
    return text.getvalue()
