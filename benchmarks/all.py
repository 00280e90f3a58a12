"""Every figure of speed and memory with its goal beside it, in under an hour on a quiet machine.

    python benchmarks/all.py                      all of it, and the tables of docs/speed.md anew
    python benchmarks/all.py --only peers,lfw     some, and their tables
    python benchmarks/all.py --full FOLDER        trillion, MegaFace, IJB-C, Dask: full size
    python benchmarks/all.py --quick              small sets: that it runs, not what things cost

Every part stands alone: one that lacks a package or a model, or fails, is a line that says so.
Ratios of processor time are medians of paired runs on one thread.  Wall times and images a second
mean something on a quiet machine only; the load stands above the figures.  FOLDER gets 16 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from allpairs import EVERY, LOW, TAIL, bare, faces, paired_runs, peer_works
from figures import HEAD, Figure, Figures, machine, with_table
from ijb_size import measured as ijbc_sized
from megaface_size import measured as megaface_sized
from processes import Run, command, done
from stages_of_pairs import stages_timed
from trillion import halved, same_fars

from evalkit.protocols.allpairs import Engine, search, verify
from evalkit.vectors.store import FeatureStore

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "speed.md"
GIB = 1 << 30
# Starts the command line as it is where these are not installed.
WITHOUT = "import sys; sys.modules.update(dict.fromkeys({}, None)); "
FAST = ("numba", "simplejpeg")


def ratio(work: Callable[[], Any], base: Callable[[], Any], runs: int) -> tuple[float, str]:
    """Median ratio of processor time in paired runs, and its range."""
    each = [a / b for a, b in paired_runs(work, base, runs)]
    return median(each), f"{min(each):.2f} to {max(each):.2f}"


def stages(work: Callable[[], Any]) -> str:
    """Name what most of the processor time goes to: the stages of allpairs, and the rest."""
    with stages_timed() as used:
        begun = time.process_time()
        work()
        whole = time.process_time() - begun
    parts = {stage: seconds / whole for stage, seconds in used.items()}
    parts["Python and the rest"] = 1 - sum(parts.values())
    largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
    return ", ".join(f"{stage} {share:.0%}" for stage, share in largest)


def shipped() -> tuple[Any, Any, Sequence[str]]:
    """The embeddings of LFW that ship with evalkit, who is on them, and their names."""
    with as_file(files("evalkit.datasets") / "data" / "lfw_mobilefacenet.h5") as path:
        store = FeatureStore.open(path)
        who = store.manifest
        return (
            np.asarray(store.features, np.float32).reshape(len(who.keys), -1),
            who.subject,
            who.keys,
        )


def products(o: argparse.Namespace) -> Figures:
    """All pairs of 20,000 x 20,000, over the bare float32 product."""
    n = 1_500 if o.quick else 20_000
    (x, a), (y, b) = faces(n, 512, 0), faces(n, 512, 1)

    def verified(fars: list[str]) -> Any:
        return verify(x, a, y, b, fars=fars, engine=Engine(threads=1))

    def searched(fars: list[str]) -> Any:
        who = {"probe_subject": a, "gallery_subject": b} if fars else {}
        return search(x, y, fars=fars, engine=Engine(threads=1), **who)

    asked: list[tuple[str, Callable[[list[str]], Any], list[str], float | None]] = [
        ("TPR at FAR 1e-4..1e-9", verified, TAIL, 0.12),
        ("TPR at FAR 1e-1..1e-9", verified, EVERY, 0.40),
        ("TPR at FAR 1e-5..1e-9", verified, LOW, None),
        ("rank-1 of every probe", searched, [], 0.12),
        ("rank-1 and the threshold of FAR 1e-6", searched, ["1e-6"], None),
    ]
    for name, ask, fars, goal in asked:
        got, spread = ratio(lambda a=ask, f=fars: a(f), lambda: bare(x, y), o.runs)
        bound = f"{stages(lambda a=ask, f=fars: a(f))}; {spread}"
        yield Figure(name=f"{name}, {n * n:.0e} pairs", measured=got, at_most=goal, bound=bound)


def peers(o: argparse.Namespace) -> Figures:
    """10,000 x 10,000: a peer's processor time over evalkit's."""
    goals = {
        "chunks + np.histogram / 9 FARs": 3.0,
        "faiss k=1 / rank-1": 3.0,
    }
    n = 600 if o.quick else 10_000
    for name, (peer, mine) in peer_works(n, n).items():
        goal = goals.get(name)
        package = "faiss" if "faiss" in name else "sklearn" if "roc_curve" in name else "numpy"
        if not find_spec(package):
            yield Figure(name=name, at_least=goal, bound=f"{package} is not installed")
            continue
        got, spread = ratio(peer, mine, 1 if "roc_curve" in name else o.runs)
        bound = f"{stages(mine)}; {spread}"
        yield Figure(name=f"{name}, {n * n:.0e} pairs", measured=got, at_least=goal, bound=bound)


def lfw(o: argparse.Namespace) -> Figures:
    """All pairs of LFW by the embeddings that ship with evalkit, as a fresh process does it."""
    rows = slice(0, 900 if o.quick else None)
    x, subject = (of[rows] for of in shipped()[:2])

    def ask() -> Any:
        return verify(x, subject, fars=EVERY, engine=Engine(threads=1, compiled=False))

    runs = paired_runs(ask, lambda: bare(x, x), o.runs)
    got, product = (median(side) for side in zip(*runs, strict=True))
    bound = f"{stages(ask)}; the product of all ordered pairs takes {product:.2f} s"
    name = f"LFW, {len(x) * (len(x) - 1) // 2:,} pairs, nine FARs, processor time"
    yield Figure(name=name, measured=got, at_most=0.5, unit=" s", bound=bound)


def commands(o: argparse.Namespace) -> Figures:
    """Whole commands, wall time: the median of several, the first not counted."""
    with tempfile.TemporaryDirectory() as place:
        x, keys = Path(place) / "x.npy", Path(place) / "keys.txt"
        features, _, names = shipped()
        np.save(x, features)
        keys.write_text("\n".join(names) + "\n")
        words = ["lfw", "--features", str(x), "--keys", str(keys)]
        bare_code = WITHOUT.format(FAST)
        asked: list[tuple[str, list[str], str, float | None]] = [
            ("evalkit --version", ["--version"], "", None),
            ("evalkit lfw --features", words, "", 0.7),
            ("evalkit demo, with the extra fast", ["demo"], "", 2.0),
            ("evalkit demo, without", ["demo"], bare_code, 3.0),
        ]
        for name, told, code, goal in asked[: 2 if o.quick else None]:
            runs = [done(command(told, code)) for _ in range(1 + (1 if o.quick else o.runs))][1:]
            wall, used = (median(getattr(r, of) for r in runs) for of in ("wall", "used"))
            bound = f"Python and imports; {used:.2f} s of processor time"
            yield Figure(name=name, measured=wall, at_most=goal, unit=" s", bound=bound)


def pipeline(o: argparse.Namespace) -> Figures:
    """Images a second over those of the bare network, by `embed.py`."""
    model = o.model
    asked: list[tuple[str, list[str], tuple[str, ...], float]] = [
        ("MobileFaceNet ONNX, with fast", ["--models", str(model)], (), 0.97),
        ("MobileFaceNet ONNX, without", ["--models", str(model)], FAST, 0.95),
        ("MobileFaceNet ONNX, 250x250 aligned", ["--models", str(model), "--side", "250"], (), 0.9),
        ("IResNet-50, torch", ["--models", "iresnet50"], (), 0.97),
    ]
    for name, words, without, goal in asked:
        if "ONNX" in name and (model is None or not Path(model).is_file()):
            yield Figure(name=name, at_least=goal, bound="no model: --model MOBILEFACENET.onnx")
            continue
        if "torch" in name and not find_spec("torch"):
            yield Figure(name=name, at_least=goal, bound="torch is not installed")
            continue
        few = "96" if "torch" in name else "1024"  # seconds a round
        size = ["--images", "16" if o.quick else few]
        rounds = ["--rounds", "1" if o.quick else "8", "--no-peers"]
        code = f"{WITHOUT.format(without)}sys.path.insert(0, {str(HERE)!r}); import embed, json; "
        code += f"print(json.dumps(embed.main({[*words, *size, *rounds]!r})))"
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if told.returncode:
            raise RuntimeError(told.stderr.strip()[-300:])
        ((rate, cost, most),) = json.loads(told.stdout.splitlines()[-1])
        bound = f"{cost:.3f} of its processor time; decoding on the same cores: at most {most:.3f}"
        yield Figure(name=name, measured=rate, at_least=goal, bound=bound)


def trillion(o: argparse.Namespace) -> Figures:
    """The trillion-pair test as a command, intervals included, and its exact numbers."""
    people, images, others = (50, 4, 4000) if o.quick else (2000, 10, 1_000_000)
    if o.full:
        people, images, others = 5700, 48, 1_580_000
    with tempfile.TemporaryDirectory(dir=o.full) as place:
        folder = Path(place)
        made(folder, people, images, others)
        name = f"trillion, {people * images * others:.2g} pairs"
        goal = 559.0 if o.full else None
        words = trillion_words(folder, "features", "--expect", str(folder / "answer.json"))
        run = done(command(words, watched=True))
        yield from costs(f"{name}, float32", run, goal, "all 7 numbers exact")
        yield time_left(f"{name}, float32", run)
        half_way = [*words, "--checkpoint", str(folder / "resume")]
        command(half_way, kill_after=run.wall / 2)
        yield same_after_kill(half_way, folder / "features.json", f"{name}, float32")
        run = done(command(trillion_words(folder, "float16", *same_fars(folder / "answer.json"))))
        yield from costs(f"{name}, float16", run, goal, "rows widened band by band")


def outofcore(o: argparse.Namespace) -> Figures:
    """4,000 probes against 2e7 float16 vectors of 128 numbers: a file larger than the memory."""
    others = 20_000_000 if o.full else 4000 if o.quick else 2_000_000
    with tempfile.TemporaryDirectory(dir=o.full) as place:
        folder = Path(place)
        made(folder, 40 if o.quick else 400, 10, others, "--dim", "128")
        (folder / "features.npy").unlink()
        run = done(command(trillion_words(folder, "float16")))
        yield from costs(f"trillion, {others:.0e} x 128 float16", run)


def made(folder: Path, people: int, images: int, others: int, *more: str) -> None:
    """Make a set of `evalkit synth`, and its features once more as float16."""
    size = ["--subjects", people, "--images", images, "--distractors", others]
    done(command([*map(str, ["synth", folder, *size, "--quiet"]), *more]))
    halved(folder / "features.npy")


def trillion_words(folder: Path, features: str, *more: str) -> list[str]:
    """Words of the trillion-pair test on one file of a folder; its report is named like it."""
    words = ["trillion", "--features", f"{folder}/{features}.npy", *more]
    return [*words, "--subjects", f"{folder}/subjects.txt", "--out", f"{folder}/{features}.json"]


def time_left(name: str, run: Run) -> Figure:
    """How far the end that a bar foretold, from its first tenth on, lay from that of the command.

    As a share of the whole command, which begins before the bar and goes on after it.
    """
    name = f"{name}: end as foretold, off by at most"
    last = run.left[-1][0] if run.left else 0.0
    ends = [at + left for at, left in run.left if at > run.left[0][0] + 0.1 * last]
    off = max((abs(end - run.wall) / run.wall for end in ends), default=None)
    bound = f"the bar was gone {run.wall - last:.0f} s before the end"
    return Figure(name=name, measured=off, at_most=0.1, bound=bound)


def same_after_kill(resumed: Sequence[str], report: Path, name: str) -> Figure:
    """Compare the numbers of a run that was killed and resumed with those of one that was not."""
    before = json.loads(report.read_text())["metrics"]
    run = done(command(resumed))
    same = json.loads(report.read_text())["metrics"] == before
    bound = f"killed half way; the rest took {run.wall:.0f} s"
    return Figure(
        name=f"{name}: same numbers when resumed", measured=float(same), at_least=1, bound=bound
    )


def megaface(o: argparse.Namespace) -> Figures:
    """MegaFace with 3,530 probes and a million distractors, by `megaface_size.py`."""
    return at_size(o, "MegaFace with a million distractors", megaface_sized)


def ijbc(o: argparse.Namespace) -> Figures:
    """IJB-C 1:1 at its counts, by `ijb_size.py`."""
    return at_size(o, "IJB-C at its counts", ijbc_sized)


def at_size(o: argparse.Namespace, name: str, run: Callable[[Path], Run]) -> Figures:
    """What a command takes on a set that is made for it, with --full alone."""
    if not o.full:
        yield Figure(name=name, bound="with --full")
        return
    with tempfile.TemporaryDirectory(dir=o.full) as folder:
        yield from costs(name, run(Path(folder)))


def costs(name: str, run: Run, goal: float | None = None, bound: str = "") -> Figures:
    """What a command took, intervals included: processor time, cores, memory beside the map."""
    cores = len(os.sched_getaffinity(0))
    bound = f"{bound}{'; ' if bound else ''}{run.wall:.0f} s wall"
    used = Figure(name=f"{name}: processor time", measured=run.used, at_most=goal, unit=" s")
    yield replace(used, bound=bound)
    busy = run.used / run.wall
    yield Figure(name=f"{name}: cores busy", measured=busy, at_least=0.9 * cores)
    beside = run.anonymous / GIB
    yield Figure(name=f"{name}: beside the map", measured=beside, at_most=1, unit=" GiB")


def cluster(o: argparse.Namespace) -> Figures:
    """Wall time of one Dask worker over that of two, one thread each."""
    pairs = 4e6 if o.quick else 4e10 if o.full else 4e9
    name = f"two Dask workers, {pairs:.0e} pairs: wall of one over theirs"
    if not find_spec("distributed"):
        yield Figure(name=name, at_least=1.9, bound="distributed is not installed")
        return
    from evalkit.cluster import Cluster

    n = int(pairs**0.5)
    (x, a), (y, b) = faces(n, 512, 0), faces(n, 512, 1)
    walls = []
    for workers in (1, 2):
        with Cluster(f"local:{workers}") as held:
            begun = time.perf_counter()
            verify(x, a, y, b, fars=LOW, engine=Engine(cluster=held, threads=1))
            walls.append(time.perf_counter() - begun)
    yield Figure(
        name=name, measured=walls[0] / walls[1], at_least=1.9, bound="each encodes all columns"
    )


PARTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    part.__name__: part
    for part in (
        products,
        peers,
        lfw,
        commands,
        pipeline,
        trillion,
        outofcore,
        megaface,
        ijbc,
        cluster,
    )
}


def measured(part: str, o: argparse.Namespace) -> list[Figure]:
    """Measure a part, printing each figure as it comes; what fails is one figure that says so."""
    found = list[Figure]()
    try:
        for figure in PARTS[part](o):
            found.append(figure)
            print(figure.row(), flush=True)
    except Exception as e:
        why = " ".join(f"{type(e).__name__}: {e}".split())[:300].replace("|", "/")
        found.append(Figure(name=part, bound=f"failed: {why}"))
        print(found[-1].row(), flush=True)
    return found


def main(words: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    p.add_argument("--quick", action="store_true", help="small sets; no page is written")
    p.add_argument("--full", type=Path, metavar="FOLDER", help="the full sizes too, kept there")
    p.add_argument("--runs", type=int, default=5)
    shared = os.environ.get("EVALKIT_SHARED_DATA")
    given = Path(shared) / "models" / "mobilefacenet_foamliu.onnx" if shared else None
    p.add_argument("--model", type=Path, default=given, help="MobileFaceNet, an ONNX file")
    p.add_argument("--page", type=Path, default=PAGE, help="the page whose tables are made anew")
    o = p.parse_args(words)
    if unknown := [part for part in o.only.split(",") if part not in PARTS]:
        p.error(f"no part is called {unknown[0]!r}: {', '.join(PARTS)}")
    o.runs = 1 if o.quick else o.runs
    if o.full:
        o.full.mkdir(parents=True, exist_ok=True)
    print(f"{machine()}\n\n{HEAD}", flush=True)
    begun, found = time.perf_counter(), list[Figure]()
    for part in o.only.split(","):
        figures = measured(part, o)
        found += figures
        if not o.quick:
            table = "\n".join([HEAD, *(f.row() for f in figures), "", f"On {machine()}."])
            page = o.page.read_text(encoding="utf-8")
            o.page.write_text(with_table(page, part, table), encoding="utf-8")
    verdicts = [f.reached() for f in found]
    minutes = (time.perf_counter() - begun) / 60
    print(
        f"\n{minutes:.1f} minutes: {verdicts.count('yes')} goals reached, "
        f"{verdicts.count('no')} not, {sum(f.measured is None for f in found)} not measured"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
