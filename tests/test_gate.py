import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files as files_of
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import ReportError, WrongTypeError
from evalkit.protocols import people
from evalkit.protocols.groups import Grouping
from evalkit.protocols.uncertainty.paired import holm
from evalkit.report.markdown import escaped, model_card, report_markdown
from evalkit.report.spelling import interval_of_points
from evalkit.types import Estimate, Report, SetIdentity
from evalkit.verdict.ci import github_annotations, verdict_junit, verdict_markdown
from evalkit.verdict.compare import Comparison, compare
from evalkit.verdict.differences import differences
from evalkit.verdict.gate import (
    Rule,
    Ruling,
    Verdict,
    assert_no_regression,
    check,
    read_rules,
    verdict_table,
)

pytestmark = pytest.mark.once

Two = tuple[Report, Report]


@pytest.fixture
def base_report(two_reports: Two) -> Report:
    return two_reports[0]


@pytest.fixture
def worse_report(two_reports: Two) -> Report:
    return two_reports[1]


def with_value(report: Report, name: str, value: float | None) -> Report:
    """Give a report another value, without outcomes: they would contradict one that is a number."""
    changed = {**report.metrics, name: Estimate(value=value, note="why")}
    return replace(report, metrics=changed, outcomes=report.outcomes if value is None else None)


def test_a_report_passes_against_itself_and_a_worse_one_does_not(
    base_report: Report, worse_report: Report
) -> None:
    assert check(base_report, base_report).passed
    verdict = check(worse_report, base_report)
    assert not verdict.passed
    assert check(base_report, worse_report).passed  # better is never a regression
    with pytest.raises(AssertionError, match="gate failed"):
        assert_no_regression(worse_report, base_report)
    assert assert_no_regression(base_report, base_report).passed


def test_plain_fails_on_the_drop_alone(base_report: Report) -> None:
    slightly = with_value(
        base_report, "accuracy", (base_report.metrics["accuracy"].value or 0) - 0.01
    )
    plain = check(slightly, base_report, [Rule(metric="accuracy", test="plain")])
    assert not plain.passed


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("auc", Rule(metric="auc")),
        ("accuracy", Rule(metric="accuracy", test="plain")),
        ("accuracy", Rule(metric="accuracy", floor=0.9)),
        ("eer", Rule(metric="eer", ceiling=0.2)),
    ],
)
def test_a_value_that_is_not_that_of_the_outcomes_is_refused(
    base_report: Report, name: str, rule: Rule
) -> None:
    """As by an editor: nobody stands behind the difference, and a floor knows no outcomes."""
    m = replace(base_report.metrics[name], value=0.123, low=None, high=None)
    changed = {**base_report.metrics, name: m}
    edited = replace(base_report, metrics=changed)
    with pytest.raises(ReportError, match=f"new report says {name} is 0.123, and by its outcome"):
        check(edited, base_report, [rule])
    with pytest.raises(ReportError, match=f"first report says {name} is 0.123, and by its outcom"):
        compare(edited, base_report)
    alone = replace(edited, outcomes=None)
    assert check(alone, alone, [replace(rule, test="plain")]).rulings[0].value == 0.123


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("tpr@far=1e-2", "threshold", 0.9),
        ("tpr@far=1e-2", "far", 0.004),
        ("tpr@far=1e-2", "false_accepts", 1),
        ("eer", "false_accepts", 1),
        ("fmr@far=1e-2,sex=f", "value", 0.001),
        ("fmr@far=1e-2,sex=f+m", "value", 0.001),
        ("fnmr@far=1e-2,sex=f", "threshold", 0.9),
        ("tpr@far=1e-2,sex=m", "value", 0.999),
        ("fnmr@far=1e-2,sex=m", "n", 7),
    ],
)
def test_what_stands_beside_a_value_is_held_against_the_outcomes(
    name: str, field: str, value: float
) -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(40), 3)
    x = rng.normal(size=(40, 8))[who] + 0.7 * rng.normal(size=(120, 8))
    sexes = Grouping.of("sex", ["fm"[w % 2] for w in who])
    report = people.evaluate(
        x.astype(np.float32),
        who,
        fars=["1e-2"],
        groups=[sexes],
        set_name="x",
        keys=[f"{k}.jpg" for k in range(120)],
    )
    assert check(report, report).passed
    changed = replace(report.metrics[name], **{field: value}, low=None, high=None)
    edited = replace(report, metrics={**report.metrics, name: changed})
    with pytest.raises(ReportError, match=f"says .*{re.escape(name)} is .*by its outcomes it is"):
        compare(edited, report)


def test_a_report_of_which_random_impostors_are_kept_is_its_own_baseline() -> None:
    """The EER and its FAR are of 500,000 of 2.9 million; over all it was refused as edited."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(400), 6)
    x = rng.normal(size=(400, 6))[who] + 0.9 * rng.normal(size=(2400, 6))
    keys = [f"{k}.jpg" for k in range(2400)]
    report = people.evaluate(x.astype(np.float32), who, fars=["1e-3"], set_name="x", keys=keys)
    far = report.metrics["eer"].far
    assert far is not None and check(report, report).passed
    edited = replace(report.metrics["eer"], far=far + 1e-4)
    with pytest.raises(ReportError, match="says far of eer is"):
        compare(replace(report, metrics={**report.metrics, "eer": edited}), report)


def test_a_value_far_from_its_draws_is_refused() -> None:
    drawn = {"subject": np.arange(9), "drawn:vr@far=1e-3": np.linspace(0.5, 0.6, 200)}
    report = Report(
        protocol="blufr",
        protocol_version=1,
        metrics={"vr@far=1e-3": Estimate(value=0.55)},
        outcomes=drawn,
        identity=SetIdentity(list="a", images="b"),
    )
    edited = replace(report, metrics={"vr@far=1e-3": Estimate(value=0.8)})
    compare(report, report)
    with pytest.raises(ReportError, match=r"is 0\.8, and its draws lie between 0\.5 and 0\.6"):
        compare(report, edited)


@pytest.mark.parametrize(("allowed", "passes"), [(0.0009, False), (0.001, True), (0.0011, True)])
def test_a_drop_equal_to_the_tolerance_is_allowed(
    allowed: float, passes: bool, base_report: Report
) -> None:
    base, now = (
        with_value(base_report, "accuracy", 0.993),
        with_value(base_report, "accuracy", 0.992),
    )
    rule = Rule(metric="accuracy", test="plain", max_drop=allowed)
    assert check(now, base, [rule]).passed is passes


def test_more_errors_are_a_drop(base_report: Report) -> None:
    base, now = with_value(base_report, "eer", 0.01), with_value(base_report, "eer", 0.03)
    rule = Rule(metric="eer", test="plain", max_drop=0.01)
    verdict = check(now, base, [rule])
    assert verdict.rulings[0].drop == pytest.approx(0.02)
    assert not verdict.passed
    assert check(base, now, [rule]).passed
    assert not check(now, base, [Rule(metric="eer", test="plain", max_drop=1, ceiling=0.02)]).passed


def test_floor_and_missing_values(base_report: Report) -> None:
    high = Rule(metric="accuracy", floor=0.999999)
    verdict = check(base_report, base_report, [high])
    assert "below the floor" in verdict.rulings[0].failure
    assert "  from 100.00 %  " in str(verdict)  # what it allows stands in the table
    assert "  up to 50.00 %  " in str(
        check(base_report, base_report, [Rule(metric="eer", ceiling=0.5)])
    )
    none = with_value(base_report, "accuracy", None)
    assert (
        "not measured: why"
        in check(none, base_report, [Rule(metric="accuracy")]).rulings[0].failure
    )
    new = check(base_report, none, [Rule(metric="accuracy", floor=0.1)])
    assert new.passed and "baseline has no value" in new.rulings[0].warning


def test_a_tolerance_below_what_the_test_can_detect_is_a_warning(base_report: Report) -> None:
    weak = check(base_report, base_report, [Rule(metric="accuracy", max_drop=0.001)]).rulings[0]
    assert weak.detectable is not None and 0.001 < weak.detectable < 0.1
    assert "cannot detect" in weak.warning
    strong = check(base_report, base_report, [Rule(metric="accuracy", max_drop=0.5)]).rulings[0]
    assert strong.warning == ""


def test_noninferior_passes_only_if_the_drop_is_shown_to_be_small(
    base_report: Report, worse_report: Report
) -> None:
    """The same few errors: nothing is significant, and nothing is shown either."""

    def held(report: Report, allowed: float, **named: Any) -> Ruling:
        rule = Rule(metric="accuracy", max_drop=allowed, test="noninferior", **named)
        return check(report, base_report, [rule]).rulings[0]

    same = held(base_report, 0.03)
    assert same.passed and same.drop == 0 and same.upper is not None
    # Nothing changed: 3 of as many as are independent may still (rule of three).
    assert 3 / 800 < same.upper < 0.03
    assert not held(base_report, 0.001).passed
    worse = held(worse_report, 0.03)
    found = compare(base_report, worse_report).differences["accuracy"]
    assert worse.upper == pytest.approx(-found.interval(0.1)[0])
    assert worse.failure == (
        f"may be worse by {100 * worse.upper:.2f} points (95 % one-sided), 3.00 points allowed"
    )
    assert held(worse_report, worse.upper + 1e-9).passed
    assert not held(worse_report, worse.upper - 1e-9).passed
    strict = held(worse_report, 0.2, alpha=0.001)
    assert strict.passed and strict.upper == pytest.approx(-found.interval(0.002)[0])
    assert "an equal model often fails: allow" in held(worse_report, 0.001).warning


def test_rules_without_an_alpha_share_one_and_others_keep_theirs(
    base_report: Report, worse_report: Report
) -> None:
    names = list(base_report.flat())
    shared = [Rule(metric=n) for n in names]
    verdict = check(base_report, worse_report, shared)
    p = [r.p for r in verdict.rulings]
    assert all(value is not None for value in p)
    assert [r.holm for r in verdict.rulings] == holm([value or 0.0 for value in p])
    told = f"{len(names)} paired rules share the level 0.05"
    assert told in verdict_table(verdict) and told in verdict_markdown(verdict)
    own = check(base_report, worse_report, [Rule(metric=n, alpha=0.05) for n in names])
    assert [r.holm for r in own.rulings] == [None] * len(names)
    assert "share" not in verdict_table(own)
    one_sided = check(worse_report, base_report, [Rule(metric="auc", one_sided=True)])
    gain = check(base_report, worse_report, [Rule(metric="auc", one_sided=True)])
    (down,), (up,) = one_sided.rulings, gain.rulings
    two_sided = check(worse_report, base_report, [Rule(metric="auc")]).rulings[0]
    assert down.p == (two_sided.p or 0) / 2 and up.p is not None and up.p > 0.5


def test_a_drop_that_is_significant_alone_is_not_among_many(base_report: Report) -> None:
    """At p = 0.03 a rule fails alone, and with an alpha of its own; not as one of five."""
    names = list(base_report.flat())
    difference = compare(base_report, base_report).differences["eer"]
    spread = replace(difference.spread, equal=1e-6)
    changed = replace(difference, value=0.01, error=0.01 / 2.2, freedom=1e6, spread=spread)
    found = Comparison({}, {n: changed if n == "eer" else difference for n in names}, ())

    def failed(*rules: Rule) -> list[str]:
        more = with_value(base_report, "eer", (base_report.metrics["eer"].value or 0) + 0.01)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("evalkit.verdict.gate.compare", lambda *a, **k: found)
            return [r.failure for r in check(more, base_report, rules).rulings if not r.passed]

    assert failed(Rule(metric="eer")) == [
        "worse by 1.00 points, 0.00 points allowed, Holm's p = 0.028 < 0.05"
    ]
    assert failed(*(Rule(metric=n) for n in names)) == []
    assert len(failed(*(Rule(metric=n, alpha=0.05) for n in names))) == 1


def test_compare_gate_page_and_fixture_say_the_same(
    base_report: Report,
    worse_report: Report,
    tmp_path: Path,
    evalkit_gate: Callable[..., Verdict | None],
) -> None:
    found = compare(base_report, worse_report).differences
    rulings = {r.rule.metric: r for r in check(worse_report, base_report).rulings}
    rows = {row.name: row for row in differences([base_report, worse_report])[0].rows}
    for name, d in found.items():
        assert rulings[name].p == d.p
        assert rulings[name].detectable == d.spread.detectable(0.05 / len(found))
        worst = d.high if name == "eer" else -d.low
        assert rulings[name].upper == worst
        assert rows[name].p == f"{d.p:.2g}" and rows[name].test == d.test
        assert rows[name].interval == interval_of_points(name, d.low, d.high)
        assert rows[name].worse == (d.p < 0.05)
    for name, report in (("base", base_report), ("worse", worse_report)):
        reports.write(report, tmp_path / f"{name}.json")
    rules = tmp_path / "gates.toml"
    rules.write_text('[[rule]]\nmetric = "auc"\nmax-drop = 0.05\ntest = "noninferior"\n')
    worse, base = tmp_path / "worse.json", tmp_path / "base.json"
    verdict = evalkit_gate(worse, base, rules)
    assert verdict is not None and verdict.rulings[0].upper == -found["auc"].interval(0.1)[0]
    rules.write_text(rules.read_text().replace("0.05", "0.001"))
    with pytest.raises(AssertionError, match="may be worse by"):
        evalkit_gate(worse, base, rules)


def test_paired_needs_outcomes_and_plain_does_not(base_report: Report) -> None:
    bare = replace(base_report, outcomes=None)
    with pytest.raises(ReportError, match="no paired test of 'accuracy'"):
        check(base_report, bare, [Rule(metric="accuracy")])
    assert check(base_report, bare, [Rule(metric="accuracy", test="plain")]).passed


NONSENSE = [
    ("", "has no rules"),
    ("rule = 3", "has no rules"),
    ("[[rules]]\nmetric = 'auc'", "unknown table 'rules'"),
    ("rule = [3]", "rule 1 is of type int, not a table"),
    ("[[rule]]\nmax-drop = 0.1", "has no metric"),
    ("[[rule]]\nmetric = ''", "has no metric"),
    ("[[rule]]\nmetric = 'auc'\nmax_drop = 0.1", "did you mean 'max-drop'"),
    ("[[rule]]\nmetric = 'auc'\nmax-drop = '1'", "is not a number"),
    ("[[rule]]\nmetric = 'auc'\nmax-drop = true", "is not a number"),
    ("[[rule]]\nmetric = 'auc'\nmax-drop = 2", "outside .0, 1."),
    (f"[[rule]]\nmetric = 'auc'\nmax-drop = {10**400}", "a huge number is outside"),
    ("[[rule]]\nmetric = 'auc'\nalpha = nan", "alpha = nan is outside .0, 1."),
    ("[[rule]]\nmetric = 'auc'\nalpha = 0", "alpha = 0 tests nothing"),
    ("[[rule]]\nmetric = 'auc'\nalpha = 1.0", "alpha = 1 tests nothing"),
    ("[[rule]]\nmetric = 'auc'\n" * 2, "rules 1 and 2 are both paired tests of 'auc'"),
    ("[[rule]]\nmetric = 'auc'\ntest = 'pared'", "did you mean 'paired'"),
    ("[[rule]]\nmetric = 'eer'\nfloor = 0.1", "use ceiling"),
    ("[[rule]]\nmetric = 'auc'\nceiling = 0.1", "use floor"),
    ("[[rule]]\nmetric = 'auc'\none-sided = 1", "one-sided is neither true nor false"),
    ("[[rule]]\nmetric = 'auc'\none-side = true", "did you mean 'one-sided'"),
    ("[[rule]]\nmetric = 'auc'\ntest = 'noninferior'", "needs a max-drop above 0"),
    ("[[rule]]\nmetric = 'auc'\ntest = 'non-inferior'", "did you mean 'noninferior'"),
    ("[[rule", "is not TOML"),
]


@pytest.mark.parametrize(("text", "message"), NONSENSE)
def test_nonsense_in_gates_toml_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(text)
    with pytest.raises(ReportError, match=message) as e:
        read_rules(path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"floor": float("nan")}, "floor = nan is outside"),
        ({"floor": 99}, "values are fractions"),
        ({"floor": "0.9"}, "floor of type str is not a number"),
        ({"max_drop": -0.5}, "max_drop = -0.5 is outside"),
        ({"alpha": 0.0}, "alpha = 0 tests nothing"),
        ({"alpha": float("nan")}, "alpha = nan is outside"),
        ({"test": "pared"}, "did you mean 'paired'"),
        ({"test": "noninferior"}, "needs a max_drop above 0"),
        ({"ceiling": 0.1}, "auc is better when higher"),
        ({"metric": "eer", "floor": 0.1}, "eer counts errors"),
        ({"one_sided": 1}, "one_sided is neither true nor false"),
        ({"metric": ""}, "a rule has no metric"),
    ],
)
def test_rules_made_in_python_are_held_to_what_a_file_is(
    fields: dict[str, Any], message: str
) -> None:
    """A floor of NaN passed every value, an alpha of 0 every drop."""
    with pytest.raises(ReportError, match=message):
        Rule(**{"metric": "auc", **fields})


def test_rules_are_given_alone_several_or_as_a_file(base_report: Report) -> None:
    rule = Rule(metric="auc", test="plain")
    for rules in (rule, [rule], (r for r in [rule])):
        assert check(base_report, base_report, rules).passed
    assert check(base_report, base_report, rule, ignore="crop").passed
    with pytest.raises(ReportError, match="rules 1 and 2 are both paired tests of 'auc'"):
        check(base_report, base_report, [Rule(metric="auc")] * 2)
    with pytest.raises(WrongTypeError, match="expected Rules, or the path of"):
        check(base_report, base_report, [{"metric": "auc"}])  # type: ignore[list-item]


def test_rules_of_one_metric_that_share_no_level_stand_together(tmp_path: Path) -> None:
    (tmp_path / "gates.toml").write_text(TWO_OF_ONE)
    assert len(read_rules(tmp_path / "gates.toml")) == 4


GOOD = '[[rule]]\nmetric = "auc"\n[[rule]]\nmetric = "eer"\nceiling = 0.1\n'
TWO_OF_ONE = (
    "[[rule]]\nmetric = 'auc'\nfloor = 0.1\n[[rule]]\nmetric = 'auc'\n"
    "[[rule]]\nmetric = 'auc'\nalpha = 0.01\n[[rule]]\nmetric = 'auc'\ntest = 'plain'\n"
)
UNHELD = [
    ("[[rule]]\nmetric = 'acuracy'", "no record says which way 'acuracy' is better"),
    ("[[rule]]\nmetric = 'norm-variation'", "neither better nor worse when higher"),
    ("[[rule]]\nmetric = 'eer'\nbetter = 'higher'", "leave better out of its rule"),
]


def test_rules_are_checked_without_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, one = tmp_path / "good.toml", tmp_path / "one.toml"
    good.write_text(GOOD)
    one.write_text('[[rule]]\nmetric = "hter"\nbetter = "lower"\n')
    assert run(["rules", str(good), str(one)]) == 0
    held = capsys.readouterr().out
    assert held == f"{good}: 2 rules: auc, eer\n{one}: 1 rule: hter\n"


@pytest.mark.parametrize(("text", "message"), [*NONSENSE[1:], *UNHELD])
def test_rules_that_no_report_could_be_held_to_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "gates.toml"
    good.write_text(GOOD)
    bad.write_text(text)
    assert run(["rules", str(good), str(bad)]) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"evalkit: error: {bad}") and re.search(message, said)
    assert said.count("\n") <= 2  # the error, and perhaps a hint


@given(st.text(max_size=60))
def test_any_text_as_rules_is_rules_or_a_report_error(text: str) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "gates.toml"
        path.write_text(text, encoding="utf-8", errors="replace")
        with pytest.raises(ReportError):
            read_rules(path)


def test_without_rules_only_what_can_be_paired_is_held(base_report: Report) -> None:
    more = with_value(base_report, "tpr@far=1e-6,pairs=all", 0.9)
    more = replace(more, outcomes=base_report.outcomes)  # which are not of all pairs
    verdict = check(more, more)
    assert [r.rule.metric for r in verdict.rulings] == list(base_report.flat())
    assert verdict.not_held == {"tpr@far=1e-6,pairs=all": "no outcomes to pair"}
    n = len(verdict.rulings)
    told = (
        f"not held, no outcomes to pair: tpr@far=1e-6,pairs=all\ngate passed: {n} of {n} rules kept"
    )
    assert f"{told}, 1 metric not held" in verdict_table(verdict)
    assert "1 not held, no outcomes to pair: tpr@far=1e-6,pairs=all" in verdict_markdown(verdict)
    with pytest.raises(ReportError, match="no paired test of any metric"):
        check(base_report, replace(base_report, outcomes=None))


def test_without_rules_what_is_no_longer_measured_fails(base_report: Report) -> None:
    none = with_value(base_report, "auc", None)
    verdict = check(none, base_report)
    assert [r.failure for r in verdict.rulings if not r.passed] == ["not measured: why"]
    absent = {n: m for n, m in base_report.metrics.items() if n != "auc"}
    verdict = check(replace(base_report, metrics=absent), base_report)
    (lost,) = [r for r in verdict.rulings if not r.passed]
    assert (lost.rule.metric, lost.failure) == ("auc", "not measured: absent from the report")
    assert check(base_report, none).passed  # what the baseline never measured is not held


def test_a_gate_without_any_rule_does_not_pass(base_report: Report) -> None:
    with pytest.raises(ReportError, match="no rules are given"):
        check(base_report, base_report, [])


def test_a_misspelt_metric_gets_the_nearest(base_report: Report) -> None:
    with pytest.raises(ReportError, match=r"no such metric: .*did you mean 'tpr@far=1e-1'"):
        check(base_report, base_report, [Rule(metric="tpr@fa=1e-1")])


def files(folder: Path, two: Two) -> list[str]:
    reports.write(two[0], folder / "base.json")
    reports.write(two[1], folder / "worse.json")
    return ["gate", str(folder / "worse.json"), "--baseline", str(folder / "base.json")]


@pytest.mark.parametrize("name", ["accuracy", "tpr@far=1e-6,distractors=1000000,cleaned=facex"])
def test_the_table_fits_80_columns(two_reports: Two, name: str) -> None:
    base, now = (
        replace(r, metrics={name: r.metrics["accuracy"], **r.metrics}) for r in two_reports
    )
    held = [
        Rule(metric="eer", max_drop=0.0001),
        Rule(metric="auc", test="noninferior", max_drop=1e-9),
    ]
    held.append(Rule(metric=name, test="plain", floor=0.99999, max_drop=0.1))
    for rules in (held, None):
        lines = verdict_table(check(now, base, rules)).split("\n")
        assert max(map(len, lines)) <= 80
    row = next(k for k, line in enumerate(lines) if "accuracy" in line.split())
    assert "points" in lines[row + 1] and lines[row + 1].startswith("  ")


def test_the_command_line_from_verdict_to_new_baseline(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    two_reports: Two,
    worse_report: Report,
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    line = files(tmp_path, two_reports)
    rules = tmp_path / "gates.toml"
    rules.write_text('[[rule]]\nmetric = "accuracy"\nmax-drop = 0.001\ntest = "plain"\n')
    junit = tmp_path / "gate.xml"
    assert run([*line, "--rules", str(rules), "--junit", str(junit)]) == 1
    assert "gate failed: 1 of 1 rules broken" in capsys.readouterr().out
    assert "failed" in summary.read_text()
    suite = ET.parse(junit).getroot()
    counts = [suite.get(name) for name in ("tests", "failures", "skipped")]
    n = len(worse_report.metrics)
    assert counts == [str(n), "1", str(n - 1)]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert run([*line, "--rules", str(rules)]) == 1
    assert "::error title=accuracy::worse by" in capsys.readouterr().out
    assert run([*line, "--accept"]) == 0
    assert run(line) == 0  # the same report against itself
    assert reports.read(tmp_path / "base.json").metrics == worse_report.metrics


def test_a_report_that_is_its_own_baseline_is_told(
    tmp_path: Path, two_reports: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    base = files(tmp_path, two_reports)[3]
    assert run(["gate", base, "--baseline", base]) == 0
    assert "warning: REPORT is its own baseline: no rule but a floor" in capsys.readouterr().err
    assert run(files(tmp_path, two_reports)) == 1
    assert "own baseline" not in capsys.readouterr().err


@pytest.mark.parametrize("empty", [False, True])
def test_the_first_baseline_is_made_by_accept(
    tmp_path: Path, two_reports: Two, empty: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    line = files(tmp_path, two_reports)
    (tmp_path / "base.json").unlink()
    if empty:
        (tmp_path / "base.json").touch()
    assert run(line) == 3
    assert "make the first baseline: evalkit gate REPORT" in capsys.readouterr().err
    elsewhere = [*line[:-1], str(tmp_path / "kept" / "base.json"), "--accept"]
    assert run(elsewhere) == 3
    assert f"error: no such folder: {tmp_path / 'kept'}\n" in capsys.readouterr().err
    assert run([*line, "--accept"]) == 0
    assert run(line) == 0


# What Jenkins' junit-10.xsd lets an element have: attributes it must and may, children it may.
JUNIT = {
    "testsuite": ("name tests failures errors", "skipped time timestamp hostname", "testcase"),
    "testcase": ("name", "classname time group", "failure skipped system-out system-err"),
    "failure": ("", "type message", ""),
    "skipped": ("", "type message", ""),
    "system-out": ("", "", ""),
}


def test_junit_keeps_the_schema_that_jenkins_reads(base_report: Report) -> None:
    rules = [
        Rule(metric="accuracy", floor=0.999999, max_drop=0.001),  # fails, and warns
        Rule(metric="accuracy", max_drop=0.5, alpha=0.05),
        Rule(metric="auc", max_drop=1e-9),  # warns
        Rule(metric="eer", test="plain", max_drop=1.0, ceiling=1e-9),
    ]
    text = verdict_junit(check(base_report, base_report, rules))
    assert text.startswith("<?xml version='1.0' encoding='utf-8'?>")
    root = ET.fromstring(text)
    for element in root.iter():
        must, may, children = (words.split() for words in JUNIT[element.tag])
        assert set(must) <= set(element.attrib) <= {*must, *may}, element.tag
        assert {child.tag for child in element} <= set(children), element.tag
    cases = root.findall("testcase")
    failed = [case for case in cases if case.find("failure") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    assert {case.get("classname") for case in cases} == {"evalkit.gate"}  # CI keeps history by it
    unruled = [name for name in base_report.metrics if name not in {r.metric for r in rules}]
    assert root.get("tests") == str(len(cases)) == str(len(rules) + len(unruled))
    assert root.get("failures") == str(len(failed)) == "2"
    assert root.get("skipped") == str(len(skipped))
    assert [case.get("name") for case in skipped] == unruled
    assert skipped[0].find("skipped").get("message") == "not held: no rule"
    ruled = cases[:4]
    assert [case.find("system-out") is not None for case in ruled] == [True, False, True, False]
    for whole in ("tests", "failures", "errors", "skipped"):
        assert str(root.get(whole)).isdigit()  # an integer, though the schema calls it a string


def test_hostile_names_stay_inside_xml_markdown_and_annotations() -> None:
    name = "</testcase>\x00|<script>\n::error::%"
    verdict = Verdict((Ruling(rule=Rule(metric=name), value=None, baseline=None, failure=name),))
    root = ET.fromstring(verdict_junit(verdict))
    assert len(root.findall("testcase")) == 1
    text = verdict_markdown(verdict)
    assert "<script>" not in text.replace("\\<", "")
    (line,) = github_annotations(verdict)
    assert "\n" not in line and line.startswith("::error title=") and r"|<script>\n::error" in line
    assert escaped("a|b\nc") == r"a\|b\\nc"


def test_a_report_as_markdown_and_model_card(base_report: Report) -> None:
    text = report_markdown(base_report)
    assert text.count("\n| ") == 1 + len(base_report.metrics)
    card = model_card([('my "model"', base_report)])
    assert card.startswith('---\nmodel-index:\n- name: "my \\"model\\""\n')
    for name, value in base_report.flat().items():
        assert f'    - type: "{name}"\n      value: {value!r}\n' in card


def test_a_protocol_command_holds_the_gate_in_one_line(
    tmp_path: Path,
    base_report: Report,
    worse_report: Report,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from evalkit.cli.output import Output

    reports.write(base_report, tmp_path / "base.json")
    held = reports.read(tmp_path / "base.json")
    same = Output(None, None, held)
    assert same.deliver(base_report, "") == 0
    assert same.deliver(worse_report, "") == 1
    capsys.readouterr()
    assert Output(Path("-"), None, held).deliver(worse_report, "") == 1
    said = capsys.readouterr()
    assert reports.from_json(json.loads(said.out)).protocol == "verification"  # one document
    assert "gate failed" in said.err


def test_the_demos_gate_closes_too(
    tmp_path: Path, two_reports: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports.write(two_reports[0], tmp_path / "base.json")
    for made, code in zip(two_reports, (0, 1), strict=True):
        monkeypatch.setattr("evalkit.cli.demo.measure", lambda *_, made=made, **__: made)
        assert run(["demo", "--gate", str(tmp_path / "base.json")]) == code


def test_this_repository_gates_its_own_demo_numbers(tmp_path: Path) -> None:
    """The embeddings that ship with evalkit, held against the report of an earlier evalkit.

    A changed number is a breaking change: after one that is meant, make the baseline anew with
    `evalkit lfw --features evalkit/datasets/data/lfw_mobilefacenet.h5 --out` that file.
    """
    baseline = Path(__file__).parent / "golden" / "demo" / "lfw.json"
    shipped = files_of("evalkit.datasets").joinpath("data", "lfw_mobilefacenet.h5")
    now = tmp_path / "now.json"
    line = ["lfw", "--features", str(shipped), "--gate", str(baseline), "--out", str(now)]
    assert run(line) == 0
    was, held = reports.read(baseline).flat(), reports.read(now).flat()
    assert {name: held[name] for name in was} == pytest.approx(was, abs=1e-12)
