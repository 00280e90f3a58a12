import json
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import ReportError
from evalkit.protocols.uncertainty.paired import holm
from evalkit.types import Report
from evalkit.verdict.compare import (
    MUST_AGREE,
    check_comparable,
    compare,
    comparison_table,
    rough,
)
from evalkit.verdict.differences import differences
from evalkit.verdict.gate import check

Two = tuple[Report, Report]


@pytest.mark.parametrize("field", ["crop", "decoder", "recipe"])
def test_what_must_agree_is_named_when_it_does_not(field: str, two_reports: Two) -> None:
    base, other = two_reports
    changed = replace(other, provenance={**other.provenance, field: "another"})
    with pytest.raises(ReportError, match=f"differ in '{field}': 'same' and 'another'"):
        compare(base, changed)
    check_comparable(base, changed, ignore=[field])
    unknown = {k: v for k, v in other.provenance.items() if k != field}
    with pytest.raises(ReportError, match="not recorded"):
        compare(base, replace(other, provenance=unknown))


def test_another_protocol_or_version_is_refused(two_reports: Two) -> None:
    base, other = two_reports
    with pytest.raises(ReportError, match="differ in 'protocol'"):
        compare(base, replace(other, protocol="lfw"))
    with pytest.raises(ReportError, match="differ in 'protocol_version': '1' and '2'"):
        compare(base, replace(other, protocol_version=2))


def test_flips_are_the_decisions_that_differ_by_hand(two_reports: Two) -> None:
    base, other = two_reports
    found = compare(base, other, draws=20)
    d = found.differences["accuracy"]
    assert (d.lost, d.gained) == (
        sum(f.lost for f in found.flips),
        sum(not f.lost for f in found.flips),
    )
    assert d.lost is not None and d.gained is not None
    assert d.lost > d.gained
    a, b = base.metrics["accuracy"].value, other.metrics["accuracy"].value
    assert a is not None and b is not None
    assert (d.gained - d.lost) / 800 == pytest.approx(b - a)
    for f in found.flips:
        assert f.genuine == (f.left[:3] == f.right[:3])
    text = comparison_table(found, ("base", "other"), flips=1)
    assert f"{d.lost} lost, {d.gained} gained" in text
    assert f"... and {d.lost - 1} more" in text


def test_the_table_fits_80_columns_and_a_long_title_stands_above(two_reports: Two) -> None:
    found = compare(*two_reports, draws=20)
    for titles in (("base", "other"), ("a", "a-model-of-a-longer-name")):
        lines = comparison_table(found, titles, flips=0).split("\n")
        assert max(map(len, lines)) <= 80
        row = next(k for k, line in enumerate(lines) if line.startswith("accuracy "))
        p, holm = found.differences["accuracy"].p, found.holm["accuracy"]
        cells = (lines[row] + lines[row + 1]).split()
        assert cells[cells.index("higher") - 2 :][:2] == [f"{p:.2g}", f"{holm:.2g}"]
        noted = any(line.startswith(("first tpr", "second tpr")) for line in lines)
        assert noted and ("first is base, second is other" in lines) == (titles[1] == "other")
    assert lines[:2] == ["first: a", "second: a-model-of-a-longer-name"]
    (fewest,) = {min(d.people for d in found.differences.values())}
    said = f"of {fewest} people detectable is rough"
    assert fewest < 100 and any(line.startswith(said) for line in lines)
    assert len(rough(replace(d, people=99) for d in found.differences.values())) == 1
    assert rough(replace(d, people=100) for d in found.differences.values()) == []
    assert any(
        line.startswith(said) for line in str(check(two_reports[1], two_reports[0])).split("\n")
    )


@pytest.mark.parametrize(("errors", "worse"), [(2.2, False), (4, True)])
def test_the_page_calls_worse_what_holm_calls_worse(
    two_reports: Two, monkeypatch: pytest.MonkeyPatch, errors: float, worse: bool
) -> None:
    found = compare(*two_reports, draws=20)
    changed = {
        n: replace(d, error=abs(d.value) / errors, freedom=1e3)
        for n, d in found.differences.items()
    }
    found = replace(found, differences=changed)
    assert all(d.p < 0.05 for d in found.differences.values())
    monkeypatch.setattr("evalkit.verdict.differences.compare", lambda *_: found)
    (shown,) = differences(two_reports)
    for row in shown.rows:
        assert row.worse is worse and row.detectable
        assert row.holm == f"{found.holm[row.name]:.2g}" != row.p


def test_one_name_is_a_list_of_one(two_reports: Two) -> None:
    one, several = (compare(*two_reports, names=names) for names in ("auc", ["auc"]))
    assert one.values == several.values and [*one.values] == ["auc"]


def test_a_name_that_neither_report_has_is_refused(two_reports: Two) -> None:
    with pytest.raises(ReportError, match=r"neither report has 'acuracy' \(did you mean 'accuracy"):
        compare(*two_reports, names=["auc", "acuracy"])
    base, other = two_reports
    without = replace(other, metrics={n: m for n, m in other.metrics.items() if n != "auc"})
    assert [*compare(base, without, names=("auc", "eer")).values] == ["eer"]


def test_without_outcomes_there_are_values_and_a_reason(two_reports: Two) -> None:
    base, other = two_reports
    found = compare(replace(base, outcomes=None), other)
    assert found.values and not found.differences
    assert "first report has no outcomes" in found.why_unpaired
    shuffled = {**(other.outcomes or {}), "left": (other.outcomes or {})["right"]}
    found = compare(base, replace(other, outcomes=shuffled))
    assert "'left' differs" in found.why_unpaired


def test_compare_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], two_reports: Two
) -> None:
    for name, r in zip("ab", two_reports, strict=True):
        reports.write(r, tmp_path / f"{name}.json")
    line = ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--draws", "50"]
    assert run(line) == 0
    out = capsys.readouterr().out
    assert "subject bootstrap" in out and ".jpg" in out
    assert "McNemar" not in out  # everybody is in many pairs
    assert "5 paired rows" in out and "Holm" in out and "detectable" in out
    assert run([*line, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = [row["difference"] for row in document["metrics"].values()]
    assert document["metrics"]["eer"]["difference"]["test"] == "subject bootstrap"
    assert [row["holm"] for row in rows] == holm([row["p"] for row in rows])
    for row in rows:
        assert (row["p"] < 0.05) == (row["low"] > 0 or row["high"] < 0)
        assert row["detectable"] > 0
    text = (tmp_path / "b.json").read_text().replace('"crop": "same"', '"crop": "loose"')
    (tmp_path / "b.json").write_text(text)
    assert run(line) == 3
    err = capsys.readouterr().err
    assert "'crop'" in err and "--ignore crop" in err
    assert run([*line, "--ignore", "crop"]) == 0
    assert "crop" in MUST_AGREE
