"""The tables of docs/published-figures.md, made from docs/published-figures.toml.

    python benchmarks/published_figures.py

writes them into the page, between its two marks.  The rest of the page is written by hand.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, TABLE = DOCS / "published-figures.md", DOCS / "published-figures.toml"
BEGIN = "<!-- made by benchmarks/published_figures.py from published-figures.toml -->"
END = "<!-- end of what is made -->"
LFW, PAIRS = "LFW, ten folds", 6000


def figures(table: Mapping[str, Any]) -> str:
    """Lay out every printed figure, with its command by test."""
    measured = table["measured"]
    lines = [
        f"Measured with {measured['model']}; figures in *italics* are remembered from the paper.",
        "",
        "| system | test | published | measured here | why they differ |",
        "|---|---|---|---|---|",
    ]
    for held in table["figure"]:
        test = held["test"]
        shown = f"{held['published']:.2f}"
        shown = shown if held.get("read") else f"*{shown}*"
        here = f"{measured[test]:.2f}" if test in measured else "not measured"
        why = held.get("reason") or table["reasons"][test]
        lines.append(f"| {held['system']} | {test} | {shown} | {here} | {why} |")
    lines += ["", "| test | command |", "|---|---|"]
    lines += [f"| {test} | `{command}` |" for test, command in table["tests"].items()]
    return "\n".join(lines)


def unpaired_p(a: float, b: float, pairs: int = PAIRS) -> float:
    """Two-sided p of two accuracies on as many pairs each, as if of different pairs and people.

    Normal, with the pooled share of errors.
    """
    mean = (a + b) / 2
    error = math.sqrt(2 * mean * (1 - mean) / pairs)
    return math.erfc(abs(a - b) / error / math.sqrt(2)) if error else 1.0


def best_paired_p(a: float, b: float, pairs: int = PAIRS) -> float:
    """Least p that McNemar's exact test can give of two accuracies on the same pairs.

    All decisions that differ are then for one of the two: n of them have p = 2 / 2^n, at most 1.
    """
    return min(1.0, 2.0 * 0.5 ** round(abs(a - b) * pairs))


def told_apart(table: Mapping[str, Any]) -> str:
    """Lay out which systems a test of 6,000 pairs can tell apart."""
    of = {f["system"]: f["published"] / 100 for f in table["figure"] if f["test"] == LFW}
    ranked = sorted(of, key=lambda system: of[system])
    lines = [
        f"| system, and the next better | points apart | pairs of {PAIRS:,} "
        "| p unpaired | p paired, at best |",
        "|---|---|---|---|---|",
    ]
    for low, high in pairwise(ranked):
        a, b = of[low], of[high]
        lines.append(
            f"| {low} {100 * a:.2f}, {high} {100 * b:.2f} | {100 * (b - a):.2f} | "
            f"{round((b - a) * PAIRS)} | {unpaired_p(a, b):.2g} | {best_paired_p(a, b):.2g} |"
        )
    both = list(combinations(ranked, 2))
    apart = sum(unpaired_p(of[a], of[b]) < 0.05 for a, b in both)
    at_best = sum(best_paired_p(of[a], of[b]) < 0.05 for a, b in both)
    lines += [
        "",
        f"Of the {len(both)} pairs of these {len(ranked)} systems {apart} are told apart at "
        f"p < 0.05 by their printed figures (unpaired), and at most {at_best} could be by the "
        "outcomes of every pair, if the better one made no error that the other does not (paired). "
        "Both take the pairs for independent; people recur in them, so that true tests tell "
        "fewer. Six pairs, 0.10 points, is the least difference that can be told at all.",
    ]
    return "\n".join(lines)


def made(table: Mapping[str, Any]) -> str:
    """Make both parts of the page."""
    return "\n".join(
        [
            BEGIN,
            "",
            "## Every figure, and the command that measures it",
            "",
            figures(table),
            "",
            "## What 6,000 pairs can tell apart",
            "",
            told_apart(table),
            "",
            END,
        ]
    )


def main() -> None:
    """Write the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    PAGE.write_text(before + made(table) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
