"""People in no comparison, taken together: draws of the law of everybody by himself."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from evalkit.protocols.uncertainty import uncompared
from evalkit.protocols.uncertainty.bootstrap import shrinkage
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SearchOutcomes, SetOutcomes
from evalkit.protocols.uncertainty.resampling import in_order_of_draws, metric_ends, own_draws
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.protocols.uncertainty.weights import SCALE, weight_draws
from evalkit.types import Estimate

NAMES = ["tpr@far=1e-2", "tpr@far=0.5", "tpr@far=1e-2,mean=subject", "fmr@threshold=2.1"]
NAMES += ["fnmr@threshold=1.0", "rank-1", "tpir@fpir=0.1", "auc"]
DRAWS = 2000
_MOST = 1.95 * np.sqrt(2 / DRAWS)  # Kolmogorov-Smirnov distance, met once in a thousand


def _outcomes(seed: int, *, searched: bool = True, alone: int = 20) -> SetOutcomes:
    """40 probes' people, `alone` of whom have one image, against 3,000 others, in any numbers."""
    rng = np.random.default_rng(seed)
    number = rng.permutation(3040)
    people, others = number[:40], number[40:]
    with_mates = people[alone // 2 :]
    left, right = np.zeros((2, 3040), np.int32)
    left[people] = np.where(np.arange(40) < alone, 1, rng.integers(2, 5, 40))
    right[others] = 1 + (others > 2000)
    right[others[-9:]] = 0  # who stand on neither side
    genuine, tail = rng.choice(with_mates, 90), rng.choice(others[:50], 400)
    scores = rng.integers(0, 40, 90) / 10
    best = rng.normal(size=60)
    searches = SearchOutcomes(
        rank=rng.integers(0, 4, 90),
        rank_subject=genuine,
        mate_score=np.where(scores > 1, scores, -np.inf),
        mate_subject=genuine,
        nonmate_score=best,
        nonmate_subject=rng.choice(people[2:], 60),
    )
    impostors = int(left.sum()) * int(right.sum())
    return SetOutcomes(
        genuine_score=scores,
        genuine_subject=genuine,
        impostor_score=np.append(np.sort(rng.normal(3, 1, 399))[::-1], -np.inf),
        impostor_left=rng.choice(people, 400),
        impostor_right=tail,
        left_images=left,
        right_images=right,
        impostors=impostors // 100,
        impostor_rows=rng.integers(0, 99, (400, 2)),
        sampled_score=rng.normal(1, 1, 300),
        sampled_left=rng.choice(people, 300),
        sampled_right=rng.choice(others, 300),
        sampled_rows=rng.integers(0, 99, (300, 2)),
        searches=searches if searched else None,
    )


def _distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(ks_2samp(a, b, method="asymp").statistic)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.protocols.uncertainty.uncompared.FEW", 0)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("how", [{}, {"searched": False}, {"alone": 0}])
def test_draws_are_spread_as_those_of_everybody(how: dict[str, Any]) -> None:
    outcomes = _outcomes(0, **how)
    whole = in_order_of_draws(sample_of(outcomes))
    some = in_order_of_draws(sample_of(outcomes, together=True))
    assert whole.alike is None and some.alike is not None
    assert some.subjects == len(some.alike) < 500 and some.alike.sum() == whole.subjects == 3040
    expected, found = (metric_ends(s, NAMES, weights=own_draws(s, DRAWS, 5)) for s in (whole, some))
    assert set(expected) >= set(NAMES[:4]) and found.keys() == expected.keys()
    for name, drawn in expected.items():
        for end in (0, 1):
            distance = _distance(found[name][:, end], drawn[:, end])
            assert distance < _MOST, name


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("accepted", [0, 40, 399])
def test_the_shrinkage_is_that_of_everybody(accepted: int) -> None:
    whole, some = (sample_of(_outcomes(0), together=together) for together in (False, True))
    assert shrinkage(some, accepted) == pytest.approx(shrinkage(whole, accepted), rel=1e-12)


@pytest.mark.usefixtures("few")
def test_draws_are_the_same_whatever_numbers_people_have() -> None:
    outcomes, measured = _outcomes(1), {n: Estimate(value=0.5, n=1) for n in NAMES}
    del measured["auc"]  # of pairs drawn at random, by which nobody is known
    number = np.random.default_rng(9).permutation(3040).astype(np.int32)
    images: dict[str, Any] = {}
    for name in ("left_images", "right_images"):
        images[name] = np.empty_like(getattr(outcomes, name))
        images[name][number] = getattr(outcomes, name)
    other = replace(uncompared._renamed(outcomes, lambda who: number[who]), **images)
    found, expected = (with_intervals(measured, o, draws=40) for o in (other, outcomes))
    assert found == expected and found[NAMES[0]].low is not None


@pytest.mark.usefixtures("few")
def test_people_who_meet_themselves_are_not_taken_together() -> None:
    outcomes = _outcomes(0)
    both = replace(outcomes, right_images=outcomes.right_images + 1)  # type: ignore[operator]
    assert sample_of(both, together=True).alike is None
    numbers = np.arange(3040)  # nobody has as many images as another
    unlike = replace(outcomes, left_images=0 * numbers, right_images=numbers)
    assert sample_of(unlike, together=True).alike is None


@pytest.mark.parametrize("apart", [None, [0, 1, 2], [2, 4], [1, 3, 5], [0, 1, 2, 3, 4, 5], []])
def test_a_number_of_many_weighs_what_they_do(apart: list[int] | None) -> None:
    alike = np.array([1, 1, 1000, 1, 23, 1])
    places = None
    if apart is not None:
        places = np.flatnonzero(np.repeat(np.isin(np.arange(6), apart), alike))
        apart = np.array(apart, int)
    everybody = weight_draws(int(alike.sum()), DRAWS, 3, places)
    whole = np.array([np.add.reduceat(w, np.cumsum(alike) - alike) for w, _ in everybody])
    found = np.array([weight for weight, _ in weight_draws(6, DRAWS, 4, apart, alike)])
    for place in range(6):
        distance = _distance(found[:, place], whole[:, place])
        assert distance < _MOST, place
    groups = [set(range(6)) - set([] if apart is None else apart.tolist()), apart]
    for group in ([*g] for g in groups if g is not None and len(g)):
        mean = found[:, group].sum(axis=1) / alike[group].sum()
        np.testing.assert_allclose(mean, SCALE, rtol=1e-3 if len(group) > 1 else 1e-2)


def test_intervals_hold_few_bytes_per_person_in_no_comparison() -> None:
    people = 1_000_000
    outcomes = SetOutcomes(
        genuine_score=np.linspace(1, 0, 100),
        genuine_subject=np.arange(100) // 10 + people,
        impostor_score=np.linspace(1, 0, 500),
        impostor_left=np.arange(500) % 10 + people,
        impostor_right=np.arange(500),
        left_images=np.append(np.zeros(people, np.int32), np.full(10, 10, np.int32)),
        right_images=np.append(np.ones(people, np.int32), np.zeros(10, np.int32)),
        impostors=10**8,
    )
    measured = {"tpr@far=1e-6": Estimate(value=0.9, n=1)}
    with_intervals(measured, outcomes, draws=2)  # which imports what it needs
    tracemalloc.start()
    try:
        with_intervals(measured, outcomes, draws=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * people
