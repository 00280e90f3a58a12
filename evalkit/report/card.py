"""What a model card says of a model: its numbers, and what they rest on.

Written into and read from Hugging Face's `model-index` (the head of README.md) and
`.eval_results/*.yaml` by `report.markdown`, or read from reports themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import ReportError, needing
from evalkit.escaping import printable
from evalkit.files import as_path, read_text
from evalkit.report import several
from evalkit.types import Report

# What a number rests on, beside the digests of the list and the images: the provenance's names.
MADE = (
    *("model", "runtime", "input spec", "crop", "decoder"),
    *("flip", "recipe", "template", "evalkit"),
)
_LARGEST = 1 << 20  # bytes of a card
_PRECISION = re.compile(r"(?:b?float|u?int)\d+")
_TASK = "face-verification"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardResult:
    """What a card says of one model on one set.

    model, set_name : what the card calls them.  values : metric -> value.
    made : what they rest on, see `made_of`, as far as the card says it.
    """

    model: str
    set_name: str
    protocol: str
    protocol_version: int
    values: Mapping[str, float]
    made: Mapping[str, str]


def made_of(report: Report) -> dict[str, str]:
    """Say what a report's numbers rest on: "list", "images", "file" and `MADE`, where known."""
    identity = report.identity
    values = {"list": identity.list, "images": identity.images, "file": identity.file}
    values |= {name: report.provenance.get(name) for name in MADE}
    return {name: _line(value) for name, value in values.items() if value is not None}


def parts_of_runtime(runtime: str) -> dict[str, str]:
    """Part the line of a runtime into library, provider, precision and what of it is taken.

    >>> parts_of_runtime("torch 2.9.0 cpu float32, output 1")
    {'library': 'torch 2.9.0', 'provider': 'cpu', 'precision': 'float32', 'output': 'output 1'}
    """
    first, _, more = runtime.partition(", ")
    name, *words = first.split() or [""]
    precision = words.pop() if words and _PRECISION.fullmatch(words[-1]) else ""
    version = words.pop(0) if words and words[0][0].isdigit() else ""
    parts = {
        "library": f"{name} {version}".strip(),
        "provider": " ".join(words),
        "precision": precision,
        "output": more,
    }
    return {part: text for part, text in parts.items() if text}


def read(path: str | os.PathLike[str]) -> list[CardResult]:
    """Read a card: README.md, .eval_results/*.yaml, a report, or what `evalkit bench` wrote.

    What other tools wrote into a card is passed over.  ReportError where evalkit wrote none of it.
    """
    path = as_path(path)
    if path.is_dir() or path.suffix.lower() == ".json":
        return [_of_report(report, name) for name, report in several.read(path).items()]
    document = _yaml(path)
    try:
        results = (
            _of_entries(document)
            if isinstance(document, list)
            else _of_index(document["model-index"])
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        raise ReportError(f"{path} is not a model card of evalkit's: {type(e).__name__} {e}") from e
    if not results:
        hint = "evalkit report REPORT --model-card writes one"
        raise ReportError(f"{path} has no result that evalkit wrote", hint)
    return results


def _of_report(report: Report, name: str) -> CardResult:
    return CardResult(
        model="",
        set_name=report.identity.set or name or report.protocol,
        protocol=report.protocol,
        protocol_version=report.protocol_version,
        values=report.flat(),
        made=made_of(report),
    )


def _of_index(index: Any) -> list[CardResult]:
    """Take evalkit's results of a `model-index`."""
    return [
        CardResult(
            model=str(model["name"]),
            set_name=str(result["dataset"]["name"]),
            protocol=str(result["dataset"]["type"]),
            protocol_version=int(result["dataset"]["args"].pop("protocol_version")),
            values={str(m["type"]): float(m["value"]) for m in result["metrics"]},
            made={str(k): _line(v) for k, v in result["dataset"]["args"].items()},
        )
        for model in index
        for result in model["results"]
        if result["task"]["type"] == _TASK
        and "protocol_version" in (result["dataset"].get("args") or {})
    ]


def _of_entries(entries: list[Any]) -> list[CardResult]:
    """Take evalkit's entries of `.eval_results/*.yaml`, which have the rest in their notes."""
    results = []
    for entry in entries:
        if entry.get("evaluation_framework") != "evalkit":
            continue
        metric, *notes = str(entry["notes"]).split("; ")
        (protocol, version), *_ = re.findall(r"; (\S+) version (\d+);", f"{entry['notes']};")
        names = ("list", "images", "file", *MADE)
        said = {
            name: note.removeprefix(f"{name} ").removeprefix("sha256:" if name in names[:2] else "")
            for note in notes
            for name in names
            if note.startswith(f"{name} ")
        }
        results.append(
            CardResult(
                model="",
                set_name=str(entry["dataset"]["task_id"]),
                protocol=protocol,
                protocol_version=int(version),
                values={metric: float(entry["value"])},
                made=said,
            )
        )
    return results


def _yaml(path: Path) -> Any:
    """Read the head of a Markdown file, or a file of YAML; nothing in it is run."""
    with needing("pyyaml", "report", f"reading {path.name}"):
        import yaml
    if path.stat().st_size > _LARGEST:
        raise ReportError(f"{path} is larger than any model card")
    text = read_text(path)
    head = re.match(r"---\r?\n(.*?)\r?\n---(?:\r?\n|$)", text, re.DOTALL)
    try:
        return yaml.safe_load(text if head is None else head[1])
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise ReportError(f"{path} is not YAML: {e}") from e


def _line(value: Any) -> str:
    """Spell a value on one line, without what parts the notes of `.eval_results`."""
    return printable(" ".join(str(value).split())).replace("; ", ", ")
