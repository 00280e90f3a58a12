"""Long columns in bands: as NumPy gives them of whole columns."""

import numpy as np
import pytest

from evalkit.protocols.uncertainty.columns import above, counts_of, falling, named

RNG = np.random.default_rng(5)
SPREAD = RNG.standard_normal(1000).round(2)
SCORES = {
    "spread": SPREAD,
    "not found": np.where(RNG.random(1000) < 0.4, -np.inf, SPREAD),
    "not finite": np.where(RNG.random(1000) < 0.1, RNG.choice([np.nan, np.inf, -0.0], 1000), 0.0),
    "one value": np.full(1000, 0.5),
    "none found": np.full(1000, -np.inf),
    "single precision": SPREAD.astype(np.float32),
    "nothing": np.empty(0),
}


@pytest.fixture(params=[7, 64, 1 << 18], autouse=True)
def band(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.protocols.uncertainty.columns._BAND", request.param)
    monkeypatch.setattr("evalkit.protocols.uncertainty.columns._LOOKED_AT", 100)


@pytest.mark.parametrize("name", SCORES)
def test_columns_fall_as_one_stable_sort_has_them(name: str) -> None:
    score = SCORES[name]
    row = np.arange(len(score), dtype=np.int32)
    by_score, rows = falling(score, score, row)
    order = np.argsort(-score, kind="stable")
    np.testing.assert_array_equal(rows, order)
    assert by_score.tobytes() == score[order].tobytes()
    assert rows.dtype == np.int32 and by_score.dtype == score.dtype


@pytest.mark.parametrize("name", ["spread", "not found", "one value", "none found", "nothing"])
def test_scores_above_borders_are_counted_in_any_order(name: str) -> None:
    borders = np.append(-np.sort(-RNG.choice(SPREAD, 40)), -np.inf)
    expected = [np.count_nonzero(SCORES[name] > border) for border in borders]
    assert above(borders, SCORES[name]).tolist() == expected


def test_people_are_counted_as_bincount_does() -> None:
    who, of = RNG.integers(0, 30, 1000).astype(np.int32), RNG.random(1000) < 0.3
    np.testing.assert_array_equal(counts_of(who), np.bincount(who))
    np.testing.assert_array_equal(counts_of(who, of, 50), np.bincount(who[of], minlength=50))
    assert counts_of(who[:0]).tolist() == [] and counts_of(who[:0], people=2).tolist() == [0, 0]


def test_people_are_named_by_small_numbers() -> None:
    number, who = RNG.permutation(30).astype(np.int32), RNG.integers(0, 30, 1000)
    np.testing.assert_array_equal(named(number, who), number[who])
    assert named(number, who).dtype == np.int32
