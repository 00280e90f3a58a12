from dataclasses import replace

import numpy as np
import pytest

from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.uncertainty.from_sets import numbered_people, set_outcomes
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.resampling import metric_draws, paired_draws, threshold_draws
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.types import Estimate

SUBJECT = np.array([0, 0, 1, 2, 2, 2, -1, -1, 3, 3])


def features(n: int, seed: int = 0) -> np.ndarray:
    return normalise(np.random.default_rng(seed).normal(size=(n, 6)))


def test_one_set_keeps_every_genuine_pair_and_the_tail() -> None:
    x = features(10)
    o = set_outcomes(x, SUBJECT, fars=["0.1"])
    genuine = [(0, 1), (3, 4), (3, 5), (4, 5), (8, 9)]
    expected = [float(x[i].astype(float) @ x[j].astype(float)) for i, j in genuine]
    assert o.genuine_score == pytest.approx(expected)
    assert o.impostors == 45 - 5
    assert len(o.impostor_score) == 40  # fewer than twice the allowed and a hundred
    assert (np.diff(o.impostor_score) <= 0).all()
    assert o.left_images.sum() == 10
    assert sample_of(o).subjects == 6  # four people, two rows of nobody


def test_two_sets_have_subjects_of_their_own_where_nobody_is_named() -> None:
    x, y = features(10), features(4, 1)
    o = set_outcomes(x, SUBJECT, y, np.array([-1, 2, -1, 0]), fars=["0.1"])
    assert o.impostors == 40 - 3 - 2
    assert len(o.genuine_score) == 5
    assert sample_of(o).subjects == 6 + 2
    assert (o.left_images * o.right_images).sum() == 3 + 2


def test_the_tail_gives_the_draws_of_the_whole_list() -> None:
    subject = np.repeat(np.arange(30), 4)
    x = normalise(
        np.random.default_rng(0).normal(size=(30, 12))[subject]
        + np.random.default_rng(1).normal(size=(120, 12)) * 0.5
    )
    whole = set_outcomes(x, subject, fars=["1"])
    short = set_outcomes(x, subject, fars=["0.01"])
    assert len(short.impostor_score) < len(whole.impostor_score)
    names = ["tpr@far=0.01", "tpr@far=0.002"]
    a, b = (metric_draws(sample_of(o), names, 40) for o in (whole, short))
    for name in names:
        np.testing.assert_array_equal(a[name], b[name])
    metrics = {"tpr@far=0.01": Estimate(value=0.9), "tpr@far=0.5": Estimate(value=0.9)}
    found = with_intervals(metrics, short, draws=40)
    assert found["tpr@far=0.01"].low is not None
    assert found["tpr@far=0.5"].low is None  # not in the tail


@pytest.mark.parametrize("sets", [1, 2])
def test_a_far_that_needs_too_many_pairs_has_some_of_them_at_random(sets: int) -> None:
    subject = np.repeat(np.arange(40), 5)
    rng = np.random.default_rng(0)
    x = normalise(rng.normal(size=(40, 12))[subject] + 0.5 * rng.normal(size=(200, 12)))
    two = () if sets == 1 else (normalise(rng.normal(size=(150, 12))), np.full(150, -1))
    if sets == 2:  # whose genuine pairs are those of x alone
        i, j = np.nonzero(np.triu(np.equal.outer(subject, subject), 1))
        genuine = {"genuine": (np.stack([i, j], axis=1), exact_scores(x, i, x, j))}
    else:
        genuine = {}
    whole = set_outcomes(x, subject, *two, fars=["1"], **genuine)
    some = set_outcomes(
        x, subject, *two, fars=["0.1", "0.001"], longest=300, sampled=6000, **genuine
    )
    needed = 2 * int(0.001 * whole.impostors) + 100
    assert len(some.impostor_score) == needed and len(some.sampled_score) == 6000
    p, q = some.sampled_rows.T
    y = x if sets == 1 else two[0]
    np.testing.assert_array_equal(some.sampled_score, exact_scores(x, p, y, q))
    assert (some.sampled_left != some.sampled_right).all()
    assert sets == 2 or (p < q).all()
    full, thin = sample_of(whole), sample_of(some)
    names = ["tpr@far=0.1", "tpr@far=0.001", "auc", "eer"]
    a, b = (metric_draws(s, names, 300) for s in (full, thin))
    np.testing.assert_array_equal(a[names[1]], b[names[1]])  # the tail reaches it
    thinned = [n for n in names if n != names[1]]
    for name in thinned:
        assert 0.9 < b[name].std() / a[name].std() < 1.35, name
        assert abs(b[name].mean() - a[name].mean()) < a[name].std(), name
    found = with_intervals({n: Estimate(value=float(a[n].mean())) for n in names}, some, draws=50)
    assert all(found[n].interval.endswith("of a random sample of impostors") for n in thinned)
    assert "random sample" not in found[names[1]].interval
    other = replace(some, sampled_score=some.sampled_score + rng.normal(0, 0.05, 6000))
    paired = paired_draws(thin, sample_of(other), names, 50)
    assert all(0 < paired[n].std() < b[n].std() / 2 for n in thinned)
    thresholds = threshold_draws(thin, "0.1", 50)
    assert thresholds is not None
    border = np.sort(whole.impostor_score)[::-1][int(0.1 * whole.impostors)]
    assert abs(thresholds.mean() - border) < thresholds.std()


def test_searches_share_the_people_of_the_pairs() -> None:
    x, rank, row = features(10), np.array([1, 2, 1]), np.array([1, 5, 9])
    o = set_outcomes(x, SUBJECT, fars=["0.1"], ranks=(rank, row))
    s = sample_of(o)
    assert s.rank_subject is not None
    assert s.left_images is not None
    assert s.left_images[s.rank_subject].tolist() == [2, 3, 2]
    people = dict(zip([0, 2, 2, 2, 3], o.genuine_subject, strict=True))
    assert s.rank_subject.tolist() == [people[0], people[2], people[3]]


def test_genuine_pairs_of_one_side_are_kept_as_given() -> None:
    x, y = features(6), features(5, 1)
    subject = np.array([0, 0, 1, 1, 2, 2])
    genuine = np.array([[0, 1], [2, 3]]), np.array([0.9, 0.8])
    o = set_outcomes(x, subject, y, np.full(5, -1), fars=["0.1"], genuine=genuine)
    assert o.genuine_score.tolist() == [0.9, 0.8]
    assert o.impostors == 30
    s = sample_of(o)
    assert s.subjects == 3 + 5
    assert s.left_images is not None
    assert s.left_images[s.genuine_subject].tolist() == [2, 2]


def test_people_are_numbered_in_order_with_the_unlabelled_first() -> None:
    a, b = numbered_people(np.array([7, -1, 3, 7]), np.array([-1, 3, -1, 9]))
    assert (a.tolist(), b.tolist()) == ([4, 2, 3, 4], [1, 3, 0, 5])
    assert a.dtype == b.dtype == np.int32
    a, b = numbered_people(np.array([-1, 5, -1]))
    assert a.tolist() == b.tolist() == [1, 2, 0]
