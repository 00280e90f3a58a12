"""Every Python block that the documents show is run; what it takes for granted is made small.

Blocks that need a package of their own (a tracker, a detector, a runtime) are named with it.
"""

import pkgutil
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_docs import PAGES, ROOT
from test_shown_commands import model, picture

import evalkit
from evalkit.datasets import lfw as lists
from evalkit.protocols.calibration import fits

pytestmark = pytest.mark.once

Names = dict[str, Any]
RNG = np.random.default_rng(0)
ELSEWHERE = ("tutorial.md", "trackers.md")  # test_tutorial.py; packages of the trackers
NEEDS = ("import openvino", "import uniface", "load_model(net,", "evaluate(net,", "Verifier(")
NEEDS += ("VerificationMetric(",)  # test_training.py
NEEDS += ("get_model_state_dict(", "summon_full_params(")  # test_in_memory.py


def vectors(people: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    subject = np.repeat(np.arange(people), images)
    centres = RNG.normal(size=(people, 32))
    return (centres[subject] + 0.3 * RNG.normal(size=(len(subject), 32))).astype("f"), subject


def of_lfw() -> Names:
    features = RNG.normal(size=(7701, 16))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    manifest, _ = lists.official_pairs().resolve()
    return {"features": features.astype("f"), "subjects": manifest.subject}


def of_people() -> Names:
    features, subject = vectors(20, 4)
    names = [f"{s}/{n}" for n, s in enumerate(subject)]
    return {"features": features, "subject": subject, "names": names}


def of_groups() -> Names:
    subject = np.repeat(np.arange(20), 4)
    sex = np.where(subject % 2, "female", "male")
    return {**of_people(), "sex": sex, "age": 20 + subject}


def of_pairs() -> Names:
    """Write what `evalkit lfw --out sum.json` keeps of every pair."""
    manifest, pairs = lists.official_pairs().resolve()
    features = of_lfw()["features"]
    evalkit.lfw.evaluate(features, pairs, manifest.subject, set_name="lfw").save("sum.json")
    return {}


def of_reports() -> Names:
    """Write base.json and new.json, two models on the same comparisons."""
    features, subject = vectors(20, 4)
    left, right = np.triu_indices(len(subject), 1)
    pairs = evalkit.PairSet(left, right, subject[left] == subject[right])
    for name, noise in (("base", 0.5), ("new", 0.0)):
        worse = features + noise * RNG.normal(size=features.shape)
        evalkit.verification.evaluate(worse, pairs, subject, set_name="all").save(f"{name}.json")
    return {}


def of_research() -> Names:
    """Write a model, its crops, a list, a gate and an earlier report."""
    pytest.importorskip("onnxruntime")
    model(Path("model.onnx"))
    for person in "abc":
        Path("crops", person).mkdir(parents=True)
        for image in "12":
            Path("crops", person, f"{image}.png").write_bytes(
                picture(RNG.normal(120, 40, (4, 4, 3)))
            )
    people = [f"{p}/1.png {p}/2.png 1" for p in "abc"]
    others = [f"{p}/1.png {q}/1.png 0" for p, q in ("ab", "bc", "ac")]
    Path("pairs.txt").write_text("\n".join([*people, *others]))
    Path("gates.toml").write_text('[[rule]]\nmetric = "auc"\nfloor = 0.0\n')
    x = evalkit.embed("model.onnx", "crops/", preset="arcface")
    evalkit.evaluate("verification", x, "pairs.txt").save("base.json")
    return of_lfw()


def of_onnx() -> Names:
    onnx = pytest.importorskip("onnx")
    return {"onnx": onnx, "model": onnx.ModelProto()}


def of_photographs() -> Names:
    """Write a model, and photographs with a nose for the detector that stands in."""
    pytest.importorskip("onnxruntime")
    model(Path("model.onnx"))
    with zipfile.ZipFile("photos.zip", "w") as photographs:
        for person in "abc":
            pixels = RNG.integers(0, 120, (300, 300, 3))
            pixels[150, 160] = 200, 100, 0
            with photographs.open(f"{person}/1.png", "w") as f:
                Image.fromarray(pixels.astype(np.uint8)).save(f, "PNG")
    return {}


def of_calibration() -> Names:
    fits.write(fits.Calibration(fit="logistic", slope=9.0), "calibration.json")
    return {}


STAND_INS = {"alignment.md": ('"mtcnn"', '"small_detectors:Noses"')}
GRANTED: dict[str, Callable[[], Names]] = {
    "README.md": of_lfw,
    "all-vs-all.md": of_people,
    "groups.md": of_groups,
    "people.md": of_people,
    "published-figures.md": of_pairs,
    "adapters.md": of_onnx,
    "alignment.md": of_photographs,
    "calibration.md": of_calibration,
    "leaderboard.md": of_reports,
    "report-format.md": of_reports,
    "researcher.md": of_research,
}


def blocks(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    every = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for block in every if not any(need in block for need in NEEDS)]


SHOWN = [p for p in PAGES if p.name not in ELSEWHERE and blocks(p)]


@pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="no documents beside the tests")
def test_the_documents_show_python() -> None:
    assert ROOT / "README.md" in SHOWN


@pytest.mark.parametrize("page", SHOWN, ids=lambda p: p.stem)
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = GRANTED[page.name]() if page.name in GRANTED else {}
    for block in blocks(page):
        block = block.replace(*STAND_INS.get(page.name, ("", "")))
        exec(compile(block, str(page), "exec"), names)


def test_the_reference_names_the_whole_front_door() -> None:
    page = ROOT / "docs" / "reference" / "README.md"
    if not page.is_file():
        pytest.skip("no documents beside the tests")
    assert set(evalkit.__all__) <= set(re.findall(r"`(\w+)`", page.read_text(encoding="utf-8")))


def test_the_reference_is_made_of_what_there_is() -> None:
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    if not pages:
        pytest.skip("no documents beside the tests")
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = re.findall(r"^::: (evalkit\S+)(?:\n    options:\n      members: \[(.*)\])?", text, re.M)
    for name, members in named:
        found = pkgutil.resolve_name(name)
        assert found.__doc__, name
        assert all(hasattr(found, member) for member in members.split(", ") if member), name
    shown = {name for name, _ in named}
    assert {f"evalkit.protocols.{n}" for n in ("recipes.joint_bayesian", "megaface.devkit")} < shown
    assert {"evalkit.datasets.score_lists", "evalkit.datasets.megaface"} < shown
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f"reference/{page.name}" in listed for page in pages)
