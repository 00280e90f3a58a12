"""Every field of a rate at its edges: ties, failures, no comparisons, the last rank that counts."""

import math

import numpy as np
import pytest

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics import exact_rate, threshold_at_far
from evalkit.protocols.metrics.operating_point import (
    dir_at_fpir,
    errors_at,
    given_thresholds,
    search_errors_at,
    tpr_of_highest,
)
from evalkit.types import Estimate

pytestmark = pytest.mark.once

INF = math.inf
FEW = "only {} {}: unreliable (fewer than 10)"


def test_the_border_of_many_scores_is_the_one_that_sorting_finds() -> None:
    scores = np.random.default_rng(0).normal(size=2000)
    descending = np.sort(scores)[::-1]
    for accepted in range(1, 400):
        border = descending[accepted]
        assert threshold_at_far(scores, f"{accepted}/2000") == np.nextafter(border, INF)


def test_a_whole_number_is_no_rate() -> None:
    with pytest.raises(ProtocolError, match="FAR 1 is not decimal text"):
        exact_rate(1)


def test_a_score_at_the_threshold_is_accepted() -> None:
    just_above = float(np.nextafter(0.3, 1))
    m = tpr_of_highest("1/4", np.array([just_above, 0.3]), np.array([0.5, 0.3]), 4)
    assert (m.threshold, m.value, m.false_accepts) == (just_above, 0.5, 1)


def test_given_thresholds_are_finite_and_zero_has_no_sign() -> None:
    assert math.copysign(1, given_thresholds(-0.0)[0]) == 1
    with pytest.raises(ProtocolError, match="a threshold is nan"):
        given_thresholds([0.5, math.nan, INF])


def test_errors_at_a_threshold_with_and_without_comparisons() -> None:
    assert errors_at([0.9, 0.5, 0.2, -INF], [0.5, 0.1, 0.3], 0.5) == {
        "fmr@threshold=0.5": Estimate(
            value=1 / 3,
            n=3,
            threshold=0.5,
            far=1 / 3,
            false_accepts=1,
            note=FEW.format(1, "false accept"),
        ),
        "fnmr@threshold=0.5": Estimate(
            value=2 / 4, n=4, threshold=0.5, note=FEW.format(2, "misses")
        ),
    }
    assert errors_at([], [], 0.5) == {
        "fmr@threshold=0.5": Estimate(
            value=None, n=0, threshold=0.5, false_accepts=0, note="no impostor comparisons"
        ),
        "fnmr@threshold=0.5": Estimate(
            value=None, n=0, threshold=0.5, note="no genuine comparisons"
        ),
    }


# Probes with a mate: found at the threshold, second, failed, below the threshold.
SEARCHED = [0.5, 0.9, 0.9, 0.2], [1, 2, 0, 1]


def test_errors_of_searches_with_and_without_mates() -> None:
    missed = FEW.format(3, "misses")
    assert search_errors_at(*SEARCHED, [0.5, 0.4, 0.1], 0.5) == {
        "fpir@threshold=0.5": Estimate(
            value=1 / 3,
            n=3,
            threshold=0.5,
            far=1 / 3,
            false_accepts=1,
            note=FEW.format(1, "false accept"),
        ),
        "fnir@threshold=0.5": Estimate(value=3 / 4, n=4, threshold=0.5, note=missed),
        "tpir@threshold=0.5": Estimate(value=1 / 4, n=4, threshold=0.5, note=missed),
    }
    within_two = search_errors_at(*SEARCHED, [0.5, 0.4, 0.1], 0.5, within=2)
    assert within_two["tpir@threshold=0.5"].value == 2 / 4
    nobody = "no searches with a mate"
    assert search_errors_at([], [], [], 0.5) == {
        "fpir@threshold=0.5": Estimate(
            value=None,
            n=0,
            threshold=0.5,
            false_accepts=0,
            note="no searches without a mate",
        ),
        "fnir@threshold=0.5": Estimate(value=None, n=0, threshold=0.5, note=nobody),
        "tpir@threshold=0.5": Estimate(value=None, n=0, threshold=0.5, note=nobody),
    }


def test_detection_and_identification_at_the_last_rank_that_counts() -> None:
    nonmates = [0.6, 0.5, 0.1]  # one of three may reach the threshold
    assert dir_at_fpir(*SEARCHED, nonmates, "1/3").value == 0
    assert dir_at_fpir(*SEARCHED, nonmates, "1/3", within=2).value == 1 / 4
    just_above = float(np.nextafter(0.5, 1))
    assert dir_at_fpir([just_above], [1], nonmates, "1/3").value == 1
    for of_searches in (dir_at_fpir, search_errors_at):
        with pytest.raises(ProtocolError, match="4 mate scores have ranks of shape"):
            of_searches(SEARCHED[0], [1, 2], nonmates, 0.5)
