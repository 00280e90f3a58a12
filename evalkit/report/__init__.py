"""The result as a file, a table and a page."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.errors import ReportError
from evalkit.files import whole_file
from evalkit.types import Estimate, Failures, Report

FORMAT = "evalkit-report"
VERSION = 1


def to_json(report: Report) -> dict[str, Any]:
    """Spell a report as a JSON object; outcomes are arrays and stay out of it."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "protocol": report.protocol,
        "protocol_version": report.protocol_version,
        "metrics": {name: _estimate_to_json(m) for name, m in report.metrics.items()},
        "failures": dataclasses.asdict(report.failures),
        "curves": _plain(report.curves),
        "provenance": _plain(report.provenance),
    }


def from_json(document: Any, where: str = "report") -> Report:
    """Rebuild a report from `to_json`'s object; another format or version is refused."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ReportError(f"{where} is not an evalkit report", f'expected "format": "{FORMAT}"')
    if document.get("version") != VERSION:
        raise ReportError(
            f"{where} is report version {document.get('version')!r}, this evalkit reads {VERSION}",
            "use the evalkit that wrote it, or a newer one",
        )
    try:
        return Report(
            protocol=document["protocol"],
            protocol_version=document["protocol_version"],
            metrics={k: _estimate_from_json(m) for k, m in document["metrics"].items()},
            failures=Failures(
                **{**document["failures"], "keys": tuple(document["failures"]["keys"])}
            ),
            curves=document["curves"],
            provenance=document["provenance"],
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise ReportError(f"{where} lacks or misspells a field: {e}") from e


def dumps(report: Report) -> str:
    """Spell a report as one JSON document, the text of its file."""
    return json.dumps(to_json(report), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write(report: Report, path: Path) -> None:
    """Write the report, and its outcomes into an .npz of the same name."""
    if report.outcomes is not None:
        with whole_file(outcomes_path(path)) as f:
            np.savez_compressed(f, **dict(report.outcomes))  # type: ignore[arg-type]
    with whole_file(path) as f:
        f.write(dumps(report).encode())


def read(path: Path) -> Report:
    """Read a report written by `write`; its outcomes too where their file lies beside it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ReportError(f"no report at {path}") from e
    except (OSError, ValueError) as e:
        raise ReportError(f"{path} is not a JSON document: {e}") from e
    report = from_json(document, str(path))
    beside = outcomes_path(path)
    if not beside.is_file():
        return report
    with np.load(beside, allow_pickle=False) as held:
        return dataclasses.replace(report, outcomes={name: held[name] for name in held.files})


def outcomes_path(path: Path) -> Path:
    """Where the per-comparison arrays of the report at `path` lie."""
    return path.with_suffix(".npz")


def _estimate_to_json(m: Estimate) -> dict[str, Any]:
    always = {"value", "low", "high", "n", "threshold", "far", "note"}
    fields = {k: _plain(v) for k, v in dataclasses.asdict(m).items()}
    return {k: v for k, v in fields.items() if k in always or v not in (None, "", [])}


def _estimate_from_json(fields: Mapping[str, Any]) -> Estimate:
    return Estimate(**{**fields, "folds": tuple(fields.get("folds", ()))})


def _plain(value: Any) -> Any:
    """Turn numpy values into JSON's; JSON has no number that is not finite: null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
