"""A FAR or FPIR, text or float, one or several: the same rule wherever one is taken."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from evalkit.errors import ProtocolError
from evalkit.protocols import (
    all_vs_all,
    allpairs,
    blufr,
    ijb,
    lfw,
    megaface,
    metrics,
    quality,
    score,
    search,
    trillion,
    verification,
    ytf,
)
from evalkit.protocols.ijb import pair_scores
from evalkit.protocols.megaface.devkit import project, roc
from evalkit.protocols.metrics import compat
from evalkit.protocols.metrics.similarity import normalise
from evalkit.types import PairSet, Report

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw little: intervals must be equal here, not narrow."""
    monkeypatch.setattr(quality, "DRAWS", 60)


N = 60
RNG = np.random.default_rng(2)
WHO = np.repeat(np.arange(20), 3)
X = (RNG.normal(size=(20, 8))[WHO] + 0.8 * RNG.normal(size=(N, 8))).astype(np.float32)
PARTED = np.where(WHO < 10, WHO, -1)
LEFT, RIGHT = np.triu_indices(N, 1)
PAIRS = PairSet(LEFT, RIGHT, WHO[LEFT] == WHO[RIGHT], np.arange(len(LEFT)) % 10)
SCORE = np.einsum("ij,ij->i", X[LEFT], X[RIGHT]).astype(np.float64)
GENUINE, IMPOSTOR = SCORE[PAIRS.genuine], SCORE[~PAIRS.genuine]
TRIAL = blufr.Trial(np.arange(N), np.arange(0, 30, 3), np.setdiff1d(np.arange(N), range(0, 30, 3)))
POOLING = ijb.Pooling(flip="none", detector_score=False)
TEMPLATES = ijb.pool(X, np.arange(N), np.arange(N), None, POOLING)
FIRST, ODD = np.arange(0, 30, 3), np.setdiff1d(np.arange(N), range(0, 30, 3))
GALLERY, PROBE = ijb.Enrolled(FIRST, WHO[FIRST]), ijb.Enrolled(ODD, WHO[ODD])
HIT = np.arange(len(GENUINE)) % 3 + 1
SIDES = project(X[:30]), WHO[:30], project(X[30:])

Entry = tuple[Callable[..., Any], str]
ENTRIES: dict[str, Entry] = {
    "verification": (partial(verification.evaluate, X, PAIRS), "fars"),
    "lfw": (partial(lfw.evaluate, X, PAIRS), "fars"),
    "ytf": (partial(ytf.evaluate, X, np.arange(N), PAIRS), "fars"),
    "quality": (partial(quality.evaluate, X, PAIRS, WHO, discard="0.1"), "fars"),
    "quality, discard": (partial(quality.evaluate, X, PAIRS, WHO, fars="0.1"), "discard"),
    "score": (partial(score.evaluate, SCORE, PAIRS.genuine), "fars"),
    "all-vs-all": (partial(all_vs_all.evaluate, X, WHO), "fars"),
    "search": (partial(search.evaluate, X, PARTED, FIRST, ODD), "fpirs"),
    "search, sizes": (
        partial(
            search.fnir_by_size,
            *(normalise(X[ODD[:20]]), WHO[ODD[:20]], normalise(X[40:])),
            *(normalise(X[FIRST]), WHO[FIRST]),
            sizes=[5],
            depths=[1],
        ),
        "fpirs",
    ),
    "trillion": (partial(trillion.evaluate, X, PARTED), "fars"),
    "trillion, fpir": (partial(trillion.evaluate, X, PARTED, fars="0.1"), "fpir"),
    "trillion, one set": (partial(trillion.evaluate_one_set, X, WHO), "fars"),
    "megaface": (
        partial(megaface.evaluate, X[:30], WHO[:30], {"distractors=30": X[30:]}),
        "fars",
    ),
    "blufr, far": (partial(blufr.evaluate, X, WHO, [TRIAL, TRIAL], fpir="0.1"), "far"),
    "blufr, fpir": (partial(blufr.evaluate, X, WHO, [TRIAL, TRIAL], far="0.1"), "fpir"),
    "ijb 1:1": (partial(ijb.verify, TEMPLATES, LEFT, RIGHT, PAIRS.genuine, nearest=True), "fars"),
    "ijb": (partial(ijb.evaluate, TEMPLATES, galleries=[GALLERY], probe=PROBE), "fpirs"),
    "ijb 1:N": (partial(ijb.identify, TEMPLATES, [GALLERY], PROBE, insightface=True), "fpirs"),
    "ijb, insightface": (partial(ijb.insightface_tpir, GENUINE, GENUINE - 1, IMPOSTOR), "fpir"),
    "ijb, pair scores": (
        partial(pair_scores.tpr_at_far, pair_scores.screen(normalise(X), PAIRS)),
        "far",
    ),
    "allpairs.verify": (partial(allpairs.verify, normalise(X), WHO), "fars"),
    "allpairs.search": (
        partial(
            allpairs.search, normalise(X), normalise(X), probe_subject=WHO, gallery_subject=WHO
        ),
        "fars",
    ),
    "devkit": (partial(roc.read_off, *SIDES), "fars"),
    "tpr_at_far": (partial(metrics.tpr_at_far, GENUINE, IMPOSTOR), "far"),
    "threshold_at_far": (partial(metrics.threshold_at_far, IMPOSTOR), "far"),
    "tpr_of_highest": (
        partial(
            metrics.tpr_of_highest,
            genuine=GENUINE,
            highest=np.sort(IMPOSTOR)[::-1],
            impostor=len(IMPOSTOR),
        ),
        "far",
    ),
    "dir_at_fpir": (partial(metrics.dir_at_fpir, GENUINE, HIT, IMPOSTOR), "fpir"),
    "facenet_val": (partial(compat.facenet_val, SCORE, PAIRS.genuine, PAIRS.fold), "far"),
    "nearest_far": (partial(compat.nearest_far, GENUINE, IMPOSTOR), "far"),
    "nearest_fars": (partial(compat.nearest_fars, GENUINE, IMPOSTOR), "fars"),
    "compat.blufr": (partial(compat.blufr, GENUINE, IMPOSTOR), "far"),
}
SEVERAL = [name for name, (_, keyword) in ENTRIES.items() if keyword.endswith("s")]


def numbers(answer: Any) -> Any:
    """What can be compared of an answer."""
    if isinstance(answer, Report):
        return answer.metrics, sorted(answer.curves)
    if isinstance(answer, allpairs.Search):
        return numbers(answer.verification)
    if isinstance(answer, allpairs.Verification):
        return answer.points
    return answer


@pytest.mark.parametrize("name", ENTRIES)
def test_a_float_means_its_decimal_text(name: str) -> None:
    evaluate, keyword = ENTRIES[name]
    for text, values in {"0.1": (0.1, np.float64(0.1), np.float32(0.1)), "0.05": (0.05,)}.items():
        several = keyword.endswith("s")
        expected = numbers(evaluate(**{keyword: [text] if several else text}))
        for value in values:
            given = evaluate(**{keyword: [value] if several else value})
            assert numbers(given) == expected, value


@pytest.mark.parametrize("name", SEVERAL)
def test_one_rate_is_a_list_of_one(name: str) -> None:
    evaluate, keyword = ENTRIES[name]
    expected = numbers(evaluate(**{keyword: ("0.1",)}))
    assert numbers(evaluate(**{keyword: "0.1"})) == expected
    assert numbers(evaluate(**{keyword: 0.1})) == expected
    assert numbers(evaluate(**{keyword: iter(["0.1"])})) == expected
    assert numbers(evaluate(**{keyword: np.array([0.1])})) == expected


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("x", "FAR 'x' is not decimal text"),
        ("1e-1,1e-2", "FAR '1e-1,1e-2' is not decimal text"),
        (2.0, r"FAR 2.0 is outside \(0, 1\]"),
        (float("nan"), "FAR 'nan' is not decimal text"),
        ("0", r"FAR 0 is outside \(0, 1\]"),
        (None, "FAR None is not decimal text|a NoneType where FARs belong"),
        (True, "FAR True is not decimal text|a bool where FARs belong"),
    ],
)
def test_what_is_no_rate_is_refused_in_one_line(name: str, wrong: object, told: str) -> None:
    evaluate, keyword = ENTRIES[name]
    for given in (wrong, [wrong]) if keyword.endswith("s") else (wrong,):
        with pytest.raises(ProtocolError, match=told) as raised:
            evaluate(**{keyword: given})
        assert "\n" not in str(raised.value)


def test_a_list_is_no_single_rate() -> None:
    for evaluate, keyword in ENTRIES.values():
        if not keyword.endswith("s") and keyword != "discard":  # which takes several shares
            with pytest.raises(ProtocolError, match="is not decimal text"):
                evaluate(**{keyword: ["0.1"]})


ROOMS = [
    *(all_vs_all, allpairs, blufr, ijb, lfw, megaface, score, search, trillion, verification, ytf),
    *(metrics, compat, pair_scores, roc),
]
COUNTED = {metrics.false_accepts_allowed, metrics.tpr_estimate, verification.measures}  # below
COUNTED |= {pair_scores.outcomes, compat.facenet_auc, compat.facenet_eer}  # `far` is a curve


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__.partition("protocols.")[2])
def test_every_public_function_that_takes_rates_is_tried(room: Any) -> None:
    tried = {evaluate.func for evaluate, _ in ENTRIES.values()} | COUNTED  # type: ignore[attr-defined]
    for function in vars(room).values():
        own = getattr(function, "__module__", "").startswith(room.__name__)
        if own and inspect.isfunction(function) and not function.__name__.startswith("_"):
            rates = {"far", "fars", "fpir", "fpirs"} & set(inspect.signature(function).parameters)
            assert not rates or function in tried, function


def test_texts_and_counts_of_rates() -> None:
    assert metrics.rate_texts(np.logspace(-2, -1, 2)) == ("0.01", "0.1")
    assert metrics.false_accepts_allowed(0.3, 10) == 3
    m = metrics.tpr_estimate(0.001, None, 0, 5, 0, 10)
    assert m.note.startswith("FAR 0.001 needs at least 1,000 impostor comparisons")
    assert set(verification.measures(SCORE, PAIRS.genuine, None, "1e-1")) >= {"tpr@far=1e-1"}
