"""Rules of a gate: what one metric must keep, and gates.toml, which lists them."""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evalkit.errors import ReportError
from evalkit.files import as_path, decoded
from evalkit.protocols.metrics.record import Better
from evalkit.protocols.metrics.vocabulary import canonical, metric_of

Test = Literal["paired", "noninferior", "plain"]
ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one metric must keep, in its own units (a fraction: 0.002 is 0.2 points).

    max_drop : how much worse than the baseline it may be; None is nothing, or, with a floor or a
    ceiling, that these alone are held.
    test : "paired" fails only if the drop is also significant; "noninferior" passes only if the
    upper end of the drop's interval, one-sided at alpha, is at most max_drop; "plain" fails on the
    drop alone.
    alpha : of this rule's own test.  None is 0.05, which paired rules share: their p are adjusted
    by Holm.  Of noninferior ones none is: they err only where all of them do [Berger 1982].
    one_sided : whether a paired test looks for drops alone, not for gains too.
    floor : the least value, for metrics where higher is better; ceiling : the most, for errors.
    better : needed for a metric without a record (`evalkit.protocols.metrics.vocabulary`) alone.
    """

    metric: str
    max_drop: float | None = None
    test: Test = "paired"
    alpha: float | None = None
    one_sided: bool = False
    floor: float | None = None
    ceiling: float | None = None
    better: Better | None = None

    @property
    def allowed(self) -> float | None:
        """The largest drop from the baseline; None where that is not held."""
        bounded = self.floor is not None or self.ceiling is not None
        return self.max_drop or (None if self.max_drop is None and bounded else 0.0)

    @property
    def direction(self) -> Better | None:
        """Which way the metric is better: by its record, or where it has none as declared."""
        metric = metric_of(self.metric)
        return self.better if metric is None else metric.better

    @property
    def level(self) -> float:
        """Alpha of a two-sided test or interval whose one end is the one looked at."""
        alpha = ALPHA if self.alpha is None else self.alpha
        return min(1.0, 2 * alpha) if self.one_sided or self.test == "noninferior" else alpha


def read_rules(path: str | os.PathLike[str]) -> tuple[Rule, ...]:
    """Read gates.toml: tables `[[rule]]` of `Rule`'s fields, max-drop with a hyphen.

    ReportError in one line, with the nearest known name, for anything else.
    """
    path = as_path(path)
    try:
        document = tomllib.loads(decoded(path.read_bytes()))
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
    rules = tuple(_rule(t, f"{path}, rule {n}") for n, t in enumerate(tables, 1))
    _refuse_twice(rules, str(path))
    return rules


def _refuse_twice(rules: Sequence[Rule], where: str) -> None:
    """Raise ReportError where two paired rules of one metric would halve the level they share."""
    first: dict[str, int] = {}
    for n, rule in enumerate(rules, 1):
        if rule.test != "paired" or rule.alpha is not None or rule.allowed is None:
            continue
        if (other := first.setdefault(rule.metric, n)) != n:
            raise ReportError(
                f"{where}, rules {other} and {n} are both paired tests of {rule.metric!r}",
                "leave one out: two share the level between them, so that each finds less",
            )


_NUMBERS = {"max-drop": (0.0, 1.0), "alpha": (0.0, 1.0), "floor": (0.0, 1.0), "ceiling": (0.0, 1.0)}
_WORDS = {"test": ("paired", "noninferior", "plain"), "better": ("higher", "lower")}
_KEYS = ("metric", *_WORDS, *_NUMBERS, "one-sided")


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
            if key == "alpha" and value in (0, 1):
                hint = "at 0 a rule never fails, at 1 always: 0.05 is usual"
                raise ReportError(f"{where}: alpha = {value:g} tests nothing", hint)
            if not low <= value <= high:
                shown = "a huge number" if abs(value) >= 1e9 else f"{value:g}"
                hint = "values are fractions: 0.002 is 0.2 points"
                if high > 1:
                    raise ReportError(f"{where}: {key} = {shown} is not 0 or more, and finite")
                raise ReportError(f"{where}: {key} = {shown} is outside [0, 1]", hint)
        if key == "one-sided" and not isinstance(value, bool):
            raise ReportError(f"{where}: one-sided is neither true nor false")
    for key, known in _WORDS.items():
        value = table.get(key, known[0])
        if value not in known:
            shown = value if isinstance(value, str) else f"a {type(value).__name__}"
            raise ReportError(f"{where}: {key} = {shown!r}", near(shown, known))
    named = {key.replace("-", "_"): value for key, value in table.items()}
    rule = Rule(**{**named, "metric": metric})
    if rule.test == "noninferior" and not rule.max_drop:
        hint = "say how much worse it may be: max-drop = 0.002 is 0.2 points"
        raise ReportError(f'{where}: test = "noninferior" needs a max-drop above 0', hint)
    better = rule.direction
    if better == "lower" and rule.floor is not None:
        raise ReportError(f"{where}: {metric} counts errors, a floor lets it grow", "use ceiling")
    if better == "higher" and rule.ceiling is not None:
        raise ReportError(f"{where}: {metric} is better when higher", "use floor")
    return rule


def refuse_unheld(rule: Rule, where: str = "") -> None:
    """ReportError where no report could be held to a rule: which way its metric is better is open.

    where : what the message begins with.
    """
    metric = metric_of(rule.metric)
    if metric is None and rule.better is None:
        raise ReportError(
            f"{where}no record says which way {rule.metric!r} is better, so no rule can hold it",
            'add better = "higher" or "lower" to its [[rule]], or register a Metric '
            "(evalkit.protocols.metrics.vocabulary); known are those of evalkit list --metrics",
        )
    if metric is not None and metric.better is None:
        raise ReportError(
            f"{where}{rule.metric!r} is neither better nor worse when higher: no rule can hold it",
            "evalkit list --metrics says which have a direction",
        )
    if metric is not None and rule.better not in (None, metric.better):
        raise ReportError(
            f"{where}the rule says that {rule.metric!r} is better when {rule.better}: it is when "
            f"{metric.better}",
            "leave better out of its rule",
        )


def near(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """Suggest the known name nearest to a mistyped one, or list them all."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
