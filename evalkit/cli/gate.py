"""`evalkit gate`: exit code 0 if the report may replace the baseline, 1 if not."""

from __future__ import annotations

import os
from pathlib import Path

import click

from evalkit import gate
from evalkit import report as reports
from evalkit.cli.options import PATH
from evalkit.compare import MUST_AGREE
from evalkit.errors import EXIT_DONE, EXIT_GATE_FAILED, ReportError
from evalkit.files import whole_file
from evalkit.types import Report


@click.command("gate")
@click.argument("report_path", metavar="REPORT", type=PATH)
@click.option("--baseline", type=PATH, required=True, help="An earlier report to hold it against.")
@click.option("--rules", type=PATH, metavar="gates.toml", help="What must be kept (see above).")
@click.option(
    "--ignore",
    multiple=True,
    type=click.Choice(list(MUST_AGREE)),
    help="Hold it although the reports differ in this field.",
)
@click.option("--junit", type=PATH, metavar="FILE.xml", help="Write the verdict as JUnit XML too.")
@click.option("--markdown", type=PATH, metavar="FILE.md", help="Write the verdict as Markdown too.")
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
      test = "paired"         # fails only if the drop is also significant; "plain": a hard limit
      alpha = 0.05            # of that test
      floor = 0.95            # optional; ceiling for eer

    On GitHub it also writes the job summary and annotations.
    """  # noqa: D301 (click keeps the lines after a backspace)
    report = reports.read(report_path)
    if accept and not baseline.exists():
        _accept(report, baseline)
        return EXIT_DONE
    code = hold(report, baseline, rules, ignore=ignore, junit=junit, markdown=markdown)
    if not accept:
        return code
    _accept(report, baseline)
    return EXIT_DONE


def hold(
    report: Report,
    baseline: Path,
    rules: Path | None = None,
    *,
    ignore: tuple[str, ...] = (),
    junit: Path | None = None,
    markdown: Path | None = None,
    talk: bool = False,
) -> int:
    """Hold a report against a baseline, show the verdict everywhere, return the exit code.

    talk : the verdict goes to stderr, because stdout holds another document.
    """
    if not baseline.exists():
        raise ReportError(
            f"no report at {baseline}",
            f"make the first baseline: evalkit gate REPORT --baseline {baseline} --accept",
        )
    held = gate.read_rules(rules) if rules else None
    verdict = gate.check(report, reports.read(baseline), held, ignore=ignore)
    click.echo(gate.verdict_table(verdict), err=talk)
    _publish(verdict, f"evalkit gate {report.protocol}", junit, markdown, talk)
    return EXIT_DONE if verdict.passed else EXIT_GATE_FAILED


def _accept(report: Report, baseline: Path) -> None:
    if report.outcomes is None:
        raise ReportError(
            "the report has no outcomes beside it, so no later gate could pair with it",
            "write the report with --out, which keeps them in an .npz",
        )
    reports.write(report, baseline)
    click.echo(f"{baseline} is the new baseline", err=True)


def _publish(
    verdict: gate.Verdict, title: str, junit: Path | None, markdown: Path | None, talk: bool
) -> None:
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if junit is not None:
        from evalkit.report.junit import verdict_junit

        with whole_file(junit) as f:
            f.write(verdict_junit(verdict, title).encode())
    if markdown is not None or summary:
        from evalkit.report.markdown import verdict_markdown

        text = verdict_markdown(verdict, title)
        if markdown is not None:
            with whole_file(markdown) as f:
                f.write(text.encode())
        if summary:
            with Path(summary).open("a", encoding="utf-8") as out:
                out.write(text)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(verdict):
            click.echo(line, err=talk)


def github_annotations(verdict: gate.Verdict) -> list[str]:
    """Spell broken rules and warnings as GitHub workflow commands."""
    return [
        f"::{kind} title={_data(r.rule.metric, ':,')}::{_data(text)}"
        for r in verdict.rulings
        for kind, text in (("error", r.failure), ("warning", r.warning))
        if text
    ]


def _data(text: str, also: str = "") -> str:
    return "".join(f"%{ord(c):02X}" if c in "%\r\n" + also else c for c in text)
