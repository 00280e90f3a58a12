"""`evalkit reproduce`: a card in each of its forms run again, a planted difference of each kind."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("yaml")

import small_models
from test_bench import sets  # noqa: F401 (a fixture)
from test_people_command import FED, folders  # noqa: F401 (a fixture)

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import ReportError
from evalkit.report import card as cards
from evalkit.report.markdown import eval_results, model_card
from evalkit.types import Estimate, Report
from evalkit.verdict.reproduction import FIELDS, reproduction

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages


@pytest.fixture
def held(sets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """Beside the sets: their reports, and a card of them in each form."""
    monkeypatch.chdir(sets)
    assert run(["bench", "agedb_30.bin", "FACES", *_model(), *FED, "--out", "runs", "--quiet"]) == 0
    both = [reports.read(sets / "runs" / f"{name}.json") for name in ("agedb_30", "FACES")]
    block = model_card(("mine", report) for report in both)
    (sets / "README.md").write_text(f"{block}# Mine\n\nA model.\n")
    (sets / "faces.yaml").write_text(eval_results(both, "org/faces"))
    return sets


def _model(name: str = "m.onnx") -> list[str]:
    return ["--model", name]


def test_a_card_gives_the_same_numbers(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--recipe", "sphereface", "--far", "0.2", "--threshold", "0.5", "--out", "v.json"]
    assert run(["verify", "agedb_30.bin", *_model(), *FED, *more]) == 0
    assert {"tpr@far=0.2", "fmr@threshold=0.5"} <= set(reports.read("v.json").flat())
    shutil.rmtree(held / "cache")
    capsys.readouterr()
    for card in ("README.md", "faces.yaml", "runs", "v.json"):
        assert run(["reproduce", card, *_model()]) == 0
        shown = capsys.readouterr()
        assert re.match(r"(agedb_30|FACES): the same numbers, (\d+) of \2\n", shown.out)
        assert "differs" not in shown.out
        assert "fed as the card says: --preset sface --input-size 8x8" in shown.err
    assert not list((held / "cache").rglob("*.h5"))  # the vectors were made, none kept


PLANTED = {
    "list": (r'"list": "\w{12}', '"list": "aaaaaaaaaaaa'),
    "images": (r'"images": "\w{12}', '"images": "aaaaaaaaaaaa'),
    "crop": ('"crop": "arcface-112"', '"crop": "loose"'),
    "decoder": ('"decoder": "pillow', '"decoder": "opencv'),
    "input spec": (r"\(pixel - 0\) / 1, ", "(pixel - 1) / 1, "),
    "precision": ("Provider float32", "Provider float16"),
    "provider": ("CPUExecutionProvider", "CUDAExecutionProvider on A100"),
    "library": (r"onnxruntime \S+", "onnxruntime 0.9"),
    "output": ("output y", "output other"),
    "model": ('"model": "sha256:....', '"model": "sha256:0000'),
    "flip": ('"flip": "none"', '"flip": "sum"'),
    "evalkit": ('"evalkit": "[^"]+"', '"evalkit": "9.9"'),
    "protocol": ('"protocol_version": 1', '"protocol_version": 7'),
}


def test_a_planted_difference_of_each_kind_is_named(held: Path) -> None:
    card, report = held / "README.md", reports.read(held / "runs" / "agedb_30.json")
    text = card.read_text()
    for field, planted in PLANTED.items():
        changed = re.sub(*planted, text)
        assert changed != text
        card.write_text(changed)
        found = reproduction(cards.read(card)[0], report)
        assert (found.same, list(found.unlike)) == (True, [field])
    unsaid = reproduction(replace(cards.read(card)[0], made={}), report).unsaid
    assert unsaid == tuple(f for f in FIELDS if f not in ("recipe", "template"))


def test_a_number_that_differs_ends_in_1(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = held / "README.md"
    text = re.sub(*PLANTED["decoder"], card.read_text())
    card.write_text(text)
    words = ["reproduce", "README.md", *_model(), *FED]
    assert run(words) == 0  # the same numbers all the same, and what differs is said
    assert "  decoder differs: opencv" in capsys.readouterr().out
    card.write_text(text.replace("value: 0.9625", "value: 0.975"))
    assert run(words) == 1
    told = capsys.readouterr().out
    assert "agedb_30: 1 of 4 numbers differ" in told and "-1.25 points" in told
    assert set(re.findall(r"^  (.+) differs: ", told, re.MULTILINE)) == {"decoder"}
    assert run([*words, "--json"]) == 1
    plain, *others = json.loads(capsys.readouterr().out)
    assert (plain["set"], plain["same"], list(plain["unlike"])) == ("agedb_30", False, ["decoder"])
    assert all(one["same"] for one in others)
    assert plain["unlike"]["decoder"]["card"].startswith("opencv")
    unlike = [both for both in plain["values"].values() if both["card"] != both["here"]]
    assert len(plain["values"]) == 4 and unlike == [{"card": 0.975, "here": 0.9625}]
    card.write_text(re.sub(r', "model": .*}', "}", card.read_text()))  # as an older evalkit wrote
    assert run(words) == 1
    told = capsys.readouterr().out
    assert "nothing differs of what the card records" in told
    assert "the card does not say: crop, decoder, input spec, precision, provider" in told


def test_another_model_set_and_feeding_are_named(
    held: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_models.save(held / "other.onnx", by=small_models.weights()[::-1].copy())
    card = ["reproduce", "runs/agedb_30.json"]
    for words, field in (
        ([*card, *_model("other.onnx")], "model"),
        ([*card, *_model(), *FED, "--color", "bgr"], "input spec"),
        ([*card, "cfp_fp.bin", *_model()], "images"),
    ):
        assert run(words) == 1
        assert field in re.findall(r"^  (.+) differs: ", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# A model\n", "not a model card"),
        ("---\nlicense: mit\n---\n", "not a model card"),
        ("---\nmodel-index:\n- name: a\n  results: []\n---\n", "no result that evalkit wrote"),
        ("---\na: [\n---\n", "is not YAML"),
        ("- {evaluation_framework: other}\n", "no result that evalkit wrote"),
        ("- {evaluation_framework: evalkit, notes: x}\n", "not a model card"),
        ("[" * 500, "is not YAML"),
    ],
)
def test_what_is_no_card_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ReportError, match=says):
        cards.read(path)


def test_mistakes_of_the_line(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (held / "agedb_30.bin").rename(held / "moved.bin")
    assert run(["reproduce", "runs/agedb_30.json", *_model()]) == 3
    assert "the set 'agedb_30' of the card is not found here" in capsys.readouterr().err
    assert run(["reproduce", "runs/agedb_30.json"]) == 2
    two = (held / "README.md").read_text().replace("results:", "results:", 1)
    (held / "README.md").write_text(two.replace("---\n# Mine", '- name: "b"\n  results: []\n---\n'))
    assert run(["reproduce", "README.md", *_model(), "--name", "c"]) == 3
    assert "no model 'c'" in capsys.readouterr().err


def test_small_numbers_are_numbers_in_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    tiny = {"fmr@threshold=0.5": Estimate(value=1e-05)}
    block = model_card([("m", Report(protocol="people", protocol_version=1, metrics=tiny))])
    ((result,),) = [m["results"] for m in yaml.safe_load(block.strip("-\n"))["model-index"]]
    assert result["metrics"][0]["value"] == 1e-05
