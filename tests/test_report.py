import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import report as reports
from evalkit.errors import ReportError
from evalkit.report.table import interval_of_points, points, table, threshold
from evalkit.types import Estimate, Failures, Report

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
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(ReportError, match="is not a JSON document"):
        reports.read(tmp_path / "r.json")


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    broken = dataclasses.replace(REPORT, provenance={"x": object()}, outcomes=None)
    with pytest.raises(TypeError):
        reports.write(broken, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_that_accepts_everybody_is_no_line_of_digits() -> None:
    assert [threshold(t) for t in (0.123456, -2.0, np.finfo(float).min)] == [
        "0.12346",
        "-2.00000",
        "-1.7977e+308",
    ]


def test_the_table_shows_numbers_and_reasons() -> None:
    text = table(REPORT, "LFW")
    assert "99.33 % ± 0.13" in text
    assert "needs 1,000,000,000 impostors" in text
    assert "2 images without a template" in text


def test_a_difference_of_percent_is_in_points() -> None:
    assert points("accuracy", -0.0053, "+") == "-0.53 points"
    assert points("auc", 0.00082) == "0.00082"
    assert interval_of_points("tpr@far=1e-3", -0.0688, 0.0214) == "-6.88 to +2.14"
