"""What the all-pairs engine costs beside a bare float32 product of the same tiles, and peers.

    python benchmarks/allpairs.py ratios [--rows 20000 --columns 20000 --runs 5]
    python benchmarks/allpairs.py peers [--rows 10000 --columns 10000]     needs scikit-learn, faiss
    python benchmarks/allpairs.py lfw FEATURES.npy PATHS.txt
    python benchmarks/allpairs.py big FOLDER [--rows 20000 --columns 1000000]
    python benchmarks/allpairs.py scaling
    python benchmarks/allpairs.py gpu [--rows 65536 --columns 1000000]      needs a GPU

Ratios are of processor time on one thread in paired runs, medians, so that a busy machine matters
little.  Features are unit rows with the spectrum of real 512-d face embeddings, people and noise.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from evalkit.protocols.allpairs import Engine, search, verify
from evalkit.protocols.scores import normalise

TAIL = ["1e-4", "1e-5", "1e-6", "1e-7", "1e-8", "1e-9"]
LOW = TAIL[1:]
EVERY = ["1e-1", "1e-2", "1e-3", *TAIL]
Rows = np.ndarray[Any, Any]


def faces(n: int, dim: int, seed: int, people: int = 2500) -> tuple[Rows, Rows]:
    """n unit rows of `people` and their subjects; other seeds are other images of them."""
    held = files("evalkit.datasets") / "data" / "face_spectrum512.txt"
    spectrum = np.loadtxt(held.read_text().splitlines())[:dim]
    rng = np.random.default_rng(seed)
    subject = rng.integers(0, people, n)
    deviation = np.sqrt(spectrum).astype(np.float32)
    centre = np.random.default_rng(99).standard_normal((people, dim), np.float32) * deviation
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


def paired(
    name: str, work: Callable[[], Any], base: Callable[[], Any], runs: int, note: str = ""
) -> None:
    """Print the median ratio of paired runs, after one of each that is not counted."""
    work()
    pairs = [(spent(work), spent(base)) for _ in range(runs)]
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
            engine = Engine(screen=screen, threads=1)
            verify(x, a, y, b, fars=fars, engine=engine)
            return engine.tally

        def base(x: Rows = x, y: Rows = y) -> None:
            bare(x, y)

        print(f"{o.rows:,} x {o.columns:,}, d={dim}: processor time / bare float32 product")
        lines = [("FAR 1e-4..1e-9", TAIL), ("FAR 1e-1..1e-9", EVERY), ("FAR 1e-5..1e-9", LOW)]
        for screen in o.screens:
            for name, fars in lines:
                note = str(job(fars, screen))
                paired(f"{name}, {screen}", lambda f=fars, s=screen: job(f, s), base, o.runs, note)

        def one_pass(x: Rows = x, y: Rows = y, a: Rows = a, b: Rows = b) -> None:
            engine = Engine(threads=1)
            search(x, y, probe_subject=a, gallery_subject=b, fars=["1e-6"], engine=engine)

        paired("rank-1 and FAR 1e-6 in one pass, auto", one_pass, base, o.runs)


def peers(o: argparse.Namespace) -> None:
    """The same questions as peers answer them."""
    import faiss
    from sklearn.metrics import roc_curve

    faiss.omp_set_num_threads(1)
    (x, a), (y, b) = faces(o.rows, 512, 0), faces(o.columns, 512, 1)
    same = lambda i0, i1: a[i0:i1, None] == b[None, :]  # noqa: E731

    def binned() -> None:
        total = np.zeros(10_000, np.int64)
        for i in range(0, len(x), 512):
            s = x[i : i + 512] @ y.T
            total += np.histogram(s[~same(i, i + 512)], 10_000, (-1, 1))[0]

    def curve() -> None:
        roc_curve(same(0, len(x)).ravel(), (x @ y.T).ravel())

    def faiss_search(k: int) -> None:
        index = faiss.IndexFlatIP(512)
        index.add(y)
        index.search(x, k)

    def faiss_range() -> None:
        index = faiss.IndexFlatIP(512)
        index.add(y)
        index.range_search(x, 0.5)

    def ours(fars: list[str]) -> Callable[[], Any]:
        return lambda: verify(x, a, y, b, fars=fars, engine=Engine(threads=1))

    def identify() -> None:
        search(x, y, probe_subject=a, gallery_subject=b, fars=["1e-6"], engine=Engine(threads=1))

    print(f"{o.rows:,} x {o.columns:,}, d=512: peer's processor time / ours")
    for name, peer, work in (
        ("chunks + np.histogram / 9 FARs", binned, ours(EVERY)),
        ("chunks + np.histogram / FAR <= 1e-4", binned, ours(TAIL)),
        ("all scores + roc_curve / 9 FARs", curve, ours(EVERY)),
        ("all scores + roc_curve / FAR <= 1e-4", curve, ours(TAIL)),
        ("faiss k=1 / rank-1 + FAR 1e-6", lambda: faiss_search(1), identify),
        ("faiss k=100 / rank-1 + FAR 1e-6", lambda: faiss_search(100), identify),
        ("faiss range search / FAR <= 1e-5", faiss_range, ours(LOW)),
    ):
        paired(name, peer, work, 1 if peer is curve else o.runs)
    print(f"peak resident memory of all of them: {_peak():.2f} GiB")


def lfw(o: argparse.Namespace) -> None:
    """Every TPR over all LFW pairs, and the time."""
    x = np.load(o.features)
    names = [line.split("/")[-2] for line in Path(o.paths).read_text().split()]
    subject = np.unique(names, return_inverse=True)[1]
    fars = [f"1e-{k}" for k in range(1, 8)]
    begun, used = time.time(), time.process_time()
    found = verify(x, subject, fars=fars)
    print(json.dumps({p.far: p.tpr for p in found.points}))
    print(f"{time.time() - begun:.2f} s wall, {time.process_time() - used:.2f} s of processor time")


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
    before = _peak()
    engine = Engine(memory=o.memory << 20)
    begun, used = time.time(), time.process_time()
    fars = o.fars.split(",")
    a, b = np.arange(len(x)), np.arange(len(y)) + len(x)  # nobody's mates: all pairs are impostors
    found = verify(x, a, y, b, fars=fars, engine=engine)
    wall, used = time.time() - begun, time.process_time() - used
    mapped = (x.nbytes + y.nbytes) / 2**30
    print(f"{found.n_impostor:,} pairs, {engine.tally}: {wall:.1f} s wall, {used:.1f} s processor")
    print(f"{found.n_impostor / wall:.3g} pairs/s; {used / found.n_impostor * 1e9:.2f} ns a pair")
    print(f"peak {_peak():.2f} GiB, {before:.2f} before, of which maps up to {mapped:.2f} GiB")
    full = 274e3 * 1.58e6 / found.n_impostor * wall / 60
    print(f"the full 274,000 x 1,580,000 on this machine: {full:.1f} min")


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


def gpu(o: argparse.Namespace) -> None:
    """Each way on a GPU beside its bare float16 product, wall time; the full test on paper."""
    import torch

    print(torch.cuda.get_device_name())
    (x, a), (y, b) = faces(o.rows, 512, 0), faces(o.columns, 512, 1)
    left, right = (torch.from_numpy(v).cuda().half() for v in (x, y))

    def product() -> float:
        torch.cuda.synchronize()
        begun = time.time()
        for j in range(0, len(y), 32_768):
            for i in range(0, len(x), 16_384):
                left[i : i + 16_384] @ right[j : j + 32_768].T
        torch.cuda.synchronize()
        return time.time() - begun

    product()
    for screen in ("triton-int8", "triton-int8/127", "cuda-int8", "cuda-int8/127", "auto"):
        for name, fars in (("FAR 1e-5..1e-9", LOW), ("FAR 1e-1..1e-9", EVERY)):
            if fars is EVERY and screen != "auto":
                continue
            ratio = []
            for turn in range(o.runs + 1):
                bare_s, begun = product(), time.time()
                engine = Engine(screen=screen)
                found = verify(x, a, y, b, fars=fars, engine=engine)
                if turn:  # the first compiles
                    ratio.append((time.time() - begun) / bare_s)
            wall = time.time() - begun
            full = 274e3 * 1.58e6 / (found.n_impostor + found.n_genuine) * wall
            print(
                f"{name}, {engine.tally['screen']}: {wall:.2f} s, {median(ratio):.2f} of the bare "
                f"float16 product; 274,000 x 1,580,000 on paper: {full:.1f} s",
                flush=True,
            )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("what", choices=["ratios", "peers", "lfw", "big", "scaling", "gpu"])
    p.add_argument("features", nargs="?", help="of lfw; the folder of big")
    p.add_argument("paths", nargs="?")
    p.add_argument("--rows", type=int, default=20_000)
    p.add_argument("--columns", type=int)
    p.add_argument("--dims", type=int, nargs="+", default=[512])
    p.add_argument("--screens", nargs="+", default=["auto"])
    p.add_argument("--fars", default="1e-6,1e-9")
    p.add_argument("--memory", type=int, default=1024, help="MiB")
    p.add_argument("--runs", type=int, default=5)
    o = p.parse_args()
    o.folder = o.features
    o.columns = o.columns or (1_000_000 if o.what == "big" else 20_000)
    if find_spec("torch"):  # as in a process that has it loaded: "auto" then tries its screens
        import torch

        torch.set_num_threads(1)
    asked = {"ratios": ratios, "peers": peers, "lfw": lfw, "big": big, "scaling": scaling}
    (asked | {"gpu": gpu})[o.what](o)


if __name__ == "__main__":
    main()
