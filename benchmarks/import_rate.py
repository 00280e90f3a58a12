"""A MegaFace folder of 100,000 files of 512 numbers into one feature file: files a second.

    python benchmarks/import_rate.py FOLDER [--files 100000]

Makes the folder if it is not there (205 MB), in MegaFace's way of names, then imports it three
times; the files come from the system's cache unless it is too small for them.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from evalkit.vectors import devkit_matrix

DIM, A_FOLDER = 512, 100


def make(folder: Path, files: int) -> None:
    rng = np.random.default_rng(0)
    for o in range(0, files, A_FOLDER):
        below = folder / f"{o // 10000}" / f"{o:08d}@N00"
        below.mkdir(parents=True)
        for k, x in enumerate(rng.standard_normal((A_FOLDER, DIM), np.float32)):
            devkit_matrix.write_feature(below / f"{o + k}_0.jpg_foam.bin", x)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--files", type=int, default=100_000)
    o = options.parse_args()
    if not o.folder.exists():
        make(o.folder, o.files)
    out = o.folder.with_name(o.folder.name + ".h5")
    rates, used = [], []
    for _ in range(3):
        out.unlink(missing_ok=True)
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "evalkit", "import", o.folder, out], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rates.append(o.files / (time.perf_counter() - start))
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(
        f"{o.files:,} files: {statistics.median(rates):,.0f} files/s (median of "
        f"{', '.join(f'{r:,.0f}' for r in rates)}), {statistics.median(used):.1f} s of processor "
        f"time, {after.ru_maxrss / 1024:.0f} MiB at most, load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
