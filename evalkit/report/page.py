"""Reports as one self-contained HTML page: no network, every text escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from evalkit import __version__
from evalkit.errors import MissingPackageError, ReportError
from evalkit.escaping import printable
from evalkit.protocols.metrics.vocabulary import better
from evalkit.report.hardest import Hardest, hardest
from evalkit.report.plots import PICTURES, draw, drawable, inline_svg
from evalkit.report.style import Model
from evalkit.report.table import caveat, interval_of_points, points, spelled, threshold
from evalkit.types import Estimate
from evalkit.verdict.compare import compare

MOST_MODELS = 6


def page(models: Sequence[Model], images: Path | None = None) -> str:
    """Write the page of one model, or of several beside each other; the first is the reference.

    images : folder, archive or list with the images that the outcomes name, for thumbnails.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as e:
        raise MissingPackageError("jinja2", "report", "writing the report page") from e
    if not 1 <= len(models) <= MOST_MODELS:
        raise ReportError(f"{len(models)} reports on one page", f"give one to {MOST_MODELS}")
    first = models[0].report
    figures = [
        {"title": title, "svg": Markup(inline_svg(draw(kind, models), kind, _label(title, models)))}  # noqa: S704
        for kind, (_, title) in PICTURES.items()
        if any(drawable(kind, m.report) for m in models)
    ]
    text = files("evalkit.report").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_shown)
    template = environment.from_string(text)
    return template.render(
        title=" and ".join(m.name for m in models),
        protocol=first.protocol,
        protocol_version=first.protocol_version,
        version=__version__,
        models=[_model(m) for m in models],
        intervals=_intervals(models),
        unit="comparison" if caveat(first) else "subject",
        metrics=_metrics(models),
        differences=[_differences(models[0], other) for other in models[1:]],
        figures=figures,
        hardest=[_pairs(h) for h in hardest(first, images)],
    )


def _shown(value: Any) -> Any:
    """Escape what is not printable in a text; markup of evalkit's own stays."""
    return printable(value) if type(value) is str else value


def _intervals(models: Sequence[Model]) -> str:
    """Name what was drawn for the intervals; where models differ, by model."""
    names = {m.name: caveat(m.report) or "by subject" for m in models}
    if len(set(names.values())) == 1:
        return next(iter(names.values()))
    return "(" + "; ".join(f"{model}: {how}" for model, how in names.items()) + ")"


def _model(model: Model) -> dict[str, Any]:
    f = model.report.failures
    failures = ""
    if f.images:
        failures = (
            f"{f.images:,} images without a template: {f.genuine:,} genuine and {f.impostor:,} "
            "impostor comparisons rejected."
        )
    provenance = [(k, _plain(v)) for k, v in _flat(model.report.provenance)]
    return {"name": model.name, "failures": failures, "provenance": provenance}


def _flat(provenance: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in provenance.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + str(key), value))
    return rows


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _metrics(models: Sequence[Model]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for m in models for name in m.report.metrics))
    return [_metric(name, [m.report.metrics.get(name) for m in models]) for name in names]


def _metric(name: str, estimates: Sequence[Estimate | None]) -> dict[str, Any]:
    cells = []
    for m in estimates:
        value = "-" if m is None or m.value is None else spelled(name, m.value)
        interval = ""
        if m is not None and m.low is not None and m.high is not None:
            interval = _ends(name, m.low, m.high)
        cells.append({"value": value, "interval": interval})
    m = estimates[0] or Estimate(value=None)
    return {
        "name": name,
        "cells": cells,
        "threshold": "" if m.threshold is None else threshold(m.threshold),
        "false_accepts": "" if m.false_accepts is None else f"{m.false_accepts:,}",
        "n": f"{m.n:,}" if m.n else "",
        "note": m.note,
    }


def _differences(base: Model, other: Model) -> dict[str, Any]:
    group: dict[str, Any] = {"name": other.name, "refused": "", "unpaired": "", "flips": ""}
    try:
        found = compare(base.report, other.report)
    except ReportError as e:
        return {**group, "refused": f"Not compared: {e.message}.", "rows": []}
    rows = []
    for name, (a, b) in found.values.items():
        d = found.differences.get(name)
        way = better(name)
        worse = (way == "lower" and b > a) or (way == "higher" and b < a)
        rows.append(
            {
                "name": name,
                "value": points(name, b - a, "+"),
                "interval": interval_of_points(name, d.low, d.high) if d else "",
                "p": f"{d.p:.2g}" if d else "",
                "test": d.test if d else "",
                "worse": worse and d is not None and d.p < 0.05,
            }
        )
    if found.flips:
        lost = sum(f.lost for f in found.flips)
        group["flips"] = f"{lost} decisions lost, {len(found.flips) - lost} gained."
    return {
        **group,
        "paired": bool(found.differences),
        "unpaired": found.why_unpaired,
        "rows": rows,
    }


def _ends(name: str, low: float, high: float) -> str:
    return f"{spelled(name, low)} to {spelled(name, high)}"


def _pairs(group: Hardest) -> dict[str, Any]:
    return {
        "id": group.kind,
        "title": group.title,
        "explanation": group.explanation,
        "pairs": [
            {
                "score": f"{p.score:.4f}",
                "left": p.left,
                "right": p.right,
                "images": [
                    {"data": data, "key": key}
                    for key, data in ((p.left, p.left_image), (p.right, p.right_image))
                    if data
                ],
            }
            for p in group.pairs
        ],
    }


def _label(title: str, models: Sequence[Model]) -> str:
    return f"{title}; {', '.join(m.name for m in models)}. The numbers are in the table above."
