"""Counts of failed comparisons, held against loops over every comparison."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evalkit.protocols import all_vs_all, ijb, megaface, score, trillion, verification
from evalkit.protocols.failures import count_failures, count_failures_of_sets
from evalkit.protocols.one_to_many import ordered_genuine_pairs
from evalkit.types import Failures, PairSet

Row = tuple[bool, int]  # without a template; subject
rows = st.lists(st.tuples(st.booleans(), st.integers(-1, 3)), max_size=12)


def of_all_pairs(people: list[Row]) -> tuple[int, int, int]:
    genuine = impostor = 0
    for (lost, who), (other_lost, other) in itertools.combinations(people, 2):
        if lost or other_lost:
            same = who == other and who >= 0
            genuine, impostor = genuine + same, impostor + (not same)
    return sum(lost for lost, _ in people), genuine, impostor


def with_distractors(people: list[Row], distractors: list[bool]) -> tuple[int, int, int]:
    images, genuine, _ = of_all_pairs(people)
    impostor = sum(lost or nobody for lost, _ in people for nobody in distractors)
    return images + sum(distractors), genuine, impostor


def columns(people: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    lost, subject = np.array([list(r) for r in people], int).reshape(-1, 2).T
    return lost.astype(bool), subject


def counted(found: Failures) -> tuple[int, int, int]:
    return found.images, found.genuine, found.impostor


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=20))
def test_a_list_is_counted_pair_by_pair(pairs: list[tuple[bool, bool]]) -> None:
    rejected, genuine = np.array(pairs, bool).reshape(-1, 2).T
    found = count_failures(rejected, genuine, images=3, keys=["a"])
    assert found.genuine == sum(r and g for r, g in pairs)
    assert found.impostor == sum(r and not g for r, g in pairs)
    assert (found.images, found.keys) == (3, ("a",))


@given(rows)
def test_one_set_is_counted_as_all_its_pairs(people: list[Row]) -> None:
    assert counted(count_failures_of_sets(*columns(people))) == of_all_pairs(people)


@given(rows, st.lists(st.booleans(), max_size=12))
def test_every_row_meets_every_distractor(people: list[Row], nobody: list[bool]) -> None:
    found = count_failures_of_sets(*columns(people), np.array(nobody, bool))
    assert counted(found) == with_distractors(people, nobody)


def test_every_protocol_counts_what_a_loop_over_its_comparisons_counts() -> None:
    rng = np.random.default_rng(3)
    subject = np.repeat(np.arange(10), 4)
    x = rng.normal(size=(40, 8)).astype(np.float32)
    nobody = rng.normal(size=(25, 8)).astype(np.float32)
    x[[0, 5, 6, 22]] = np.nan
    nobody[[1, 9]] = np.inf
    lost, lost_nobody = (~np.isfinite(a).all(axis=1) for a in (x, nobody))
    people = list(zip(lost.tolist(), subject.tolist(), strict=True))
    assert counted(all_vs_all.evaluate(x, subject).failures) == of_all_pairs(people)
    assert counted(trillion.evaluate_one_set(x, subject).failures) == of_all_pairs(people)
    searched = with_distractors(people, lost_nobody.tolist())
    both, who = np.concatenate([x, nobody]), np.concatenate([subject, np.full(25, -1)])
    assert counted(trillion.evaluate(both, who).failures) == searched
    sets = {"distractors=10": nobody[:10], "distractors=25": nobody}
    assert counted(megaface.evaluate(x, subject, sets).failures) == searched
    left, right = (side.ravel() for side in np.triu_indices(40, 1))
    genuine = subject[left] == subject[right]
    listed = verification.evaluate(x, PairSet(left, right, genuine), keys=range(40))
    assert counted(listed.failures) == of_all_pairs(people)
    assert listed.failures.keys == ("0", "5", "6", "22")
    assert listed.outcomes is not None
    scored = score.evaluate(listed.outcomes["score"], genuine).failures
    assert counted(scored) == (0, *of_all_pairs(people)[1:])
    how = ijb.Pooling(flip="none", detector_score=False)
    templates = ijb.pool(x, np.arange(40), np.arange(40), None, how)
    compared = ijb.verify(templates, left, right, genuine).failures
    assert counted(compared) == of_all_pairs(people)
    gallery = ijb.Enrolled(np.arange(0, 20, 4), subject[:20:4])
    probe = ijb.Enrolled(np.arange(1, 40, 4), subject[1::4])
    found = ijb.identify(templates, [gallery], probe).failures
    mated = [lost[t] or lost[g] for t, g in zip(range(1, 20, 4), range(0, 20, 4), strict=True)]
    assert (found.genuine, found.impostor) == (sum(mated), int(lost[21::4].sum()))


def test_ordered_genuine_pairs_take_minus_one_as_a_subject() -> None:
    i, j = ordered_genuine_pairs(np.array([0, 0, -1, -1]))
    assert (i.tolist(), j.tolist()) == ([0, 1, 2, 3], [1, 0, 3, 2])
