"""No way of running moves a bit: screens, tiles, threads, memory, order, interrupts."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import ProtocolError
from evalkit.protocols import allpairs
from evalkit.protocols.allpairs import Engine, order_statistics, pilot, scan
from evalkit.protocols.allpairs.collectors import per_row
from evalkit.protocols.allpairs.pair_scores import PairScores
from evalkit.protocols.allpairs.screening import choice, screens, tiles
from evalkit.protocols.metrics.similarity import normalise

TORCH = find_spec("torch") is not None
SCREENS = ["float32", "float32/3"]
if TORCH:
    SCREENS += ["torch-float32", "bfloat16", "bfloat16/3", "int8", "int8/3", "int8/5"]
    SCREENS += ["cuda-float32", "cuda-int8/3"]
if find_spec("triton") is not None:
    SCREENS += ["triton-float32/3", "triton-int8"]
if find_spec("numba") is not None:
    SCREENS += ["numba:float32", "numba:float32/3"]
    SCREENS += ["numba:bfloat16", "numba:int8/3"] if TORCH else []
FARS = ["1", "0.7", "0.3", "1e-1", "1e-2", "1e-3"]


@pytest.fixture
def small_tiles(monkeypatch):
    """Cut tiles so small that a handful of rows make many, and sample as if the job were large."""

    def cut(rows, columns):
        monkeypatch.setattr(screens, "ROWS", (rows + 1) // 2)
        monkeypatch.setattr(screens, "BANDS", 2)
        monkeypatch.setattr(screens, "COLUMNS", columns)

    return cut


@pytest.fixture(autouse=True)
def any_device(monkeypatch):
    """What a GPU does is done by the processor where there is none, Triton by its interpreter."""
    if TORCH:
        from evalkit.protocols.allpairs.kernels import by_torch

        monkeypatch.setattr(by_torch, "GPU", by_torch.GPU or "cpu")
    if TORCH and find_spec("triton") and os.environ.get("TRITON_INTERPRET") == "1":
        from evalkit.protocols.allpairs.kernels import by_triton

        sift, lock = by_triton.sift, threading.Lock()

        def alone(*tile):
            with lock:  # the interpreter exchanges parts of Triton while a kernel runs
                return sift(*tile)

        monkeypatch.setattr(by_triton, "sift", alone)


def running(screen, **options):
    """Run with a screen; "numba:" before its name takes numba's loops, else numpy's."""
    name = screen.removeprefix("numba:")
    return Engine(screen=name, compiled=name != screen, **options)


def people(n, d, seed, m=None):
    """Unit rows with people, doubles, a zero row and failures, and a near copy of the first row."""
    rng = np.random.default_rng(seed)
    subject = rng.integers(-1, max(2, n // 4), n)
    x = rng.normal(size=(max(2, n // 4) + 1, d))[subject] + 0.7 * rng.normal(size=(n, d))
    x = normalise(x * np.linspace(2, 0.1, d))
    if n > 8:
        x[3], x[4], x[5], x[6] = x[0], 0, np.nan, np.nextafter(x[0], np.float32(1))
    return x, subject


def told(v):
    return (
        v.n_genuine,
        v.n_impostor,
        [(p.threshold, p.false_accepts, p.value) for p in v.points.values()],
    )


def brute(x, subject, y, y_subject, fars=FARS):
    """Every pair by math.fsum, thresholds by sorting."""
    within = y is None
    y, y_subject = (x, subject) if within else (y, y_subject)
    genuine, impostor = [], []
    for i in range(len(x)):
        for j in range(i + 1 if within else 0, len(y)):
            bad = not (np.isfinite(x[i]).all() and np.isfinite(y[j]).all())
            s = -math.inf if bad else math.fsum(x[i].astype(float) * y[j].astype(float))
            (genuine if subject[i] == y_subject[j] >= 0 else impostor).append(s)
    impostor.sort(reverse=True)
    points = []
    for far in fars:
        k = math.floor(Fraction(far) * len(impostor))
        if k < 1:
            points.append((None, None, None))
            continue
        t = np.nextafter(impostor[k] if k < len(impostor) else -np.inf, np.inf)
        tpr = sum(s >= t for s in genuine) / len(genuine) if genuine else None
        points.append((t, sum(s >= t for s in impostor), tpr))
    return len(genuine), len(impostor), points


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("tile", [(4, 8), (64, 16), (7, 1000)])
@pytest.mark.parametrize("within", [True, False])
def test_verify_is_brute_force_under_every_screen_and_tile(screen, tile, within, small_tiles):
    small_tiles(*tile)
    x, a = people(60, 9, 1)
    y, b = (None, None) if within else people(45, 9, 2)
    for threads in (1, 3):
        engine = running(screen, threads=threads, memory=1 << 14)
        found = allpairs.verify(x, a, y, b, fars=FARS, engine=engine)
        assert told(found) == brute(x, a, y, b)
        assert engine.tally["screen"].partition("/")[0] in screen


@pytest.mark.parametrize("screen", SCREENS)
def test_brackets_find_the_same_and_survive_a_sample_that_lies(screen, small_tiles, monkeypatch):
    small_tiles(64, 128)
    x, a = people(250, 12, 3)
    y, b = people(450, 12, 4)
    true = told(allpairs.verify(x, a, y, b, fars=FARS, engine=Engine(screen="float32")))
    s = np.sort((x.astype(float) @ y.T.astype(float))[(a[:, None] != b) | (a[:, None] < 0)])
    s = s[np.isfinite(s)]
    for far, (threshold, _, _) in zip(FARS, true[2], strict=True):
        n = true[1]
        k = math.floor(Fraction(far) * n)
        bar = s[len(s) - 1 - k] if k < len(s) else -np.inf
        assert threshold == pytest.approx(np.nextafter(bar, np.inf), abs=1e-9), far
    lies = [
        lambda self, share: (0.9, 0.95),
        lambda self, share: (-0.95, -0.9),
        lambda self, share: (-np.inf, np.inf),
        lambda self, share: (0.0, 1e-9),
    ]
    # Triton's interpreter takes seconds a lie.
    for lie in lies[:1] if screen.startswith("triton") else lies:
        monkeypatch.setattr(pilot.Pilot, "bracket", lie)
        monkeypatch.setattr(pilot.Pilot, "reached_by", lambda self, share: 0.99)
        for memory in (1 << 30, 1 << 17):
            engine = running(screen, threads=2, memory=memory)
            assert told(allpairs.verify(x, a, y, b, fars=FARS, engine=engine)) == true
            assert engine.tally["passes"] >= 1


def test_a_bracket_that_narrows_leaves_genuine_pairs_out_of_its_rank(small_tiles):
    small_tiles(64, 64)
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 12, 700), rng.integers(0, 12, 900)
    centre = rng.normal(size=(12, 24))
    x, y = (normalise(centre[s] + 0.8 * rng.normal(size=(len(s), 24))) for s in (a, b))
    engine = Engine(screen="float32", memory=1 << 19)
    found = allpairs.verify(x, a, y, b, fars=["0.1"], engine=engine)
    assert engine.tally["passes"] == 1
    assert told(found) == told(allpairs.verify(x, a, y, b, fars=["0.1"]))


def test_the_order_of_rows_changes_nothing():
    x, a = people(300, 16, 5)
    true = told(allpairs.verify(x, a, fars=FARS))
    for seed in range(3):
        p = np.random.default_rng(seed).permutation(len(x))
        assert told(allpairs.verify(x[p], a[p], fars=FARS)) == true


values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, -1e-45, 1 + 2**-23, 2**-70, 0.1, 3.0])


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from(SCREENS[:1] + [s for s in SCREENS if s in ("bfloat16", "int8")]),
    st.data(),
)
@settings(max_examples=120, deadline=None)
def test_ties_zeros_and_denormals_are_settled_exactly(n, m, d, screen, data):
    x, y = (
        np.array(data.draw(st.lists(values, min_size=k * d, max_size=k * d)), np.float32)
        for k in (n, m)
    )
    x, y = x.reshape(n, d), y.reshape(m, d)
    a = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n)))
    b = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=m, max_size=m)))
    engine = running(screen, threads=1)
    fars = ["1", "0.5", "0.2", "0.05"]
    assert told(allpairs.verify(x, a, y, b, fars=fars, engine=engine)) == brute(x, a, y, b, fars)
    assert told(allpairs.verify(x, a, fars=fars, engine=engine)) == brute(x, a, None, None, fars)


@pytest.mark.skipif(not TORCH, reason="needs torch")
def test_vectors_of_one_dimension_are_not_left_to_torch_s_wrong_product():
    """torch._int_mm with one column gives numbers of its own, now and then."""
    x, a = np.linspace(-1, 1, 60, dtype=np.float32)[:, None], np.arange(60) // 2
    true = brute(x, a, None, None)
    for _ in range(20):
        assert told(allpairs.verify(x, a, fars=FARS, engine=Engine(screen="int8"))) == true
    assert choice.choose_screen(Engine().scan(x), "int8/1", []).screen.width(1) == 8


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("scale", [1e-18, 1e15])
def test_lengths_beyond_float32_products_are_screened_in_float64(screen, scale):
    x, a = people(40, 6, 6)
    x = (x * scale).astype(np.float32)
    engine = running(screen)
    assert told(allpairs.verify(x, a, fars=FARS, engine=engine)) == brute(x, a, None, None)


@pytest.mark.parametrize("screen", SCREENS)
def test_pairs_one_bit_from_the_threshold_fall_on_their_own_side(screen):
    """A hundred copies of a row, each moved by one unit in the last place of one coordinate."""
    rng = np.random.default_rng(7)
    base = normalise(rng.normal(size=(1, 32)))[0]
    x = np.tile(base, (100, 1))
    for k in range(1, 100):
        c = k % 32
        x[k, c] = np.nextafter(x[k, c], np.float32((-1) ** k * 9))
    a = np.arange(100) // 2
    engine = running(screen)
    fars = ["0.5", "0.1", "0.01"]
    assert told(allpairs.verify(x, a, fars=fars, engine=engine)) == brute(x, a, None, None, fars)


@pytest.mark.parametrize("screen", SCREENS)
def test_search_and_ranks_are_the_sorted_rows(screen, small_tiles):
    small_tiles(16, 32)
    x, a = people(50, 9, 8)
    y, b = people(120, 9, 9)
    s = np.array([[math.fsum(p.astype(float) * q.astype(float)) for q in y] for p in x])
    s[~np.isfinite(x).all(axis=1)] = -np.inf
    s[:, ~np.isfinite(y).all(axis=1)] = -np.inf
    nobody = np.full(120, -1)
    for threads, who in ((1, b), (2, b), (2, nobody)):
        same = (a[:, None] == who) & (a[:, None] >= 0)
        engine = running(screen, threads=threads)
        found = allpairs.search(
            x, y, 5, probe_subject=a, gallery_subject=who, fars=FARS, engine=engine
        )
        for i in range(len(x)):
            order = np.lexsort((np.arange(len(y)), -s[i]))[:5]
            live = np.isfinite(s[i][order])
            assert found.score[i].tolist() == s[i][order].tolist()
            assert found.row[i].tolist() == np.where(live, order, -1).tolist()
            mate = s[i][same[i]].max(initial=-np.inf)
            assert found.mate_score[i] == mate and found.mated[i] == same[i].any()
            others = s[i][~same[i]]
            assert found.impostor_score[i] == others.max(initial=-np.inf)
            above = len(others) if mate == -np.inf else (others > mate).sum()
            assert found.mate_above[i] == above
        assert told(found.verification) == told(allpairs.verify(x, a, y, who, fars=FARS))
        row = np.repeat(np.arange(50), 4)
        bar = s[row, np.tile([0, 40, 80, 119], 50)]
        over, equal = allpairs.ranks(x, y, row, bar, engine=engine)
        assert over.tolist() == [int((s[r] > t).sum()) for r, t in zip(row, bar, strict=True)]
        assert equal.tolist() == [int((s[r] == t).sum()) for r, t in zip(row, bar, strict=True)]
        both = allpairs.verify(x, a, y, who, fars=FARS, bars=(row, bar), engine=engine)
        assert told(both) == told(found.verification)
        assert both.above.tolist() == over.tolist()
        alone = allpairs.verify(x, a, y, who, fars=[], bars=(row, bar), engine=engine)
        assert alone.above.tolist() == over.tolist()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_sample_of_float32_products_promises_no_more_than_they_hold(compiled):
    for seed in range(20):
        x = normalise(np.random.default_rng(seed).normal(size=(40, 3)))
        found = allpairs.search(x, x, 11, engine=Engine(compiled=compiled))
        s = np.array([[math.fsum(p.astype(float) * q.astype(float)) for q in x] for p in x])
        assert found.score.tolist() == (-np.sort(-s, axis=1)[:, :11]).tolist()


def test_bars_that_many_pairs_exceed_are_not_counted_by_exact_scores(monkeypatch):
    x, y = (
        normalise(np.random.default_rng(s).normal(size=(n, 16))) for s, n in ((1, 40), (2, 900))
    )
    row, bar = np.repeat(np.arange(40), 3), np.tile([-0.5001, 0.0001, 0.1001], 40)
    scored, exact = [], PairScores.exact
    monkeypatch.setattr(
        PairScores, "exact", lambda self, i, j: scored.append(len(i)) or exact(self, i, j)
    )
    over, _ = allpairs.ranks(x, y, row, bar, engine=Engine(screen="float32/4"))
    assert sum(scored) < 100 < over.sum()
    s = x.astype(float) @ y.T.astype(float)
    assert over.tolist() == [int((s[r] > t).sum()) for r, t in zip(row, bar, strict=True)]


@pytest.mark.parametrize("count", [0, 3, 700, 10**6])
def test_one_pass_answers_all_questions_at_once(count):
    x, a = people(250, 12, 3)
    y, b = people(450, 12, 4)
    engine = Engine(screen="float32")
    both = allpairs.search(
        x, y, 2, probe_subject=a, gallery_subject=b, fars=FARS, count=count, engine=engine
    )
    assert engine.tally["passes"] == 1
    assert told(both.verification) == told(allpairs.verify(x, a, y, b, fars=FARS))
    top, alone = both.verification.top, allpairs.top_impostors(x, a, y, b, count=count)
    for kept, other in zip((top.i, top.j, top.score), (alone.i, alone.j, alone.score), strict=True):
        assert np.array_equal(kept, other)
    s = x.astype(float) @ y.T.astype(float)
    s = s[((a[:, None] != b) | (a[:, None] < 0)) & np.isfinite(s)]
    assert np.allclose(top.score, np.sort(s)[::-1][:count], rtol=0, atol=1e-12)


@pytest.mark.parametrize("screen", SCREENS)
def test_top_impostors_are_the_sorted_list(screen, small_tiles):
    small_tiles(16, 64)
    x, a = people(80, 9, 10)
    every = sorted(
        (-math.fsum(x[i].astype(float) * x[j].astype(float)), i, j)
        for i in range(80)
        for j in range(i + 1, 80)
        if not a[i] == a[j] >= 0 and np.isfinite(x[i]).all() and np.isfinite(x[j]).all()
    )
    for count in (0, 1, 30, 10_000):
        top = allpairs.top_impostors(x, a, count=count, engine=running(screen))
        got = list(zip((-top.score).tolist(), top.i.tolist(), top.j.tolist(), strict=True))
        assert got == every[:count]


def test_top_impostors_of_one_score_stand_by_their_rows():
    """Of seven scores that most pairs share, and of -0.0 beside 0.0."""
    rng = np.random.default_rng(13)
    x, a = rng.integers(-1, 2, (150, 3)).astype(np.float32), rng.integers(0, 20, 150)
    x[:40] *= np.float32(-0.0)
    score = x.astype(float) @ x.T.astype(float)
    i, j = np.triu_indices(150, 1)
    i, j = (rows[a[i] != a[j]] for rows in (i, j))
    every = sorted(zip((-score[i, j]).tolist(), i.tolist(), j.tolist(), strict=True))
    for count in (5, 3000, len(every)):
        top = allpairs.top_impostors(x, a, count=count)
        got = list(zip((-top.score).tolist(), top.i.tolist(), top.j.tolist(), strict=True))
        assert got == every[:count]


def test_the_histogram_counts_every_pair_once(small_tiles):
    small_tiles(16, 64)
    x, a = people(90, 9, 11)
    h = allpairs.histogram(x, a, bins=np.linspace(-1.1, 1.1, 56))
    good = np.isfinite(x).all(axis=1)
    assert h.genuine.sum() + h.impostor.sum() == good.sum() * (good.sum() - 1) // 2
    uneven = allpairs.histogram(x, a, bins=[-1.1, 0.22, 0.3, 1.1])
    assert uneven.impostor[0] == h.impostor[:33].sum()
    assert uneven.genuine[0] == h.genuine[:33].sum()


@pytest.mark.parametrize("dim", [9, 512])
def test_the_histogram_is_of_exact_scores(dim, small_tiles):
    """An edge between two float64 scores side by side parts them, and one upon a score holds it."""
    small_tiles(16, 64)
    x, a = people(60, dim, 12)
    good = np.flatnonzero(np.isfinite(x).all(axis=1))
    score = {
        (i, j): math.fsum(x[i].astype(float) * x[j].astype(float))
        for n, i in enumerate(good)
        for j in good[n + 1 :]
    }
    some = sorted(score.values())[:: len(score) // 40]
    edges = sorted({-9.0, 9.0, *some, *(np.nextafter(s, 9) for s in some)})
    h = allpairs.histogram(x, a, bins=edges)
    mates = [a[i] == a[j] >= 0 for i, j in score]
    values = np.array(list(score.values()))
    assert np.array_equal(h.genuine, np.histogram(values[mates], edges)[0])
    assert np.array_equal(h.impostor, np.histogram(values[~np.array(mates)], edges)[0])


@pytest.mark.parametrize(
    "edges",
    [
        np.linspace(-1, 1, 201),
        np.linspace(-1, 1, 3),
        [-1.1, 0.22, 0.3, 1.1],
        [0.0, 1e-9, 1.0],
        [-1e-3, 0.0, 1e-3],
        [1e6, 1e6 + 0.5, 1e6 + 1],
        np.linspace(-1, 1, 5001),
    ],
)
def test_bins_are_numpy_s(edges):
    edges, rng = np.asarray(edges), np.random.default_rng(16)
    score = (0.4 * rng.normal(size=20_000) * edges[-1]).astype(np.float32)
    score[:8000] = rng.choice(edges, 8000)
    score[4000:8000] = np.nextafter(score[4000:8000], rng.choice([-9e9, 9e9], 4000).astype("f4"))
    score[:2] = np.inf, -np.inf
    bands = [(slice(o, o + 100), score.reshape(200, 100)[o : o + 100]) for o in (0, 100)]
    zeros = np.zeros(200)
    tile = SimpleNamespace(
        factor=np.ones(200), bands=lambda: bands, up=zeros, down=zeros, i0=0, j0=0
    )
    exact = lambda i, j: score.reshape(200, 100)[i, j].astype(np.float64)  # noqa: E731
    scores = SimpleNamespace(rounding=0.0, settled=0.0, approximate=exact, exact=exact)
    counts = per_row.Bins(scores, edges).examine(tile, [])
    assert np.array_equal(counts, np.histogram(score, edges)[0])


@pytest.mark.parametrize("subject", [np.arange(1), np.zeros(1, int)])
def test_one_row_has_no_pairs(subject):
    v = allpairs.verify(np.ones((1, 4), np.float32), subject, fars=["1e-1"])
    assert told(v) == (0, 0, [(None, None, None)])
    why = "FAR 1e-1 needs at least 10 impostor comparisons, there are 0"
    assert v.points["1e-1"].note == why


def test_no_impostors_and_all_equal_scores():
    x = np.ones((20, 4), np.float32)
    assert told(allpairs.verify(x, np.zeros(20, int), fars=["0.5"]))[1] == 0
    v = allpairs.verify(x, np.arange(20) // 2, fars=["0.5"])
    assert told(v) == (10, 180, [(np.nextafter(4.0, 5), 0, 0)])


@pytest.mark.parametrize("kind", ["memmap", "float16", "tensor"])
def test_features_are_taken_in_any_holder(kind, tmp_path):
    x, a = people(60, 8, 12)
    true = told(allpairs.verify(x.astype(np.float16), a, fars=FARS))
    if kind == "memmap":
        np.save(tmp_path / "x.npy", x.astype(np.float16))
        held = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif kind == "float16":
        held = x.astype(np.float16)
    else:
        held = pytest.importorskip("torch").from_numpy(x.astype(np.float16))
    assert told(allpairs.verify(held, a, fars=FARS)) == true


@pytest.mark.parametrize("screen", ["int9", "int8/900", "nothing/3"])
def test_an_unknown_screen_is_named(screen):
    if screen.startswith("int8") and not TORCH:
        pytest.skip("no torch")
    with pytest.raises(ProtocolError):
        allpairs.verify(*people(30, 8, 0), fars=["0.1"], engine=running(screen))


def test_an_interrupted_job_goes_on_from_its_checkpoint(small_tiles, monkeypatch, tmp_path):
    small_tiles(16, 32)
    monkeypatch.setattr(scan, "_BLOCK", 16 * 32)
    monkeypatch.setattr(scan, "CHECKPOINT_EVERY_S", 0.0)
    x, a = people(200, 9, 13)
    true = told(allpairs.verify(x, a, fars=FARS))
    path = tmp_path / "job.npz"
    rounds, seen = 0, []
    while True:
        calls = 0

        def stop(done, total):
            nonlocal calls
            calls += 1
            seen.append(done)
            if calls == 9:
                raise MemoryError  # as if the machine gave way, in the middle of a block

        engine = Engine(checkpoint=path, progress=stop, threads=1, screen="float32")
        try:
            found = allpairs.verify(x, a, fars=FARS, engine=engine)
            break
        except MemoryError:
            rounds += 1
            assert path.exists()
    assert told(found) == true and rounds > 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("torch_too", [True, False])
def test_a_job_begun_on_a_gpu_goes_on_without_one(small_tiles, monkeypatch, tmp_path, torch_too):
    by_torch = pytest.importorskip("evalkit.protocols.allpairs.kernels.by_torch")
    from evalkit.protocols.allpairs.screening import choice

    small_tiles(8, 8)
    monkeypatch.setattr(scan, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(by_torch, "GPU", "cpu")
    x, a = people(200, 9, 13)
    true = told(allpairs.verify(x, a, fars=FARS))
    path, shares = tmp_path / "job.npz", []

    def stop(done, total):
        shares.append(done / total)
        if done > total / 2:
            raise MemoryError

    engine = Engine(checkpoint=path, progress=stop, threads=1, screen="cuda-int8/4", memory=1 << 16)
    with pytest.raises(MemoryError):
        allpairs.verify(x, a, fars=FARS, engine=engine)
    assert path.exists()
    monkeypatch.setattr(by_torch, "GPU", None)
    if not torch_too:
        monkeypatch.setattr(choice, "find_spec", lambda name: None)
    went_on = []
    engine = Engine(checkpoint=path, progress=lambda done, _: went_on.append(done), keep=True)
    assert told(allpairs.verify(x, a, fars=FARS, engine=engine)) == true
    assert engine.tally["screen"].startswith("int8/4" if torch_too else "float32/4")
    assert went_on[0] > 64  # pairs: what was done is not done again


def test_ctrl_c_finishes_the_block_and_leaves_a_checkpoint(small_tiles, monkeypatch, tmp_path):
    small_tiles(16, 32)
    monkeypatch.setattr(scan, "_BLOCK", 16 * 32)
    x, a = people(200, 9, 14)
    path = tmp_path / "job.npz"

    pressed = []

    def interrupt(done, total):
        if done > total // 3 and not pressed:
            pressed.append(done)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    with pytest.raises(KeyboardInterrupt):
        engine = Engine(checkpoint=path, progress=interrupt, threads=2)
        allpairs.verify(x, a, fars=FARS, engine=engine)
    assert path.exists()
    first = []
    engine = Engine(checkpoint=path, progress=lambda done, total: first.append(done / total))
    assert told(allpairs.verify(x, a, fars=FARS, engine=engine)) == told(
        allpairs.verify(x, a, fars=FARS)
    )
    assert first[0] > 0.3


def test_a_checkpoint_of_another_job_is_refused(small_tiles, monkeypatch, tmp_path):
    monkeypatch.setattr(scan, "CHECKPOINT_EVERY_S", 0.0)
    path = tmp_path / "job.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ProtocolError, match=r"job\.npz is no checkpoint, or is cut"):
        allpairs.verify(*people(50, 8, 0), fars=["0.1"], engine=Engine(checkpoint=path))
    np.savez(path, features=np.eye(3))
    with pytest.raises(ProtocolError, match="is no checkpoint"):
        allpairs.verify(*people(50, 8, 0), fars=["0.1"], engine=Engine(checkpoint=path))
    empty = np.zeros(0, int)
    np.savez(path, mark=np.array("other"), blocks=np.zeros((0, 4), int), done=empty)
    with pytest.raises(ProtocolError, match="another job"):
        allpairs.verify(*people(50, 8, 0), fars=["0.1"], engine=Engine(checkpoint=path))


def test_memory_does_not_grow_with_the_pairs_or_the_fars(small_tiles):
    """What collectors hold stays under the room they were given, on a job of a million pairs."""
    rng = np.random.default_rng(15)
    x = normalise(rng.normal(size=(1500, 8)))
    job = order_statistics.Impostors(
        Engine(memory=1 << 19, screen="float32"),
        x,
        np.arange(1500),
        None,
        None,
        ["0.5", "0.2", "0.1", "1e-2", "1e-3"],
        0,
    )
    while job.open():
        collectors = job.collectors()
        job.engine.run(job.scan, collectors)
        held = sum(a.nbytes for c in collectors for a in c.state().values())
        assert held < 1 << 19
        job.conclude()
    assert told(job.verification()) == told(
        allpairs.verify(x, np.arange(1500), fars=["0.5", "0.2", "0.1", "1e-2", "1e-3"])
    )


def test_mates_are_not_scored_to_find_the_highest_impostors(monkeypatch):
    x, subject = people(400, 16, 3)
    subject = np.arange(400) % 4  # a quarter of the pairs
    scored, score = [], tiles.Tile._scored
    monkeypatch.setattr(
        tiles.Tile,
        "_scored",
        lambda tile, i, found: scored.append(score(tile, i, found)) or scored[-1],
    )
    found = allpairs.verify(x, subject, fars=["1e-3"], engine=Engine(screen="float32/8"))
    assert told(found) == brute(x, subject, None, None, ["1e-3"])
    alive = np.flatnonzero(np.isfinite(x).all(axis=1))
    pairs = [(alive[f.i], alive[f.j]) for f in scored]
    assert sum(len(i) for i, _ in pairs) > 0
    assert not any((subject[i] == subject[j]).any() for i, j in pairs)


@pytest.mark.parametrize("single", ["", "by the environment", "by threadpoolctl"])
def test_tiles_go_side_by_side_only_where_blas_does_not(single, monkeypatch, small_tiles):
    small_tiles(8, 8)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if single == "by the environment":
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
    installed = single == "by threadpoolctl" or None
    monkeypatch.setattr("evalkit.protocols.blas.find_spec", lambda name: installed)
    seen, examine = set(), scan.Scan.examine

    def watched(self, *rest):
        seen.add(threading.get_ident())
        time.sleep(0.002)
        return examine(self, *rest)

    monkeypatch.setattr(scan.Scan, "examine", watched)
    x, a = people(60, 9, 1)
    found = allpairs.verify(x, a, fars=FARS, engine=Engine(screen="float32", threads=3))
    assert told(found) == brute(x, a, None, None)
    assert (len(seen) > 1) == bool(single)


@pytest.mark.skipif(not find_spec("torch"), reason="torch multiplies int8")
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux counts threads there")
def test_a_thread_of_the_engine_starts_no_others_for_its_products():
    """OpenMP's number of threads is each thread's own: two took sixteen on eight cores."""
    code = """
import os
import numpy as np
from evalkit.protocols.allpairs import Engine, verify

x = np.random.default_rng(0).standard_normal((2000, 128), np.float32)
running = []
count = lambda done, all_: running.append(len(os.listdir("/proc/self/task")))
engine = Engine(screen="int8", threads=2, compiled=False, progress=count)
verify(x, np.arange(2000) // 4, fars=["1e-4"], engine=engine)
print(max(running))
"""
    many = {**os.environ, "OMP_NUM_THREADS": "8", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], env=many, capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 8  # this one, two of tiles, one conducts, one encodes, one spare


def test_a_question_gives_blas_one_thread_and_gives_all_back():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    during = []

    def threads() -> list[int]:
        info = threadpoolctl.threadpool_info()
        return [one["num_threads"] for one in info if one["user_api"] == "blas"]

    with threadpoolctl.threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        if 2 not in before:
            pytest.skip("this BLAS has no number of threads that can be set")
        x = np.random.default_rng(0).standard_normal((300, 16), np.float32)
        allpairs.verify(
            x,
            np.arange(300) // 3,
            fars=["1e-2"],
            engine=Engine(threads=2, progress=lambda done, all_: during.append(threads())),
        )
        assert threads() == before
    assert during and all(set(each) == {1} for each in during)
