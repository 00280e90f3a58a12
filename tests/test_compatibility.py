"""What version 1 wrote is read by every later one; what CI runs is what was reviewed."""

import re
import shutil
import tomllib
from importlib.metadata import version
from importlib.resources import files
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from skipped_everywhere import NO_GPU

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import ReportError
from evalkit.protocols import verification
from evalkit.types import PairSet
from evalkit.vectors import embeddings
from evalkit.vectors.store import FeatureStore
from evalkit.verdict.compare import compare

ROOT = Path(__file__).resolve().parents[1]
OLD = Path(__file__).parent / "golden" / "version-1"
N = 24


def test_a_feature_file_of_version_1(tmp_path: Path) -> None:
    path = shutil.copy(OLD / "features.h5", tmp_path / "f.h5")
    with FeatureStore.open(path, write=True) as store:
        assert not len(store.pending())
    assert store.manifest.keys == tuple(f"Ä{k // 4}/{k}.jpg" for k in range(N))
    assert store.manifest.subject.tolist() == [k // 4 for k in range(N)]
    assert store.key == {"model": "none", "views": "original, mirrored"}
    assert store.provenance == {"batch": 8}
    assert store.reasons() == {"Ä1/7.jpg": "the image cannot be read"}
    x = store.features
    assert x.shape == (N, 2, 4) and x.dtype == np.float32
    first = [0.3455841839313507, 0.8216181397438049, 0.3304370641708374, -1.3031572103500366]
    assert x[0, 0].tolist() == first
    assert np.array_equal(x[:, 1], x[:, 0] / 2, equal_nan=True)
    assert embeddings.read(path).keys == store.manifest.keys


@pytest.mark.parametrize("name", ["report", "early"])
def test_a_report_of_version_1_and_its_numbers(name: str) -> None:
    held = reports.read(OLD / f"{name}.json")
    assert held.outcomes is not None and held.outcomes["keys"][0] == "Ä0/0.jpg"
    assert held.failures.images == 1 and held.failures.genuine == 3
    store = FeatureStore.open(OLD / "features.h5")
    i, j = np.triu_indices(N, 1)
    who = store.manifest.subject
    pairs = PairSet(i.astype(np.int64), j.astype(np.int64), who[i] == who[j])
    again = verification.evaluate(store.features, pairs, who, fars=("1e-1",))
    if again.protocol_version == held.protocol_version:  # else a number may have changed
        assert again.flat() == held.flat()
        for array in set(again.outcomes or {}) & set(held.outcomes):
            np.testing.assert_array_equal((again.outcomes or {})[array], held.outcomes[array])
    with pytest.raises(ReportError, match="neither report records 'comparisons'"):
        compare(held, held)  # it knows its rows by name alone
    with pytest.raises(ReportError, match="differ in 'comparisons'"):
        compare(held, again)
    assert compare(held, held, ignore=["comparisons"]).differences


def test_a_synthetic_set_of_version_1_and_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    folder = OLD / "synth"
    given = ["--features", folder / "features.npy", "--subjects", folder / "subjects.txt"]
    given += ["--expect", folder / "answer.json"]
    assert run(["trillion", *map(str, given)]) == 0
    assert "numbers are exactly those expected" in capsys.readouterr().err


def test_version_1_keeps_the_schema_it_wrote() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import json

    schema = json.loads((files("evalkit.report") / "schema-1.json").read_text(encoding="utf-8"))
    for path in (OLD / "report.json", OLD / "early.json", OLD / "synth" / "answer.json"):
        jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), schema)


WORKFLOWS = [
    *(ROOT / ".github" / "workflows").glob("*.y*ml"),
    *(p for p in (ROOT / "docs").rglob("*.y*ml")),
]


def test_every_action_is_pinned_by_its_hash() -> None:
    if not WORKFLOWS:
        pytest.skip("no workflows beside the tests")
    used = [
        (path.name, found)
        for path in WORKFLOWS
        for found in re.findall(r"^\s*-?\s*uses:\s*(\S+)", path.read_text(encoding="utf-8"), re.M)
        if not found.startswith("./")
    ]
    assert used
    assert [u for u in used if not re.search(r"@[0-9a-f]{40}$", u[1])] == []


def requirements() -> list[tuple[str, str]]:
    """Each dependency that pyproject.toml bounds from below, with its bound."""
    path = ROOT / "pyproject.toml"
    if not path.is_file():
        return []
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    return sorted(
        {(m[1], m[2]) for line in listed if (m := re.match(r"([\w-]+)>=([\d.]+)$", line))}
    )


@pytest.mark.parametrize(("package", "least"), requirements())
def test_what_is_installed_is_in_the_range(package: str, least: str) -> None:
    try:
        found = version(package)
    except Exception:
        # onnxruntime-gpu owns the import of onnxruntime: no environment has both
        pytest.skip(NO_GPU if package.endswith("-gpu") else f"{package} is not installed")
    numbers = [tuple(int(n) for n in re.findall(r"\d+", text)[:3]) for text in (found, least)]
    assert numbers[0] >= numbers[1]


def test_every_dependency_has_a_least_version() -> None:
    path = ROOT / "pyproject.toml"
    if not path.is_file():
        pytest.skip("no pyproject.toml beside the tests")
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    assert [d for d in listed if ">=" not in d and not d.startswith("face-evalkit[")] == []
