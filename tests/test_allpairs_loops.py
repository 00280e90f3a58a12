"""numpy's loops and numba's: the keys between cuts, products of pairs of rows, exact scores."""

import math
import sys
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from evalkit.protocols.allpairs import Engine, kernels, pilot
from evalkit.protocols.allpairs.kernels import by_numpy
from evalkit.protocols.allpairs.kernels.by_numpy import ANY, Level
from evalkit.protocols.allpairs.made_rows import unit_rows
from evalkit.protocols.allpairs.sides import Side, distinct
from evalkit.protocols.metrics.similarity import normalise

WAYS = ["by_numpy", pytest.param("by_numba", marks=pytest.mark.skipif(
    find_spec("numba") is None, reason="numba is not installed"))]  # fmt: skip


@pytest.fixture(params=WAYS)
def loops(request):
    return import_module(f"evalkit.protocols.allpairs.kernels.{request.param}")


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 512), (17, 1031), (40, 24), (0, 8), (5, 0)])
@pytest.mark.parametrize("middle", [0, 300])
def test_a_tile_is_sifted_as_key_by_key(loops, dtype, shape, middle):
    rng = np.random.default_rng(1)
    keys = rng.integers(-500, 500, shape).astype(dtype)
    cut = [(middle + at + rng.integers(-9, 9, shape[0])).astype(dtype) for at in (0, 40, 90, 130)]
    for levels in (
        [Level(cut[3])],
        [Level(cut[0], cut[1])],
        [Level(cut[0], cut[2]), Level(cut[1], cut[3])],
        [Level(cut[0], cut[1]), Level(cut[2], cut[3]), Level(cut[3])],
    ):
        inside, above = np.zeros(shape, bool), []
        for below, high in levels:
            part = keys > below[:, None]
            if high is not None:
                above.append(np.count_nonzero(keys > high[:, None], axis=1).tolist())
                part &= keys <= high[:, None]
            inside |= part
        for by_row in (False, True):
            found = loops.sift(keys, levels, by_row=by_row)
            order = np.lexsort((found.j, found.i))
            i, j = np.nonzero(inside)
            assert (found.i[order].tolist(), found.j[order].tolist()) == (i.tolist(), j.tolist())
            assert found.key[order].tolist() == keys[inside].tolist()
            assert found.above.tolist() == (above if by_row else [sum(row) for row in above])


def test_a_cut_below_every_16_bit_key_takes_the_lowest_too(loops):
    keys = np.array([[ANY, 0, 5], [ANY, 0, 5]], np.int16)
    found = loops.sift(keys, [Level(np.array([ANY, 1], np.int16))])
    assert found.key.tolist() == [ANY, 0, 5, 5]


def test_a_tile_with_more_candidates_than_room_is_sifted_again(loops):
    keys = np.arange(90_000, dtype=np.int32).reshape(30, 3000)
    level = Level(np.full(30, -1, np.int32), np.full(30, 80_000, np.int32))
    found = loops.sift(keys, [level])
    assert found.key.tolist() == list(range(80_001))
    assert found.above.tolist() == [9_999]


def test_products_err_by_no_more_than_any_order_of_summation(loops):
    rng = np.random.default_rng(2)
    a, b = (rng.normal(size=(n, 515)).astype(np.float32) for n in (20, 30))
    a.flags.writeable = False
    i, j = rng.integers(0, 20, 700), rng.integers(0, 30, 700)
    true = np.einsum("pd,pd->p", a[i].astype(float), b[j].astype(float))
    x, y = Side(a), Side(b)
    unit = 2.0**-24 if loops is by_numpy else 2.0**-53
    bound = 2 * 516 * unit * x.norm[i] * y.norm[j]
    assert (np.abs(loops.products(x, i, y, j) - true) <= bound).all()


def near_ties(d):
    """Rows whose products lie on a boundary of float64's rounding, or beside it by 2^-120."""
    x, y = np.zeros((64, d)), np.zeros((64, d))
    rng = np.random.default_rng(d)
    for k in range(64):
        at = rng.permutation(d)[:5]
        x[k, at[:4]] = 1, 2.0**-26, (-1) ** k * 2.0**-60, 2.0**-30 * (k % 3)
        y[k, at[:4]] = 1, 2.0**-27 * (1 + k % 2), 2.0**-60 * (k // 2 % 3), -(2.0**-100)
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("d", [0, 1, 2, 3, 5, 31, 33, 512, 515])
def test_exact_scores_are_those_of_fsum(loops, d):
    rng = np.random.default_rng(d)
    a, b = rng.normal(size=(2, 40, d)).astype(np.float32)
    wide = [(v * 10.0 ** rng.integers(-22, 18, v.shape)).astype(np.float32) for v in (a, b)]
    cancelled = np.hstack([a, a]), np.hstack([b, -b])
    for x, y in [(a, b), wide, cancelled, (a * 0, b), *([near_ties(d)] if d > 4 else [])]:
        i, j = rng.integers(0, len(x), 200), rng.integers(0, len(y), 200)
        i[: len(x)], j[: len(x)] = np.arange(len(x)), np.arange(len(x))
        pairs = zip(x[i].astype(float), y[j].astype(float), strict=True)
        true = [math.fsum((p * q).tolist()) for p, q in pairs]
        assert loops.exact(Side(x), i, Side(y), j).tolist() == true


@pytest.mark.parametrize("scale", [1, 1e-3, 1e-12, 1e-30, 1e-44, 1e12, 1e30])
@pytest.mark.parametrize("d", [1, 64, 515])
def test_norms_are_no_less_than_the_lengths_and_hardly_more(scale, d):
    x = (np.random.default_rng(3).normal(size=(50, d)) * scale).astype(np.float32)
    x[7], x[8, 0] = 0, np.float32(3e38)
    true = [math.sqrt(math.fsum(v * v for v in row.tolist())) for row in x]
    norm = Side(x).norm
    assert (norm >= true).all()
    assert (norm <= np.array(true) * (1 + 1e-4)).all()


def test_rows_that_are_not_finite_have_no_norm():
    x = np.ones((4, 70), np.float32)
    x[1, 69], x[2, 0] = np.nan, -np.inf
    assert Side(x).rows.tolist() == [0, 3]


def test_a_numba_that_does_not_suit_is_done_without(monkeypatch):
    monkeypatch.setitem(sys.modules, "evalkit.protocols.allpairs.kernels.by_numba", None)
    monkeypatch.delattr(kernels, "by_numba", raising=False)
    scan = Engine(compiled=True).scan(np.eye(3, dtype=np.float32))
    assert scan.scores.loops is by_numpy


def test_brackets_hold_the_rank_and_narrow_where_the_sample_knows_every_row(monkeypatch):
    """Rows with effects of their own, which are in the sample whole, widen no bracket."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(1280, 24)) + np.eye(24)[0] * rng.exponential(size=(1280, 1)) * 4
    x = normalise(rows)
    scores = Engine(screen="float32").scan(x[:640], x[640:]).scores
    nobody = np.full(640, -1)
    score = np.sort((x[:640] @ x[640:].T).ravel())[::-1]
    monkeypatch.setattr(pilot, "_GROUPS", 32)
    rank, held, narrower = int(0.05 * len(score)), 0, []
    for seed in range(40):
        monkeypatch.setattr(pilot, "_SEED", seed)
        drawn = pilot.Pilot(scores, (nobody, nobody), 3)
        low, high = drawn.bracket(0.05)
        held += low <= score[rank] <= high
        over = np.array([np.mean(p > score[rank]) for p in drawn._parts])
        two_way = drawn._deviation(over.reshape(3, -1))
        narrower.append(two_way / (over.std() / np.sqrt(over.size)))
    assert held >= 39
    assert np.median(narrower) < 0.7


@pytest.mark.parametrize("k", [1, 5])
def test_what_a_search_keeps_late_in_a_pass_is_about_its_k(k):
    x = normalise(np.random.default_rng(5).normal(size=(7000, 24)))
    scores = Engine().scan(x[:2000], x[2000:]).scores
    level = pilot.row_levels(scores, k, (np.zeros(2000), np.ones(5000)))
    score = x[:2000] @ x[2000:].T
    assert (level.late_kth >= level.kth).all()
    assert (level.late_impostor >= level.impostor).all()
    assert k / 2 < (score >= level.late_kth[:, None]).mean() * 5000 < 2 * k
    assert (score >= level.kth[:, None]).mean() * 5000 > 5 * k


@pytest.mark.parametrize("among", [1, 40, 5000])
@pytest.mark.parametrize("pairs", [0, 1, 700, 20_000])
def test_made_rows_that_return_are_scored_as_resident_ones(loops, among, pairs):
    rng = np.random.default_rng(2)
    features = rng.normal(size=(9000, 5)).astype(np.float32)
    resident, made = Side(normalise(features)), Side(unit_rows(features, memory=0))
    i, j = rng.integers(2000, 2000 + among, (2, pairs))
    for score in (loops.products, loops.exact):
        assert score(made, i, made, j).tolist() == score(resident, i, resident, j).tolist()


@pytest.mark.parametrize("i", [[], [7], [7, 3, 7, 4], [0, 1 << 40, 0], [5, 5, 5]])
def test_distinct_positions_and_the_place_of_each(i):
    values, place = distinct(np.array(i, np.int64))
    assert values[place].tolist() == i
    near = len(i) > 0 and max(i) - min(i) < 4 * len(i)
    assert values.tolist() == (sorted(set(i)) if near else i)
