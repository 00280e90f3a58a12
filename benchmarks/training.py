"""What an evaluation in a training loop costs over the bare forward passes, and whether it leaks.

python benchmarks/training.py SET.bin MODEL.pt [EPOCHS]: a TorchScript network on a .bin set;
epochs in turn with bare passes over the same images, in processor time.
"""

import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from evalkit import bench
from evalkit.adapters.presets import PRESETS
from evalkit.adapters.torch.model import feed
from evalkit.training import Verifier

SPEC = PRESETS["imagenet"]


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def bare(net: torch.nn.Module, images: np.ndarray) -> float:
    start = time.process_time()
    with torch.no_grad():
        for o in range(0, len(images), bench.BATCH):
            net(feed(images[o : o + bench.BATCH], SPEC, torch.device("cpu"))).numpy()
    return time.process_time() - start


def main(path: str, model: str, epochs: int) -> None:
    net = torch.jit.load(model).eval()
    (one,) = bench.read_sets([path])
    source = one.images.select(one.manifest.keys)
    images = np.stack([source.read(row) for row in range(len(source.keys))])
    verify = Verifier(path, spec=SPEC)
    ratios, memory = [], []
    for epoch in range(epochs):
        start = time.process_time()
        verify(net, epoch)
        measured, passes = time.process_time() - start, bare(net, images)
        ratios.append(measured / passes)
        memory.append(resident())
        print(f"{measured:.2f} s, bare {passes:.2f} s, ratio {ratios[-1]:.3f}, {memory[-1]:.0f} MB")
    later = ratios[1:]
    print(f"{len(images)} images; from the second epoch {statistics.median(later):.3f} (median)")
    print(f"memory {memory[1]:.0f} MB after the second epoch, {memory[-1]:.0f} MB after the last")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 5)
