"""What it costs to know which image a vector is of.

    python benchmarks/digests.py embed MODEL.onnx CROPS.zip     embedding with digests / without
    python benchmarks/digests.py quick --files 100000           the check of unchanged files
    python benchmarks/digests.py second MODEL.onnx CROPS.zip --before CHECKOUT
                                                                a second `lfw`, here / there

Ratios are of processor time in paired runs, medians; the machine does other work too.
"""

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from evalkit import adapters, images
from evalkit.adapters.presets import PRESETS
from evalkit.embedding import embedder
from evalkit.images.digests import ImageDigests

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    tasks = parser.add_subparsers(required=True)
    for name, run in (("embed", embedding), ("quick", quick), ("second", second)):
        task = tasks.add_parser(name)
        task.set_defaults(run=run)
        if name != "quick":
            task.add_argument("model")
            task.add_argument("data", type=Path)
            task.add_argument("--rounds", type=int, default=7)
            task.add_argument("--preset", default="imagenet")
    tasks.choices["embed"].add_argument("--images", type=int, default=512)
    tasks.choices["quick"].add_argument("--files", type=int, default=100_000)
    tasks.choices["second"].add_argument("--before", type=Path, required=True)
    args = parser.parse_args()
    args.run(args)


def spent(what: Callable[[], object], who: int = resource.RUSAGE_SELF) -> float:
    """Processor seconds of a call."""
    a = resource.getrusage(who)
    what()
    b = resource.getrusage(who)
    return b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime


def told(name: str, pairs: list[tuple[float, float]]) -> None:
    ratios = sorted(a / b for a, b in pairs)
    seconds = [statistics.median(side) for side in zip(*pairs, strict=True)]
    print(
        f"{name}: {statistics.median(ratios):.4f} [{ratios[0]:.4f}, {ratios[-1]:.4f}] of "
        f"{len(ratios)} pairs; {seconds[0]:.3f} s and {seconds[1]:.3f} s, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def embedding(args: argparse.Namespace) -> None:
    adapter = adapters.load(args.model, spec=PRESETS[args.preset])
    found = images.find(args.data)
    source = found.select(found.keys[: args.images])
    real = embedder.image_digest

    def run(digest: Callable[[bytes], bytes]) -> float:
        embedder.image_digest = digest
        with tempfile.TemporaryDirectory() as out, cache(out):
            where = Path(out) / "f.h5"
            return spent(
                lambda: embedder.embed(adapter, source, source.manifest(), where, batch=16)
            )

    def none(_: bytes) -> bytes:
        return bytes(32)

    run(real)
    pairs = []
    for turn in range(args.rounds):
        first, other = (real, none) if turn % 2 else (none, real)
        made = {first: run(first), other: run(other)}
        pairs.append((made[real], made[none]))
    told("embedding with digests / without", pairs)


@contextlib.contextmanager
def cache(folder: str) -> object:
    before = os.environ.get("EVALKIT_CACHE")
    os.environ["EVALKIT_CACHE"] = f"{folder}/cache"
    yield
    if before is None:
        del os.environ["EVALKIT_CACHE"]
    else:
        os.environ["EVALKIT_CACHE"] = before


def quick(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as out, cache(out):
        for k in range(args.files):
            path = Path(out) / "faces" / f"{k // 100:05}" / f"{k:07}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(k.to_bytes(4, "little") * 1000)
        time.sleep(2.1)  # beyond the clock's grain
        start = time.perf_counter()
        source = images.find(Path(out) / "faces")
        found = time.perf_counter() - start
        for name in ("nothing is known", "all is known"):
            start = time.perf_counter()
            digests = ImageDigests(source)
            digests.read((~digests.known).nonzero()[0], 2)
            digests.keep()
            took = time.perf_counter() - start
            print(f"{name}: {took:.2f} s, {took / args.files * 1e6:.1f} us a file")
        print(f"finding them: {found:.2f} s, {found / args.files * 1e6:.1f} us a file")


def second(args: argparse.Namespace) -> None:
    words = ["lfw", "--model", args.model, "--preset", args.preset, "--data", str(args.data)]

    def run(root: Path, out: str) -> float:
        where = {**os.environ, "PYTHONPATH": str(root), "EVALKIT_CACHE": f"{out}/{root.name}"}
        command = [sys.executable, "-m", "evalkit", *words, "--quiet"]
        call = lambda: subprocess.run(command, env=where, check=True, capture_output=True)  # noqa: E731
        return spent(call, resource.RUSAGE_CHILDREN)

    with tempfile.TemporaryDirectory() as out:
        for root in (ROOT, args.before):
            run(root, out)
        told(
            "second lfw, here / before",
            [(run(ROOT, out), run(args.before, out)) for _ in range(args.rounds)],
        )
        words.append("--verify-data")
        verified = [(run(ROOT, out), 1.0) for _ in range(3)]
        print(f"with --verify-data: {statistics.median(v for v, _ in verified):.3f} s")


if __name__ == "__main__":
    main()
