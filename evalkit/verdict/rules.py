"""Rules of a gate: what one metric must keep, and gates.toml, which lists them."""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

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
    ReportError for a rule that means nothing, such as a floor of NaN, or an alpha of 0.
    """

    metric: str
    max_drop: float | None = None
    test: Test = "paired"
    alpha: float | None = None
    one_sided: bool = False
    floor: float | None = None
    ceiling: float | None = None
    better: Better | None = None

    def __post_init__(self) -> None:
        _refuse_nonsense(self)
        object.__setattr__(self, "metric", canonical(self.metric))

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
    refuse_twice(rules, f"{path}, ")
    return rules


def refuse_twice(rules: Sequence[Rule], where: str = "") -> None:
    """Raise ReportError where two paired rules of one metric would halve the level they share.

    where : what the message begins with.
    """
    first: dict[str, int] = {}
    for n, rule in enumerate(rules, 1):
        if rule.test != "paired" or rule.alpha is not None or rule.allowed is None:
            continue
        if (other := first.setdefault(rule.metric, n)) != n:
            raise ReportError(
                f"{where}rules {other} and {n} are both paired tests of {rule.metric!r}",
                "leave one out: two share the level between them, so that each finds less",
            )


_WORDS = {"test": ("paired", "noninferior", "plain"), "better": ("higher", "lower")}
_NUMBERS = ("max_drop", "alpha", "floor", "ceiling")
_KEYS = ("metric", *_WORDS, "max-drop", *_NUMBERS[1:], "one-sided")


def _rule(table: Any, where: str) -> Rule:
    """Read one table of gates.toml, whose keys are `Rule`'s fields with hyphens."""
    if not isinstance(table, dict):
        raise ReportError(
            f"{where} is of type {type(table).__name__}, not a table",
            "write [[rule]] for each rule",
        )
    if "metric" not in table:
        raise ReportError(f"{where} has no metric", 'for example metric = "tpr@far=1e-6"')
    for key in table:
        if key not in _KEYS:
            raise ReportError(f"{where}: unknown key {key!r}", near(key, _KEYS))
    try:
        return Rule(**{key.replace("-", "_"): value for key, value in table.items()})
    except ReportError as e:
        said = (_with_hyphens(text) for text in (e.message, e.hint))
        raise ReportError(f"{where}: {next(said)}", next(said)) from None


def _with_hyphens(text: str) -> str:
    return text.replace("max_drop", "max-drop").replace("one_sided", "one-sided")


def _refuse_nonsense(rule: Rule) -> None:
    """ReportError for a rule that means nothing, or that no value could break."""
    if not isinstance(rule.metric, str) or not rule.metric:
        raise ReportError("a rule has no metric", 'for example metric = "tpr@far=1e-6"')
    for name, known in _WORDS.items():
        value = getattr(rule, name)
        if value not in known and not (name == "better" and value is None):
            shown = value if isinstance(value, str) else f"a {type(value).__name__}"
            raise ReportError(f"{name} = {shown!r}", near(shown, known))
    if not isinstance(rule.one_sided, bool):
        raise ReportError("one_sided is neither true nor false")
    for name in _NUMBERS:
        _refuse_other_number(rule, name)
    if rule.test == "noninferior" and not rule.max_drop:
        hint = "say how much worse it may be: max_drop = 0.002 is 0.2 points"
        raise ReportError('test = "noninferior" needs a max_drop above 0', hint)
    if rule.direction == "lower" and rule.floor is not None:
        raise ReportError(f"{rule.metric} counts errors, a floor lets it grow", "use ceiling")
    if rule.direction == "higher" and rule.ceiling is not None:
        raise ReportError(f"{rule.metric} is better when higher", "use floor")


def _refuse_other_number(rule: Rule, name: str) -> None:
    """ReportError where a field of a rule is no number, or one outside of its bounds."""
    value, metric = getattr(rule, name), metric_of(rule.metric)
    if value is None:
        return
    if not _is_number(value):
        raise ReportError(f"{name} of type {type(value).__name__} is not a number")
    if name == "alpha" and value in (0, 1):
        hint = "at 0 a rule never fails, at 1 always: 0.05 is usual"
        raise ReportError(f"alpha = {value:g} tests nothing", hint)
    share = name == "alpha" or (metric is not None and metric.unit == "fraction")
    if not 0 <= value <= (1.0 if share else sys.float_info.max):
        shown = "a huge number" if abs(value) >= 1e9 else f"{value:g}"
        if not share:
            raise ReportError(f"{name} = {shown} is not 0 or more, and finite")
        hint = "0.9 is 90 %" if name in ("floor", "ceiling") else "0.002 is 0.2 points"
        raise ReportError(f"{name} = {shown} is outside [0, 1]", f"values are fractions: {hint}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


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
    """Suggest the known name nearest to a mistyped one, or list them all.

    Nearest is one with the same numbers, spelled otherwise.

    >>> near("tpr@far=0.1", ["tpr@far=1e-2", "tpr@far=1e-1"])
    "did you mean 'tpr@far=1e-1'?"
    """
    if same := [each for each in known if _numbers_spelled(each) == _numbers_spelled(name)]:
        return f"did you mean {same[0]!r}?"
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def _numbers_spelled(name: str) -> str:
    """Spell the numbers of a metric's name alike: "tpr@far=1e-1" as "tpr@far=0.1"."""
    return re.sub(r"(?<==)[0-9]+(\.[0-9]+)?(e-?[0-9]{1,3})?", lambda n: repr(float(n[0])), name)
