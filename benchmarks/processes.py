"""Commands of evalkit run in a process of their own: seconds, processor time, anonymous memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Run:
    """A command that ran.

    wall, used : seconds by the clock and of the processor.  anonymous : the most bytes that no file
    backed.  code, told : how it ended, and what it said on stderr.  left : of a run that was
    watched, seconds since its begin and seconds left, as its bar gave them, rising.
    """

    wall: float
    used: float
    anonymous: float
    code: int
    told: str
    left: list[tuple[float, float]] = field(default_factory=list)


def command(
    words: Sequence[str],
    code: str = "",
    kill_after: float | None = None,
    shown: bool = False,
    watched: bool = False,
) -> Run:
    """Run the command line in a process of its own, with its bytecode kept outside the checkout.

    code : runs before it.  kill_after : seconds.  shown : what it prints is seen, and not kept.
    watched : its stderr is a terminal, so that bars are drawn there.
    """
    started = f"{code}from evalkit.cli import main; main()"
    kept = Path(tempfile.gettempdir()) / f"evalkit-bytecode-{os.getuid()}"
    here = {
        **os.environ,
        "PYTHONPYCACHEPREFIX": str(kept),
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    here.pop("PYTHONDONTWRITEBYTECODE", None)
    held, begun = [0.0], time.perf_counter()
    left: list[tuple[float, float]] = []
    with tempfile.TemporaryFile("w+") as told:
        screen, terminal = os.openpty() if watched else (None, None)
        child = subprocess.Popen(
            [sys.executable, "-c", started, *words],
            env=here,
            stdout=None if shown else subprocess.DEVNULL,
            stderr=terminal if watched else None if shown else told,
        )
        if screen is not None and terminal is not None:
            termios.tcsetwinsize(screen, (24, 100))  # a bar is as wide as its terminal
            os.close(terminal)
            reader = threading.Thread(target=_read, args=(screen, told, begun, left))
            reader.start()
        timer = threading.Timer(kill_after or 0, child.kill)
        if kill_after is not None:
            timer.start()
        ended = threading.Event()
        sampler = threading.Thread(target=_sample, args=(child.pid, ended, held), daemon=True)
        sampler.start()
        _, status, spent = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begun
        ended.set()
        timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        if watched:
            reader.join()
        told.seek(0)
        text = told.read()
    return Run(wall, spent.ru_utime + spent.ru_stime, held[0], child.returncode, text, left)


def _sample(pid: int, ended: threading.Event, held: list[float]) -> None:
    """Note what a process holds, every 20 ms until it has ended."""
    while not ended.wait(0.02):
        held[0] = max(held[0], anonymous(pid))


def _read(screen: int, told: IO[str], begun: float, left: list[tuple[float, float]]) -> None:
    """Read a terminal until it is closed; keep the time left of every bar, [mm:ss<mm:ss, .."""
    while True:
        try:
            drawn = os.read(screen, 1 << 16).decode(errors="replace")
        except OSError:  # the command has ended
            os.close(screen)
            return
        told.write(drawn)
        now = time.perf_counter() - begun
        for hours, minutes, seconds in re.findall(r"<(?:(\d+):)?(\d+):(\d\d)[,\]]", drawn):
            left.append((now, 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds)))


def anonymous(pid: int) -> float:
    """Bytes that no file backs; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(s.split()[1]) * 1024 for s in lines if s.startswith("RssAnon")), 0.0)


def done(run: Run) -> Run:
    """Pass on a run that went well."""
    if run.code:
        raise RuntimeError(f"exit code {run.code}: {run.told.strip()[-300:]}")
    return run
