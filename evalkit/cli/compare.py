"""`evalkit compare`: two reports, paired."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from evalkit import report as reports
from evalkit.cli.options import new_command
from evalkit.cli.output import json_option, write_json
from evalkit.cli.parameters import Readable
from evalkit.cli.terminal import show
from evalkit.cli.verdict import ignore_option
from evalkit.protocols.metrics.vocabulary import better
from evalkit.protocols.uncertainty.paired import Difference
from evalkit.verdict.compare import Comparison, compare, comparison_table


@new_command(
    "compare",
    "evalkit compare base.json new.json",
    removed={
        "--flips": "ten of each kind are listed, and all of them with --json -",
        "--seed": "--draws N makes the draws matter less; in Python, evalkit.compare(..., seed=N)",
    },
)
@click.argument("base", type=Readable(beside=".npz", stream=True))
@click.argument("other", type=Readable(beside=".npz", stream=True))
@ignore_option
@click.option(
    "--draws",
    type=click.IntRange(min=2),
    metavar="N",
    help="Draws of subjects.  [default: 500, or as many as take a second]",
)
@json_option
def command(
    base: Path,
    other: Path,
    ignore: tuple[str, ...],
    draws: int | None,
    json_path: Path | None,
) -> None:
    """Test whether report OTHER is better or worse than BASE, on the same comparisons.

    The interval, p and detectable drop of a row come from one standard error, by subject; Holm's p
    is adjusted for the number of rows. Below them are the pairs that only one of the two decides
    correctly.
    """
    comparison = compare(reports.read(base), reports.read(other), ignore=ignore, draws=draws)
    if json_path is not None:
        write_json(json.dumps(_plain(comparison), indent=1, allow_nan=False), json_path)
    else:
        show(*comparison_table(comparison, _titles(base, other)).split("\n"))


def _titles(base: Path, other: Path) -> tuple[str, str]:
    if base.stem != other.stem:
        return base.stem, other.stem
    return str(base), str(other)


def _plain(found: Comparison) -> dict[str, object]:
    metrics = {}
    for name, (a, b) in found.values.items():
        d = found.differences.get(name)
        metrics[name] = {
            "base": a,
            "other": b,
            "better": better(name),
            "difference": _paired(d, found.holm[name]) if d else {"value": b - a},
        }
    flips = [{k: _finite(v) for k, v in asdict(f).items()} for f in found.flips]
    return {"metrics": metrics, "flips": flips, "why_unpaired": found.why_unpaired}


def _paired(d: Difference, holm: float) -> dict[str, object]:
    names = "value low high p test detectable lost gained mcnemar error freedom people alpha"
    return {name: getattr(d, name) for name in names.split()} | {"holm": holm}


def _finite(value: object) -> object:
    return None if value == float("-inf") else value
