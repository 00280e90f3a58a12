"""Fuzz every parser with atheris: a right answer or one clear error, nothing else.

    python benchmarks/fuzz.py --inputs 1000000 [--only NAME] [--seconds 600]

Each parser gets its share of the inputs in a process of its own, guided by the coverage of
evalkit's code, from a good file of its kind (`tests/fuzz_targets.py`). An exception that is not
evalkit's, a crash, a started program or an opened socket, 20 seconds without an answer, or 4 GiB
end that parser's run; the input that did it is kept in --keep. Exit code 1 if there was any.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    options.add_argument("--one", help=argparse.SUPPRESS)
    options.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    o = options.parse_args()
    if o.one:
        fuzz_one(o.one, o.corpus, o.inputs, o.keep, o.seed, o.seconds)
    import fuzz_targets

    o.keep.mkdir(exist_ok=True)
    targets = [t for t in fuzz_targets.targets() if o.only in (None, t.name)]
    total = failed = 0
    for target in targets:
        start = time.perf_counter()
        runs = -(-o.inputs // len(targets))
        good = target.good[target.victim]
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
