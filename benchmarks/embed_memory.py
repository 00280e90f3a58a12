"""Peak memory of embedding 1,000, 10,000 and 100,000 images; on Linux.

    python benchmarks/embed_memory.py [--images 1000,10000,100000]

The model is a few means in numpy, so fast that the pipeline is what is measured.  Counted is the
memory that no file backs, each time in a process of its own.
"""

import argparse
import io
import os
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from processes import anonymous

from evalkit import images
from evalkit.adapters import presets
from evalkit.embedding import embedder


class Tiny:
    """Means of 8x8 cells."""

    spec = presets.PRESETS["arcface"]
    dim, fingerprint, runtime, streams = 588, "tiny", "numpy", 2

    def embed(self, x: np.ndarray) -> np.ndarray:
        cells = x.reshape(len(x), 14, 8, 14, 8, 3).mean((2, 4), dtype=np.float32)
        return cells.reshape(len(x), -1)


def peaks(n: int) -> tuple[float, float, float]:
    """Embed n JPEGs; MiB before the first image and at most, and images/s."""
    held, rng = [], np.random.default_rng(0)
    for _ in range(100):
        face = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        file = io.BytesIO()
        face.resize((112, 112), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        held.append(file.getvalue())
    source = images.encoded([f"{i:07}.jpg" for i in range(n)], lambda i: held[i % 100])
    seen = list[float]()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        embedder.embed(
            Tiny(),
            source,
            source.manifest(),
            Path(out) / "f.h5",
            batch=64,
            progress=lambda done, total: seen.append(anonymous(os.getpid()) / 2**20),
        )
    return seen[0], max(seen), n / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", default="1000,10000,100000")
    for n in map(int, parser.parse_args().images.split(",")):
        with get_context("spawn").Pool(1) as pool:
            before, most, rate = pool.apply(peaks, (n,))
        print(
            f"  {n:7,} images: {most:6.1f} MiB, of it {before:5.1f} before the first image "
            f"(Python, the names), {most - before:5.1f} for images; {rate:,.0f} images/s"
        )


if __name__ == "__main__":
    main()
