import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import ProtocolError
from evalkit.protocols.metrics import auc, eer, tpr_at_far
from evalkit.protocols.uncertainty.influence import Influence, influence, of_impostors
from evalkit.protocols.uncertainty.paired import (
    Difference,
    decision_difference,
    differences,
    holm,
    mcnemar,
    of_decisions,
)
from evalkit.protocols.uncertainty.power import Spread
from evalkit.protocols.uncertainty.resampling import paired_draws
from evalkit.protocols.uncertainty.sample import ComparisonSample, sample_of

pytestmark = pytest.mark.once

# The gate arithmetic of 6,000 pairs; by hand: 2 * sum of binomial coefficients / 2^n.
GOLDEN = [(6, 0, 2 / 2**6), (8, 2, 2 * (1 + 10 + 45) / 2**10), (12, 2, 2 * (1 + 14 + 91) / 2**14)]


@pytest.mark.parametrize(("lost", "gained", "p"), GOLDEN)
def test_mcnemar_by_hand(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p, abs=1e-15)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_mcnemar_equals_scipy_and_never_exceeds_one() -> None:
    from scipy.stats import binomtest

    for lost in range(12):
        for gained in range(12):
            expected = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
            assert mcnemar(lost, gained) == pytest.approx(expected)


def models(seed: int, worse: float) -> tuple[dict, dict]:
    """Two models with the same hard comparisons; `worse` is taken from the other's genuine."""
    rng = np.random.default_rng(seed)
    n, people = 2000, 200
    genuine = np.arange(n) % 2 == 0
    left = rng.integers(0, people, n)
    right = np.where(genuine, left, (left + rng.integers(1, people, n)) % people)
    shared = np.where(genuine, 2.5, 0.0) + rng.normal(0, 1, n) + rng.normal(0, 0.5, people)[left]
    common = {
        "genuine": genuine,
        "left": left,
        "right": right,
        "left_subject": left,
        "right_subject": right,
        "fold": (np.arange(n) // 2 % 10).astype(np.int16),
    }
    base = {**common, "score": shared + rng.normal(0, 0.2, n)}
    other = {**common, "score": shared + rng.normal(0, 0.2, n) - worse * genuine}
    return base, other


NAMES = ["accuracy", "auc", "eer", "tpr@far=1e-1"]


def test_a_model_does_not_differ_from_itself() -> None:
    base, _ = models(0, 0)
    s = sample_of(base)
    found = differences(s, s, NAMES, dict.fromkeys(NAMES, 0.0), draws=50)
    assert set(found) == set(NAMES)
    for d in found.values():
        assert (d.value, d.low, d.high, d.p) == (0, 0, 0, 1)
        assert d.detectable > 0


def test_a_worse_model_is_seen_and_an_equal_one_is_not() -> None:
    def run(worse: float, seed: int) -> float:
        base, other = models(seed, worse)
        v = [
            tpr_at_far(o["score"][o["genuine"]], o["score"][~o["genuine"]], "1e-1").value
            for o in (base, other)
        ]
        assert v[0] is not None
        assert v[1] is not None
        values = {"tpr@far=1e-1": v[1] - v[0]}
        return differences(sample_of(base), sample_of(other), values, values, draws=200)[
            "tpr@far=1e-1"
        ].p

    assert max(run(0.3, s) for s in range(3)) < 0.01
    false_alarms = sum(run(0.0, s) < 0.05 for s in range(40))
    assert false_alarms <= 6  # 2 expected


@pytest.mark.parametrize("people", [1, 2, 5, 40])
def test_few_people_are_no_certainty_however_many_pairs(people: int) -> None:
    """The other model loses every second genuine pair of everybody: no draw tells people apart."""
    images = 20
    subject = np.repeat(np.arange(people + 2), images)
    left = np.repeat(np.arange(people * images), 2)
    right = (left // images * images + (left + 1) % images).astype(np.int64)
    right[1::2] = (people * images + left[1::2] % (2 * images)).astype(np.int64)
    genuine = subject[left] == subject[right]
    base = {"genuine": genuine, "left": left, "right": right}
    base |= {"left_subject": subject[left], "right_subject": subject[right]}
    score = np.where(genuine, 1.0, np.linspace(-0.1, 0.1, len(left)))
    models_ = (base | {"score": s} for s in (score, np.where(genuine & (left % 2 == 0), -1, score)))
    a, b = map(sample_of, models_)
    name = "tpr@far=1e-1"
    d = differences(a, b, [name], {name: -0.5}, draws=100)[name]
    assert d.p == (2.0 ** (1 - people) if people < 40 else pytest.approx(0, abs=1e-11))
    assert d.freedom == max(people - 1, 1) and d.people == people
    assert -1 <= d.low < d.value < d.high
    assert (d.high < 0) == (people > 5)


@pytest.mark.parametrize("worse", [0.0, 0.5])
def test_decisions_are_counted_and_tested_by_subject(worse: float) -> None:
    base, other = models(1, worse)
    a, b = sample_of(base), sample_of(other)
    assert a.decided is not None
    assert b.decided is not None
    gap = float(b.decided.mean() - a.decided.mean())
    d = differences(a, b, ["accuracy"], {"accuracy": gap})["accuracy"]
    lost, gained, _ = decision_difference(a.decided, b.decided)
    assert (d.lost, d.gained, d.test) == (lost, gained, "subject bootstrap")
    assert d.mcnemar is None  # everybody is in many comparisons


@pytest.mark.parametrize("people", [5, 200])
def test_accuracy_varies_as_its_draws_or_as_its_decisions_whichever_is_more(people: int) -> None:
    base, other = models(2, 0.3)
    for o in (base, other):  # the same pairs, of fewer people
        o["left_subject"] = o["left_subject"] % people
        away = 1 + o["right_subject"] % (people - 1)
        o["right_subject"] = np.where(o["genuine"], 0, away) + o["left_subject"]
        o["right_subject"] %= people
    a, b = sample_of(base), sample_of(other)
    d = differences(a, b, ["accuracy"], {"accuracy": -0.01}, draws=200)["accuracy"]
    before, after = influence(a, "accuracy"), influence(b, "accuracy")
    assert before is not None and after is not None
    change, drawn = after.minus(before), paired_draws(a, b, ["accuracy"], 200)["accuracy"]
    of_draws = drawn.std(ddof=1) * math.sqrt((people + 1) * (people - 1)) / (people - 2)
    assert d.error == pytest.approx(max(of_draws, math.sqrt(change.variance)))
    assert d.freedom == min(change.freedom, people - 1) and d.people == people


@pytest.mark.parametrize(("people", "accepts"), [(10, 6), (40, 6), (40, 300)])
def test_the_error_of_draws_has_the_freedom_of_both_sides(people: int, accepts: int) -> None:
    """Few people, and few of them behind the accepts that one model alone has, count."""
    rng, name, n = np.random.default_rng(people), f"tpr@far={accepts / 600}", 1200
    genuine, left = np.arange(n) % 2 == 0, rng.integers(0, people, n)
    right = np.where(genuine, left, (left + 1 + rng.integers(0, people - 1, n)) % people)
    listed = {"genuine": genuine, "left": left, "right": right}
    listed |= {"left_subject": left, "right_subject": right}
    shared = 2 * genuine + rng.normal(size=people)[left] + rng.normal(size=n)
    a, b = (sample_of(listed | {"score": shared + rng.normal(0, 0.4, n)}) for _ in range(2))
    d = differences(a, b, [name], {name: 0.01}, draws=200)[name]
    spread = paired_draws(a, b, [name], 200)[name].std(ddof=1)
    assert d.error == pytest.approx(spread * np.sqrt((people + 1) * (people - 1)) / (people - 2))
    before, after, apart = influence(a, name), influence(b, name), of_impostors(a, b, name)
    assert before is not None and after is not None and apart is not None
    alone = set.symmetric_difference(*({*s.place[:accepts].tolist()} for s in (a, b)))
    assert len(alone) == np.count_nonzero(np.round(apart.added, 9))  # of 600 impostors
    mine, change = min(apart.freedom, people - 1), after.minus(before)
    part = min(1, change.variance / d.error**2)
    expected = (part * change.freedom**-0.5 + (1 - part) * mine**-0.5) ** -2
    assert d.freedom == pytest.approx(min(people - 1, expected)) and d.freedom < people - 1
    assert d.spread.thresholds == pytest.approx(1 - part)  # what people's own pairs do not make
    seen = max(0.0, 0.01 - d.error**2 / 0.01)
    rest = max(0.0, d.error**2 - d.spread.added(seen))
    assert d.spread.equal == pytest.approx(rest / d.spread.growth(seen))


def test_where_no_impostor_differs_freedom_is_that_of_the_genuine_side() -> None:
    """Five of 40 people lose pairs; what draws of thresholds add is of all people."""
    base, _ = models(3, 0.0)
    people, name = base["left_subject"] % 40, "tpr@far=1e-1"
    base |= {"left_subject": people, "right_subject": (people + ~base["genuine"] * 7) % 40}
    lost = base["genuine"] & (people < 5) & (np.arange(2000) % 4 == 0)
    a, b = sample_of(base), sample_of(base | {"score": base["score"] - 3 * lost})
    d = differences(a, b, [name], {name: -0.03}, draws=200)[name]
    before, after = influence(a, name), influence(b, name)
    assert before is not None and after is not None and of_impostors(a, b, name) is None
    change = after.minus(before)
    part = min(1, change.variance / d.error**2)
    expected = (part * change.freedom**-0.5 + (1 - part) * 39**-0.5) ** -2
    assert part > 0.8 and d.freedom == pytest.approx(expected) and 4 < d.freedom < 8


@pytest.mark.parametrize("value", [0.0, 0.04])
def test_a_difference_of_impostors_alone_varies_as_its_draws_and_person_by_person(
    value: float,
) -> None:
    """FMR has no genuine side: half of the people compared are counted, two to a pair."""
    rng, name, n, people = np.random.default_rng(3), "fmr@threshold=1", 800, 40
    genuine, left = np.arange(n) % 2 == 0, np.arange(n) // 2 % people
    right = np.where(genuine, left, (left + 1 + rng.integers(0, people - 1, n)) % people)
    listed = {"genuine": genuine, "left": left, "right": right}
    listed |= {"left_subject": left, "right_subject": right}
    shared = 2 * genuine + rng.normal(size=n)
    a, b = (sample_of(listed | {"score": shared + rng.normal(0, 0.4, n)}) for _ in range(2))
    d = differences(a, b, [name], {name: value}, draws=200)[name]
    spread = paired_draws(a, b, [name], 200)[name].std(ddof=1)
    assert d.error == pytest.approx(max(spread * np.sqrt(21 * 19) / 18, value / 20))
    assert (d.people, d.freedom, d.test) == (20, 19, "subject bootstrap")
    assert (d.lost, d.gained, d.mcnemar) == (None, None, None)
    beyond = max(0.0, value - d.error**2 / value) if value else 0.0  # of what is seen
    expected = {"equal": max(0.0, d.error**2 - beyond / 20), "freedom": 19, "per_change": 1 / 20}
    expected |= {"per_error": 0, "error": 0, "thresholds": 0}
    assert asdict(d.spread) == pytest.approx(expected)


# Of 100 people with four searches each: five lose all of theirs, or four lose one each.
ALL_FOUR = (5 * 3.8**2 + 95 * 0.2**2) * 100 / 99 / 400**2
ONE_EACH = (4 * 0.96**2 + 96 * 0.04**2) * 100 / 99 / 400**2
BEYOND = 0.01 - ONE_EACH / 0.01  # of the drop seen, by its own error


@pytest.mark.parametrize(
    ("errs", "changes", "equal", "per_change", "per_error"),
    [
        (False, False, 0, 1 / 100, 0),  # nothing is known: person by person
        (True, False, 0, ALL_FOUR / 0.05, 0),  # changes are taken to come as the errors do
        (False, True, 0, ONE_EACH / 0.01, 1 / 100 - ONE_EACH / 0.01),
        (True, True, None, ONE_EACH / 0.01, ALL_FOUR / 0.05 - ONE_EACH / 0.01),
    ],
)
def test_what_a_drop_adds_is_learned_from_the_changes_and_the_errors_of_the_base(
    errs: bool, changes: bool, equal: float | None, per_change: float, per_error: float
) -> None:
    who, rank = np.repeat(np.arange(100), 4), np.ones(400, int)
    rank[:20] += errs
    after = rank.copy()
    after[40:56:4] += changes
    a, b = (sample_of({"rank": r, "rank_subject": who}) for r in (rank, after))
    value, error = (-0.01, ONE_EACH) if changes else (0.0, 0.0)
    d = differences(a, b, ["rank-1"], {"rank-1": value})["rank-1"]
    assert (d.test, d.people, d.lost, d.gained) == ("subject t test", 100, 4 * changes, 0)
    assert d.error**2 == pytest.approx(error)
    if equal is None:
        equal = ONE_EACH - BEYOND * (per_change + BEYOND / (0.1 + BEYOND) * per_error)
    expected = {"equal": equal, "freedom": 4 if changes else 1, "error": 0.05 * errs}
    expected |= {"per_change": per_change, "per_error": per_error, "thresholds": 0}
    assert asdict(d.spread) == pytest.approx(expected, abs=1e-15)


def test_errors_that_come_more_singly_than_changes_add_nothing_to_them() -> None:
    who, rank = np.repeat(np.arange(100), 4), np.ones(400, int)
    rank[40:56:4] += 1
    after = rank.copy()
    after[:20] += 1
    a, b = (sample_of({"rank": r, "rank_subject": who}) for r in (rank, after))
    spread = differences(a, b, ["rank-1"], {"rank-1": -0.05})["rank-1"].spread
    assert (spread.per_error, spread.error) == (0, pytest.approx(0.01))
    assert spread.per_change == pytest.approx(ALL_FOUR / 0.05)


def test_decisions_lost_and_gained_are_those_that_changed() -> None:
    who = np.arange(10)
    before, after = (
        Influence(left=who, right=who, added=np.array(right), count=np.ones(10), subjects=10)
        for right in ([1.0, 1, 1, 0, 0, 1, 1, 0, 1, 1], [0.0, 0, 0, 1, 0, 1, 1, 0, 1, 1])
    )
    d = of_decisions(before, after, -0.2, "subject", 0.1)
    assert (d.lost, d.gained, d.people, d.alpha) == (3, 1, 10, 0.1)
    assert d.error == pytest.approx(math.sqrt((4 - 10 * 0.2**2) / 9 / 10))
    assert d.test == "subject t test" and d.mcnemar is None


def test_what_one_of_two_samples_lacks_is_not_compared() -> None:
    base, other = (sample_of(o) for o in models(0, 0.0))
    ranked = replace(base, rank=np.ones(9, int), rank_subject=np.arange(9))
    values = {"rank-1": 0.0, "auc": 0.0}
    assert set(differences(ranked, other, values, values, draws=9)) == {"auc"}
    assert set(differences(other, ranked, values, values, draws=9)) == {"auc"}


def test_at_the_least_p_that_so_few_people_can_have_nothing_is_proven() -> None:
    equal = Spread(equal=1e-6, freedom=4, per_change=0, per_error=0, error=0.1)
    d = Difference(value=-0.5, error=1e-3, freedom=4, people=5, test="", spread=equal)
    assert d.p == 1 / 16 and d.interval(1 / 16)[1] == 0.0
    of_many = replace(d, value=2e-3, people=50)
    beyond = 1 - 5 * math.sqrt(2) / 8  # P(|t| > 2) at 4 degrees of freedom
    assert of_many.p == pytest.approx(beyond)
    assert of_many.interval(beyond)[0] == pytest.approx(0, abs=1e-8)
    assert d.interval(1 / 15)[1] < 0
    assert replace(d, value=-0.999, error=0.1).interval(0.1)[0] == -1
    assert replace(d, value=0.999, error=0.1).interval(0.1)[1] == 1


def by_hand(left: list[int], right: list[int], change: list[float]) -> float:
    """Two-way clustered variance, pair of comparisons by pair of comparisons."""
    e = np.array(change) - np.mean(change)
    people = [{i, j} for i, j in zip(left, right, strict=True)]
    total = sum(
        x * y
        for x, p in zip(e, people, strict=True)
        for y, q in zip(e, people, strict=True)
        if p & q
    )
    n = len(set(left) | set(right))
    return total * n / (n - 1) / len(e) ** 2


def test_variance_and_freedom_by_hand() -> None:
    left, right = [0, 0, 1, 2, 3, 3, 4, 5], [0, 1, 1, 2, 3, 0, 4, 2]
    change = [1.0, 1, -1, 0, 0, 1, 0, 0]
    of = Influence(
        left=np.array(left),
        right=np.array(right),
        added=np.array(change),
        count=np.ones(8),
        subjects=6,
    )
    assert of.variance == pytest.approx(by_hand(left, right, change))
    assert of.nonzero == 3 and of.people == 6
    for k in (1, 3, 7):  # k of 400 people lose one comparison each
        who = np.arange(400)
        lost = Influence(
            left=who, right=who, added=-(who < k).astype(float), count=np.ones(400), subjects=400
        )
        assert lost.freedom == k
        assert lost.mean / math.sqrt(lost.variance) == pytest.approx(-math.sqrt(k), rel=0.02)
    one_pair = Influence(
        left=np.zeros(9, int),
        right=np.arange(1, 10),
        added=np.eye(9)[0],
        count=np.ones(9),
        subjects=10,
    )
    assert one_pair.freedom == 1  # two people, one comparison


def test_the_detectable_drop_by_hand() -> None:
    equal = Spread(equal=1e-4, freedom=1e9, per_change=0, per_error=0, error=0.1)
    assert equal.detectable(0.05) == pytest.approx((1.959964 + 0.841621) * 0.01)
    assert equal.margin(0.1) == pytest.approx((1.644854 + 0.841621) * 0.01)
    # Nothing differs yet: of 1,000 people each loses one.  P(Poisson(8.4) >= 6) is 0.84.
    single = Spread(equal=0, freedom=1, per_change=1e-3, per_error=0, error=0.1)
    assert 7 < 1000 * single.detectable(0.05) < 10
    assert Spread(equal=1, freedom=9, per_change=0, per_error=0, error=0.1).detectable(0.05) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31), st.sampled_from([2, 3, 6, 12, 40]), st.floats(0, 1.5), st.floats(1e-6, 1)
)
def test_p_is_below_alpha_exactly_where_the_interval_excludes_zero(
    seed: int, people: int, worse: float, alpha: float
) -> None:
    """Of every kind of metric, at every level, however few people and errors there are."""
    samples, names, values = any_models(seed, people, worse)
    found = differences(*samples, names, values, draws=20, seed=seed, alpha=alpha)
    assert set(found) == set(names)
    for name, d in found.items():
        assert d.value == values[name]
        assert -1 <= d.low <= d.value <= d.high <= 1
        assert 0 <= d.p <= 1 and 0 < d.detectable <= 1
        for level in (alpha, d.p * (1 + 1e-9), d.p * (1 - 1e-9), 0.05, 0.1, 1e-3):
            low, high = d.interval(level)
            assert (d.p < level) == (low > 0 or high < 0) or d.value == 0, (name, level)
        if d.value == 0:
            assert d.p == 1 and d.low <= 0 <= d.high


def any_models(
    seed: int, people: int, worse: float
) -> tuple[tuple[ComparisonSample, ComparisonSample], list[str], dict[str, float]]:
    """Pairs and searches of two models in one sample each: every kind of metric."""
    rng = np.random.default_rng(seed)
    n = 60
    genuine = np.arange(n) % 2 == 0
    left = rng.integers(0, people, n)
    right = np.where(genuine, left, (left + rng.integers(1, people, n)) % people)
    common = {"genuine": genuine, "left": left, "right": right, "fold": np.arange(n) // 6}
    common |= {"left_subject": left, "right_subject": right}
    shared = np.where(genuine, 2.5, 0.0) + rng.normal(size=n)
    looked, strangers = rng.integers(0, people, 30), rng.integers(0, people, 20)
    samples, found = [], []
    for drop in (0.0, worse):
        score = np.round(shared + rng.normal(0, 0.4, n) - drop * genuine, 1)
        of_pairs = sample_of({**common, "score": score})
        rank = 1 + rng.poisson(0.3 + drop, 30)
        mate = np.where(rank == 1, rng.normal(2 - drop, 1, 30), -np.inf)
        nonmate = rng.normal(size=20)
        of_searches = sample_of(
            {
                "rank": rank,
                "rank_subject": looked,
                "mate_score": mate,
                "mate_subject": looked,
                "nonmate_score": nonmate,
                "nonmate_subject": strangers,
            }
        )
        who = np.unique(np.concatenate([looked, strangers]))
        searches = of_searches.searches[0]
        searches = replace(
            searches,
            mate_subject=who[searches.mate_subject],
            nonmate_subject=who[searches.nonmate_subject],
        )
        samples.append(
            replace(
                of_pairs,
                subjects=people,
                **{k: np.unique(np.append(left, right))[getattr(of_pairs, k)] for k in SIDES},
                rank=rank,
                rank_subject=looked,
                searches=(searches,),
            )
        )
        assert of_pairs.decided is not None
        genuine_scores, impostor_scores = score[genuine], score[~genuine]
        found.append(
            {
                "accuracy": float(of_pairs.decided.mean()),
                "auc": auc(genuine_scores, impostor_scores).value,
                "eer": eer(genuine_scores, impostor_scores).value,
                "tpr@far=1e-1": tpr_at_far(genuine_scores, impostor_scores, "1e-1").value,
                "rank-1": float((rank == 1).mean()),
                "tpir@fpir=1e-1": float((mate > np.sort(nonmate)[-3]).mean()),
            }
        )
    values = {k: (found[1][k] or 0.0) - (found[0][k] or 0.0) for k in found[0]}
    return (samples[0], samples[1]), list(values), values


SIDES = ("genuine_subject", "left", "right")


def test_mcnemar_is_offered_where_nobody_is_in_two_comparisons_of_a_kind() -> None:
    n = 200
    rng = np.random.default_rng(0)
    genuine = np.arange(n) % 2 == 0
    left = np.arange(n) // 2
    apart = np.where(genuine, left, n // 2 + left)
    shared = np.where(genuine, 2.0, 0.0) + rng.normal(size=n)

    def offered(**named: np.ndarray) -> Difference:
        common = {"genuine": genuine, "fold": np.arange(n) // 20, **named}
        a, b = (sample_of({**common, "score": shared + rng.normal(0, 0.5, n)}) for _ in range(2))
        return differences(a, b, ["accuracy"], {"accuracy": 0.01})["accuracy"]

    def people(right: np.ndarray) -> dict[str, np.ndarray]:
        return {"left": left, "right": right, "left_subject": left, "right_subject": right}

    d = offered(**people(apart))
    assert d.lost is not None and d.gained is not None
    assert d.mcnemar == mcnemar(d.lost, d.gained)
    recurring = np.where(genuine, left, (left + 1) % (n // 2))  # now in two impostor pairs
    assert offered(**people(recurring)).mcnemar is None
    assert offered().mcnemar is None  # nobody knows who is in them
    who = np.repeat(np.arange(40), 5)
    rank, after = np.ones(200, int), 1 + (rng.random(200) < 0.1)
    a, b = (sample_of({"rank": r, "rank_subject": who}) for r in (rank, after))
    d = differences(a, b, ["rank-1"], {"rank-1": -0.1})["rank-1"]
    assert d.lost == int((after > 1).sum()) and d.mcnemar is None


def searches_of(
    rng: np.random.Generator, people: int, images: int, worse: float = 0.0
) -> list[dict[str, np.ndarray]]:
    """Ordered mate pairs among distractors, where a bad image spoils all pairs that it is in."""
    i, j = (v.ravel() for v in np.meshgrid(*[np.arange(images)] * 2, indexing="ij"))
    i, j = i[i != j], j[i != j]
    shared = rng.normal(1.2, 0.5, (people, 1)) + rng.normal(0, 0.5, (people, images))
    out = []
    for drop in (0.0, worse):
        own = shared + rng.normal(0, 0.4, (people, images)) - drop
        margin = own[:, i] + own[:, j] + rng.normal(0, 0.5, (people, len(i)))
        rank = np.where(margin.ravel() > 0, 1, 2)
        out.append({"rank": rank, "rank_subject": np.repeat(np.arange(people), len(i))})
    return out


def rejected(worse: float, trials: int, seed: int) -> tuple[float, float, float]:
    """Share of trials with p < 0.05, mean drop, median detectable; 30 people x 8 images."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(trials):
        a, b = searches_of(rng, 30, 8, worse)
        gap = float((b["rank"] == 1).mean() - (a["rank"] == 1).mean())
        d = differences(sample_of(a), sample_of(b), ["rank-1"], {"rank-1": gap})["rank-1"]
        found.append((d.p < 0.05, gap, d.detectable))
    p, gap, drop = (np.array(v, float) for v in zip(*found, strict=True))
    return float(p.mean()), float(-gap.mean()), float(np.median(drop))


def test_equal_models_are_called_different_as_often_as_alpha_says() -> None:
    """1,680 ordered pairs of 30 people; McNemar's test would find 4 times as many different."""
    alarms, _, _ = rejected(0.0, 400, 0)
    assert 0.025 < alarms < 0.08  # 0.05, one standard error 0.011


def test_the_detectable_drop_is_found_four_times_in_five() -> None:
    _, _, detectable = rejected(0.0, 60, 0)
    found, drop, there = rejected(0.27, 200, 1)
    assert drop == pytest.approx(detectable, rel=0.15)
    assert 0.7 < found < 0.9  # 0.8, one standard error 0.028
    assert there == pytest.approx(detectable, rel=0.25)  # not inflated by the drop just seen


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(p: list[float]) -> None:
    adjusted = holm(p)
    for alpha in (0.01, 0.05, 0.3):
        rejected_ = set()
        for step, k in enumerate(sorted(range(len(p)), key=p.__getitem__)):  # Holm's own steps
            if p[k] * (len(p) - step) >= alpha:
                break
            rejected_.add(k)
        assert {k for k, value in enumerate(adjusted) if value < alpha} == rejected_
    assert all(1 >= a >= b for a, b in zip(adjusted, p, strict=True))


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ProtocolError, match="3 decisions cannot be paired with 2"):
        decision_difference(np.ones(3, bool), np.ones(2, bool))
    with pytest.raises(ProtocolError, match="-1 decisions lost"):
        mcnemar(-1, 0)
    assert not math.isnan(mcnemar(0, 0))
