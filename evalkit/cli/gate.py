"""`evalkit gate`: exit code 0 if the report may replace the baseline, 1 if not."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit import report as reports
from evalkit.cli.options import new_command
from evalkit.cli.parameters import Baseline, Readable, Writable
from evalkit.cli.terminal import say
from evalkit.cli.verdict import apply_gate, ignore_option, is_baseline, read_baseline
from evalkit.errors import EXIT_DONE
from evalkit.replacing import VERDICT
from evalkit.verdict.baseline import accept as accept_as_baseline


@new_command("gate", "evalkit gate new.json --baseline base.json --rules gates.toml")
@click.argument("report_path", metavar="REPORT", type=Readable(beside=".npz", stream=True))
@click.option(
    "--baseline",
    type=Baseline(),
    metavar="BASELINE.json",
    required=True,
    help="Earlier report that REPORT is held against.",
)
@click.option(
    "--rules",
    type=Readable(stream=True),
    metavar="gates.toml",
    help="Rules to hold (see above).  [default: no metric significantly worse]",
)
@ignore_option
@click.option(
    "--junit",
    type=Writable(mark=VERDICT),
    metavar="FILE.xml",
    help="Also write the verdict as JUnit XML.",
)
@click.option(
    "--markdown",
    type=Writable(mark=VERDICT),
    metavar="FILE.md",
    help="Also write the verdict as Markdown.",
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
      max-drop = 0.002      # largest drop, a fraction: 0.2 points [default: 0]
      test = "noninferior"  # [default: "paired"] see below
      alpha = 0.05          # level of the test [default: 0.05]
      floor = 0.95          # lowest value; for eer, highest: ceiling

    "paired" fails only if the drop is larger than max-drop and significant, "noninferior" unless
    it is shown to be at most max-drop, "plain" whenever it is larger. Paired rules without an alpha
    share 0.05 by Holm. A rule with only a floor or ceiling holds that alone.

    On GitHub it also writes the job summary and annotations.
    """  # noqa: D301 (click keeps the lines after a backspace)
    report = reports.read(report_path)
    code = EXIT_DONE
    if is_baseline(baseline) or not accept:
        code = apply_gate(
            report, read_baseline(baseline), rules, ignore=ignore, junit=junit, markdown=markdown
        )
    if baseline.exists() and baseline.samefile(report_path):
        say("warning: REPORT is its own baseline: no rule but a floor or a ceiling can fail")
    if not accept:
        return code
    accept_as_baseline(report, baseline)
    say(f"{baseline} is the new baseline")
    return EXIT_DONE
