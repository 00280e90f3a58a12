"""Options that commands share, and where their results go."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from evalkit import __version__
from evalkit import report as reports
from evalkit.errors import EXIT_DONE
from evalkit.files import whole_file
from evalkit.report.table import table
from evalkit.types import Report

PATH = click.Path(path_type=Path)


def cluster_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--cluster`; the command receives an open `Cluster`, or None."""

    @functools.wraps(command)
    def with_cluster(*args: Any, cluster: str | None, **options: Any) -> Any:
        if cluster is None:
            return command(*args, cluster=None, **options)
        from evalkit.cluster import Cluster

        with Cluster(cluster) as workers:
            return command(*args, cluster=workers, **options)

    return click.option(
        "--cluster",
        callback=_where,
        metavar="local[:N]|ADDRESS",
        help="Let Dask workers do it: N started here, or those of a scheduler.",
    )(with_cluster)


checkpoint_option = click.option(
    "--checkpoint", type=PATH, metavar="FILE", help="Where a run that is broken off goes on."
)


def _where(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    if text is None or re.fullmatch(r"local(:[1-9]\d*)?|(\w+://)?(?!local:)[^\s/:]+:\d+", text):
        return text
    raise click.BadParameter(f"{text!r} is none of local, local:2, tcp://host:8786")


def fars_option(default: Sequence[str]) -> Callable[..., Any]:
    """Add `--far`, which may be repeated; the command receives `fars`."""
    return click.option(
        "--far",
        "fars",
        multiple=True,
        default=default,
        show_default=True,
        help="A FAR to give the TPR at; may be repeated.",
    )


def features_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--features`, `--keys` and `--allow-failures`: embeddings made elsewhere."""
    for option in (
        click.option(
            "--allow-failures", is_flag=True, help="A row with NaN is an image without a template."
        ),
        click.option("--keys", type=PATH, metavar="LIST.txt", help="Line i names row i."),
        click.option(
            "--features",
            type=PATH,
            metavar="FILE",
            help="Embeddings made elsewhere: .npy with --keys, .npz, .h5.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Output:
    """Where a result goes: the table to stdout, or JSON instead; a report file; talk to stderr."""

    json_path: str | None
    out: Path | None
    quiet: bool
    gate: Path | None = None

    def say(self, line: str) -> None:
        """Tell the user something that is not the result."""
        if not self.quiet:
            click.echo(line, err=True)

    @contextmanager
    def bar(self, what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        """Draw progress on stderr, with rate and time left, where somebody is looking.

        Yields the function to call with (done, total).
        """
        silent = self.quiet or not sys.stderr.isatty()
        with tqdm(desc=what, unit=unit, unit_scale=True, disable=silent, leave=False) as drawn:

            def progress(done: int, total: int) -> None:
                if drawn.total is None:  # what an earlier run did is not this run's speed
                    drawn.initial = drawn.n = done
                drawn.total = total
                drawn.update(done - drawn.n)

            yield progress

    def deliver(self, report: Report, title: str) -> int:
        """Print the report as a table, or write it where `--json` and `--out` ask for it.

        Returns the exit code: that of the gate, where `--gate` names a baseline.
        """
        report = replace(report, provenance={"evalkit": __version__, **report.provenance})
        if self.json_path is None:
            click.echo(table(report, title))
        elif self.json_path == "-":
            click.echo(reports.dumps(report).encode(), nl=False)  # UTF-8 in every locale
        else:
            with whole_file(Path(self.json_path)) as f:
                f.write(reports.dumps(report).encode())
        if self.out is not None:
            reports.write(report, self.out)
            self.say(f"report written to {self.out}")
        if self.gate is None:
            return EXIT_DONE
        from evalkit.cli.gate import hold

        return hold(report, self.gate, talk=self.json_path == "-")


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, `--out`, `--gate`, `--quiet`; the command receives them as `output`."""

    @functools.wraps(command)
    def with_output(
        *args: Any,
        json_path: str | None,
        out: Path | None,
        gate: Path | None,
        quiet: bool,
        **options: Any,
    ) -> Any:
        return command(*args, output=Output(json_path, out, quiet, gate), **options)

    for option in (
        click.option("--quiet", is_flag=True, help="Say nothing but the result."),
        click.option(
            "--gate",
            type=PATH,
            metavar="BASELINE.json",
            help="Exit with 1 if significantly worse than this report.",
        ),
        click.option(
            "--out", type=PATH, metavar="FILE", help="Keep the report (and outcomes beside it)."
        ),
        click.option(
            "--json",
            "json_path",
            metavar="FILE",
            help="The report as JSON instead of a table; - is stdout.",
        ),
    ):
        with_output = option(with_output)
    return with_output
