"""Protocols read features in bands, never whole, and give the same report to the bit."""

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from evalkit.cli import load
from evalkit.cli.engine_options import memory_option
from evalkit.protocols import (
    all_vs_all,
    blufr,
    megaface,
    people,
    search,
    trillion,
    verification,
    ytf,
)
from evalkit.protocols.allpairs import Engine, MadeRows, exact, verify
from evalkit.protocols.allpairs.collectors.bracket import Bracket
from evalkit.protocols.allpairs.collectors.candidate_pool import CandidatePool
from evalkit.protocols.allpairs.screening.screens import Screen
from evalkit.protocols.allpairs.sides import Side
from evalkit.protocols.doubtful_labels import doubtful_labels
from evalkit.protocols.metrics.elementary import log
from evalkit.protocols.metrics.similarity import normalise
from evalkit.protocols.one_to_many import found_first, mate_scores, ordered_genuine_pairs
from evalkit.protocols.recipes.recipe import Recipe
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, SetOutcomes
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.protocols.uncertainty.weights import canonical_order, weight_draws
from evalkit.types import Estimate, PairSet

pytestmark = pytest.mark.once

ROWS, DIM = 5000, 4
BAND = 4096  # rows of a tile: the most that anything reads together
BYTES_PER_SEARCH = 24  # that intervals hold at most, beside the outcomes
LITTLE = 1 << 18  # bytes: a unit copy of the features is more than a quarter of it


class Watched:
    """Features in a file: a slice is a view, as of a memory map; what is read is noted.

    most : rows read together, in a list that views share.
    """

    def __init__(self, x: np.ndarray, most: list[int]) -> None:
        self._x, self.most = x, most
        self.shape, self.ndim, self.dtype = x.shape, x.ndim, x.dtype

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, rows: Any) -> Any:
        part = self._x[rows]
        return Watched(part, self.most) if isinstance(rows, slice) else self._read(part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._read(np.array(self._x, dtype))

    def _read(self, part: np.ndarray) -> np.ndarray:
        self.most[0] = max(self.most[0], len(part))
        return part


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], Watched]:
    """Make features that the checks of arguments let through as they do a memory map."""
    from evalkit import arrays

    def as_a_map(values: Any, *others: Any, **more: Any) -> Any:
        return values if isinstance(values, Watched) else arrays.vectors(values, *others, **more)

    for name, module in list(sys.modules.items()):
        checks = getattr(module, "vectors", None) is arrays.vectors
        if checks and name.startswith("evalkit.protocols") and not name.endswith("flip_fusion"):
            monkeypatch.setattr(module, "vectors", as_a_map)
    return lambda x: Watched(x, [0])


def faces(dtype: str, views: int = 0) -> np.ndarray:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(ROWS // 4, DIM)).repeat(4, axis=0) + 0.3 * rng.normal(size=(ROWS, DIM))
    x[[3, 4700]] = np.nan
    return (np.stack([x, x[:, ::-1]], axis=1) if views else x).astype(dtype)


WHO = np.arange(ROWS) // 4
TAIL = np.where(np.arange(ROWS) < 300, WHO, -1)
SCATTERED = np.where(np.arange(ROWS) % 20 == 0, np.arange(ROWS) // 100, -1)
KEYS = [f"{row * 7919 % ROWS:05}" for row in range(ROWS)]
FARS = ["1e-4", "1e-5"]
HALF = np.arange(0, ROWS, 2)
TRIAL = blufr.Trial(test=HALF, gallery=np.arange(0, ROWS, 8), probe=np.arange(2, ROWS, 8))


def searched(x: Any, **more: Any) -> Any:
    """MegaFace's searches among these distractors, whose lengths differ: both rules' ranks."""
    probe = faces("f2")[:24]
    return megaface.evaluate(probe, WHO[:24], {"distractors=5000": x}, fars=FARS, **more)


CALLS = {
    "trillion": partial(trillion.evaluate, subject=TAIL, fars=FARS),
    "trillion, scattered": partial(trillion.evaluate, subject=SCATTERED, fars=FARS),
    "trillion, one set": partial(trillion.evaluate_one_set, subject=WHO, fars=FARS),
    "all-vs-all": partial(all_vs_all.evaluate, subject=WHO, fars=FARS, keys=KEYS),
    "people": partial(people.evaluate, subject=SCATTERED, fars=FARS, template="mean"),
    "search": partial(search.evaluate, subject=WHO, gallery=HALF, probe=HALF[:50] + 1),
    "megaface": searched,
    "blufr": partial(blufr.evaluate, subject=WHO, trials=[TRIAL, TRIAL]),
}


@pytest.mark.parametrize("name", CALLS)
def test_features_are_read_in_bands_to_the_same_bits(
    name: str, watched: Callable[[np.ndarray], Watched]
) -> None:
    call, views = CALLS[name], name not in ("search", "megaface")
    x, more = faces("f2", views), {"flip": "sum"} if views else {}
    held = call(x, engine=Engine(screen="float32"), **more)
    given = watched(x)
    found = call(given, engine=Engine(screen="float32", memory=LITTLE), **more)
    assert 0 < given.most[0] <= BAND
    assert found.metrics == held.metrics
    assert found.failures == held.failures
    assert found.outcomes is not None and held.outcomes is not None
    for array in held.outcomes:
        np.testing.assert_array_equal(found.outcomes[array], held.outcomes[array])


PAIRED = PairSet(
    np.tile(np.arange(ROWS - 1), 2),
    np.concatenate([np.arange(1, ROWS), np.arange(ROWS - 1)[::-1]]),
    np.repeat([True, False], ROWS - 1),
)
VIDEOS = PairSet(np.arange(0, 1200, 2), np.arange(1, 1201, 2), np.arange(600) % 2 == 0)
OF_PAIRS = {
    "verification": partial(verification.evaluate, pairs=PAIRED),
    "verification, unit views": partial(
        verification.evaluate, pairs=PAIRED, recipe=replace(Recipe(), unit_views=True, name="own")
    ),
    "ytf": partial(ytf.evaluate, video=WHO, pairs=VIDEOS),
    "ytf, frames": partial(ytf.evaluate, video=WHO, pairs=VIDEOS, comparison="pairs-top-2"),
}


@pytest.mark.parametrize("name", OF_PAIRS)
def test_listed_pairs_are_scored_in_bands_to_the_same_bits(
    name: str, watched: Callable[[np.ndarray], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = faces("f2", views=2)
    given, held = watched(x), OF_PAIRS[name](x)
    monkeypatch.setattr("evalkit.protocols.recipes._BAND", 512)
    monkeypatch.setattr("evalkit.protocols.ytf.MEMORY", LITTLE)
    found = OF_PAIRS[name](given)
    assert 0 < given.most[0] <= 1024
    assert found.metrics == held.metrics and found.failures == held.failures
    assert found.outcomes is not None and held.outcomes is not None
    for array in held.outcomes:
        np.testing.assert_array_equal(found.outcomes[array], held.outcomes[array])


def test_doubtful_labels_are_found_in_bands(watched: Callable[[np.ndarray], Watched]) -> None:
    given = watched(faces("f4"))
    found = doubtful_labels(given, WHO, engine=Engine(memory=LITTLE))
    assert 0 < given.most[0] <= BAND
    np.testing.assert_array_equal(found.row, doubtful_labels(faces("f4"), WHO).row)


def test_unit_rows_are_an_array_where_they_are_few() -> None:
    x = faces("f2")
    held, made = Engine().unit_rows(x), Engine(memory=LITTLE).unit_rows(x)
    assert isinstance(held, np.ndarray) and isinstance(made, MadeRows)
    assert made[:].tobytes() == held.tobytes()
    rows = np.array([9, 3, 4000])
    assert made.take(rows)[np.array([1, 2])].tobytes() == held[[3, 4000]].tobytes()
    with pytest.raises(TypeError, match="5,000 rows are made a band at a time"):
        np.asarray(made)


def test_rows_that_are_made_keep_a_byte_each() -> None:
    x = np.ones((400_000, 8), np.float16)
    x[[5, 399_999]] = np.nan
    Engine(memory=LITTLE).unit_rows(x[:9])  # which imports what it needs
    tracemalloc.start()
    try:
        made = Engine(memory=LITTLE).unit_rows(x)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert isinstance(made, MadeRows) and held < 1.2 * len(x)
    assert np.flatnonzero(made.lost).tolist() == [5, 399_999]


def test_rows_take_room_from_the_pass() -> None:
    few, engine = np.eye(2, dtype=np.float32), Engine(memory=4 << 20)
    memory = [engine.scan(few, np.ones((n, 2), np.float32)).memory for n in (2, 60_000, 600_000)]
    assert engine.memory > memory[0] > memory[1] + 600_000 > memory[2] == engine.memory // 2


def test_a_bracket_narrows_with_half_of_its_pairs_beside_them() -> None:
    x, n = np.eye(2, dtype=np.float32), 400_000
    scores = Engine().scan(x).scores
    bracket = Bracket(scores, (np.arange(2), np.arange(2)), 0.5, -np.inf, np.inf, n)
    order = np.random.default_rng(0).permutation(n)
    bracket._pairs = n
    bracket._take(np.arange(n, dtype=np.int32), np.zeros(n, np.int32), order / n)
    held = sum(column.nbytes for column in bracket._candidates._columns)
    tracemalloc.start()
    try:
        bracket._narrow()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.9 * held  # a sorted copy and a new pool take 1.6
    assert (bracket.low, bracket.high) == (0.25 - 1 / n, 0.75 - 1 / n)
    kept = bracket._candidates.joined()
    inside = np.abs(order / n - 0.5 + 1 / n) <= 0.25 + scores.error
    np.testing.assert_array_equal(kept.i, np.flatnonzero(inside))
    np.testing.assert_array_equal(kept.score, (order / n)[inside])
    assert bracket._above == np.count_nonzero(order / n > bracket.high + scores.error)


def test_blocks_fit_memory_where_only_one_side_lies_in_it() -> None:
    few, many = np.eye(8, 64, dtype=np.float32), np.ones((60_000, 64), np.float16)
    engine, screen = Engine(memory=8 << 20), Screen("float32")
    scan = engine.scan(few, engine.unit_rows(many))
    assert isinstance(scan.y.vectors, MadeRows)
    for block in scan.blocks(screen):
        codes = (block.j1 - block.j0) * screen.bytes_per_row(scan.y)
        assert codes <= engine.memory / 8  # two blocks are a quarter


@pytest.mark.parametrize(("arithmetic", "each"), [("bfloat16", 2), ("float32", 4)])
def test_codes_are_made_without_a_copy_of_all(arithmetic: str, each: int) -> None:
    if arithmetic == "bfloat16":
        pytest.importorskip("torch")
    side, screen = Side(np.ones((40_000, 64), np.float16)), Screen(arithmetic)
    screen.encode(side, 0, 1)  # which imports what it needs
    tracemalloc.start()
    try:
        codes = screen.encode(side, 0, len(side))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(codes.code) == len(side)
    assert peak < 1.2 * len(side) * screen.bytes_per_row(side) and each == codes.code.itemsize


def test_candidates_lie_in_three_arrays_and_joining_them_takes_nothing() -> None:
    pool, n = CandidatePool(), 10_000
    tracemalloc.start()
    try:
        for part in range(20):
            i = np.arange(part * n, part * n + n, dtype=np.int32)
            pool.add(i, i + 1, i / 2)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        i, j, score = pool.joined()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    whole = i.nbytes + j.nbytes + score.nbytes
    assert before < 2.2 * whole and peak - before < 0.01 * whole
    assert len({id(column.base) for column in (i, j, score)}) == 3
    np.testing.assert_array_equal(i, np.arange(20 * n))
    np.testing.assert_array_equal(score, np.arange(20 * n) / 2)
    pool.keep(score < 10)
    assert pool.size == 20 and pool.joined().j.tolist() == list(range(1, 21))


def test_rows_are_digested_for_a_checkpoint_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x, digested = faces("f4")[:50], list[Any]()
    monkeypatch.setattr(
        "evalkit.protocols.allpairs.scan.digest", lambda *a: digested.append(a) or ""
    )
    verify(x, WHO[:50], fars=["0.01"], engine=Engine())
    assert not digested
    verify(x, WHO[:50], fars=["0.01"], engine=Engine(checkpoint=tmp_path / "job"))
    assert digested


@pytest.mark.parametrize(
    "name", ["blufr", "geometry", "ijb", "megaface", "people", "search", "trillion"]
)
def test_a_command_that_compares_all_pairs_takes_memory(name: str) -> None:
    assert "--memory" in {option for p in load(name).params for option in p.opts}


def test_memory_is_given_in_gib() -> None:
    @click.command()
    @memory_option
    def asked(engine: Engine) -> None:
        click.echo(engine.memory)

    assert CliRunner().invoke(asked, ["--memory", "0.25"]).stdout == f"{1 << 28}\n"
    assert CliRunner().invoke(asked, []).stdout == f"{1 << 30}\n"
    assert CliRunner().invoke(asked, ["--memory", "0"]).exit_code == 2


def test_intervals_hold_few_bytes_per_search() -> None:
    people, images = 100, 64
    rows = np.arange(people * images)
    i, j = ordered_genuine_pairs(rows // images)
    rng, once = np.random.default_rng(0), i < j
    score, best = rng.random(len(i)), rng.random(len(rows))
    found = score >= best[i] / 2
    outcomes = SetOutcomes(
        genuine_score=score[once],
        genuine_subject=(i[once] // images).astype(np.int32),
        impostor_score=np.linspace(1, 0, 500),
        impostor_left=np.arange(500) % people,
        impostor_right=np.full(500, people),
        left_images=np.append(np.full(people, images), 0),
        right_images=np.append(np.zeros(people, np.int32), 10**6),
        impostors=len(rows) * 10**6,
        searches=SearchOutcomes(
            rank=found.astype(np.int8),
            rank_subject=(i // images).astype(np.int32),
            mate_score=np.where(found, score, -np.inf),
            mate_subject=(i // images).astype(np.int32),
            nonmate_score=best,
            nonmate_subject=(rows // images).astype(np.int32),
        ),
    )
    names = ("rank-1", "tpir@fpir=1e-2", "tpr@far=1e-8")
    measured = {name: Estimate(value=0.9, n=1) for name in names}
    with_intervals(measured, outcomes, draws=2)  # which imports what it needs
    tracemalloc.start()
    try:
        with_intervals(measured, outcomes, draws=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BYTES_PER_SEARCH * len(i)


def test_ordered_genuine_pairs_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.protocols.one_to_many._TOGETHER", 7)
    who = np.random.default_rng(3).integers(-1, 9, 50)
    pairs = [(i, j) for i in range(50) for j in range(50) if i != j and who[i] == who[j]]
    i, j = ordered_genuine_pairs(who)
    assert [*zip(i.tolist(), j.tolist(), strict=True)] == pairs
    assert i.dtype == j.dtype == np.int32
    assert [len(side) for side in ordered_genuine_pairs(np.empty(0, int))] == [0, 0]


def test_mates_are_scored_in_parts_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.protocols.one_to_many._SCORED", 7)
    rng = np.random.default_rng(4)
    who, x = rng.integers(0, 6, 40), normalise(rng.standard_normal((40, 5), np.float32))
    x[3], best = np.nan, rng.random(40)
    i, j = ordered_genuine_pairs(who)
    score = mate_scores(x, x, i, j, None)
    expected = [exact(x, i[k : k + 1], x, j[k : k + 1])[0] for k in range(len(i))]
    assert score.tolist() == expected and np.isneginf(score).any()
    first = [np.isfinite(s) and s >= best[row] for s, row in zip(score, i, strict=True)]
    assert found_first(score, best, i).tolist() == first


def test_people_are_ordered_alike_whatever_is_mixed_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = trillion.evaluate(faces("f4"), TAIL, fars=["0.5"])
    sample = sample_of(report.outcomes or {})
    order = canonical_order(sample)
    monkeypatch.setattr("evalkit.protocols.uncertainty.weights._BAND", 7)
    np.testing.assert_array_equal(canonical_order(sample), order)


@pytest.mark.parametrize("apart", [None, np.arange(40, 100), np.arange(0, 100, 3)])
def test_weights_are_made_in_bands_to_the_same_bits(
    apart: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.protocols.uncertainty.weights._BAND", 7)
    rng = np.random.default_rng(5)
    unseen = -log((rng.permutation(9) + 0.5) / 9)
    others = np.arange(100) if apart is None else np.setdiff1d(np.arange(100), apart)
    for (found, of_unseen), once in zip(weight_draws(100, 9, 5, apart), unseen, strict=True):
        drawn, scale = rng.standard_exponential(100), {}
        for part in [others] if apart is None else [others, apart]:
            scale[part[0]] = 1024 * len(part) / drawn[part].sum()
            drawn[part] *= scale[part[0]]
        assert found.tolist() == [max(1, round(w)) for w in drawn]
        assert of_unseen == round(once * scale[others[0]])


def test_a_draw_of_weights_holds_eight_bytes_per_person() -> None:
    people = 1_000_000
    tracemalloc.start()
    try:
        [*map(len, weight_draws(people, 1, 0))]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * people
