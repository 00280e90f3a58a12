"""Cross-validated accuracy against the rule spelt out in loops."""

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics.kfold import best_threshold, kfold_accuracy

INF = float("inf")
SCORE = st.sampled_from([-INF, -1.0, 0.0, 5e-324, 1e-323, 0.1, 0.25, 0.5, 1.0]) | st.floats(-1, 1)


def right(scores, genuine, threshold):
    return sum((s >= threshold) == g for s, g in zip(scores, genuine, strict=True))


def best_by_trying(scores, genuine):
    distinct = sorted({s for s in scores if s > -INF})
    if not distinct:
        return np.finfo(float).max
    middles = []
    for a, b in itertools.pairwise(distinct):
        middle = a / 2 + b / 2
        middles.append(middle if a < middle <= b else b)
    candidates = [np.nextafter(distinct[0], -INF), *middles, np.nextafter(distinct[-1], INF)]
    counts = [right(scores, genuine, t) for t in candidates]
    good = [t for t, n in zip(candidates, counts, strict=True) if n == max(counts)]
    return good[len(good) // 2]


@given(st.lists(st.tuples(SCORE, st.booleans()), min_size=1, max_size=30))
def test_best_threshold_is_the_middle_of_the_best_candidates(pairs):
    s, g = (np.array(c) for c in zip(*pairs, strict=True))
    assert best_threshold(s.astype(float), g.astype(bool)) == best_by_trying(s, g)


def test_a_middle_that_rounds_to_the_lower_score_is_the_upper_one():
    pairs = np.array([5e-324, 1e-323]), np.array([False, True])
    assert best_threshold(*pairs) == 1e-323


def random_pairs(seed, folds=4, each=12):
    rng = np.random.default_rng(seed)
    genuine = np.tile(np.repeat([True, False], each), folds)
    scores = (rng.normal(size=len(genuine)) + 1.5 * genuine).round(1)
    scores[rng.random(len(genuine)) < 0.05] = -INF
    return scores, genuine, np.repeat(np.arange(folds), 2 * each)


def kfold_by_loops(rows, genuine, fold):
    accuracy = []
    for n, k in enumerate(sorted(set(fold))):
        s = rows[n]
        train, test = fold != k, fold == k
        t = best_by_trying(s[train], genuine[train])
        accuracy.append(right(s[test], genuine[test], t) / test.sum())
    return accuracy


@pytest.mark.parametrize("seed", range(10))
def test_accuracy_is_judged_on_the_fold_that_chose_nothing(seed):
    scores, genuine, fold = random_pairs(seed)
    expected = kfold_by_loops([scores] * 4, genuine, fold)
    e = kfold_accuracy(scores, genuine, fold)
    assert e.folds == tuple(expected)
    assert e.value == pytest.approx(statistics.mean(expected), abs=1e-15)
    assert e.standard_error == pytest.approx(statistics.stdev(expected) / 2, abs=1e-15)
    assert e.n == len(scores)


@given(st.lists(st.tuples(SCORE, st.booleans(), st.integers(0, 3)), max_size=40), st.booleans())
def test_folds_of_any_sizes_count_alike_and_scores_may_all_be_equal(pairs, equal):
    """Each fold is in the mean once, however few its pairs are."""
    needed = [(0.25, k % 2 == 0, k // 2) for k in range(8)]  # a pair of each class in every fold
    scores, genuine, fold = (np.array(c) for c in zip(*needed, *pairs, strict=True))
    scores = np.full(len(fold), 0.1) if equal else scores
    found = kfold_accuracy(scores, genuine, fold)
    assert found.folds == tuple(kfold_by_loops([scores] * 4, genuine, fold))
    assert found.value == pytest.approx(statistics.mean(found.folds), abs=1e-15)
    assert found.standard_error == pytest.approx(statistics.stdev(found.folds) / 2, abs=1e-15)


def test_two_folds_are_enough_and_few_errors_are_told():
    genuine, fold = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
    right = kfold_accuracy([0.9, 0.1, 0.8, 0.2], genuine, fold)
    assert (right.value, right.note) == (1, "no errors: only a bound is known")
    one_fails = kfold_accuracy([0.9, 0.1, -INF, 0.2], genuine, fold)
    assert one_fails.folds == (1, 0.5)
    assert one_fails.note == "only 1 error: unreliable (fewer than 10)"


def test_scores_may_differ_by_fold():
    scores, genuine, fold = random_pairs(1)
    rows = np.stack([scores, scores * 2, scores[::-1], -scores.clip(-9)])
    expected = kfold_by_loops(rows, genuine, fold)
    assert kfold_accuracy(rows, genuine, fold).folds == tuple(expected)


@given(st.integers(0, 50), st.floats(0.01, 5), st.permutations(range(96)))
def test_order_and_scale_change_nothing(seed, scale, order):
    scores, genuine, fold = random_pairs(seed)
    e = kfold_accuracy(scores, genuine, fold)
    o = np.array(order)
    assert kfold_accuracy(scores[o], genuine[o], fold[o]) == e
    assert kfold_accuracy(np.ldexp(scores, 3), genuine, fold) == e


def test_folds_that_cannot_be_judged_are_refused():
    scores, genuine, fold = random_pairs(0)
    with pytest.raises(ProtocolError, match="fold 1 has only genuine pairs"):
        kfold_accuracy(scores, np.where(fold == 1, True, genuine), fold)
    with pytest.raises(ProtocolError, match="fold 1 has only impostor pairs"):
        kfold_accuracy(scores, np.where(fold == 1, False, genuine), fold)
    with pytest.raises(ProtocolError, match="1 fold"):
        kfold_accuracy(scores, genuine, np.zeros_like(fold))
    with pytest.raises(ProtocolError, match="folds of shape"):
        kfold_accuracy(scores, genuine, fold[:-1])
    with pytest.raises(ProtocolError, match="scores"):
        kfold_accuracy(scores[:-1], genuine, fold)
    with pytest.raises(ProtocolError, match="pair score 3 is nan"):
        kfold_accuracy(np.where(np.arange(96) == 3, np.nan, scores), genuine, fold)
