"""Quality against error as text: a table for each FAR and way of discarding, in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping

from evalkit.escaping import laid_out, printable
from evalkit.protocols.metrics.operating_point import FEW_ERRORS
from evalkit.protocols.metrics.quality_records import METRICS
from evalkit.protocols.metrics.vocabulary import metric_of
from evalkit.report.spelling import row, wrapped
from evalkit.types import Estimate, Report

_FEW = f"* fewer than {FEW_ERRORS} misses: unreliable"
_NOTHING = Estimate(value=None)
_OF = {"pairs-discarded": "genuine pairs", "images-discarded": "images"}


def is_of_quality(name: str) -> bool:
    """Tell whether a metric holds image quality against error."""
    return metric_of(name) in METRICS


def lines(report: Report) -> list[str]:
    """Lay out a report's numbers of qualities; nothing where it has none."""
    tables: dict[tuple[str, str], list[tuple[str, dict[str, str], Estimate]]] = {}
    for name, m in report.metrics.items():
        if is_of_quality(name):
            base, _, parameters = name.partition("@")
            held = dict(part.partition("=")[::2] for part in parameters.split(","))
            way = next(way for way in _OF if way in held)
            far = held.get("far", held.get("far-of-kept", ""))
            tables.setdefault((far, way), []).append((base, held, m))
    found = [line for (far, way), of in tables.items() for line in _table(far, way, of)]
    few = any(line.startswith("  * ") for line in found)
    return [*map(printable, found), *["", _FEW] * few]


def _table(far: str, way: str, of: list[tuple[str, dict[str, str], Estimate]]) -> list[str]:
    title = f"FNMR without the {_OF[way]} of lowest quality, FAR {far}"
    title += ", threshold fixed before and after discarding"
    cells = [["quality", "discarded", "before", "95 % interval", "after", "95 % interval", "of"]]
    rates: dict[tuple[str, str], dict[str, Estimate]] = {}
    below, reasons = [], []
    for base, held, m in of:
        at = held["quality"], held[way]
        if base == "edc-area":
            rates[held["quality"], f"mean to {held[way]}"] = {"far": m}
        elif base == "fnmr":
            rates.setdefault(at, {})["far" if "far" in held else "far-of-kept"] = m
        elif base == "edc-area-difference":
            below += _difference(held, way, m, of)
        reasons += wrapped(f"{at[0]} {at[1]}: {m.note}", 4, 2) * (m.value is None)
    cells += [_cells(*at, held) for at, held in rates.items()]
    laid = (f"  {line}" for line in laid_out(cells, left=(0, 3, 5)))
    return ["", *wrapped(title, 2, 0), *laid, *dict.fromkeys(reasons), *below]


def _cells(quality: str, share: str, held: Mapping[str, Estimate]) -> list[str]:
    """Spell FNMR of one share, by the threshold fixed before and after."""
    before, after = (row("fnmr@far=1", held.get(k, _NOTHING)) for k in ("far", "far-of-kept"))
    m = held.get("far", _NOTHING)
    few = m.value is not None and m.value * m.n < FEW_ERRORS
    spelled = [before.value, before.interval, after.value, after.interval]
    if "far-of-kept" not in held:
        spelled[2:] = ["", ""]
    return [("* " if few else "") + quality, share, *spelled, f"{m.n:,}"]


def _difference(
    held: Mapping[str, str],
    way: str,
    m: Estimate,
    of: list[tuple[str, dict[str, str], Estimate]],
) -> list[str]:
    """Say by how much two qualities' means differ, and p."""
    if m.value is None or m.low is None or m.high is None:
        return []
    p = next((e for base, h, e in of if base == "edc-area-equality" and h == held), _NOTHING)
    said = (
        f"{held['quality']} less {held['from']}, mean to {held[way]}: {100 * m.value:+.2f} points"
    )
    said += f", [{100 * m.low:.2f}, {100 * m.high:.2f}], p {p.value:.2g}"
    said += " adjusted by Holm" if p.note else ""
    return wrapped(said, 4, 2)
