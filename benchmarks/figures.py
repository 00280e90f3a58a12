"""A figure of speed or memory with its goal, the table it stands in, and the machine it is of."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure and its goal: at least it, or at most it.

    bound : what it is bound by, how it was measured, or why it was not.
    """

    name: str
    measured: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    bound: str = ""

    def reached(self) -> str:
        """Yes, no, or nothing where there is no goal or no figure."""
        if self.measured is None or self.at_least == self.at_most:
            return ""
        least, most = self.at_least or -np.inf, np.inf if self.at_most is None else self.at_most
        return "yes" if least <= self.measured <= most else "no"

    def row(self) -> str:
        """Lay out a line of the table."""
        goal = "" if self.at_least is None else f">= {self.at_least:g}{self.unit}"
        goal = goal if self.at_most is None else f"<= {self.at_most:g}{self.unit}"
        got = "not measured" if self.measured is None else f"{self.measured:.3g}{self.unit}"
        return f"| {self.name} | {goal} | {got} | {self.reached()} | {self.bound} |"


HEAD = "| figure | goal | measured | reached | bound by |\n|---|---|---|---|---|"
Figures = Iterator[Figure]


def machine() -> str:
    """Name the processor, its cores, the packages that matter, and the load."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    known = [m for m in ("numba", "simplejpeg", "torch", "onnxruntime", "faiss") if find_spec(m)]
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    flags = " ".join(line for line in lines if line.startswith("flags"))
    vnni = "with VNNI" if "vnni" in flags else "without VNNI"  # int8 products
    processor = names[0] if names else platform.machine()
    return (
        f"{processor} {vnni}, {cores} cores, load {load:.1f}, Python "
        f"{platform.python_version()}, numpy {np.__version__}, with {', '.join(known)}"
    )


def with_table(text: str, part: str, table: str) -> str:
    """Put a part's table between its marks in a page; a page without these marks stays."""
    begin, end = f"<!-- {part}: made by benchmarks/all.py -->", f"<!-- end of {part} -->"
    if begin not in text or end not in text:
        return text
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end, 1)[1]}"
