"""`evalkit table`: any number of reports in one table, as text, Markdown, CSV or HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from evalkit.bench import SetReports
from evalkit.cli.options import new_command, reports_argument
from evalkit.cli.parameters import Writable
from evalkit.cli.terminal import say, show
from evalkit.files import whole_file
from evalkit.replacing import TABLE
from evalkit.report import several
from evalkit.verdict.leaderboard import leaderboard
from evalkit.verdict.leaderboard_formats import FORMATS

_ENDINGS = {".txt": "text", ".md": "markdown", ".csv": "csv", ".html": "html", ".htm": "html"}


@new_command(
    "table",
    "evalkit table base.json new.json",
    "evalkit table base.json new.json --metric accuracy --metric eer -o table.html",
    "evalkit table runs/base runs/new",
)
@reports_argument
@click.option(
    "--name",
    "names",
    metavar="NAME",
    multiple=True,
    help="Name of each report, in order; may be repeated; sets of one name share a row.",
)
@click.option(
    "--metric",
    "metrics",
    metavar="NAME",
    multiple=True,
    help="Metric of a column; may be repeated.  [default: accuracy and TPR@FAR]",
)
@click.option(
    "--sort",
    "first",
    metavar="NAME",
    help="Metric to order the rows by, best first.  [default: as given]",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(FORMATS)),
    help="Format of the table.  [default: by the ending of -o, or text]",
)
@click.option(
    "-o",
    "--out",
    type=Writable(endings=tuple(_ENDINGS), mark=TABLE),
    metavar="FILE",
    help="File to write: .txt, .md, .csv or .html.  [default: stdout]",
)
def command(
    paths: tuple[Path, ...],
    names: tuple[str, ...],
    metrics: tuple[str, ...],
    first: str | None,
    kind: str | None,
    out: Path | None,
) -> None:
    """Put any number of reports into one table: a row per model, a column per metric.

    A report is named after its file, or after its folder where two files have one name: the
    reports of a model on several sets, MODEL/SET.json, are one row, and so is the folder MODEL that
    bench --out wrote. One such folder alone has a row per set. In each column the best is marked,
    with all that a paired test on the same comparisons cannot tell from it.
    """
    if len(names) > len(paths):
        raise click.UsageError(f"{len(names)} names for {len(paths)} reports")
    called = [*names, *_called(paths)[len(names) :]]
    by_file = [several.read(path) for path in paths]
    if len(by_file) == 1 and "" not in by_file[0]:
        board = SetReports(by_file[0]).board(metrics)
    else:
        of = [
            (report, name, of_set or report.identity.set or path.stem)
            for path, name, reports in zip(paths, called, by_file, strict=True)
            for of_set, report in reports.items()
        ]
        every, rows, sets = zip(*of, strict=True)
        board = leaderboard(every, rows, sets=sets, metrics=metrics)
    if first is not None:
        board = board.sorted_by(first)
    text = FORMATS[kind or (_ENDINGS[out.suffix.lower()] if out else "text")](board)
    if out is None:
        show(*text.split("\n"))
        return
    with whole_file(out) as f:
        f.write(f"{text}\n".encode())
    say(f"{len(paths):,} reports written to {out}")


def _called(paths: Sequence[Path]) -> list[str]:
    """Name reports by their files, else by their folders, else by their whole paths."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    folders = [path.absolute().parent.name for path in paths]
    same = Counter(zip(folders, stems, strict=True))
    return [
        folder if same[folder, stem] == 1 else str(path)
        for path, folder, stem in zip(paths, folders, stems, strict=True)
    ]
