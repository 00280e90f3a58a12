"""Options of the all-pairs engine: screen, threads, memory, checkpoint, cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.arrays import require
from evalkit.errors import ProtocolError
from evalkit.files import as_path
from evalkit.protocols.allpairs import resume, workers
from evalkit.protocols.allpairs.collectors import Collector
from evalkit.protocols.allpairs.kernels import by_numpy
from evalkit.protocols.allpairs.made_rows import Rows, unit_rows
from evalkit.protocols.allpairs.pair_scores import MANY, PairScores, loops
from evalkit.protocols.allpairs.scan import GIB, Scan
from evalkit.protocols.allpairs.screening.choice import choose_screen, going_on, load_ahead
from evalkit.protocols.allpairs.sides import Side, distinct
from evalkit.protocols.allpairs.workers import placed
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.metrics.similarity import exact_scores
from evalkit.types import Floats, Ints, Progress

_LISTED = 2048  # pairs that a thread scores together
_PER_ROW = 12  # bytes beside the features: a row's subject, and whether it has no template
_WORTH_NUMBA = 2e8  # products to be summed exactly: below, importing numba costs more than it saves


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How to run; every answer is the same for all options.

    screen : "auto" times the available ones on a few tiles, "cpu" those of the processor; or
        "float32", "torch-float32", "bfloat16", "int8", or "triton-" and "cuda-" before "int8" and
        "float32" for a GPU; with "/p" for p principal directions.
    compiled : whether numba's loops replace numpy's; None: where numba is installed and the job is
        large enough.
    threads : tiles side by side, None for every processor.
    memory : bytes beside the features.
    checkpoint : resume file of an interrupted job; the second and later questions of one engine,
        and further passes, have files of their own beside it.
    keep : leave the files of answered questions too, so that a job of several questions, however
        it ends, repeats none; `forget` removes them.
    progress : called with (pairs done, pairs in all).
    cluster : workers that run the blocks, see `evalkit.cluster`; None = this process.
    """

    screen: str = "auto"
    compiled: bool | None = None
    threads: int | None = None
    memory: int = GIB
    checkpoint: str | os.PathLike[str] | None = None
    progress: Progress | None = None
    keep: bool = False
    cluster: workers.Workers | None = None
    tally: dict[str, Any] = field(default_factory=dict)  # filled: screen, passes, no_gpu (why not)

    def scan(self, x: Any, y: Any = None) -> Scan:
        """Build the scan of x and y for a new question."""
        self.tally["questions"] = self.tally.get("questions", 0) + 1
        scores = PairScores(
            self._side(x),
            None if y is None else self._side(y),
            threads=self.worker_threads,
            shared=None if self.cluster is None else partial(workers.exact, self.cluster),
            compiled=self.compiled,
        )
        return self._scan(scores, 1)

    def again(self, scan: Scan, passed: int) -> Scan:
        """Build the scan for another pass of the last question."""
        return self._scan(scan.scores, passed)

    def _scan(self, scores: PairScores, passed: int) -> Scan:
        rows = scores.x.total + (0 if scores.within else scores.y.total)
        return Scan(
            scores,
            memory=max(self.memory - _PER_ROW * rows, self.memory // 2),
            threads=self.worker_threads,
            progress=self.progress,
            checkpoint=self._file(self.tally["questions"], passed),
        )

    @property
    def worker_threads(self) -> int:
        """How many tiles run side by side."""
        return self.threads or os.cpu_count() or 1

    def load_ahead(self, products: float) -> None:
        """Import, in a thread, what so many products will want: reading files leaves the time."""
        if self.screen in ("auto", "cpu") and self.compiled is None and self.cluster is None:
            load_ahead(products)

    def unit_rows(
        self, features: NDArray[Any], flip: Flip = "none", *, rows: Ints | None = None
    ) -> Rows:
        """Give the unit rows of features, copied only where they are few: see `made_rows`."""
        return unit_rows(features, flip, rows=rows, memory=self.memory, threads=self.worker_threads)

    def _side(self, x: Any) -> Side:
        return Side(x if self.cluster is None else placed(x, self.cluster), self.worker_threads)

    def run(
        self, scan: Scan, collectors: Sequence[Collector], late: Sequence[Collector] = ()
    ) -> None:
        """Choose the screen and run every pair past the collectors.

        late : the collectors as they are for most of the pass, where they start out looser: the
        screen must suit those.
        """
        if collectors and scan.scores.pairs:
            begun = resume.screen_of(scan.checkpoint)
            request = self.screen if begun is None else going_on(begun, scan.x.dim)
            screen, no_gpu = choose_screen(scan, request, late or collectors)
            self.tally.update(screen=screen.name, passes=self.tally.get("passes", 0) + 1)
            if no_gpu:
                self.tally["no_gpu"] = no_gpu
            if self.cluster is None:
                scan.run(screen, collectors)
            else:
                # Workers with GPUs use them, whatever this process has.
                workers.run(scan, screen, collectors, self.cluster, gpu=self.screen == "auto")

    def finish(self) -> None:
        """Remove the checkpoints of an answered question, unless `keep`."""
        if not self.keep:
            self.forget()

    def forget(self) -> None:
        """Remove the checkpoints of all questions so far."""
        for question in range(1, self.tally.get("questions", 0) + 1):
            passed = 1
            while (path := self._file(question, passed)) and (path.exists() or passed == 1):
                path.unlink(missing_ok=True)
                passed += 1

    def _file(self, question: int, passed: int) -> Path | None:
        path = None if self.checkpoint is None else as_path(self.checkpoint)
        if path is None or (question, passed) == (1, 1):
            return path
        return path.with_name(f"{path.name}.{question}.{passed}")


def reporting(engine: Engine | None, progress: Progress | None = None) -> Engine:
    """Give the engine that was asked for, or the usual one; where given, `progress` is its own."""
    require(engine, Engine | None, "engine", "an evalkit.protocols.allpairs.Engine")
    if progress is not None and not callable(progress):
        raise ProtocolError(
            f"progress given as {progress!r:.80}", "expected a function of (done, all)"
        )
    engine = Engine() if engine is None else engine
    return engine if progress is None else replace(engine, progress=progress)


def exact(x: Rows, i: Ints, y: Rows, j: Ints, engine: Engine | None = None) -> Floats:
    """Score listed pairs exactly, in the engine's threads, or by its workers where there are many.

    x, y : (N, D), (M, D); i, j : (P,) rows.  Returns (P,) float64, as `exact_scores` does.
    """
    engine = Engine() if engine is None else engine
    if engine.cluster is not None and len(i) > MANY:
        return workers.exact(engine.cluster, x, i, y, j)
    compiled = engine.compiled
    if compiled is None:
        compiled = "numba" in sys.modules or len(i) * x.shape[1] >= _WORTH_NUMBA
    by = loops(compiled)
    rows = exact_scores if by is by_numpy else by.exact_rows
    out = np.empty(len(i))

    def score(o: int) -> None:
        part = slice(o, min(o + _LISTED, len(i)))
        out[part] = rows(*_both_listed(x, i[part], y, j[part]))

    with ThreadPoolExecutor(engine.worker_threads) as pool:
        list(pool.map(score, range(0, len(i), _LISTED)))
    return out


def _both_listed(
    x: Rows, i: Ints, y: Rows, j: Ints
) -> tuple[NDArray[np.float32], Ints, NDArray[np.float32], Ints]:
    """Give the `_listed` rows of both sides; where these are one set, each row once for both."""
    if x is not y:
        return *_listed(x, i), *_listed(y, j)
    rows, place = _listed(x, np.concatenate([i, j]))
    return rows, place[: len(i)], rows, place[len(i) :]


def _listed(x: Rows, i: Ints) -> tuple[NDArray[np.float32], Ints]:
    """Give rows, and the places among them of those that are listed: in memory all where they lie.

    What is mapped from a file is read, each row once.
    """
    if isinstance(x, np.ndarray) and x.dtype == np.float32 and x.flags.carray:
        return x, np.asarray(i, np.intp)
    rows, place = distinct(i)
    return np.asarray(x[rows]), place
