"""The tutorial is done as it stands: its files written, its commands run, their exit codes met."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

README = Path(__file__).resolve().parents[1] / "README.md"
TUTORIAL = README.parent / "docs" / "tutorial.md"
BLOCK = re.compile(r"^<!-- (exit|file) (\S+) -->\n```[a-z]+\n(.*?)^```", re.MULTILINE | re.DOTALL)
DRAWS = all(importlib.util.find_spec(name) for name in ("matplotlib", "jinja2"))


def commands_on_path(folder: Path) -> str:
    """Put `evalkit` and `python` of this interpreter first, installed or not."""
    for name, rest in (("python", ""), ("evalkit", " -m evalkit")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{rest} "$@"\n')
        script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.skipif(not TUTORIAL.is_file(), reason="no documents beside the tests")
def test_the_tutorial_can_be_followed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    environment = os.environ | {"PATH": commands_on_path(tmp_path / "bin")}
    ran = 0
    for kind, what, text in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        if kind == "file":
            (tmp_path / "work" / what).write_text(text, encoding="utf-8")
        elif DRAWS or "evalkit report" not in text:
            done = subprocess.run(
                ["sh", "-e", "-c", text],
                cwd=tmp_path / "work",
                env=environment,
                capture_output=True,
                text=True,
                timeout=200,
            )
            assert done.returncode == int(what), f"{text}\n{done.stdout}\n{done.stderr}"
            ran += 1
            if text.startswith("evalkit demo"):
                assert done.stdout.strip() in README.read_text(encoding="utf-8")
    assert ran >= 9
    assert (tmp_path / "work" / "report.html").is_file() == DRAWS


@pytest.mark.skipif(not TUTORIAL.is_file(), reason="no documents beside the tests")
def test_every_block_of_the_tutorial_is_run_but_those_that_need_a_network_or_a_model() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    left = re.findall(r"^```sh\n(.*?)^```", BLOCK.sub("", text), re.MULTILINE | re.DOTALL)
    assert [block.split()[0:2] for block in left] == [["python", "-m"], ["evalkit", "lfw"]]
