"""Peak memory of `evalkit import`, by format, beside the size of the vectors; on Linux.

    python benchmarks/import_memory.py FOLDER [--rows 100000]

Writes sets of 512 float32 numbers a row and of a fifth of the rows, and imports both: what grows
from one to the other is what depends on the size.  Counted is the process's own memory, looked at
50 times a second, not the pages of mapped files, which the system takes back when it needs them.
"""

import argparse
import csv
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
from processes import command, done
from scipy.io import savemat

DIM = 512
KINDS = ("npy", "npz", "h5", "csv", "parquet", "pt", "mat")


def make(path: Path, list_: Path, rows: int) -> None:
    """Write a set as other programs do, and its keys."""
    x = np.random.default_rng(0).standard_normal((rows, DIM), np.float32)
    keys = [f"{i // 20}/{i}.jpg" for i in range(rows)]
    list_.write_text("\n".join(keys))
    kind = path.suffix[1:]
    if kind == "npy":
        np.save(path, x)
    elif kind == "npz":
        np.savez(path, features=x, keys=np.array(keys))
    elif kind == "h5":
        with h5py.File(path, "w") as f:
            f["features"], f["keys"] = x, keys
    elif kind == "csv":
        with path.open("w", newline="") as f:
            csv.writer(f).writerows([k, *row.tolist()] for k, row in zip(keys, x, strict=True))
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as parquet

        vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), DIM)
        parquet.write_table(pa.table({"key": keys, "embedding": vectors}), path)
    elif kind == "pt":
        import torch

        torch.save({"features": torch.from_numpy(x), "keys": keys}, path)
    else:
        savemat(path, {"features": x, "keys": np.array(keys, object)})


def take(path: Path, keys: Path) -> tuple[float, float]:
    """Import in a process of its own; give the peak of its own memory in MiB, and its time."""
    out = path.with_name("out.h5")
    out.unlink(missing_ok=True)
    words = ["import", str(path), str(out), "--quiet"]
    words += ["--keys", str(keys)] if path.suffix == ".npy" else []
    run = done(command(words))
    return run.anonymous / 2**20, run.used


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--rows", type=int, default=100_000)
    o = options.parse_args()
    o.folder.mkdir(exist_ok=True)
    for kind in KINDS:
        line = f"{kind:<8}"
        for rows in (o.rows // 5, o.rows):
            path, keys = o.folder / f"x.{kind}", o.folder / "keys.txt"
            maker = get_context("spawn").Process(target=make, args=(path, keys, rows))
            maker.start()
            maker.join()
            peak, used = take(path, keys)
            line += f"  {rows:,} rows, {rows * DIM >> 18} MiB: {peak:.0f} MiB, {used:.1f} s"
            path.unlink()
        print(line, flush=True)


if __name__ == "__main__":
    main()
