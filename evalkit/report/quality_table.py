"""Quality against error as text: a table for each FAR and way of discarding, in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping

from evalkit.protocols.metrics.operating_point import FEW_ERRORS
from evalkit.report.spelling import row
from evalkit.report.sub_tables import SubTable, with_mark
from evalkit.types import Estimate, Report

_NOTHING = Estimate(value=None)
_OF = {"pairs-discarded": "genuine pairs", "images-discarded": "images"}


def is_of_quality(name: str) -> bool:
    """Tell whether a metric holds image quality against error."""
    return any(f"{way}=" in name for way in _OF)


def tables(report: Report) -> list[SubTable]:
    """Lay out a report's numbers of qualities; nothing where it has none."""
    held_by: dict[tuple[str, str], list[tuple[str, dict[str, str], Estimate]]] = {}
    for name, m in report.metrics.items():
        if is_of_quality(name):
            base, _, parameters = name.partition("@")
            values = dict(part.partition("=")[::2] for part in parameters.split(","))
            way = next(way for way in _OF if way in values)
            far = values.get("far", values.get("far-of-kept", ""))
            held_by.setdefault((far, way), []).append((base, values, m))
    sub_tables = [_table(far, way, of) for (far, way), of in held_by.items()]
    return with_mark(sub_tables, f"fewer than {FEW_ERRORS} misses: unreliable")


def _table(far: str, way: str, of: list[tuple[str, dict[str, str], Estimate]]) -> SubTable:
    title = f"FNMR without the {_OF[way]} of lowest quality, FAR {far}"
    title += ", threshold fixed before and after discarding"
    cells = [["quality", "discarded", "before", "95 % interval", "after", "95 % interval", "of"]]
    rates: dict[tuple[str, str], dict[str, Estimate]] = {}
    below, reasons = [], []
    for base, values, m in of:
        at = values["quality"], values[way]
        if base == "edc-area":
            rates[values["quality"], f"mean to {values[way]}"] = {"far": m}
        elif base == "fnmr":
            rates.setdefault(at, {})["far" if "far" in values else "far-of-kept"] = m
        elif base == "edc-area-difference":
            below += _difference(values, way, m, of)
        reasons += [f"{at[0]} {at[1]}: {m.note}"] * (m.value is None)
    cells += [_cells(*at, values) for at, values in rates.items()]
    return SubTable(title=title, cells=cells, left=(0, 3, 5), below=[*reasons, *below])


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
    said += f" adjusted by Holm ({p.note})" if p.note else ""
    return [said]
