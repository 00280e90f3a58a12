"""The gate: may this model replace the baseline?  Rules in, a verdict out."""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from evalkit.errors import ReportError
from evalkit.escaping import laid_out, printable
from evalkit.files import as_path
from evalkit.protocols.metrics.record import Better
from evalkit.protocols.metrics.vocabulary import canonical, metric_of
from evalkit.report import opened
from evalkit.report.table import points, spelled
from evalkit.types import Report
from evalkit.verdict.compare import Comparison, compare

Test = Literal["paired", "plain"]
ALPHA = 0.05
_KEEP_OUTCOMES = 'keep the outcomes with --out, or write a rule with test = "plain"'
_ROUNDING = 1e-12  # 0.993 - 0.992 is not above 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one metric must keep, in its own units (a fraction: 0.002 is 0.2 points).

    max_drop : how much worse than the baseline it may be; None is nothing, or, with a floor or a
    ceiling, that these alone are held.  test : "paired" fails only if the drop is also significant
    (two-sided p < alpha); "plain" fails on the drop alone.
    floor : the least value, for metrics where higher is better; ceiling : the most, for errors.
    better : needed for a metric without a record (`evalkit.protocols.metrics.vocabulary`) alone.
    """

    metric: str
    max_drop: float | None = None
    test: Test = "paired"
    alpha: float = ALPHA
    floor: float | None = None
    ceiling: float | None = None
    better: Better | None = None

    @property
    def allowed(self) -> float | None:
        """The largest drop from the baseline; None where that is not held."""
        bounded = self.floor is not None or self.ceiling is not None
        return self.max_drop or (None if self.max_drop is None and bounded else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A rule applied: what was found, and why it failed (empty: it passed).

    drop : how much worse than the baseline, positive is worse.  noticeable : the smallest drop that
    the paired test would notice 4 times in 5.  warning : what the rule cannot do.
    """

    rule: Rule
    value: float | None
    baseline: float | None
    drop: float | None = None
    p: float | None = None
    noticeable: float | None = None
    failure: str = ""
    warning: str = ""

    @property
    def passed(self) -> bool:
        """Whether the rule is kept."""
        return not self.failure


@dataclass(frozen=True, slots=True)
class Verdict:
    """All rulings; the gate is open if every rule passed.

    not_held : metric -> why no rule holds it.
    """

    rulings: tuple[Ruling, ...]
    not_held: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every rule is kept."""
        return all(r.passed for r in self.rulings)

    def __str__(self) -> str:
        return verdict_table(self)


def default_rules(found: Comparison) -> tuple[Rule, ...]:
    """No metric with a paired test may be significantly worse, at 0.05 shared among all of them."""
    known = [n for n in found.differences if metric_of(n) is not None]
    if not known:
        why = found.why_unpaired or "none has a value in both reports"
        raise ReportError(f"no paired test of any metric: {why}", _KEEP_OUTCOMES)
    return tuple(Rule(metric=n, alpha=ALPHA / len(known)) for n in known)


def _lost(report: Report, baseline: Report) -> tuple[Rule, ...]:
    """Rules that fail: of metrics with an interval in the baseline and no value in the report."""
    measured = report.flat()
    held = (n for n, m in baseline.metrics.items() if m.value is not None and m.interval)
    return tuple(Rule(metric=n) for n in held if n not in measured and metric_of(n) is not None)


def check(
    report: Report | str | os.PathLike[str],
    baseline: Report | str | os.PathLike[str],
    rules: Sequence[Rule] | str | os.PathLike[str] | None = None,
    *,
    ignore: Sequence[str] = (),
) -> Verdict:
    """Apply the rules (`default_rules` if none are given) to a report and its baseline.

    Reports may be given as paths, rules as that of a gates.toml.
    Without rules, what the baseline measured and the report did not fails too.  The verdict names
    every metric that is not held.
    ReportError where the two may not be compared, where a rule names a metric that neither has or
    of which nobody knows which way it is better, or where it asks for a paired test and the
    comparisons are not at hand.
    """
    report, baseline = opened(report), opened(baseline)
    held = _given(rules)
    if held is None:
        found = compare(baseline, report, ignore=ignore)
        held = (*default_rules(found), *_lost(report, baseline))
        why = found.why_unpaired or "no outcomes to pair"
    else:
        for rule in held:
            _known_metric(rule, report, baseline)
        names = list(dict.fromkeys(r.metric for r in held if r.allowed is not None))
        found = compare(baseline, report, names=names, ignore=ignore)
        why = "no rule"
    rulings = tuple(_ruling(rule, report, baseline, found) for rule in held)
    return Verdict(rulings, _not_held(held, report, baseline, why))


def _given(rules: Any) -> Sequence[Rule] | None:
    """Take rules, None for the default ones, or read the gates.toml at a path."""
    if rules is None or (isinstance(rules, Sequence) and all(isinstance(r, Rule) for r in rules)):
        return rules
    return read_rules(rules)


def _not_held(held: Sequence[Rule], report: Report, baseline: Report, why: str) -> dict[str, str]:
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
    rules: Sequence[Rule] | str | os.PathLike[str] | None = None,
    *,
    ignore: Sequence[str] = (),
) -> Verdict:
    """Raise AssertionError with the verdict's table unless the report keeps every rule.

    For the tests of a model's repository; rules and ignore as `check` takes them.
    """
    verdict = check(report, baseline, rules, ignore=ignore)
    if not verdict.passed:
        raise AssertionError("the gate is closed\n" + verdict_table(verdict))
    return verdict


def _ruling(rule: Rule, report: Report, baseline: Report, found: Comparison) -> Ruling:
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
    drop = value - base if _better(rule) == "lower" else base - value
    allowed = rule.allowed
    if allowed is None:
        return replace(ruling, drop=drop, failure="; ".join(failures))
    d = found.differences.get(rule.metric)
    paired = rule.test == "paired"
    if paired and d is None:
        why = found.why_unpaired or f"{rule.metric} cannot be resampled"
        raise ReportError(
            f"no paired test of {rule.metric!r}: {why}",
            _KEEP_OUTCOMES,
        )
    p = d.p if d else None
    if drop > allowed + _ROUNDING and not (paired and p is not None and p >= rule.alpha):
        why = f", p = {p:.2g} < {rule.alpha:.3g}" if paired and p is not None else ""
        most = points(rule.metric, allowed)
        failures.append(f"worse by {points(rule.metric, drop)}, {most} allowed{why}")
    warning = ""
    if paired and d is not None and allowed and d.noticeable > allowed:
        smallest = points(rule.metric, d.noticeable)
        warning = f"cannot notice the drop it forbids: {smallest} is the smallest it would"
    return replace(
        ruling,
        drop=drop,
        p=p,
        noticeable=d.noticeable if d else None,
        failure="; ".join(failures),
        warning=warning,
    )


def verdict_table(verdict: Verdict) -> str:
    """Lay out a verdict as text: a line for each rule, what it would notice, what is not held."""
    head = ("", "metric", "baseline", "now", "drop", "allowed", "p", "would notice")
    top, *rows = laid_out([head, *map(cells_of, verdict.rulings)], left=(0, 1))
    lines = [top]
    for ruling, row in zip(verdict.rulings, rows, strict=True):
        reasons = [reason for reason in (ruling.failure, ruling.warning) if reason]
        lines += [row, *(f"      {printable(reason)}" for reason in reasons)]
    kept = sum(r.passed for r in verdict.rulings)
    outcome = "passed" if verdict.passed else "FAILED"
    told = f"gate {outcome}: {kept} of {len(verdict.rulings)} rules kept"
    if verdict.not_held:
        told += f", {len(verdict.not_held)} metrics not held"
    for why, names in unheld(verdict).items():
        lines.append(printable(f"not held, {why}: {', '.join(names)}"))
    lines.append(told)
    return "\n".join(lines)


def unheld(verdict: Verdict) -> dict[str, list[str]]:
    """Gather the metrics that no rule holds by the reason."""
    names: dict[str, list[str]] = {}
    for name, why in verdict.not_held.items():
        names.setdefault(why, []).append(name)
    return names


def cells_of(ruling: Ruling) -> tuple[str, ...]:
    """Spell a ruling: verdict, metric, baseline, now, drop, allowed, p, smallest noticeable."""
    rule = ruling.rule

    def spell(value: float | None) -> str:
        return "-" if value is None else spelled(rule.metric, value)

    def spell_drop(value: float | None, sign: str = "") -> str:
        return "-" if value is None else points(rule.metric, value, sign)

    return (
        "pass" if ruling.passed else "FAIL",
        rule.metric,
        spell(ruling.baseline),
        spell(ruling.value),
        spell_drop(ruling.drop, "+"),
        spell_drop(rule.allowed),
        "-" if ruling.p is None or rule.test == "plain" else f"{ruling.p:.2g}",
        spell_drop(ruling.noticeable),
    )


def read_rules(path: str | os.PathLike[str]) -> tuple[Rule, ...]:
    """Read gates.toml: tables `[[rule]]` of `Rule`'s fields, max-drop with a hyphen.

    ReportError in one line, with the nearest known name, for anything else.
    """
    path = as_path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ReportError(f"no rules at {path}") from e
    except (OSError, ValueError, RecursionError) as e:
        raise ReportError(f"{path} is not TOML: {e}") from e
    for name in document:
        if name != "rule":
            raise ReportError(f"{path}: unknown table {name!r}", "write [[rule]] for each rule")
    tables = document.get("rule")
    if not isinstance(tables, list) or not tables:
        raise ReportError(f"{path} has no rules", "write [[rule]] and below it a metric")
    return tuple(_rule(t, f"{path}, rule {n}") for n, t in enumerate(tables, 1))


def _better(rule: Rule) -> Better | None:
    """Which way a rule's metric is better: by its record, or where it has none as declared."""
    metric = metric_of(rule.metric)
    return rule.better if metric is None else metric.better


_NUMBERS = {"max-drop": (0.0, 1.0), "alpha": (0.0, 1.0), "floor": (0.0, 1.0), "ceiling": (0.0, 1.0)}
_WORDS = {"test": ("paired", "plain"), "better": ("higher", "lower")}
_KEYS = ("metric", *_WORDS, *_NUMBERS)


def _rule(table: Any, where: str) -> Rule:
    if not isinstance(table, dict):
        raise ReportError(
            f"{where} is of type {type(table).__name__}, not a table",
            "write [[rule]] for each rule",
        )
    metric = table.get("metric")
    if not isinstance(metric, str) or not metric:
        raise ReportError(f"{where} has no metric", 'for example metric = "tpr@far=1e-6"')
    metric = canonical(metric)
    record = metric_of(metric)
    for key, value in table.items():
        if key not in _KEYS:
            raise ReportError(f"{where}: unknown key {key!r}", near(key, _KEYS))
        if key in _NUMBERS:
            low, high = _NUMBERS[key]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ReportError(f"{where}: {key} of type {type(value).__name__} is not a number")
            if (record is None or record.unit != "fraction") and key != "alpha":
                high = sys.float_info.max
            if not low <= value <= high:
                shown = f"{value:g}" if abs(value) < 1e9 else "a huge number"
                hint = "values are fractions: 0.002 is 0.2 points"
                if high > 1:
                    raise ReportError(f"{where}: {key} = {shown} is not 0 or more, and finite")
                raise ReportError(f"{where}: {key} = {shown} is outside [0, 1]", hint)
    for key, known in _WORDS.items():
        value = table.get(key, known[0])
        if value not in known:
            shown = value if isinstance(value, str) else f"a {type(value).__name__}"
            raise ReportError(f"{where}: {key} = {shown!r}", near(shown, known))
    named = {key.replace("-", "_"): value for key, value in table.items()}
    rule = Rule(**{**named, "metric": metric})
    better = _better(rule)
    if better == "lower" and rule.floor is not None:
        raise ReportError(f"{where}: {metric} counts errors, a floor lets it grow", "use ceiling")
    if better == "higher" and rule.ceiling is not None:
        raise ReportError(f"{where}: {metric} is better when higher", "use floor")
    return rule


def _known_metric(rule: Rule, report: Report, baseline: Report) -> None:
    names = {**report.metrics, **baseline.metrics}
    if rule.metric not in names:
        raise ReportError(f"no report has a metric {rule.metric!r}", near(rule.metric, names))
    metric = metric_of(rule.metric)
    if metric is None and rule.better is None:
        raise ReportError(
            f"nobody has declared which way {rule.metric!r} is better, so no rule can hold it",
            'add better = "higher" or "lower" to its [[rule]], or register a Metric '
            "(evalkit.protocols.metrics.vocabulary); known are those of evalkit list --metrics",
        )
    if metric is not None and metric.better is None:
        raise ReportError(
            f"{rule.metric!r} is neither better nor worse when higher: no rule can hold it",
            "evalkit list --metrics says which have a direction",
        )
    if metric is not None and rule.better not in (None, metric.better):
        raise ReportError(
            f"the rule says that {rule.metric!r} is better when {rule.better}: it is when "
            f"{metric.better}",
            "leave better out of its rule",
        )


def near(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """Suggest the known name nearest to a mistyped one, or list them all."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
