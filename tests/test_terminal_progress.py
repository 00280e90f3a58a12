"""What a long command says where nobody looks, and what an interrupted one leaves."""

import io
import re
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest

from evalkit.cli import COMMANDS, load, output, run
from evalkit.cli.options import Command

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages


def test_a_line_a_minute_goes_into_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 59.0, 60.0, 60.0, 100.0, 121.0, 121.0])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    with output.bar("embedding", "image") as progress:
        for done in (100, 200, 300, 400, 1500):
            progress(done, 7701)
    told = capsys.readouterr().err.splitlines()
    assert told == ["embedding: 300 of 7,701 images", "embedding: 1,500 of 7,701 images"]


class Terminal(io.StringIO):
    """A stderr that somebody looks at."""

    def isatty(self) -> bool:
        return True


def test_a_bar_is_gone_when_its_task_is_done_and_the_next_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", seen := Terminal())
    with output.bar("pairs", "pair") as progress:
        assert seen.getvalue() == ""
        for done in (10, 20, 40):
            progress(done, 40)
        first = seen.getvalue()
        progress(300, 900)  # goes on from a checkpoint
    assert "pairs:  25%" in first and first.endswith("\r")
    assert re.findall(r"pairs: +(\d+)%", seen.getvalue().removeprefix(first)) == ["33"]


def test_a_task_that_grows_is_measured_by_its_new_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", seen := Terminal())
    with output.bar("trying", "spec") as progress:
        progress(0, 4)
        time.sleep(0.15)  # a bar is drawn ten times a second
        progress(2, 8)
    assert re.findall(r"trying: +(\d+)%", seen.getvalue()) == ["0", "25"]


def test_time_left_is_not_told_from_a_slow_first_twentieth(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: clock[0])
    monkeypatch.setattr(sys, "stderr", seen := Terminal())
    with output.bar("pairs", "pair") as progress:
        progress(300, 400)  # goes on from a checkpoint
        for done in range(301, 400):
            clock[0] += 10 if done <= 305 else 1  # 50 s for the first 5, 95 s for the rest
            progress(done, 400)
    told = re.findall(r"([\d.]+)/400 \[(\d\d):(\d\d)<(\d\d):(\d\d)", seen.getvalue())
    ends = {int(n): 60 * (int(a) + int(c)) + int(b) + int(d) for n, a, b, c, d in map(tuple, told)}
    assert len(ends) > 50 and {end for n, end in ends.items() if n > 305} == {145}


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
@pytest.mark.parametrize(("command", "known"), [("trillion", 300), ("people", 900)])
def test_comparing_all_pairs_shows_how_far_it_is(
    command: str, known: int, quiet: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).normal(size=(900, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    who = [str(i // 2) if i < known else "-" for i in range(len(x))]
    (tmp_path / "who.txt").write_text("\n".join(who), encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", seen := Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    given = ["--features", str(tmp_path / "x.npy"), "--subjects", str(tmp_path / "who.txt")]
    assert run([command, *given, *quiet]) == 0
    assert ("pairs: " in seen.getvalue()) is (not quiet)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "m.onnx"], "the vectors made so far are kept"),
        (["--checkpoint", "c.bin"], "goes on from c.bin"),
        ([], "with --checkpoint FILE they would go on"),
    ],
)
def test_ctrl_c_says_what_goes_on(
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @click.command("trillion", cls=Command)
    @click.option("--model")
    @click.option("--checkpoint")
    def pressed(model: str | None, checkpoint: str | None) -> None:
        raise KeyboardInterrupt

    load("trillion")
    monkeypatch.setattr("evalkit.cli.trillion.command", pressed)
    assert "trillion" in COMMANDS and run(["trillion", *words]) == 130
    *before, last = capsys.readouterr().err.splitlines()
    assert told in "\n".join(before) and last == "evalkit: interrupted"
