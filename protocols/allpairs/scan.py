"""One pass over all pairs: bands of rows are encoded, their tiles screened in parallel.

Data flows one way: sides -> codes (`screens`) -> tiles -> collectors.  A collector examines a tile
in any thread and absorbs the result under a lock, so its state belongs to whole tiles: that is what
a checkpoint writes.  Every answer is settled by exact scores afterwards, so neither the
order of tiles nor the screen can change it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, nullcontext
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evalkit.protocols.ahead import one_ahead
from evalkit.protocols.allpairs import resume
from evalkit.protocols.allpairs.collectors import Collector
from evalkit.protocols.allpairs.collectors.per_row import Best
from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.resume import digest
from evalkit.protocols.allpairs.screening.screens import Codes, Each, Screen
from evalkit.protocols.allpairs.screening.tiles import Tile
from evalkit.protocols.blas import can_be_one_thread
from evalkit.types import Progress

GIB = 1 << 30
CHECKPOINT_EVERY_S = 30.0
_BLOCK = 1_000_000_000  # pairs


class Block(NamedTuple):
    """Rows i0..i1 of x against rows j0..j1 of y."""

    i0: int
    i1: int
    j0: int
    j1: int


class Scan:
    """Every pair of two sides, or of one with itself once (i < j).

    memory : bytes for codes and collectors, beside the features themselves.
    threads : tiles screened in parallel.
    """

    def __init__(
        self,
        scores: PairScores,
        *,
        memory: int = GIB,
        threads: int = 1,
        progress: Progress | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self.scores, self.memory, self.threads = scores, memory, threads
        self.x, self.y, self.within = scores.x, scores.y, scores.within
        self.progress, self.checkpoint = progress, checkpoint

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without progress and checkpoint, which stay in this process."""
        return {**self.__dict__, "progress": None, "checkpoint": None}

    def run(self, screen: Screen, collectors: Sequence[Collector]) -> None:
        """Pass every pair to every collector, once.

        An interrupt lets the current block finish (a second or so), writes the checkpoint, where
        there is one, and is raised again.
        """
        stop = threading.Event()
        with ThreadPoolExecutor(1) as conductor:
            future = conductor.submit(self._conduct, screen, collectors, stop)
            try:
                future.result()
            except BaseException:
                stop.set()
                raise

    def _conduct(
        self, screen: Screen, collectors: Sequence[Collector], stop: threading.Event
    ) -> None:
        blocks, saved = self.blocks(screen), time.monotonic()
        mark = self.mark(blocks, collectors)
        done = resume.restore(self.checkpoint, mark, collectors)
        pairs_done = sum(self.size(blocks[b]) for b in done)
        lock, running = threading.Lock(), set[Future[None]]()
        by_torch = uses_torch(screen)

        def work(x: Codes, y: Codes, block: Block, tile: Block) -> None:
            nonlocal pairs_done
            if stop.is_set() and self.checkpoint is None:
                return
            results = self.examine(screen, collectors, x, y, block, tile)
            with lock:
                for c, f in zip(collectors, results, strict=True):
                    c.absorb(f)
                pairs_done += self.size(tile)
                if self.progress is not None:
                    self.progress(pairs_done, self.scores.pairs)

        threads = self.threads if by_torch or can_be_one_thread() else 1
        with (
            one_torch_thread(by_torch),
            ThreadPoolExecutor(threads, initializer=_one_thread_here(by_torch)) as pool,
            closing(self._coded(screen, blocks, done, pool.map)) as coded,
            # A GPU does one thing at a time.
            closing(coded if screen.on_gpu else one_ahead(coded)) as ready,
        ):
            for number, x, y in ready:
                block = blocks[number]
                for tile in self.tiles(screen, block, collectors):
                    running = _fewer(running, screen.in_flight or 2 * threads)
                    running.add(pool.submit(work, x, y, block, tile))
                del x, y  # before others are made
                if stop.is_set() and self.checkpoint is None:
                    return
                done.add(number)
                due = stop.is_set() or time.monotonic() - saved > CHECKPOINT_EVERY_S
                save = self.checkpoint is not None and (due or len(done) == len(blocks))
                if save or screen.on_gpu:  # else the next block's tiles begin beside the last ones
                    running = _fewer(running, 1)
                if save:
                    resume.save(self.checkpoint, screen.name, mark, blocks, done, collectors)
                    saved = time.monotonic()
                if stop.is_set():
                    return
            _fewer(running, 1)

    def size(self, b: Block) -> int:
        """Count the pairs of a block, each once."""
        if not self.within or b.j0 >= b.i1:
            return (b.i1 - b.i0) * (b.j1 - b.j0)
        i = np.arange(b.i0, b.i1, dtype=np.int64)
        return int(np.maximum(b.j1 - np.maximum(b.j0, i + 1), 0).sum())

    def blocks(self, screen: Screen) -> list[Block]:
        """Cut all pairs into bands of x and y whose codes fit a quarter of the memory.

        On a processor those of two blocks do, since the next one is encoded meanwhile.  Of a GPU's
        own memory, where it keeps them: rows are then sent once, not once a band.
        A job that goes on keeps the blocks that it began with, whatever its screen now.
        """
        begun = resume.blocks_of(self.checkpoint)
        if begun is not None:
            return [Block(*block) for block in begun]
        rows, columns = screen.tile
        share = 4 if screen.on_gpu else 8
        room = screen.room(self.memory) // share
        high, wide = (room // 4 // screen.bytes_per_row(side) for side in (self.x, self.y))
        wide = max(columns, 3 * wide // columns * columns)
        high = max(rows, high // rows * rows)
        # A block is also what an interrupt waits for and another machine does alone: seconds.
        most = _BLOCK * (100 if screen.on_gpu else 1)
        high = min(high, max(rows, most // max(1, min(wide, len(self.y))) // rows * rows))
        return [
            Block(i, min(i + high, len(self.x)), j, min(j + wide, len(self.y)))
            for j in range(0, len(self.y), wide)
            for i in range(0, len(self.x), high)
            if not self.within or min(j + wide, len(self.y)) > i + 1
        ]

    def tiles(
        self, screen: Screen, b: Block, collectors: Sequence[Collector] = ()
    ) -> Iterator[Block]:
        """Cut a block into tiles; those of a GPU, which are many times as wide, begin narrow.

        The first tiles of a job find the cuts: what comes before these are known is all candidates.
        So they are narrow on a processor too where each row has a cut of its own.
        """
        rows, columns = screen.tile
        by_row = any(isinstance(c, Best) for c in collectors)
        widths = screen.widths if screen.on_gpu or by_row else []
        for start in range(b.j0, b.j1, columns):
            end = min(start + columns, b.j1)
            narrow = [start + w for w in widths if start == b.j0 and start + w < end]
            for j, j1 in pairwise([start, *narrow, end]):
                for i in range(b.i0, b.i1, rows):
                    tile = Block(i, min(i + rows, b.i1), j, j1)
                    if not self.within or tile.j1 > tile.i0 + 1:
                        yield tile

    def _coded(
        self, screen: Screen, blocks: list[Block], done: set[int], each: Each
    ) -> Generator[tuple[int, Codes, Codes], None, None]:
        """Yield the unfinished blocks with their codes; equal columns reuse those of y."""
        open_ = (number for number in range(len(blocks)) if number not in done)
        for (j0, j1), numbers in groupby(open_, lambda number: blocks[number][2:]):
            y = screen.encode(self.y, j0, j1, each=each)
            for number in numbers:
                b = blocks[number]
                yield number, screen.encode(self.x, b.i0, b.i1, each=each), y
            del y  # before the next are made

    def examine(
        self,
        screen: Screen,
        collectors: Sequence[Collector],
        x: Codes,
        y: Codes,
        block: Block,
        tile: Block,
    ) -> list[Any]:
        """Pass a tile of a block to every collector, their intervals sifted together."""
        i = slice(tile.i0 - block.i0, tile.i1 - block.i0)
        j = slice(tile.j0 - block.j0, tile.j1 - block.j0)
        requests = [list(c.intervals(tile.i0, tile.i1)) for c in collectors]
        intervals = [w for each in requests for w in each]
        factor = x.scale[i] * float(y.scale[j].max(initial=0.0) or 1.0)
        up, down = screen.error(x, i, y, j, screen.width(self.x.dim))
        screened = Tile(
            screen,
            x.code[i],
            y.code[j],
            factor,
            up,
            down,
            tile.i0,
            tile.j0,
            self.scores.score,
            diagonal=self.within and tile.j0 < tile.i1,
            good=screen.plain_float and not self.scores.fine,
            loops=self.scores.loops,
        )
        sifted = iter(screened.sift(intervals))
        return [
            c.examine(screened, [next(sifted) for _ in each])
            for c, each in zip(collectors, requests, strict=True)
        ]

    def mark(self, blocks: list[Block], collectors: Sequence[Collector]) -> str:
        """Digest the question, the rows and their blocks, which a checkpoint must match.

        Without one nothing is read: "".
        """
        if self.checkpoint is None:
            return ""
        job = (
            blocks,
            self.within,
            self.scores.fine,
            self.x.total,
            self.y.total,
            [c.question() for c in collectors],
        )
        arrays = (a for side in (self.x, self.y) for a in side.marks())
        return digest(np.frombuffer(repr(job).encode(), np.uint8), *arrays)


def _fewer(running: set[Future[None]], most: int) -> set[Future[None]]:
    """Wait until fewer than `most` are running, and give those; the first error ends the run."""
    while len(running) >= most:
        finished, running = wait(running, return_when=FIRST_COMPLETED)
        for one in finished:
            one.result()
    return running


def uses_torch(screen: Screen) -> bool:
    """Whether a screen multiplies by torch."""
    return screen.arithmetic not in ("float32", "float64")


def one_torch_thread(wanted: bool) -> Any:
    """Context in which torch uses one thread; null where torch is unused."""
    if not wanted:
        return nullcontext()
    from evalkit.protocols.allpairs.kernels import by_torch

    return by_torch.one_thread()


def _one_thread_here(wanted: bool) -> Callable[[], None] | None:
    if not wanted:
        return None
    from evalkit.protocols.allpairs.kernels import by_torch

    return by_torch.one_thread_here
