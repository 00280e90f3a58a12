import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import ProtocolError, ReportError
from evalkit.protocols.metrics import threshold_at_far
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.types import Estimate, Report
from evalkit.verdict.compare import compare
from evalkit.verdict.gate import read_rules
from evalkit.verdict.threshold import operating_point

Two = tuple[Report, Report]
GOLDEN = Path(__file__).parent / "golden" / "report-1.json"


def test_the_threshold_is_that_of_the_definition(two_reports: Two) -> None:
    report = two_reports[0]
    o = report.outcomes or {}
    impostor = o["score"][~o["genuine"]]
    for far in ("1e-1", "0.03", "1e-2"):
        point = operating_point(report, far)
        t = threshold_at_far(impostor, far)
        assert t is not None
        assert point["threshold"] == t
        assert point["far"] == np.mean(impostor >= t)
        assert point["tpr"] == np.mean(o["score"][o["genuine"]] >= t)
        high = point["threshold_high"]  # open where 4 accepts may be none
        assert point["threshold_low"] < t < (high or np.inf) and (high is None) == (far == "1e-2")
        assert point["far_low"] < point["far"] < point["far_high"]
        fmr = {f"fmr@threshold={t!r}": Estimate(value=point["far"])}
        (given,) = with_intervals(fmr, o).values()
        assert (point["far_low"], point["far_high"]) == (given.low, given.high)
        assert point["tpr_low"] < point["tpr"] <= point["tpr_high"]


def test_a_far_is_text_or_a_float_and_nothing_else(two_reports: Two) -> None:
    point = operating_point(two_reports[0], "0.1")
    assert operating_point(two_reports[0], 0.1) == point
    with pytest.raises(ProtocolError, match="outside"):
        operating_point(two_reports[0], 10.0)


def test_without_outcomes_the_report_speaks(two_reports: Two) -> None:
    bare = replace(two_reports[0], outcomes=None)
    point = operating_point(bare, "1e-1")
    assert point["threshold"] == two_reports[0].metrics["tpr@far=1e-1"].threshold
    assert point["threshold_low"] is None
    with pytest.raises(ReportError, match="did you mean 'tpr@far=1e-2'"):
        operating_point(bare, "1e-3")


def test_what_the_impostors_cannot_support_is_refused(two_reports: Two) -> None:
    with pytest.raises(ReportError, match=r"cannot support FAR 1e-4: .* at least 10,000"):
        operating_point(two_reports[0], "1e-4")


def test_another_projects_rule_gives_no_threshold_to_deploy(two_reports: Two) -> None:
    report = two_reports[0]
    name = "tpr@far=1e-1,rule=nearest-far"
    held = replace(report, metrics={**report.metrics, name: report.metrics["tpr@far=1e-1"]})
    with pytest.raises(ReportError, match=r"another project's rule \(deploy that of far=1e-1\)"):
        operating_point(held, "1e-1,rule=nearest-far")


def test_threshold_on_the_command_line(
    tmp_path: Path, two_reports: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    reports.write(two_reports[0], path)
    assert run(["threshold", str(path), "--far", "1e-1"]) == 0
    out = capsys.readouterr().out
    t = two_reports[0].metrics["tpr@far=1e-1"].threshold
    assert f"accept if and only if score >= {t!r}" in out
    assert "rests on 40 false accepts in 400 impostor comparisons of 60 people" in out
    assert run(["threshold", str(path), "--far", "1e-2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["false_accepts"] == 4
    assert run(["threshold", str(path), "--far", "rare"]) == 2


def test_every_report_keeps_the_schema_and_the_command_prints_it(
    two_reports: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == json.loads(
        files("evalkit.report").joinpath("schema-2.json").read_text(encoding="utf-8")
    )
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    for r in two_reports:
        jsonschema.validate(json.loads(reports.dumps(r)), schema)
    wrong = json.loads(reports.dumps(two_reports[0]))
    wrong["metrics"]["auc"]["valeu"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_a_report_of_version_1_is_read_as_long_as_there_is_evalkit() -> None:
    report = reports.read(GOLDEN)
    assert report.protocol == "lfw"
    assert report.metrics["accuracy"].folds[:2] == (0.99, 1.0)
    assert report.metrics["tpr@far=1e-4"].value is None
    again = json.loads(reports.dumps(report))
    assert set(again.pop("identity").values()) == {None}  # nobody knows what it compared
    assert {**again, "version": 1} == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_an_unknown_version_is_refused(tmp_path: Path, version: object) -> None:
    document = {**json.loads(GOLDEN.read_text(encoding="utf-8")), "version": version}
    (tmp_path / "r.json").write_text(json.dumps(document))
    with pytest.raises(ReportError, match=f"is report version {version!r}"):
        reports.read(tmp_path / "r.json")


def test_one_grammar_of_parameters_is_printed_and_two_are_read(
    tmp_path: Path, two_reports: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    report, other = two_reports
    at = other.metrics["tpr@far=1e-2"]
    parts = {f"pairs=all/{name}": array for name, array in (other.outcomes or {}).items()}
    held = replace(
        report,
        metrics={**report.metrics, "tpr@far=1e-2@pairs=all": at},
        outcomes={**(report.outcomes or {}), **parts},
    )
    path = tmp_path / "r.json"
    reports.write(held, path)
    assert reports.read(path).metrics["tpr@far=1e-2,pairs=all"] == at
    for far in ("1e-2,pairs=all", "1e-2@pairs=all"):
        assert run(["threshold", str(path), "--far", far]) == 0
        assert f"score >= {at.threshold!r}" in capsys.readouterr().out
    rules = tmp_path / "gates.toml"
    rules.write_text('[[rule]]\nmetric = "tpr@far=1e-2@pairs=all"\n')
    assert read_rules(rules)[0].metric == "tpr@far=1e-2,pairs=all"
    assert "tpr@far=1e-2,pairs=all" in compare(path, path).differences


def test_a_row_whose_pairs_are_not_kept_has_its_threshold_alone(two_reports: Two) -> None:
    report = two_reports[0]
    at = two_reports[1].metrics["tpr@far=1e-2"]
    held = replace(report, metrics={**report.metrics, "tpr@far=1e-2,pairs=all": at})
    point = operating_point(held, "1e-2,pairs=all")
    assert point["threshold"] == at.threshold
    assert (point["threshold_low"], point["impostors"], point["safe"]) == (None, None, None)
