"""What only a GPU can show: a verdict a line, under eight minutes on one card.

    python benchmarks/gpu.py [--dry] [CHECK ...]     --model model.onnx --preset NAME adds ONNX

OK and WRONG are verdicts, "-" a measurement.  --dry runs all of it small, on the processor, where
it proves only that the checks themselves run.  Exit code 1 where anything is WRONG.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from evalkit import adapters
from evalkit.adapters import gpus
from evalkit.adapters.onnx import model as onnx_adapter
from evalkit.adapters.presets import PRESETS
from evalkit.adapters.torch import model as torch_adapter
from evalkit.adapters.torch import programs
from evalkit.adapters.torch.networks import iresnet50, mobilefacenet
from evalkit.protocols import allpairs
from evalkit.protocols.allpairs import Engine
from evalkit.protocols.allpairs.kernels import by_torch, on_gpu
from evalkit.protocols.allpairs.kernels.by_numpy import Level
from evalkit.protocols.allpairs.screening import choice, screens
from evalkit.torch_float32 import float32_is_float32


@dataclass(frozen=True)
class Line:
    """One line of the answer; verdict: True, False, or None for a measurement."""

    name: str
    verdict: bool | None
    note: str = ""


@dataclass(frozen=True)
class Job:
    """Where and how large: a card, or with `dry` the processor."""

    dry: bool
    device: torch.device
    model: str | None
    preset: str

    @property
    def ways(self) -> list[str]:
        """Ways to compare all pairs; Triton's interpreter is too slow for a dry run."""
        return [w for w in choice.GPU_SCREENS if not (self.dry and w.startswith("triton"))]


def machine(job: Job) -> Iterator[Line]:
    """Card, driver and versions."""
    driver = gpus.driver()
    cards = ", ".join(f"{g.name} {g.memory / 2**30:.0f} GiB" for g in driver.gpus) or driver.problem
    yield Line("machine", None, f"{cards}; CUDA {driver.cuda or '-'}, torch {torch.__version__}")


def usable(job: Job) -> Iterator[Line]:
    """Every way starts and is exact; the seconds are what compiling costs."""
    for way in job.ways:
        start = time.perf_counter()
        why = on_gpu.problem(way)
        yield Line(f"usable {way}", not why, why or f"{time.perf_counter() - start:.1f} s")


def bounds(job: Job) -> Iterator[Line]:
    """Float32 products keep within the proven bound though the program allows TF32."""
    rng, (m, n, k) = np.random.default_rng(0), (256, 512, 512)
    a, b = (rng.standard_normal((rows, k)).astype(np.float32) for rows in (m, n))
    x, y = (torch.from_numpy(v).to(job.device) for v in (a, b))
    exact = a.astype(np.float64) @ b.astype(np.float64).T
    lengths = (np.linalg.norm(v.astype(np.float64), axis=1) for v in (a, b))
    bound = k * 2.0**-24 / (1 - k * 2.0**-24) * np.multiply.outer(*lengths)
    held = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        for way in (w for w in job.ways if w.endswith("float32")):
            with by_torch.one_thread():
                found = on_gpu.sift(way, x, y, [Level(np.full(m, -3e38, np.float32))])
            worst = float((np.abs(found.key.reshape(m, n) - exact) / bound).max())
            yield Line(f"bound {way}", worst <= 1, f"largest error {worst:.2g} of the bound")
    finally:
        torch.set_float32_matmul_precision(held)


def extremes(job: Job) -> Iterator[Line]:
    """Int8 products at their ends are exact in long rows, and every pair may be a candidate."""
    for k in (512,) if job.dry else (512, 4096, 131072):
        a = np.where(np.arange(k) % 2, 127, -127).astype(np.int8)
        codes = np.stack([a, -a, a, np.full(k, 127, np.int8)] * 8)
        x, exact = torch.from_numpy(codes).to(job.device), codes.astype(np.int64) @ codes.T
        for way in (w for w in job.ways if w.endswith("int8")):
            found = on_gpu.sift(way, x, x, [Level(np.full(len(codes), -(2**31), np.int32))])
            same = len(found.key) == exact.size and (found.key.reshape(exact.shape) == exact).all()
            yield Line(f"extremes of {k} {way}", bool(same))


def tile(job: Job) -> Iterator[Line]:
    """A whole tile with more candidates than room, against products in float64; its memory."""
    m, n = (256, 512) if job.dry else screens.Screen("triton-int8").tile
    draw = torch.Generator(device=job.device).manual_seed(0)
    make = partial(torch.randint, -127, 128, dtype=torch.int8, device=job.device, generator=draw)
    x, y = make((m, 512)), make((n, 512))
    low, high = 300_000, 450_000
    inside = above = places = 0
    for o in range(0, m, 256):
        score = x[o : o + 256].double() @ y.double().T
        within = (score > low) & (score <= high)
        row, column = within.nonzero(as_tuple=True)
        inside, above = inside + len(row), above + int((score > high).sum())
        places += int(((row + o) * n + column).sum())
    level = Level(*(np.full(m, c, np.int32) for c in (low, high)))
    for way in (w for w in job.ways if w.endswith("int8")):
        _reset_peak(job)
        found = on_gpu.sift(way, x, y, [level])
        seen = (len(found.key), int(found.above[0]), int((found.i * n + found.j).sum()))
        note = f"{inside:,} candidates, {_peak(job):.2f} GiB at most"
        yield Line(f"tile {way}", seen == (inside, above, places), note)


def kernels(job: Job) -> Iterator[Line]:
    """Speed of the sift alone, beside a bare float16 product."""
    m, n = (32, 64) if job.dry else screens.Screen("triton-int8").tile
    for way in job.ways:
        kind = torch.int8 if way.endswith("int8") else torch.float32
        for k in (512, 128, 496):
            x, y = (torch.randint(-127, 128, (r, k), device=job.device).to(kind) for r in (m, n))
            cut = np.full(m, 2**30, np.int32 if kind == torch.int8 else np.float32)
            for levels in ([Level(cut)], [Level(cut, cut), Level(cut, cut), Level(cut)]):
                s = _seconds(job, partial(on_gpu.sift, way, x, y, levels))
                rate = f"{s * 1e3:.2f} ms, {2 * m * n * k / s / 1e12:.1f} TOP/s"
                yield Line(f"kernel {way} {k}, {len(levels)} levels", None, rate)
    half = [torch.randn(r, 512, device=job.device, dtype=torch.half) for r in (m, n)]
    s = _seconds(job, lambda: half[0] @ half[1].T)
    yield Line("bare float16 product", None, f"{2 * m * n * 512 / s / 1e12:.1f} TFLOP/s")


def answers(job: Job) -> Iterator[Line]:
    """The processor's bits from every way, and what auto takes."""
    rows, columns, people = (300, 1000, 60) if job.dry else (20_000, 200_000, 2000)
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((people, 512)).astype(np.float32)

    def some(n: int) -> tuple[np.ndarray, np.ndarray]:
        subject = rng.integers(0, people, n)
        x = centres[subject] + rng.standard_normal((n, 512)).astype(np.float32)
        return x / np.linalg.norm(x, axis=1, keepdims=True), subject

    pairs = (*some(rows), *some(columns))
    fars = ["1e-3"] if job.dry else ["1e-4", "1e-6", "1e-8"]
    wanted = allpairs.verify(*pairs, fars=fars, engine=Engine(screen="float32"))
    for screen in (*job.ways, "auto"):
        engine, start = Engine(screen=screen), time.perf_counter()
        found = allpairs.verify(*pairs, fars=fars, engine=engine)
        note = f"{time.perf_counter() - start:.1f} s, {engine.tally}"
        yield Line(f"answers {screen}", found == wanted, note)


def cards(job: Job) -> Iterator[Line]:
    """Cards of 4, 8 and 24 GB, by torch's fraction of this one: answered, within it."""
    if job.dry:
        return
    x = np.random.default_rng(0).standard_normal((140_000, 64)).astype(np.float32)
    whole = torch.cuda.get_device_properties(0).total_memory
    strangers = (x, np.arange(140_000), x[:70_000], np.arange(70_000) + 10**6)
    wanted = None
    for gigabytes in (24, 8, 4):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(gigabytes * 1e9 / whole)
        for way in job.ways:
            _reset_peak(job)
            found = allpairs.verify(*strangers, fars=["1e-8"], engine=Engine(screen=way))
            wanted = wanted or found
            note = f"{_peak(job):.1f} GiB at most"
            yield Line(f"{gigabytes} GB {way}", found == wanted, note)
    torch.cuda.set_per_process_memory_fraction(1.0)


def network(job: Job) -> Iterator[Line]:
    """Two streams give one stream's bits; inputs are numpy's; float32 convolutions are float32."""
    images = np.random.default_rng(0).integers(0, 256, (4 if job.dry else 256, 112, 112, 3), "u1")
    for name in ("arcface", "adaface", "imagenet"):
        fed = torch_adapter.feed(images[:4], PRESETS[name], job.device).contiguous().cpu().numpy()
        same = np.array_equal(fed, onnx_adapter.feed(images[:4], PRESETS[name]))
        yield Line(f"input {name}", same)
    for precision in torch_adapter.PRECISIONS[: 1 if job.dry else None]:
        torch.manual_seed(0)
        net = (mobilefacenet if job.dry else iresnet50)()
        model = programs.network(
            net, "net", PRESETS["arcface"], device=job.device.type, precision=precision
        )
        one = model.embed(images)
        turned = [np.roll(images, k, axis=0) for k in range(4)] * (1 if job.dry else 6)
        start = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            rows = list(pool.map(model.embed, turned))
        rate = len(turned) * len(images) / (time.perf_counter() - start)
        same = all(np.array_equal(r, np.roll(one, k % 4, axis=0)) for k, r in enumerate(rows))
        yield Line(f"two streams {precision}", same, f"{rate:,.0f} images/s")
    torch.backends.fp32_precision = "tf32"
    try:
        x, w = (torch.randn(*s, device=job.device) for s in ((8, 64, 56, 56), (64, 64, 3, 3)))
        true = torch.nn.functional.conv2d(x.double(), w.double())
        with float32_is_float32():
            error = (
                torch.nn.functional.conv2d(x, w).double() - true
            ).abs().max() / true.abs().max()
        yield Line("convolution", float(error) < 2e-6, f"relative error {float(error):.1e}")
    finally:
        torch.backends.fp32_precision = "none"


def compiled(job: Job) -> Iterator[Line]:
    """--compile embeds in a thread of a pool, as the embedder calls it."""
    if job.dry:
        return
    images = np.random.default_rng(0).integers(0, 256, (20, 112, 112, 3), np.uint8)
    model = programs.network(mobilefacenet(), "net", PRESETS["imagenet"], device="cuda", compile=8)
    wanted = model.embed(images)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(model.embed, images).result()
    yield Line("compiled, in a thread", bool(np.allclose(found, wanted, atol=1e-5)))


def onnx(job: Job) -> Iterator[Line]:
    """ONNX Runtime on the card: starts, no TF32, two threads."""
    if job.model is None:
        return
    images = np.random.default_rng(0).integers(0, 256, (8 if job.dry else 64, 112, 112, 3), "u1")
    device = "cpu" if job.dry else "cuda"
    card: Any = adapters.load(job.model, preset=job.preset, device=device)
    processor = adapters.load(job.model, preset=job.preset, device="cpu").embed(images)
    found = card.embed(images)
    error = float(np.abs(found - processor).max() / np.abs(processor).max())
    yield Line("ONNX against the processor", error < 1e-4, f"{error:.1e}; {card.runtime}")
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(card.embed, [images, images[::-1].copy()] * 4))
    same = all(np.array_equal(r, found[:: 1 - 2 * (k % 2)]) for k, r in enumerate(rows))
    yield Line("ONNX two threads", same)


def _seconds(job: Job, call: Callable[[], Any], times: int = 3) -> float:
    call()
    start = time.perf_counter()
    for _ in range(times):
        call()
    if not job.dry:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


def _reset_peak(job: Job) -> None:
    if not job.dry:
        torch.cuda.reset_peak_memory_stats()


def _peak(job: Job) -> float:
    """GiB that torch held at most since `_reset_peak`."""
    return 0.0 if job.dry else torch.cuda.max_memory_allocated() / 2**30


CHECKS = (machine, usable, bounds, extremes, tile, answers, kernels, network, cards, compiled, onnx)


def main(arguments: list[str] | None = None) -> int:
    """Run the checks; 1 where a verdict is WRONG or a check fails."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument(
        "checks", nargs="*", metavar="CHECK", choices=[[], *(c.__name__ for c in CHECKS)]
    )
    p.add_argument("--dry", action="store_true")
    p.add_argument("--model")
    p.add_argument("--preset", default="imagenet")
    asked = p.parse_args(arguments)
    if asked.dry:
        by_torch.GPU = "cpu"
    elif by_torch.GPU is None:
        p.error(f"no GPU: {gpus.driver().problem or 'torch sees none'}; --dry runs without")
    job = Job(asked.dry, torch.device(by_torch.GPU), asked.model, asked.preset)
    start, wrong = time.perf_counter(), 0
    for check in CHECKS:
        if asked.checks and check.__name__ not in asked.checks:
            continue
        try:
            for line in check(job):
                verdict = {True: "OK", False: "WRONG", None: "-"}[line.verdict]
                wrong += line.verdict is False
                at = time.perf_counter() - start
                print(f"[{at:6.1f} s] {verdict:<5} {line.name:<34} {line.note}", flush=True)
        except Exception as e:
            wrong += 1
            print(f"           WRONG {check.__name__}: {type(e).__name__}: {e}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
