"""What `evalkit list` and `evalkit --help` promise is there."""

import importlib

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
