"""How fast is the exact 10-fold accuracy, beside a grid of 400 thresholds on the same 6,000 pairs?

    python benchmarks/lfw_accuracy.py

Runs both in turn and prints the median ratio.  The grid is the usual one, squared distance 0 to
3.99 in steps of 0.01, each threshold tried in a Python loop: as most projects have it, with the one
count that is needed, and counted pair by pair in Python (one fold, times ten).
"""

import statistics
import time

import numpy as np

from evalkit.protocols.metrics.kfold import kfold_accuracy

RUNS = 7


def grid_accuracy(distance, genuine, fold):
    """Best of 400 thresholds on nine folds, judged on the tenth; one count a threshold."""
    accuracy = []
    for k in np.unique(fold):
        train, test = fold != k, fold == k
        d, g = distance[train], genuine[train]
        right = [np.count_nonzero((d < t) == g) for t in np.arange(0, 4, 0.01)]
        t = 0.01 * int(np.argmax(right))
        accuracy.append(np.mean((distance[test] < t) == genuine[test]))
    return float(np.mean(accuracy))


def usual_accuracy(distance, genuine, fold):
    """What most projects run: four logical counts a threshold, on the nine folds and the tenth."""
    thresholds = np.arange(0, 4, 0.01)

    def rates(t, d, g):
        same = np.less(d, t)
        tp = np.sum(np.logical_and(same, g))
        fp = np.sum(np.logical_and(same, np.logical_not(g)))
        tn = np.sum(np.logical_and(np.logical_not(same), np.logical_not(g)))
        fn = np.sum(np.logical_and(np.logical_not(same), g))
        return tp / max(tp + fn, 1), fp / max(fp + tn, 1), (tp + tn) / len(d)

    accuracy = []
    for k in np.unique(fold):
        train, test = fold != k, fold == k
        best = np.argmax([rates(t, distance[train], genuine[train])[2] for t in thresholds])
        curve = [rates(t, distance[test], genuine[test]) for t in thresholds]
        accuracy.append(curve[int(best)][2])
    return float(np.mean(accuracy))


def plain_seconds(distance, genuine, fold):
    """Seconds of one fold's 400 thresholds, counted pair by pair in Python."""
    d, g = distance[fold != 0].tolist(), genuine[fold != 0].tolist()
    start = time.perf_counter()
    for n in range(400):
        t = n * 0.01
        sum((x < t) == y for x, y in zip(d, g, strict=True))
    return time.perf_counter() - start


def main():
    rng = np.random.default_rng(0)
    genuine = np.tile(np.repeat([True, False], 300), 10)
    fold = np.repeat(np.arange(10), 600)
    cosine = np.where(genuine, rng.normal(0.65, 0.14, 6000), rng.normal(0.01, 0.1, 6000)).clip(
        -1, 1
    )
    distance = 2 - 2 * cosine
    seconds = {"exact": [], "lean grid": [], "usual grid": []}
    for _ in range(RUNS):
        for name, run in (
            ("exact", lambda: kfold_accuracy(cosine, genuine, fold).value),
            ("lean grid", lambda: grid_accuracy(distance, genuine, fold)),
            ("usual grid", lambda: usual_accuracy(distance, genuine, fold)),
        ):
            start = time.perf_counter()
            value = run()
            seconds[name].append(time.perf_counter() - start)
            if len(seconds[name]) == RUNS:
                ms = statistics.median(seconds[name]) * 1e3
                print(f"{name:12} accuracy {value:.6f}  {ms:9.2f} ms")
    for grid in ("lean grid", "usual grid"):
        ratio = statistics.median(
            g / e for g, e in zip(seconds[grid], seconds["exact"], strict=True)
        )
        print(f"{grid} / exact = {ratio:.0f}")
    plain = 10 * plain_seconds(distance, genuine, fold)
    ratio = plain / statistics.median(seconds["exact"])
    print(f"plain Python grid, ten folds: {plain:.1f} s; / exact = {ratio:.0f}")


if __name__ == "__main__":
    main()
