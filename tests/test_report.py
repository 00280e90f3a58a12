import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evalkit import report as reports
from evalkit.errors import ReportError
from evalkit.protocols.metrics import few_false_accepts
from evalkit.protocols.metrics.vocabulary import METRICS
from evalkit.report.markdown import report_markdown
from evalkit.report.quality_table import is_of_quality
from evalkit.report.spelling import WIDTH, interval_of_points, points, row
from evalkit.report.table import html_table, notes, support, table
from evalkit.types import Estimate, Failures, Report
from evalkit.verdict.ci import verdict_markdown
from evalkit.verdict.compare import compare
from evalkit.verdict.gate import Rule, check

REPORT = Report(
    protocol="lfw",
    protocol_version=1,
    metrics={
        "accuracy": Estimate(value=0.9933, standard_error=0.0013, n=6000, folds=(0.99, 1.0)),
        "tpr@far=1e-9": Estimate(value=None, note="needs 1,000,000,000 impostors, has 3,000"),
    },
    failures=Failures(2, 3, 4, ("A/A_0001.jpg",)),
    provenance={"seed": 0, "shape": np.array([1, 2])},
    outcomes={"score": np.array([0.1, 0.2])},
)


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    reports.write(REPORT, tmp_path / "r.json")
    back = reports.read(tmp_path / "r.json")
    assert back.metrics == REPORT.metrics
    assert back.failures == REPORT.failures
    assert back.outcomes is not None and back.outcomes["score"].tolist() == [0.1, 0.2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json", "r.npz"]


@given(
    st.builds(
        Estimate,
        value=st.none() | st.floats(0, 1),
        low=st.none() | st.floats(0, 1),
        threshold=st.none() | st.floats(-1, 1),
        n=st.integers(0, 10**15),
        people=st.none() | st.integers(0, 10**9),
        note=st.text(),
        folds=st.lists(st.floats(0, 1)).map(tuple),
    )
)
def test_every_estimate_survives_json(estimate: Estimate) -> None:
    one = dataclasses.replace(REPORT, metrics={"m": estimate})
    text = json.dumps(reports.to_json(one), allow_nan=False)
    assert reports.from_json(json.loads(text)).metrics == {"m": estimate}


def test_other_documents_are_refused(tmp_path: Path) -> None:
    good = reports.to_json(REPORT)
    with pytest.raises(ReportError, match="not an evalkit report"):
        reports.from_json([])
    with pytest.raises(ReportError, match="report version 3, this evalkit reads 1 and 2"):
        reports.from_json({**good, "version": 3})
    with pytest.raises(ReportError, match="lacks or misspells a field: 'metrics'"):
        reports.from_json({k: v for k, v in good.items() if k != "metrics"})
    for version in (True, 2.0, "2", None):
        with pytest.raises(ReportError, match="report version"):
            reports.from_json({**good, "version": version})
    for name in ("metrics", "failures", "curves", "provenance", "identity"):
        for value in (None, [], "x"):
            kind = type(value).__name__
            with pytest.raises(ReportError, match=f"a field: {name} is a {kind}, not an object"):
                reports.from_json({**good, name: value})
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(ReportError, match="is not a JSON document"):
        reports.read(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({"value": 0.5, "low": 0.9, "high": 0.1}, "begins above its end, 0.9 and 0.1"),
        ({"value": 0.5, "far": 7}, "'auc' has a far of 7, not a share of 0 to 1"),
        ({"value": 78.33}, "'auc' is 78.33, not a share of 0 to 1"),
        ({"value": -0.01}, "'auc' is -0.01, not a share of 0 to 1"),
        ({"value": 0.5, "low": 0.6, "high": 0.7}, "outside its own interval of 0.6 to 0.7"),
        ({"value": 0.5, "valu": 1}, "'auc' has a field 'valu' that this evalkit does not know"),
        (0.5, "'auc' is a float, not an object"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(metric: object, message: str) -> None:
    if isinstance(metric, dict):
        metric = {"n": 4, "note": "", **metric}
    document = {**reports.to_json(REPORT), "metrics": {"auc": metric}}
    with pytest.raises(ReportError, match=message):
        reports.from_json(json.loads(json.dumps(document)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("value", np.nan), ("value", np.inf), ("value", "0.99"), ("threshold", np.nan)],
)
def test_a_report_made_in_python_that_cannot_be_is_refused(field: str, value: Any) -> None:
    """A value of NaN is below no floor: it passed the gate."""
    estimate = dataclasses.replace(REPORT.metrics["accuracy"], **{field: value})
    made = dataclasses.replace(REPORT, metrics={"accuracy": estimate})
    with pytest.raises(ReportError, match="'accuracy' "):
        check(made, REPORT, Rule(metric="accuracy", floor=0.5))


def test_a_difference_may_lie_below_zero() -> None:
    one = dataclasses.replace(REPORT, metrics={"vr@far=1e-3": Estimate(value=-0.1)})
    assert reports.from_json(json.loads(reports.dumps(one))).flat() == {"vr@far=1e-3": -0.1}


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    broken = dataclasses.replace(REPORT, provenance={"x": object()}, outcomes=None)
    with pytest.raises(TypeError):
        reports.write(broken, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(5e-324)
@example(-float(np.finfo(float).max))
def test_a_threshold_typed_back_accepts_the_same_pairs(threshold: float) -> None:
    m = Estimate(value=0.5, threshold=threshold)
    assert float(row("eer", m).threshold) == threshold
    assert float(str(m).rpartition("threshold ")[2]) == threshold


def test_the_table_shows_numbers_and_reasons() -> None:
    text = table(REPORT, "LFW")
    assert "99.33 % ± 0.13" in text
    assert "needs 1,000,000,000 impostors" in text
    assert "2 images without a template" in text


def test_standard_errors_stand_in_one_line_and_say_over_what() -> None:
    few = {f"tpr@far=1e-{k},mean=split": Estimate(value=0.9, standard_error=0.01) for k in (1, 2)}
    text = table(dataclasses.replace(REPORT, metrics=few), "IJB-A").replace("\n   ", "")
    assert "± standard error over splits: tpr@far=1e-1,mean=split 90.00 % ± 1.00; tpr@" in text
    assert text.count("± standard error") == 1


def test_a_difference_of_percent_is_in_points() -> None:
    assert points("accuracy", -0.0053, "+") == "-0.53 points"
    assert points("auc", 0.00082) == "0.00082"
    assert interval_of_points("tpr@far=1e-3", -0.0688, 0.0214) == "-6.88 to +2.14"


def test_a_table_fits_a_terminal_whatever_is_measured() -> None:
    """Names of every protocol, in a report that has all that a row may have."""
    of = "distractors=1000000"
    own = [m for m in METRICS if not is_of_quality(m.grammar)]  # those have a table of their own
    names = [m.grammar.replace("FAR", "1e-6").replace("FPIR", "1e-2") for m in own]
    names += [f"tpr@far=1e-6,{of},rule=devkit", f"rank-1@{of}", "tpr@far=1e-7@pairs=all"]
    note = "the devkit's curve: its first 100 probes, of 3 people: no interval"
    full = Estimate(
        **{"value": 0.5, "low": 0.25, "high": 1.0, "n": 10**12, "people": 690572, "note": note},
        **{"threshold": -float(np.finfo(float).max), "false_accepts": 10**6},
    )
    none = Estimate(value=None, n=10**12, note=note)
    held = {name: none if k % 3 == 0 else full for k, name in enumerate(names)}
    lines = table(dataclasses.replace(REPORT, metrics=held), "all").split("\n")
    assert max(map(len, lines)) <= WIDTH
    for name in names:
        assert sum(line[2:].startswith(f"{name} ") or line[2:] == name for line in lines) == 1, name


RENDERERS = {
    "terminal": table,
    "Markdown": report_markdown,
    "notebook": html_table,
    "page": lambda report: page_of(report),
    "page of several": lambda report: page_of(report, report),
}


def page_of(*reports: Report) -> str:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    from evalkit.report.page import page

    return page(reports)


@pytest.mark.parametrize("where", RENDERERS)
def test_every_table_says_what_decides(where: str) -> None:
    """People beside n, what ± and brackets are, few accepts once, and what the metric is."""
    few = Estimate(
        **{"value": 0.985, "low": 0.961, "high": 0.995, "n": 6000, "people": 1532},
        **{"threshold": 0.33, "false_accepts": 3, "note": few_false_accepts(3)},
    )
    doubtful = Estimate(value=0.5, n=77, note="rests on little")
    held = {"accuracy": REPORT["accuracy"], "tpr@far=1e-3": few, "unheard-of": doubtful}
    report = dataclasses.replace(REPORT, metrics=held, outcomes=None)
    text = re.sub("<[^>]*>", " ", RENDERERS[where](report))
    expected = ("1,532", "people", "6,000", "standard error", "95 % interval", "rests on little")
    for said in (*expected, "share of genuine pairs accepted", "2 images without a template"):
        assert said in text, said
    assert len(re.findall("fewer than 10", text)) == (2 if "several" in where else 1)
    assert ("only 3 false accepts" in text) == ("several" in where)  # which has no column of them


def test_notes_of_many_metrics_are_told_once() -> None:
    doubtful = Estimate(value=0.5, note="it is a guess")
    held = {f"m{k}": doubtful for k in range(5)}
    report = dataclasses.replace(REPORT, metrics=held | {"n": Estimate(value=None, note="empty")})
    assert notes({"": report}) == ["m0, m1, m2 and 2 more: it is a guess"]
    one = dataclasses.replace(REPORT, metrics={"m": doubtful})
    assert notes({"old": one, "new": one}) == ["old m, new m: it is a guess"]
    known = {name: Estimate(value=0.5, n=9, people=4) for name in ("auc", "eer")} | {"m": doubtful}
    held = {label: dataclasses.replace(REPORT, metrics=known) for label in ("old", "new")}
    said = ("n=9 pairs, 4 people: auc, eer", "old m, new m: it is a guess")
    assert support(held, ["auc", "eer", "m"]) == said
    assert support(held, ["auc"]) == ("n=9 pairs, 4 people: auc",)


def test_tables_side_by_side_end_with_people_and_notes() -> None:
    few = Estimate(
        **{"value": 0.985, "n": 6000, "people": 1532, "false_accepts": 3},
        note=few_false_accepts(3),
    )
    report = dataclasses.replace(REPORT, metrics={"tpr@far=1e-3": few}, outcomes=None)
    found = compare(report, report, ignore=["comparisons"])
    rule = Rule(metric="tpr@far=1e-3", test="plain")
    verdict = check(report, report, [rule], ignore=["comparisons"])
    for text in (str(found), str(verdict), verdict_markdown(verdict)):
        assert "n=6,000 pairs, 1,532 people: tpr@far=1e-3" in text
        assert "now tpr@far=1e-3: only 3 false" in text or "second tpr@far=1e-3: only 3" in text
