"""How long the trillion-pair test takes on W workers: a cost model, and a real run beside it.

    python benchmarks/scale.py [--rows 40000 --columns 250000 --runs 1]

The parts are measured in one process, by the engine's own jobs, on a smaller set and twice on half
of it:

    tile    seconds a pair, codes at hand
    encode  seconds a row to make codes; each worker encodes all columns, the rows are shared
    load    a worker reads the job; before its first it imports what the engine needs
    merge   the driver reads a block's answer and merges it; one at a time, beside the workers
    listed  exact scores of genuine pairs and of the highest impostors, shared by the workers
    alone   what only the driver does: unit lengths, norms, sample, sorting, intervals
    start   Dask brings its workers up
    upkeep  Dask's heartbeats: a share of the clock's time, measured while nothing runs

listed and alone are a + b rows + c columns, each at least 0, from the three sets.
A pass of W workers takes load + encode(columns) + (encode(rows a band) + tile(pairs)) / W, in whole
blocks, or merge x blocks where that is longer.  The test's passes are as many as the engine made
here.  It is printed for 274,000 x 1,580,000 and 1..64 workers, and checked on the smaller set with
1 and 2 real ones, with blocks as much smaller.  All in processor seconds, so that other people's
work matters little: the real run's are the driver's and those of its busiest worker, less upkeep,
which a busy machine drags out.  Wall times are printed beside them.
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
from scipy.optimize import nnls

from evalkit.cluster import Cluster
from evalkit.protocols import trillion
from evalkit.protocols.allpairs import Engine, scan
from evalkit.protocols.allpairs.workers import Listed

FULL = 274_000, 1_580_000
_BLOCKS = 20
_IDLE_S = 10
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
        self.folder, self.passes, self.listed = folder, list[Pass](), 0.0

    def place(self, x: Any) -> Any:
        path = self.folder / f"{id(x)}.npy"
        if not path.exists():
            np.save(path, x)
        return np.load(path, mmap_mode="r")

    def run(
        self, job: Callable[[Any], Any], items: Mapping[int, Any]
    ) -> Generator[tuple[int, Any]]:
        begun = time.process_time()
        job = pickle.loads(cloudpickle.dumps(job))
        load = time.process_time() - begun
        if isinstance(job, Listed):
            yield from self._listed(job, items)
            self.listed += load
            return
        found, band = Pass(load=load), None
        self.passes.append(found)
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

    def _listed(self, job: Any, items: Mapping[int, Any]) -> Generator[tuple[int, Any]]:
        for number, item in items.items():
            begun = time.process_time()
            scores = job(item)
            self.listed += time.process_time() - begun
            yield number, scores


class Model:
    """Seconds of the test on any set and any workers, from three sets measured."""

    def __init__(self, sizes: list[tuple[int, int]], found: list[tuple[Measured, float]]) -> None:
        self.passes, self.imported = found[-1][0].passes, imports()
        sets = np.array([(1, *size) for size in sizes], float)
        scale = sets[-1]
        parts = np.array([(m.listed, alone) for m, alone in found]).T
        self._listed, self._alone = (nnls(sets / scale, part)[0] / scale for part in parts)

    def alone(self, size: tuple[int, int]) -> float:
        """Predict what only the driver does."""
        return float(self._alone @ (1, *size))

    def listed(self, size: tuple[int, int]) -> float:
        """Predict what scoring listed pairs takes one worker."""
        return float(self._listed @ (1, *size))

    def seconds(self, workers: int, size: tuple[int, int], block: float) -> float:
        """Predict all of it, with blocks of so many pairs."""
        blocks = max(1, round(size[0] * size[1] / block))
        shared = self.imported + self.listed(size) / workers
        return (
            self.alone(size) + shared + sum(p.seconds(workers, *size, blocks) for p in self.passes)
        )


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


def test(x: Any, who: Any, cluster: Any, screen: str) -> tuple[Any, float, float]:
    """The answer, the driver's processor seconds, and seconds by the clock."""
    engine = Engine(cluster=cluster, threads=1, screen=screen)
    wall, begun = time.perf_counter(), time.process_time()
    report = trillion.evaluate(x, who, engine=engine)
    used, wall = time.process_time() - begun, time.perf_counter() - wall
    load = os.getloadavg()[0]
    print(f"  {used:.1f} s here, {wall:.1f} s wall at load {load:.1f}, {engine.tally}", flush=True)
    return {name: (m.value, m.threshold) for name, m in report.metrics.items()}, used, wall


def parts(x: Any, who: Any, screen: str) -> tuple[Any, Measured, float]:
    """The answer, the jobs, and what the driver did alone."""
    with tempfile.TemporaryDirectory() as folder:
        measured = Measured(Path(folder))
        answer, seconds, _ = test(x, who, measured, screen)
    spent = sum(p.tiles + p.first + p.merge + p.load for p in measured.passes)
    alone = seconds - spent - measured.listed
    print(f"    the driver alone {alone:.1f} s, listed pairs {measured.listed:.1f} s")
    return answer, measured, alone


def real(x: Any, who: Any, workers: int, screen: str, answer: Any) -> dict[str, float]:
    """Seconds of the driver, of the busiest worker, less upkeep; by the clock, and to start."""
    begun = time.perf_counter()
    with Cluster(f"local:{workers}") as cluster:
        before = cluster._client.run(time.process_time)
        start = time.perf_counter() - begun
        found, driver, wall = test(x, who, cluster, screen)
        after, own = cluster._client.run(time.process_time), time.process_time()
        time.sleep(_IDLE_S)
        own = (time.process_time() - own) / _IDLE_S * wall
        idle = cluster._client.run(time.process_time)
    assert found == answer, "not the same bits"
    upkeep = max(idle[w] - after[w] for w in after) / _IDLE_S * wall
    each = [after[w] - before[w] for w in after]
    told = ", ".join(f"{t:.1f}" for t in each)
    print(f"    the driver {driver:.1f} s, its workers {told} s; up after {start:.1f} s")
    print(f"    of which upkeep {own:.1f} and {upkeep:.1f} s")
    return {"driver": driver - own, "worker": max(each) - upkeep, "wall": wall, "start": start}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--rows", type=int, default=40_000)
    p.add_argument("--columns", type=int, default=250_000)
    p.add_argument("--screen", default="int8/128")
    p.add_argument("--runs", type=int, default=1)
    o = p.parse_args()
    r, c = o.rows, o.columns
    scan._BLOCK = max(1, r * c // _BLOCKS)
    parts(*sets(r // 10, c // 10), o.screen)  # imports and memory are warm after it
    sizes, found = [(r // 2, c), (r, c // 2), (r, c)], []
    for size in sizes:
        print(f"{size[0]:,} x {size[1]:,}, in this process:")
        x, who = sets(*size)
        answer, measured, alone = parts(x, who, o.screen)
        found.append((measured, alone))
    model = Model(sizes, found)
    for each in model.passes:
        print(
            f"    tile {each.tile * 1e9:.2f} ns a pair, encode {each.encode * 1e6:.2f} us a "
            f"row, load {each.load:.2f} s, {each.blocks} blocks, merge "
            f"{each.merge / each.blocks:.3f} s of {each.held / each.blocks / 2**20:.1f} MiB"
        )
    print(f"    a worker's imports {model.imported:.1f} s")
    block = r * c / model.passes[0].blocks
    met: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(o.runs):
        for workers in met:
            print(f"{workers} real workers:")
            met[workers].append(real(x, who, workers, o.screen, answer))
    for workers, runs in met.items():
        predicted = model.seconds(workers, (r, c), block)
        took = median(run["driver"] + run["worker"] for run in runs)
        print(f"{workers} workers: predicted {predicted:.1f} s, real {took:.1f} s", end="; ")
        print(f"predicted / real {predicted / took:.2f}")
    for part in ("worker", "wall"):
        ratios = [a[part] / b[part] for a, b in zip(met[1], met[2], strict=True)]
        print(f"1 -> 2 workers, {part} seconds: {median(ratios):.2f} times fewer")
    start = max(run["start"] for runs in met.values() for run in runs)
    print(f"\nthe full {FULL[0]:,} x {FULL[1]:,} with workers like these, minutes:")
    one = start + model.seconds(1, FULL, _BLOCK)
    for workers in (1, 2, 4, 8, 16, 32, 64):
        whole = start + model.seconds(workers, FULL, _BLOCK)
        print(f"    {workers:3} workers {whole / 60:8.1f}   {one / whole:5.1f} times faster")
    print(
        f"of which the driver alone {model.alone(FULL) / 60:.1f}, listed pairs on one worker "
        f"{model.listed(FULL) / 60:.1f}"
    )


if __name__ == "__main__":
    main()
