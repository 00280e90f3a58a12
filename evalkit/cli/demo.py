"""`evalkit demo`: the real protocols on real embeddings that ship with evalkit."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files

from evalkit import run
from evalkit.cli.options import groups_option, new_command
from evalkit.cli.output import Output, bar, output_options
from evalkit.cli.terminal import say
from evalkit.datasets.group_table import GroupFile
from evalkit.protocols import all_vs_all
from evalkit.protocols.metrics.vocabulary import read, resampling_of
from evalkit.types import Progress, Report
from evalkit.vectors.store import FeatureStore

ALL = "pairs=all"  # the part of metrics and outcomes that is of all pairs
WHAT = """\
evalkit measures face recognition: a model or its embeddings in, exactly defined numbers out.
Here: all 13,233 LFW images as a MobileFaceNet (128-d) embedded them, by the real protocols.
"""
NEXT = """
next:  evalkit lfw --model model.onnx --preset arcface     your model, LFW fetched for you
       evalkit lfw --features F.npy --keys K.txt           embeddings you have already
       evalkit list                                        every protocol, and what it needs
"""


@new_command("demo", "evalkit demo --out demo.json")
@groups_option
@output_options
def command(groups: GroupFile | None, output: Output) -> int:
    """Run LFW, all 87.5 million pairs and the closed-set search on shipped embeddings."""
    say(*WHAT.split("\n"))
    with bar("pairs", "pair") as progress:
        report = measure(progress, groups, curves=output.kept)
    title = "LFW: the 6,000 pairs of View 2; all 87,549,528 pairs; 7,484 searches"
    done = output.deliver(report, title)
    say(*NEXT.split("\n"))
    return done


def measure(
    progress: Progress | None = None, groups: GroupFile | None = None, *, curves: bool = True
) -> Report:
    """Score the shipped embeddings: LFW's own protocol, then everybody against everybody.

    groups : a table of groups, whose error rates are those of all pairs.  curves : False leaves out
    what plots alone need of these.
    """
    with as_file(files("evalkit.datasets") / "data" / "lfw_mobilefacenet.h5") as path:
        store = FeatureStore.open(path)
        official = run.evaluate("lfw", store)
        who = store.manifest
        every = all_vs_all.evaluate(
            store.features,
            who.subject,
            groups=()
            if groups is None
            else run.groups_of(groups, who.keys, None, rows=len(who.keys)),
            curves=curves,
            keys=who.keys,
            progress=progress,
        )
    return together(official, every)


def together(official: Report, every: Report) -> Report:
    """Put LFW's own pairs and everybody against everybody into one report.

    Metrics and outcomes of all pairs are those of the part ALL; searches are of nothing else.
    """
    renamed = {
        f"{name},{ALL}" if _of_pairs(name) else name: estimate
        for name, estimate in every.metrics.items()
    }
    return replace(
        official,
        protocol="demo",
        metrics={**official.metrics, **renamed},
        outcomes={
            **(official.outcomes or {}),
            **{f"{ALL}/{name}": array for name, array in (every.outcomes or {}).items()},
        },
        curves={**every.curves, **official.curves},
        provenance={**official.provenance, **every.provenance},
    )


def _of_pairs(name: str) -> bool:
    """Tell whether a metric of everybody is one of pairs, as LFW's own are."""
    reading = read(name)
    by_group = reading is not None and reading.metric.by_group and "@" in name
    return by_group or resampling_of(name)[0] in ("tpr", "mean tpr")
