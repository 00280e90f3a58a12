"""Unit length and inner products against exact rationals, and rows that are no vector."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.protocols.metrics.similarity import (
    divisors,
    exact_scores,
    failed,
    minus_squared_distances,
    normalise,
    rounded_once,
)

pytestmark = pytest.mark.once


@pytest.mark.parametrize("d", [1, 2, 3, 5, 8, 13])
def test_a_row_is_divided_by_its_length_whatever_stands_around_it(d: int) -> None:
    rows = np.random.default_rng(d).normal(size=(9, d)).astype(np.float32)
    length = np.sqrt([float(sum(Fraction(float(v)) ** 2 for v in row)) for row in rows])
    np.testing.assert_array_max_ulp(divisors(rows), length, 2)
    np.testing.assert_array_equal(divisors(np.tile(rows, (30, 1))), np.tile(divisors(rows), 30))
    unit = normalise(rows)
    assert unit.dtype == np.float32
    np.testing.assert_array_equal(unit, (rows / divisors(rows)[:, None]).astype(np.float32))
    wider = np.pad(rows, [(0, 0), (0, 16 - d)])  # sums by halves of 16 begin with those zeros
    np.testing.assert_array_equal(normalise(wider)[:, :d], unit)
    for chunk in (1, 4, 9):
        np.testing.assert_array_equal(normalise(rows, chunk), unit)


def test_a_zero_row_stays_and_what_float32_cannot_hold_is_no_vector() -> None:
    """Doubles beyond float32's range, or all below it; small ones beside a large one are zeros."""
    x = np.array(
        [[0, 0], [3, 4], [np.nan, 1], [np.inf, 1], [1e39, 1], [1e-60, 0], [1e-60, 2]],
        np.float64,
    )
    no_vector = np.array([False, False, True, True, True, True, False])
    assert failed(x).tolist() == no_vector.tolist()
    unit = normalise(x)
    np.testing.assert_array_equal(np.isnan(unit), np.stack([no_vector] * 2, axis=1))
    expected = np.array([[0, 0], [0.6, 0.8], [0, 1]], np.float32)
    np.testing.assert_array_equal(unit[~no_vector], expected)
    assert not failed(np.array([[2.0**-149, 3e38]], np.float32)).any()
    np.testing.assert_array_equal(divisors(x[:3].astype(np.float32)), [1, 5, np.nan])
    many = np.zeros((9000, 2))
    bad = [0, 4095, 4096, 8192, 8999]
    many[bad, 1] = np.nan
    assert np.flatnonzero(failed(many)).tolist() == bad


POWERS = [2.0**-k for k in (0, 1, 24, 52, 53, 54, 77, 106, 107, 120)]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([s * p for p in POWERS for s in (1, -1)]), max_size=9))
def test_a_score_is_the_exact_product_rounded_once_however_close_to_a_tie(of: list[float]) -> None:
    """What is half way between two doubles is decided by the smallest part; ties go to even."""
    x = np.array([of], np.float32).reshape(1, -1)
    zero, exact = np.zeros(1, int), sum(map(Fraction, of), Fraction(0))
    assert exact_scores(x, zero, np.ones_like(x), zero)[0] == float(exact)
    square = sum(((Fraction(v) - 1) ** 2 for v in of), Fraction(0))
    assert minus_squared_distances(x, zero, np.ones_like(x), zero)[0] == -float(square)


def test_a_failed_row_scores_below_all_and_spoils_no_other_pair() -> None:
    x = np.array([[1, 2], [np.nan, 1], [np.inf, 0], [3, 4]], np.float32)
    i, j = np.array([0, 0, 1, 2, 3, 2]), np.array([3, 1, 1, 0, 3, 1])
    below = [-np.inf, -np.inf, -np.inf]
    assert exact_scores(x, i, x, j).tolist() == [11, *below, 25, -np.inf]
    assert minus_squared_distances(x, i, x, j).tolist() == [-8, *below, 0, -np.inf]


def test_a_rounding_is_unsure_as_near_to_a_tie_as_its_error_bound() -> None:
    """At 1 the neighbours are 2^-52 above and 2^-53 below: ties lie at 2^-53 and -2^-54.

    Of 4 terms whose errors sum to 2^-40 in size the bound is 4 4 2^-53 2^-40.
    """
    near, ties = 2.0**-89, np.array([2.0**-53, -(2.0**-54)])
    size, one = np.full(2, 2.0**-40), np.ones(2)
    for away, at_risk in ((0.0, True), (near, True), (1.125 * near, False)):
        score, unsure = rounded_once(one, ties - np.sign(ties) * away, size, 4)
        assert score.tolist() == [1.0, 1.0] and unsure.tolist() == [at_risk] * 2
    assert not rounded_once(one, ties, 0 * size, 4)[1].any()  # nothing was lost
    # Where the high part cancels, the errors exceed it: 1.75 + 3 2^-53 lies half way, too.
    score, unsure = rounded_once(one[:1] * 0.75 + 2.0**-53, one[:1] + 2.0**-52, size[:1], 4)
    assert (score.tolist(), unsure.tolist()) == ([1.75 + 2.0**-51], [True])
