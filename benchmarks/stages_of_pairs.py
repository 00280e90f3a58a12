"""Processor time of each stage of comparing all pairs, without those of stages within it."""

from __future__ import annotations

import pkgutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STAGES = {
    "norms": "sides.Side.__init__ sides._lengths",
    "levels of rows": "queries.row_levels",
    "sample": "pilot.Pilot.__init__ pilot.Pilot.reached_by pilot.Pilot.bracket",
    "genuine pairs": "genuine.Genuine.__init__ order_statistics.genuine_pairs",
    "directions": "screening.choice.principal_directions screening.choice._projected",
    "choice of the screen": "queries.choose_screen engine.choose_screen",
    "encoding": "screening.screens.Screen.encode screening.screens._project"
    " screening.screens._to_int8 screening.screens.Screen._rounded",
    "products": "screening.screens.Screen.product",
    "comparing": "screening.tiles.Tile._sift",
    "scores of candidates": "screening.tiles.Tile._scored",
    "collecting": " ".join(
        f"collectors.{name}.{work}"
        for name in ("per_row.Best", "per_row.Above", "highest.Highest", "bracket.Bracket")
        for work in ("examine", "absorb", "answer", "ranked")
    ),
    "bounds and cuts of tiles": "scan.Scan.examine screening.tiles.Tile.sift",
    "exact scores": "pair_scores.PairScores.exact",
}


@contextmanager
def stages_timed() -> Iterator[dict[str, float]]:
    """Yield what fills with the processor seconds of each stage, without those of stages in it."""
    used: dict[str, float] = {}
    here = threading.local()

    def timed(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            outer, here.inner = getattr(here, "inner", 0.0), 0.0
            begun = time.thread_time()
            try:
                return work(*args, **options)
            finally:
                took = time.thread_time() - begun
                used[stage] = used.get(stage, 0.0) + took - here.inner
                here.inner = outer + took

        return run

    plain = []
    for stage, names in STAGES.items():
        for name in names.split():
            owner, _, last = name.rpartition(".")
            owner = pkgutil.resolve_name(f"evalkit.protocols.allpairs.{owner}")
            if hasattr(owner, last):
                plain.append((owner, last, getattr(owner, last)))
                setattr(owner, last, timed(stage, getattr(owner, last)))
    try:
        yield used
    finally:
        for owner, last, work in plain:
            setattr(owner, last, work)
