"""The gate: may this model replace the baseline?  Rules in, a verdict out."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evalkit.errors import ReportError, WrongTypeError
from evalkit.escaping import narrow
from evalkit.protocols.metrics.vocabulary import metric_of, read
from evalkit.protocols.uncertainty.paired import Difference, holm
from evalkit.report import opened
from evalkit.report.spelling import points, spelled, wrapped
from evalkit.report.table import support
from evalkit.types import Report
from evalkit.verdict.compare import Comparison, compare, rough
from evalkit.verdict.outcomes_held import refuse_edited
from evalkit.verdict.rules import ALPHA, Rule, near, read_rules, refuse_twice, refuse_unheld

__all__ = [
    "Rule",
    "Ruling",
    "Verdict",
    "assert_no_regression",
    "check",
    "default_rules",
    "read_rules",
    "verdict_table",
]

_KEEP_OUTCOMES = 'keep the outcomes with --out, or write a rule with test = "plain"'
_SIDES = ("baseline", "new")  # what messages call the two reports
_ROUNDING = 1e-12  # 0.993 - 0.992 is not above 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A rule applied: what was found, and why it failed (empty: it passed).

    drop : how much worse than the baseline, positive is worse.  upper : the end of its interval at
    the rule's alpha.  p : of the paired test; holm : adjusted for all rules that share 0.05.
    detectable : the true drop that the paired test finds 4 times in 5, of rules that share a level
    where no other drops.  warning : what the rule
    cannot do.
    """

    rule: Rule
    value: float | None
    baseline: float | None
    drop: float | None = None
    upper: float | None = None
    p: float | None = None
    holm: float | None = None
    detectable: float | None = None
    failure: str = ""
    warning: str = ""

    @property
    def passed(self) -> bool:
        """Whether the rule is kept."""
        return not self.failure


@dataclass(frozen=True, slots=True)
class Verdict:
    """All rulings; the gate passed if every rule did.

    not_held : metric -> why no rule holds it.  support : lines that say what the metrics of the
    rules rest on, and what makes them doubtful.
    """

    rulings: tuple[Ruling, ...]
    not_held: Mapping[str, str] = field(default_factory=dict)
    support: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every rule is kept."""
        return all(r.passed for r in self.rulings)

    def __str__(self) -> str:
        return verdict_table(self)


def default_rules(found: Comparison) -> tuple[Rule, ...]:
    """No metric with a paired test may be significantly worse, at 0.05 shared by Holm.

    TPR of a group is 1 - FNMR, which has the rule.
    """
    known = [n for n in found.differences if metric_of(n) is not None and not _told_twice(n)]
    if not known:
        why = found.why_unpaired or "none has a value in both reports"
        raise ReportError(f"no paired test of any metric: {why}", _KEEP_OUTCOMES)
    return tuple(Rule(metric=n) for n in known)


def _told_twice(name: str) -> bool:
    reading = read(name)
    return reading is not None and reading.group is not None and name.startswith("tpr@")


def _lost(report: Report, baseline: Report) -> tuple[Rule, ...]:
    """Rules that fail: of metrics with an interval in the baseline and no value in the report."""
    measured = report.flat()
    names = (n for n, m in baseline.metrics.items() if m.value is not None and m.interval)
    gone = (n for n in names if n not in measured and metric_of(n) is not None)
    return tuple(Rule(metric=n) for n in gone if not _told_twice(n))


def check(
    report: Report | str | os.PathLike[str],
    baseline: Report | str | os.PathLike[str],
    rules: Rule | Iterable[Rule] | str | os.PathLike[str] | None = None,
    *,
    ignore: str | Collection[str] = (),
) -> Verdict:
    """Apply the rules (`default_rules` if none are given) to a report and its baseline.

    Reports may be given as paths, rules as that of a gates.toml; one rule is a list of one.
    Without rules, what the baseline measured and the report did not fails too.  The verdict names
    every metric that is not held.
    ReportError where the two may not be compared, where a rule names a metric that neither has or
    of which nobody knows which way it is better, or where it asks for a paired test and the
    comparisons are not at hand.
    """
    report, baseline = opened(report, "the new report"), opened(baseline, "the baseline report")
    held = _given(rules)
    if held is None:
        comparison = compare(baseline, report, ignore=ignore, sides=_SIDES)
        held = (*default_rules(comparison), *_lost(report, baseline))
        why = comparison.why_unpaired or "no outcomes to pair"
    else:
        for rule in held:
            _known_metric(rule, report, baseline)
        names = list(dict.fromkeys(r.metric for r in held if r.allowed is not None))
        comparison = compare(baseline, report, names=names, ignore=ignore, sides=_SIDES)
        why = "no rule"
    unpaired = [r.metric for r in held if r.metric not in comparison.differences]
    refuse_edited(_SIDES[1], report, unpaired)
    adjusted = _adjusted(held, comparison)
    rulings = tuple(
        _ruling(rule, report, baseline, comparison, (p, len(adjusted) - adjusted.count(None)))
        for rule, p in zip(held, adjusted, strict=True)
    )
    said = support({"baseline": baseline, "now": report}, {rule.metric for rule in held})
    not_held = _not_held(held, report, baseline, why)
    return Verdict(rulings, not_held, (*said, *rough(comparison.differences.values())))


def _given(rules: Any) -> tuple[Rule, ...] | None:
    """Take rules, or one, None for the default ones, or read the gates.toml at a path."""
    if rules is None or isinstance(rules, str | os.PathLike):
        return None if rules is None else read_rules(rules)
    several = isinstance(rules, Iterable) and not isinstance(rules, bytes)
    given = tuple(rules) if several else (rules,)
    if not all(isinstance(rule, Rule) for rule in given):
        raise WrongTypeError(
            f"rules given as {rules!r:.80}", "expected Rules, or the path of a gates.toml"
        )
    if not given:
        raise ReportError("no rules are given", "None holds what both reports have")
    refuse_twice(given)
    return given


def _not_held(held: Collection[Rule], report: Report, baseline: Report, why: str) -> dict[str, str]:
    """Say of every metric without a rule why it has none; `why` where it could have one."""
    ruled, now, before = {rule.metric for rule in held}, report.flat(), baseline.flat()

    def reason(name: str) -> str:
        metric = metric_of(name)
        if metric is None:
            return "no record says which way it is better"
        if metric.better is None:
            return "neither better nor worse when higher"
        if name in now and name in before:
            return why
        return f"no value in the {'report' if name in before else 'baseline'}"

    return {n: reason(n) for n in {**baseline.metrics, **report.metrics} if n not in ruled}


def assert_no_regression(
    report: Report | str | os.PathLike[str],
    baseline: Report | str | os.PathLike[str],
    rules: Rule | Iterable[Rule] | str | os.PathLike[str] | None = None,
    *,
    ignore: str | Collection[str] = (),
) -> Verdict:
    """Raise AssertionError with the verdict's table unless the report keeps every rule.

    For the tests of a model's repository; rules and ignore as `check` takes them.
    """
    verdict = check(report, baseline, rules, ignore=ignore)
    if not verdict.passed:
        raise AssertionError("the gate failed\n" + verdict_table(verdict))
    return verdict


def _p(rule: Rule, d: Difference) -> float:
    """Chance of so large a difference, or of so large a drop, of equal models."""
    if not rule.one_sided:
        return d.p
    worse = d.value > 0 if rule.direction == "lower" else d.value < 0
    return d.p / 2 if worse else 1 - d.p / 2


def _adjusted(rules: Collection[Rule], found: Comparison) -> list[float | None]:
    """Adjust the p of each paired rule without an alpha of its own by Holm; None for others."""
    shared = {
        k: _p(rule, found.differences[rule.metric])
        for k, rule in enumerate(rules)
        if rule.test == "paired"
        and rule.alpha is None
        and rule.allowed is not None
        and rule.metric in found.differences
    }
    adjusted = dict(zip(shared, holm([*shared.values()]), strict=True))
    return [adjusted.get(k) for k in range(len(rules))]


def _ruling(
    rule: Rule,
    report: Report,
    baseline: Report,
    found: Comparison,
    shared: tuple[float | None, int],
) -> Ruling:
    m, b = report.metrics.get(rule.metric), baseline.metrics.get(rule.metric)
    value, base = (m.value if m else None), (b.value if b else None)
    ruling = Ruling(rule=rule, value=value, baseline=base)
    if value is None:
        return replace(ruling, failure=f"not measured: {m.note if m else 'absent from the report'}")
    failures = []
    if rule.floor is not None and value < rule.floor:
        failures.append(f"below the floor {spelled(rule.metric, rule.floor)}")
    if rule.ceiling is not None and value > rule.ceiling:
        failures.append(f"above the ceiling {spelled(rule.metric, rule.ceiling)}")
    if base is None:
        note = "the baseline has no value for it: only its floor or ceiling was checked"
        return replace(ruling, failure="; ".join(failures), warning=note)
    drop = value - base if rule.direction == "lower" else base - value
    allowed = rule.allowed
    if allowed is None:
        return replace(ruling, drop=drop, failure="; ".join(failures))
    d = found.differences.get(rule.metric)
    ruling = replace(ruling, drop=drop)
    if d is not None:
        ruling = _tested(ruling, d, *shared)
    elif rule.test != "plain":
        why = found.why_unpaired or f"{rule.metric} cannot be resampled"
        raise ReportError(f"no paired test of {rule.metric!r}: {why}", _KEEP_OUTCOMES)
    failures += _broken(ruling, drop, allowed)
    warning = "" if d is None else _weakness(ruling, d, allowed)
    return replace(ruling, failure="; ".join(failures), warning=warning)


def _tested(ruling: Ruling, d: Difference, adjusted: float | None, rules: int) -> Ruling:
    """Fill in the paired test of a rule's metric, which may share its level with other rules."""
    rule = ruling.rule
    low, high = d.interval(rule.level)
    upper = high if rule.direction == "lower" else -low
    if rule.test == "noninferior" and not d.error:  # nothing changed: the rule of three
        upper = -math.log(rule.level / 2) * (d.spread.per_change + d.spread.per_error)
    return replace(
        ruling,
        upper=upper,
        p=_p(rule, d),
        holm=adjusted,
        detectable=d.spread.detectable(rule.level / (1 if adjusted is None else rules)),
    )


def _broken(ruling: Ruling, drop: float, allowed: float) -> list[str]:
    """Say why a rule that allows a drop is broken; nothing where it is kept."""
    rule, most = ruling.rule, points(ruling.rule.metric, allowed)
    if rule.test == "noninferior":
        if ruling.upper is None or ruling.upper <= allowed + _ROUNDING:
            return []
        upper, level = points(rule.metric, ruling.upper), 1 - rule.level / 2
        return [f"may be worse by {upper} ({100 * level:.3g} % one-sided), {most} allowed"]
    if drop <= allowed + _ROUNDING:
        return []
    why = ""
    if rule.test == "paired":
        p, name = (ruling.p, "p") if ruling.holm is None else (ruling.holm, "Holm's p")
        alpha = ALPHA if rule.alpha is None else rule.alpha
        if p is None or p >= alpha:
            return []
        why = f", {name} = {p:.2g} < {alpha:.3g}"
    return [f"worse by {points(rule.metric, drop)}, {most} allowed{why}"]


def _weakness(ruling: Ruling, d: Difference, allowed: float) -> str:
    """Warn of a rule that so few people or errors cannot hold."""
    rule, smallest = ruling.rule, ruling.detectable
    if rule.test == "paired" and allowed and smallest is not None and smallest > allowed:
        seen = points(rule.metric, smallest)
        return f"cannot detect the drop it forbids: {seen} is the smallest it would"
    if rule.test == "noninferior" and d.spread.margin(rule.level) > allowed:
        needed = points(rule.metric, d.spread.margin(rule.level))
        return f"an equal model often fails: allow {needed}, or measure on more people"
    return ""


HEAD = ("metric", "baseline", "now", "drop", "allowed", "p", "Holm", "up to", "detectable")


def verdict_table(verdict: Verdict) -> str:
    """Lay out a verdict as text: a line for each rule, what it would detect, what is not held."""
    lines, *rows = narrow([("", *HEAD), *map(cells_of, verdict.rulings)], left=(0, 1), key=2)
    for ruling, row in zip(verdict.rulings, rows, strict=True):
        reasons = [reason for reason in (ruling.failure, ruling.warning) if reason]
        lines += row + [part for reason in reasons for part in wrapped(reason, 6)]
    lines += shared_level(verdict)
    lines += [part for line in verdict.support for part in wrapped(line, 2, 0)]
    count, broken = len(verdict.rulings), sum(not r.passed for r in verdict.rulings)
    summary = f"gate passed: {count} of {count} rules kept"
    if not verdict.passed:
        summary = f"gate failed: {broken} of {count} rules broken"
    if n := len(verdict.not_held):
        summary += f", {n} {'metric' if n == 1 else 'metrics'} not held"
    for why, names in unheld(verdict).items():
        lines += wrapped(f"not held, {why}: {', '.join(names)}", 2, 0)
    lines.append(summary)
    return "\n".join(lines)


def shared_level(verdict: Verdict) -> list[str]:
    """Say in a line how many rules share one level; [] where none do."""
    n = sum(r.holm is not None for r in verdict.rulings)
    if not n:
        return []
    rules = f"{n} paired rules share" if n > 1 else "1 paired rule has"
    return [f"{rules} the level {ALPHA}: one fails where Holm's p is below it"]


def unheld(verdict: Verdict) -> dict[str, list[str]]:
    """Gather the metrics that no rule holds by the reason."""
    names: dict[str, list[str]] = {}
    for name, why in verdict.not_held.items():
        names.setdefault(why, []).append(name)
    return names


def cells_of(ruling: Ruling) -> tuple[str, ...]:
    """Spell a ruling: verdict, and what `HEAD` names."""
    rule = ruling.rule

    def spell(value: float | None) -> str:
        return "-" if value is None else spelled(rule.metric, value)

    def spell_drop(value: float | None, sign: str = "") -> str:
        return "-" if value is None else points(rule.metric, value, sign)

    def spell_p(p: float | None) -> str:
        return "-" if p is None or rule.test != "paired" else f"{p:.2g}"

    return (
        "pass" if ruling.passed else "FAIL",
        rule.metric,
        spell(ruling.baseline),
        spell(ruling.value),
        spell_drop(ruling.drop, "+"),
        _limits(rule) if rule.allowed is None else spell_drop(rule.allowed),
        spell_p(ruling.p),
        spell_p(ruling.holm),
        spell_drop(ruling.upper, "+"),
        spell_drop(ruling.detectable),
    )


def _limits(rule: Rule) -> str:
    """Spell the floor and the ceiling of a rule."""
    least = [] if rule.floor is None else [f"from {spelled(rule.metric, rule.floor)}"]
    most = [] if rule.ceiling is None else [f"up to {spelled(rule.metric, rule.ceiling)}"]
    return " ".join([*least, *most])


def _known_metric(rule: Rule, report: Report, baseline: Report) -> None:
    names = {**report.metrics, **baseline.metrics}
    if rule.metric not in names:
        raise ReportError(
            f"no such metric: neither report has {rule.metric!r}", near(rule.metric, names)
        )
    refuse_unheld(rule)
