"""MegaFace at its real size with synthetic faces: 3,530 probes, a million distractors.

    python benchmarks/megaface_size.py FOLDER [--distractors N --dim D]

FOLDER gets features (2 GB at the real size), their names and the devkit's lists, of 10 distractors
to all; `evalkit megaface` then runs on them, intervals included.  Printed are seconds by the clock
and of the processor, cores kept busy, and the most memory held beside the mapped features.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from allpairs import faces
from numpy.lib.format import open_memmap
from processes import Run, command, done

PEOPLE, PROBES = 80, 3_530
_BAND = 65_536


def make(folder: Path, distractors: int, dim: int) -> list[str]:
    """Write features, names and lists once; return the words of the command that reads them."""
    probes, subject = faces(PROBES, dim, 0, PEOPLE)
    names = [f"facescrub/{s}/{i}.png" for i, s in enumerate(subject)]
    others = [f"megaface/{i // 1000}/{i}.jpg" for i in range(distractors)]
    rows = open_memmap(folder / "features.npy", "w+", np.float32, (PROBES + distractors, dim))
    rows[:PROBES] = probes
    for o in range(0, distractors, _BAND):
        part = rows[PROBES + o : PROBES + o + _BAND]
        part[:] = faces(len(part), dim, o, len(part), world=100 + o)[0]
    rows.flush()
    (folder / "keys.txt").write_text("\n".join([*names, *others]) + "\n")
    who = {"path": names, "id": [str(s) for s in subject]}
    (folder / "probes.json").write_text(json.dumps(who))
    words = ["megaface", "--features", str(folder / "features.npy")]
    words += ["--keys", str(folder / "keys.txt"), "--probe-list", str(folder / "probes.json")]
    sizes = [s for s in (10, 100, 1000, 10_000, 100_000) if s < distractors]
    for size in [*sizes, distractors]:
        file = folder / f"distractors.json_{size}_1"
        file.write_text(json.dumps({"path": others[:size], "id": others[:size]}))
        words += ["--distractor-list", str(file)]
    return [*words, "--out", str(folder / "report.json")]


def measured(folder: Path, distractors: int = 1_000_000, dim: int = 512) -> Run:
    """Make the set and run the command on it."""
    folder.mkdir(parents=True, exist_ok=True)
    return done(command(make(folder, distractors, dim), shown=True))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("folder", type=Path)
    p.add_argument("--distractors", type=int, default=1_000_000)
    p.add_argument("--dim", type=int, default=512)
    o = p.parse_args()
    took = measured(o.folder, o.distractors, o.dim)
    print(
        f"evalkit megaface: {took.wall:.0f} s, {took.used:.0f} s of processor time, "
        f"{took.used / took.wall:.2f} cores busy, {took.anonymous / 2**30:.2f} GiB beside the map"
    )


if __name__ == "__main__":
    main()
