"""What embedding costs: the whole pipeline against the bare forward pass and against usual loops.

    python benchmarks/embed.py --images 512 --rounds 5 --models iresnet50
    python benchmarks/embed.py --models mobilefacenet.onnx,mobilefacenet.pt --data crops.zip
    python benchmarks/embed.py --memory

Every round runs all of them, in turning order; a ratio is the median over the rounds of the ratio
within a round. "bare" is the network alone on a normalised batch that already lies on the device,
the better of two ways: the runtime's own threads, and a pass on one thread for every core. What
evalkit does once before the first image (it measures what the batch changes) is not in its
images/s, but is in its processor time.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evalkit import adapters, embedder, images
from evalkit.adapters import onnx_model, presets, torch_model
from evalkit.types import InputSpec

Loop = Callable[[], Any]


def crops(data: Path | None, n: int, size: tuple[int, int], folder: Path) -> Path:
    """Lay n JPEG crops into a folder: real ones, or smooth noise of about their file size."""
    source = images.find(data) if data else None
    rng = np.random.default_rng(0)
    for i in range(n):
        if source is not None:
            face = Image.fromarray(source.read(i % len(source.keys)))
        else:
            face = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        path = folder / f"p{i // 4:05}" / f"{i:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        face.resize(size[::-1], Image.Resampling.BICUBIC).save(path, quality=90)
    return folder


def together(one: Loop, n: int, threads: int) -> None:
    """Call `one` n times from that many threads."""
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(one) for _ in range(n)]:
            done.result()


def torch_forwards(net: Any, spec: InputSpec, batch: int, device: str) -> dict[int, Loop]:
    """Threads that call it -> one forward pass on a resident batch."""
    import torch

    place, cores = torch.device(device), os.cpu_count() or 1
    net = net.to(place, memory_format=torch.channels_last).eval()
    x = torch.rand(batch, 3, *spec.size, device=place).to(memory_format=torch.channels_last)

    def forward(threads: int) -> None:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            net(x)
            if place.type == "cuda":
                torch.cuda.synchronize()

    own: dict[int, Loop] = {1: lambda: forward(cores)}
    return own if place.type == "cuda" else own | {cores: lambda: forward(1)}


def onnx_forwards(path: str, spec: InputSpec, batch: int, device: str) -> dict[int, Loop]:
    import onnxruntime as ort

    cores, made = os.cpu_count() or 1, dict[int, Loop]()
    for callers, threads in ((1, 0), (cores, 1)):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        session = ort.InferenceSession(path, options, providers=[provider])
        x = np.random.default_rng(0).random((batch, 3, *spec.size), np.float32)
        value = ort.OrtValue.ortvalue_from_numpy(x, device, 0)

        def forward(session: Any = session, value: Any = value) -> None:
            binding = session.io_binding()
            binding.bind_ortvalue_input(session.get_inputs()[0].name, value)
            binding.bind_output(session.get_outputs()[0].name, device)
            session.run_with_iobinding(binding)

        made[callers] = forward
    return made


def paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jpg"))


def normalised(path: Path, spec: InputSpec) -> np.ndarray:
    x = np.asarray(Image.open(path).convert("RGB"), np.float32)
    x = (x - np.float32(spec.mean)) / np.float32(spec.std)
    return np.ascontiguousarray(x.transpose(2, 0, 1))


def plain_loop(call: Callable[[np.ndarray], np.ndarray], folder: Path, spec: InputSpec) -> None:
    """Embed as most scripts do: one image at a time."""
    np.concatenate([call(normalised(path, spec)[None]) for path in paths(folder)])


class Faces:
    """What peers call a Dataset."""

    def __init__(self, folder: Path, spec: InputSpec) -> None:
        self.files, self.spec = paths(folder), spec

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> np.ndarray:
        return normalised(self.files[i], self.spec)


def loader_loop(net: Any, folder: Path, spec: InputSpec, device: str, workers: int) -> Loop:
    """Embed as peers do: a Dataset, a DataLoader with worker processes, batches of 64.

    The workers live from the first round on, so that starting them is not in the figures.
    """
    import torch
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        Faces(folder, spec),  # type: ignore[arg-type]
        64,
        num_workers=workers,
        pin_memory=device == "cuda",
        persistent_workers=True,
        multiprocessing_context="spawn",
    )

    def loop() -> None:
        torch.set_num_threads(os.cpu_count() or 1)
        with torch.no_grad():
            torch.cat([net(x.to(device, non_blocking=True)).cpu() for x in loader])

    return loop


def compare(name: str, args: argparse.Namespace, folder: Path) -> None:
    preset = presets.PRESETS["imagenet" if "mobilefacenet" in name else "arcface"]
    device = args.device
    options = {} if name.endswith(".onnx") else {"precision": args.precision}
    if not name.endswith((".onnx", ".pt")):
        import torch

        from evalkit.adapters import networks

        torch.manual_seed(0)
        net = getattr(networks, name)()
        adapter: Any = torch_model.network(net, name, preset, device=device, **options)
    else:
        path = str(Path(args.models_folder) / name)
        adapter = adapters.load(path, spec=preset, device=device, **options)
    batch = args.batch or embedder.best_batch(adapter)
    loops: dict[str, Loop] = {}
    if name.endswith(".onnx"):
        session = onnx_model._session(Path(path), device, False, 0)
        given = session.get_inputs()[0].name
        each = adapter.batch or batch
        forwards = onnx_forwards(path, preset, each, device)
        loops["plain loop"] = lambda: plain_loop(
            lambda x: session.run(None, {given: x})[0], folder, preset
        )
    else:
        import torch

        net = adapter._network
        each = adapter.batch or batch
        forwards = torch_forwards(net, preset, each, device)

        def one(x: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return net(torch.from_numpy(x).to(device)).cpu().numpy()

        def plain() -> None:
            torch.set_num_threads(os.cpu_count() or 1)
            plain_loop(one, folder, preset)

        loops["plain loop"] = plain
        loops["DataLoader"] = loader_loop(net, folder, preset, device, args.loaders)
    n = args.images
    for callers, forward in forwards.items():
        title = f"bare, {callers} thread(s) calling"
        loops[title] = lambda f=forward, c=callers: together(f, max(1, n // each), c)
    source = images.find(folder)

    def pipeline() -> float:
        started, begun = time.perf_counter(), list[float]()

        def watch(done: int, total: int) -> None:
            begun.append(time.perf_counter())

        with tempfile.TemporaryDirectory() as out:
            kept = Path(out) / "f.h5"
            embedder.embed(adapter, source, source.manifest(), kept, batch=batch, progress=watch)
        return begun[0] - started

    loops["evalkit"] = pipeline
    print(f"\n{name} on {adapter.runtime}, batch {batch}, {n} images, {args.rounds} rounds")
    tell(rounds(loops, n, args.rounds))


def rounds(loops: dict[str, Loop], n: int, count: int) -> dict[str, list[tuple[float, float]]]:
    """Name -> (images/s, processor seconds) of each round; the first round warms up."""
    made: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    order = list(loops)
    for r in range(count + 1):
        for name in order[r % len(order) :] + order[: r % len(order)]:
            wall, cpu = time.perf_counter(), cpu_seconds()
            start = loops[name]() or 0.0
            if r:
                seconds = time.perf_counter() - wall - start
                made[name].append((n / seconds, cpu_seconds() - cpu))
    return made


def cpu_seconds() -> float:
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def tell(made: dict[str, list[tuple[float, float]]]) -> None:
    ours = made["evalkit"]
    bare = [
        max(x) for x in zip(*([r for r, _ in made[k]] for k in made if "bare" in k), strict=True)
    ]
    for name, rates in made.items():
        ratio = statistics.median(o[0] / r[0] for o, r in zip(ours, rates, strict=True))
        cpu = statistics.median(o[1] / r[1] for o, r in zip(ours, rates, strict=True))
        rate = statistics.median(r for r, _ in rates)
        print(f"  {name:26} {rate:8.1f} images/s   evalkit / it {ratio:5.2f}   cpu {cpu:5.2f}")
    over = [o[0] / b for o, b in zip(ours, bare, strict=True)]
    spread = f"{min(over):.3f}..{max(over):.3f}"
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"  evalkit / best bare: median {statistics.median(over):.3f} ({spread}), load {load}")


class Tiny:
    """Means of 8x8 cells in numpy: so fast that the pipeline is what is measured."""

    spec = presets.PRESETS["arcface"]
    dim, fingerprint, runtime, streams = 588, "tiny", "numpy", 2

    def embed(self, x: np.ndarray) -> np.ndarray:
        cells = x.reshape(len(x), 14, 8, 14, 8, 3).mean((2, 4), dtype=np.float32)
        return cells.reshape(len(x), -1)


def anonymous() -> float:
    """MiB of memory that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


def memory(n: int) -> None:
    """Embed n JPEGs with a tiny model and print the peaks; run in a fresh process."""
    held, rng = [], np.random.default_rng(0)
    for _ in range(100):
        face = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        file = io.BytesIO()
        face.resize((112, 112), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        held.append(file.getvalue())
    source = images.encoded([f"{i:07}.jpg" for i in range(n)], lambda i: held[i % 100])
    before, peak = anonymous(), 0.0

    def watch(done: int, total: int) -> None:
        nonlocal peak
        peak = max(peak, anonymous())

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        embedder.embed(
            Tiny(), source, source.manifest(), Path(out) / "f.h5", batch=64, progress=watch
        )
    seconds = time.perf_counter() - start
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  {n:7,} images: {peak:6.1f} MiB ({peak - before:5.1f} above the start), with mapped "
        f"files {whole:6.1f} MiB, {n / seconds:,.0f} images/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    shared = os.environ.get("EVALKIT_SHARED_DATA")
    parser.add_argument("--models", default="iresnet50", help="networks by name, or files")
    parser.add_argument("--models-folder", default=f"{shared}/models" if shared else ".")
    parser.add_argument("--data", type=Path, help="real crops; else smooth noise")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--loaders", type=int, default=2, help="worker processes of DataLoader")
    parser.add_argument("--memory", action="store_true", help="only the peak memory")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        memory(args.memory_of)
        return
    if args.memory:
        print("peak memory that no file backs, a tiny model in numpy:")
        for n in (1_000, 10_000, 100_000):
            subprocess.run([sys.executable, __file__, "--memory-of", str(n)], check=True)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = crops(args.data, args.images, (112, 112), Path(place))
        for name in args.models.split(","):
            compare(name, args, folder)


if __name__ == "__main__":
    main()
