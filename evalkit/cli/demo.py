"""`evalkit demo`: the real protocols on real embeddings that ship with evalkit."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files

import click

from evalkit import run
from evalkit.cli.options import Command
from evalkit.cli.output import Output, bar, output_options
from evalkit.cli.terminal import say
from evalkit.protocols import all_vs_all
from evalkit.protocols.metrics.vocabulary import resampling_of
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


@click.command("demo", cls=Command, examples=["evalkit demo --out demo.json"])
@output_options
def command(output: Output) -> int:
    """Run LFW, all 87.5 million pairs and the closed-set search on embedded features."""
    say(*WHAT.split("\n"))
    with bar("pairs", "pair") as progress:
        report = measure(progress)
    title = "LFW: the 6,000 pairs of View 2; all 87,549,528 pairs; 7,484 searches"
    done = output.deliver(report, title)
    say(*NEXT.split("\n"))
    return done


def measure(progress: Progress | None = None) -> Report:
    """Score the embedded features: LFW's own protocol, then everybody against everybody."""
    with as_file(files("evalkit.datasets") / "data" / "lfw_mobilefacenet.h5") as path:
        store = FeatureStore.open(path)
        official = run.evaluate("lfw", store)
        who = store.manifest
        every = all_vs_all.evaluate(store.features, who.subject, keys=who.keys, progress=progress)
    renamed = {
        f"{name},{ALL}" if resampling_of(name)[0] in ("tpr", "mean tpr") else name: estimate
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
