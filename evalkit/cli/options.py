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
from evalkit.cli.verdict import hold
from evalkit.errors import EXIT_DONE
from evalkit.files import whole_file
from evalkit.report.table import table
from evalkit.types import Report

PATH = click.Path(path_type=Path)


class Option(click.Option):
    """An option that --help lists under `section` instead of the command's own."""

    def __init__(self, *args: Any, section: str = "Options", **how: Any) -> None:
        super().__init__(*args, **how)
        self.section = section


class Command(click.Command):
    """Lists its own options first in --help, then those that it shares, by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list of options a section."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for option in self.get_params(ctx):
            line = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if line is not None:
                sections.setdefault(getattr(option, "section", "Options"), []).append(line)
        for title, lines in sections.items():
            with formatter.section(title):
                formatter.write_dl(lines)


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
        metavar="FAR",
        help="A FAR to give the TPR at; may be repeated.",
    )


_of_embeddings = functools.partial(click.option, cls=Option, section="Embeddings")


rows_option = _of_embeddings(
    "--features", type=PATH, metavar="FILE", help="A submission .bin, an .npy, or a feature file."
)


def features_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--features`, `--keys` and `--allow-failures`: embeddings with a name for every row."""
    for option in (
        _of_embeddings(
            "--allow-failures", is_flag=True, help="A row with NaN is an image without a template."
        ),
        _of_embeddings("--keys", type=PATH, metavar="LIST", help="Line i names row i."),
        _of_embeddings(
            "--features",
            type=PATH,
            metavar="FILE",
            help="Embeddings: .npy with --keys, .npz, .h5, .mat, .csv, .parquet, .pt, a folder.",
        ),
    ):
        command = option(command)
    return command


flip_option = click.option(
    "--flip",
    type=click.Choice(["none", "sum", "concat"]),
    default="none",
    show_default=True,
    help="How an image's vector and its mirror image's are fused.",
)


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

    of_result = functools.partial(click.option, cls=Option, section="Result")
    for option in (
        of_result("--quiet", is_flag=True, help="Say nothing but the result."),
        of_result(
            "--gate",
            type=PATH,
            metavar="BASELINE.json",
            help="Exit with 1 if significantly worse than this report.",
        ),
        of_result(
            "--out", type=PATH, metavar="FILE", help="Keep the report (and outcomes beside it)."
        ),
        of_result(
            "--json",
            "json_path",
            metavar="FILE",
            help="The report as JSON instead of a table; - is stdout.",
        ),
    ):
        with_output = option(with_output)
    return with_output
