"""IJB-C's true counts with synthetic faces: time and memory of 1:1, from image features.

    python benchmarks/ijb_size.py FOLDER

FOLDER gets features of 469,375 images (0.96 GB) and the two lists; then `evalkit ijb` runs on them,
with the intervals of every number, and once more with InsightFace's rule beside.
"""

import sys
from pathlib import Path

import numpy as np
from processes import Run, command, done

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


def measured(folder: Path, *more: str) -> Run:
    """Run the command on the set, which is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "pairs.txt").exists():
        make(folder)
    files = {"--features": "features.npy", "--media": "media.txt", "--pairs": "pairs.txt"}
    words = [word for option, name in files.items() for word in (option, str(folder / name))]
    return done(command(["ijb", *words, *more], shown=True))


def main() -> None:
    for more in ([], ["--compat"]):
        took = measured(Path(sys.argv[1]), *more)
        print(
            f"evalkit ijb {' '.join(more)}: {took.wall:.1f} s, {took.used:.1f} s of processor "
            f"time, {took.anonymous / 2**30:.2f} GiB beside the map\n"
        )


if __name__ == "__main__":
    main()
