import math

import numpy as np
import pytest

from evalkit.errors import ProtocolError
from evalkit.protocols.uncertainty.paired import (
    decision_difference,
    differences,
    mcnemar,
    mcnemar_noticeable,
)
from evalkit.protocols.uncertainty.sample import sample_of

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


@pytest.mark.parametrize("background", [0, 12, 60])
def test_the_noticeable_loss_is_noticed_four_times_in_five(background: int) -> None:
    rng = np.random.default_rng(0)
    k = mcnemar_noticeable(background)

    def power(k: int) -> float:
        lost, gained = rng.poisson(background / 2 + k, 8000), rng.poisson(background / 2, 8000)
        return float(np.mean([mcnemar(a, b) <= 0.05 for a, b in zip(lost, gained, strict=True)]))

    assert power(k) > 0.785
    assert power(k - 1) < 0.815


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
        assert d.noticeable > 0


def test_a_worse_model_is_seen_and_an_equal_one_is_not() -> None:
    from evalkit.protocols.metrics import tpr_at_far

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
    assert -1 <= d.low < d.value < d.high
    assert (d.high < 0) == (people > 5)


def test_accuracy_uses_mcnemar_on_the_decisions() -> None:
    base, other = models(1, 0.5)
    a, b = sample_of(base), sample_of(other)
    d = differences(a, b, ["accuracy"], {"accuracy": -0.01}, draws=50)["accuracy"]
    assert a.decided is not None
    assert b.decided is not None
    assert d.test == "McNemar"
    assert (d.lost, d.gained, d.p) == decision_difference(a.decided, b.decided)
    assert d.noticeable == mcnemar_noticeable((d.lost or 0) + (d.gained or 0)) / 2000


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ProtocolError, match="3 decisions cannot be paired with 2"):
        decision_difference(np.ones(3, bool), np.ones(2, bool))
    with pytest.raises(ProtocolError, match="-1 decisions lost"):
        mcnemar(-1, 0)
    assert not math.isnan(mcnemar(0, 0))
