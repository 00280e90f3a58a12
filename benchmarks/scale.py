"""How long the trillion-pair test takes on W workers: a cost model, and a real run beside it.

    python benchmarks/scale.py [--rows 8000 --columns 60000 --runs 1]

The parts are measured in one process, by the engine's own blocks on a smaller set:

    tile    seconds a pair, codes at hand
    encode  seconds a row to make codes; each worker encodes all columns, the rows are shared
    load    a worker reads the job; before its first it imports what the engine needs
    merge   the driver reads a block's answer and merges it; one at a time, beside the workers
    alone   what only the driver does: norms, sample, genuine pairs, intervals; a + b rows, from
            this set and half of it
    start   Dask brings its workers up

A pass of W workers takes load + encode(columns) + (encode(rows a band) + tile(pairs)) / W, in whole
blocks, or merge x blocks where that is longer.  The test's passes are as many as the engine made
here.  It is printed for 274,000 x 1,580,000 and 1..64 workers, and checked on the smaller set with
1 and 2 real ones, with blocks as much smaller.  All in processor seconds, so that other people's
work matters little: the real run's are the driver's and those of its busiest worker.  Wall times
are printed beside them.
Workers that share a memory bus or a slow disk are slower than this says.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import cloudpickle
import numpy as np
from allpairs import faces

from evalkit.cluster import Cluster
from evalkit.protocols import trillion
from evalkit.protocols.allpairs import Engine, scan

FULL = 274_000, 1_580_000
_BLOCKS = 20
_BLOCK = scan._BLOCK


@dataclass
class Pass:
    """What one pass over all pairs cost here, by its parts."""

    load: float = 0.0
    tiles: float = 0.0  # seconds in blocks whose columns were encoded before
    tiled: int = 0  # pairs in those
    first: float = 0.0  # seconds in the others
    in_first: int = 0
    columns: int = 0  # encoded in those
    merge: float = 0.0
    blocks: int = 0
    held: int = 0  # bytes of the blocks' answers

    wide: int = 0  # columns whose codes fit at once

    @property
    def tile(self) -> float:
        return self.tiles / self.tiled

    @property
    def encode(self) -> float:
        return max(0.0, self.first - self.tile * self.in_first) / self.columns

    def seconds(self, workers: int, rows: int, columns: int, blocks: int) -> float:
        """Predict it for rows x columns in so many blocks."""
        share = ceil(blocks / workers) / blocks
        again = rows * ceil(columns / self.wide)  # rows are encoded for each band of columns
        work = self.encode * columns + (self.encode * again + self.tile * rows * columns) * share
        return self.load + max(work, self.merge / self.blocks * blocks)


class Measured:
    """A cluster of this process that keeps account."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.passes = folder, list[Pass]()

    def place(self, x: Any) -> Any:
        path = self.folder / f"{id(x)}.npy"
        if not path.exists():
            np.save(path, x)
        return np.load(path, mmap_mode="r")

    def run(
        self, job: Callable[[Any], Any], items: Mapping[int, Any]
    ) -> Generator[tuple[int, Any]]:
        found, band, sent = Pass(), None, cloudpickle.dumps(job)
        self.passes.append(found)
        begun = time.process_time()
        job = pickle.loads(sent)
        found.load = time.process_time() - begun
        all_pairs, screen = job._scan, job._screen
        found.wide = all_pairs.memory // 4 // screen.bytes_a_row(all_pairs.x) * 3 // 4
        for number, block in items.items():
            begun = time.process_time()
            states = job(block)
            used, pairs = time.process_time() - begun, (block.i1 - block.i0) * (block.j1 - block.j0)
            if band == block.j0:
                found.tiles, found.tiled = found.tiles + used, found.tiled + pairs
            else:
                found.first, found.in_first = found.first + used, found.in_first + pairs
                found.columns += block.j1 - block.j0
            band = block.j0
            begun, held = time.process_time(), pickle.dumps(states)
            yield number, pickle.loads(held)
            found.merge += time.process_time() - begun
            found.blocks, found.held = found.blocks + 1, found.held + len(held)


def total(
    passes: list[Pass], alone: float, workers: int, size: tuple[int, int], block: float
) -> float:
    blocks = max(1, round(size[0] * size[1] / block))
    return alone + sum(p.seconds(workers, *size, blocks) for p in passes)


def imports() -> float:
    """Processor seconds that a worker takes to import the engine, with torch where there is one."""
    torch = "import torch;" if find_spec("torch") else ""
    code = f"{torch}import evalkit.cluster, evalkit.protocols.allpairs"
    before = sum(os.times()[2:4])
    subprocess.run([sys.executable, "-c", code], check=True)
    return sum(os.times()[2:4]) - before


def sets(rows: int, columns: int) -> tuple[Any, Any]:
    """48 images of each person, as in the challenge, and faces of nobody."""
    x, who = faces(rows, 512, 0, people=max(2, rows // 48))
    x = np.concatenate([x, faces(columns, 512, 1, people=columns)[0]])
    return x, np.concatenate([who, np.full(columns, -1)])


def test(x: Any, who: Any, cluster: Any, screen: str) -> tuple[Any, float]:
    """The answer, and the driver's processor seconds."""
    engine = Engine(cluster=cluster, threads=1, screen=screen)
    wall, begun = time.perf_counter(), time.process_time()
    report = trillion.evaluate(x, who, engine=engine)
    used, wall = time.process_time() - begun, time.perf_counter() - wall
    load = os.getloadavg()[0]
    print(f"  {used:.1f} s here, {wall:.1f} s wall at load {load:.1f}, {engine.tally}", flush=True)
    return {name: (m.value, m.threshold) for name, m in report.metrics.items()}, used


def parts(x: Any, who: Any, screen: str) -> tuple[Any, list[Pass], float]:
    """The answer, the passes, and what the driver did alone."""
    with tempfile.TemporaryDirectory() as folder:
        measured = Measured(Path(folder))
        answer, seconds = test(x, who, measured, screen)
    spent = sum(p.tiles + p.first + p.merge + p.load for p in measured.passes)
    return answer, measured.passes, seconds - spent


def real(x: Any, who: Any, workers: int, screen: str, answer: Any) -> tuple[float, float]:
    """Processor seconds of the driver and of the busiest worker; seconds to start."""
    begun = time.perf_counter()
    with Cluster(f"local:{workers}") as cluster:
        before = cluster._client.run(time.process_time)
        start = time.perf_counter() - begun
        found, driver = test(x, who, cluster, screen)
        after = cluster._client.run(time.process_time)
    assert found == answer, "not the same bits"
    worker = max(after[w] - before[w] for w in after)
    print(f"    the driver {driver:.1f} s, the busiest worker {worker:.1f} s")
    return driver + worker, start


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--rows", type=int, default=8_000)
    p.add_argument("--columns", type=int, default=60_000)
    p.add_argument("--screen", default="int8/128")
    p.add_argument("--runs", type=int, default=1)
    o = p.parse_args()
    scan._BLOCK = max(1, o.rows * o.columns // _BLOCKS)
    print(f"{o.rows // 2:,} x {o.columns // 2:,}, then all of it, in this process:")
    _, _, half = parts(*sets(o.rows // 2, o.columns // 2), o.screen)
    x, who = sets(o.rows, o.columns)
    imported = imports()
    print(f"    a worker's imports {imported:.1f} s")
    met: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(o.runs):
        answer, passes, alone = parts(x, who, o.screen)
        for each in passes:
            print(
                f"    tile {each.tile * 1e9:.2f} ns a pair, encode {each.encode * 1e6:.2f} us a "
                f"row, load {each.load:.2f} s, {each.blocks} blocks, merge "
                f"{each.merge / each.blocks:.3f} s of {each.held / each.blocks / 2**20:.1f} MiB"
            )
        print(f"    the driver alone {alone:.1f} s")
        for workers in met:
            print(f"{workers} real workers:")
            found, start = real(x, who, workers, o.screen, answer)
            block = o.rows * o.columns / passes[0].blocks
            predicted = total(passes, alone + imported, workers, (o.rows, o.columns), block)
            met[workers].append(predicted / found)
            print(f"    predicted {predicted:.1f} s, real {found:.1f} s; up after {start:.1f} s")
    for workers, ratio in met.items():
        print(f"predicted / real, {workers} workers: {median(ratio):.2f}")
    n = o.rows + o.columns
    slope = max(0.0, alone - half) / (n - n // 2)
    fixed = start + imported + alone + slope * (sum(FULL) - n)
    print(f"\nthe full {FULL[0]:,} x {FULL[1]:,} with workers like these, minutes:")
    one = total(passes, fixed, 1, FULL, _BLOCK)
    for workers in (1, 2, 4, 8, 16, 32, 64):
        whole = total(passes, fixed, workers, FULL, _BLOCK)
        print(f"    {workers:3} workers {whole / 60:8.1f}   {one / whole:5.1f} times faster")
    print(f"of which the driver alone {fixed / 60:.1f}")


if __name__ == "__main__":
    main()
