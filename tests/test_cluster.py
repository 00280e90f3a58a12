"""Real Dask workers, really killed: the same bits as one process."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_allpairs_engine import FARS, people, told
from test_faults import FED, command, environment, faces, model, small_disk
from test_workers import every_answer

from evalkit import adapters, cluster, images
from evalkit.adapters import gpus, presets
from evalkit.adapters.gpus import Driver, Gpu
from evalkit.cli import run
from evalkit.cluster import Cluster
from evalkit.embedding import embedder
from evalkit.errors import DataError, EvalkitError
from evalkit.protocols import allpairs
from evalkit.protocols.allpairs import Engine, scan, workers
from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.screening import screens
from evalkit.protocols.allpairs.sides import Side

pytest.importorskip("distributed")
pytest.importorskip("cryptography")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9 and /proc")
__all__ = ["model", "small_disk"]  # fixtures
PAGE = Path(__file__).parents[1] / "docs" / "howto" / "cluster.md"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVALKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def two(cache: Path) -> Iterator[Cluster]:
    with Cluster("local:2") as workers:
        assert workers._client is not None  # starts them, below this cache
        yield workers
    assert not list((cache / "cluster").iterdir())


def processes(two: Cluster) -> list[int]:
    """Give the workers' process numbers; one that is being restarted has none."""
    assert two._client is not None  # started
    return [nanny.pid for nanny in two._closing[1].workers.values() if nanny.pid]


class Killing:
    """As `progress`: kill a worker, of two the one that lived longer, at each share of the job."""

    def __init__(self, two: Cluster, *shares: float) -> None:
        self.two, self.left, self.killed = two, list(shares), list[int]()

    def __call__(self, done: int, total: int) -> None:
        if self.left and done >= self.left[0] * total:
            self.left.pop(0)
            while not (living := set(processes(self.two)) - set(self.killed)):
                time.sleep(0.01)
            self.killed.append(min(living))
            os.kill(self.killed[-1], signal.SIGKILL)


def test_every_answer_is_that_of_one_process(two: Cluster, monkeypatch: Any) -> None:
    monkeypatch.setattr(scan, "_BLOCK", 200_000)
    monkeypatch.setattr(screens, "ROWS", 32)
    x, a = people(700, 12, 1)
    y, b = people(1500, 12, 2)
    true = every_answer(dict, x, a, y, b)
    assert every_answer(lambda: {"engine": Engine(cluster=two)}, x, a, y, b) == true


def test_killed_workers_change_no_bit(two: Cluster, monkeypatch: Any) -> None:
    for module, name, size in ((scan, "_BLOCK", 50_000), (screens, "ROWS", 8)):
        monkeypatch.setattr(module, name, size)
    x, a = people(2000, 12, 3)
    every, bars = np.arange(2000), np.full(2000, 0.3)
    true = told(allpairs.verify(x, a, fars=FARS)), allpairs.ranks(x, x, every, bars)
    kills = Killing(two, 0.2, 0.5)
    assert (
        told(allpairs.verify(x, a, fars=FARS, engine=Engine(cluster=two, progress=kills)))
        == true[0]
    )
    more = Killing(two, 0.1, 0.4, 0.7)
    spread = allpairs.ranks(x, x, every, bars, engine=Engine(cluster=two, progress=more))
    for alone, count in zip(true[1], spread, strict=True):
        np.testing.assert_array_equal(alone, count)
    assert len({*kills.killed, *more.killed}) == 5


def test_a_piece_is_tried_again_and_an_error_of_evalkits_is_not(
    two: Cluster, tmp_path: Path
) -> None:
    def fails_once(item: int) -> int:
        tried = tmp_path / str(item)
        if not tried.exists():
            tried.touch()
            raise OSError("for a moment")
        return item * item

    with closing(two.run(fails_once, {k: k for k in range(5)})) as done:
        assert sorted(done) == [(k, k * k) for k in range(5)]

    def refuses(item: int) -> int:
        with (tmp_path / "refused").open("a") as f:
            f.write("x")
        raise DataError("no such thing", "get one")

    with pytest.raises(EvalkitError, match="no such thing") as caught:
        list(two.run(refuses, {0: 0}))
    assert caught.value.hint == "get one" and (tmp_path / "refused").read_text() == "x"


def test_a_piece_that_kills_every_worker_is_told(two: Cluster) -> None:
    def ends(item: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(DataError, match="every worker that took one piece ended"):
        list(two.run(ends, {0: 0}))


def test_rows_reach_workers_by_the_name_of_a_file(two: Cluster, tmp_path: Path) -> None:
    x = people(300, 64, 1)[0]
    np.save(tmp_path / "x.npy", x)
    own = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert two.place(own) is own
    placed = two.place(x)
    assert two.place(x) is placed and not placed.flags.writeable
    np.testing.assert_array_equal(placed, x)
    job = workers.Blocks(scan.Scan(PairScores(Side(placed), None)), None, [])  # type: ignore[arg-type]
    with closing(two.run(lambda _: job._scan.x.pick(np.array([0])), {0: None})) as done:
        np.testing.assert_array_equal(next(done)[1], x[[0]])


def test_workers_keep_the_memory_they_freed(two: Cluster) -> None:
    """Dask's own setting doubles a worker's time: every array is asked of the system anew."""
    assert two._client is not None
    told = two._client.run(lambda: [os.environ.get(k) for k in cluster._MALLOC])
    assert all(each == ["134217728", "33554432"] for each in told.values())
    text = PAGE.read_text("utf-8") if PAGE.is_file() else None
    assert text is None or all(f"{k}={v}" in text for k, v in cluster._MALLOC.items())


def load(path: Path) -> adapters.Adapter:
    spec = presets.resolve(str(path), "arcface", size=(8, 8))
    return adapters.load(str(path), spec=spec)


def loader(path: Path) -> Callable[[], adapters.Adapter]:
    """Give `load` in a form that a worker, which has no tests, can make."""
    spec = presets.resolve(str(path), "arcface", size=(8, 8))
    return partial(adapters.load, str(path), spec=spec)


@pytest.mark.parametrize("zipped", [False, True])
def test_embedding_with_killed_workers_gives_the_file_of_one_process(
    two: Cluster, model: Path, tmp_path: Path, monkeypatch: Any, zipped: bool
) -> None:
    import shutil

    monkeypatch.setattr(embedder, "_PIECE", 4)
    where = faces(tmp_path / "faces", 120)
    (where / "P0" / "000.png").write_bytes(b"no image")
    if zipped:
        where = Path(shutil.make_archive(str(tmp_path / "faces"), "zip", where))
    source, kills = images.find(where), Killing(two, 0.2, 0.6)
    for name, options in (
        ("one.h5", {}),
        ("two.h5", {"cluster": two, "load": loader(model), "progress": kills}),
    ):
        path = tmp_path / name
        store = embedder.embed(
            load(model), source, source.manifest(), path, views=2, batch=4, **options
        )
        assert int(store.failed.sum()) == 1
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    assert len(kills.killed) == 2


def test_a_worker_with_another_model_is_told(two: Cluster, model: Path, tmp_path: Path) -> None:
    source = images.find(faces(tmp_path / "faces", 6))
    other = tmp_path / "other.onnx"
    import small_models

    small_models.save(other, layout="nhwc")
    spec = presets.resolve(str(other), "arcface", size=(8, 8), layout="nhwc")
    wrong = partial(adapters.load, str(other), spec=spec)
    with pytest.raises(EvalkitError, match="a worker would make other features: model"):
        embedder.embed(
            load(model), source, source.manifest(), tmp_path / "f.h5", cluster=two, load=wrong
        )
    assert not (tmp_path / "f.h5").exists()


def test_every_command_gives_the_same_report(
    two: Cluster, model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """`verify` and `megaface` embed on the workers, `megaface` compares there too."""
    monkeypatch.setattr(scan, "_BLOCK", 200)
    monkeypatch.setattr(screens, "ROWS", 2)
    monkeypatch.setattr(cluster, "Cluster", lambda where: nullcontext(two))
    where = faces(tmp_path / "faces", 60)
    keys = [p.relative_to(where).as_posix() for p in sorted(where.rglob("*.png"))]
    lines = [f"{a} {b} {int(a[:2] == b[:2])}" for a, b in pairwise(keys)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    people = {"path": keys[:30], "id": [k[:2] for k in keys[:30]]}
    (tmp_path / "P.json").write_text(json.dumps(people))
    (tmp_path / "D.json_30_1").write_text(json.dumps({"path": keys[30:]}))
    lists = ["--probe-list", tmp_path / "P.json", "--distractor-list", tmp_path / "D.json_30_1"]
    fed = ["--model", model, *FED, "--batch", 4, "--data", where]
    for name, given in {
        "verify": ["verify", tmp_path / "pairs.txt", *fed],
        "megaface": ["megaface", *lists, *fed],
    }.items():
        for number, more in (("one", []), ("two", ["--cluster", "local:2"])):
            monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / name / number))  # embeds anew
            out = ["--json", tmp_path / f"{name}.{number}"]
            assert run([*map(str, [*given, *more, *out])]) == 0
        one, spread = ((tmp_path / f"{name}.{n}").read_bytes() for n in ("one", "two"))
        assert one == spread


def test_a_stranger_on_this_machine_is_not_heard(two: Cluster) -> None:
    address = two._closing[1].scheduler_address
    assert address.startswith("tls://127.0.0.1:")
    for security, where in (
        ("None", address.replace("tls", "tcp")),  # without a key, and with another one
        ("Security.temporary()", address),
    ):
        tries = "from distributed import Client, Security\n"
        tries += f"Client({where!r}, security={security}, timeout=3)"
        done = subprocess.run([sys.executable, "-P", "-c", tries], capture_output=True, timeout=60)
        assert done.returncode == 1
        assert re.search(rb"Timed out|reset by peer|certificate", done.stderr), done.stderr
    assert two._folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's /proc")
def test_nothing_listens_beyond_this_machine(two: Cluster) -> None:
    """Scheduler and workers have ports on 127.0.0.1 only, in IPv4 and IPv6."""
    ours = {
        link.readlink().name
        for pid in (os.getpid(), *processes(two))
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if link.is_symlink() and str(link.readlink()).startswith("socket:")
    }
    listening = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    where = {w[1].partition(":")[0] for w in listening if f"socket:[{w[9]}]" in ours}
    assert where == {"0100007F"}


@pytest.mark.parametrize(
    ("visible", "seen", "built", "found"),
    [
        ("2,5", 2, True, ["2", "5"]),
        ("2,9", 1, True, ["2"]),  # CUDA stops at the first that is not there
        ("-1", 0, True, []),
        ("", 0, True, []),
        (None, 3, True, ["0", "1", "2"]),  # where /proc does not tell, as under WSL
        (None, 3, False, []),
    ],
)
def test_gpus_are_those_that_the_driver_lets_through_and_packages_use(
    visible: str | None, seen: int, built: bool, found: list[str], monkeypatch: Any
) -> None:
    there = Driver("13.0", tuple(Gpu(n, "H200", 1) for n in range(seen)), "")
    monkeypatch.setattr(gpus, "driver", lambda: there)
    monkeypatch.setattr(cluster, "_built_for_gpus", lambda: built)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cluster.gpus() == found


@pytest.mark.slow
def test_a_worker_sees_one_gpu(cache: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(cluster, "gpus", lambda: ["2", "5"])
    with Cluster("local") as workers:
        seen = workers._client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
    assert sorted(seen.values()) == ["2", "5"]


@pytest.mark.parametrize("where", ["here", "local:0", "local:two", "tcp://host", "host"])
def test_a_cluster_that_is_none_is_wrong_usage(where: str, capsys: Any) -> None:
    assert run(["trillion", "--features", "x.npy", "--cluster", where]) == 2
    assert "not one of local, local:2, tcp://host:8786" in capsys.readouterr().err


def test_a_scheduler_that_does_not_answer_is_one_line(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(cluster, "_JOIN_S", 1)
    np.save(tmp_path / "x.npy", people(30, 4, 0)[0][7:])
    (tmp_path / "who.txt").write_text("\n".join("aabbccdd" + "-" * 15))
    given = ["--features", str(tmp_path / "x.npy"), "--subjects", str(tmp_path / "who.txt")]
    assert run(["trillion", *given, "--cluster", "tcp://127.0.0.1:9"]) == 3
    error = capsys.readouterr().err
    assert "no scheduler answers at tcp://127.0.0.1:9" in error and "Traceback" not in error


# The driver


def alive(cache: Path) -> list[int]:
    """Processes that were started with this cache."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and str(cache).encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


SLOW = (
    "from evalkit.protocols.allpairs import scan, workers; import time\n"
    "from evalkit.protocols.allpairs.screening import screens\n"
    "scan._BLOCK, screens.ROWS = 50_000, 8\n"
    "workers.CHECKPOINT_EVERY_S = scan.CHECKPOINT_EVERY_S = 0.0\n"
    "from evalkit.protocols.allpairs import resume as c\nsave = c.save\n"
    "c.save = lambda *a: (save(*a), time.sleep(0.1))\n"
    "from evalkit.embedding import embedder\n"
    "embedder._PIECE = 4\n"
    "from evalkit.vectors.store import FeatureStore as F\n"
    "write = F.write\n"
    "F.write = lambda *a: (write(*a), time.sleep(0.02))\n"
)


def ended_when(
    begun: Callable[[], bool],
    given: list[object],
    cache: Path,
    sent: signal.Signals = signal.SIGKILL,
) -> None:
    """Start a command and end it and nothing else once `begun`; its workers end by themselves."""
    process = subprocess.Popen(
        command(*given, before=SLOW), env=environment(EVALKIT_CACHE=str(cache))
    )
    while not begun():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(alive(cache)) > 2 or "--cluster" not in given
    process.send_signal(sent)
    told = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 143}
    assert process.wait() == told[sent]
    until = time.monotonic() + 60
    while alive(cache):
        assert time.monotonic() < until, "workers outlive their driver"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["SIGKILL", "SIGINT", "SIGTERM"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_driver_that_is_ended_goes_on_from_its_checkpoint(
    tmp_path: Path, workers: int, sent: str
) -> None:
    x, a = people(2500, 12, 5)
    np.save(tmp_path / "x.npy", x[7:])
    who = ["-" if s < 0 or k > 900 else f"p{s}" for k, s in enumerate(a[7:])]
    (tmp_path / "who.txt").write_text("\n".join(who))
    given: list[object] = ["trillion", "--features", tmp_path / "x.npy"]
    given += ["--subjects", tmp_path / "who.txt", "--far", "1e-2", "--far", "1e-4"]
    spread = [*given, "--checkpoint", tmp_path / "job"]
    spread += ["--cluster", f"local:{workers}"] if workers else []
    cache = tmp_path / "cache"
    assert run([*map(str, given), "--json", str(tmp_path / "one.json")]) == 0
    done = 0

    def further() -> bool:
        return (tmp_path / "job").exists() and blocks() > done

    def blocks() -> int:
        with np.load(tmp_path / "job") as held:
            return len(held["done"])

    for _ in range(3):
        given = [*spread, "--json", tmp_path / "two.json"]
        ended_when(further, given, cache, signal.Signals[sent])
        assert blocks() > done and not (tmp_path / "two.json").exists()
        done = blocks()
    last = subprocess.run(
        command(*spread, "--json", tmp_path / "two.json", before=SLOW),
        env=environment(EVALKIT_CACHE=str(cache)),
    )
    assert last.returncode == 0
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert not list(tmp_path.glob("job*")) and not list(cache.glob("cluster/*"))


@pytest.mark.slow
def test_a_killed_driver_of_embedding_goes_on(model: Path, tmp_path: Path) -> None:
    from evalkit.vectors.store import FeatureStore

    given: list[object] = ["embed", "--model", model, *FED, "--batch", 2, "--views", 2]
    given += ["--data", faces(tmp_path / "faces", 400)]
    file, cache = tmp_path / "two.h5", tmp_path / "cache"
    assert run([*map(str, given), str(tmp_path / "one.h5")]) == 0
    left = 400

    def further() -> bool:
        if not file.exists():
            return False
        with FeatureStore.open(file) as begun:
            return len(begun.pending()) < left

    for _ in range(3):
        ended_when(further, [*given, file, "--cluster", "local:2"], cache)
        with FeatureStore.open(file) as begun:
            assert 0 < len(begun.pending()) < left
            left = len(begun.pending())
    done = subprocess.run(
        command(*given, file, "--cluster", "local:2"), env=environment(EVALKIT_CACHE=str(cache))
    )
    assert done.returncode == 0
    assert file.read_bytes() == (tmp_path / "one.h5").read_bytes()


@pytest.mark.parametrize("pages", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 6))])
def test_a_full_cache_of_a_cluster_is_one_line(
    tmp_path: Path, small_disk: Path, pages: int
) -> None:
    """Rows, jobs and answers go through it: no room for the first, or for later ones."""
    with (small_disk / "filler").open("wb", buffering=0) as f:
        try:
            while True:
                f.write(bytes(4096))
        except OSError:
            f.truncate(f.tell() - 4096 * pages)
    np.save(tmp_path / "x.npy", people(60, 64, 0)[0][7:])
    (tmp_path / "who.txt").write_text("\n".join("aabbccddeeff" + "-" * 41))
    given = ["trillion", "--features", tmp_path / "x.npy", "--subjects", tmp_path / "who.txt"]
    done = subprocess.run(
        command(*given, "--cluster", "local:1", "--out", tmp_path / "out.json"),
        env=environment(EVALKIT_CACHE=str(small_disk)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3 and not (tmp_path / "out.json").exists(), done.stderr
    assert done.stderr.count("\n") == 1 and "No space left on device" in done.stderr
    assert [p.name for p in small_disk.rglob("*") if p.is_file()] == ["filler"]


@pytest.mark.slow
def test_one_worker_and_twenty_kills(cache: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(scan, "_BLOCK", 50_000)
    monkeypatch.setattr(screens, "ROWS", 4)
    x, a = people(2500, 12, 6)
    true = told(allpairs.verify(x, a, fars=FARS))
    with Cluster("local:1") as one:
        assert told(allpairs.verify(x, a, fars=FARS, engine=Engine(cluster=one))) == true
    with Cluster("local:2") as workers:
        kills = Killing(workers, *np.linspace(0.02, 0.95, 20).tolist())
        engine = Engine(cluster=workers, progress=kills)
        assert told(allpairs.verify(x, a, fars=FARS, engine=engine)) == true
        assert len(kills.killed) == 20


@pytest.mark.skipif(not PAGE.is_file(), reason="no documents beside the tests")
def test_the_operators_page_does_what_it_says(model: Path, tmp_path: Path) -> None:
    """Every command of the page, with a scheduler and a worker that are not evalkit's."""
    for path in list(faces(tmp_path / "images", 30).rglob("*.png"))[:10]:
        path.rename(tmp_path / "images" / path.name)  # distractors, in nobody's folder
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = {"node1:8786": f"127.0.0.1:{port}", "node1": "127.0.0.1", "8786": port}
    here |= {"model.onnx": str(model), "arcface": "arcface --input-size 8x8 --batch 8"}
    text = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S))
    for a, b in here.items():
        text = text.replace(a, b)
    env, others, ran = environment(), list[subprocess.Popen[bytes]](), list[str]()
    try:
        for line in filter(str.strip, text.splitlines()):
            first, *words = [w for w in shlex.split(line) if "=" not in w or w.startswith("-")]
            ran.append(first)
            if first == "export":
                env["EVALKIT_CACHE"] = str(tmp_path / "cache")
                (tmp_path / "features.h5").rename(tmp_path / "local.h5")
            elif first == "dask":
                module = [sys.executable, "-m", "dask", *words]
                others.append(subprocess.Popen(module, env=env, cwd=tmp_path))
            elif first == "evalkit":
                assert subprocess.run(command(*words), env=env, cwd=tmp_path).returncode == 0, line
        assert all(process.poll() is None for process in others)
    finally:
        for process in reversed(others):
            process.terminate()
            process.wait()
    assert sorted(set(ran)) == ["dask", "evalkit", "export", "pip"] and len(others) == 2
    assert (tmp_path / "features.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()
    alone = ["trillion", "--features", str(tmp_path / "features.h5")]
    assert run([*alone, "--out", str(tmp_path / "alone.json")]) == 0
    assert (tmp_path / "alone.json").read_bytes() == (tmp_path / "trillion.json").read_bytes()
