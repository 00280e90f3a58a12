"""FMR and thresholds of few people's probes against many others: twins by hand."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t

from evalkit.protocols.uncertainty.bootstrap import beyond_average, shrinkage, unseen_impostor
from evalkit.protocols.uncertainty.deployed_threshold import (
    deployed_threshold,
    interval_of_threshold,
)
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import SetOutcomes
from evalkit.protocols.uncertainty.resampling import metric_ends, threshold_draws
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.protocols.uncertainty.weights import SCALE, subject_draws
from evalkit.types import Estimate

pytestmark = pytest.mark.once


def two_sets(seed: int, probes: int = 6, others: int = 9, stored: int = 60) -> SetOutcomes:
    """The highest pairs of probes that are taken for others at unlike rates; scores tie."""
    rng = np.random.default_rng(seed)
    images, theirs = rng.integers(1, 4, probes), rng.integers(1, 3, others)
    left, right = np.indices((images.sum(), theirs.sum())).reshape(2, -1)
    left, right = (
        np.repeat(np.arange(probes), images)[left],
        np.repeat(np.arange(others), theirs)[right],
    )
    score = np.round(rng.normal(0, 0.3, probes)[left] + rng.normal(0, 0.3, len(left)), 2)
    highest = np.argsort(-score, kind="stable")[:stored]
    return SetOutcomes(
        genuine_score=np.ones(probes),
        genuine_subject=np.arange(probes),
        impostor_score=score[highest],
        impostor_left=left[highest],
        impostor_right=right[highest] + probes,
        left_images=np.append(images, 0 * theirs),
        right_images=np.append(0 * images, theirs),
        impostors=len(left),
    )


def slow_beyond(s: ComparisonSample, accepted: int) -> float:
    """(x - r) n of the smaller side, at every threshold down to the last, by counting."""
    assert s.left_images is not None and s.right_images is not None
    sides = [np.flatnonzero(images) for images in (s.left_images, s.right_images)]
    found = [0.0]
    for images, people in zip((s.left_images, s.right_images), sides, strict=True):
        if len(people) > min(map(len, sides)):
            continue
        n = s.impostors / len(people)
        for k in range(1, accepted + 1):
            if k < accepted and s.impostor[k] == s.impostor[k - 1]:
                continue  # both stand or fall
            shares = [
                sum(p in pair for pair in zip(s.left[:k], s.right[:k], strict=True))
                / (s.impostors * images[p] / images.sum())
                for p in people
            ]
            found.append((max(shares) - k / s.impostors) * n)
    return max(found)


@pytest.mark.parametrize(("probes", "others"), [(6, 9), (9, 6), (5, 5), (3, 12)])
def test_an_unseen_person_like_the_worst_brings_so_many_accepts_beyond_the_average(
    probes: int, others: int
) -> None:
    s = sample_of(two_sets(probes, probes, others))
    found = beyond_average(s, 40)
    ends = [k for k in range(41) if k in (0, 40) or s.impostor[k] < s.impostor[k - 1]]
    assert 10 < len(ends) < 41  # some tie
    assert found[ends] == pytest.approx([slow_beyond(s, k) for k in ends])
    assert (np.diff(found) >= 0).all() and found[0] == 0
    # By hand: probe 0 has 4 of the 5 highest of 8 x 12 pairs, so 4 / 12 beside 5 / 96 on average.
    eight = {"left_images": np.repeat([1, 0], [8, 12]), "right_images": np.repeat([0, 1], [8, 12])}
    by_hand = replace(
        s, **eight, subjects=20, impostors=96, impostor=np.arange(5.0)[::-1],
        left=np.array([0, 0, 1, 0, 0]), right=np.arange(8, 13),
    )  # fmt: skip
    assert beyond_average(by_hand, 5)[-1] == pytest.approx(4 - 5 / 8)
    swapped = replace(by_hand, left=by_hand.right, right=by_hand.left)
    assert (beyond_average(swapped, 5) == beyond_average(by_hand, 5)).all()
    together = replace(
        by_hand, subjects=14, alike=np.array([1, 1, 6] + [1] * 5 + [7] + [1] * 5)[:14],
        left=np.array([0, 0, 1, 0, 0]), right=np.array([3, 4, 5, 6, 7]),
        left_images=np.repeat([1, 0], [3, 11]), right_images=np.repeat([0, 1, 0], [3, 6, 5]),
    )  # fmt: skip
    assert beyond_average(together, 5)[-1] == pytest.approx(4 - 5 / 8)


def test_nobody_is_added_to_one_set_with_itself() -> None:
    s = sample_of(two_sets(1))
    assert s.left_images is not None
    one = replace(s, left_images=s.left_images + 1)
    assert not beyond_average(one, 40).any()
    assert not beyond_average(replace(s, left_images=None), 40).any()
    thresholds = threshold_draws(one, "0.1", 20)
    assert thresholds is not None and (thresholds[:, 0] == thresholds[:, 1]).all()


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_fmr_of_a_draw_with_the_person_unseen_is_that_of_its_weights(seed: int) -> None:
    s = sample_of(two_sets(seed))
    name, k = f"fmr@threshold={s.impostor[40]}", int((s.impostor >= s.impostor[40]).sum())
    assert s.left_images is not None and s.right_images is not None
    c, pair = shrinkage(s, k), unseen_impostor(s)
    worst = max(pair, slow_beyond(s, k))
    assert worst > pair
    ends = metric_ends(s, [name], 12, seed)[name]
    for found, (weight, unseen) in zip(ends, subject_draws(s, 12, seed), strict=True):
        w, u = weight / SCALE, unseen / SCALE
        accepted = sum(
            1 - c + c * w[i] * w[j] for i, j in zip(s.left[:k], s.right[:k], strict=True)
        )
        every = (1 - c) * s.impostors + c * (w @ s.left_images) * (w @ s.right_images)
        low, high = accepted / (every + pair * u), (accepted + worst * u) / (every + pair * u)
        assert found == pytest.approx([max(low, 0), min(high, 1)])


@pytest.mark.parametrize("far", ["0.05", "0.1"])
def test_the_threshold_of_a_draw_with_the_person_unseen_accepts_the_far_of_its_weights(
    far: str,
) -> None:
    s = sample_of(two_sets(3))
    assert s.left_images is not None and s.right_images is not None
    c, pair = shrinkage(s, int(Fraction(far) * s.impostors)), unseen_impostor(s)
    thresholds = threshold_draws(s, far, 15, 2)
    assert thresholds is not None and (thresholds[:, 1] >= thresholds[:, 0]).all()
    assert (thresholds[:, 1] > thresholds[:, 0]).sum() > 5
    for (_, found), (weight, unseen) in zip(thresholds, subject_draws(s, 15, 2), strict=True):
        w, u = weight / SCALE, unseen / SCALE
        every = (1 - c) * s.impostors + c * (w @ s.left_images) * (w @ s.right_images)
        accepted = np.cumsum(1 - c + c * w[s.left] * w[s.right])
        # The highest score at which what is accepted together is above the FAR.
        together = [int((s.impostor >= score).sum()) for score in s.impostor]
        with_unseen = [accepted[k] + u * max(pair, slow_beyond(s, together[k])) for k in range(40)]
        k = int(np.argmax(np.array(with_unseen) > float(far) * (every + pair * u)))
        assert found == s.impostor[k]
    # Of 120 comparisons 0.1 is 12: none accepted would leave 41 possible, one person having 11.
    low = np.quantile(thresholds[:, 0], 0.025)
    assert interval_of_threshold(s, far, 15, 2) == (low, np.inf)
    tail = replace(s, impostors=100 * s.impostors, left_images=10 * s.left_images)
    tail = replace(tail, right_images=10 * s.right_images)
    drawn = threshold_draws(tail, "0.004", 15, 2)
    assert drawn is not None
    low, high = np.quantile(drawn[:, 0], 0.025), np.quantile(drawn[:, 1], 0.975)
    assert interval_of_threshold(tail, "0.004", 15, 2) == (low, high)


@given(st.integers(0, 12), st.integers(0, 5))
def test_fmr_of_two_sets_is_no_shorter_than_that_of_strangers(accepts: int, seed: int) -> None:
    o = two_sets(seed)
    score = np.sort(o.impostor_score)[::-1]
    o = replace(o, impostor_score=score - 3 * (np.arange(60) >= accepts))
    name, value = f"fmr@threshold={score[-1] - 1}", accepts / o.impostors
    m = with_intervals({name: Estimate(value=value)}, o, draws=20)[name]
    exact = binomtest(accepts, o.impostors).proportion_ci()
    assert m.low is not None and m.high is not None
    assert m.low <= exact.low + 1e-12 and m.high >= exact.high - 1e-12
    far = deployed_threshold(
        Estimate(value=0.5, far=value), score[-1] - 1, f"{12 / o.impostors:.4f}", sample_of(o)
    )
    assert far.far_low is not None and far.far_low <= exact.low + 1e-12


@given(st.integers(0, 5), st.sampled_from([25, 35, 45]))
def test_fmr_of_two_sets_ends_at_quantiles_as_far_out_as_students_t(seed: int, k: int) -> None:
    o = two_sets(seed)
    s = sample_of(o)
    name, accepts = f"fmr@threshold={s.impostor[k]}", int((s.impostor >= s.impostor[k]).sum())
    m = with_intervals({name: Estimate(value=accepts / s.impostors)}, o, draws=100)[name]
    n = 6  # people of the probes
    tail = norm.cdf(t.ppf(0.025, n - 1) * np.sqrt(n / (n - 1)))
    ends = metric_ends(s, [name], 100)[name]
    low = np.quantile(ends[:, 0], tail, method="weibull")
    high = np.quantile(ends[:, 1], 1 - tail, method="weibull")
    exact = binomtest(accepts, s.impostors).proportion_ci()
    assert m.low == pytest.approx(min(low, exact.low), abs=1e-12)
    assert m.high == pytest.approx(max(high, exact.high), abs=1e-12)
