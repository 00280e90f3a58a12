import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from evalkit import report as reports
from evalkit.errors import ReportError
from evalkit.types import Report
from evalkit.verdict.baseline import accept

pytestmark = pytest.mark.once

TEST = """
def test_the_model_is_no_worse(evalkit_gate):
    evalkit_gate("{now}.json", "base.json")
"""


def pytest_run(
    folder: Path, now: str, *options: str, test: str = TEST
) -> subprocess.CompletedProcess[str]:
    (folder / "test_model.py").write_text(test.format(now=now))
    loaded = any(e.name == "evalkit" for e in entry_points(group="pytest11"))
    plugin = [] if loaded else ["-p", "evalkit.pytest_plugin"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_the_fixture_holds_the_gate_and_accepts_a_new_baseline(
    tmp_path: Path, two_reports: tuple[Report, Report]
) -> None:
    for name, r in zip(("base", "worse"), two_reports, strict=True):
        reports.write(r, tmp_path / f"{name}.json")
    assert pytest_run(tmp_path, "base").returncode == 0
    failed = pytest_run(tmp_path, "worse")
    assert failed.returncode == 1
    assert "the gate failed" in failed.stdout and "FAIL  " in failed.stdout
    assert pytest_run(tmp_path, "worse", "--evalkit-accept").returncode == 0
    assert pytest_run(tmp_path, "worse").returncode == 0


def test_no_baseline_is_made_that_no_gate_could_pair_with(
    tmp_path: Path, two_reports: tuple[Report, Report]
) -> None:
    """Without outcomes, or edited: every later gate would have refused it."""
    base = two_reports[0]
    m = replace(base.metrics["accuracy"], value=0.99, low=None, high=None)
    edited = replace(base, metrics={**base.metrics, "accuracy": m})
    for report, told in (
        (replace(base, outcomes=None), "no outcomes beside it"),
        (edited, "new report says accuracy is 0.99, and by its outcomes"),
    ):
        with pytest.raises(ReportError, match=told):
            accept(report, tmp_path / "base.json")
    reports.write(replace(base, outcomes=None), tmp_path / "bare.json")
    done = pytest_run(tmp_path, "bare", "--evalkit-accept")
    assert done.returncode == 1 and "no outcomes beside it" in done.stdout
    assert not (tmp_path / "base.json").exists()


def test_the_fixture_refuses_other_comparisons_unless_told(
    tmp_path: Path, two_reports: tuple[Report, Report]
) -> None:
    base = two_reports[0]
    other = replace(base, identity=replace(base.identity, set="animals"))
    for name, r in zip(("base", "other"), (base, other), strict=True):
        reports.write(r, tmp_path / f"{name}.json")
    refused = pytest_run(tmp_path, "other")
    assert refused.returncode == 1
    assert "ReportError: the reports differ in 'set': 'people' and 'animals'" in refused.stdout
    said = TEST.replace('"base.json"', '"base.json", ignore=["set"]')
    assert pytest_run(tmp_path, "other", test=said).returncode == 0
