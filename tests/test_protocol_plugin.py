"""A package that offers protocols: they are listed, run as commands and from Python."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import evalkit
from evalkit import report as reports
from evalkit.protocols.catalogue import GROUP

pytestmark = pytest.mark.once

PACKAGE = Path(__file__).parent / "protocol"
KEYS = [f"P{k // 3}/{k}.jpg" for k in range(12)]
X = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The package as an installer lays it out, made from its own pyproject."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / f"evalkit_spread-{project['version']}.dist-info"
    info.mkdir(parents=True)
    shutil.copy(PACKAGE / "evalkit_spread.py", tmp_path / "site")
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{name} = {target}" for name, target in project["entry-points"][GROUP].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    return tmp_path / "site"


@pytest.fixture
def given(tmp_path: Path) -> list[Path | str]:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "keys.txt").write_text("\n".join(KEYS))
    (tmp_path / "pairs.txt").write_text(f"{KEYS[0]} {KEYS[1]} 1\n{KEYS[0]} {KEYS[5]} 0\n")
    return ["--features", tmp_path / "x.npy", "--keys", tmp_path / "keys.txt"]


def python(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    roots = [str(site), str(Path(evalkit.__file__).parents[1])]
    return subprocess.run(
        [sys.executable, "-P", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
        capture_output=True,
        text=True,
    )


def test_a_protocol_of_subjects_is_a_command(
    site: Path, given: list[Path | str], tmp_path: Path
) -> None:
    done = python(site, "-m", "evalkit", "spread", *given, "--out", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    report = reports.read(tmp_path / "r.json")
    assert report.metrics["spread"].value == pytest.approx(
        np.linalg.norm(X - X.mean(axis=0), axis=1).mean()
    )
    assert (report.protocol, report.protocol_version) == ("spread", 3)
    assert report.provenance["evalkit"] == evalkit.__version__
    assert report.provenance["features"] == "x.npy" and report.identity.keys is not None


def test_a_protocol_of_pairs_is_a_command(
    site: Path, given: list[Path | str], tmp_path: Path
) -> None:
    line = ["likeness", *given, "--pairs", tmp_path / "pairs.txt", "--out", tmp_path / "r.json"]
    done = python(site, "-m", "evalkit", *line)
    assert done.returncode == 0, done.stderr
    report = reports.read(tmp_path / "r.json")
    cosine = X[0] @ X[1] / np.linalg.norm(X[0]) / np.linalg.norm(X[1])
    assert report.metrics["likeness"].value == pytest.approx(cosine)
    assert report.identity.file == "pairs.txt"


def test_it_is_listed_and_suggested(site: Path) -> None:
    listed = python(site, "-m", "evalkit", "list")
    assert "evalkit spread\n    measures  mean distance to the mean vector\n" in listed.stdout
    assert "A protocol of evalkit-spread." in python(site, "-m", "evalkit", "--help").stdout
    typo = python(site, "-m", "evalkit", "sprad")
    assert typo.returncode == 2 and "Did you mean 'spread'?" in typo.stderr


def test_python_runs_it_by_name(site: Path) -> None:
    code = (
        "import evalkit; r = evalkit.evaluate('spread', [[3.0, 4.0], [3.0, 4.0]], [0, 1]);"
        "print(r.metrics['spread'].value, r.protocol_version)"
    )
    done = python(site, "-c", code)
    assert done.stdout == "0.0 3\n", done.stderr


def test_what_its_function_raises_names_it(site: Path, given: list[Path | str]) -> None:
    module = site / "evalkit_spread.py"
    module.write_text(module.read_text().replace("features.mean(axis=0)", "features.centre()"))
    done = python(site, "-m", "evalkit", "spread", *given)
    assert done.returncode == 3
    first, second = done.stderr.splitlines()
    assert first.startswith("evalkit: error: plug-in protocol 'spread' failed: AttributeError")
    assert second == "hint: it was raised by evalkit_spread:spread"


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("import no_such_module", "does not load: ModuleNotFoundError"),
        ("import sys; sys.exit(1)", "does not load: SystemExit"),
        ("SPREAD = LIKENESS = 3", "evalkit_spread:SPREAD is not a Protocol"),
    ],
)
def test_a_broken_package_is_one_line(site: Path, module: str, told: str) -> None:
    (site / "evalkit_spread.py").write_text(module)
    listed = python(site, "-m", "evalkit", "list")
    assert listed.returncode == 0 and "evalkit lfw" in listed.stdout
    first, second = listed.stderr.splitlines()
    assert first.startswith("warning: plug-in protocol 'spread'") and told in first
    assert second.startswith("warning: plug-in protocol 'likeness'")
    assert python(site, "-m", "evalkit", "--help").returncode == 0
    done = python(site, "-m", "evalkit", "spread")
    assert done.returncode == 3 and told in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) == 2
