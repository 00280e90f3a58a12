"""Reports as Markdown: for pull requests and model cards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from evalkit.escaping import printable
from evalkit.report.table import below_columns, columns
from evalkit.types import Report


def report_markdown(report: Report) -> str:
    """Write a report's metrics as a table: value, interval, what supports it, notes."""
    of = columns(report)
    lines = table_of(tuple(of), zip(*of.values(), strict=True))
    lines += ["", *(f"- {escaped(line)}" for line in below_columns(report))]
    return "\n".join(lines).rstrip("\n") + "\n"


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
    """Keep text from being read as Markdown, HTML, a link or a mention of somebody, on one line.

    GitHub looks for mentions and issues in what a backslash has made plain; a zero-width space, as
    Dependabot writes it, ends them.  The "@" of `tpr@far` mentions nobody and stays.
    """
    text = re.sub(r"([\\`*_{}\[\]<>|#&~$])", r"\\\1", " ".join(printable(text).split()))
    text = re.sub(r":(?=//)|(?<=www)\.", r"\\\g<0>", text, flags=re.IGNORECASE)
    return re.sub(r"(?<!\w)@(?=\w)|@(?=[\w-]+\.)|#(?=\d)", r"\g<0>&#8203;", text)


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a Markdown table: a line a row, cells escaped."""
    lines = [head, ["---"] * len(head), *([escaped(c) for c in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _quoted(text: str) -> str:
    return json.dumps(printable(text))
