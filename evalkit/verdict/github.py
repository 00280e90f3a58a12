"""Verdicts as GitHub annotations."""

from __future__ import annotations

from evalkit.escaping import annotation
from evalkit.verdict.gate import Verdict


def github_annotations(verdict: Verdict) -> list[str]:
    """Spell broken rules and warnings as GitHub workflow commands."""
    return [
        annotation(kind, r.rule.metric, text)
        for r in verdict.rulings
        for kind, text in (("error", r.failure), ("warning", r.warning))
        if text
    ]
