"""Seconds and memory of 1,000 draws of subjects: TPR at five FARs over LFW's 87.5 million pairs.

    python benchmarks/subject_bootstrap.py [--draws 1000] [--repeat 5]

On the embeddings that ship with evalkit; over pairs, and as the mean over people.  Memory is what
the draws allocate at their peak.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from importlib.resources import as_file, files

from evalkit.protocols import allpairs
from evalkit.protocols.all_vs_all import FARS
from evalkit.protocols.metrics.similarity import normalise
from evalkit.protocols.subject_means import with_subject_means
from evalkit.protocols.uncertainty.from_sets import set_outcomes
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import to_arrays
from evalkit.vectors.store import FeatureStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with as_file(files("evalkit.datasets") / "data" / "lfw_mobilefacenet.h5") as path:
        store = FeatureStore.open(path)
        x = normalise(store.features.reshape(len(store.features), -1))
        subject = store.manifest.subject
    points = allpairs.verify(x, subject, fars=FARS).points
    compared = set_outcomes(x, subject, fars=FARS)
    pooled = {f"tpr@far={far}": m for far, m in points.items()}
    metrics, outcomes = with_subject_means(pooled, compared), to_arrays(compared)
    kept = sum(column.nbytes for column in outcomes.values()) / 2**20
    genuine, tail = len(outcomes["genuine_score"]), len(outcomes["impostor_score"])
    print(f"{genuine:,} genuine, {tail:,} highest of {int(outcomes['impostors']):,} impostor pairs")
    seconds = []
    for _ in range(options.repeat):
        start = time.process_time()
        found = with_intervals(metrics, outcomes, draws=options.draws)
        seconds.append(time.process_time() - start)
    tracemalloc.start()
    with_intervals(metrics, outcomes, draws=20)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    for name, m in found.items():
        print(f"  {name:25} {m.value:.4%}  [{m.low:.4%}, {m.high:.4%}]  {m.interval}")
    print(f"median {statistics.median(seconds):.2f} s of processor time ({options.repeat} runs)")
    print(f"{peak:.0f} MiB allocated at the peak, beside {kept:.0f} MiB of outcomes")


if __name__ == "__main__":
    main()
