"""`evalkit rules`: a gate's rules checked, before there is a report to hold to them."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.cli.options import new_command
from evalkit.cli.parameters import Readable
from evalkit.cli.terminal import show
from evalkit.verdict.rules import read_rules, refuse_unheld


@new_command("rules", "evalkit rules gates.toml")
@click.argument("paths", metavar="RULES...", type=Readable(stream=True), nargs=-1, required=True)
def command(paths: tuple[Path, ...]) -> None:
    """Check RULES, files of a gate's rules (gates.toml), without a report.

    Prints the metrics that each file holds; exit code 3 and the mistake where one cannot be read,
    or has a rule that no report could be held to.
    """
    for path in paths:
        rules = read_rules(path)
        for number, rule in enumerate(rules, 1):
            refuse_unheld(rule, f"{path}, rule {number}: ")
        names = ", ".join(dict.fromkeys(rule.metric for rule in rules))
        show(f"{path}: {len(rules)} rule{'s'[: len(rules) > 1]}: {names}")
