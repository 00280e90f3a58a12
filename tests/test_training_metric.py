"""The metric object: the numbers of the protocols, to the bit, however the vectors come."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit import PairSet, verification
from evalkit.errors import ProtocolError
from evalkit.protocols import people
from evalkit.training import VerificationMetric

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages

RNG = np.random.default_rng(2)
WHO = np.arange(60) % 15
X = (RNG.normal(size=(15, 6))[WHO] + RNG.normal(0, 0.8, (60, 6))).astype(np.float32)
FARS = ["1e-1", "1e-2"]


def batches(metric: VerificationMetric, size: int, **options: Any) -> dict[str, float]:
    for o in range(0, 60, size):
        metric.update(X[o : o + size], WHO[o : o + size], **options)
    return metric.compute()


def test_batches_give_the_numbers_of_the_protocols_to_the_bit() -> None:
    metric = VerificationMetric(fars=FARS)
    found = batches(metric, 7)
    assert found == people.evaluate(X, WHO, fars=FARS).flat()
    assert {"eer", "rank-1", "tpr@far=1e-2"} <= set(found)
    a, b = np.array([*itertools.combinations(range(60), 2)]).T
    listed = verification.evaluate(X, PairSet(a, b, WHO[a] == WHO[b]), WHO, fars=FARS)
    for name in ("eer", "auc", "tpr@far=1e-1", "tpr@far=1e-2"):
        assert metric.report is not None
        ours, theirs = metric.report[name], listed[name]
        assert (ours.value, ours.threshold, ours.n) == (theirs.value, theirs.threshold, theirs.n)
    metric.reset()
    assert batches(metric, 60) == found


@pytest.mark.parametrize("scale", [1.0, 1e-60, 1e60])
def test_doubles_beyond_float32_are_what_they_are_to_the_protocol(scale: float) -> None:
    """Those below all of float32 became vectors of zeros, alike to everybody."""
    x = np.random.default_rng(0).normal(size=(20, 4)) * scale
    who = np.repeat(np.arange(10), 2)
    metric = VerificationMetric(fars=["1e-1"])
    metric.update(x[:8], who[:8])
    metric.update(x[8:], who[8:])
    metric.compute()
    expected = people.evaluate(x, who, fars=["1e-1"])
    assert metric.report is not None
    assert metric.report.metrics == expected.metrics
    assert metric.report.failures == expected.failures


def test_an_image_that_comes_twice_counts_once() -> None:
    metric = VerificationMetric(fars=FARS)
    names = [f"{n:02d}" for n in range(60)]
    for rows in (np.arange(40), np.arange(30, 60)):
        metric.update(X[rows], WHO[rows], keys=[names[row] for row in rows])
    assert metric.compute() == people.evaluate(X, WHO, fars=FARS, keys=names).flat()
    metric.update(X[:2], WHO[:2])
    with pytest.raises(ProtocolError, match="72 vectors have 70 keys"):
        metric.compute()


def test_tensors_and_mistakes() -> None:
    torch = pytest.importorskip("torch")
    metric = VerificationMetric(fars=FARS)
    with pytest.raises(ProtocolError, match="a metric of no vectors"):
        metric.compute()
    with pytest.raises(ProtocolError, match="nothing is computed yet"):
        metric.plot()
    metric.update(torch.tensor(X, requires_grad=True), torch.tensor(WHO))
    assert metric.compute() == people.evaluate(X, WHO, fars=FARS).flat()
    with pytest.raises(ProtocolError, match="expected"):
        metric.update(X[:, None], WHO)


HASHES = np.random.default_rng(0).integers(2**62, 2**64, 15, dtype=np.uint64, endpoint=False)


@pytest.mark.parametrize("hashes", [HASHES, np.array([f"p{h}" for h in HASHES])])
def test_hashes_and_names_are_one_person_in_every_batch(hashes: np.ndarray) -> None:
    expected = people.evaluate(X, WHO, fars=FARS).flat()
    metric = VerificationMetric(fars=FARS)
    for size in (7, 1, 60):
        for o in range(0, 60, size):
            metric.update(X[o : o + size], hashes[WHO[o : o + size]])
        assert metric.compute() == expected
        metric.reset()


def test_buffers_may_be_filled_again_after_an_update() -> None:
    metric, rows, who, names = VerificationMetric(fars=FARS), X[:20].copy(), WHO[:20].copy(), [""]
    for o in range(0, 60, 20):
        rows[:], who[:], names[:] = X[o : o + 20], WHO[o : o + 20], map(str, range(o, o + 20))
        metric.update(rows, who, names)
    expected = people.evaluate(X, WHO, fars=FARS, keys=[*map(str, range(60))])
    assert metric.compute() == expected.flat()


def test_it_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    metric = VerificationMetric(fars=FARS)
    batches(metric, 20)
    assert metric.plot("roc").axes
