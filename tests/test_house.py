"""The three folders keep their direction: a protocol needs numpy and scipy, nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

import evalkit
from evalkit import adapters, protocols

HEAVY = ["torch", "onnxruntime", "h5py", "click", "PIL", "tqdm", "matplotlib"]
PROTOCOLS = sorted(p.stem for p in Path(protocols.__path__[0]).glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("name", [*PROTOCOLS, "allpairs"])
def test_a_protocol_imports_nothing_heavy(name: str) -> None:
    code = f"import sys, evalkit.protocols.{name}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_module_fits_a_reader() -> None:
    rooms = [Path(package.__file__ or "").parent for package in (evalkit, protocols, adapters)]
    lines = {
        module.name: len(module.read_text(encoding="utf-8").splitlines())
        for room in rooms
        for module in room.rglob("*.py")
    }
    assert {name: n for name, n in lines.items() if n > 400} == {}
