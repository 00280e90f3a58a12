"""What `evalkit list` and `evalkit --help` promise is there."""

import importlib
from pathlib import Path

import click
import pytest

from evalkit.cli import COMMANDS, run
from evalkit.cli.list import PROTOCOLS


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_there_under_its_name(name: str) -> None:
    command = importlib.import_module(COMMANDS[name][0]).command
    assert isinstance(command, click.Command)
    assert command.help


def test_each_listed_protocol_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert {p.command for p in PROTOCOLS} <= set(COMMANDS)
    assert run(["list"]) == 0
    assert "evalkit megaface" in capsys.readouterr().out


def test_each_protocol_is_listed_once_and_has_a_page() -> None:
    names = [p.command for p in PROTOCOLS]
    assert len(set(names)) == len(names)
    pages = Path(__file__).parents[1] / "docs" / "protocols"
    if not pages.is_dir():
        pytest.skip("no documents beside the tests")
    for name in names:
        text = (pages / f"{'all-vs-all' if name == 'demo' else name}.md").read_text()
        for part in ("**Measures**", "**Formula", "**Needs**", "**Traps**", "**Source**"):
            assert part in text, f"{name}: {part}"
        assert f"evalkit {name} " in text or f"evalkit {name}\n" in text
