"""`evalkit schema`: the JSON schema of the report file."""

from __future__ import annotations

from importlib.resources import files

import click

from evalkit.cli.terminal import document
from evalkit.report import VERSION


@click.command("schema")
def command() -> None:
    """Print the JSON schema (draft 2020-12) that every report file of this version follows."""
    path = files("evalkit.report").joinpath(f"schema-{VERSION}.json")
    document(path.read_text(encoding="utf-8").rstrip())
