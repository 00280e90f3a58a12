"""Each metric against its definition spelt out in loops, scikit-learn, and its own properties."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import det_curve, roc_auc_score, roc_curve

from evalkit.errors import ProtocolError
from evalkit.protocols import metrics
from evalkit.protocols.metrics import similarity
from evalkit.protocols.metrics.kfold import kfold_accuracy

INF = float("inf")
# Few distinct values make ties; -inf is a failed comparison.
SCORE = st.sampled_from([-INF, -1.0, -0.25, 0.0, 1e-300, 0.1, 0.25, 0.5, 0.75, 1.0]) | st.floats(
    -1, 1
)
SCORES = st.lists(SCORE, min_size=1, max_size=25)
FARS = st.sampled_from(["0.1", "0.25", "1/3", "0.3", "0.5", "1e-1", "1", "0.07"])


def accepted(scores, threshold):
    return sum(s >= threshold for s in scores)


@given(SCORES, SCORES)
def test_roc_counts_accepts_at_every_distinct_score(g, i):
    r = metrics.roc(g, i)
    finite = sorted({s for s in g + i if s > -INF}, reverse=True)
    assert r.threshold[1:].tolist() == finite
    assert (r.false_accepts[0], r.true_accepts[0]) == (0, 0)
    assert r.false_accepts.tolist() == [accepted(i, t) for t in r.threshold]
    assert r.true_accepts.tolist() == [accepted(g, t) for t in r.threshold]
    assert np.allclose(r.fnmr, 1 - r.tpr)


def test_roc_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    g, i = rng.normal(1, 1, 300).round(1), rng.normal(0, 1, 400).round(1)
    label = np.repeat([1, 0], [300, 400])
    far, tpr, _ = roc_curve(label, np.concatenate([g, i]), drop_intermediate=False)
    r = metrics.roc(g, i)
    assert np.array_equal(r.far, far)
    assert np.array_equal(r.tpr, tpr)
    far, fnmr, threshold = det_curve(label, np.concatenate([g, i]))
    d = metrics.det(g, i)
    for x, y, t in zip(d.far, d.fnmr, d.threshold, strict=True):
        k = np.flatnonzero(threshold == t)
        assert (far[k], fnmr[k]) == (x, y)
    assert np.isfinite(d.far_deviate).all() and np.isfinite(d.fnmr_deviate).all()
    assert len(d.far) > 20


@given(SCORES, SCORES)
def test_a_thinned_roc_is_the_same_line(g, i):
    r = metrics.roc(g, i)
    t = r.thinned()
    full = set(zip(r.far.tolist(), r.tpr.tolist(), strict=True))
    assert set(zip(t.far.tolist(), t.tpr.tolist(), strict=True)) <= full
    for far, tpr in full:  # every dropped point lies on a segment that was kept
        k = int(np.searchsorted(t.far + t.tpr, far + tpr))
        a, b = max(k - 1, 0), k
        area = (t.far[b] - t.far[a]) * (tpr - t.tpr[a]) - (far - t.far[a]) * (t.tpr[b] - t.tpr[a])
        assert abs(area) < 1e-12


def test_a_long_roc_is_thinned_to_its_limit_and_keeps_its_ends():
    rng = np.random.default_rng(1)
    r = metrics.roc(rng.normal(1, 1, 20_000), rng.normal(0, 1, 20_000))
    t = r.thinned(300)
    assert 100 < len(t.far) <= 302
    assert (t.far[0], t.tpr[0], t.far[-1], t.tpr[-1]) == (0, 0, 1, 1)


@given(SCORES, SCORES)
def test_auc_is_the_share_of_couples_in_order(g, i):
    wins = Fraction(0)
    for a in g:
        for b in i:
            if a > b:
                wins += 1
            elif a == b and a > -INF:
                wins += Fraction(1, 2)
    assert metrics.auc(g, i).value == float(wins / (len(g) * len(i)))


def test_auc_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    g, i = rng.normal(1, 1, 300).round(1), rng.normal(0, 1, 400).round(1)
    expected = roc_auc_score(np.repeat([1, 0], [300, 400]), np.concatenate([g, i]))
    assert metrics.auc(g, i).value == pytest.approx(expected, abs=1e-14)


def eer_by_walking(g, i):
    """Walk the ROC's segments; return FAR where FAR = FNMR, or None."""
    thresholds = [INF, *sorted({s for s in g + i if s > -INF}, reverse=True)]
    points = [
        (Fraction(accepted(i, t), len(i)), 1 - Fraction(accepted(g, t), len(g))) for t in thresholds
    ]
    for (far0, fnmr0), (far1, fnmr1) in itertools.pairwise(points):
        if far1 >= fnmr1:
            w = (fnmr0 - far0) / ((fnmr0 - far0) + (far1 - fnmr1))
            return float(far0 + w * (far1 - far0))
    return None


@given(SCORES, SCORES)
def test_eer_is_where_the_roc_crosses_the_diagonal(g, i):
    e = metrics.eer(g, i)
    expected = eer_by_walking(g, i)
    if expected is None:
        assert e.value is None and "failures" in e.note
        return
    assert e.value == pytest.approx(expected, abs=1e-15)
    fnmr = 1 - accepted(g, e.threshold) / len(g)
    assert e.far == accepted(i, e.threshold) / len(i)
    assert e.far >= fnmr - 1e-12
    higher = np.nextafter(e.threshold, INF)
    assert accepted(i, higher) / len(i) <= 1 - accepted(g, higher) / len(g)


@given(SCORES, SCORES, FARS)
def test_tpr_at_far_is_the_lowest_threshold_with_far_at_most_x(g, i, far):
    e = metrics.tpr_at_far(g, i, far)
    x = Fraction(far)
    if x * len(i) < 1:
        assert e.value is None and "needs at least" in e.note
        return
    # Every threshold that decides differently: each score, and above all of them.
    candidates = [s for s in {*g, *i} if s > -INF] + [2.0]
    allowed = [t for t in candidates if Fraction(accepted(i, t), len(i)) <= x]
    assert e.value == max(accepted(g, t) for t in allowed) / len(g)
    assert e.value == accepted(g, e.threshold) / len(g)
    assert e.false_accepts == accepted(i, e.threshold)
    assert e.far == e.false_accepts / len(i)
    assert Fraction(e.false_accepts, len(i)) <= x
    if e.threshold > np.finfo(float).min:  # else everything that can be is accepted
        lower = np.nextafter(e.threshold, -INF)
        assert Fraction(accepted(i, lower), len(i)) > x
    assert ("false accept" in e.note) == (x * len(i) < 10)


@given(SCORES, SCORES, FARS)
def test_a_failure_never_helps(g, i, far):
    """A genuine comparison that fails lowers TPR, AUC; an impostor that fails adds no accept."""
    whole, broken = metrics.tpr_at_far(g, i, far), metrics.tpr_at_far([-INF, *g[1:]], i, far)
    if whole.value is not None:
        assert broken.value <= whole.value
        one_less = metrics.tpr_at_far(g, [-INF, *i[1:]], far)
        assert Fraction(one_less.false_accepts, len(i)) <= Fraction(far)
    assert metrics.auc([-INF, *g[1:]], i).value <= metrics.auc(g, i).value


def test_far_is_read_as_a_decimal_not_as_a_float():
    # 0.3 as a float is below 3/10, and times 10 it would allow 2
    assert metrics.false_accepts_allowed("0.3", 10) == 3
    assert metrics.false_accepts_allowed("1e-9", 10**12 - 1) == 999
    for wrong in ("0", "-1e-3", "1.5", "x", "nan", "1/0", ""):
        with pytest.raises(ProtocolError):
            metrics.false_accepts_allowed(wrong, 10)


def test_a_note_says_on_how_many_false_accepts_a_rate_rests():
    tied = metrics.tpr_at_far([0.9, 0.5], [0.5] * 200 + [0.1] * 200, "0.1")
    assert (tied.value, tied.far) == (0.5, 0)
    assert tied.note.startswith("no false accepts: only a bound is known")
    genuine = np.linspace(100, 300, 40)
    assert metrics.tpr_at_far(genuine, np.arange(200.0), "0.05").note == ""
    one = metrics.tpr_at_far(genuine, np.arange(200.0), "0.005").note
    assert one == "only 1 false accept: unreliable (fewer than 10)"


def test_a_note_says_which_errors_are_few():
    genuine, impostor = np.append(np.full(99, 2.0), 0.0), np.append(np.full(99, 0.5), 2.5)
    miss, accept = (
        f"only 1 {what}: unreliable (fewer than 10)" for what in ("miss", "false accept")
    )
    perfect = metrics.auc([1.0], [0.0]), metrics.eer([1.0], [0.0])
    for m in perfect:
        assert m.note == "; ".join(f"no {k}: only a bound is known" for k in KINDS)
    assert metrics.tpr_at_far(genuine, impostor, "0.1").note == f"{accept}; {miss}"
    assert metrics.eer(genuine, impostor).note == f"{accept}; {miss}"
    swapped = np.arange(200.0)
    for m in (metrics.auc(swapped, swapped), metrics.eer(swapped, swapped)):
        assert m.note == ""
    ranks = np.append(np.ones(99, int), 2)
    assert [metrics.rank_within(ranks, k).note for k in (1, 2)] == [
        miss,
        "no misses: only a bound is known",
    ]
    folds = kfold_accuracy(np.tile([1.0, 0.0], 20), np.tile([True, False], 20), np.arange(40) // 20)
    assert folds.note == "no errors: only a bound is known"
    assert metrics.errors_at(genuine, impostor, 1.0)["fnmr@threshold=1.0"].note == miss
    searched = metrics.search_errors_at(genuine, np.ones(100, int), impostor, 1.0)
    assert [m.note for m in searched.values()] == [accept, miss, miss]


KINDS = ("false accepts", "misses")


@pytest.mark.parametrize("count", range(1, 13))
def test_every_way_to_a_threshold_warns_below_ten_false_accepts_alike(count):
    impostor, genuine = np.arange(100.0), np.append(np.zeros(20), [150.0, 99.0, 60.0])
    far = f"{count}e-2"
    whole = metrics.tpr_at_far(genuine, impostor, far)
    text = "only 1 false accept" if count == 1 else f"only {count} false accepts"
    assert whole.note == (f"{text}: unreliable (fewer than 10)" if count < 10 else "")
    for kept in (count + 1, 100):
        assert metrics.tpr_of_highest(far, genuine, impostor[::-1][:kept], 100) == whole
    with pytest.raises(ProtocolError, match=f"allows {count} false accepts"):
        metrics.tpr_of_highest(far, genuine, impostor[::-1][:count], 100)
    accepted = int((genuine >= whole.threshold).sum())
    assert metrics.tpr_estimate(far, whole.threshold, accepted, 23, count, 100) == whole


def test_all_may_be_accepted_but_failures():
    impostor = np.array([0.5, -INF, 0.1])
    whole = metrics.tpr_at_far([0.3, -INF], impostor, "1")
    assert (whole.value, whole.false_accepts) == (0.5, 2)
    assert whole.threshold == metrics.threshold_above(-INF) == np.finfo(float).min
    assert metrics.tpr_of_highest("1", np.array([0.3, -INF]), np.sort(impostor)[::-1], 3) == whole


@pytest.mark.parametrize(("far", "few"), [("9e-2", True), ("0.1", False)])
def test_ten_false_accepts_are_enough_and_nine_are_few(far, few):
    e = metrics.tpr_at_far([200.0] * 10 + [0.0] * 10, np.arange(100.0), far)
    assert (e.value, e.false_accepts) == (0.5, 9 if few else 10)
    assert ("9" in e.note) == few and bool(e.note) == few


def test_no_answer_is_none_with_a_reason():
    assert metrics.tpr_at_far([], [0.1] * 20, "0.5").note == "no genuine comparisons"
    assert metrics.auc([], [1.0]).value is None
    assert "impostor" in metrics.eer([1.0], []).note
    e = metrics.tpr_at_far([1.0], [0.1] * 999, "1e-3")
    assert e.note == "FAR 1e-3 needs at least 1,000 impostor comparisons, there are 999"


@pytest.mark.parametrize("bad", [[math.nan], [INF], [[0.1]]])
def test_what_is_not_a_score_is_refused(bad):
    for f in (metrics.roc, metrics.auc, metrics.eer):
        with pytest.raises(ProtocolError):
            f(bad, [0.0])
        with pytest.raises(ProtocolError):
            f([0.0], bad)


def test_ranks_cmc_and_open_set():
    rng = np.random.default_rng(3)
    s = rng.normal(size=(40, 12)).round(1)
    s[3, 5] = s[7, 0] = -INF
    mate = rng.integers(0, 12, 40)
    mate[3] = 5
    rank = metrics.mate_rank(s, mate)
    for q in range(40):
        above = sum(s[q, c] > s[q, mate[q]] for c in range(12))
        assert rank[q] == (0 if s[q, mate[q]] == -INF else 1 + above)
    curve = metrics.cmc(rank, 12)
    assert curve.tolist() == [sum(1 <= r <= k for r in rank) / 40 for k in range(1, 13)]
    assert curve[-1] == 39 / 40

    own, best = s[np.arange(40), mate], rng.normal(1, 1, 200).round(1)
    e = metrics.dir_at_fpir(own, rank, best, "0.1", within=2)
    t = min(t for t in [*own, *best, 9.0] if t > -INF and accepted(best, t) <= 20)
    assert e.value == sum(x >= t and 1 <= r <= 2 for x, r in zip(own, rank, strict=True)) / 40
    assert e.far == accepted(best, t) / 200
    none = metrics.dir_at_fpir(own, rank, best, "1e-3")
    assert none.note == "FPIR 1e-3 needs at least 1,000 searches without a mate, there are 200"
    nobody = metrics.dir_at_fpir([], [], best, "0.1")
    assert (nobody.value, nobody.note) == (None, "no searches with a mate")
    assert math.isnan(metrics.cmc([], 1)[0])


def test_a_mate_is_a_column_of_the_gallery_and_nobody_searching_is_no_error():
    s = np.zeros((2, 3))
    assert metrics.mate_rank(s, [0, 2]).tolist() == [1, 1]
    for mate, message in (
        ([0, 3], "mates are columns 0 to 3 of 3"),
        ([-1, 0], "mates are columns -1 to 0 of 3"),
        ([0], r"scores of shape \(2, 3\) have mates of shape \(1,\)"),
    ):
        with pytest.raises(ProtocolError, match=message):
            metrics.mate_rank(s, mate)
    with pytest.raises(ProtocolError, match=r"scores of shape \(2,\) have mates of shape \(2,\)"):
        metrics.mate_rank([0.0, 1.0], [0, 0])
    with pytest.raises(ProtocolError, match="ranks have shape"):
        metrics.cmc([[1, 2]], 2)
    for gallery in (0, 1, 3):
        assert metrics.mate_rank(np.empty((0, gallery)), []).tolist() == []


def test_counts_below_one_false_accept_or_without_a_threshold_have_no_rate():
    below = metrics.tpr_estimate("1e-3", 0.5, 1, 1, 0, 999)
    assert (below.value, below.n) == (None, 1000)
    assert metrics.tpr_estimate("0.5", None, 0, 1, 0, 10).value is None
    assert metrics.tpr_estimate("0.5", 0.5, 3, 4, 1, 10).value == 0.75


def test_the_threshold_lies_just_above_the_highest_rejected_impostor():
    i = np.random.default_rng(0).permutation(1000) * 1.0
    for far, bar in (("1e-3", 998.0), ("0.25", 749.0), ("0.999", 0.0), ("1", -np.inf)):
        assert metrics.threshold_at_far(i, far) == np.nextafter(bar, np.inf)
    assert metrics.threshold_at_far(i, "9e-4") is None
    just_above = np.nextafter(998.0, np.inf)
    assert metrics.tpr_at_far([just_above, 998.0], i, "1e-3").value == 0.5
    assert "FAR 0.3 needs at least 4 " in metrics.tpr_at_far([1.0], [0.0] * 3, "0.3").note


def test_the_first_of_several_wrong_scores_is_named():
    with pytest.raises(ProtocolError, match="genuine score 1 is nan"):
        metrics.checked_scores([0.0, math.nan, INF], "genuine")
    for text in (" 0.1", "1e-3\n", "1_0e-3"):
        with pytest.raises(ProtocolError, match="decimal"):
            metrics.exact_rate(text)


@given(SCORES, SCORES, SCORE | st.sampled_from([5e-324, -0.0, 1e308, 2.0]))
def test_errors_at_a_threshold_are_shares_and_its_text_accepts_the_same_pairs(g, i, threshold):
    if threshold == -INF:
        with pytest.raises(ProtocolError, match="a threshold is -inf"):
            metrics.errors_at(g, i, threshold)
        return
    found = metrics.errors_at(g, i, threshold)
    text = metrics.threshold_text(threshold)
    fmr, fnmr = found[f"fmr@threshold={text}"], found[f"fnmr@threshold={text}"]
    assert fmr.value == accepted(i, float(text)) / len(i) == accepted(i, threshold) / len(i)
    assert fnmr.value == 1 - accepted(g, float(text)) / len(g) or fnmr.value == pytest.approx(
        1 - accepted(g, threshold) / len(g)
    )
    assert fmr.false_accepts == accepted(i, threshold) and fmr.threshold == threshold


def test_errors_without_comparisons_have_no_value():
    fmr, fnmr = metrics.errors_at([], [], 0.5).values()
    assert (fmr.value, fnmr.value) == (None, None) and fmr.note and fnmr.note


@pytest.mark.parametrize("block", [1, 7, 1 << 17])
def test_scores_are_rounded_once_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(similarity, "_BLOCK", block)
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, 5, 3)).astype(np.float32)
    y[0] = [2**40, 2**-40, -(2**40)]  # the sum cancels all but the middle
    x[0] = [1, 1, 1]
    i, j = (k.ravel() for k in np.indices((5, 5)))
    left, right = ([[Fraction(v) for v in row] for row in side.tolist()] for side in (x[i], y[j]))
    pairs = list(zip(left, right, strict=True))
    product = [float(sum(u * v for u, v in zip(a, b, strict=True))) for a, b in pairs]
    distance = [float(-sum((u - v) ** 2 for u, v in zip(a, b, strict=True))) for a, b in pairs]
    assert similarity.exact_scores(x, i, y, j).tolist() == product
    assert similarity.minus_squared_distances(x, i, y, j).tolist() == distance
    assert product[0] == 2.0**-40
