"""A file is whole or as it was, at whatever instant its writer dies, and stays what it is."""

import gzip
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evalkit
from evalkit import files
from evalkit import report as reports
from evalkit.errors import DataError, ReportError
from evalkit.files import whole_file
from evalkit.protocols.allpairs import resume
from evalkit.report import replaced_together
from evalkit.types import Estimate, Report

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(os.name != "posix", reason="signals, links and modes of POSIX"),
]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(evalkit.__file__).parents[1])}
WRITE = (
    "import sys, pathlib; from evalkit.files import whole_file\n"
    "with whole_file(pathlib.Path(sys.argv[1])) as f: f.write(b'within\\n')"
)


def put(path: Path, data: bytes) -> None:
    with whole_file(path) as f:
        f.write(data)


@pytest.fixture(autouse=True)
def as_a_new_process() -> None:
    files._remove_leftovers.cache_clear()


# What a path leads to


def test_the_mode_of_a_replaced_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for mode in (0o600, 0o640, 0o666, 0o755):
        path.write_text("old")
        path.chmod(mode)
        put(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() == b"new"
    asked = os.umask(0o027)
    try:
        put(tmp_path / "fresh", b"")
    finally:
        os.umask(asked)
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_of_a_replaced_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    os.chown(path, 12345, 54321)
    put(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_a_link_stays_and_leads_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for target in ("far/there", "far/not yet"):
        link = tmp_path / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        if target == "far/there":
            link.write_text("old")
        put(link, b"new")
        assert link.is_symlink() and (tmp_path / target).read_bytes() == b"new"
        assert not (tmp_path / target).is_symlink()
    link.unlink()
    link.symlink_to("nowhere/x")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        put(link, b"")


def test_a_pipe_and_a_link_to_one_are_written_into(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("pipe")
    got: list[bytes] = []
    for path in (pipe, link):
        reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
        reader.start()
        put(path, b"new")
        reader.join()
    assert got == [b"new", b"new"] and pipe.is_fifo() and link.is_symlink()


def test_a_device_is_written_into(tmp_path: Path, null: Path) -> None:
    link = tmp_path / "nothing.json"
    link.symlink_to(null)
    before = sorted(tmp_path.iterdir())
    for path in (null, link):
        put(path, b"new")
        reports.write(report(1), path)  # alone: there is no place beside it
    assert link.is_symlink() and null.is_char_device() and sorted(tmp_path.iterdir()) == before


def test_outcomes_need_a_file(tmp_path: Path, null: Path) -> None:
    (tmp_path / "r.npz").symlink_to(null)
    with pytest.raises(ReportError, match=r"r\.npz is not a regular file"):
        reports.write(report(1), tmp_path / "r.json")
    assert null.is_char_device() and not (tmp_path / "r.json").exists()


def test_a_socket_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="No such device or address"):
            put(tmp_path / "s", b"new")
    assert (tmp_path / "s").is_socket()


@pytest.mark.parametrize("name", ["/dev/fd/1", "/proc/self/fd/1", "stdout"])
@pytest.mark.parametrize("into", ["file", "pipe", "socket"])
def test_an_open_handle_is_written_into_where_it_stands(
    tmp_path: Path, name: str, into: str
) -> None:
    """As /dev/stdout, which is a link like `stdout` here."""
    if not Path(name).parent.exists():
        pytest.skip("this system has no such names")
    (tmp_path / "stdout").symlink_to("/dev/fd/1")
    given = [
        sys.executable,
        "-P",
        "-c",
        f"print('before', flush=True)\n{WRITE}\nprint('after')",
        name,
    ]
    how: dict[str, Any] = {"check": True, "cwd": tmp_path, "env": ENVIRONMENT}
    if into == "file":
        with (tmp_path / "got").open("wb") as out:
            subprocess.run(given, stdout=out, **how)
        got = (tmp_path / "got").read_bytes()
    elif into == "pipe":
        got = subprocess.run(given, stdout=subprocess.PIPE, **how).stdout
    else:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            subprocess.run(given, stdout=theirs, **how)
            got = ours.recv(100)
    assert got == b"before\nwithin\nafter\n"


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    path = tmp_path / ("n" * (longest - 5) + ".json")
    for n in (1, 2):
        reports.write(report(n), path)
        assert number(reports.read(path)) == n
    resume.save(path, "float64", "job", [], {0}, [])
    with pytest.raises(OSError, match="File name too long"):
        put(tmp_path / ("n" * (longest + 1)), b"")


def test_the_disk_has_a_file_before_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    rename, fsync = Path.replace, os.fsync

    def synced(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    put(tmp_path / "x", b"new")
    assert done == ["file", "rename", "folder"]
    reports.write(report(1), tmp_path / "r.json")  # outcomes, report, outcomes to their own name
    assert done[3:] == ["file", "rename", "folder"] * 2 + ["rename", "folder"]


def test_a_handle_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with (tmp_path / "x").open("rb") as f, pytest.raises(OSError, match="/dev/fd/"):
        put(Path(f"/dev/fd/{f.fileno()}"), b"new")


# What a killed writer leaves


def killed(work: Callable[[], object], after: int, kinds: tuple[str, ...]) -> bool:
    """Do the work in a child that is killed at its n-th system call of these kinds, if it has one.

    Python's audit events stand for the calls: an event comes before its call is made.
    """
    child = os.fork()
    if child == 0:
        left = after

        def count(event: str, _: object) -> None:
            nonlocal left
            left -= event in kinds
            if left == 0:
                signal.raise_signal(signal.SIGKILL)

        fsync = os.fsync

        def told(handle: int) -> None:
            sys.audit("os.fsync", handle)
            fsync(handle)

        os.fsync = told
        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


CALLS = ("open", "os.fsync", "os.rename", "os.remove", "os.chmod", "os.chown", "fcntl.flock")


def report(n: int, outcomes: bool = True) -> Report:
    """A report of which JSON and outcomes say the same number."""
    arrays = {"score": np.full(50, float(n))} if outcomes else None
    metrics = {"auc": Estimate(value=n / 10, n=50)}
    return Report(protocol="score", protocol_version=1, metrics=metrics, outcomes=arrays)


def number(held: Report) -> int:
    """The number that JSON and outcomes agree on."""
    found = round(10 * (held.metrics["auc"].value or 0))
    assert held.outcomes is None or held.outcomes["score"].tolist() == [found] * 50
    return found


@pytest.mark.parametrize(
    ("old", "new"), [(None, True), (True, True), (True, False), (False, True)], ids=str
)
def test_a_report_and_its_outcomes_are_replaced_together_wherever_it_dies(
    tmp_path: Path, old: bool | None, new: bool
) -> None:
    instants = 0
    while True:
        folder = tmp_path / f"at{instants}"
        folder.mkdir()
        path = folder / "r.json"
        if old is not None:
            reports.write(report(1, old), path)
        if not killed(lambda: reports.write(report(2, new), path), instants + 1, CALLS):  # noqa: B023
            break
        instants += 1
        if old is None and not path.exists():
            with pytest.raises(ReportError, match="no report"):
                reports.read(path)
        else:
            first = reports.read(path)
            assert (first.outcomes is not None) == {1: old, 2: new}[number(first)]
            assert number(reports.read(path)) == number(first)
            for each in ("r.json", "r.npz"):  # what a user copies is that pair too
                if (folder / each).exists():
                    (folder / f"copy{each[1:]}").write_bytes((folder / each).read_bytes())
            assert number(reports.read(folder / "copy.json")) == number(first)
        files._remove_leftovers.cache_clear()
        reports.write(report(3), path)
        assert number(reports.read(path)) == 3
        assert {p.name for p in folder.iterdir()} <= {"r.json", "r.npz", "copy.json", "copy.npz"}
    assert instants >= 10
    assert number(reports.read(path)) == 2


def test_a_file_is_whole_or_as_it_was_wherever_its_writer_dies(tmp_path: Path) -> None:
    path, instants = tmp_path / "x", 0
    put(path, b"old")
    while killed(lambda: put(path, b"new"), instants + 1, CALLS):
        instants += 1
        assert path.read_bytes() in (b"old", b"new")
        assert len(list(tmp_path.glob(".evalkit-*.partial"))) <= 1
        files._remove_leftovers.cache_clear()
        put(tmp_path / "another", b"")
        path.write_bytes(b"old")
        assert {p.name for p in tmp_path.iterdir()} == {"x", "another"}
    assert instants >= 5 and path.read_bytes() == b"new"


def test_the_partial_file_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    with whole_file(tmp_path / "slow") as f:
        f.write(b"slow")
        put(tmp_path / "quick", b"quick")
        given = [sys.executable, "-P", "-c", WRITE, str(tmp_path / "other")]
        subprocess.run(given, check=True, env=ENVIRONMENT)
    assert {p.name for p in tmp_path.iterdir()} == {"slow", "quick", "other"}


def test_a_folder_that_somebody_has_locked_is_written_into(tmp_path: Path) -> None:
    """As by `flock FOLDER evalkit ...`, which holds the lock until evalkit is done."""
    fcntl = pytest.importorskip("fcntl")
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    reports.write(report(1), tmp_path / "r.json")
    os.close(handle)
    assert number(reports.read(tmp_path / "r.json")) == 1


def test_a_report_read_while_it_is_replaced_is_one_of_the_two(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    reports.write(report(1), path)
    child = os.fork()
    if child == 0:
        try:
            for n in range(40):
                reports.write(report(1 + n % 9), path)
        finally:
            os._exit(0)
    reads = 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert number(reports.read(path)) in range(1, 10)
        assert reports.read(path).outcomes is not None
        reads += 1
    assert reads


def test_two_writers_of_one_report_leave_a_pair(tmp_path: Path) -> None:
    path, children = tmp_path / "r.json", []
    for n in (1, 2, 3):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(15):
                    reports.write(report(n), path)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert number(reports.read(path)) in (1, 2, 3)
    assert {p.name for p in tmp_path.iterdir()} == {"r.json", "r.npz"}


def test_a_digest_that_is_no_name_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    reports.write(report(1), path)
    text = path.read_text()
    digest = text.split('"outcomes_sha256": "')[1].split('"')[0]
    for other in ("../x", "*", "a/b", "\\ud800", "0" * 9999):
        path.write_text(text.replace(digest, other))
        with pytest.raises(ReportError, match="is not the outcomes of the report beside it"):
            reports.read(path)
        replaced_together.finish(path)
        assert (tmp_path / "r.npz").exists()


def test_outcomes_of_a_report_without_their_digest_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    reports.write(report(1), path)
    lines = path.read_text().splitlines()
    text = "\n".join(line for line in lines if "outcomes_sha256" not in line)[:-3] + "\n}"
    path.write_text(re.sub('"version": [0-9]+', '"version": 1', text))
    assert "outcomes_sha256" not in path.read_text()
    assert reports.read(path).outcomes is not None


def test_a_packed_list_is_told_how_to_unpack_it(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt.gz").write_bytes(gzip.compress(b"a.png b.png 1"))
    with pytest.raises(DataError, match="is not a text file: byte 1") as told:
        files.read_text(tmp_path / "pairs.txt.gz")
    assert told.value.hint == "unpack it first: gunzip pairs.txt.gz"
