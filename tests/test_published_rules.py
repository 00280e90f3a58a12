"""Two tables of the published figures: what each rule gives, and what each system is said to do."""

import os
import re
import tomllib
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest

from evalkit import FeatureStore, Report
from evalkit.adapters.presets import PRESETS
from evalkit.cli import run
from evalkit.datasets import lfw as lists
from evalkit.keys import rows_of
from evalkit.protocols import lfw
from evalkit.protocols.metrics import compat
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.metrics.kfold import kfold_accuracy
from evalkit.protocols.recipes import RECIPES, Recipe
from evalkit.protocols.score import best_accuracy
from evalkit.types import Estimate, Floats

pytestmark = pytest.mark.once

PAGE = Path(__file__).resolve().parents[1] / "docs" / "published-figures.md"
if not PAGE.is_file():
    pytest.skip("no documents beside the tests", allow_module_level=True)
SHARED = Path(os.environ.get("EVALKIT_SHARED_DATA", "none"))
MODEL = SHARED / "models" / "mobilefacenet_foamliu.onnx"
CROPS = SHARED / "lfw" / "lfw_pairs_aligned112_q90.zip"
MANIFEST, PAIRS = lists.official_pairs().resolve()

Row = tuple[str, ...]
# Of each rule that is of scores alone: what it is handed, of cosines.
GIVEN: dict[str, Callable[[Floats], Floats]] = {
    "insightface": lambda cosine: 2 * cosine - 2,
    "xqlfw": lambda cosine: cosine - 1,
    "clcarwin": lambda cosine: cosine,
    "facex-zoo": lambda cosine: cosine,
}


def table(title: str) -> list[Row]:
    """The cells of a section's first table."""
    text = PAGE.read_text(encoding="utf-8").partition(f"## {title}")[2]
    lines = text.partition("|---|")[2].partition("\n\n")[0].splitlines()[1:]
    return [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines]


def shown() -> dict[tuple[str, str], Row]:
    """The numbers of each rule, and of what it does with the mirror image."""
    return {(rule, mirror): tuple(rest) for rule, mirror, *rest in table("One model, every rule")}


def told(e: Estimate, spread: bool | None = False) -> Row:
    """Spell an accuracy, its standard error, and what the project prints as ±.

    spread : the deviation of the folds; None : the standard error, as FaceX-Zoo has it.
    """
    assert e.value is not None
    if not e.folds:
        return f"{100 * e.value:.2f}", ""
    error = f"{100 * (e.standard_error or 0):.2f}"
    printed = f"{100 * np.std(e.folds):.2f}" if spread else error if spread is None else ""
    return (f"{100 * e.value:.2f}", error, printed) if printed else (f"{100 * e.value:.2f}", error)


def measured(features: np.ndarray, flip: Flip, errata: bool = False) -> Report:
    wrong = lists.errata(lists.official_pairs()) if errata else None
    return lfw.evaluate(features, PAIRS, MANIFEST.subject, flip=flip, errata=wrong)


def by_rule(report: Report, name: str) -> Estimate:
    o = report.outcomes or {}
    rule = compat.THRESHOLD_RULES[name]
    return kfold_accuracy(GIVEN[name](o["score"]), o["genuine"], o["fold"], rule)


def of_the_sum(report: Report) -> dict[str, Row]:
    """The rows of one vector an image, the sum of both views: the start of a rule, its numbers."""
    o = report.outcomes or {}
    return {
        "**evalkit**": told(report["accuracy"]),
        "InsightFace,": told(by_rule(report, "insightface"), True),
        "XQLFW:": (*told(by_rule(report, "xqlfw")), "nothing"),
        "one threshold": told(best_accuracy(o["score"], o["genuine"])),
        "**evalkit**, without": told(report["accuracy@errata=excluded"]),
    }


def of_the_image(features: np.ndarray) -> dict[str, Row]:
    """The rows of one vector an image, without its mirror image."""
    report = measured(features, "none")
    lightcnn = lfw.evaluate(features, PAIRS, MANIFEST.subject, recipe=RECIPES["lightcnn"])
    return {
        "**evalkit**: exact": told(report["accuracy"]),
        "the same": told(by_rule(report, "insightface"), True),
        "clcarwin": told(by_rule(report, "clcarwin"), True),
        "FaceX-Zoo": told(by_rule(report, "facex-zoo"), None),
        "Light CNN": (f"{100 * (1 - (lightcnn['eer'].value or 0)):.2f}",),
    }


def of_recipes(features: np.ndarray) -> dict[str, Row]:
    """The rows of both views side by side, each by the recipe of its system."""
    names = {
        "facenet": "facenet",
        "SphereFace": "sphereface",
        "Center Loss": "center-loss",
        "DeepID2,": "deepid2",
        "DeepID3": "deepid3",
    }
    held = {
        start: lfw.evaluate(features, PAIRS, MANIFEST.subject, recipe=RECIPES[name])["accuracy"]
        for start, name in names.items()
    }
    return {start: told(e, start == "facenet") for start, e in held.items()} | {
        "SphereFace": (*told(held["SphereFace"]), "nothing")
    }


def held_to(mirror: str, rows: dict[str, Row]) -> None:
    """Hold every row of one kind to the table, the longest start that fits deciding whose it is."""
    of_kind = {rule: numbers for (rule, m), numbers in shown().items() if m == mirror}
    said = {}
    for rule, numbers in of_kind.items():
        start = max((s for s in rows if rule.startswith(s)), key=len)
        said[start] = tuple(filter(None, numbers))
    assert said == {start: tuple(filter(None, row)) for start, row in rows.items()}


SYSTEMS = {
    "DeepID2": "deepid2",
    "DeepID2+": "deepid2plus",
    "DeepID3": "deepid3",
    "FaceNet": "facenet",
    "L-Softmax": "l-softmax",
    "SphereFace": "sphereface",
    "Center Loss": "center-loss",
    "Center Invariant": "center-invariant",
    "COCO": "coco",
    "InsightFace (ArcFace R100, MS1MV2)": "insightface",
    "AdaFace (IR101, WebFace12M)": "adaface",
    "Light CNN (C)": "lightcnn",
}
# What a recipe's cell may say, and whether the recipe does it.
SAID: dict[str, Callable[[Recipe], bool]] = {
    "mirror concat": lambda r: r.fusion == "concat",
    "mirror sum": lambda r: r.fusion == "sum",
    "unit vectors": lambda r: r.unit_views,
    "mean off on nine folds": lambda r: r.centring == "training folds",
    "400 thresholds": lambda r: r.threshold == "insightface" and len(compat.DISTANCE_GRID) == 400,
    "20,001 thresholds": lambda r: (
        r.threshold == "sphereface" and len(compat.SPHEREFACE_GRID) == 20_001
    ),
    "100 - EER": lambda r: r.figure == "1 - eer",
    "PCA to 180": lambda r: r.dimensions == 180,
    "Joint Bayesian": lambda r: r.projection == "joint bayesian",
    "112 x 112, ": lambda r: PRESETS[r.input].size == (112, 112),
    "112 x 96, ": lambda r: PRESETS[r.input].size == (112, 96),
    ", RGB": lambda r: PRESETS[r.input].color == "rgb",
    ", BGR": lambda r: PRESETS[r.input].color == "bgr",
    "(x - 127.5) / 128": lambda r: (
        (PRESETS[r.input].mean, PRESETS[r.input].std) == ((127.5,) * 3, (128.0,) * 3)
    ),
}


def test_each_system_is_its_recipe() -> None:
    rows = {system: cells for system, *cells in table("System by system")}
    for system, name in SYSTEMS.items():
        figure, recipe, _ = rows[system]
        plain = re.match(r"\d\d\.\d\d", figure)
        assert (float(plain[0]) if plain else None) == RECIPES[name].published, system
        words = [word for word in SAID if word in recipe]
        assert [word for word in words if not SAID[word](RECIPES[name])] == [], system
    assert {word for word in SAID if any(word in cells[1] for cells in rows.values())} == {*SAID}


def test_both_tables_of_systems_have_the_same_figures() -> None:
    figures = tomllib.loads(PAGE.with_suffix(".toml").read_text(encoding="utf-8"))["figure"]
    rows = {system.partition(" (ArcFace")[0]: cells for system, *cells in table("System by system")}
    for held in figures:
        system = held["system"].partition(" (ArcFace")[0]
        if held["test"] == "LFW, ten folds" and system in rows:
            figure = f"{held['published']:.2f}"
            figure = figure if held.get("read") else f"*{figure}*"
            assert rows[system][0].startswith(figure), system


def test_a_measurement_that_is_said_again_is_the_same() -> None:
    rules, text = shown(), PAGE.read_text(encoding="utf-8")
    value = {
        rule.split(":")[0]: row[0] for (rule, mirror), row in rules.items() if mirror == "concat"
    }
    deepid2, deepid3 = value["DeepID2, DeepID2+"], value["DeepID3"]
    assert f"`--recipe deepid2` on MobileFaceNet's two views {deepid2} |" in text
    assert f"the same recipe as DeepID2's, {deepid2} |" in text
    assert f"`--recipe deepid3` on two views {deepid3} |" in text
    both = rules["**evalkit**", "sum"][0], next(r for (n, m), r in rules.items() if m == "none")[0]
    assert f"{both[0]} (mirror sum), {both[1]} (none): see above" in text
    lone = [float(r[0]) for r in rules.values() if float(r[0]) > 99]
    assert f"The same vectors give {min(lone):.2f} to {max(lone):.2f}, and {deepid2} where" in text


def test_the_sum_of_both_views_by_every_rule() -> None:
    with as_file(files("evalkit.datasets") / "data" / "lfw_mobilefacenet.h5") as path:
        store = FeatureStore.open(path)
        rows = rows_of(MANIFEST.keys, store.manifest.keys)
        features = np.asarray(store.features[:], np.float32)[rows]
    held_to("sum", of_the_sum(measured(features, "none", errata=True)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not CROPS.is_file(), reason="the real model and images are not here")
def test_every_rule_of_the_models_own_vectors(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "x.h5"
    fed = ["--model", str(MODEL), "--preset", "imagenet", "--data", str(CROPS)]
    assert run(["embed", str(path), *fed, "--views", "2", "--quiet"]) == 0
    store = FeatureStore.open(path)
    features = np.asarray(store.features[:])[rows_of(MANIFEST.keys, store.manifest.keys)]
    held_to("sum", of_the_sum(measured(features, "sum", errata=True)))
    held_to("none", of_the_image(features))
    held_to("concat", of_recipes(features))
