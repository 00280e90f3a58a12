"""Fuzz every parser: a right answer or one clear error, nothing else.

    python benchmarks/fuzz.py --inputs 1000000 [--only NAME] [--seconds 600] [--blind]

Each parser gets its share of the inputs in a process of its own, from a good file of its kind
(`tests/fuzz_targets.py`): guided by the coverage of evalkit's code (atheris), or --blind, by edits
drawn by --seed. An exception that is not evalkit's, a crash, a started program or an opened socket,
20 seconds without an answer, or 4 GiB end that parser's run; the input that did it is kept in
--keep. Exit code 1 if there was any.
"""

import argparse
import multiprocessing
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]


def fuzz_one(name: str, corpus: Path, runs: int, keep: Path, seed: int, seconds: int) -> None:
    """Run one parser until its inputs are used up; atheris ends the process."""
    import atheris

    with atheris.instrument_imports(include=["evalkit"]):
        import fuzz_targets
    target = next(t for t in fuzz_targets.targets() if t.name == name)
    folder = fuzz_targets.place(target, Path(tempfile.mkdtemp(dir=corpus.parent)))
    fuzz_targets.watch()
    taken = [0, 0]

    def once(data: bytes) -> None:
        took = fuzz_targets.answers(target, folder, data)
        taken[took] += 1
        if sum(taken) % 1000 == 0:
            (corpus.parent / "taken").write_text(f"{taken[0]} {taken[1]}")

    options = [f"-runs={runs}", f"-artifact_prefix={keep}/", "-timeout=20", "-rss_limit_mb=4096"]
    options += [f"-seed={seed}", f"-max_total_time={seconds}", "-max_len=8192"]
    options += ["-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], once)
    atheris.Fuzz()


_WORDS = [*b"\0 \t\n\r,;\"'[]{}:/\\-\xff".decode("latin-1"), "nan", "inf", "1e999", "-1", "0"]
_WORDS += ["9" * 20, "9" * 400, "\u2028", "a/b.jpg", "2147483648", "__import__"]


def edited(data: bytes, chance: random.Random) -> bytes:
    """Change a few places: other bytes, words of the formats, pieces cut out, copied or cut off."""
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at, size = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 4, 8, 64))
        way = chance.randrange(6)
        if way == 0:
            data = data[:at] + chance.randbytes(size) + data[at + size :]
        elif way == 1:
            data = data[:at] + chance.choice(_WORDS).encode() + data[at:]
        elif way == 2:
            data = data[:at] + data[at + size :]
        elif way == 3:
            start = chance.randrange(len(data) + 1)
            data = data[:at] + data[start : start + size] + data[at:]
        elif way == 4:
            data = (
                data[:at]
                + chance.choice((b"\0", b"\1", b"\x7f", b"\xff")) * size
                + data[at + size :]
            )
        elif chance.random() < 0.2:
            data = data[:at]
    return data[:8192]


def fuzz_blind(target: Any, folder: Path, runs: int, seed: int, seconds: int) -> None:
    """Run one parser on edited inputs; the last one lies in `folder` where the process dies."""
    import fuzz_targets

    taken, good, until = [0, 0], target.good[target.victim], time.monotonic() + seconds

    def late(*_: object) -> None:
        raise AssertionError("no answer in 20 seconds")

    signal.signal(signal.SIGALRM, late)
    for number in range(runs):
        signal.alarm(20)
        data = edited(good, random.Random(f"{seed} {number}"))
        taken[fuzz_targets.answers(target, folder, data)] += 1
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 4 << 20:
            raise AssertionError("more than 4 GiB")
        if time.monotonic() > until:
            break
    signal.alarm(0)
    (folder / "taken").write_text(f"{taken[0]} {taken[1]}")


def run_blind(target: Any, runs: int, keep: Path, seed: int, seconds: int) -> tuple[int, str]:
    """Run one parser in a child of this process, as `run` does."""
    import fuzz_targets

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as tmp:
        folder = fuzz_targets.place(target, Path(tmp, "placed"))
        child = multiprocessing.get_context("fork").Process(
            target=fuzz_blind, args=(target, folder, runs, seed, seconds)
        )
        child.start()
        child.join()
        if child.exitcode:
            shutil.copytree(folder, keep / re.sub(r"\W+", "_", target.name), dirs_exist_ok=True)
            return 0, f"ended with {child.exitcode}; its last input is in {keep}"
        refused, took = (int(n) for n in (folder / "taken").read_text().split())
    return refused + took, f"{100 * took / (took + refused):.0f} % read"


def run(name: str, data: bytes, runs: int, keep: Path, seed: int, seconds: int) -> tuple[int, str]:
    """Start the process of one parser; give the inputs it ran, and what went wrong."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as tmp:
        corpus = Path(tmp, "corpus")
        corpus.mkdir()
        (corpus / "good").write_bytes(data)
        said = Path(tmp, "said")
        command = [sys.executable, __file__, "--one", name, "--corpus", str(corpus)]
        command += ["--inputs", str(runs), "--keep", str(keep), "--seed", str(seed)]
        with said.open("wb") as f:
            limit = ["--seconds", str(seconds)]
            done = subprocess.run([*command, *limit], stdout=f, stderr=f, check=False)
        text = said.read_text(errors="replace")
        ran = re.search(r"number_of_executed_units: *(\d+)", text)
        try:
            refused, took = (int(n) for n in Path(tmp, "taken").read_text().split())
            share = f"{100 * took / (took + refused):.0f} % read"
        except (OSError, ValueError):
            share = ""
        if done.returncode:
            wrong = re.findall(r"(?:===|ERROR|Error|Exception|Traceback).*", text)
            return int(ran[1]) if ran else 0, " | ".join(wrong[:4])[:600] or text[-300:]
        return int(ran[1]) if ran else 0, share


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--inputs", type=int, default=1_000_000)
    options.add_argument("--seconds", type=int, default=600)
    options.add_argument("--only")
    options.add_argument("--keep", type=Path, default=Path("fuzz-found"))
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--blind", action="store_true")
    options.add_argument("--one", help=argparse.SUPPRESS)
    options.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    o = options.parse_args()
    if o.one:
        fuzz_one(o.one, o.corpus, o.inputs, o.keep, o.seed, o.seconds)
    import fuzz_targets

    fuzz_targets.watch()
    o.keep.mkdir(exist_ok=True)
    targets = [t for t in fuzz_targets.targets() if o.only in (None, t.name)]
    total = failed = 0
    for target in targets:
        start = time.perf_counter()
        runs = -(-o.inputs // len(targets))
        good = target.good[target.victim]
        if o.blind:
            ran, said = run_blind(target, runs, o.keep, o.seed, o.seconds)
        else:
            ran, said = run(target.name, good, runs, o.keep, o.seed, o.seconds)
        total += ran
        wrong = not said.endswith("% read") and said != ""
        failed += wrong
        took = time.perf_counter() - start
        word = "FOUND" if wrong else "ok   "
        print(f"{word} {target.name:<34} {ran:>9,} inputs {took:6.0f} s  {said}", flush=True)
    print(f"{total:,} inputs to {len(targets)} parsers, {failed} with a finding")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
