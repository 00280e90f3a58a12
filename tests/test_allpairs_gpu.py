"""What a GPU hands back from a tile is what numpy finds in the whole of it."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from evalkit.errors import ProtocolError
from evalkit.protocols import allpairs
from evalkit.protocols.allpairs import Engine
from evalkit.protocols.allpairs.kernels.by_numpy import Level
from evalkit.protocols.allpairs.screening import screens
from evalkit.protocols.allpairs.screening.projection import Projection
from evalkit.protocols.allpairs.screening.screens import Screen
from evalkit.protocols.allpairs.sides import Side

torch = pytest.importorskip("torch")
from evalkit.protocols.allpairs.kernels import by_torch, on_gpu  # noqa: E402 - only with torch

WAYS = ["cuda-int8", "cuda-float32", "triton-int8", "triton-float32"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Every way of a GPU, on the processor where there is none."""
    if request.param.startswith("triton"):
        pytest.importorskip("triton")
    monkeypatch.setattr(by_torch, "GPU", by_torch.GPU or "cpu")
    return request.param


def tile(way, m, n, k, seed=0):
    """Whole numbers, so that float32 keys are exact too."""
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-9, 10, (rows, k)) for rows in (m, n))
    kind = torch.int8 if way.endswith("int8") else torch.float32
    return a @ b.T, [torch.from_numpy(v).to(by_torch.GPU, kind) for v in (a, b)]


def cuts(way, value, m, seed):
    spread = np.random.default_rng(seed).integers(-20, 20, m)
    return (value + spread).astype(np.int32 if way.endswith("int8") else np.float32)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 8), (5, 3, 8), (130, 257, 40), (300, 64, 72)])
@pytest.mark.parametrize("offset", [None, 0, -7, 60])
def test_a_tile_is_sifted_as_by_numpy(way, m, n, k, offset):
    keys, (x, y) = tile(way, m, n, k)
    levels = [
        Level(cuts(way, 0, m, 1), cuts(way, 60, m, 2)),
        Level(cuts(way, 200, m, 3), cuts(way, 240, m, 4)),
        Level(cuts(way, 400, m, 5)),
    ]
    counted = np.ones((m, n), bool)
    if offset is not None:
        counted = np.arange(n)[None, :] + offset > np.arange(m)[:, None]
    inside, surely = np.zeros((m, n), bool), []
    for below, above in levels:
        part = keys > below[:, None]
        if above is not None:
            part &= keys <= above[:, None]
            surely.append(np.count_nonzero((keys > above[:, None]) & counted))
        inside |= part
    where = np.flatnonzero(inside & counted)
    found = on_gpu.sift(way, x, y, levels, offset)
    assert (found.i * n + found.j).tolist() == where.tolist()
    assert found.key.tolist() == keys.ravel()[where].tolist()
    assert found.above.tolist() == surely


@pytest.mark.parametrize("directions", [5, 24])
@pytest.mark.parametrize("codes", ["int8", "float32"])
def test_codes_made_on_a_gpu_keep_to_the_bound_of_their_errors(codes, directions, monkeypatch):
    monkeypatch.setattr(by_torch, "GPU", by_torch.GPU or "cpu")
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(40, 24)).astype(np.float32) * rng.lognormal(sigma=3, size=(40, 1))
    rows[3], rows[4] = 0, 1e-20
    side = Side(rows.astype(np.float32))
    basis = np.linalg.qr(rng.normal(size=(24, 24)))[0][:directions]
    screen = screens.Screen(f"cuda-{codes}", Projection.of(basis, 7))
    held = screen.encode(side, 0, 40)
    assert held.code.dtype == getattr(torch, codes)
    key = on_gpu.keys(held.code, held.code).double().cpu().numpy()
    everything = slice(0, 40)
    up, down = screen.error(held, everything, held, everything, screen.width(24))
    short = key * held.scale[:, None] * held.scale
    exact = side.vectors.astype(np.float64) @ side.vectors.T.astype(np.float64)
    assert (exact <= short + up[:, None]).all() and (exact >= short - down[:, None]).all()
    # It is as narrow as the processor's.
    on_processor = screens.Screen(
        codes if codes == "int8" else "torch-float32", screen.projection
    ).encode(side, 0, 40)
    for mine, other in zip(
        (held.scale, held.residual, held.norm, held.rest),
        (on_processor.scale, on_processor.residual, on_processor.norm, on_processor.rest),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-6 * held.norm.max())


def test_a_gpu_keeps_codes_in_its_own_memory(monkeypatch):
    screen, memory = screens.Screen("cuda-int8"), 1 << 30
    for free, room in (
        (None, memory),
        (memory // 2, memory),
        (3 * memory, 3 * memory),
        (9 * memory, 4 * memory),
    ):
        monkeypatch.setattr(on_gpu, "free", lambda free=free: free)
        assert screen.room(memory) == room
    assert screens.Screen("int8").room(memory) == memory


def test_a_tile_with_more_candidates_than_room_is_sifted_in_parts(monkeypatch):
    by_triton = pytest.importorskip("evalkit.protocols.allpairs.kernels.by_triton")
    monkeypatch.setattr(by_torch, "GPU", by_torch.GPU or "cpu")
    launches = []

    def counted(x, y, levels, offset):
        launches.append(len(x))
        return right(x, y, levels, offset)

    right = by_triton.sift
    monkeypatch.setattr(by_triton, "sift", counted)
    for module in (by_triton, on_gpu):
        monkeypatch.setattr(module, "room_for", lambda columns: 1000)
    keys, (x, y) = tile("triton-int8", 70, 90, 16)
    level = [Level(cuts("triton-int8", -(10**6), 70, 1), cuts("triton-int8", 0, 70, 2)),
             Level(cuts("triton-int8", 100, 70, 3))]  # fmt: skip
    found = on_gpu.sift("triton-int8", x, y, level, -3)
    once = np.arange(90)[None, :] - 3 > np.arange(70)[:, None]
    wanted = ((keys <= level[0].above[:, None]) | (keys > level[1].below[:, None])) & once
    assert (found.i * 90 + found.j).tolist() == np.flatnonzero(wanted).tolist()
    assert found.key.tolist() == keys[wanted].tolist()
    assert found.above.tolist() == [np.count_nonzero((keys > level[0].above[:, None]) & once)]
    assert launches[0] == 70 and max(launches[1:]) < 70


@pytest.mark.parametrize("fits", [1, 7, 64])
def test_a_tile_that_does_not_fit_the_memory_is_halved(fits, monkeypatch):
    monkeypatch.setattr(by_torch, "GPU", by_torch.GPU or "cpu")
    keys, (x, y) = tile("cuda-int8", 100, 33, 16)
    level = [Level(cuts("cuda-int8", 0, 100, 1))]
    right = on_gpu._by_torch

    def short(x, y, levels, offset):
        if len(x) > fits:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")
        return right(x, y, levels, offset)

    monkeypatch.setattr(on_gpu, "_by_torch", short)
    found = on_gpu.sift("cuda-int8", x, y, level)
    wanted = keys > level[0].below[:, None]
    assert (found.i * 33 + found.j).tolist() == np.flatnonzero(wanted).tolist()
    assert found.key.tolist() == keys[wanted].tolist()
    fits = 0
    with pytest.raises(MemoryError, match="a row of 33 pairs does not fit the GPU: CUDA error"):
        on_gpu.sift("cuda-int8", x, y, level)


@pytest.mark.parametrize("gib", [4, 8, 24])
def test_tiles_take_the_free_memory_of_a_card(gib, monkeypatch):
    seen, free = [], gib * 2**30

    def noted(x, y, levels, offset):
        seen.append(len(x) * len(y) * on_gpu._BYTES)
        return on_gpu.Sifted(*(np.zeros(0, int),) * 3, np.zeros(0, np.int64))

    monkeypatch.setattr(on_gpu, "_by_torch", noted)
    monkeypatch.setattr(on_gpu, "free", lambda: free)
    x, y = np.zeros((16 * 1024, 1), np.int8), np.zeros((16 * 2048, 1), np.int8)
    on_gpu.sift("cuda-int8", x, y, [Level(np.zeros(len(x), np.int32))])
    assert sum(seen) == len(x) * len(y) * on_gpu._BYTES
    assert 2 * max(seen) <= 0.8 * free  # two tiles are at work


@pytest.mark.parametrize("rows", [3, 11])
@pytest.mark.parametrize("codes", ["int8", "float32"])
def test_a_search_for_a_thousand_fits_a_small_card(codes, rows, monkeypatch):
    monkeypatch.setattr(by_torch, "GPU", by_torch.GPU or "cpu")
    m, n, k = 20, 1500, 1000
    right, largest = on_gpu._by_torch, []

    def short(x, y, levels, offset):
        if len(x) * len(y) > rows * n:
            raise torch.OutOfMemoryError("CUDA out of memory")
        largest.append(len(x) * len(y))
        return right(x, y, levels, offset)

    monkeypatch.setattr(on_gpu, "_by_torch", short)
    rng = np.random.default_rng(3)
    x, y = (rng.integers(-50, 51, (size, 16)).astype(np.float32) for size in (m, n))
    found = allpairs.search(x, y, k, engine=Engine(screen=f"cuda-{codes}/16"))
    exact = x.astype(np.int64) @ y.T.astype(np.int64)
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    assert found.row.tolist() == order.tolist()
    assert found.score.tolist() == np.take_along_axis(exact, order, 1).tolist()
    assert 0 < max(largest) <= rows * n


COMPILE = """
import json, re, subprocess, sys, tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from evalkit.protocols.allpairs.kernels import by_triton

card, whole = int(sys.argv[1]), sys.argv[2] == "int8"
block = dict(by_triton.BLOCKS[whole])
options = {name: block.pop(name) for name in ("num_warps", "maxnreg") if name in block}
codes, keys = ("*i8", "*i32") if whole else ("*fp32", "*fp32")
types = dict.fromkeys("xy", codes) | dict.fromkeys(["below", "above", "key"], keys)
types |= {"place": "*i32", "counts": "*i64"}
types |= dict.fromkeys(["m", "n", "k", "offset", "room"], "i32")
fixed = dict(once=True, levels=3, closed=2, whole=whole, **block)
names = by_triton._kernel.arg_names
sixteens = {(names.index(n),): [["tt.divisibility", 16]] for n in (*"xyk", "below", "above", "key")}
source = ASTSource(by_triton._kernel, types | dict.fromkeys(fixed, "constexpr"), fixed, sixteens)
made = triton.compile(source, target=GPUTarget("cuda", card, 32), options=options)
objects = next(Path(triton.__file__).parent.rglob("cuobjdump"))
with tempfile.NamedTemporaryFile(suffix=".cubin") as f:
    f.write(made.asm["cubin"])
    f.flush()
    told = subprocess.run([objects, "-res-usage", f.name], capture_output=True, text=True).stdout
ptx = made.asm["ptx"]
print(json.dumps({
    "tensor": "wgmma" in ptx or "mma.sync" in ptx, "tf32": "tf32" in ptx,
    "registers": int(re.search(r"REG:([0-9]+)", told)[1]), "threads": 32 * options["num_warps"],
    "spilled": int(re.search(r"STACK:([0-9]+)", told)[1]), "shared": made.metadata.shared,
    "for_all_sizes": [p.name for p in by_triton._kernel.params if p.do_not_specialize],
}))
"""


@pytest.mark.parametrize(
    ("codes", "card", "shared"),
    [
        ("int8", 80, 163 << 10),
        ("int8", 90, 227 << 10),
        pytest.param("float32", 90, 227 << 10, marks=pytest.mark.slow),
    ],
)
def test_two_blocks_of_the_kernel_share_a_multiprocessor(codes, card, shared, tmp_path):
    """Compiled for a card that is not here: A100's registers and shared memory, and H200's."""
    pytest.importorskip("triton")
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env["TRITON_CACHE_DIR"] = str(tmp_path)
    made = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", COMPILE, str(card), codes],
        env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    registers = -(-found["registers"] // 8) * 8
    assert 2 * registers * found["threads"] <= 65536 and 2 * found["shared"] <= shared
    assert found["spilled"] <= 256  # bytes, in the rare branch that stores candidates
    assert found["tensor"] is (codes == "int8") and not found["tf32"]
    assert found["for_all_sizes"] == ["m", "n", "offset", "room"]  # else each compiles it anew


@pytest.mark.parametrize(
    ("dim", "gpu", "processor"), [(512, 512, 512), (504, 512, 504), (1, 16, 8)]
)
def test_a_gpu_loads_sixteen_bytes_of_a_code_at_once(dim, gpu, processor):
    assert [Screen(f"{way}-int8").width(dim) for way in ("triton", "cuda")] == [gpu, gpu]
    assert Screen("int8").width(dim) == processor


def test_a_gpu_is_taken_only_where_it_multiplies_right(way, monkeypatch):
    assert on_gpu.problem(way) == ""
    right = on_gpu.sift

    def wrong(arithmetic, *tile):
        found = right(arithmetic, *tile)
        return found._replace(key=np.minimum(found.key, 2**15))

    monkeypatch.setattr(on_gpu, "sift", wrong)
    assert on_gpu.problem(way) == f"its products by {way} are not exact"
    monkeypatch.setattr(by_torch, "GPU", None)
    assert on_gpu.problem(way) == "torch finds no GPU"


class CompilerError(Exception):
    """As Triton's own, which are no RuntimeError."""


@pytest.mark.parametrize(
    "error",
    [
        CompilerError("int8 is not for\nthis card"),
        subprocess.CalledProcessError(1, ["gcc"]),
        OSError(28, "No space left on device"),
        RuntimeError("CUDA error: no kernel image is available"),
    ],
)
def test_whatever_fails_on_a_gpu_is_a_reason_and_ends_no_job(error, monkeypatch):
    def failing(*tile):
        raise error

    monkeypatch.setattr(by_torch, "GPU", by_torch.GPU or "cpu")
    monkeypatch.setattr(on_gpu, "_way", lambda arithmetic: failing)
    x, subject = on_small_tiles(monkeypatch)
    engine = Engine()
    found = allpairs.verify(x, subject, fars=["1e-2", "0.2"], engine=engine)
    assert not engine.tally["screen"].startswith(("cuda", "triton"))
    first = " ".join(str(error).split())
    assert first in engine.tally["no_gpu"] and type(error).__name__ in engine.tally["no_gpu"]
    plain = Engine(screen="float32")
    assert found == allpairs.verify(x, subject, fars=["1e-2", "0.2"], engine=plain)
    with pytest.raises(ProtocolError, match="the screen cuda-int8 cannot be used: "):
        allpairs.verify(x, subject, fars=["0.2"], engine=Engine(screen="cuda-int8"))


def test_a_gpu_that_fails_in_the_trial_is_left_aside(monkeypatch):
    monkeypatch.setattr(by_torch, "GPU", by_torch.GPU or "cpu")
    x, subject = on_small_tiles(monkeypatch)
    right = on_gpu.sift

    def late(arithmetic, x, y, levels, offset=None):
        if len(y) > 96:  # larger than what is tried first
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return right(arithmetic, x, y, levels, offset)

    monkeypatch.setattr(on_gpu, "sift", late)
    engine = Engine()
    found = allpairs.verify(x, subject, fars=["1e-2"], engine=engine)
    assert "an illegal memory access" in engine.tally["no_gpu"]
    plain = Engine(screen="float32")
    assert found == allpairs.verify(x, subject, fars=["1e-2"], engine=plain)


def test_two_tiles_share_a_gpu_however_many_threads_there_are(monkeypatch):
    monkeypatch.setattr(by_torch, "GPU", by_torch.GPU or "cpu")
    x, subject = on_small_tiles(monkeypatch)
    right, at_work, seen = on_gpu.sift, [], []

    def slow(*tile):
        at_work.append(1)
        seen.append(len(at_work))
        time.sleep(0.01)  # others would come meanwhile
        at_work.pop()
        return right(*tile)

    monkeypatch.setattr(on_gpu, "sift", slow)
    engine = Engine(screen="cuda-float32", threads=8)
    allpairs.verify(x, subject, fars=["1e-2"], engine=engine)
    assert max(seen) == 2


def test_without_a_gpu_its_screens_are_refused(monkeypatch):
    monkeypatch.setattr(by_torch, "GPU", None)
    x = np.eye(4, dtype=np.float32)
    with pytest.raises(ProtocolError, match="cuda-int8 cannot be used: torch finds no GPU"):
        allpairs.verify(x, np.arange(4), fars=["0.5"], engine=Engine(screen="cuda-int8"))


def on_small_tiles(monkeypatch):
    """Rows and subjects of a job that is worth everything, in tiles of a few rows."""
    from evalkit.protocols.allpairs.screening import choice

    for name in ("_WORTH_GPU", "_WORTH_TORCH", "_WORTH_TRIAL"):
        monkeypatch.setattr(choice, name, 0)
    monkeypatch.setattr(choice, "GPU_SCREENS", ("cuda-int8", "cuda-float32"))
    monkeypatch.setattr(screens, "ROWS", 8)
    monkeypatch.setattr(screens, "COLUMNS", 8)
    x = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)
    return x, np.arange(300) // 3


@pytest.mark.parametrize(("screen", "on_gpu"), [("auto", True), ("cpu", False)])
def test_auto_takes_the_gpu_for_work_that_is_worth_it(screen, on_gpu, monkeypatch):
    from evalkit.protocols.allpairs.screening import choice

    monkeypatch.setattr(by_torch, "GPU", by_torch.GPU or "cpu")
    x, subject = on_small_tiles(monkeypatch)
    trial = choice._trial

    def slow_processor(scan, screen, collectors):
        for price in trial(scan, screen, collectors):
            yield price + (0 if screen.on_gpu else 1)

    monkeypatch.setattr(choice, "_trial", slow_processor)
    engine = Engine(screen=screen)
    found = allpairs.verify(x, subject, fars=["1e-2", "0.2"], engine=engine)
    assert engine.tally["screen"].startswith("cuda-") is on_gpu
    plain = Engine(screen="float32")
    assert found == allpairs.verify(x, subject, fars=["1e-2", "0.2"], engine=plain)
    monkeypatch.setattr(choice, "_WORTH_GPU", 1e30)  # too small a job asks no GPU
    monkeypatch.setattr(choice, "_of_gpu", lambda: pytest.fail("the GPU was asked"))
    allpairs.verify(x, subject, fars=["1e-2", "0.2"], engine=Engine())


def test_a_trial_prices_the_encoding_of_all_rows(monkeypatch):
    """By a clock that encoding alone moves on, a second a row."""
    from evalkit.protocols.allpairs.screening import choice

    x, subject = on_small_tiles(monkeypatch)
    encode, trial, now, prices = Screen.encode, choice._trial, [0], []

    def slow(screen, side, start, stop, **how):
        now[0] += stop - start
        return encode(screen, side, start, stop, **how)

    def priced(scan, screen, collectors):
        for price in trial(scan, screen, collectors):
            prices.append(price * scan.scores.pairs)
            yield price

    clock = SimpleNamespace(thread_time=lambda: now[0], perf_counter=lambda: now[0])
    monkeypatch.setattr(choice, "time", clock)
    monkeypatch.setattr(choice, "_trial", priced)
    monkeypatch.setattr(Screen, "encode", slow)
    allpairs.verify(x, subject, fars=["1e-2"], engine=Engine(screen="cpu", threads=1))
    assert len(prices) > 1 and prices == pytest.approx([600] * len(prices))  # 300 on each side


def test_a_hopeless_screen_is_tried_no_further(monkeypatch):
    """By prices that are known: what is half as dear again as the best is left after its first."""
    from evalkit.protocols.allpairs.screening import choice

    x, subject = on_small_tiles(monkeypatch)
    first, tried = {"int8": 4.0, "float32": 2.0, "bfloat16": 2.9}, []

    def priced(scan, screen, collectors):
        for turn in range(3):
            tried.append(screen.codes)
            yield first[screen.codes] - (turn if screen.codes == "bfloat16" else 0)

    screens = [Screen(arithmetic) for arithmetic in ("int8", "torch-float32", "bfloat16")]
    monkeypatch.setattr(choice, "_trial", priced)
    monkeypatch.setattr(choice, "_candidates", lambda scores, on_gpu: screens)
    engine = Engine(screen="cpu", threads=1)
    allpairs.verify(x, subject, fars=["1e-2"], engine=engine)
    assert engine.tally["screen"] == "bfloat16"
    assert [tried.count(codes) for codes in first] == [1, 3, 3]
