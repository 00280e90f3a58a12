"""Reports as one self-contained HTML page: no network, every text escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from evalkit import __version__
from evalkit.errors import ReportError, needing
from evalkit.escaping import printable
from evalkit.protocols.metrics.score_unit import score_unit
from evalkit.protocols.metrics.vocabulary import METRICS
from evalkit.report.drawn_models import Model, models_of
from evalkit.report.hardest import hardest
from evalkit.report.plots import PICTURES, inline_svg, picture
from evalkit.report.spelling import row
from evalkit.report.table import HEADINGS, caveat, failures, glossary, is_in_sub_table, sub_tables
from evalkit.types import Estimate, Report

MOST_MODELS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceRow:
    """The difference of one metric, spelled; what a paired test gives is empty where there is none.

    holm : p adjusted for all rows.  worse : whether that calls it worse.
    """

    name: str
    value: str
    interval: str = ""
    p: str = ""
    holm: str = ""
    detectable: str = ""
    test: str = ""
    worse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """How a report differs from the first on its page.

    refused : why the two may not be compared, or empty.  unpaired : why not all is paired.
    changed : the decisions lost and gained, in words.
    """

    rows: tuple[DifferenceRow, ...] = ()
    refused: str = ""
    unpaired: str = ""
    changed: str = ""

    @property
    def paired(self) -> bool:
        """Whether any metric has a paired test."""
        return any(row.test for row in self.rows)


def page(
    reports: Report | Sequence[Report],
    images: str | os.PathLike[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    differences: Sequence[Differences] = (),
    thresholds: Sequence[Sequence[str]] = (),
    threshold_notes: Sequence[str] = (),
) -> str:
    """Write the page of one report, or of several beside each other; the first is the reference.

    images : folder, archive or list with the images that the outcomes name, for thumbnails.
    names : of the reports; None numbers them.
    differences : of each other report from the first, as `verdict.differences` finds them.
    thresholds, threshold_notes : those to deploy, a row of headings and one per FAR, and what is to
    be said of them.
    """
    models = models_of(reports, names)
    if not 1 <= len(models) <= MOST_MODELS:
        hint = f"give one to {MOST_MODELS}; evalkit table takes any number"
        raise ReportError(f"{len(models)} reports on one page", hint)
    if differences and len(differences) != len(models) - 1:
        raise ReportError(f"{len(differences)} differences of {len(models)} reports", "one fewer")
    called = [m.name for m in models]
    first = models[0].report
    return rendered(
        "page.html",
        **described(models),
        intervals=_intervals(models),
        unit="comparison" if caveat(first) else "subject",
        scored=score_unit(first.provenance),
        table=_table(models),
        glossary=glossary((name for m in models for name in m.report.metrics), most=len(METRICS)),
        differences=list(zip(called[1:], differences, strict=False)),
        thresholds=thresholds,
        threshold_notes=threshold_notes,
        hardest=hardest(first, images),
        illustrated=images is not None,
    )


def described(
    models: Sequence[Model], pictures: Collection[str] = tuple(PICTURES)
) -> dict[str, Any]:
    """Give what any page says of models: title, protocol, failures, tables, pictures, provenance.

    pictures : the kinds of `PICTURES` that are drawn, where the models have the data.
    """
    called = [m.name for m in models]
    figures = [
        {"title": title, "svg": inline_svg(figure, kind, _label(title, called))}
        for kind, (_, title) in PICTURES.items()
        if kind in pictures and (figure := picture(kind, models)) is not None
    ]
    return {
        "title": " and ".join(filter(None, (", ".join(called[:-1]), called[-1]))),
        "protocol": models[0].report.protocol,
        "measured": dict.fromkeys(
            f"{m.report.protocol} · protocol version {m.report.protocol_version}" for m in models
        ),
        "models": [_model(m) for m in models],
        "figures": figures,
    }


def rendered(template: str, **values: Any) -> str:
    """Fill in a template of this room, every text escaped; `version` is evalkit's."""
    with needing("jinja2", "report", "writing the report page"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    environment = Environment(
        loader=PackageLoader("evalkit", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
    )
    return environment.get_template(template).render(
        version=__version__, sorting=_sorting(), **values
    )


def _sorting() -> dict[str, str]:
    """Give the page's one script, and the hash by which its policy lets that run and no other."""
    script = files("evalkit.report").joinpath("sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": script, "hash": f"sha256-{digest}"}


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
    provenance = [(k, _plain(v)) for k, v in _flat(model.report.provenance)]
    return {
        "name": model.name,
        "failures": failures(model.report),
        "sub_tables": sub_tables(model.report),
        "provenance": provenance,
    }


def _flat(provenance: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in provenance.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + str(key), value))
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple) and not value:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _table(models: Sequence[Model]) -> dict[str, Any]:
    """Spell every metric of every model, and what supports it, where models agree on that."""
    several = len(models) > 1
    support = ("n", "people", *(() if several else ("threshold", "false_accepts", "note")))
    rows = []
    names = dict.fromkeys(name for m in models for name in m.report.metrics)
    for name in (name for name in names if not is_in_sub_table(name)):
        of = [m.report.metrics.get(name, Estimate(value=None)) for m in models]
        cells = [row(name, m, counted=not several) for m in of]
        beside = {
            f: " / ".join(dict.fromkeys(filter(None, (getattr(c, f) for c in cells))))
            for f in support
        }
        rows.append({"name": name, "cells": cells, **beside})
    filled = [f for f in support if any(r[f] for r in rows)]
    return {"rows": rows, "beside": {f: HEADINGS[f] for f in filled}}


def _label(title: str, names: Sequence[str]) -> str:
    return f"{title}; {', '.join(names)}. The numbers are in the table above."
