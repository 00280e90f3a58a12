"""Where evalkit is started: without a home, with closed streams, pipes for files, odd variables."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from evalkit.cli import run
from evalkit.errors import DataError
from evalkit.files import cache_folder

pytestmark = pytest.mark.once

SCORES = "1 .9\n0 .1\n1 .8\n0 .2\n"
VARIABLES = ("EVALKIT_CACHE", "XDG_CACHE_HOME", "HOME")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with scores, a report, a worse one and a gate that it fails."""
    monkeypatch.chdir(tmp_path)
    Path("s.txt").write_text(SCORES)
    assert run(["score", "s.txt", "--out", "s.json", "--quiet"]) == 0
    worse = json.loads(Path("s.json").read_text())
    worse["metrics"]["auc"]["value"] = 0.5
    Path("worse.json").write_text(json.dumps({**worse, "outcomes_sha256": None}))
    Path("g.toml").write_text("[[rule]]\nmetric = 'auc'\ntest = 'plain'\n")
    return tmp_path


# No home


def test_a_user_without_a_home_is_told_which_variable_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def unknown(_: object) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(DataError, match="no home folder") as e:
        cache_folder()
    assert "EVALKIT_CACHE" in e.value.hint
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "evalkit"
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_home_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"the cache .*file.* cannot be made: Not a directory") as e:
        cache_folder()
    assert "EVALKIT_CACHE" in e.value.hint


# Streams

LINES = {
    "score s.txt": 0,
    "list": 0,
    "--help": 0,
    "cache": 2,
    "score s.txt --json -": 0,
    "score s.txt --out o.json": 0,
    "score nope.txt": 3,
    "score --nonsense": 2,
    "gate s.json --baseline s.json --rules g.toml": 0,
    "gate worse.json --baseline s.json --rules g.toml": 1,
}
# Each line in each state of the streams, in a fork of one process that has imported everything.
FORKS = """
import json, os, sys
from evalkit.cli import COMMANDS, gate, list, main, score
if sys.argv[3:]:
    import pwd
    def unknown(_): raise KeyError
    pwd.getpwuid = pwd.getpwnam = unknown
    for name in ("HOME", "XDG_CACHE_HOME", "EVALKIT_CACHE"): os.environ.pop(name, None)
names = ("stdin", "stdout", "stderr")
codes = {}
for state in json.loads(sys.argv[1]):
    for line in json.loads(sys.argv[2]):
        said, told = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.dup2(told, 2)
            os.close(told)
            os.close(said)
            for number, how in enumerate(state):
                if how == "closed":
                    os.close(number)
                    setattr(sys, names[number], None)
                elif how == "left":
                    read, write = os.pipe()
                    os.close(read)
                    os.dup2(write, number)
                elif how:
                    os.dup2(os.open(how, os.O_RDWR), number)
            main(line.split())
        os.close(told)
        with open(said, "rb") as f:
            stderr = f.read().decode()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        codes[json.dumps([state, line])] = [code, stderr]
json.dump(codes, open("codes.json", "w"))
"""


def forked(states: list[list[str]], lines: list[str], *more: str) -> dict[str, tuple[int, str]]:
    given = [json.dumps(states), json.dumps(lines), *more]
    subprocess.run([sys.executable, "-P", "-c", FORKS, *given], check=True, capture_output=True)
    found: dict[str, tuple[int, str]] = json.loads(Path("codes.json").read_text())
    for where, (_, stderr) in found.items():
        assert "Traceback" not in stderr, (where, stderr)
    return found


CLOSED = [
    ["", "closed", ""],
    ["", "", "closed"],
    ["closed", "closed", "closed"],
    ["closed", "", ""],
]


def test_closed_streams_are_the_null_device(folder: Path) -> None:
    for where, (code, _) in forked(CLOSED, [*LINES]).items():
        assert code == LINES[json.loads(where)[1]], where
    assert json.loads((folder / "o.json").read_text())["protocol"] == "score"


def test_a_reader_that_left_changes_no_verdict(folder: Path) -> None:
    for where, (code, _) in forked([["", "left", ""], ["", "left", "left"]], [*LINES]).items():
        line = json.loads(where)[1]
        assert code == LINES[line] or (code == 3 and line == "--help"), where


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_streams_are_no_closed_gate(folder: Path) -> None:
    for where, (code, _) in forked([["", "", "/dev/full"]], [*LINES]).items():
        assert code == LINES[json.loads(where)[1]], where
    for where, (code, _) in forked([["", "/dev/full", "/dev/full"]], [*LINES]).items():
        assert code == (2 if LINES[json.loads(where)[1]] == 2 else 3), where
    assert (folder / "o.json").is_file()  # though the table found no room


def test_what_needs_no_cache_works_without_a_home(folder: Path) -> None:
    lines = ["score s.txt", "report s.json", "compare s.json worse.json"]
    for where, (code, _) in forked([["", "", ""]], lines, "no home").items():
        assert code == 0, where


@pytest.mark.parametrize("code", [0, 1, None, "words"])
def test_a_model_that_ends_the_program_has_not_failed_a_gate(
    folder: Path,
    code: object,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ends(*_: object) -> None:
        sys.exit(code)  # type: ignore[arg-type]

    monkeypatch.setattr("evalkit.report.read", ends)
    assert run(["report", "s.json"]) == 3
    assert "ended the program" in capsys.readouterr().err


# Pipes, devices and odd names


@pytest.fixture
def piped(folder: Path) -> Iterator[Callable[[str, str], None]]:
    """Name a pipe that another thread writes a file's text into."""
    threads = []

    def pipe(name: str, text: str) -> None:
        os.mkfifo(name)
        threads.append(Thread(target=Path(name).write_text, args=(text,), daemon=True))
        threads[-1].start()

    yield pipe
    for thread in threads:
        thread.join(timeout=10)


def test_scores_reports_and_rules_come_through_pipes(
    piped: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["score", "s.txt"]) == 0
    usual = capsys.readouterr().out.partition("\n")[2]
    piped("scores", SCORES)
    assert run(["score", "scores"]) == 0
    assert capsys.readouterr().out.partition("\n")[2] == usual
    piped("report", Path("s.json").read_text())
    assert run(["report", "report"]) == 0
    piped("rules", Path("g.toml").read_text())
    assert run(["gate", "worse.json", "--baseline", "s.json", "--rules", "rules"]) == 1


def test_a_dash_is_stdin(folder: Path) -> None:
    code = "from evalkit.cli import main; main()"
    given = [sys.executable, "-P", "-c", code, "score", "-"]
    done = subprocess.run(given, input=SCORES, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("stdin: 4 scored pairs")


def test_garbage_is_looked_for_once_a_command_is_imported(folder: Path) -> None:
    code = "import atexit, gc, os; atexit.register(lambda: os._exit(10 + gc.isenabled()))\n"
    code += "from evalkit.cli import main; main()"
    for line, found in (["score", "s.txt"], 11), (["--version"], 10):
        given = [sys.executable, "-P", "-c", code, *line]
        assert subprocess.run(given, capture_output=True, check=False).returncode == found


def test_one_pipe_is_not_two_reports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("p")
    assert run(["compare", "p", "p"]) == 3
    assert "p is given twice and can be read once" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    ["score s.txt --pairs p", "verify p --features s.txt", "lfw --features p --keys s.txt"],
)
def test_a_pipe_that_would_be_read_twice_is_one_line(
    folder: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("p")
    assert run(line.split()) == 3
    assert ": p is a pipe or device" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["\udcff.txt", "a\nb.txt", "\u202e.txt", "-.txt"])
def test_any_name_of_a_file_will_do(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        Path(name).write_text(SCORES)
    except OSError:
        pytest.skip("this file system knows only UTF-8 names")
    assert run(["score", f"./{name}", "--out", f"./{name}.json"]) == 0
    assert run(["report", f"./{name}.json"]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 49 and all(line.isprintable() for line in lines)


# Variables


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"EVALKIT_SCORE_FAR": "nonsense"}, 2),
        ({"EVALKIT_SCORE_DISTANCE": "perhaps"}, 2),
        ({"EVALKIT_SCORE_OUT": "nowhere/o.json"}, 3),
        ({"EVALKIT_SCORE_SCORES": "", "EVALKIT_NONSENSE": "1"}, 0),
        ({"TERM": "dumb", "COLUMNS": "1", "LINES": "x", "NO_COLOR": "1"}, 0),
        ({"COLUMNS": "nonsense", "TERM": ""}, 0),
    ],
)
def test_variables_are_told_or_do_not_matter(
    folder: Path,
    variables: dict[str, str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run(["score", "s.txt"]) == code
    assert run(["score", "--help"]) == 0
    assert "Traceback" not in capsys.readouterr().err
