"""The engine against brute force by the definition: `math.fsum` and `fractions`."""

import math
from fractions import Fraction

import numpy as np
import pytest

from evalkit.errors import ProtocolError
from evalkit.protocols import allpairs


def brute_scores(x, y):
    bad = lambda v: not np.isfinite(v).all()  # noqa: E731
    return np.array(
        [
            -math.inf if bad(a) or bad(b) else math.fsum(a.astype(float) * b.astype(float))
            for a in x
            for b in y
        ]
    ).reshape(len(x), len(y))


def brute_verify(x, subject, y, y_subject, fars):
    """(n_genuine, n_impostor, [(threshold, false accepts, true accepts) or None a FAR])."""
    s = brute_scores(x, x if y is None else y)
    other = subject if y is None else y_subject
    use = np.triu(np.ones(s.shape, bool), 1) if y is None else np.ones(s.shape, bool)
    same = (subject[:, None] == other[None, :]) & (subject[:, None] >= 0)
    genuine, impostor = s[use & same], np.sort(s[use & ~same])[::-1]
    points = []
    for far in fars:
        allowed = math.floor(Fraction(far) * len(impostor))
        if allowed < 1:
            points.append(None)
            continue
        rejected = impostor[allowed] if allowed < len(impostor) else -math.inf
        t = np.nextafter(rejected, np.inf)  # failures score -inf: never accepted
        points.append((t, int((impostor >= t).sum()), (genuine >= t).sum() / len(genuine)))
    return len(genuine), len(impostor), points


def outcome(v):
    return (
        v.n_genuine,
        v.n_impostor,
        [
            None if p.threshold is None else (p.threshold, p.false_accepts, p.value)
            for p in v.points.values()
        ],
    )


def test_one_far_by_hand():
    x = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    x[3] = [0, 0.5, 0, 0]
    v = allpairs.verify(x, np.array([0, 0, 1, 2]), fars=["0.2", "1e-2"])
    assert (v.n_genuine, v.n_impostor) == (1, 5)
    first, second = v.points.values()
    assert first.threshold == np.nextafter(0, 1)
    assert (first.false_accepts, first.value) == (1, 1.0)
    assert first.note.startswith("only 1 false accept: unreliable (fewer than 10)")
    why = "FAR 1e-2 needs at least 100 impostor comparisons, there are 5"
    assert (second.threshold, second.note) == (None, why)


@pytest.mark.parametrize(("far", "few"), [("0.26", True), ("0.29", False)])
def test_ten_false_accepts_are_enough_and_nine_are_few(far, few):
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    y = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    (point,) = allpairs.verify(x, np.arange(6), y, np.arange(6) + 5, fars=[far]).points.values()
    assert point.false_accepts == (9 if few else 10)
    assert point.note.startswith("only 9") == few


@pytest.mark.parametrize("far", ["", "x", "0", "-1", "1.5", "1/0", None])
def test_a_far_is_decimal_text(far):
    with pytest.raises(ProtocolError):
        allpairs.verify(np.eye(3, dtype=np.float32), np.arange(3), fars=[far])


def test_a_far_as_a_float_means_its_decimal_text():
    x, who = np.eye(5, dtype=np.float32), np.arange(5)
    one, two = (allpairs.verify(x, who, fars=[far]).points for far in (0.1, "0.1"))
    assert one == two and one["0.1"].threshold is not None


def test_verify_is_the_definition():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6)).astype(np.float32)
    y = rng.standard_normal((30, 6)).astype(np.float32)
    x[3], y[5], y[6] = np.nan, np.inf, x[0]
    a, b = rng.integers(-1, 9, 40), rng.integers(-1, 9, 30)
    fars = ["1", "0.5", "1e-1", "1e-2", "1e-3", "1e-5"]
    for args in ((x, a, y, b), (x, a, None, None)):
        assert outcome(allpairs.verify(*args, fars=fars)) == brute_verify(*args, fars)


def test_a_hash_is_one_person_on_both_sides():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 6)), rng.standard_normal((15, 6))
    hashes = np.array([2**63 + 5, 7, 2**64 - 2, 2**63 - 1, 2**40], np.uint64)
    a, b = rng.integers(0, 4, 20), rng.integers(1, 5, 15)
    few = np.where(b == 2, -1, np.where(b == 3, 2**63 - 1, np.where(b == 4, 2**40, 7)))
    cases = ((hashes[a], hashes[b], b), (hashes[a], few, np.where(b == 2, -1, b)))
    for left, right, plain in cases:
        found = allpairs.verify(x, left, y, right, fars=["0.1"])
        assert outcome(found) == outcome(allpairs.verify(x, a, y, plain, fars=["0.1"]))
        found, wanted = (
            allpairs.search(x, y, probe_subject=p, gallery_subject=g)
            for p, g in ((left, right), (a, plain))
        )
        assert np.array_equal(found.mate_above, wanted.mate_above)


def test_lists_are_taken_and_what_cannot_be_meant_is_refused():
    x, subject = (
        np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32),
        np.arange(12) // 3,
    )
    lists = allpairs.verify(x.tolist(), subject.tolist(), fars=["0.1"])
    whole = allpairs.verify(x, subject.astype(np.uint8), fars=["0.1"])
    names = allpairs.verify(x, [f"p{s}" for s in subject], fars=["0.1"])
    for other in (lists, names):
        assert (other.n_genuine, other.points) == (whole.n_genuine, whole.points)
    for ask, said in (
        (lambda: allpairs.verify(x, subject[1:], fars=["0.1"]), "12 features have subjects"),
        (lambda: allpairs.verify(x, subject, x, fars=["0.1"]), "belong together"),
        (lambda: allpairs.verify(x, subject, x[:, 1:], subject, fars=["0.1"]), "3 dimensions"),
        (lambda: allpairs.search(x, x, 0), "at least 1"),
        (lambda: allpairs.search(x, x[0]), r"\(N, D\)"),
        (lambda: allpairs.search(x, x, probe_subject=subject), "belong together"),
    ):
        with pytest.raises(ProtocolError, match=said):
            ask()
