"""What each person adds to a metric, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from evalkit.protocols.metrics import eer
from evalkit.protocols.uncertainty.influence import Influence, decisions, influence
from evalkit.protocols.uncertainty.sample import ComparisonSample, Searches

pytestmark = pytest.mark.once

GALLERY = Searches(
    mate=np.array([0.9, 0.4, -np.inf]),
    mate_subject=np.array([0, 2, 2]),
    nonmate=np.array([0.7, 0.5]),
    nonmate_subject=np.array([1, 3]),
)
SMALLER = replace(GALLERY, mate=np.array([0.9]), mate_subject=np.array([0]))
SAMPLE = ComparisonSample(
    subjects=4,
    genuine=np.array([0.9, 0.6, 0.5, -np.inf]),
    genuine_subject=np.array([0, 2, 0, 2]),
    impostor=np.array([0.55, 0.5, 0.3, 0.1]),
    left=np.array([0, 1, 2, 3]),
    right=np.array([1, 2, 3, 0]),
    impostors=4,
    order=np.array([6, 0, 1, 2, 3, 4, 5, 7]),
    decided=np.arange(8) % 2 == 0,
    rank=np.array([1, 3, 0, 2]),
    rank_subject=np.array([0, 2, 2, 3]),
    searches=(GALLERY, SMALLER),
)
AT_EER = np.bincount([0, 2, 0, 2], SAMPLE.genuine >= eer(SAMPLE.genuine, SAMPLE.impostor).threshold)


@pytest.mark.parametrize(
    ("name", "added", "count", "share"),
    [
        ("tpr@far=1/4", [1, 1], [2, 2], 1),  # above 0.5, the second highest impostor
        ("tpr@far=1", [2, 1], [2, 2], 1),  # all but the failure
        ("tpr@far=1/4,mean=subject", [0.5, 0.5], [1, 1], 1),
        ("eer", AT_EER[[0, 2]], [2, 2], 0.5),
        ("accuracy@threshold=best", [1, 1], [2, 2], 1),  # between 0.55 and 0.6
        ("auc", [1 + 2.5 / 4, 1], [2, 2], 1),  # 0.5 is above two and ties with one
        ("tpir@fpir=1/2", [2, 0], [2, 2], 1),  # above 0.5, in both galleries
        ("tpir@fpir=1", [2, 1], [2, 2], 1),
    ],
)
def test_people_add_their_genuine_comparisons(
    name: str, added: list[float], count: list[int], share: float
) -> None:
    found = influence(SAMPLE, name)
    assert found is not None
    assert (found.left.tolist(), found.right.tolist()) == ([0, 2], [0, 2])
    assert found.added.tolist() == list(added) and found.count.tolist() == count
    assert found.share == share
    assert found.changed == share * sum(added) / sum(count)


def test_decisions_stand_in_the_order_of_the_list() -> None:
    accuracy = influence(SAMPLE, "accuracy")
    assert accuracy is not None
    assert accuracy.added.tolist() == [1, 0] * 4
    # Row 6 is the first genuine one, rows 0 to 2 the others, and so on down the impostors.
    assert accuracy.left.tolist() == [2, 0, 2, 0, 1, 2, 0, 3]
    assert accuracy.right.tolist() == [2, 0, 2, 1, 2, 3, 0, 0]
    unordered = influence(replace(SAMPLE, order=None), "accuracy")
    assert unordered is not None and unordered.left.tolist() == [0, 2, 0, 2, 0, 1, 2, 3]
    rank = influence(SAMPLE, "rank-2")
    assert rank is not None
    assert rank.added.tolist() == [1, 0, 0, 1] and rank.count.tolist() == [1] * 4
    assert rank.left.tolist() == rank.right.tolist() == [0, 2, 2, 3]


def test_what_a_sample_does_not_hold_has_no_influence() -> None:
    nothing = np.empty(0)
    bare = replace(SAMPLE, rank=None, searches=(), genuine=nothing, decided=None)
    for name in ("accuracy", "rank-1", "tpir@fpir=1/2", "tpr@far=1/4", "auc", "eer"):
        assert influence(bare, name) is None, name
    tail = replace(SAMPLE, impostors=9)
    for name in ("eer", "auc", "accuracy@threshold=best", "tpr@far=1e-3", "tpr@far=1/2"):
        assert influence(tail, name) is None, name
    assert influence(tail, "tpr@far=1/9") is not None
    without_strangers = replace(GALLERY, nonmate=nothing)
    two = replace(SAMPLE, searches=(GALLERY, without_strangers))
    assert influence(two, "tpir@fpir=1") is None
    assert influence(SAMPLE, "rank-any") is None
    assert decisions(SAMPLE, "auc") is None


def of_pairs(pairs: list[tuple[int, int]], added: list[float], **more: object) -> Influence:
    left, right = np.array(pairs).T
    held = {"added": np.array(added), "count": np.ones(len(added)), "subjects": 3}
    return Influence(left=left, right=right, **{**held, **more})


def test_variance_is_of_people_and_of_pairs_of_people() -> None:
    # Centred 1/4, -3/4, 1/4, 1/4: S^2 - E^2 of two people are below 0, so that all E^2 count.
    listed = of_pairs([(0, 1), (1, 0), (0, 0), (2, 1)], [1, 0, 1, 1])
    assert listed.variance == pytest.approx((1 / 4 + 2 / 16) / 16 * 3 / 2)
    # Two people in 1 and 4 comparisons that add 1 and 2: centred 0.4 and -0.4; half of a metric.
    sums = of_pairs([(0, 0), (1, 1)], [1, 2], count=np.array([1.0, 4.0]), share=0.5)
    assert sums.variance == pytest.approx(2 * 0.4**2 * 2 * (0.5 / 5) ** 2)
    assert of_pairs([(0, 0)], [1]).variance == 0
    other = of_pairs([(0, 0), (1, 1)], [0, 2])
    assert sums.minus(other).added.tolist() == [1, 0]


def test_freedom_of_unlike_people_is_below_their_number() -> None:
    people = np.arange(8)
    added = np.where(people == 0, 1, 0.1)
    unlike = Influence(left=people, right=people, added=added, count=np.ones(8), subjects=8)
    squares = (added - added.mean()) ** 2
    freedom = 3 * squares.sum() ** 2 / (squares**2).sum() - 2
    assert 1 < freedom < 8
    assert unlike.freedom == pytest.approx(freedom)
    assert unlike.variance == pytest.approx(squares.sum() * 8 / 7 / 64)
    assert replace(unlike, added=np.zeros(8)).freedom == 1
