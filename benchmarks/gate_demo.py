"""What a gate sees of damage to the demo's embeddings: the table of docs/gates.md.

    python benchmarks/gate_demo.py

LFW's 6,000 pairs, the demo's vectors against themselves rounded to 8 bits (steps of 1/127 of the
largest coordinate) or with their last dimensions cut off, under rules for accuracy and two TPR.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np

from evalkit.datasets import lfw as lists
from evalkit.protocols import lfw
from evalkit.types import Floats, Report
from evalkit.vectors.store import FeatureStore
from evalkit.verdict.compare import compare
from evalkit.verdict.gate import Rule, Ruling, check

RULES = tuple(Rule(metric=m) for m in ("accuracy", "tpr@far=1e-2", "tpr@far=1e-3"))


def embeddings() -> dict[str, Floats]:
    """Read (7701, 128) vectors of the list's images, and make the damaged ones, by candidate."""
    wanted = lists.official_pairs().resolve()[0]
    with as_file(files("evalkit.datasets") / "data" / "lfw_mobilefacenet.h5") as path:
        store = FeatureStore.open(path)
        row = {key: n for n, key in enumerate(store.manifest.keys)}
        x = np.asarray(store.features[[row[key] for key in wanted.keys], 0], np.float32)
    step = np.abs(x).max() / 127
    return {
        "": x,
        "8 bits": (np.round(x / step) * step).astype(np.float32),
        "96 of 128 dimensions": x[:, :96],
        "64 of 128 dimensions": x[:, :64],
    }


def report_of(features: Floats) -> Report:
    """Measure the 6,000 pairs."""
    manifest, pairs = lists.official_pairs().resolve()
    return lfw.evaluate(features, pairs, manifest.subject, keys=manifest.keys, set_name="lfw")


def row(candidate: str, ruling: Ruling, changed: str) -> str:
    """Lay out one line of the table; drops in points."""
    points = [f"{100 * v:.2f}" for v in (ruling.drop, ruling.upper) if v is not None]
    p = [f"{v:.2g}" for v in (ruling.p, ruling.holm) if v is not None]
    found = f"{100 * (ruling.detectable or 0):.2f}"
    return f"| {' | '.join([candidate, ruling.rule.metric, *points, *p, found, changed])} |"


def main(candidates: tuple[str, ...] = ()) -> None:
    """Print the table, of all candidates or these."""
    made = embeddings()
    base = report_of(made.pop(""))
    print("| candidate | metric | drop, points | up to | p | Holm | detectable | lost, gained |")
    for name, x in made.items():
        if candidates and name not in candidates:
            continue
        candidate = report_of(x)
        accuracy = compare(base, candidate, names=["accuracy"]).differences["accuracy"]
        for ruling in check(candidate, base, RULES).rulings:
            of_accuracy = ruling.rule.metric == "accuracy"
            print(row(name, ruling, f"{accuracy.lost}, {accuracy.gained}" if of_accuracy else ""))


if __name__ == "__main__":
    main()
