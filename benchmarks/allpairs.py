"""What the all-pairs engine costs beside a bare float32 product of the same tiles, and peers.

    python benchmarks/allpairs.py ratios [--rows 20000 --columns 20000 --runs 5]
    python benchmarks/allpairs.py ratios --no-compiled --screens float32     numpy alone
    python benchmarks/allpairs.py stages [--screens int8/127]
    python benchmarks/allpairs.py peers [--only faiss]     needs scikit-learn, faiss
    python benchmarks/allpairs.py lfw FEATURES.npy PATHS.txt
    python benchmarks/allpairs.py big FOLDER [--rows 20000 --columns 1000000]
    python benchmarks/allpairs.py scaling

Ratios are of processor time on one thread in paired runs, medians, so that a busy machine matters
little.  Features are unit rows with the spectrum of real 512-d face embeddings, people and noise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from stages_of_pairs import stages_timed

from evalkit.protocols.allpairs import Engine, search, verify
from evalkit.protocols.allpairs.screening.tiles import Tile
from evalkit.protocols.metrics.similarity import normalise

TAIL = ["1e-4", "1e-5", "1e-6", "1e-7", "1e-8", "1e-9"]
LOW = TAIL[1:]
EVERY = ["1e-1", "1e-2", "1e-3", *TAIL]
Rows = np.ndarray[Any, Any]


def faces(n: int, dim: int, seed: int, people: int = 2500, world: int = 99) -> tuple[Rows, Rows]:
    """n unit rows of `people` and their subjects; other seeds are other images of them.

    Other worlds have other people.
    """
    held = files("evalkit.datasets") / "data" / "face_spectrum512.txt"
    spectrum = np.loadtxt(held.read_text().splitlines())[:dim]
    rng = np.random.default_rng(seed)
    subject = rng.integers(0, people, n)
    deviation = np.sqrt(spectrum).astype(np.float32)
    centre = np.random.default_rng(world).standard_normal((people, dim), np.float32) * deviation
    x = np.empty((n, dim), np.float32)
    for o in range(0, n, 8192):
        part = subject[o : o + 8192]
        noise = rng.standard_normal((len(part), dim), np.float32) * deviation
        x[o : o + 8192] = normalise(centre[part] + np.float32(0.6) * noise)
    return x, subject


def bare(x: Rows, y: Rows) -> None:
    """Multiply the same tiles in float32 and count nothing."""
    out = np.empty((512, 2048), np.float32)
    for j in range(0, len(y), 2048):
        for i in range(0, len(x), 512):
            a, b = x[i : i + 512], y[j : j + 2048].T
            np.matmul(a, b, out=out[: len(a), : b.shape[1]])


def spent(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def paired_runs(
    work: Callable[[], Any], base: Callable[[], Any], runs: int
) -> list[tuple[float, float]]:
    """Processor seconds of both, run by run, after one that is not counted."""
    work()
    return [(spent(work), spent(base)) for _ in range(runs)]


def paired(
    name: str, work: Callable[[], Any], base: Callable[[], Any], runs: int, note: str = ""
) -> None:
    """Print the median ratio of paired runs."""
    pairs = paired_runs(work, base, runs)
    ratio = [a / b for a, b in pairs]
    print(
        f"{name:44} {median(ratio):6.3f}   [{min(ratio):.3f}, {max(ratio):.3f}]   "
        f"{median(a for a, _ in pairs):7.2f} s of {median(b for _, b in pairs):7.2f} s  {note}",
        flush=True,
    )


def ratios(o: argparse.Namespace) -> None:
    """The engine against the bare product, for each kind of question."""
    for dim in o.dims:
        (x, a), (y, b) = faces(o.rows, dim, 0), faces(o.columns, dim, 1)

        def job(
            fars: list[str], screen: str, x: Rows = x, y: Rows = y, a: Rows = a, b: Rows = b
        ) -> Any:
            engine = Engine(screen=screen, threads=1, compiled=o.compiled)
            verify(x, a, y, b, fars=fars, engine=engine)
            return engine.tally

        def base(x: Rows = x, y: Rows = y) -> None:
            bare(x, y)

        print(f"{o.rows:,} x {o.columns:,}, d={dim}: processor time / bare float32 product")
        lines = [("FAR 1e-4..1e-9", TAIL), ("FAR 1e-1..1e-9", EVERY), ("FAR 1e-5..1e-9", LOW)]
        for screen in o.screens:
            for name, fars in lines:
                if o.only not in name:
                    continue
                note = str(job(fars, screen))
                paired(f"{name}, {screen}", lambda f=fars, s=screen: job(f, s), base, o.runs, note)

        def rank_1(x: Rows = x, y: Rows = y) -> None:
            search(x, y, engine=Engine(threads=1, compiled=o.compiled))

        def one_pass(x: Rows = x, y: Rows = y, a: Rows = a, b: Rows = b) -> None:
            engine = Engine(threads=1, compiled=o.compiled)
            search(x, y, probe_subject=a, gallery_subject=b, fars=["1e-6"], engine=engine)

        searches = {"rank-1, auto": rank_1, "rank-1 and FAR 1e-6 in one pass, auto": one_pass}
        for name, work in searches.items():
            if o.only in name:
                paired(name, work, base, o.runs)


def peer_works(rows: int, columns: int) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """The same questions as a peer answers them and as evalkit does, by "peer / what is asked"."""
    (x, a), (y, b) = faces(rows, 512, 0), faces(columns, 512, 1)
    same = lambda i0, i1: a[i0:i1, None] == b[None, :]  # noqa: E731

    def binned() -> None:
        total = np.zeros(10_000, np.int64)
        for i in range(0, len(x), 512):
            s = x[i : i + 512] @ y.T
            total += np.histogram(s[~same(i, i + 512)], 10_000, (-1, 1))[0]

    def curve() -> None:
        from sklearn.metrics import roc_curve

        roc_curve(same(0, len(x)).ravel(), (x @ y.T).ravel())

    def index() -> Any:
        import faiss

        faiss.omp_set_num_threads(1)
        made = faiss.IndexFlatIP(512)
        made.add(y)
        return made

    def at(fars: list[str]) -> Callable[[], Any]:
        return lambda: verify(x, a, y, b, fars=fars, engine=Engine(threads=1))

    def rank_1() -> Any:
        return search(x, y, engine=Engine(threads=1))

    def both() -> Any:
        who = {"probe_subject": a, "gallery_subject": b}
        return search(x, y, fars=["1e-6"], engine=Engine(threads=1), **who)

    return {
        "chunks + np.histogram / 9 FARs": (binned, at(EVERY)),
        "chunks + np.histogram / FAR <= 1e-4": (binned, at(TAIL)),
        "all scores + roc_curve / 9 FARs": (curve, at(EVERY)),
        "all scores + roc_curve / FAR <= 1e-4": (curve, at(TAIL)),
        "faiss k=1 / rank-1": (lambda: index().search(x, 1), rank_1),
        "faiss k=1 / rank-1 + FAR 1e-6": (lambda: index().search(x, 1), both),
        "faiss k=100 / rank-1 + FAR 1e-6": (lambda: index().search(x, 100), both),
        "faiss range search / FAR <= 1e-5": (lambda: index().range_search(x, 0.5), at(LOW)),
    }


def peers(o: argparse.Namespace) -> None:
    """Every peer's processor time over evalkit's, and the memory of both."""
    pairs = peer_works(o.rows, o.columns)
    if o.one:
        peer, mine = pairs[o.one.removeprefix("ours: ")]
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _status("VmRSS")
        (mine if o.one.startswith("ours: ") else peer)()
        print(f"{_status('VmHWM') - before:.2f}")
        return
    print(
        f"{o.rows:,} x {o.columns:,}, d=512: peer's processor time / ours, and the memory of each"
    )
    for name, (peer, mine) in pairs.items():
        if o.only not in name:
            continue
        peaks = [_alone(o, which) for which in (name, f"ours: {name}")]
        note = f"{peaks[0]} GiB beside {peaks[1]} GiB"
        paired(name, peer, mine, 1 if "roc_curve" in name else o.runs, note)


def _alone(o: argparse.Namespace, one: str) -> str:
    """Peak memory of one side above its features, in a process of its own."""
    told = [sys.executable, __file__, "peers", "--one", one]
    told += ["--rows", str(o.rows), "--columns", str(o.columns)]
    return subprocess.run(told, capture_output=True, text=True, check=True).stdout.split()[-1]


def stages(o: argparse.Namespace) -> None:
    """Processor time of each stage over that of the bare product."""
    (x, a), (y, b) = faces(o.rows, o.dims[0], 0), faces(o.columns, o.dims[0], 1)
    product = spent(lambda: bare(x, y))
    for fars in (EVERY, LOW):
        engine = Engine(screen=o.screens[0], threads=1)
        verify(x, a, y, b, fars=fars, engine=engine)
        with stages_timed() as used:
            whole = spent(lambda f=fars, e=engine: verify(x, a, y, b, fars=f, engine=e))
        print(
            f"{fars[0]}..{fars[-1]}, {engine.tally['screen']}: {whole / product:.3f} of the product"
        )
        for stage, seconds in sorted(used.items(), key=lambda s: -s[1]):
            print(f"    {stage:22} {seconds / product:6.3f}")


def lfw(o: argparse.Namespace) -> None:
    """Every TPR over all LFW pairs, and the time."""
    x = np.load(o.features)
    names = [line.split("/")[-2] for line in Path(o.paths).read_text().split()]
    subject = np.unique(names, return_inverse=True)[1]
    fars = [f"1e-{k}" for k in range(1, 8)]
    begun, used = time.time(), time.process_time()
    found = verify(x, subject, fars=fars)
    print(json.dumps({far: m.value for far, m in found.points.items()}))
    print(f"{time.time() - begun:.2f} s wall, {time.process_time() - used:.2f} s of processor time")
    scored, score = [0], Tile._scored

    def counted(tile: Tile, i: Rows, found: Any) -> Any:
        scored[0] += len(i)
        return score(tile, i, found)

    Tile._scored = counted  # type: ignore[method-assign]
    pairs = found.n_genuine + found.n_impostor
    for screen in ("float32", "float32/63", "int8", "int8/63", "auto"):
        for asked in (fars, fars[3:], fars[4:]):
            scored[0], engine, used = 0, Engine(screen=screen), time.process_time()
            verify(x, subject, fars=asked, engine=engine)
            print(
                f"{asked[0]}..{asked[-1]}, {engine.tally['screen']}: "
                f"{scored[0] / pairs:.3%} of the pairs are candidates, "
                f"{time.process_time() - used:.2f} s"
            )


def big(o: argparse.Namespace) -> None:
    """A long job from a memory map: time, pairs a second, peak memory beside the features."""
    folder = Path(o.folder)
    for name, n, seed in (("x", o.rows, 0), ("y", o.columns, 1)):
        if not (folder / f"{name}.npy").exists():
            held = np.lib.format.open_memmap(
                folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(n, 512)
            )
            for k in range(0, n, 65536):
                size = min(65536, n - k)
                held[k : k + size] = faces(size, 512, seed + 2 * k, people=65_536)[0]
    x, y = (np.load(folder / f"{n}.npy", mmap_mode="r") for n in "xy")
    a, b = np.arange(len(x)), np.arange(len(y)) + len(x)  # nobody's mates: all pairs are impostors
    fars, part, pairs = o.fars.split(","), y[: 1 << 16], len(x) * len(y)
    asked: dict[str, Callable[[Engine], Any]] = {
        f"FAR {o.fars}": lambda engine: verify(x, a, y, b, fars=fars, engine=engine),
        "rank-1": lambda engine: search(x, y, engine=engine),
    }
    mapped = (x.nbytes + y.nbytes) / 2**30
    for name, ask in asked.items():
        print(f"{name}, {pairs:,} pairs, two lines a run")
        before = _status("VmHWM")
        for _ in range(o.runs):
            base = spent(lambda: bare(x, part)) * len(y) / len(part)
            engine, begun, used = Engine(memory=o.memory << 20), time.time(), time.process_time()
            ask(engine)
            wall, used = time.time() - begun, time.process_time() - used
            print(
                f"{wall:.1f} s wall, {used:.1f} s of processor time, {used / base:.3f} of the bare "
                f"product (measured on {len(part):,} columns); {engine.tally}\n"
                f"    {pairs / wall:.3g} pairs/s; 274,000 x 1,580,000 so: "
                f"{274e3 * 1.58e6 / pairs * wall / 60:.1f} min; peak {_status('VmHWM'):.2f} GiB, "
                f"{before:.2f} before, of which maps up to {mapped:.2f}",
                flush=True,
            )


def scaling(o: argparse.Namespace) -> None:
    """Wall time of one thread / two threads, in pairs of runs."""
    (x, a), (y, b) = (faces(n, 512, seed, 65_536) for seed, n in enumerate((o.rows, o.columns)))
    ratio = []
    for _ in range(o.runs):
        walls = []
        for threads in (1, 2):
            begun = time.time()
            engine = Engine(threads=threads, screen=o.screens[0])
            verify(x, a, y, b, fars=LOW, engine=engine)
            walls.append(time.time() - begun)
        ratio.append(walls[0] / walls[1])
    print(f"one thread / two, wall: {median(ratio):.2f}  [{min(ratio):.2f}, {max(ratio):.2f}]")


def _status(field: str) -> float:
    """GiB of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 2**20


ASKED = (ratios, stages, peers, lfw, big, scaling)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("what", choices=[f.__name__ for f in ASKED])
    p.add_argument("features", nargs="?", help="of lfw; the folder of big")
    p.add_argument("paths", nargs="?")
    p.add_argument("--rows", type=int, default=20_000)
    p.add_argument("--columns", type=int)
    p.add_argument("--dims", type=int, nargs="+", default=[512])
    p.add_argument("--screens", nargs="+", default=["auto"])
    p.add_argument("--fars", default=",".join(LOW))
    p.add_argument("--memory", type=int, default=1024, help="MiB")
    p.add_argument("--compiled", action=argparse.BooleanOptionalAction, help="numba's loops")
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--only", default="", help="of ratios and peers, lines with this in their name")
    p.add_argument("--one", help=argparse.SUPPRESS)
    o = p.parse_args()
    o.folder = o.features
    o.columns = o.columns or (1_000_000 if o.what == "big" else 20_000)
    # As in a process that has both loaded: "auto" then tries them.
    if find_spec("numba") and o.compiled is not False:
        import numba  # noqa: F401
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)
    {f.__name__: f for f in ASKED}[o.what](o)


if __name__ == "__main__":
    main()
