"""IJB-C's true counts with synthetic faces: time and peak memory of 1:1, from image features.

    python benchmarks/ijb_size.py FOLDER

FOLDER gets features of 469,375 images (0.96 GB) and the two lists; then `evalkit ijb` runs on them,
with the intervals of every number, and once more with InsightFace's rule beside.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

IMAGES, TEMPLATES, GENUINE, IMPOSTOR, GALLERY, DIM = 469_375, 23_124, 19_557, 15_638_932, 3_531, 512


def make(folder: Path) -> None:
    rng = np.random.default_rng(0)
    subject = np.concatenate([np.arange(GALLERY), rng.integers(0, GALLERY, TEMPLATES - GALLERY)])
    template = np.sort(
        np.concatenate([np.arange(TEMPLATES), rng.integers(0, TEMPLATES, IMAGES - TEMPLATES)])
    )
    centre = rng.standard_normal((GALLERY, DIM), np.float32)
    shape = {"descr": "<f4", "fortran_order": False, "shape": (IMAGES, DIM)}
    with (folder / "features.npy").open("wb") as f:
        np.lib.format.write_array_header_1_0(f, shape)
        for o in range(0, IMAGES, 8192):
            of = subject[template[o : o + 8192]]
            f.write((centre[of] + 8 * rng.standard_normal((len(of), DIM), np.float32)).data)
    media = rng.integers(0, 8, IMAGES)
    with (folder / "media.txt").open("w") as f:
        rows = enumerate(zip(template, media, strict=True))
        f.writelines(f"{i}.jpg {t} {m}\n" for i, (t, m) in rows)
    probes = np.arange(GALLERY, TEMPLATES)
    mate = rng.choice(probes, GENUINE, replace=False)
    left = np.concatenate([subject[mate], rng.integers(0, GALLERY, IMPOSTOR)])
    right = np.concatenate([mate, rng.choice(probes, IMPOSTOR)])
    label = np.arange(GENUINE + IMPOSTOR) < GENUINE
    other = ~label & (subject[right] == left)
    left[other] = (left[other] + 1) % GALLERY
    order = rng.permutation(len(label))
    np.savetxt(
        folder / "pairs.txt", np.column_stack([left, right, label])[order], fmt="%d", delimiter=" "
    )


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    if not (folder / "pairs.txt").exists():
        make(folder)
    options = ["--features", "features.npy", "--media", "media.txt", "--pairs", "pairs.txt"]
    for more in ([], ["--compat"]):
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "evalkit", "ijb", *options, *more], cwd=folder, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"evalkit ijb {' '.join(more)}: {time.perf_counter() - start:.1f} s, {used:.1f} s of "
            f"processor time, {after.ru_maxrss / 2**20:.2f} GiB, load {os.getloadavg()[0]:.1f}\n"
        )


if __name__ == "__main__":
    main()
