"""docs/ci and action.yml are run here, step by step: on the demo's own report, on a small model."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit import report as reports
from evalkit.cli import COMMANDS, load, run
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


ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
SHELL = [step for step in ACTION["runs"]["steps"] if "run" in step]
EXPRESSION = re.compile(r"\$\{\{ *([\w.-]+) *\}\}")


def test_the_action_uses_every_input_and_pins_every_action() -> None:
    steps = ACTION["runs"]["steps"]
    assert set(re.findall(r"inputs\.([\w-]+)", str(steps))) == set(ACTION["inputs"])
    used = [step["uses"] for step in steps if "uses" in step]
    assert used and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) for name in used)
    assert not [step["name"] for step in SHELL if "${{" in step["run"]]  # nothing is spliced in


def test_two_uses_of_the_action_in_a_workflow_share_neither_artifact_nor_comment() -> None:
    steps = {
        step.get("name", step.get("uses", "").partition("@")[0]): step
        for step in ACTION["runs"]["steps"]
    }
    assert steps["actions/upload-artifact"]["with"]["name"] == "${{ inputs.name }}"
    for name in ("Gate", "Comment"):
        assert steps[name]["env"]["NAME"] == "${{ inputs.name }}"
        assert "<!-- evalkit" not in steps[name]["run"]


def test_every_command_of_the_action_is_understood() -> None:
    text = "\n".join(step["run"] for step in SHELL)
    lines = re.findall(r"\bevalkit ([a-z]+)\b(.*)", text)
    assert {name for name, _ in lines} == {"lfw", "bench", "report", "gate"}
    # `options+=(--preset "$PRESET")` belongs to both that measure
    added = " ".join(re.findall(r"options\+?=\((.*)\)", text))
    for name, words in lines:
        assert name in COMMANDS
        known = {opt for param in load(name).params for opt in param.opts}
        shown = words + (added if "options" in words else "")
        assert set(re.findall(r"(?<!\S)--?[a-z][\w-]*", shown.replace("+--", "+ --"))) <= known


HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


def test_the_hook_takes_good_rules_and_refuses_bad_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pre-commit runs `entry` with the changed files whose paths `files` is found in."""
    (hook,) = HOOKS
    monkeypatch.chdir(tmp_path)
    for folder, changed in (("good", ""), ("bad", "max_drop = 0.1\n")):
        Path(folder).mkdir()
        text = (ROOT / "docs" / "ci" / "gates.toml").read_text(encoding="utf-8")
        Path(folder, "gates.toml").write_text(text + changed)
    Path("navigates.toml").touch()
    paths = ["bad/gates.toml", "gates.toml", "gates.toml.orig", "good/gates.toml", "navigates.toml"]
    found = [path for path in paths if re.search(hook["files"], path)]
    assert found == ["bad/gates.toml", "gates.toml", "good/gates.toml"]
    program, *words = shlex.split(hook["entry"])
    assert program == "evalkit" and hook["language"] == "python"
    assert run([*words, "good/gates.toml", "good/gates.toml"]) == 0
    assert "good/gates.toml: 3 rules" in capsys.readouterr().out
    assert run([*words, "good/gates.toml", "bad/gates.toml"]) == 3
    assert "bad/gates.toml, rule 3: unknown key 'max_drop'" in capsys.readouterr().err


def test_the_shown_hook_is_one_of_ours() -> None:
    text = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(repos:.*?)```", text, re.DOTALL)
    ((repo,),) = yaml.safe_load(shown).values()
    assert {hook["id"] for hook in repo["hooks"]} <= {hook["id"] for hook in HOOKS}


def _action(names: tuple[str, ...], inputs: dict[str, str], where: Path) -> dict[str, int]:
    """Exit codes of the named shell steps in order, run as GitHub runs them."""
    values = {f"inputs.{name}": one.get("default", "") for name, one in ACTION["inputs"].items()}
    values |= {f"inputs.{name}": value for name, value in inputs.items()}
    values |= {"runner.temp": str(where), "steps.measure.outputs.folder": f"{where}/evalkit-report"}
    output = where / "output"
    codes: dict[str, int] = {}
    for step in (step for step in SHELL if step["name"] in names):
        env = {
            name: EXPRESSION.sub(lambda found: values[found[1]], value)
            for name, value in step["env"].items()
        }
        output.write_text("")
        env |= {"GITHUB_OUTPUT": str(output), "PATH": f"{where}{os.pathsep}{os.environ['PATH']}"}
        line = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        codes[step["name"]] = subprocess.run(line, env={**os.environ, **env}).returncode
        told = dict(row.split("=", 1) for row in output.read_text().splitlines())
        if step["name"] == "Name the cache":
            assert re.fullmatch("[0-9a-f]{64}", told["key"])
        if step["name"] == "Measure":
            assert told["folder"] == values["steps.measure.outputs.folder"]
    return codes


@pytest.mark.skipif(not shutil.which("bash") or os.name == "nt", reason="no bash")
def test_the_steps_of_the_action_measure_and_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    for needed in ("onnxruntime", "matplotlib", "jinja2"):
        pytest.importorskip(needed)
    runner = tmp_path / "runner"
    runner.mkdir()
    monkeypatch.chdir(tmp_path)
    shim = f'#!/bin/sh\nexec {sys.executable} -c "import evalkit.cli as c; c.main()" "$@"\n'
    (runner / "evalkit").write_text(shim)
    (runner / "evalkit").chmod(0o755)
    h, kind = onnx.helper, onnx.TensorProto.FLOAT
    pool = h.make_node("AveragePool", ["x"], ["p"], kernel_shape=[28, 28], strides=[28, 28])
    graph = h.make_graph(
        [pool, h.make_node("Flatten", ["p"], ["y"])],
        "means",
        [h.make_tensor_value_info("x", kind, ["n", 3, 112, 112])],
        [h.make_tensor_value_info("y", kind, ["n", 48])],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, "my model.onnx")
    rng = np.random.default_rng(0)
    for person in range(6):
        face = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((28, 28, 1)))
        Path(f"FACES/{person}").mkdir(parents=True)
        for image in range(3):
            light = rng.normal(0, 90, (4, 4, 1)).repeat(28, 0).repeat(28, 1)
            pixels = np.clip(face + light + rng.normal(0, 30, face.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(f"FACES/{person}/{image}.png")
    inputs = {"model": "my model.onnx", "sets": "\nFACES/\n", "preset": "arcface"}
    steps = ("Name the cache", "Measure", "Write the page")
    assert _action(steps, inputs, runner) == dict.fromkeys(steps, 0)
    folder = runner / "evalkit-report"
    assert {p.name for p in folder.iterdir()} == {"FACES.json", "FACES.npz", "report.html"}

    shutil.copytree(folder, tmp_path / "base")
    held = {**inputs, "baseline": "base"}
    assert _action(("Gate",), held, runner) == {"Gate": 0}
    verdict = (folder / "verdict.md").read_text(encoding="utf-8")
    assert verdict.startswith("<!-- evalkit-report -->\n**FACES**") and "people: passed" in verdict

    for ending in ("json", "npz"):
        shutil.copy(f"base/FACES.{ending}", f"base/OTHERS.{ending}")
    Path("base/spec.json").write_text("{}")  # no report
    assert _action(("Gate",), held, runner) == {"Gate": 1}
    verdict = (folder / "verdict.md").read_text(encoding="utf-8")
    assert "people: passed" in verdict
    assert verdict.endswith("**OTHERS**\n\nhas a baseline, and was not measured\n")
    Path("base/OTHERS.npz").unlink()

    Path("gates.toml").write_text('[[rule]]\nmetric = "tpr@far=1e-1"\nfloor = 1.0\n')
    assert _action(("Gate",), {**held, "rules": "gates.toml"}, runner) == {"Gate": 1}
    assert "people: failed" in (folder / "verdict.md").read_text(encoding="utf-8")
    shutil.rmtree("base")
    (folder / "FACES.md").unlink()
    assert _action(("Gate",), held, runner) == {"Gate": 3}
    assert "not decided" in (folder / "verdict.md").read_text(encoding="utf-8")


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
