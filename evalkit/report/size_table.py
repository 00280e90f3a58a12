"""FNIR(N, R, T) as a table: a column for each number N of people enrolled."""

from __future__ import annotations

import re

import numpy as np

from evalkit.protocols.metrics.operating_point import FEW_ERRORS
from evalkit.protocols.metrics.vocabulary import read
from evalkit.report.spelling import spelled
from evalkit.report.sub_tables import SubTable, with_mark
from evalkit.types import Estimate, Report

_GRAMMARS = ("fnir@rank=K,gallery=N", "fnir@fpir=FPIR,rank=K,gallery=N")
_NOTHING = Estimate(value=None)
_BESIDE = 4  # sizes that have room in 80 columns
_TITLE = "FNIR(N, R, T) in %: searches that miss their mate within rank R at or above T"
_DRAWN = "N people enrolled, mean of galleries drawn ± deviation; T = 0: no threshold"


def is_by_size(name: str) -> bool:
    """Tell whether a metric is FNIR of galleries of some size."""
    reading = read(name)
    if reading is None or reading.metric.grammar not in _GRAMMARS:
        return False
    return re.fullmatch("[0-9]{1,15}", reading.values["N"]) is not None and not reading.rest


def tables(report: Report) -> list[SubTable]:
    """Lay out a report's FNIR by gallery size; nothing where it has none."""
    by_rank: dict[tuple[str, str], dict[int, Estimate]] = {}
    for name, m in report.metrics.items():
        if is_by_size(name) and (reading := read(name)):
            fpir = reading.values.get("FPIR")
            bar = "0" if fpir is None else f"FPIR {fpir}"
            by_rank.setdefault((bar, reading.values["K"]), {})[int(reading.values["N"])] = m
    sizes = sorted({size for of in by_rank.values() for size in of})
    found_tables = []
    for n in range(0, len(sizes), _BESIDE):
        block = sizes[n : n + _BESIDE]
        cells = [["T", "R", *(f"N = {size:,}" for size in block)]]
        for (bar, rank), of in by_rank.items():
            cells.append(_cells(bar, rank, [of.get(size, _NOTHING) for size in block]))
        lacking = (of[size] for of in by_rank.values() for size in block if size in of)
        below = [m.note for m in lacking if m.value is None]
        found_tables.append(SubTable(title="" if n else _TITLE, cells=cells, below=below))
    if found_tables:
        found_tables.append(SubTable(below=[_DRAWN]))
    return with_mark(found_tables, f"a gallery has fewer than {FEW_ERRORS} errors: unreliable")


def _cells(bar: str, rank: str, of: list[Estimate]) -> list[str]:
    """Spell FNIR at one threshold and rank, by size."""
    few = any("unreliable" in m.note or "bound" in m.note for m in of if m.value is not None)
    values = []
    for m in of:
        spread = f" ± {100 * np.std(m.folds, ddof=1):.2f}" if len(m.folds) > 1 else ""
        value = "-" if m.value is None else spelled("fnir@rank=1,gallery=1", m.value)
        values.append(value.removesuffix(" %") + spread)
    return [("* " if few else "") + bar, rank, *values]
