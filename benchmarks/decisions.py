"""What intervals and paired tests promise, as one table: world x metric x coverage, size, power.

    python benchmarks/decisions.py [--trials 400] [--draws 100] [--power TRIALS] [--only TEXT]

`covered` is of 95 % intervals (`interval_coverage.py`, which prints their lengths, too); `p < .05`
of two equally good models, and `found` of a true drop as large as the median `detectable` one
(`paired_tests.py`).  What lies outside 92 to 98 %, 3 to 7 % and 75 to 85 % is marked, with its
reason below.  LFW's worlds want EVALKIT_SHARED_DATA.
"""

from __future__ import annotations

import argparse
import os

import interval_coverage
import numpy as np
import paired_tests

REASONS = {
    "!>": f"covered {interval_coverage.REASON}",
    "!<": "covered below 92 %",
    "-": "p < .05 below 3 %: caution; so few people differ that a p near 0.05 does not exist",
    "+": "p < .05 above 7 %",
    "?": "found outside 75 to 85 %: most samples of few people lack the worst of all",
}


def line(world: str, metric: str, **cells: str) -> str:
    """Lay out a line: cells by heading, blank where there are none."""
    shown = (cells.get(name, "") for name in ("covered", "size", "detectable", "found"))
    return (f"{world:36}{metric:28}" + "".join(f"{cell:>14}" for cell in shown)).rstrip()


def spelled(cell: paired_tests.Cell) -> dict[str, str]:
    """Spell size, detectable drop and power, with their marks."""
    outside = "-" if cell.size < 0.03 else "+" if cell.size > 0.07 else ""
    found = {"size": f"{outside} {cell.size:.1%}", "detectable": f"{cell.detectable:.4f}"}
    if cell.found is not None:
        rough = "" if 0.75 <= cell.found <= 0.85 else "?"
        found["found"] = f"{rough} {cell.found:.1%}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--power", type=int, default=0, metavar="TRIALS")
    parser.add_argument("--only", default="", help="worlds whose name holds this text")
    options = parser.parse_args()
    options.seed, options.by_pair = 0, False
    margins = (np.sqrt(0.05 * 0.95 / options.trials), np.sqrt(0.16 / max(options.power, 1)))
    print(f"{options.trials} trials of {options.draws} draws, one standard error {margins[0]:.1%}")
    if options.power:
        print(f"found: {options.power} trials, one standard error {margins[1]:.1%}")
    heads = {"covered": "covered", "size": "p < .05", "detectable": "detectable", "found": "found"}
    print(line("", "metric", **heads))
    for world in interval_coverage.WORLDS:
        if options.only in world.name:
            for name, (held, _) in interval_coverage.covered(world, options).items():
                cell = f"{interval_coverage.mark(held)} {held:.1%}"
                print(line(world.name, name, covered=cell), flush=True)
    for key, pair in paired_tests.WORLDS.items():
        absent = key.startswith("lfw") and "EVALKIT_SHARED_DATA" not in os.environ
        if options.only in pair.name and not absent:
            found, fails = paired_tests.cells(pair, options)
            for name, cell in found.items():
                print(line(pair.name, name, **spelled(cell)), flush=True)
            print(line(pair.name, "gate fails", size=f"{fails:.1%}"), flush=True)
    for sign, reason in REASONS.items():
        print(f"{sign:3}{reason}")


if __name__ == "__main__":
    main()
