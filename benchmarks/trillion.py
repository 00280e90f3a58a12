"""The trillion-pair test at its real size: time, processor time and memory beside the map.

    python benchmarks/trillion.py FOLDER
    python benchmarks/trillion.py OTHER --subjects 400 --images 50 --distractors 20000000 \
        --dim 128 --float16

FOLDER gets the set, made once by `evalkit synth` (3.8 GB at the real size), and its reports.
Printed are, for the making of the set and for `evalkit trillion`, intervals included: seconds by
the clock and of the processor, cores kept busy, and the most memory that was held beside the mapped
features (RssAnon).  float32 numbers are held to those that the set is known to have.
--float16 writes the features once more, as float16 (half the disk), and runs on these at the same
FARs; their numbers are those of the rounded rows, so that nothing is expected of them.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
from processes import command, done


def run(*words: str) -> None:
    """Run evalkit and print what it took; RuntimeError where it fails."""
    took = done(command(words, shown=True))
    print(
        f"evalkit {words[0]}: {took.wall:.0f} s, {took.used:.0f} s of processor time, "
        f"{took.used / took.wall:.2f} cores busy, {took.anonymous / 2**30:.2f} GiB beside the map, "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def halved(features: Path) -> Path:
    """Write features.npy as float16 beside it, a band at a time."""
    wide, made = np.load(features, mmap_mode="r"), features.with_name("float16.npy")
    if not made.exists():
        half = np.lib.format.open_memmap(made, "w+", np.float16, wide.shape)
        for o in range(0, len(wide), 65536):
            half[o : o + 65536] = wide[o : o + 65536]
        half.flush()
    return made


def same_fars(report: Path) -> list[str]:
    """Options that ask for the FARs of a report which have a value: `--expect` asks for these."""
    metrics = json.loads(report.read_text())["metrics"]
    fars = (
        name.removeprefix("tpr@far=")
        for name, m in metrics.items()
        if name.startswith("tpr@far=") and m["value"] is not None
    )
    return [word for far in fars for word in ("--far", far)]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("folder", type=Path)
    for name, usual in (
        ("subjects", 5700),
        ("images", 48),
        ("distractors", 1_580_000),
        ("dim", 512),
    ):
        p.add_argument(f"--{name}", type=int, default=usual)
    p.add_argument("--float16", action="store_true")
    o = p.parse_args()
    features = o.folder / "features.npy"
    if not (o.folder / "answer.json").exists():
        sizes = [
            word
            for name in ("subjects", "images", "distractors", "dim")
            for word in (f"--{name}", str(getattr(o, name)))
        ]
        run("synth", str(o.folder), *sizes)
    options = ["--expect", str(o.folder / "answer.json")]
    if o.float16:
        features, options = halved(features), same_fars(o.folder / "answer.json")
    who, out = str(o.folder / "subjects.txt"), str(o.folder / f"{features.stem}.json")
    run("trillion", "--features", str(features), "--subjects", who, "--out", out, *options)


if __name__ == "__main__":
    main()
