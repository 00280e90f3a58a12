"""`evalkit gate`: exit code 0 if the report may replace the baseline, 1 if not."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit import report as reports
from evalkit.cli.options import Command
from evalkit.cli.parameters import Baseline, Readable, Writable
from evalkit.cli.terminal import say
from evalkit.cli.verdict import hold, read_baseline
from evalkit.errors import EXIT_DONE, ReportError
from evalkit.types import Report
from evalkit.verdict.compare import IGNORABLE


@click.command(
    "gate",
    cls=Command,
    examples=[
        "evalkit gate new.json --baseline base.json --rules gates.toml",
    ],
)
@click.argument("report_path", metavar="REPORT", type=Readable(beside=".npz", stream=True))
@click.option(
    "--baseline",
    type=Baseline(),
    metavar="BASELINE.json",
    required=True,
    help="An earlier report to hold it against.",
)
@click.option(
    "--rules",
    type=Readable(stream=True),
    metavar="gates.toml",
    help="What must be kept (see above).",
)
@click.option(
    "--ignore",
    multiple=True,
    type=click.Choice(IGNORABLE),
    help="Hold it although they differ in this field; comparisons is list, images, keys and set.",
)
@click.option(
    "--junit", type=Writable(), metavar="FILE.xml", help="Write the verdict as JUnit XML too."
)
@click.option(
    "--markdown", type=Writable(), metavar="FILE.md", help="Write the verdict as Markdown too."
)
@click.option("--accept", is_flag=True, help="Make REPORT the new baseline, whatever the verdict.")
def command(
    report_path: Path,
    baseline: Path,
    rules: Path | None,
    ignore: tuple[str, ...],
    junit: Path | None,
    markdown: Path | None,
    accept: bool,
) -> int:
    """Hold REPORT against a baseline: exit code 0 if every rule is kept, 1 if not.

    Without --rules no metric may be significantly worse. In gates.toml, for each metric:

    \b
      [[rule]]
      metric = "tpr@far=1e-6"
      max-drop = 0.002        # a fraction: 0.2 points
      test = "noninferior"    # passes only if the drop is shown to be at most that;
                              # "paired": fails only if it is also significant; "plain": neither
      alpha = 0.05            # of that test; paired rules without it share 0.05 by Holm
      floor = 0.95            # optional; ceiling for eer

    On GitHub it also writes the job summary and annotations.
    """  # noqa: D301 (click keeps the lines after a backspace)
    report = reports.read(report_path)
    code = EXIT_DONE
    if baseline.exists() or not accept:
        code = hold(
            report, read_baseline(baseline), rules, ignore=ignore, junit=junit, markdown=markdown
        )
    if not accept:
        return code
    _accept(report, baseline)
    return EXIT_DONE


def _accept(report: Report, baseline: Path) -> None:
    if report.outcomes is None:
        raise ReportError(
            "the report has no outcomes beside it, so no later gate could pair with it",
            "write the report with --out, which keeps them in an .npz",
        )
    reports.write(report, baseline)
    say(f"{baseline} is the new baseline")
