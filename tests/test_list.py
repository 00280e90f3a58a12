"""What `evalkit list` and `evalkit --help` promise is there."""

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from evalkit.cli import COMMANDS, load, run
from evalkit.protocols import catalogue

PAGES = Path(__file__).parents[1] / "docs" / "protocols"
with_pages = pytest.mark.skipif(not PAGES.is_dir(), reason="no documents beside the tests")
of_each = pytest.mark.parametrize("record", catalogue.OWN, ids=lambda record: record.name)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_there_under_its_name(name: str) -> None:
    command = load(name)
    assert isinstance(command, click.Command)
    assert command.help


def test_each_listed_protocol_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert {record.command for record in catalogue.OWN} <= set(COMMANDS)
    assert run(["list"]) == 0
    shown = capsys.readouterr().out
    for record in catalogue.OWN:
        assert f"evalkit {record.command}\n    measures  {record.summary}\n" in shown


@of_each
def test_a_record_is_of_its_module(record: catalogue.Protocol) -> None:
    module, _, function = record.function.partition(":")
    protocol = importlib.import_module(module)
    assert callable(getattr(protocol, function))
    assert record.name == protocol.NAME and record.version == protocol.VERSION
    assert catalogue.find(record.name) is catalogue.find(record.command) is record


def test_each_protocol_has_one_record() -> None:
    named = [name for record in catalogue.OWN for name in {record.name, record.command}]
    assert len(set(named)) == len(named)


@with_pages
@of_each
def test_each_protocol_has_a_page(record: catalogue.Protocol) -> None:
    text = (PAGES / record.page).read_text()
    for part in ("**Measures**", "**Formula", "**Needs**", "**Traps**", "**Source**"):
        assert part in text, part
    assert f"evalkit {record.command} " in text or f"evalkit {record.command}\n" in text


@with_pages
def test_the_index_of_the_documents_has_every_protocol() -> None:
    index = (PAGES / "README.md").read_text()
    rows = [line for line in index.splitlines() if line.startswith("| `evalkit ")]
    assert len(rows) == len(catalogue.OWN)
    for record in catalogue.OWN:
        (row,) = (row for row in rows if row.startswith(f"| `evalkit {record.command}` |"))
        assert f"]({record.page})" in row


def test_the_catalogue_is_read_without_numpy() -> None:
    code = "import sys, evalkit.cli; print([m for m in ('numpy', 'scipy') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
