"""Every command line that the documents show is one that evalkit understands."""

import json
import re
import shlex
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import click
import pytest

from evalkit.adapters.presets import PRESETS
from evalkit.cli import COMMANDS, load
from evalkit.verdict.rules import Rule

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
with_documents = pytest.mark.skipif(
    not (ROOT / "docs").is_dir(), reason="no documents beside the tests"
)  # the sdist has README.md alone


def examples() -> list[tuple[str, str]]:
    """Command lines that --help shows."""
    lines = []
    for name in COMMANDS:
        shown = getattr(load(name), "examples", ())
        text = re.sub(r" *\\\n *", " ", "\n".join(shown))
        lines += [(f"{name} --help", line) for line in text.splitlines()]
    return lines


def shown() -> list[tuple[str, str]]:
    """Lines of code blocks that begin with evalkit, without their comments and pipes."""
    lines = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        text = re.sub(r" *\\\n *", " ", text)
        for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                for part in re.split(r"&&|\||;|>", line.split("  #")[0].split("    ")[0]):
                    if part.strip().startswith("evalkit "):
                        lines.append((page.name, part.strip()))
    return lines


@with_documents
def test_the_documents_show_commands() -> None:
    assert len(shown()) > 8


@pytest.mark.parametrize(("page", "line"), [*shown(), *examples()])
def test_a_shown_command_is_understood(page: str, line: str) -> None:
    _, name, *words = shlex.split(line, comments=True)
    if name.startswith("-"):
        return
    assert name in COMMANDS, f"{page}: {line}"
    command = load(name)
    if isinstance(command, click.Group):
        assert words[0] in command.commands, f"{page}: {line}"
        command = command.commands[words.pop(0)]
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in known, f"{page}: {line}: {word}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.is_file()], ids=lambda p: p.stem)
def test_a_list_begins_after_an_empty_line(page: Path) -> None:
    """The site's Markdown runs it into the paragraph before; GitHub's does not."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert re.findall(r"^(?!- |  |\n).+\n- .*", text, re.MULTILINE) == []


@pytest.mark.parametrize("page", [p for p in PAGES if p.is_file()], ids=lambda p: p.stem)
def test_commands_stand_in_fences(page: Path) -> None:
    """Those that are only indented would not be looked at by these tests."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert re.findall(r"^ {4}evalkit .*", text, re.MULTILINE) == []


@with_documents
def test_the_table_of_presets_says_what_they_feed() -> None:
    def short(values: tuple[float, ...]) -> str:
        return ", ".join(f"{v:g}" for v in (values[:1] if len(set(values)) == 1 else values))

    text = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    table = text.partition("### What each preset feeds")[2].partition("\n#")[0]
    shown = [re.findall(r"[^|`]+", line.replace(" ", "")) for line in table.splitlines()]
    held = [
        [name, "x".join(map(str, s.size)), s.color, short(s.mean), short(s.std), s.crop]
        for name, s in PRESETS.items()
    ]
    cells = [[cell.replace(" ", "") for cell in row] for row in held]
    assert [row for row in shown if row and row[0] in PRESETS] == cells


@with_documents
def test_the_keys_of_rules_and_reports_have_their_rows() -> None:
    def keys(page: str, section: str) -> list[str]:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(section)[2]
        rows = [line for line in text.partition("\n#")[0].splitlines() if line[:3] == "| `"]
        return [key for row in rows for key in re.findall("`([^`]+)`", row.split(" | ")[0])]

    rules = {f.name.replace("_", "-") for f in fields(Rule)}
    assert sorted(keys("gates.md", "### Keys of gates.toml")) == sorted(rules)
    schema = json.loads(files("evalkit.report").joinpath("schema-2.json").read_text("utf-8"))
    held = {*schema["properties"], *schema["$defs"]["estimate"]["properties"]}
    assert set(keys("report-format.md", "## report.json")) - {"cache"} == held


def test_every_command_that_takes_something_shows_how_it_is_typed() -> None:
    told = {page.partition(" ")[0] for page, _ in examples()}
    assert set(COMMANDS) - told == {"cache", "list", "recipes", "schema"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_says_what_every_option_is_for(name: str) -> None:
    command = load(name)
    options = [p for p in command.params if p.param_type_name == "option"]
    assert [p.name for p in options if not p.help] == []
    assert "\\" not in command.help, "a backspace that click does not see"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_names_values_by_what_they_are(name: str) -> None:
    command = load(name)
    shown = command.get_help(click.Context(command, info_name=name))
    assert re.findall(r"--\S+ (TEXT|PATH|FILENAME|INTEGER RANGE|INTEGER|FLOAT)", shown) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_fits_80_columns(name: str) -> None:
    command = load(name)
    parts = command.commands.values() if isinstance(command, click.Group) else [command]
    for part in parts:
        shown = part.get_help(click.Context(part, info_name=name, terminal_width=80))
        assert [line for line in shown.splitlines() if len(line) > 80] == []
