"""The reports of one model on several sets: a folder of SET.json, or one JSON document."""

from __future__ import annotations

import os
from collections.abc import Mapping

from evalkit import report as reports
from evalkit.errors import ReportError
from evalkit.files import as_path, is_stream
from evalkit.types import Report

FORMAT = "evalkit-reports"
VERSION = 1


def dumps(held: Mapping[str, Report]) -> str:
    """Spell reports by the names of their sets as one JSON document; outcomes stay out of it."""
    each = {name: reports.to_json(report) for name, report in held.items()}
    return reports.spelled({"format": FORMAT, "version": VERSION, "reports": each})


def read(path: str | os.PathLike[str]) -> dict[str, Report]:
    """Read what `evalkit bench` wrote, or one report, whose set then is called "".

    A folder is its .json files, each with its outcomes; ReportError where it has none, or another.
    """
    path = as_path(path)
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise ReportError(f"no report in {path}", "evalkit bench --out writes SET.json there")
        return {file.stem: reports.read(file) for file in files}
    document = None if is_stream(path) else reports.load_document(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return {"": reports.read(path)}
    entries = document.get("reports")
    if document.get("version") != VERSION or not isinstance(entries, dict) or not entries:
        raise ReportError(f"{path} is not {FORMAT} of version {VERSION}, or is empty")
    return {name: reports.from_json(each, f"{path}: {name}") for name, each in entries.items()}
