"""Reports and verdicts as Markdown: for job summaries, pull requests and model cards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from evalkit.gate import Verdict, cells_of
from evalkit.report.table import caveat, spelled
from evalkit.types import Report


def verdict_markdown(verdict: Verdict, title: str = "evalkit gate") -> str:
    """Write a verdict for a job summary: a headline, a table, then reasons and warnings."""
    outcome = "passed" if verdict.passed else "failed"
    head = ("", "metric", "baseline", "now", "drop", "allowed", "p", "smallest noticeable drop")
    rows = [("✅" if r.passed else "❌", *cells_of(r)[1:]) for r in verdict.rulings]
    notes = [
        f"- {mark} {escaped(r.rule.metric)}: {escaped(text)}"
        for r in verdict.rulings
        for mark, text in (("❌", r.failure), ("⚠️", r.warning))
        if text
    ]
    lines = [f"### {escaped(title)}: {outcome}", "", *_table(head, rows)]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def report_markdown(report: Report) -> str:
    """Write a report's metrics as a table with intervals."""
    rows = []
    for name, m in report.metrics.items():
        value = "-" if m.value is None else spelled(name, m.value)
        ends = ""
        if m.low is not None and m.high is not None:
            ends = f"{spelled(name, m.low)} to {spelled(name, m.high)}"
        rows.append((name, value, ends, f"{m.n:,}", m.note))
    lines = _table(("metric", "value", "95 % interval", "n", "note"), rows)
    if caveat(report):
        lines += ["", escaped(f"95 % intervals {caveat(report)}")]
    return "\n".join(lines) + "\n"


def model_card(report: Report, model: str) -> str:
    """Write the `model-index` block of a Hugging Face model card, as YAML front matter.

    Names of metrics, data and model are quoted as JSON strings, which are YAML strings too.
    """
    lines = [
        "---",
        "model-index:",
        f"- name: {_quoted(model)}",
        "  results:",
        "  - task:",
        "      type: face-verification",
        "    dataset:",
        f"      type: {_quoted(report.protocol)}",
        f"      name: {_quoted(report.protocol)}",
        "    metrics:",
    ]
    for name, m in report.metrics.items():
        if m.value is not None:
            lines += [f"    - type: {_quoted(name)}", f"      value: {m.value!r}"]
            if m.low is not None and m.high is not None:
                interval = f"{m.low!r} to {m.high!r}"
                lines.append(f"      args: {{interval: {_quoted(interval)}}}")
    return "\n".join([*lines, "---"]) + "\n"


def escaped(text: str) -> str:
    """Keep text from being read as Markdown or HTML, on one line."""
    for character in "\\`*_{}[]<>|#&":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([escaped(c) for c in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _quoted(text: str) -> str:
    return json.dumps(text)
