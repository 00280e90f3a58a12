"""Weights of impostor pairs and shares of a draw, by hand."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm, t

from evalkit.errors import ProtocolError
from evalkit.protocols.uncertainty import resampling, weights
from evalkit.protocols.uncertainty.bootstrap import (
    Draws,
    crossing,
    shrinkage,
    shrinkage_of_difference,
    unseen_genuine,
    unseen_impostor,
)
from evalkit.protocols.uncertainty.intervals import spread
from evalkit.protocols.uncertainty.resampled_rates import border
from evalkit.protocols.uncertainty.resampling import metric_ends
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of
from evalkit.protocols.uncertainty.weights import SCALE, canonical_order, weight_draws

pytestmark = pytest.mark.once


def impostors(pairs: list[tuple[int, int]], **more: object) -> ComparisonSample:
    """Sample of people who score 0.9 with themselves once, and of these impostor pairs."""
    left, right = np.array(pairs).T
    people = int(max(left.max(), right.max())) + 1
    held = {
        "subjects": people,
        "genuine": np.full(people, 0.9),
        "genuine_subject": np.arange(people),
        "impostor": np.linspace(0.5, 0.1, len(pairs)),
        "left": left,
        "right": right,
        "impostors": len(pairs),
        "place": np.arange(len(pairs)),
    }
    return ComparisonSample(**{**held, **more})


def quantile(freedom: float) -> float:
    """Student's t over the normal quantile, at 95 %."""
    return t.ppf(0.975, freedom) / norm.ppf(0.975)


def test_pairs_that_share_no_noise_weigh_a_third_and_few_people_have_five_degrees() -> None:
    ring = impostors([(0, 1), (1, 2), (2, 3), (3, 0)])
    # S is (0.1, 0, 0, 0.1): hardly anything is of a person, all of the pairs.
    excess = np.array([1, -1, 1, -0.9])
    assert shrinkage(ring, excess) == pytest.approx((1 / 3) ** 0.5 * quantile(5))


def test_degrees_of_freedom_are_of_what_people_add() -> None:
    people = 12
    everyone = impostors(list(combinations(range(people), 2)))
    of_person = np.arange(people) - 5.5
    excess = of_person[everyone.left] + of_person[everyone.right]
    squares = (of_person * (people - 2)) ** 2  # S_i: 11 pairs, in which the others add -e_i
    shared = (excess**2).sum()
    c = (squares.sum() - shared) / (squares.sum() + shared)
    freedom = squares.sum() ** 2 / (squares**2).sum()
    assert freedom > 5
    assert shrinkage(everyone, excess) == pytest.approx(c**0.5 * quantile(freedom))
    assert shrinkage(everyone, np.zeros(66)) == 1


def test_a_difference_of_two_tails_is_of_the_pairs_that_one_alone_accepts() -> None:
    images = np.ones(4)
    base = impostors([(0, 1), (0, 2), (2, 3)], left_images=images, right_images=images)
    places = np.array([1, 7, 9])  # of its impostors; (0, 2) is in both tails
    other = impostors(
        [(0, 2), (1, 3), (1, 2)], place=places, left_images=images, right_images=images
    )
    # Both accept (0, 2), the base (0, 1), the other (1, 3): S = (-1, 0, 0, 1), E^2 = 2.
    assert shrinkage_of_difference(base, other, 2, 2) == pytest.approx((1 / 3) ** 0.5 * quantile(5))
    assert shrinkage_of_difference(base, other, 2, np.ones(3)) is None
    assert shrinkage_of_difference(base, other, None, 2) is None


def test_a_tail_without_image_counts_cannot_be_the_rest() -> None:
    with pytest.raises(ProtocolError, match="lists every impostor pair"):
        shrinkage(impostors([(0, 1)], impostors=9), 1)


def test_one_persons_images_have_no_impostors_to_weigh() -> None:
    alone = impostors([(0, 0)], subjects=1, left_images=np.ones(1), right_images=np.ones(1))
    assert shrinkage(alone, 1) == 1
    assert unseen_impostor(alone) == 0


def test_the_unseen_person_has_as_many_comparisons_as_others_on_average() -> None:
    stored = impostors([(0, 1), (1, 0), (0, 2), (1, 2)])
    assert (unseen_genuine(stored), unseen_impostor(stored)) == (1, 4 / 3)
    left, right = np.array([2, 0, 1]), np.array([1, 3, 0])
    # (0, 1): 2 * 3 pairs of images, (2, 0): 1, (2, 1): 3; nobody is on the other two sides.
    sizes = {"subjects": 3, "left_images": left, "right_images": right}
    of_two_sets = impostors([(0, 1)], impostors=10, **sizes)
    assert unseen_impostor(of_two_sets) == pytest.approx(10 / 3)


@pytest.mark.parametrize("apart", [True, False])
def test_products_of_all_pairs_are_summed_by_side_or_together(apart: bool) -> None:
    left, right = np.array([2, 0, 0, 1]), np.array([0 if apart else 4, 3, 1, 0])
    sizes = {"subjects": 4, "left_images": left.astype(float), "right_images": right.astype(float)}
    crossed, w = crossing(impostors([(0, 1)], impostors=9, **sizes)), np.array([5, 7, 11, 2])
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    assert crossed.of(w) == sum(w[i] * left[i] * w[j] * right[j] for i, j in pairs)
    assert crossed.full == sum(left[i] * right[j] for i, j in pairs)


def test_weights_drawn_in_another_thread_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.ones(40)
    pairs = list(combinations(range(40), 2))[:300]
    sample = impostors(pairs, impostors=780, left_images=images, right_images=images)
    name = "tpr@far=1e-2"
    here = metric_ends(sample, [name], 50)[name]
    monkeypatch.setattr(resampling, "MANY", 0)
    np.testing.assert_array_equal(metric_ends(sample, [name], 50)[name], here)


@pytest.mark.parametrize("c", [0.6, 1.0, 1.5])
def test_borders_are_the_first_beyond_the_bound_also_far_from_the_observed(c: float) -> None:
    images = np.ones(60)
    rng = np.random.default_rng(3)
    who = np.sort(rng.integers(0, 60, (4000, 2)), axis=1)
    who[:700, 0], who[:, 1] = 0, np.maximum(who[:, 1], 1)  # one man in all of the highest
    pairs = [(a, b if a != b else (b + 1) % 60) for a, b in who.tolist()]
    sizes = {"subjects": 60, "left_images": images, "right_images": images}
    s = impostors(pairs, impostors=200_000, **sizes)
    drawn = [*weight_draws(60, 300, 0)]
    weight = np.array([w for w, _ in drawn])
    far, crossed = "0.0035", crossing(s)
    found = border(s, far, c)(Draws(weight, np.zeros(300, np.int64), s, crossed))
    plain, reach = (1 - c) * SCALE**2, 1500
    for w, k in zip(weight.tolist(), found.tolist(), strict=True):
        sums, total = [0.0], 0
        for a, b in pairs[:reach]:
            total += w[a] * w[b]
            sums.append(plain * len(sums) + c * total)
        every = c * 200_000 * crossed.of(np.array(w)) / crossed.full + plain * 200_000
        bound = 0.0035 * every * (1 + 1e-12)
        if c <= 1:
            assert k == next((k for k in range(reach) if sums[k + 1] > bound), reach - 1)
        elif k < reach - 1:  # sums may fall: an upward crossing, one of several
            assert sums[k + 1] > bound and (k == 0 or sums[k] <= bound)
    assert (found > 700 * 1.25 + 100).any() and (found < 700).any()


def test_ends_of_a_draw_are_shares_with_the_unseen_failing_and_succeeding() -> None:
    ranks = {"rank": np.array([1, 2, 1]), "rank_subject": np.array([0, 1, 1])}
    weights = [
        (SCALE * np.array([2, 1]), SCALE),
        (np.zeros(2, np.int64), 0),
    ]
    # Found weigh 2 + 1 of 2 + 2; the unseen was searched for 3 / 2 times.
    ends = metric_ends(sample_of(ranks), ["rank-1"], weights=weights)["rank-1"]
    np.testing.assert_array_equal(ends, [[3 / 5.5, 4.5 / 5.5], [np.nan, np.nan]])


def test_a_share_stays_a_share_where_the_impostors_weight_leaves_it() -> None:
    s = impostors([(0, 1), (0, 2), (1, 2)])
    name, c = "fmr@threshold=0.5", {"fmr@threshold=0.5": 2.0}
    two_heavy = (SCALE * np.array([0, 1.5, 2])).astype(np.int64)
    # Pairs weigh 1 + 2 (w_i w_j - 1): the accepted one -1, the second -1, the third 5.
    assert metric_ends(s, [name], c=c, weights=[(two_heavy, 0)])[name].tolist() == [[0, 0]]
    # The accepted one 5, and both others -1.
    assert metric_ends(s, [name], c=c, weights=[(two_heavy[::-1], 0)])[name].tolist() == [[1, 1]]


def test_weights_are_exponential_and_sum_to_the_people_of_their_group() -> None:
    rng = np.random.default_rng(1)
    unseen = -np.log((rng.permutation(3) + 0.5) / 3)
    apart = np.array([1, 4])
    for e, (weight, of_unseen) in zip(unseen, weight_draws(5, 3, 1, apart), strict=True):
        drawn, scale = rng.standard_exponential(5), np.empty(5)
        scale[[0, 2, 3]] = SCALE * 3 / drawn[[0, 2, 3]].sum()
        scale[apart] = SCALE * 2 / drawn[apart].sum()
        assert weight.tolist() == np.maximum(np.rint(drawn * scale), 1).tolist()
        assert of_unseen == round(e * scale[0])


def test_bits_are_mixed_as_splitmix64_does() -> None:
    step = np.uint64(0x9E3779B97F4A7C15)  # the first numbers of its author's program, from seed 0
    seeds = np.arange(3, dtype=np.uint64) * step
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert weights._mixed(seeds).tolist() == known


def test_people_are_ordered_by_genuine_comparisons_then_by_the_highest_impostor() -> None:
    """Minus zero is zero; of two with the same highest score the order is of no number."""
    score = np.array([0.9, 0.8, 0.0, 0.7, 0.1, 0.95, 0.2, 0.0])
    left, right = np.array([[4, 4], [2, 2], [4, 4], [0, 1], [1, 3], [5, 3], [0, 6], [6, 1]]).T
    o = {"score": score, "genuine": left == right, "left": np.arange(8), "right": np.arange(8) + 8}
    o |= {"left_subject": left, "right_subject": right}
    order = canonical_order(sample_of(o))
    assert order[:2].tolist() == [4, 2]  # of two genuine comparisons, and of one
    highest = {0: 0.7, 1: 0.7, 3: 0.95, 5: 0.95, 6: 0.2}
    assert [highest[k] for k in order[2:].tolist()] == [0.95, 0.95, 0.7, 0.7, 0.2]
    who = np.arange(40)
    alone = {"genuine": who >= 0, "left": who, "right": who, "left_subject": who}
    orders = [
        canonical_order(sample_of(alone | {"right_subject": who, "score": s})).tolist()
        for s in (np.where(who, who, 0.0), np.where(who, who, -0.0))
    ]
    assert orders[0] == orders[1]


def test_one_draw_has_no_spread() -> None:
    assert spread(np.empty(0)) == spread(np.array([0.3])) == 0
    assert spread(np.full(3, 0.1 + 0.2)) == 0 and spread(np.array([0.0, 1.0])) == np.sqrt(0.5)
