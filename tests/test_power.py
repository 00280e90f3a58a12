"""Spread of a difference at a true drop: each part against its definition."""

from dataclasses import replace

import pytest
from scipy.stats import norm, t

from evalkit.protocols.uncertainty.power import Spread

pytestmark = pytest.mark.once

PARTS = Spread(equal=4e-4, freedom=30, per_change=0.01, per_error=0.02, error=0.05, thresholds=0.5)
FIXED = replace(PARTS, thresholds=0)


def test_a_drop_adds_the_variance_of_those_who_lose() -> None:
    # People's errors count as far as the drop makes both models' errors: 0.1 / (2 * 0.05 + 0.1).
    assert PARTS.added(0.1) == pytest.approx(0.1 * 0.01 + 0.1 * 0.02 / 2)
    assert PARTS.added(0) == replace(PARTS, error=0).added(0) == 0


@pytest.mark.parametrize(
    ("error", "drop", "errs"),
    [(0.05, 0.1, 0.15), (0.2, 0.6, 0.5), (0.6, 0.2, 0.6), (0.05, 0, 0.05)],
)
def test_moving_thresholds_vary_as_the_density_of_scores(
    error: float, drop: float, errs: float
) -> None:
    """Squared, of the worse model alone, half of the sum; no density lies above the median's."""
    before, after = norm.pdf(norm.ppf([error, errs]))
    grown = 1 + 0.5 * ((after / before) ** 2 - 1) / 2
    assert replace(PARTS, error=error).growth(drop) == pytest.approx(grown)


def test_growth_has_an_end_and_no_place_without_errors() -> None:
    assert replace(PARTS, error=0.001).growth(0.4) == 1 + 0.5 * (10 - 1) / 2
    assert [replace(PARTS, error=e).growth(0.1) for e in (0, 1)] == [1, 1]
    assert FIXED.growth(0.1) == 1


def test_two_variances_have_satterthwaites_freedom() -> None:
    drop, equal, added = 0.1, 4e-4 * PARTS.growth(0.1), 0.002
    people = drop**2 / added
    freedom = (equal + added) ** 2 / (equal**2 / 30 + added**2 / people)
    assert PARTS.at(drop) == pytest.approx((equal + added) ** 0.5)
    assert PARTS.quantile(0.9, drop) == pytest.approx(t.ppf(0.9, freedom))
    assert PARTS.quantile(0.9, 0) == pytest.approx(t.ppf(0.9, 30))
    assert replace(PARTS, equal=0).quantile(0.9, 0) == pytest.approx(t.ppf(0.9, 30))
    half_a_person = Spread(equal=0, freedom=30, per_change=1, per_error=0, error=0.05)
    assert half_a_person.quantile(0.9, 0.5) == pytest.approx(t.ppf(0.9, 1))


def test_a_margin_is_of_equal_models() -> None:
    assert PARTS.margin(0.1) == pytest.approx((t.ppf(0.95, 30) + t.ppf(0.8, 30)) * 0.02)


def test_a_detectable_drop_is_found_with_the_power_that_it_has() -> None:
    drop = PARTS.detectable(0.05)
    critical = drop - PARTS.quantile(0.8, drop) * PARTS.at(drop)
    assert critical == pytest.approx(PARTS.quantile(0.975, critical) * PARTS.at(critical))
