"""Choice of the fastest screen for a job, by a short timed trial; only speed depends on it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from itertools import islice
from statistics import median
from typing import NamedTuple

import numpy as np

from evalkit.errors import ProtocolError
from evalkit.protocols.allpairs.collectors import Collector
from evalkit.protocols.allpairs.pair_scores import PairScores, loops
from evalkit.protocols.allpairs.scan import Block, Scan, one_torch_thread, uses_torch
from evalkit.protocols.allpairs.screening.projection import Projection, principal_directions
from evalkit.protocols.allpairs.screening.screens import Screen
from evalkit.types import Floats

GPU_SCREENS = ("triton-int8", "triton-float32", "cuda-int8", "cuda-float32")
SCREENS = ("auto", "cpu", "float32", "torch-float32", "bfloat16", "int8", *GPU_SCREENS)
_LITTLE, _HARDLY = 0.05, 1e-4  # of the energy
_DEPTH = 64  # terms of a projection that float32 sums
_WORTH_TORCH = 2e11  # products: below, importing torch costs more than it saves
_WORTH_TRIAL = 2e10
_WORTH_GPU = 2e12  # below, a GPU is done before its kernels are compiled
_SAMPLES = 4, 16  # tiles of a trial: of short jobs and long ones
_HOPELESS = 1.5  # times the lowest price after a tile: such a screen is tried no further
_SHARE = 1000  # of a long job's pairs, a screen's trial takes one in so many


def load_ahead(products: float) -> None:
    """Import torch and numba in a thread, where so many products will want them.

    What goes wrong is told where they are used.
    """

    def load() -> None:
        loops(True)
        with suppress(Exception):
            problem("int8")

    if products >= _WORTH_TORCH:
        threading.Thread(target=load).start()


class Choice(NamedTuple):
    """The screen to take, and why no GPU is used where there is one and the job is worth it."""

    screen: Screen
    no_gpu: str = ""


def choose_screen(scan: Scan, request: str, collectors: Sequence[Collector]) -> Choice:
    """Return the requested screen, or the fastest one of a short trial.

    A trial runs tiles of the job itself, with its cuts, so it measures the spectrum, the processor
    and the FARs at once.  A GPU on which anything fails is left aside, with the reason.
    """
    arithmetic, _, directions = request.partition("/")
    if arithmetic not in SCREENS or not (directions or "1").isdecimal():
        raise ProtocolError(f"no screen is called {request!r}", f"one of {', '.join(SCREENS)}")
    if scan.scores.wide or not scan.scores.pairs:
        return Choice(Screen("float64"))
    if arithmetic not in ("auto", "cpu"):
        if why := problem(arithmetic):
            raise ProtocolError(f"the screen {arithmetic} cannot be used: {why}", "--screen auto")
        p = int(directions) if directions else (scan.x.dim if "int8" in arithmetic else 0)
        return Choice(_projected(scan.scores, arithmetic, p) if p else Screen(arithmetic))
    products = scan.scores.pairs * scan.x.dim
    if products < _WORTH_TRIAL:
        return Choice(Screen("float32"))
    worth_gpu = arithmetic == "auto" and products >= _WORTH_GPU
    on_gpu, no_gpu = _of_gpu() if worth_gpu else ([], "")
    screens = _candidates(scan.scores, on_gpu)
    screen, failed = _fastest(scan, screens, collectors) if screens[1:] else (screens[0], "")
    return Choice(screen, "" if screen.on_gpu else failed or no_gpu)


def _fastest(
    scan: Scan, screens: Sequence[Screen], collectors: Sequence[Collector]
) -> tuple[Screen, str]:
    """Find the screen of the lowest price, and why a GPU failed; hopeless ones get two tiles."""
    trials = [_trial(scan, screen, collectors) for screen in screens]
    prices, failed = [np.inf] * len(screens), ""
    for tiles in (1, None):
        hopeless = _HOPELESS * min(prices)
        for k, screen in enumerate(screens):
            if prices[k] > hopeless:
                continue
            try:
                for price in islice(trials[k], tiles):
                    prices[k] = price
            except Exception as e:  # of CUDA, Triton or the compiler that it starts
                if not screen.on_gpu:
                    raise
                prices[k], failed = np.inf, f"{screen.name}: {e}"
    return screens[int(np.argmin(prices))], failed


def going_on(screen: str, dim: int) -> str:
    """Name the screen with which a job goes on that began with `screen`, perhaps elsewhere.

    That one where it can be used here; else the same codes on the processor, or float32.
    """
    arithmetic, slash, directions = screen.partition("/")
    codes = arithmetic.rpartition("-")[2]
    for one in (arithmetic, codes):
        if not problem(one):
            return f"{one}{slash}{directions}"
    return "float32" + (f"/{directions}" if directions and int(directions) < dim else "")


def _trial(scan: Scan, screen: Screen, collectors: Sequence[Collector]) -> Iterator[float]:
    """Yield seconds per pair for this screen on this machine: the median of the tiles so far.

    The first tile warms up, and counts only where there is no other.
    """
    rng, (m, n) = np.random.default_rng(1), (len(scan.x), len(scan.y))
    samples, (tall, wide) = _SAMPLES[0], screen.tile
    high = tall // 4
    if not screen.on_gpu:
        samples = int(np.clip(scan.scores.pairs // 10**8, *_SAMPLES))
        # Low tiles cost more per pair, so that screens look alike; whole ones suit a long job.
        high = int(np.clip(scan.scores.pairs // (wide * _SHARE * samples), tall // 16, tall))
    i0 = int(rng.integers(0, max(1, m - samples * high)))
    j0 = int(rng.integers(0, max(1, n - wide)))
    i1, j1 = min(m, i0 + samples * high), min(n, j0 + wide)
    # A GPU works while this thread waits.
    clock = time.perf_counter if screen.on_gpu else time.thread_time
    seconds = []
    y, coded = None, 0.0
    for i in range(i0, i1, high):
        tile = Block(i, min(i + high, i1), j0, j1)
        with one_torch_thread(uses_torch(screen)):
            x = screen.encode(scan.x, tile.i0, tile.i1)  # and loads what an encoding needs
            if y is None:
                start = clock()
                y = screen.encode(scan.y, j0, j1)
                coded = (clock() - start) / (j1 - j0) * (m + n) / scan.scores.pairs
            start = clock()
            scan.examine(screen, collectors, x, y, tile, tile)
            seconds.append((clock() - start) / ((tile.i1 - tile.i0) * (j1 - j0)))
        if len(seconds) > 1 or tile.i1 == i1:
            price = coded + median(seconds[1:] or seconds)
            yield price / (1 if screen.on_gpu else scan.threads)


def _of_gpu() -> tuple[list[str], str]:
    """One way of a GPU for each kind of codes, Triton's where it works; and why there is none."""
    if not find_spec("torch"):
        return [], ""
    from evalkit.protocols.allpairs.kernels import by_torch

    if by_torch.GPU is None:
        return [], ""
    ways, why = dict[str, str](), ""
    for way in GPU_SCREENS:
        if (codes := way.rpartition("-")[2]) not in ways:
            if failed := problem(way):
                why = f"{way}: {failed}"
            else:
                ways[codes] = way
    return list(ways.values()), why


def _candidates(scores: PairScores, on_gpu: Sequence[str]) -> list[Screen]:
    at_hand = "torch" in sys.modules or (
        scores.pairs * scores.x.dim >= _WORTH_TORCH and find_spec("torch")
    )
    low = [a for a in ("int8", "bfloat16") if at_hand and not problem(a)]
    fit = partial(_fitting, scores, *principal_directions(scores))
    screens = fit(["torch-float32" if at_hand else "float32"], low)
    if on_gpu:
        plain, low = ([a for a in on_gpu if a.endswith(codes)] for codes in ("float32", "int8"))
        screens += fit(plain, low)
    return screens


def _fitting(
    scores: PairScores, directions: Floats, rest: Floats, plain: list[str], low: list[str]
) -> list[Screen]:
    """Screens by float32 ways (`plain`) and short codes (`low`) that suit the rows' spectrum."""
    dim = scores.x.dim
    # A width that leaves little is for tails; one that leaves hardly anything for high FARs too.
    enough = [int(np.argmax(rest <= left)) for left in (_LITTLE, _HARDLY)]
    # One place of each width is for the length of the rest.
    widths = sorted({-(-(p + 1) // 16) * 16 for p in enough})
    short = [p for p in widths if p <= 0.75 * dim]
    out = [_projected(scores, low[0], p - 1, directions) for p in short if low]
    if short == widths:
        return [*out, *(_projected(scores, a, widths[-1] - 1, directions) for a in plain[:1])]
    out += [*map(Screen, plain[:1]), *(Screen("bfloat16") for a in low if a == "bfloat16")]
    return out + [_projected(scores, a, dim) for a in low[:1] if a.endswith("int8")]


def problem(arithmetic: str) -> str:
    """Why products by this arithmetic are not to be had here, or not exact enough; "" if neither.

    numpy's float32 and float64 always are.
    """
    if arithmetic in ("float32", "float64"):
        return ""
    if not find_spec("torch"):
        return "it needs torch: pip install torch"
    from evalkit.protocols.allpairs.kernels import by_torch, on_gpu

    if arithmetic in GPU_SCREENS:
        return on_gpu.problem(arithmetic)
    return "" if by_torch.trusted(arithmetic) else "this torch lacks it, or errs"


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
