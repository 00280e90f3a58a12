"""Options that commands share, and the order in which --help lists them.

Those of one subject stand beside it: `model_options`, `vector_options`, `threshold_options`, and
`output`; types of their values in `parameters`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from click.core import augment_usage_errors

from evalkit.cli.parameters import Readable, check_files, rate
from evalkit.cli.terminal import be_quiet, results_alone, say
from evalkit.datasets.group_table import GroupFile


class Option(click.Option):
    """An option that --help lists under `section` instead of the command's own."""

    def __init__(self, *args: Any, section: str = "Options", **how: Any) -> None:
        super().__init__(*args, **how)
        self.section = section


class Command(click.Command):
    """Shows examples and lists its own options first in --help; looks at files before it works.

    removed : options of former versions, each with what to type instead.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        removed: Mapping[str, str] = MappingProxyType({}),
        **how: Any,
    ) -> None:
        super().__init__(*args, **how)
        self.examples = examples
        self.removed = removed
        for option in self.params:
            if not isinstance(option, click.Option):
                continue
            option.show_default = True
            if option.envvar is None:  # click itself would go by the name that the function has
                typed = max(option.opts, key=len).lstrip("-")
                option.envvar = f"EVALKIT_{self.name}_{typed}".upper().replace("-", "_")

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the command does, then how it is typed."""
        super().format_help_text(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Name the command, where its parser complains."""
        with augment_usage_errors(ctx):
            for option in (word.partition("=")[0] for word in args):
                if option in self.removed:
                    raise click.UsageError(f"{option} was removed: {self.removed[option]}")
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command when the whole line is understood and its files are there."""
        with augment_usage_errors(ctx):
            check_files(ctx)
        try:
            with results_alone():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            say(*_resumed(ctx.params))
            raise

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


def new_command(name: str, *examples: str, **how: Any) -> Callable[..., Command]:
    """Make a `Command` of the function below; examples : lines of its --help."""
    return click.command(name, cls=Command, examples=examples, **how)


def _resumed(given: Mapping[str, Any]) -> list[str]:
    """Say what of an interrupted command is kept, by the options that it has."""
    lines = []
    if given.get("model") is not None:
        lines.append("the same command goes on where it stopped: the vectors made so far are kept")
    if given.get("checkpoint") is not None:
        lines.append(f"of the comparisons it goes on from {given['checkpoint']}, as far as begun")
    elif "checkpoint" in given:
        lines.append("comparisons begin again; with --checkpoint FILE they would go on")
    return lines


def received_as(
    name: str, make: Callable[..., Any], options: Sequence[Callable[..., Any]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add options that a command receives as one argument, `name=make(...)`.

    make : takes what is given by the parameters' names, whether added here or before.
    """
    parameters = tuple(signature(make).parameters)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_made(*args: Any, **given: Any) -> Any:
            value = make(**{each: given.pop(each) for each in parameters if each in given})
            return command(*args, **{name: value}, **given)

        decorated: Callable[..., Any] = with_made
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def cluster_option(command: Callable[..., Any], section: str = "Options") -> Callable[..., Any]:
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
        cls=Option,
        section=section,
        callback=_where,
        metavar="local[:N]|ADDRESS",
        help="Run on Dask workers: N on this machine, or those of the scheduler at ADDRESS.",
    )(with_cluster)


def _where(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    if text is None or re.fullmatch(r"local(:[1-9]\d*)?|(\w+://)?(?!local:)[^\s/:]+:\d+", text):
        return text
    raise click.BadParameter(f"{text!r} is not one of local, local:2, tcp://host:8786")


def rates_option(name: str, text: str, default: Sequence[str] = ()) -> Callable[..., Any]:
    """Add an option that may be repeated, a FAR or FPIR each time; `--far` gives `fars`."""
    return click.option(
        name,
        f"{name.lstrip('-')}s",
        callback=rate,
        multiple=True,
        default=default,
        metavar=name.lstrip("-").upper(),
        help=text,
    )


def fars_option(default: Sequence[str]) -> Callable[..., Any]:
    """Add `--far`, which may be repeated; the command receives `fars`."""
    return rates_option("--far", "FAR to give the TPR at, as 1e-3; may be repeated.", default)


def rate_option(name: str, text: str, default: str) -> Callable[..., Any]:
    """Add an option that is one FAR or FPIR."""
    metavar = name.lstrip("-").upper()
    return click.option(name, callback=rate, metavar=metavar, default=default, help=text)


def columns_option(roles: Sequence[str]) -> Callable[..., Any]:
    """Add `--columns ROLE=NAME`, which may be repeated: which column of a table holds what."""

    def read(_: click.Context, __: click.Parameter, given: Sequence[str]) -> dict[str, str] | None:
        made = dict(text.partition("=")[::2] for text in given)
        wrong = next((text for text in given if text.partition("=")[0] not in roles), None)
        if wrong is not None or not all(made.values()):
            raise click.BadParameter(f"expected ROLE=COLUMN with a role of {', '.join(roles)}")
        return made or None

    return click.option(
        "--columns",
        multiple=True,
        metavar="ROLE=COLUMN",
        callback=read,
        help=f"Column of each role, by name or number: {', '.join(roles)}; may be repeated.",
    )


def count_option(name: str, text: str, default: int, least: int = 1) -> Callable[..., Any]:
    """Add an option that is a whole number, `least` or more."""
    kind = click.IntRange(min=least)
    return click.option(name, type=kind, metavar="N", default=default, help=text)


sizes_option = click.option(
    "--gallery-size",
    "sizes",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="Add FNIR(N, R, T) of galleries of N people drawn from the enrolled; may be repeated.",
)


reports_argument = click.argument(
    "paths",
    metavar="REPORT...",
    type=Readable(folder=True, beside=".npz", stream=True),
    nargs=-1,
    required=True,
)


def quiet_option(section: str = "Options") -> Callable[..., Any]:
    """Add `--quiet`, which `say` and `bar` obey; the command does not see it."""
    return click.option(
        "--quiet",
        cls=Option,
        section=section,
        is_flag=True,
        expose_value=False,
        callback=lambda _, __, quiet: be_quiet(quiet),
        help="Print only the result, no progress and no remarks.",
    )


def file_option(
    name: str, metavar: str, text: str, *, folder: bool = False, **how: Any
) -> Callable[..., Any]:
    """Add an option that names a file which is there, or with `folder` a folder.

    how : further arguments of `click.option`.
    """
    return click.option(name, type=Readable(folder=folder), metavar=metavar, help=text, **how)


def subjects_option(otherwise: str = "", rows: str = "each row") -> Callable[..., Any]:
    """Add `--subjects`, a list with a line per row; `otherwise` says who they are without."""
    return file_option(
        "--subjects",
        "LIST",
        f"Subject of {rows}, one per line or an .npy, - or -1 for none{otherwise}.",
    )


_of_embeddings = functools.partial(click.option, cls=Option, section="Embeddings")


rows_option = _of_embeddings(
    "--features",
    type=Readable(),
    metavar="FILE",
    help="Vectors: a submission .bin, an .npy, a .safetensors, or a feature file.",
)


def features_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--features`, `--keys` and `--allow-failures`: embeddings with a name for every row."""
    for option in (
        _of_embeddings(
            "--allow-failures",
            is_flag=True,
            help="Count a row of NaN or zeros as an image without a template.",
        ),
        _of_embeddings(
            "--keys",
            type=Readable(),
            metavar="LIST",
            help="Names of the rows of --features, one per line.",
        ),
        _of_embeddings(
            "--features",
            type=Readable(folder=True),
            metavar="FILE",
            help="Vectors made elsewhere: .npy or .safetensors with --keys, .npz, .h5, .mat, .csv, "
            ".parquet, .json, .pt, or a folder.",
        ),
    ):
        command = option(command)
    return command


flip_option = click.option(
    "--flip",
    type=click.Choice(["none", "sum", "concat"]),
    default="none",
    help="Fusion of an image's vector with its mirror image's.",
)


def _grouped(groups: Path | None, by: tuple[str, ...]) -> GroupFile | None:
    if groups is None and by:
        raise click.UsageError("--by names columns of --groups FILE.csv: add that")
    return None if groups is None else GroupFile(groups, by)


_GROUP_OPTIONS = [
    file_option(
        "--groups",
        "FILE.csv",
        "Add error rates by group: a table with a header such as key,sex or subject,sex; "
        "for pairs, pair,weather or left,right,weather.",
    ),
    click.option(
        "--by",
        multiple=True,
        metavar="COLUMN",
        help="Column of the table to use, instead of all: sex, or age:20,40 in bins; of both "
        "images age-gap:5,10, quality-min:0.5, yaw-max:30,60, camera-same; may be repeated.",
    ),
]
# The command receives a `GroupFile`, or None.
groups_option = received_as("groups", _grouped, _GROUP_OPTIONS)
# The command receives a `GroupFile`, or the columns of its own tables that --by names.
columns_or_groups_option = received_as(
    "groups", lambda groups, by: by if groups is None else GroupFile(groups, by), _GROUP_OPTIONS
)
