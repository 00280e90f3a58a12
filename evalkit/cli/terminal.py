"""Standard output and error: the one place that prints, each line escaped."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO

import click

from evalkit.escaping import printable

_QUIET = "evalkit.quiet"
_results: list[TextIO] = []  # stdout, while a command has it to itself


def show(*lines: str, talk: bool = False) -> None:
    """Print a result on stdout, or where it is talk on stderr; a line each, whatever it holds."""
    if lines:
        _put("\n".join(map(printable, lines)), talk)


@contextmanager
def results_alone() -> Iterator[None]:
    """Keep stdout for results; what models, detectors and libraries print goes to stderr."""
    if _results:
        yield
        return
    _results.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _results.clear()


def be_quiet(quiet: bool) -> None:
    """Keep for the command that is running whether --quiet is given."""
    click.get_current_context().meta[_QUIET] = quiet


def is_quiet() -> bool:
    """Whether the command that is running was given --quiet."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_QUIET))


def say(*lines: str) -> None:
    """Tell the user on stderr what is not the result; nothing inside a command with --quiet."""
    if not is_quiet():
        show(*lines, talk=True)


def command(line: str, *, talk: bool = False) -> None:
    """Print a workflow command made by `evalkit.escaping.annotation`, which CI is to obey."""
    _put(line, talk)


def document(text: str) -> None:
    """Print a JSON document on stdout, in UTF-8 whatever the locale.

    In JSON only a text can hold what is not printable, and may spell it in ASCII.
    """
    spelled = (c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    _put("".join(spelled).encode(), talk=False)


def open_streams() -> None:
    """Give a standard stream that the shell closed the null device; escape what one cannot spell.

    Otherwise the next file opened would get the stream's number, and whoever prints would write
    into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 (to the end)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    for written in (sys.stdout, sys.stderr):
        if hasattr(written, "reconfigure"):
            written.reconfigure(errors="backslashreplace")
    warnings.showwarning = _warn


def close_streams() -> None:
    """Flush both streams; Python would tell what fails once more, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _abandon(stream)
    sys.stdout = sys.stderr  # what a model prints as the process ends is no result


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    show(f"warning: {message}", talk=True)


def _put(text: str | bytes, talk: bool) -> None:
    """Print; a reader that left (`| head -1`) wants no more, and talk that fails stops no work."""
    stream = sys.stderr if talk else (*_results, sys.stdout)[0]
    try:
        click.echo(text, stream)
    except BrokenPipeError:
        _abandon(stream)
    except OSError:
        if not talk:
            raise
        _abandon(stream)


def _abandon(stream: TextIO) -> None:
    """Let what a stream still holds, and all that follows, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
