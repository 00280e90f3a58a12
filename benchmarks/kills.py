"""What is left of every file that evalkit writes when its writer is killed at any system call.

    python benchmarks/kills.py [--kills 25] [--only report import]

A command runs in a child process; strace ends it with SIGKILL at its n-th system call on files, n
spread evenly over all calls from the first that touches its folder.  Then evalkit reads what is
there, the same command runs again, and evalkit reads once more.  Needs strace, and Linux.

before, after : as if the command had not run; as if it had ended.
begun : an unfinished feature file of which every row there is right.
mixed, lost : neither; what could be read before can no longer.
next run : as if the command had ended, and nothing hidden left beside it, after one more run.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from evalkit import report as reports
from evalkit.cli import COMMANDS, load, run
from evalkit.errors import EvalkitError
from evalkit.vectors.layout import PENDING
from evalkit.vectors.store import FeatureStore

CALLS = (
    "openat,close,write,pwrite64,rename,renameat,renameat2,unlink,unlinkat,link,linkat,ftruncate,"
    "fallocate,fsync,fdatasync,flock,chmod,fchmod,fchmodat,chown,fchown,fchownat,mkdir,mkdirat"
)
FOUND = ("before", "after", "begun", "mixed", "lost")
State = dict[str, bytes]
MODEL = """
import numpy as np
from evalkit.types import InputSpec

class Tiny:
    spec = InputSpec(size=(8, 8), color="rgb", mean=(0.0,) * 3, std=(1.0,) * 3, crop="none")
    dim = 4
    fingerprint = "tiny"

    def embed(self, images):
        return images.reshape(len(images), -1)[:, 3:7].astype(np.float32) + 1

def make():
    return Tiny()
"""


@dataclass(frozen=True)
class Write:
    """A command that writes, the state of the folder it begins in, and what evalkit reads there."""

    command: str
    begin: Callable[[], None]
    read: Callable[[], State]


def scores(name: str, n: int, seed: int) -> None:
    """Write a list of n scores."""
    rng = np.random.default_rng(seed)
    genuine = np.arange(n) % 2
    lines = [f"{g} {s:.6f}" for g, s in zip(genuine, rng.normal(genuine, 1), strict=True)]
    Path(name).write_text("\n".join(lines))


def evalkit(command: str) -> None:
    """Run a command that must do, quietly."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        if code := run(command.split()):
            raise SystemExit(f"{command}: exit {code}")


def two_reports(n: int) -> None:
    """Keep the report of n scores as r.json, and make ready those of another."""
    scores("scores.txt", n, 0)
    evalkit("score scores.txt --quiet --out r.json")
    scores("scores.txt", n, 1)


def a_baseline() -> None:
    """Keep two reports of one list."""
    two_reports(200)
    evalkit("score scores.txt --quiet --out base.json")
    evalkit("score scores.txt --distance --quiet --out r.json")


def images() -> None:
    """Make 24 images of 6 people, and a list of pairs."""
    rng = np.random.default_rng(0)
    for k in range(24):
        path = Path(f"faces/p{k % 6}/{k}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    keys = sorted(p.relative_to("faces").as_posix() for p in Path("faces").rglob("*.png"))
    lines = [f"{a} {b} {int(a[:2] == b[:2])}" for a in keys for b in keys if a < b]
    Path("pairs.txt").write_text("\n".join(lines))


def changed_images(first: str) -> Callable[[], None]:
    """Run a command on the images, then change a quarter of them and add one."""

    def begin() -> None:
        images()
        evalkit(first)
        for path in [*sorted(Path("faces").rglob("*.png"))[::4], Path("faces/p0/new.png")]:
            Image.fromarray(np.full((8, 8, 3), len(path.name) * 9, np.uint8)).save(path)

    return begin


def vectors() -> None:
    """Make embeddings with names and subjects, and a submission of others."""
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.normal(size=(600, 32)).astype(np.float32))
    Path("keys.txt").write_text("\n".join(f"p{k // 3}/{k}.jpg" for k in range(600)))
    Path("who.txt").write_text("\n".join([str(k // 3) for k in range(300)] + ["-"] * 300))
    np.save("y.npy", rng.normal(size=(600, 32)).astype(np.float32))
    evalkit("trillion --features y.npy --subjects who.txt --submission s.bin --far 1e-3 --quiet")


def read_report(name: str) -> Callable[[], State]:
    """Give a function that reads a report with its outcomes, as one thing."""

    def read() -> State:
        if not Path(name).exists():
            return {}
        held = reports.read(Path(name))
        arrays = {k: a.tobytes() for k, a in (held.outcomes or {}).items()}
        return {"report": repr((reports.dumps(held), sorted(arrays.items()))).encode()}

    return read


def read_features(pattern: str) -> Callable[[], State]:
    """Give a function that reads the rows of feature files that are done."""

    def read() -> State:
        found: State = {}
        for path in sorted(Path().glob(pattern)):
            if path.name.startswith("."):
                continue
            with FeatureStore.open(path) as store:
                for row in np.flatnonzero(store.done != PENDING):
                    found[store.manifest.keys[row]] = store._rows[row].tobytes()
        return found

    return read


def read_file(name: str) -> State:
    """Read the bytes of a file."""
    return {name: Path(name).read_bytes()} if Path(name).exists() else {}


TINY = "--model tiny:make --trust-model --data faces"
EMBED = f"embed f.h5 {TINY} --batch 4"
VERIFY = f"verify pairs.txt {TINY} --batch 4 --quiet"
IMPORT = "import x.npy f.h5 --keys keys.txt --quiet"
SUBMIT = "trillion --features x.npy --subjects who.txt --submission s.bin --far 1e-3 --quiet"
GATE = "gate r.json --baseline base.json"
WRITES = {
    "report": Write(
        "score scores.txt --quiet --out r.json", lambda: two_reports(200), read_report("r.json")
    ),
    "first report": Write(
        "score scores.txt --quiet --out r.json",
        lambda: scores("scores.txt", 200, 0),
        read_report("r.json"),
    ),
    "outcomes": Write(
        "score scores.txt --quiet --out r.json", lambda: two_reports(5_000), read_report("r.json")
    ),
    "baseline": Write(f"{GATE} --accept", a_baseline, read_report("base.json")),
    "feature file": Write(EMBED, images, read_features("f.h5")),
    "its images changed": Write(EMBED, changed_images(EMBED), read_features("f.h5")),
    "cache": Write(VERIFY, images, read_features("cache/**/*.h5")),
    "its images changed ": Write(VERIFY, changed_images(VERIFY), read_features("cache/**/*.h5")),
    "import": Write(IMPORT, vectors, read_features("f.h5")),
    "submission": Write(SUBMIT, vectors, lambda: read_file("s.bin")),
}


def traced(command: str, how: list[str]) -> int:
    """Run a command in a child under strace; give its exit code, negative for a signal."""
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(0x59616D61, -1)  # let any process trace this one
        os.read(ready, 1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        code = 99
        try:
            code = run(command.split())
        finally:
            os._exit(code)
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(child), "-e", f"trace={CALLS}", *how],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    if "attached" not in said:
        os.kill(child, 9)
        raise SystemExit(f"strace cannot trace here: {said.strip()}")
    os.write(go, b"x")
    os.close(go)
    os.close(ready)
    status = os.waitpid(child, 0)[1]
    tracer.communicate()
    return os.waitstatus_to_exitcode(status)


def fresh(template: Path, here: Path) -> None:
    """Make the folder as the command finds it."""
    os.chdir(template)
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(template, here, symlinks=True)
    os.chdir(here)


def calls(write: Write, log: Path) -> list[tuple[str, int]]:
    """List the calls of the thread that makes most, from the first in the folder.

    Each by its name and its number among those of that name, as strace counts them.
    """
    if code := traced(write.command, ["-o", str(log)]):
        raise SystemExit(f"{write.command}: exit {code}")
    threads: dict[str, list[str]] = {}
    for line in log.read_text(errors="replace").splitlines():
        if found := re.match(r"(\d+) +(\w+\(.*)", line):
            threads.setdefault(found[1], []).append(found[2])
    most = max(threads.values(), key=len)
    counted: Counter[str] = Counter()
    numbered = []
    for call in most:
        name = call.partition("(")[0]
        counted[name] += 1
        numbered.append((name, counted[name]))
    made = re.compile(r"O_CREAT|\.evalkit-|rename|fsync|flock")
    return numbered[next(k for k, call in enumerate(most) if made.search(call)) :]


def classify(read: Callable[[], State], old: State, new: State) -> str:
    """Say what is there, of FOUND."""
    try:
        now = read()
    except (EvalkitError, OSError):
        return "lost"
    if now in (old, new):
        return "before" if now == old else "after"
    kept = {k for k, v in old.items() if new.get(k) == v}
    if (old and not now) or not kept <= set(now):
        return "lost"
    return "begun" if all(new.get(k) == v for k, v in now.items()) else "mixed"


def hidden() -> list[Path]:
    """List what is in the folder and was not asked for."""
    return [p for p in Path().rglob("*") if p.name.startswith(".") or p.suffix == ".part"]


def killed(name: str, write: Write, kills: int, room: Path) -> Counter[str]:
    """Kill a command so often, and count what is found."""
    template, here, log = room / "template", room / "here", room / "log"
    shutil.rmtree(template, ignore_errors=True)
    template.mkdir()
    fresh(template, here)
    child = os.fork()  # so that nothing it opens or learns stays in this process
    if child == 0:
        os.chdir(template)
        write.begin()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"{name} cannot begin")
    fresh(template, here)
    old = write.read()
    numbered = calls(write, log)
    new = write.read()
    found: Counter[str] = Counter(calls=len(numbered))
    for n in np.linspace(0, len(numbered) - 1, kills).round().astype(int):
        call, number = numbered[n]
        fresh(template, here)
        inject = f"inject={call}:signal=KILL:when={number}"
        code = traced(write.command, ["-o", str(log), "-e", inject])
        found["killed"] += code == -9
        state = classify(write.read, old, new)
        found[state] += 1
        if state in ("mixed", "lost"):
            print(
                f"{name}: {state} at {call} {number}: {log.read_text().splitlines()[-2:]}",
                flush=True,
            )
        found["left"] += bool(hidden())
        again = traced(write.command, ["-o", str(log)])
        exists = name == "import" and again == 3  # it is whole, and never written over
        done = (again == 0 or exists) and classify(write.read, old, new) in ("after", "before")
        found["next run"] += done and write.read() == new and not hidden()
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="of each write (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=WRITES, default=list(WRITES), metavar="WRITE")
    options = parser.parse_args()
    if shutil.which("strace") is None:
        raise SystemExit("strace is not installed")
    for name in COMMANDS:
        load(name)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder).resolve()
        (room / "tiny.py").write_text(MODEL)
        sys.path.insert(0, str(room))
        os.environ["EVALKIT_CACHE"] = "cache"
        columns = ("calls", "killed", *FOUND, "left", "next run")
        print(f"{'':20}" + "".join(f"{c:>9}" for c in columns), flush=True)
        for name in options.only:
            found = killed(name, WRITES[name], options.kills, room)
            total += found
            print(f"{name:20}" + "".join(f"{found[c]:9}" for c in columns), flush=True)
        print(f"{'all':20}" + "".join(f"{total[c]:9}" for c in columns))
        os.chdir("/")


if __name__ == "__main__":
    main()
