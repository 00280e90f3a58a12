"""A verdict for CI systems: JUnit XML, Markdown for job summaries, GitHub's annotations.

JUnit never published a schema.  This is the one that Jenkins reads and pytest writes, xunit2
(junit-10.xsd); GitLab and GitHub's actions read it too.
"""

from __future__ import annotations

from xml.etree import ElementTree

from evalkit.escaping import annotation, printable
from evalkit.report.markdown import escaped, table_of
from evalkit.verdict.gate import HEAD, Verdict, cells_of, shared_level, unheld


def verdict_junit(verdict: Verdict, suite: str = "evalkit gate") -> str:
    """Write one test case a rule: a broken one is a failure, a warning is its system-out.

    A metric that no rule holds is a skipped test case with the reason.  What is not printable is
    escaped, which leaves nothing that XML 1.0 cannot hold.
    """
    root = ElementTree.Element(
        "testsuite",
        name=printable(suite),
        tests=str(len(verdict.rulings) + len(verdict.not_held)),
        failures=str(sum(not r.passed for r in verdict.rulings)),
        errors="0",
        skipped=str(len(verdict.not_held)),
        time="0",
    )
    for ruling in verdict.rulings:
        case = _case(root, ruling.rule.metric)
        _, _, baseline, now, drop, *_ = cells_of(ruling)
        if not ruling.passed:
            why = {"type": "regression", "message": printable(ruling.failure)}
            failure = ElementTree.SubElement(case, "failure", why)
            failure.text = printable(f"baseline {baseline}, now {now}, drop {drop}")
        if ruling.warning:
            ElementTree.SubElement(case, "system-out").text = printable(ruling.warning)
    for metric, reason in verdict.not_held.items():
        said = {"message": printable(f"not held: {reason}")}
        ElementTree.SubElement(_case(root, metric), "skipped", said)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text.decode() + "\n"


def _case(suite: ElementTree.Element, metric: str) -> ElementTree.Element:
    named = {"classname": "evalkit.gate", "name": printable(metric), "time": "0"}
    return ElementTree.SubElement(suite, "testcase", named)


def verdict_markdown(verdict: Verdict, title: str = "evalkit gate") -> str:
    """Write a verdict for a job summary: a headline, a table, reasons, what is not held."""
    outcome = "passed" if verdict.passed else "failed"
    rows = [("✅" if r.passed else "❌", *cells_of(r)[1:]) for r in verdict.rulings]
    notes = [
        f"- {mark} {escaped(r.rule.metric)}: {escaped(text)}"
        for r in verdict.rulings
        for mark, text in (("❌", r.failure), ("⚠️", r.warning))
        if text
    ]
    notes += [f"- {line}" for line in (*shared_level(verdict), *map(escaped, verdict.support))]
    for why, names in unheld(verdict).items():
        notes.append(f"- {len(names)} not held, {escaped(why)}: {escaped(', '.join(names))}")
    lines = [f"### {escaped(title)}: {outcome}", "", *table_of(("", *HEAD), rows)]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def github_annotations(verdict: Verdict) -> list[str]:
    """Spell broken rules and warnings as GitHub workflow commands."""
    return [
        annotation(kind, r.rule.metric, text)
        for r in verdict.rulings
        for kind, text in (("error", r.failure), ("warning", r.warning))
        if text
    ]
