"""Where the result of a command goes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from evalkit import report as reports
from evalkit.cli.options import Option, quiet_option
from evalkit.cli.parameters import STDOUT, Baseline, Writable
from evalkit.cli.terminal import document, say, show
from evalkit.cli.verdict import hold, read_baseline
from evalkit.errors import EXIT_DONE
from evalkit.escaping import printable
from evalkit.files import whole_file
from evalkit.report.table import table
from evalkit.types import Progress, Report
from evalkit.vectors.matching import CACHE

_of_result = functools.partial(click.option, cls=Option, section="Result")

json_option = _of_result(
    "--json",
    "json_path",
    type=Writable(allow_dash=True),
    is_flag=False,
    flag_value="-",
    metavar="FILE",
    help="JSON instead of a table; - is stdout.",
)


def write_json(text: str, path: Path) -> None:
    """Write a JSON document to a file or to stdout, in UTF-8 whatever the locale."""
    if path == STDOUT:
        document(text)
        return
    with whole_file(path) as f:
        f.write(f"{text}\n".encode())


@dataclass(frozen=True, slots=True)
class Output:
    """Where a result goes: the table to stdout, or JSON instead; a report file; talk to stderr.

    named : the set that was measured, as `--set` calls it.
    """

    json_path: Path | None
    out: Path | None
    quiet: bool
    gate: Report | None = None
    named: str | None = None

    def set_name(self, path: Path | None) -> str | None:
        """Name the set that a report is of: by `--set`, else as the file of its list, if any."""
        return self.named or (None if path is None else path.stem)

    def say(self, *lines: str) -> None:
        """Tell the user something that is not the result."""
        if not self.quiet:
            say(*lines)

    @contextmanager
    def bar(self, what: str, unit: str) -> Iterator[Progress]:
        """Draw progress on stderr, with rate and time left, where somebody is looking.

        Yields the function to call with (done, total).
        """
        silent = self.quiet or not sys.stderr.isatty()
        with tqdm(
            desc=printable(what), unit=unit, unit_scale=True, disable=silent, leave=False
        ) as drawn:

            def progress(done: int, total: int) -> None:
                if drawn.total is None:  # what an earlier run did is not this run's speed
                    drawn.initial = drawn.n = done
                drawn.total = total
                drawn.update(done - drawn.n)

            yield progress

    def deliver(self, report: Report, title: str) -> int:
        """Print the report as a table, or write it where `--json` and `--out` ask for it.

        What this run took from the cache is kept by `--out` alone: the result is the same without.
        Returns the exit code: that of the gate, where `--gate` names a baseline.
        """
        result = {k: v for k, v in report.provenance.items() if k != CACHE}
        try:
            if self.json_path is None:
                show(*table(report, title).split("\n"))
            else:
                document = reports.dumps(replace(report, provenance=result))
                write_json(document.rstrip(), self.json_path)
        finally:  # hours of work must not be lost with the terminal
            if self.out is not None:
                reports.write(report, self.out)
                self.say(f"report written to {self.out}")
        if self.gate is None:
            return EXIT_DONE
        return hold(report, self.gate, talk=self.json_path == STDOUT)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, `--out`, `--gate`, `--set`, `--quiet`; the command gets them as `output`."""

    @functools.wraps(command)
    def with_output(
        *args: Any,
        json_path: Path | None,
        out: Path | None,
        gate: Path | None,
        named: str | None,
        quiet: bool,
        **options: Any,
    ) -> Any:
        baseline = None if gate is None else read_baseline(gate)
        output = Output(json_path, out, quiet, baseline, named)
        return command(*args, output=output, **options)

    for option in (
        quiet_option("Result"),
        _of_result(
            "--set",
            "named",
            metavar="NAME",
            help="What the set is called, for reports to be compared; else as its list.",
        ),
        _of_result(
            "--gate",
            type=Baseline(),
            metavar="BASELINE.json",
            help="Exit with 1 if significantly worse than this report.",
        ),
        _of_result(
            "--out",
            type=Writable(endings=(".json",), beside=".npz"),
            metavar="FILE.json",
            help="Keep the report (and outcomes beside it).",
        ),
        json_option,
    ):
        with_output = option(with_output)
    return with_output
