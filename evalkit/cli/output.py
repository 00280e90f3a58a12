"""Where the result of a command goes."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit import report as reports
from evalkit.cli.options import Option, quiet_option, received_as
from evalkit.cli.parameters import STDOUT, Baseline, Writable
from evalkit.cli.terminal import document, is_quiet, say, show
from evalkit.datasets.pair_list import DOUBTS
from evalkit.datasets.trillion import ALIKE
from evalkit.errors import EXIT_DONE
from evalkit.escaping import printable
from evalkit.files import whole_file
from evalkit.replacing import DOCUMENT, REPORT
from evalkit.report.table import table
from evalkit.types import Progress, Report
from evalkit.vectors.matching import CACHE
from evalkit.vectors.shared import BOTH_LABELS, ONE_FILE, ONE_NAME, SHARED

if TYPE_CHECKING:
    from tqdm import tqdm

_MINUTE = 60.0  # seconds between lines where nobody is looking
_WARMING = 0.05  # share of a task that its time left does not follow from
_of_result = functools.partial(click.option, cls=Option, section="Result")

json_option = _of_result(
    "--json",
    "json_path",
    type=Writable(allow_dash=True, mark=DOCUMENT),
    is_flag=False,
    flag_value="-",
    metavar="FILE",
    help="Write the result as JSON instead of the table; - is stdout.",
)


def warn_of_turned(report: Report, hint: str) -> None:
    """Say where genuine pairs score below impostors: labels turned round, or distances."""
    auc = report.metrics["auc"].value
    if auc is not None and auc < 0.5:
        say(f"warning: genuine pairs score below impostors, AUC {auc:.5f}: {hint}")


def write_json(text: str, path: Path) -> None:
    """Write a JSON document to a file or to stdout, in UTF-8 whatever the locale."""
    if path == STDOUT:
        document(text)
        return
    with whole_file(path) as f:
        f.write(f"{text}\n".encode())


@contextmanager
def bar(what: str, unit: str) -> Iterator[Progress]:
    """Draw progress on stderr, with rate and time left, where somebody is looking.

    Into a file or the log of a CI system a line per minute goes instead, none with --quiet.
    Yields the function to call with (done, total), in any thread; what is done leaves no trace, and
    a task that follows has a bar of its own.
    """
    watched, quiet = sys.stderr.isatty(), is_quiet()
    last = time.monotonic()
    drawn: tqdm[Any] | None = None

    def progress(done: int, total: int) -> None:
        nonlocal last, drawn
        if quiet:
            return
        if not watched:
            if time.monotonic() - last >= _MINUTE:
                last = time.monotonic()
                say(f"{what}: {done:,} of {total:,} {unit}s")
            return
        if drawn is None:  # what an earlier run did is not this run's speed
            drawn = _drawn(printable(what), unit, done, total)
        drawn.total = total
        drawn.update(done - drawn.n)
        if done >= total:
            drawn.close()
            drawn = None

    try:
        yield progress
    finally:
        if drawn is not None:
            drawn.close()


def _drawn(what: str, unit: str, done: int, total: int) -> tqdm[Any]:
    """Open a bar whose time left follows from the speed after the first twentieth.

    The first tiles or images also load, compile and find their cuts: their speed is not the rest's.
    """
    from tqdm import tqdm  # takes longer to import than most commands talk

    class Bar(tqdm):  # type: ignore[misc]  # it tells no types
        warm: tuple[int, float] | None = None  # done then, seconds since the begin

        @property
        def format_dict(self) -> Any:
            shown = super().format_dict
            n, elapsed = shown["n"], shown["elapsed"]
            if self.warm is not None and elapsed > self.warm[1]:
                shown["rate"] = (n - self.warm[0]) / (elapsed - self.warm[1])
            elif self.warm is None and n - done >= _WARMING * (self.total - done):
                self.warm = n, elapsed
            return shown

    return Bar(
        desc=what,
        unit=unit,
        unit_scale=True,
        initial=done,
        total=total,
        smoothing=0,
        leave=False,
    )


@dataclass(frozen=True, slots=True)
class Output:
    """Where a result goes: the table to stdout, or JSON instead; a report file.

    named : the set that was measured, as `--set` calls it.
    """

    json_path: Path | None
    out: Path | None
    gate: Report | None = None
    named: str | None = None

    @property
    def kept(self) -> bool:
        """Whether more of the result is wanted than its table shows."""
        return self.json_path is not None or self.out is not None

    def set_name(self, path: Path | None) -> str | None:
        """Name the set that a report is of: by `--set`, else as the file of its list, if any."""
        return self.named or (None if path is None else path.stem)

    def deliver(self, report: Report, title: str) -> int:
        """Print the report as a table, or write it where `--json` and `--out` ask for it.

        What this run took from the cache is kept by `--out` alone: the result is the same without.
        Returns the exit code: that of the gate, where `--gate` names a baseline.
        """
        result = {k: v for k, v in report.provenance.items() if k != CACHE}
        warn_of(report)
        try:
            if self.json_path is None:
                show(*table(report, title).split("\n"))
            else:
                document = reports.dumps(replace(report, provenance=result))
                write_json(document.rstrip(), self.json_path)
        finally:  # hours of work must not be lost with the terminal
            if self.out is not None:
                reports.write(report, self.out)
                say(f"report written to {self.out}")
        if self.gate is None:
            return EXIT_DONE
        from evalkit.cli.verdict import apply_gate  # most reports are held against none

        return apply_gate(report, self.gate, talk=self.json_path == STDOUT)


def warn_of(report: Report, of: str = "") -> None:
    """Say on stderr what a report keeps of doubtful pairs, names and vectors.

    of : what its lines begin with, where there are several reports.
    """
    for doubt in (*DOUBTS, ALIKE, SHARED, ONE_FILE, BOTH_LABELS, ONE_NAME):
        if same := report.provenance.get(doubt):
            say(f"warning: {of}{same}")


def _output(
    json_path: Path | None, out: Path | None, gate: Path | None, named: str | None
) -> Output:
    if gate is None:
        return Output(json_path, out, None, named)
    from evalkit.cli.verdict import read_baseline

    return Output(json_path, out, read_baseline(gate), named)


output_options = received_as(
    "output",
    _output,
    (
        json_option,
        _of_result(
            "--out",
            type=Writable(endings=(".json",), beside=".npz", mark=REPORT),
            metavar="FILE.json",
            help="Keep the report in FILE.json, its outcomes in FILE.npz.",
        ),
        _of_result(
            "--gate",
            type=Baseline(),
            metavar="BASELINE.json",
            help="Exit with 1 if significantly worse than this report.",
        ),
        _of_result(
            "--set",
            "named",
            metavar="NAME",
            help="Name of the set, by which reports are compared.  [default: that of its list]",
        ),
        quiet_option("Result"),
    ),
)
