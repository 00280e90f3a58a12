"""How the engine runs: options that no answer depends on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.allpairs import resume, workers
from evalkit.protocols.allpairs.collectors import Collector
from evalkit.protocols.allpairs.pair_scores import MANY, PairScores
from evalkit.protocols.allpairs.scan import GIB, Progress, Scan
from evalkit.protocols.allpairs.screening.choice import choose_screen
from evalkit.protocols.allpairs.sides import Floats, Ints, Side
from evalkit.protocols.metrics.similarity import exact_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How to run; no answer depends on it.

    screen : "auto" tries what is at hand on a tile or two; or "float32", "torch-float32",
        "bfloat16", "int8", or "triton-" and "cuda-" before "int8" and "float32" for a GPU; with
        "/p" for p principal directions.
    compiled : whether numba's loops do what numpy's can; None where numba is installed and the job
        is worth it.
    threads : tiles side by side, None for every processor.
    memory : bytes beside the features.
    checkpoint : a file that an interrupted job leaves and the same job goes on from; the second and
        later questions asked of one engine, and further passes, have files of their own beside it.
    keep : leave the files of answered questions too, so that whatever ends a job of several early
        none is worked out again; `forget` removes them.
    progress : called with (pairs done, pairs in all).
    cluster : whose workers do the blocks, see `evalkit.cluster`; None = this process.
    """

    screen: str = "auto"
    compiled: bool | None = None
    threads: int | None = None
    memory: int = GIB
    checkpoint: Path | None = None
    progress: Progress | None = None
    keep: bool = False
    cluster: workers.Workers | None = None
    tally: dict[str, Any] = field(default_factory=dict)  # filled: the screen and the passes taken

    def scan(self, x: Any, y: Any = None) -> Scan:
        """Make the scan of x and y for a new question."""
        self.tally["questions"] = self.tally.get("questions", 0) + 1
        scores = PairScores(
            self._side(x),
            None if y is None else self._side(y),
            threads=self._threads(),
            shared=None if self.cluster is None else partial(workers.exact, self.cluster),
            compiled=self.compiled,
        )
        return self._scan(scores, 1)

    def again(self, scan: Scan, passed: int) -> Scan:
        """Make the scan for another pass of the last question."""
        return self._scan(scan.scores, passed)

    def _scan(self, scores: PairScores, passed: int) -> Scan:
        return Scan(
            scores,
            memory=self.memory,
            threads=self._threads(),
            progress=self.progress,
            checkpoint=self._file(self.tally["questions"], passed),
        )

    def _threads(self) -> int:
        return self.threads or os.cpu_count() or 1

    def _side(self, x: Any) -> Side:
        x = x if self.cluster is None else self.cluster.place(x)
        return Side(x, self._threads())

    def run(
        self, scan: Scan, collectors: Sequence[Collector], late: Sequence[Collector] = ()
    ) -> None:
        """Choose the screen and show every pair to the collectors.

        late : what they are for most of the pass, where they begin otherwise: the screen must suit
        that.
        """
        if collectors and scan.scores.pairs:
            # A job goes on as it began: another screen would cut other blocks.
            screen = choose_screen(
                scan, resume.begun_with(scan.checkpoint) or self.screen, late or collectors
            )
            self.tally.update(screen=screen.name, passes=self.tally.get("passes", 0) + 1)
            if self.cluster is None:
                scan.run(screen, collectors)
            else:
                workers.run(scan, screen, collectors, self.cluster)

    def finish(self) -> None:
        """Remove the checkpoints of a question that has its answer, unless they are kept."""
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
        path = self.checkpoint
        if path is None or (question, passed) == (1, 1):
            return path
        return path.with_name(f"{path.name}.{question}.{passed}")


def exact(
    x: NDArray[np.float32], i: Ints, y: NDArray[np.float32], j: Ints, engine: Engine | None = None
) -> Floats:
    """Score listed pairs: `scores.exact_scores`, by the engine's workers where there are many."""
    if engine is None or engine.cluster is None or len(i) <= MANY:
        return exact_scores(x, i, y, j)
    return workers.exact(engine.cluster, x, i, y, j)
