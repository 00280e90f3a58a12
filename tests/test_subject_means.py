"""TPR as a mean over people, beside the one over pairs that a person of many images decides."""

from collections.abc import Callable

import numpy as np
import pytest

from evalkit.protocols import all_vs_all, people, score, trillion, verification
from evalkit.protocols.subject_means import with_subject_means
from evalkit.protocols.uncertainty.influence import influence
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SearchOutcomes, from_arrays
from evalkit.protocols.uncertainty.paired import differences
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.types import Estimate, PairSet, Report
from evalkit.verdict.compare import compare
from evalkit.verdict.gate import check

pytestmark = pytest.mark.once

FARS = ("0.1", "0.3")
RNG = np.random.default_rng(3)
WHO = np.repeat([5, 0, 7, 2, 9], [7, 2, 3, 2, 1])  # 21 of 26 genuine pairs are of person 5
X = (RNG.normal(size=(10, 6))[WHO] + 0.9 * RNG.normal(size=(len(WHO), 6))).astype(np.float32)
X[8] = np.nan  # a failed image of person 0, whose pair is missed
LEFT, RIGHT = np.triu_indices(len(WHO), 1)
PAIRS = PairSet(LEFT, RIGHT, WHO[LEFT] == WHO[RIGHT])
DISTRACTORS = RNG.normal(size=(30, 6)).astype(np.float32)
MOST = "one person has 81% of the 26 genuine pairs"


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def cosine() -> np.ndarray:
    x = unit(X).astype(np.float64)
    found = np.einsum("ij,ij->i", x[LEFT], x[RIGHT])
    return np.where(np.isfinite(found), found, -np.inf)


def of_scores() -> Report:
    return score.evaluate(cosine(), PAIRS.genuine, pairs=PAIRS, subject=WHO, fars=FARS)


def of_distractors() -> Report:
    rows = np.concatenate([X, DISTRACTORS])
    who = np.concatenate([WHO, np.full(30, -1)])
    return trillion.evaluate(rows, who, fars=FARS, fpir="0.2")


REPORTS: list[Callable[[], Report]] = [
    lambda: all_vs_all.evaluate(X, WHO, fars=FARS),
    lambda: trillion.evaluate_one_set(X, WHO, fars=FARS),
    of_distractors,
    lambda: people.evaluate(X, WHO, fars=FARS),
    lambda: verification.evaluate(X, PAIRS, WHO, fars=FARS),
    lambda: verification.evaluate(X, PAIRS, fars=FARS),
    of_scores,
]


@pytest.mark.parametrize("measure", REPORTS)
def test_every_person_counts_once_at_the_threshold_of_the_pairs(
    measure: Callable[[], Report],
) -> None:
    report = measure()
    for far in FARS:
        pooled = report.metrics[f"tpr@far={far}"]
        mean = report.metrics[f"tpr@far={far},mean=subject"]
        total, accepted, pairs = 0.0, 0, 0
        for person in (0, 2, 5, 7):
            own = [
                s >= pooled.threshold
                for s, a, b in zip(cosine(), LEFT, RIGHT, strict=True)
                if WHO[a] == WHO[b] == person
            ]
            hits = sum(own)
            total += hits / len(own)
            accepted, pairs = accepted + hits, pairs + len(own)
        assert pooled.value == accepted / pairs
        assert mean.value == pytest.approx(total / 4, abs=1e-15) != pooled.value
        assert (mean.threshold, mean.far, mean.n) == (pooled.threshold, pooled.far, pooled.n)
        assert mean.note == f"{MOST}; {pooled.note}".removesuffix("; ")
        assert mean.people == 4 and mean.low is not None and mean.high is not None
        assert 0 <= mean.low <= mean.value <= mean.high <= 1
        names = list(report.metrics)
        assert names.index(f"tpr@far={far},mean=subject") == names.index(f"tpr@far={far}") + 1


@pytest.mark.parametrize("measure", REPORTS)
def test_its_value_is_that_of_the_outcomes_whose_shares_are_rounded(
    measure: Callable[[], Report],
) -> None:
    report, ignored = measure(), ["comparisons"]
    paired = compare(report, report, ignore=ignored, draws=2).differences
    assert {f"tpr@far={far},mean=subject" for far in FARS} <= paired.keys()
    assert check(report, report, ignore=ignored).passed


AT = {"tpr@far=0.1": Estimate(value=0.5, threshold=0.5), "auc": Estimate(value=0.9)}


def listed(sizes: list[int]) -> PairOutcomes:
    """Genuine pairs of people, so many each."""
    who = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(who))
    return PairOutcomes(
        score=np.linspace(0, 1, len(who)),
        genuine=np.ones(len(who), bool),
        left=rows,
        right=rows,
        left_subject=who,
        right_subject=who,
    )


@pytest.mark.parametrize(
    ("sizes", "added"),
    [
        ([3, 3, 3], False),
        ([4, 3, 3], True),
        ([2] + 18 * [1], False),
        ([3] + 18 * [1], True),
    ],
)
def test_it_stands_there_where_one_person_has_over_a_tenth_and_not_all_alike(
    sizes: list[int], added: bool
) -> None:
    assert ("tpr@far=0.1,mean=subject" in with_subject_means(AT, listed(sizes))) is added


def test_it_takes_people_who_are_known_and_a_rate_that_has_a_value() -> None:
    alone = PairOutcomes(score=np.ones(4), genuine=np.array([True, True, True, False]))
    searched = SearchOutcomes(rank=np.ones(3, int), rank_subject=np.array([0, 0, 1]))
    for unknown in (alone, searched):
        assert with_subject_means(AT, unknown) == AT
    none = {"tpr@far=1e-9": Estimate(value=None), "tpr@far=0.1,rule=nearest-far": AT["tpr@far=0.1"]}
    assert with_subject_means(none, listed([4, 3, 3])) == none


def test_two_models_are_compared_by_what_each_person_changes() -> None:
    name = "tpr@far=0.3,mean=subject"
    base = all_vs_all.evaluate(X, WHO, fars=FARS)
    worse = X + RNG.normal(size=X.shape).astype(np.float32)
    other = all_vs_all.evaluate(worse, WHO, fars=FARS)
    a, b = (sample_of(from_arrays(r.outcomes or {})) for r in (base, other))
    before, after = base.metrics[name].value, other.metrics[name].value
    assert before is not None and after is not None
    added = influence(a, name)
    assert added is not None and added.mean == pytest.approx(before)
    assert added.people == 4 and set(added.count) == {1.0}
    found = differences(a, b, [name], {name: after - before}, draws=60)[name]
    assert found.people == 4 and 0 < found.error < 1
    low, high = found.interval(0.05)
    assert low <= after - before <= high
