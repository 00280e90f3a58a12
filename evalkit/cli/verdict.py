"""The verdict of a gate shown everywhere: stdout, JUnit, Markdown, GitHub."""

from __future__ import annotations

import os
from pathlib import Path

import click

from evalkit import report as reports
from evalkit.cli import terminal
from evalkit.errors import EXIT_DONE, EXIT_GATE_FAILED, ReportError
from evalkit.files import whole_file
from evalkit.types import Report
from evalkit.verdict import gate
from evalkit.verdict.ci import github_annotations, verdict_junit, verdict_markdown
from evalkit.verdict.compare import IGNORABLE

ignore_option = click.option(
    "--ignore",
    multiple=True,
    type=click.Choice(IGNORABLE),
    metavar="FIELD",
    help=f"Compare although the reports differ in this field, one of {', '.join(IGNORABLE)}, where "
    "comparisons is the last four; may be repeated.",
)


def is_baseline(path: Path) -> bool:
    """Whether anything is at a path; an empty file, as a failed download leaves it, is nothing."""
    return path.exists() and not (path.is_file() and path.stat().st_size == 0)


def read_baseline(path: Path) -> Report:
    """Read the report to hold others against; ReportError says how to make the first one."""
    if not is_baseline(path):
        raise ReportError(
            f"no report at {path}",
            f"make the first baseline: evalkit gate REPORT --baseline {path} --accept",
        )
    return reports.read(path)


def apply_gate(
    report: Report,
    baseline: Report,
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
    gate_rules = gate.read_rules(rules) if rules else None
    verdict = gate.check(report, baseline, gate_rules, ignore=ignore)
    terminal.show(*gate.verdict_table(verdict).split("\n"), talk=talk)
    _publish(verdict, f"evalkit gate {report.protocol}", junit, markdown, talk)
    return EXIT_DONE if verdict.passed else EXIT_GATE_FAILED


def _publish(
    verdict: gate.Verdict, title: str, junit: Path | None, markdown: Path | None, talk: bool
) -> None:
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if junit is not None:
        with whole_file(junit) as f:
            f.write(verdict_junit(verdict, title).encode())
    if markdown is not None or summary:
        text = verdict_markdown(verdict, title)
        if markdown is not None:
            with whole_file(markdown) as f:
                f.write(text.encode())
        if summary:
            with Path(summary).open("a", encoding="utf-8") as out:
                out.write(text)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(verdict):
            terminal.command(line, talk=talk)
