"""Verdicts as Markdown: for job summaries and pull requests."""

from __future__ import annotations

from evalkit.report.markdown import escaped, table_of
from evalkit.verdict.gate import Verdict, cells_of, unheld


def verdict_markdown(verdict: Verdict, title: str = "evalkit gate") -> str:
    """Write a verdict for a job summary: a headline, a table, reasons, what is not held."""
    outcome = "passed" if verdict.passed else "failed"
    head = ("", "metric", "baseline", "now", "drop", "allowed", "p", "smallest noticeable drop")
    rows = [("✅" if r.passed else "❌", *cells_of(r)[1:]) for r in verdict.rulings]
    notes = [
        f"- {mark} {escaped(r.rule.metric)}: {escaped(text)}"
        for r in verdict.rulings
        for mark, text in (("❌", r.failure), ("⚠️", r.warning))
        if text
    ]
    for why, names in unheld(verdict).items():
        notes.append(f"- {len(names)} not held, {escaped(why)}: {escaped(', '.join(names))}")
    lines = [f"### {escaped(title)}: {outcome}", "", *table_of(head, rows)]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"
