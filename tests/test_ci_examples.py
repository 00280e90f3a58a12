"""docs/ci is run here, step by step, against the demo's own report."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import ReportError
from evalkit.report.markdown import eval_results, model_card

pytestmark = pytest.mark.once

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "demo"
if not (ROOT / "docs" / "ci").is_dir():
    pytest.skip("the docs are not part of the sdist", allow_module_level=True)


def _steps(name: str) -> tuple[list[str], dict[str, Any]]:
    """Every shell line of an example, and the job it belongs to."""
    document = yaml.safe_load((ROOT / "docs" / "ci" / name).read_text(encoding="utf-8"))
    if name == "gitlab.yml":
        (job,) = document.values()
        return job["script"], job
    (job,) = document["jobs"].values()
    assert document["permissions"] == {"contents": "read"}
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert used and all(len(u.partition("@")[2]) == 40 for u in used)  # pinned
    return [step["run"] for step in job["steps"] if "run" in step], job


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_every_step_of_the_example_does_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "face").mkdir()
    (tmp_path / "lfw").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "lfw" / "a.png")
    shutil.copy(ROOT / "docs" / "ci" / "gates.toml", "face/gates.toml")
    for suffix in ("json", "npz"):
        shutil.copy(GOLDEN / f"lfw.{suffix}", f"face/baseline.{suffix}")
        shutil.copy(GOLDEN / f"lfw.{suffix}", f"report.{suffix}")
    lines, job = _steps(name)
    programs = [shlex.split(line) for line in lines]
    assert [p[0] for p in programs].count("evalkit") == 3
    for words in programs:
        if words[0] == "python":
            assert words[1:4] == ["-m", "pip", "install"]
        elif words[1] == "lfw":  # understood as far as the model, which is the reader's
            assert run(words[1:]) == 3
            assert "model.onnx" in capsys.readouterr().err
        else:
            assert run(words[1:]) == 0, words
    assert "passed" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert (tmp_path / "report.html").is_file()
    if name == "gitlab.yml":
        kept = [*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]
        assert all((tmp_path / path).is_file() for path in kept)


def test_the_model_card_is_what_the_hub_reads() -> None:
    """The structure of the Hub's model-index: name, results; task, dataset, metrics in each."""
    report = reports.read(GOLDEN / "lfw.json")
    _, block, after = model_card([("a: #1 'model'", report)]).split("---\n")
    assert after == ""
    ((name, results),) = [(m["name"], m["results"]) for m in yaml.safe_load(block)["model-index"]]
    assert name == "a: #1 'model'"
    (result,) = results
    assert result["task"]["type"] and result["dataset"]["type"] and result["dataset"]["name"]
    assert {m["type"]: m["value"] for m in result["metrics"]} == report.flat()
    assert all(set(m) <= {"type", "value", "args"} for m in result["metrics"])
    assert result["dataset"]["args"]["list"] == report.identity.list


def test_several_reports_are_one_block() -> None:
    reports_of = [reports.read(GOLDEN / "lfw.json")] * 2
    block = yaml.safe_load(model_card(("a", r) for r in reports_of).split("---\n")[1])
    (model,) = block["model-index"]
    assert len(model["results"]) == 2
    block = yaml.safe_load(model_card(zip("ab", reports_of, strict=True)).split("---\n")[1])
    assert [m["name"] for m in block["model-index"]] == ["a", "b"]


def test_the_eval_results_are_what_the_hub_reads() -> None:
    """Its required keys; the set, its revision and the digests; a value a task."""
    report = reports.read(GOLDEN / "lfw.json")
    other = replace(report, identity=replace(report.identity, set="cfp: #fp"))
    found = yaml.safe_load(eval_results([report, other], "org/faces@5503434d"))
    first, second = found
    assert first["dataset"] == {
        "id": "org/faces",
        "task_id": report.identity.set or report.protocol,
        "revision": "5503434d",
    }
    assert second["dataset"]["task_id"] == "cfp: #fp"
    assert first["value"] == report["accuracy"].value and first["notes"].startswith("accuracy; ")
    assert f"list sha256:{report.identity.list}" in first["notes"]
    for wrong in ([report, report], [replace(report, metrics={})]):
        with pytest.raises(ReportError):
            eval_results(wrong, "org/faces")
    with pytest.raises(ReportError, match="not a dataset of the Hub"):
        eval_results([report], "faces")
