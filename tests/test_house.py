"""The three folders keep their direction: a protocol needs numpy and scipy, nothing else."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from statistics import median

import pytest

import evalkit
from evalkit import adapters, protocols

ROOMS = [Path(package.__file__ or "").parent for package in (evalkit, protocols, adapters)]
WITH_EXAMPLES = sorted(
    f"{package.__name__}.{'.'.join(module.relative_to(room).with_suffix('').parts)}".removesuffix(
        ".__init__"
    )
    for package, room in zip((evalkit, protocols, adapters), ROOMS, strict=True)
    for module in room.rglob("*.py")
    if room / "protocols" not in module.parents and room / "adapters" not in module.parents
    if ">>> " in module.read_text(encoding="utf-8")
)
HEAVY = ["torch", "onnxruntime", "h5py", "click", "PIL", "tqdm", "matplotlib"]
PROTOCOLS = sorted(module.name for module in pkgutil.iter_modules(protocols.__path__))


@pytest.mark.once
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_imports_nothing_heavy(name: str) -> None:
    code = f"import sys, evalkit.protocols.{name}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_in_docstrings(name: str) -> None:
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted and not done.failed


def test_a_module_fits_a_reader() -> None:
    lines = {
        module: len(module.read_text(encoding="utf-8").splitlines())
        for room in ROOMS
        for module in room.rglob("*.py")
    }
    assert {module: n for module, n in lines.items() if n > 400} == {}


ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(
    not (ROOT / "CONTRIBUTING.md").is_file(), reason="no documents beside the tests"
)
@pytest.mark.parametrize("folder", ["evalkit", "protocols", "adapters"])
def test_the_size_table_is_true(folder: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{folder}/` \|(.*)\|$", text, re.MULTILINE)
    assert row is not None
    told = [int(cell.replace(",", "")) for cell in row[1].split("|")]
    lines = [
        len(module.read_text(encoding="utf-8").splitlines())
        for module in (ROOT / folder).rglob("*.py")
    ]
    true = [len(lines), round(median(lines)), max(lines), sum(lines)]
    assert all(abs(a - b) <= 0.1 * b for a, b in zip(told, true, strict=True)), (
        f"CONTRIBUTING.md says {told} of {folder}/, it is {true}"
    )


@pytest.mark.skipif(
    not (ROOT / "CONTRIBUTING.md").is_file(), reason="no documents beside the tests"
)
def test_every_dependency_earns_its_line() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| ([^|]+) \|", text.partition("## Dependencies")[2], re.MULTILINE)
    told = {word.lower() for row in table for word in re.findall(r"[\w-]+", row)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [
        *project["project"]["dependencies"],
        *(r for extra in project["project"]["optional-dependencies"].values() for r in extra),
        *(r for group in project["dependency-groups"].values() for r in group),
    ]
    names = {re.split(r"[\[><=;]", r)[0].strip() for r in asked if isinstance(r, str)}
    assert names - {"face-evalkit"} - told == set()
