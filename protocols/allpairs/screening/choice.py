"""Choice of the fastest screen for a job, by a short timed trial; only speed depends on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from statistics import median

import numpy as np

from evalkit.errors import ProtocolError
from evalkit.protocols.allpairs.collectors import Collector
from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.scan import Block, Scan, one_torch_thread, uses_torch
from evalkit.protocols.allpairs.screening.projection import Projection, principal_directions
from evalkit.protocols.allpairs.screening.screens import Screen
from evalkit.types import Floats

GPU_SCREENS = ("triton-int8", "triton-float32", "cuda-int8", "cuda-float32")
SCREENS = ("auto", "float32", "torch-float32", "bfloat16", "int8", *GPU_SCREENS)
_LITTLE, _HARDLY = 0.05, 1e-4  # of the energy
_DEPTH = 64  # terms of a projection that float32 sums
_WORTH_TORCH = 2e11  # products: below, importing torch costs more than it saves
_WORTH_TRIAL = 2e10
_WORTH_GPU = 2e12  # below, a GPU is done before its kernels are compiled
_SEED = 0
_SAMPLES = 4, 16  # tiles of a trial: of short jobs and long ones


def choose_screen(scan: Scan, request: str, collectors: Sequence[Collector]) -> Screen:
    """Return the requested screen, or the fastest one of a short trial.

    A trial runs tiles of the job itself, with its cuts, so it measures the spectrum, the processor
    and the FARs at once.
    """
    arithmetic, _, directions = request.partition("/")
    if arithmetic not in SCREENS or not (directions or "1").isdecimal():
        raise ProtocolError(f"no screen is called {request!r}", f"one of {', '.join(SCREENS)}")
    if scan.scores.wide or not scan.scores.pairs:
        return Screen("float64")
    if arithmetic != "auto":
        if arithmetic != "float32" and not trusted(arithmetic):
            raise ProtocolError(
                f"the screen {arithmetic} needs a torch that has it"
                + (", and a GPU" if arithmetic in GPU_SCREENS else ""),
                "pip install torch",
            )
        p = int(directions) if directions else (scan.x.dim if "int8" in arithmetic else 0)
        return _projected(scan.scores, arithmetic, p) if p else Screen(arithmetic)
    if scan.scores.pairs * scan.x.dim < _WORTH_TRIAL:
        return Screen("float32")
    screens = _candidates(scan.scores)
    return min(screens, key=lambda s: _trial(scan, s, collectors)) if screens[1:] else screens[0]


def _trial(scan: Scan, screen: Screen, collectors: Sequence[Collector]) -> float:
    """Processor seconds per pair for this screen: the median time of a few sampled tiles."""
    rng, (m, n) = np.random.default_rng(1), (len(scan.x), len(scan.y))
    high, wide = screen.tile[0] // (4 if screen.on_gpu else 16), screen.tile[1]
    samples = _SAMPLES[0]
    if not screen.on_gpu:
        samples = int(np.clip(scan.scores.pairs // 10**8, *_SAMPLES))
    i0 = int(rng.integers(0, max(1, m - samples * high)))
    j0 = int(rng.integers(0, max(1, n - wide)))
    block = Block(i0, min(m, i0 + samples * high), j0, min(n, j0 + wide))
    # A GPU works while this thread waits.
    clock = time.perf_counter if screen.on_gpu else time.thread_time
    seconds = []
    with one_torch_thread(uses_torch(screen)):
        x = screen.encode(scan.x, block.i0, block.i1)  # and loads what an encoding needs
        start = clock()
        y = screen.encode(scan.y, block.j0, block.j1)
        coded = (clock() - start) / (block.j1 - block.j0) * (m + n) / scan.scores.pairs
        for i in range(block.i0, block.i1, high):
            tile = block._replace(i0=i, i1=min(i + high, block.i1))
            start = clock()
            scan.examine(screen, collectors, x, y, block, tile)
            seconds.append((clock() - start) / ((tile.i1 - tile.i0) * (tile.j1 - tile.j0)))
    return coded + median(seconds[1:] or seconds)  # the first warms up


def _candidates(scores: PairScores) -> list[Screen]:
    at_hand = "torch" in sys.modules or (
        scores.pairs * scores.x.dim >= _WORTH_TORCH and find_spec("torch")
    )
    plain, low = ["float32"], []
    if at_hand:
        gpu = [a for a in GPU_SCREENS if trusted(a)]
        low = [a for a in ("int8", "bfloat16") if trusted(a)]
        plain = ["torch-float32"]
        if gpu and scores.pairs * scores.x.dim >= _WORTH_GPU:  # Triton's where it works
            low, plain = [a for a in gpu if "int8" in a][:1], [a for a in gpu if "float" in a][:1]
    dim = scores.x.dim
    directions, rest = principal_directions(scores)
    # A width that leaves little is for tails; one that leaves hardly anything for high FARs too.
    enough = [int(np.argmax(rest <= left)) for left in (_LITTLE, _HARDLY)]
    # One place of each width is for the length of the rest.
    widths = sorted({-(-(p + 1) // 16) * 16 for p in enough})
    short = [p for p in widths if p <= 0.75 * dim]
    out = [_projected(scores, low[0], p - 1, directions) for p in short if low]
    if short == widths:
        return [*out, _projected(scores, plain[0], widths[-1] - 1, directions)]
    out += [Screen(plain[0]), *(Screen("bfloat16") for a in low if a == "bfloat16")]
    return out + [_projected(scores, a, dim) for a in low[:1] if a.endswith("int8")]


def trusted(arithmetic: str) -> bool:
    """Whether torch is installed and its products are exact enough for this screen."""
    if not find_spec("torch"):
        return False
    from evalkit.protocols.allpairs.kernels import by_torch, on_gpu

    return bool((on_gpu if arithmetic in GPU_SCREENS else by_torch).trusted(arithmetic))


def _projected(
    scores: PairScores, arithmetic: str, p: int, directions: Floats | None = None
) -> Screen:
    """Build a screen on the first p principal directions of a sample; a rotation for p = D."""
    dim = scores.x.dim
    if not 0 < p <= dim:
        raise ProtocolError(f"{p} directions of {dim}", f"give 1 to {dim}")
    if p == dim:
        directions = np.eye(dim)
    elif directions is None:
        directions = principal_directions(scores)[0]
    # A float screen is sensitive to what float32 loses in long sums; int8 is not.
    depth = _DEPTH if arithmetic.endswith("float32") else dim
    return Screen(arithmetic, Projection.of(directions[:p], depth))
