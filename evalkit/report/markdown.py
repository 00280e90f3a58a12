"""Reports as Markdown: for pull requests and model cards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from evalkit.errors import ReportError
from evalkit.escaping import printable
from evalkit.report.card import made_of
from evalkit.report.table import below_columns, columns
from evalkit.types import Report


def report_markdown(report: Report) -> str:
    """Write a report's metrics as a table: value, interval, what supports it, notes."""
    of = columns(report)
    lines = table_of(tuple(of), zip(*of.values(), strict=True))
    lines += ["", *(f"- {escaped(line)}" for line in below_columns(report))]
    return "\n".join(lines).rstrip("\n") + "\n"


def model_card(held: Iterable[tuple[str, Report]]) -> str:
    """Write the `model-index` block of a Hugging Face model card, as YAML front matter.

    held : reports, each with the name of its model; one result a report.
    Names of metrics, data and model are quoted as JSON strings, which are YAML strings too.
    """
    models: dict[str, list[str]] = {}
    for model, report in held:
        models.setdefault(model, []).extend(_result(report))
    lines = ["---", "model-index:"]
    for model, results in models.items():
        lines += [f"- name: {_quoted(model)}", "  results:", *results]
    return "\n".join([*lines, "---"]) + "\n"


def _result(report: Report) -> list[str]:
    args = {"protocol_version": report.protocol_version, **made_of(report)}
    lines = [
        "  - task:",
        "      type: face-verification",
        "    dataset:",
        f"      type: {_quoted(report.protocol)}",
        f"      name: {_quoted(_set_name(report))}",
        f"      args: {json.dumps(args)}",
        "    metrics:",
    ]
    for name, m in report.metrics.items():
        if m.value is not None:
            lines += [f"    - type: {_quoted(name)}", f"      value: {_number(m.value)}"]
            if m.low is not None and m.high is not None:
                interval = f"{m.low!r} to {m.high!r}"
                lines.append(f"      args: {{interval: {_quoted(interval)}}}")
    return lines


def eval_results(reports: Iterable[Report], dataset: str) -> str:
    """Write reports as Hugging Face's `.eval_results/NAME.yaml`: an entry a report.

    dataset : that hosts the benchmark, ORG/NAME, or ORG/NAME@REVISION.  A task is called as the
    report's set.  The value is the accuracy, else the first number of the report; which one, its
    interval and what it rests on (`card.made_of`) are in the notes.
    ReportError for a dataset of another form, two reports of one set, and one without numbers.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", dataset, re.ASCII):
        raise ReportError(
            f"{dataset!r} is not a dataset of the Hub", "ORG/NAME or ORG/NAME@REVISION"
        )
    name, _, revision = dataset.partition("@")
    lines, tasks = [], set[str]()
    for report in reports:
        task, flat = _set_name(report), report.flat()
        if task in tasks:
            raise ReportError(f"two reports are of {task!r}", "a task has one value")
        if not flat:
            raise ReportError(f"the report of {task!r} has no number")
        tasks.add(task)
        metric = "accuracy" if "accuracy" in flat else next(iter(flat))
        lines += [
            "- dataset:",
            f"    id: {_quoted(name)}",
            f"    task_id: {_quoted(task)}",
            *([f"    revision: {_quoted(revision)}"] if revision else []),
            f"  value: {_number(flat[metric])}",
            "  evaluation_framework: evalkit",
            f"  notes: {_quoted(_notes(report, metric))}",
        ]
    return "\n".join(lines) + "\n"


def _notes(report: Report, metric: str) -> str:
    m = report.metrics[metric]
    said = [metric]
    if m.low is not None and m.high is not None:
        said.append(f"{m.interval or 'interval'} {m.low!r} to {m.high!r}")
    said.append(f"{report.protocol} version {report.protocol_version}")
    digests = ("list", "images")
    for part, value in made_of(report).items():
        said.append(f"{part} {'sha256:' if part in digests else ''}{value}")
    return "; ".join(said)


def _number(value: float) -> str:
    """Spell a number for YAML, whose older readers take 1e-05 for a text."""
    text = repr(float(value))
    return text if "." in text else text.replace("e", ".0e")


def _set_name(report: Report) -> str:
    return report.identity.set or report.protocol


def escaped(text: str) -> str:
    """Keep text from being read as Markdown, HTML, a link or a mention of somebody, on one line.

    GitHub looks for mentions and issues in what a backslash has made plain; a zero-width space, as
    Dependabot writes it, ends them.  The "@" of `tpr@far` mentions nobody and stays.
    """
    text = re.sub(r"([\\`*_{}\[\]<>|#&~$])", r"\\\1", " ".join(printable(text).split()))
    text = re.sub(r":(?=//)|(?<=www)\.", r"\\\g<0>", text, flags=re.IGNORECASE)
    return re.sub(r"(?<!\w)@(?=\w)|@(?=[\w-]+\.)|#(?=\d)", r"\g<0>&#8203;", text)


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a Markdown table: a line per row, cells escaped."""
    lines = [head, ["---"] * len(head), *([escaped(c) for c in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _quoted(text: str) -> str:
    return json.dumps(printable(text))
