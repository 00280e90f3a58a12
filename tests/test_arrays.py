"""Protocols as a foreign project calls them: lists, labels of 0 and 1, names, tensors."""

from typing import Any

import numpy as np
import pytest

from evalkit.arrays import identities, labels, whole_numbers
from evalkit.errors import ProtocolError
from evalkit.protocols import (
    all_vs_all,
    blufr,
    geometry,
    ijb,
    kfold,
    lfw,
    megaface,
    metrics,
    score_list,
    trillion,
    verification,
)
from evalkit.types import Manifest, PairSet, Report

RNG = np.random.default_rng(0)
WHO = np.repeat(np.arange(30), 4)
X = RNG.normal(size=(30, 8))[WHO] + 0.5 * RNG.normal(size=(120, 8))
GENUINE = np.arange(200) % 2 == 0
LEFT = RNG.integers(0, 120, 200)
OTHER = (LEFT + 4 * RNG.integers(1, 30, 200)) % 120
RIGHT = np.where(GENUINE, LEFT // 4 * 4 + (LEFT + 1) % 4, OTHER)
FOLD = np.arange(200) // 20
PAIRS = PairSet(LEFT, RIGHT, GENUINE, FOLD.astype(np.int16))
SCORE = RNG.normal(size=200) + 2 * GENUINE


def same(a: Report, b: Report) -> bool:
    return dict(a.metrics) == dict(b.metrics)


def test_a_label_is_a_truth() -> None:
    assert labels([1, 0, 1]).tolist() == labels([True, False, True]).tolist() == [True, False, True]
    assert labels(np.array([1.0, 0.0])).dtype == np.bool_
    for wrong in ([1, -1], [1, 2], [0.5], ["1", "0"], [None, True], [np.nan]):
        with pytest.raises(ProtocolError, match="'genuine' holds"):
            labels(wrong)


def test_rows_and_folds_are_whole_numbers() -> None:
    assert whole_numbers(np.array([1], np.uint64), "left").dtype == np.int64
    assert whole_numbers([1.0, 2.0], "left").tolist() == [1, 2]
    for wrong in ([1.5], [np.nan], [np.inf], ["1"], [True]):
        with pytest.raises(ProtocolError, match="'left' holds"):
            whole_numbers(wrong, "left")


def test_names_have_to_be_numbered() -> None:
    with pytest.raises(ProtocolError, match=r"'subject' holds <U1.*numpy\.unique"):
        identities(["a", "b"], 2)
    with pytest.raises(ProtocolError, match=r"3 features have subjects of shape \(2,\)"):
        identities([0, 1], 3)


def test_a_pair_set_takes_what_can_be_meant() -> None:
    given = PairSet(
        LEFT.tolist(),
        RIGHT.astype(np.uint8),
        GENUINE.astype(int),
        FOLD.tolist(),  # type: ignore[arg-type]
    )
    assert (given.left.dtype, given.right.dtype, given.genuine.dtype) == (
        np.int64,
        np.int64,
        np.bool_,
    )
    assert same(verification.evaluate(X, given, WHO), verification.evaluate(X, PAIRS, WHO))
    with pytest.raises(ProtocolError, match="label == 1"):
        PairSet(LEFT, RIGHT, np.where(GENUINE, 1, -1))  # type: ignore[arg-type]


def test_a_manifest_takes_lists() -> None:
    made = Manifest(["a", "b"], [0, 1])  # type: ignore[arg-type]
    assert made.keys == ("a", "b") and made.digest() == Manifest(("a", "b"), np.arange(2)).digest()


def test_labels_of_0_and_1_give_the_numbers_of_booleans() -> None:
    as_int: Any = GENUINE.astype(int)
    assert same(score_list.evaluate(SCORE, as_int, FOLD), score_list.evaluate(SCORE, GENUINE, FOLD))
    assert kfold.kfold_accuracy(SCORE, as_int, FOLD) == kfold.kfold_accuracy(SCORE, GENUINE, FOLD)
    wrong = np.zeros(200, int)
    wrong[0] = 1
    by_int = lfw.evaluate(X, PAIRS, WHO, errata=wrong)  # type: ignore[arg-type]
    assert same(by_int, lfw.evaluate(X, PAIRS, WHO, errata=wrong == 1))


def test_folds_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ProtocolError, match="expected a whole number for each pair"):
        kfold.kfold_accuracy(SCORE, GENUINE, FOLD.astype(str))


EVERY = {
    "verification": lambda x, who: verification.evaluate(x, PAIRS, who),
    "all_vs_all": lambda x, who: all_vs_all.evaluate(x, who, fars=["1e-2"]),
    "geometry": geometry.evaluate,
    "one_set": trillion.evaluate_one_set,
    "trillion": lambda x, who: trillion.evaluate(
        x, [w if w < 9 else -1 for w in who] if who[0] == 0 else who, fars=["1e-2"]
    ),
    "megaface": lambda x, who: megaface.evaluate(
        x[:40], who[:40], {"distractors=80": x[40:]}, fars=["1e-2"]
    ),
    "blufr": lambda x, who: blufr.evaluate(
        x, who, [blufr.Trial(list(range(120)), list(range(0, 80, 4)), list(range(1, 120, 4)))] * 2
    ),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_protocol_takes_lists_and_says_that_names_are_none(name: str) -> None:
    measure: Any = EVERY[name]
    assert same(measure(X.tolist(), WHO.tolist()), measure(X, WHO))
    with pytest.raises(ProtocolError, match=r"'subject' holds <U3"):
        measure(X, np.array([f"p{w:02}" for w in WHO]))


@pytest.mark.parametrize("name", ["verification", "all_vs_all", "one_set"])
def test_a_protocol_takes_tensors(name: str) -> None:
    torch = pytest.importorskip("torch")
    measure: Any = EVERY[name]
    assert same(measure(torch.tensor(X), torch.tensor(WHO)), measure(X, WHO))


def test_distractors_have_names() -> None:
    with pytest.raises(ProtocolError, match="a set of distractors has no name"):
        megaface.evaluate(X[:40], WHO[:40], X[40:])  # type: ignore[arg-type]


def test_templates_take_lists() -> None:
    how = ijb.Pooling(flip="none", detector_score=False)
    made = ijb.pool(X.tolist(), WHO.tolist(), list(range(120)), None, how)  # type: ignore[arg-type]
    assert np.array_equal(made.vectors, ijb.pool(X, WHO, np.arange(120), None, how).vectors)
    pairs: Any = [0, 2, 4, 6], [1, 3, 5, 8], [0, 0, 0, 1]
    assert ijb.verify(made, *pairs, fars=["5e-1"]).metrics["tpr@far=5e-1"].n == 4


def test_pairs_whose_labels_join_everybody_have_an_interval_or_none() -> None:
    """Rows joined by genuine pairs are one person: here all are, in impostor pairs too."""
    how = ijb.Pooling(flip="none", detector_score=False)
    made = ijb.pool(X, np.arange(120), np.arange(120), None, how)
    left = np.repeat(np.arange(120), 2)
    right = (left + np.tile([1, 7], 120)) % 120
    found = ijb.verify(made, left, right, np.tile([True, False], 120), fars=["1e-1"])
    assert found.metrics["tpr@far=1e-1"].value is not None


@pytest.mark.parametrize(
    "far", ["1e-400000000", "1e-1,1e-2", "1 %", "１e-2", "1_0e-3", " 1e-2", "1/0", "", "." * 10]
)
def test_a_rate_is_what_somebody_would_write(far: str) -> None:
    with pytest.raises(ProtocolError, match="is not decimal text"):
        metrics.tpr_at_far([0.5], [0.1], far)


def test_a_mate_is_a_column_of_the_gallery() -> None:
    s = np.eye(3)
    assert metrics.mate_rank(s, [0, 1, 2]).tolist() == [1, 1, 1]
    for mate, told in (([0, 1, 3], "columns 0 to 3 of 3"), ([0, 1, -1], "columns -1 to 1 of 3")):
        with pytest.raises(ProtocolError, match=told):
            metrics.mate_rank(s, mate)
    for scores, mate in ((s, [0, 1]), (s[0], [0])):
        with pytest.raises(ProtocolError, match=r"expected \(Q, G\) and \(Q,\)"):
            metrics.mate_rank(scores, mate)
    with pytest.raises(ProtocolError, match="expected one dimension"):
        metrics.cmc(np.ones((2, 2), int), 2)


def test_a_fusion_that_is_none_is_refused() -> None:
    two = np.stack([X, X], axis=1)
    with pytest.raises(ProtocolError, match="'mean' is none of none, sum, concat"):
        verification.evaluate(two, PAIRS, WHO, flip="mean")  # type: ignore[arg-type]
