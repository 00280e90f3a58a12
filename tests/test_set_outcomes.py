import numpy as np
import pytest

from evalkit.protocols.intervals import with_intervals
from evalkit.protocols.resampling import metric_draws
from evalkit.protocols.samples import sample_of
from evalkit.protocols.scores import normalise
from evalkit.protocols.set_outcomes import set_outcomes
from evalkit.types import Estimate

SUBJECT = np.array([0, 0, 1, 2, 2, 2, -1, -1, 3, 3])


def features(n: int, seed: int = 0) -> np.ndarray:
    return normalise(np.random.default_rng(seed).normal(size=(n, 6)))


def test_one_set_keeps_every_genuine_pair_and_the_tail() -> None:
    x = features(10)
    o = set_outcomes(x, SUBJECT, fars=["0.1"])
    genuine = [(0, 1), (3, 4), (3, 5), (4, 5), (8, 9)]
    expected = [float(x[i].astype(float) @ x[j].astype(float)) for i, j in genuine]
    assert o["genuine_score"] == pytest.approx(expected)
    assert o["impostors"] == 45 - 5
    assert len(o["impostor_score"]) == 40  # fewer than twice the allowed and a hundred
    assert (np.diff(o["impostor_score"]) <= 0).all()
    assert o["left_images"].sum() == 10
    assert sample_of(o).subjects == 6  # four people, two rows of nobody


def test_two_sets_have_subjects_of_their_own_where_nobody_is_named() -> None:
    x, y = features(10), features(4, 1)
    o = set_outcomes(x, SUBJECT, y, np.array([-1, 2, -1, 0]), fars=["0.1"])
    assert o["impostors"] == 40 - 3 - 2
    assert len(o["genuine_score"]) == 5
    assert sample_of(o).subjects == 6 + 2
    assert (o["left_images"] * o["right_images"]).sum() == 3 + 2


def test_the_tail_gives_the_draws_of_the_whole_list() -> None:
    subject = np.repeat(np.arange(30), 4)
    x = normalise(
        np.random.default_rng(0).normal(size=(30, 12))[subject]
        + np.random.default_rng(1).normal(size=(120, 12)) * 0.5
    )
    whole = set_outcomes(x, subject, fars=["1"])
    short = set_outcomes(x, subject, fars=["0.01"])
    assert len(short["impostor_score"]) < len(whole["impostor_score"])
    names = ["tpr@far=0.01", "tpr@far=0.002"]
    a, b = (metric_draws(sample_of(o), names, 40) for o in (whole, short))
    for name in names:
        np.testing.assert_array_equal(a[name], b[name])
    metrics = {"tpr@far=0.01": Estimate(value=0.9), "tpr@far=0.5": Estimate(value=0.9)}
    found = with_intervals(metrics, short, draws=40)
    assert found["tpr@far=0.01"].low is not None
    assert found["tpr@far=0.5"].low is None  # not in the tail


def test_a_far_that_needs_too_many_pairs_is_left_out() -> None:
    x = features(60)
    o = set_outcomes(x, np.arange(60) // 2, fars=["0.5", "0.01"], longest=200)
    assert len(o["impostor_score"]) == 2 * 17 + 100


def test_searches_share_the_people_of_the_pairs() -> None:
    x, rank, row = features(10), np.array([1, 2, 1]), np.array([1, 5, 9])
    o = set_outcomes(x, SUBJECT, fars=["0.1"], ranks=(rank, row))
    s = sample_of(o)
    assert s.rank_subject is not None
    assert s.left_images is not None
    assert s.left_images[s.rank_subject].tolist() == [2, 3, 2]
    people = dict(zip([0, 2, 2, 2, 3], o["genuine_subject"], strict=True))
    assert s.rank_subject.tolist() == [people[0], people[2], people[3]]


def test_genuine_pairs_of_one_side_are_kept_as_given() -> None:
    x, y = features(6), features(5, 1)
    subject = np.array([0, 0, 1, 1, 2, 2])
    genuine = np.array([0, 2]), np.array([1, 3]), np.array([0.9, 0.8])
    o = set_outcomes(x, subject, y, np.full(5, -1), fars=["0.1"], genuine=genuine)
    assert o["genuine_score"].tolist() == [0.9, 0.8]
    assert o["impostors"] == 30
    s = sample_of(o)
    assert s.subjects == 3 + 5
    assert s.left_images is not None
    assert s.left_images[s.genuine_subject].tolist() == [2, 2]
