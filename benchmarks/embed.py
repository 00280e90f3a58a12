"""What embedding costs: the whole pipeline against the bare forward pass and against usual loops.

    python benchmarks/embed.py --images 512 --rounds 5 --models iresnet50
    python benchmarks/embed.py --models mobilefacenet.onnx,mobilefacenet.pt --data crops.zip --flip

Every round runs all of them, in turning order; a ratio is the median over the rounds of the ratio
within a round. "bare" is the network alone on a normalised batch that already lies on the device,
bound once, at the batch that is fastest so, in the runtime's own settings: its threads or a thread
pinned to every core, layout, fused layers, denormals; the best is the one whose median is. What
evalkit does once before the first image (it measures what the batch changes) does not count.

An input is what passes the network: with --flip, each image and its mirror image. --side makes the
JPEG files larger than the input, and evalkit aligns them by five points. "reading" is what an input
costs from its file to aligned pixels on one thread that does nothing else; where the same cores
compute, bare / (bare + reading) is what no pipeline gets beyond.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evalkit import adapters, images
from evalkit.adapters import presets
from evalkit.adapters.onnx.session import start as start_session
from evalkit.adapters.torch import programs
from evalkit.embedding import embedder
from evalkit.images import alignment
from evalkit.types import InputSpec


@dataclass
class Done:
    """What a loop did: so many inputs, after seconds that do not count."""

    inputs: int
    wall: float = 0.0
    cpu: float = 0.0


Loop = Callable[[], Any]  # gives a Done, where it is timed
Caller = Callable[[], Loop]  # what a thread does first, and then calls for each pass
Passes = tuple[int, Caller]  # how many threads do so at once, and what


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


def together(start: Caller, n: int, threads: int) -> None:
    """Run n passes on that many threads at once, each of several on a core of its own.

    Left to itself, Linux was seen to keep two of them on one core for seconds.
    """

    def some(t: int) -> None:
        if threads > 1 and hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[t % len(cores)]})
        one = start()
        for _ in range(n // threads + (t < n % threads)):
            one()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, range(threads)))


def torch_forwards(net: Any, spec: InputSpec, batch: int, device: str) -> dict[str, Passes]:
    """Forward passes on a resident batch by torch's settings: threads, layout, fused layers."""
    import torch

    place, cores = torch.device(device), os.cpu_count() or 1
    last, plain = torch.channels_last, torch.contiguous_format
    net = net.to(place, memory_format=last).eval()
    x = torch.rand(batch, 3, *spec.size, device=place).to(memory_format=last)

    def calling(net: Any, x: Any, threads: int) -> Caller:
        def forward() -> None:
            with torch.inference_mode():
                net(x)
                if place.type == "cuda":
                    torch.cuda.synchronize()

        def start() -> Loop:
            torch.set_num_threads(threads)
            return forward

        return start

    made = {"bare, 1 thread calling": (1, calling(net, x, cores))}
    if place.type == "cuda":
        return made
    made[f"bare, {cores} threads calling"] = cores, calling(net, x, 1)
    if not isinstance(net, torch.jit.ScriptModule):
        other = deepcopy(net).to(memory_format=plain)
        made["bare, contiguous"] = cores, calling(other, x.to(memory_format=plain), 1)
        with torch.no_grad():
            fused = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))
        made["bare, frozen and fused"] = cores, calling(fused, x, 1)
    return made


def onnx_forwards(path: str, spec: InputSpec, batch: int, device: str) -> dict[str, Passes]:
    """Forward passes on a resident batch by ONNX Runtime's settings: threads, denormals.

    Its graph optimisation is at its highest, which is its default; lower takes twice the time.
    """
    import onnxruntime as ort

    cores, made = os.cpu_count() or 1, dict[str, Passes]()
    for name, callers, threads, zero in (
        ("bare, 1 thread calling", 1, 0, "0"),
        (f"bare, {cores} threads calling", cores, 1, "0"),
        ("bare, denormals as zero", cores, 1, "1"),
    ):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.set_denormal_as_zero", zero)
        provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        session = ort.InferenceSession(path, options, providers=[provider])
        x = np.random.default_rng(0).random((batch, 3, *spec.size), np.float32)
        value = ort.OrtValue.ortvalue_from_numpy(x, device, 0)

        def start(session: Any = session, value: Any = value) -> Loop:
            binding = session.io_binding()
            binding.bind_ortvalue_input(session.get_inputs()[0].name, value)
            binding.bind_output(session.get_outputs()[0].name, device)
            return lambda: session.run_with_iobinding(binding)

        made[name] = callers, start
    return made


def fastest(forwards: Callable[[int], dict[str, Passes]], fixed: int | None) -> int:
    """Find the batch of the fastest bare pass, whoever calls it: three tries of powers of two.

    Ends at passes of a second or more: no network was seen to gain from longer ones.
    """
    seconds: dict[int, float] = {}
    for batch in [fixed] if fixed else [1 << k for k in range(8)]:
        for callers, start in forwards(batch).values():
            together(start, callers, callers)
            tries = list[float]()
            for _ in range(3):
                begun = time.perf_counter()
                together(start, 2 * callers, callers)
                tries.append((time.perf_counter() - begun) / (2 * callers * batch))
            seconds[batch] = min(seconds.get(batch, np.inf), *tries)
        if batch * seconds[batch] > 1:
            break
    return min(seconds, key=lambda batch: seconds[batch])


def paths(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jpg"))


def normalised(path: Path, spec: InputSpec) -> np.ndarray:
    x = np.asarray(Image.open(path).convert("RGB"), np.float32)
    x = (x - np.float32(spec.mean)) / np.float32(spec.std)
    return np.ascontiguousarray(x.transpose(2, 0, 1))


class Faces:
    """What peers call a Dataset."""

    def __init__(self, files: list[Path], spec: InputSpec) -> None:
        self.files, self.spec = files, spec

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> np.ndarray:
        return normalised(self.files[i], self.spec)


def compare(name: str, args: argparse.Namespace, folder: Path) -> tuple[float, float, float]:
    preset = presets.PRESETS["imagenet" if "mobilefacenet" in name else "arcface"]
    device, path = args.device, str(Path(args.models_folder) / name)
    options = {} if name.endswith(".onnx") else {"precision": args.precision}
    if name.endswith((".onnx", ".pt")):
        adapter: Any = adapters.load(path, spec=preset, device=device, **options)
    else:
        import torch

        from evalkit.adapters.torch import networks

        torch.manual_seed(0)
        net = getattr(networks, name)()
        adapter = programs.network(net, name, preset, device=device, **options)
    source = faces(folder, args.side, preset)
    loops: dict[str, Loop] = {}
    if name.endswith(".onnx"):
        forwards = partial(onnx_forwards, path, preset, device=device)
    else:
        forwards = partial(torch_forwards, adapter._network, preset, device=device)
    each = fastest(forwards, adapter.batch)
    for title, (callers, start) in forwards(each).items():
        loops[title] = partial(bare, start, args.images, each, callers)
    views = 1 + args.flip
    if args.peers and args.side == preset.size[0] and not args.flip:
        loops |= peers(name, path, adapter, folder, args)
    batch = args.batch or embedder.best_batch(adapter)
    loops["evalkit"] = partial(pipeline, adapter, source, batch, views)
    print(f"\n{name} on {adapter.runtime}, batch {batch} (bare: {each})")
    mirrored = ", mirrored too" if args.flip else ""
    print(f"  {args.images} JPEG files of {args.side}x{args.side}{mirrored}, {args.rounds} rounds")
    return tell(rounds(loops, args.rounds), reading(source) / views)


def faces(folder: Path, side: int, spec: InputSpec) -> images.ImageSource:
    """Find the images; where they are larger than the crop, align each by five points."""
    source = images.find(folder)
    if side == spec.size[0]:
        return source
    points = alignment.TEMPLATES[spec.crop][1] * side / spec.size[0]
    marks = np.repeat(points[None].astype(np.float32), len(source.keys), axis=0)
    return alignment.aligned(source, marks, spec.crop)


def bare(start: Caller, inputs: int, batch: int, callers: int) -> Done:
    passes = max(callers, inputs // batch // callers * callers)
    together(start, passes, callers)
    return Done(passes * batch)


def pipeline(adapter: Any, source: images.ImageSource, batch: int, views: int) -> Done:
    begun = list[tuple[float, float]]()

    def watch(done: int, total: int) -> None:
        begun.append((time.perf_counter(), cpu_seconds()))

    started = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryDirectory() as out:
        kept = Path(out) / "f.h5"
        embedder.embed(
            adapter, source, source.manifest(), kept, views=views, batch=batch, progress=watch
        )
    spent = begun[0][0] - started[0], begun[0][1] - started[1]
    return Done(views * len(source.keys), *spent)


def peers(
    name: str, path: str, adapter: Any, folder: Path, args: argparse.Namespace
) -> dict[str, Loop]:
    """Embed the same files as most scripts do: image by image, or from a DataLoader.

    The DataLoader's workers live from the first round on: starting them is not in the figures.
    """
    call = peers_call(name, path, adapter, args.device)
    files = paths(folder)

    def plain() -> Done:
        return Done(len([call(normalised(p, adapter.spec)[None]) for p in files]))

    if not find_spec("torch"):
        return {"plain loop": plain}
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        Faces(files, adapter.spec),  # type: ignore[arg-type]
        adapter.batch or 64,
        num_workers=args.loaders,
        pin_memory=args.device == "cuda",
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    title = "DataLoader (processor time without its workers')"
    return {"plain loop": plain, title: lambda: Done(sum(len(call(x)) for x in loader))}


def peers_call(name: str, path: str, adapter: Any, device: str) -> Callable[[Any], Any]:
    """A normalised batch in, vectors out, by the runtime's own threads."""
    if name.endswith(".onnx"):
        session = start_session(Path(path), device, False, 0)
        given = session.get_inputs()[0].name
        return lambda x: session.run(None, {given: np.asarray(x)})[0]
    import torch

    def call(x: Any) -> Any:
        if torch.get_num_threads() != (os.cpu_count() or 1):
            torch.set_num_threads(os.cpu_count() or 1)
        with torch.no_grad():
            return adapter._network(torch.as_tensor(x).to(device, non_blocking=True)).cpu()

    return call


def rounds(loops: dict[str, Loop], count: int) -> dict[str, list[tuple[float, float]]]:
    """Name -> (inputs/s, processor seconds an input) of each round; the first warms up."""
    made: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    order = list(loops)
    for r in range(count + 1):
        for name in order[r % len(order) :] + order[: r % len(order)]:
            wall, cpu = time.perf_counter(), cpu_seconds()
            done: Done = loops[name]()
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
            if r:
                rate = done.inputs / (wall - done.wall)
                made[name].append((rate, (cpu - done.cpu) / done.inputs))
    return made


def cpu_seconds() -> float:
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def reading(source: images.ImageSource) -> float:
    """Processor seconds from file to aligned pixels, an image, on this thread; the best of 3."""
    rows, tries = range(min(256, len(source.keys))), list[float]()
    for _ in range(3):
        begun = time.thread_time()
        for row in rows:
            source.read(row)
        tries.append((time.thread_time() - begun) / len(rows))
    return min(tries)


def tell(made: dict[str, list[tuple[float, float]]], read: float) -> tuple[float, float, float]:
    """Print all; return evalkit over the best bare network, in inputs/s and processor time.

    And the most that is to be had where the same cores read and compute.
    """
    ours = made["evalkit"]
    bare = [rates for name, rates in made.items() if "bare" in name]
    quickest = max(bare, key=lambda rates: statistics.median(rate for rate, _ in rates))
    cheapest = min(bare, key=lambda rates: statistics.median(cpu for _, cpu in rates))
    print("  inputs/s       evalkit / it   processor ms an input")
    for name, rates in made.items():
        ratio = statistics.median(o[0] / r[0] for o, r in zip(ours, rates, strict=True))
        rate, cpu = (statistics.median(column) for column in zip(*rates, strict=True))
        print(f"  {rate:8.1f} {ratio:17.2f} {cpu * 1e3:15.2f}   {name}")
    faster = [o[0] / b[0] for o, b in zip(ours, quickest, strict=True)]
    cheaper = [b[1] / o[1] for o, b in zip(ours, cheapest, strict=True)]
    least = statistics.median(cpu for _, cpu in cheapest)
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    for what, over in (("inputs/s", faster), ("processor time", cheaper)):
        spread = f"({min(over):.3f}..{max(over):.3f})"
        print(f"  evalkit to best bare, {what}: median {statistics.median(over):.3f} {spread}")
    most = least / (least + read)
    print(
        f"  reading {read * 1e3:.3f} ms an input: at most {most:.3f} "
        f"where the same cores compute; load {load}"
    )
    return statistics.median(faster), statistics.median(cheaper), most


def main(words: Sequence[str] | None = None) -> list[tuple[float, float, float]]:
    """Compare each model; return what `tell` does of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    shared = os.environ.get("EVALKIT_SHARED_DATA")
    parser.add_argument("--models", default="iresnet50", help="networks by name, or files")
    parser.add_argument("--models-folder", default=f"{shared}/models" if shared else ".")
    parser.add_argument("--data", type=Path, help="real crops; else smooth noise")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--side", type=int, default=112, help="pixels of a side of the JPEG files")
    parser.add_argument("--flip", action="store_true", help="embed the mirror images too")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--loaders", type=int, default=2, help="worker processes of DataLoader")
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as place:
        folder = crops(args.data, args.images, (args.side, args.side), Path(place))
        return [compare(name, args, folder) for name in args.models.split(",")]


if __name__ == "__main__":
    main()
