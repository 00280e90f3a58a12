"""Run blocks of the all-pairs pass on a cluster and merge their results exactly once.

A worker gets a job, which names the file of the rows, and returns for each block the state of fresh
collectors.  Merging is exact and independent of order, so any number of workers, in any order and
with any repetition, gives the same bits as one.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evalkit.bfloat16 import Bfloat16
from evalkit.protocols.allpairs import resume
from evalkit.protocols.allpairs.collectors import Collector, State
from evalkit.protocols.allpairs.made_rows import MadeRows
from evalkit.protocols.allpairs.rows_on_disk import closed, opened
from evalkit.protocols.allpairs.scan import (
    CHECKPOINT_EVERY_S,
    Block,
    Scan,
    one_torch_thread,
    uses_torch,
)
from evalkit.protocols.allpairs.screening.choice import GPU_SCREENS, problem
from evalkit.protocols.allpairs.screening.screens import Codes, Screen
from evalkit.protocols.metrics.similarity import exact_scores
from evalkit.types import Floats, Ints

LISTED = 1 << 17  # pairs of a piece, about a second


class Workers(Protocol):
    """A pool of worker processes, such as `evalkit.cluster.Cluster`."""

    def place(self, x: Any) -> NDArray[Any]:
        """Store rows where every worker can map them; return them mapped from there."""

    def run(
        self, job: Callable[[Any], Any], items: Mapping[int, Any]
    ) -> Generator[tuple[int, Any]]:
        """Call a picklable job with every item on the workers; yield (number, result) in any order.

        A result may come twice, where a worker ended after returning it.
        """


class Blocks:
    """Job of a worker: from a block to the states of its collectors."""

    def __init__(
        self, scan: Scan, screen: Screen, collectors: Sequence[Collector], gpu: bool = False
    ) -> None:
        self._scan, self._screen, self._blank, self._gpu = scan, screen, collectors, gpu
        self._columns: tuple[tuple[int, int], Codes] | None = None

    def __call__(self, block: Block) -> list[State]:
        """Pass the tiles of a block to fresh collectors, in this thread."""
        scan, screen = self._scan, _here(self._screen, self._gpu)
        collectors = copy.deepcopy(self._blank, {id(scan.scores): scan.scores})
        with one_torch_thread(uses_torch(screen)):
            x = screen.encode(scan.x, block.i0, block.i1)
            y = self._encoded(screen, block)
            for tile in scan.tiles(screen, block, collectors):
                results = scan.examine(screen, collectors, x, y, block, tile)
                for c, f in zip(collectors, results, strict=True):
                    c.absorb(f)
        return [c.state() for c in collectors]

    def _encoded(self, screen: Screen, b: Block) -> Codes:
        """Encode y, once for consecutive blocks of the same columns."""
        cached = self._columns
        if cached is None or cached[0] != (b.j0, b.j1):
            y = screen.encode(self._scan.y, b.j0, b.j1)
            self._columns = cached = (b.j0, b.j1), y
        return cached[1]


class Listed:
    """Job of a worker: from the start of a piece of listed pairs to their exact scores."""

    def __init__(self, x: Any, i: Ints, y: Any, j: Ints) -> None:
        self._x, self._y, self._pairs = x, y, (i.astype(np.int32), j.astype(np.int32))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_x": closed(self._x), "_y": closed(self._y)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _x=opened(state["_x"]), _y=opened(state["_y"]))

    def __call__(self, start: int) -> Floats:
        """Score the pairs of a piece as float32 rows, as a scan does."""
        i, j = (p[start : start + LISTED] for p in self._pairs)
        out = np.empty(len(i))
        for o in range(0, len(i), 4096):
            a, b = self._x[i[o : o + 4096]], self._y[j[o : o + 4096]]
            rows = np.arange(len(a))
            a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
            out[o : o + 4096] = exact_scores(a, rows, b, rows)
        return out


def placed(x: Any, cluster: Workers) -> Any:
    """Store rows, or the features that they are made of, where every worker can map them."""
    if isinstance(x, Bfloat16):
        return Bfloat16(cluster.place(x.bits))
    if isinstance(x, MadeRows):
        return replace(x, features=placed(x.features, cluster))
    return cluster.place(x)


def exact(cluster: Workers, x: Any, i: Ints, y: Any, j: Ints) -> Floats:
    """Score pairs (x[i], y[j]) exactly, rounded once, by the workers: (P,) float64."""
    out = np.empty(len(i))
    job = Listed(placed(x, cluster), i, placed(y, cluster), j)
    with closing(cluster.run(job, dict(enumerate(range(0, len(i), LISTED))))) as finished:
        for number, scores in finished:
            out[number * LISTED :][: len(scores)] = scores
    return out


def run(
    scan: Scan,
    screen: Screen,
    collectors: Sequence[Collector],
    cluster: Workers,
    gpu: bool = False,
) -> None:
    """Pass every pair to every collector, once: `Scan.run` on the workers of a cluster.

    gpu : a worker with a GPU multiplies the same codes there.
    Any early end, an interrupt included, leaves a checkpoint of every block received.
    """
    blocks, saved = scan.blocks(screen), time.monotonic()
    mark = scan.mark(blocks, collectors)
    job = Blocks(scan, screen, copy.deepcopy(collectors, {id(scan.scores): scan.scores}), gpu)
    done = resume.restore(scan.checkpoint, mark, collectors)  # not into the copies of the job
    todo = {number: block for number, block in enumerate(blocks) if number not in done}
    pairs_done = sum(scan.size(blocks[b]) for b in done)
    if not todo:
        return

    def merge(number: int, states: list[State]) -> None:
        for collector, state in zip(collectors, states, strict=True):
            collector.merge(state)
        done.add(number)

    def save() -> None:
        resume.save(scan.checkpoint, screen.name, mark, blocks, done, collectors)

    # An interrupt reaches this thread only, so that it never leaves a block merged by half.
    with closing(cluster.run(job, todo)) as finished, ThreadPoolExecutor(1) as merger:
        merged: Future[None] | None = None
        try:
            for number, states in finished:
                if number in done:
                    continue
                merged = merger.submit(merge, number, states)
                merged.result()
                pairs_done += scan.size(blocks[number])
                if scan.progress is not None:
                    scan.progress(pairs_done, scan.scores.pairs)
                if time.monotonic() - saved > CHECKPOINT_EVERY_S or len(done) == len(blocks):
                    save()
                    saved = time.monotonic()
        except BaseException:
            if merged is not None and merged.exception() is None:
                save()
            raise


@functools.lru_cache
def _way(arithmetic: str, gpu: bool) -> str:
    """Arithmetic for the same codes on this machine: a GPU's, the asked one, or float32."""
    codes = arithmetic.rpartition("-")[2]
    ways = [way for way in GPU_SCREENS if gpu and way.endswith(codes)]
    return next((way for way in (*ways, arithmetic, codes) if not problem(way)), "float32")


def _here(screen: Screen, gpu: bool) -> Screen:
    """Return the screen as this machine multiplies it best and exactly; float32 always is."""
    way = _way(screen.arithmetic, gpu)
    return screen if way == screen.arithmetic else replace(screen, arithmetic=way)
