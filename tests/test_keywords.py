"""Every protocol ends in the same keywords, in one order, and every row of it can be paired."""

import inspect
import typing
from collections.abc import Callable
from functools import partial
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest

from evalkit.cli.demo import together
from evalkit.errors import ProtocolError
from evalkit.protocols import (
    all_vs_all,
    allpairs,
    blufr,
    geometry,
    ijb,
    lfw,
    megaface,
    people,
    quality,
    score,
    search,
    trillion,
    verification,
    ytf,
)
from evalkit.protocols.catalogue import KEYWORDS, OWN
from evalkit.protocols.groups import Grouping
from evalkit.protocols.ijb import splits
from evalkit.protocols.recipes.recipe import Recipe
from evalkit.types import PairSet, Report
from evalkit.verdict.compare import SAME_SET, compare

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw little: intervals must be equal here, not narrow."""
    monkeypatch.setattr(quality, "DRAWS", 60)


FUNCTIONS: dict[str, Callable[..., Report]] = {r.name: resolve_name(r.function) for r in OWN}
FUNCTIONS |= {
    "trillion, one set": trillion.evaluate_one_set,
    "ijb 1:1": ijb.verify,
    "ijb 1:N": ijb.identify,
}

N = 60
RNG = np.random.default_rng(2)
WHO = np.repeat(np.arange(20), 3)
X = (RNG.normal(size=(20, 1, 8))[WHO] + 0.9 * RNG.normal(size=(N, 2, 8))).astype(np.float32)
DRAWN = RNG.random(N)
PARTED = np.where(WHO < 10, WHO, -1)
LEFT, RIGHT = np.triu_indices(N, 1)
PAIRS = PairSet(LEFT, RIGHT, WHO[LEFT] == WHO[RIGHT], np.arange(len(LEFT)) % 10)
FIRST, ODD = np.arange(0, 30, 3), np.setdiff1d(np.arange(N), range(0, 30, 3))
TRIAL = blufr.Trial(np.arange(N), FIRST, ODD)
POOLING = ijb.Pooling(flip="sum", detector_score=False)
TEMPLATES = ijb.pool(X, np.arange(N), np.arange(N), None, POOLING)
GALLERY, PROBE = ijb.Enrolled(FIRST, WHO[FIRST]), ijb.Enrolled(ODD, WHO[ODD])
SPLIT = splits.Split(row=np.arange(N), template=np.arange(N), media=np.arange(N), pairs=PAIRS)
FARS = ("1e-1", "1e-2")


def _megaface(x: Any, **more: Any) -> Report:
    sets = {"distractors=30": x[30:]}
    return megaface.evaluate(x[:30], WHO[:30], sets, fars=FARS, **more)


# Of features (N, V, D); those of scores and templates have no use for them.
OF_VECTORS: dict[str, Callable[..., Report]] = {
    "verification": lambda x, **more: verification.evaluate(x, PAIRS, WHO, **more),
    "lfw": lambda x, **more: lfw.evaluate(x, PAIRS, WHO, **more),
    "all-vs-all": lambda x, **more: all_vs_all.evaluate(x, WHO, fars=FARS, **more),
    "trillion": lambda x, **more: trillion.evaluate(x, PARTED, fars=FARS, fpir="0.1", **more),
    "trillion, one set": lambda x, **more: trillion.evaluate_one_set(x, WHO, fars=FARS, **more),
    "megaface": _megaface,
    "blufr": lambda x, **more: blufr.evaluate(
        x, WHO, [TRIAL, TRIAL], far="0.05", fpir="0.1", **more
    ),
    "quality": lambda x, **more: quality.evaluate(
        x, PAIRS, WHO, quality={"drawn": DRAWN}, fars=FARS[:1], discard=["0.1"], **more
    ),
    "geometry": lambda x, **more: geometry.evaluate(x, WHO, **more),
    "ytf": lambda x, **more: ytf.evaluate(x, np.arange(N), PAIRS, WHO, **more),
    "search": lambda x, **more: search.evaluate(x, PARTED, FIRST, ODD, fpirs=0.1, **more),
    "people": lambda x, **more: people.evaluate(x, WHO, unknown=WHO > 15, fars=FARS, **more),
}
CALLS = {name: partial(call, X[:, 0]) for name, call in OF_VECTORS.items()}
CALLS["score"] = partial(score.evaluate, RNG.normal(size=len(PAIRS)), PAIRS.genuine, pairs=PAIRS)
CALLS["ijb"] = partial(ijb.evaluate, TEMPLATES, galleries=[GALLERY], probe=PROBE)
CALLS["ijba"] = partial(splits.evaluate, X[:, 0], [SPLIT, SPLIT], WHO, fars=FARS)
CALLS["ijb 1:1"] = partial(ijb.verify, TEMPLATES, LEFT, RIGHT, PAIRS.genuine, fars=FARS)
CALLS["ijb 1:N"] = partial(ijb.identify, TEMPLATES, [GALLERY], PROBE)


def having(keyword: str) -> list[str]:
    return [n for n, f in FUNCTIONS.items() if keyword in inspect.signature(f).parameters]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_last_keywords_are_those_of_the_contract(name: str) -> None:
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    tail = [p.name for p in parameters if p.name in KEYWORDS]
    assert tail == [k for k in KEYWORDS if k in tail]
    assert [p.name for p in parameters][-len(tail) :] == tail
    assert tail[-3:] == ["keys", "images", "set_name"]
    for p in parameters:
        if p.name in KEYWORDS:
            assert (p.kind, p.default) == (p.KEYWORD_ONLY, KEYWORDS[p.name])
    assert ("engine" in tail) == ("progress" in tail)


def test_a_keyword_has_one_type() -> None:
    for keyword in KEYWORDS:
        types = {str(typing.get_type_hints(FUNCTIONS[n])[keyword]) for n in having(keyword)}
        assert len(types) == 1, (keyword, types)


def test_every_keyword_has_its_protocols() -> None:
    assert set(having("flip")) == set(OF_VECTORS)
    assert set(FUNCTIONS) - set(having("seed")) == {"geometry"}
    assert set(FUNCTIONS) - set(having("engine")) == {
        "verification",
        "lfw",
        "quality",
        "score",
        "ytf",
        "ijba",
        "ijb 1:1",
    }
    assert set(CALLS) == set(FUNCTIONS)


@pytest.mark.parametrize("name", OF_VECTORS)
def test_flip_fuses_the_views(name: str) -> None:
    evaluate = OF_VECTORS[name]
    alone = evaluate(X[:, 0])
    assert evaluate(X).flat() == evaluate(X[:, :1]).flat() == alone.flat()
    assert alone.provenance.get("flip", "none") == "none"
    fused = evaluate(X, flip="sum")
    assert fused.flat() == evaluate(X[:, 0] + X[:, 1]).flat() != alone.flat()
    assert fused.provenance["flip"] == "sum"
    with pytest.raises(ProtocolError, match="needs the mirrored view"):
        evaluate(X[:, 0], flip="sum")


@pytest.mark.parametrize("name", having("seed"))
def test_seed_is_that_of_the_intervals(name: str) -> None:
    usual, other = CALLS[name](), CALLS[name](seed=7)
    assert usual.metrics == CALLS[name](seed=0).metrics
    values = [{n: v for n, v in r.flat().items() if "-equality" not in n} for r in (usual, other)]
    assert values[0] == values[1]  # a p-value is of the draws
    for report, seed in ((usual, 0), (other, 7)):
        drawn = [m for m in report.metrics.values() if "draws" in m.interval]
        assert drawn and all(f"draws, seed {seed}" in m.interval for m in drawn)
    assert usual.metrics != other.metrics


WRONG: dict[str, list[object]] = {
    "seed": [-1, None],
    "engine": ["fast"],
    "progress": [3],
    "depths": [(0,), 1.5],
    "galleries": [-1],
    "longest": [0],
    "k": [0],
    "frames": [1.5],
    "frames_seed": [-1],
    "noises": ["list"],
    "model": [3],
    "claims": [3],
    "pooling": ["none"],
}
LATE: dict[str, list[object]] = {  # found after the scores, so of one protocol
    "keys": [3, ["one"]],
    "set_name": [3],
    "groups": [3],
}


def wrong_keywords() -> list[tuple[str, str, object]]:
    """(protocol, keyword, value) that means nothing there."""
    late = [("score", keyword, value) for keyword, values in LATE.items() for value in values]
    return late + [
        (name, keyword, value)
        for keyword, values in WRONG.items()
        for name in having(keyword)
        for value in values
        if (name, keyword) != ("ijb 1:N", "galleries")  # no keyword there
    ]


@pytest.mark.parametrize(("name", "keyword", "value"), wrong_keywords())
def test_a_keyword_that_means_nothing_is_refused(name: str, keyword: str, value: object) -> None:
    with pytest.raises(ProtocolError):
        CALLS[name](**{keyword: value})


def test_a_comparison_refuses_levels_and_draws_that_mean_nothing() -> None:
    report = CALLS["verification"]()
    wrong: list[dict[str, Any]] = [{"alpha": 2.0}, {"alpha": "a"}, {"draws": 0}, {"seed": -1}]
    for given in wrong:
        with pytest.raises(ProtocolError):
            compare(report, report, ignore=SAME_SET, **given)


@pytest.mark.parametrize("name", having("engine"))
def test_engine_runs_all_pairs_and_progress_is_told(name: str) -> None:
    engine = allpairs.Engine(threads=1, screen="float32")
    told: list[tuple[int, int]] = []
    usual = CALLS[name]()
    made = CALLS[name](engine=engine, progress=lambda *n: told.append(n))
    assert made.metrics == usual.metrics
    assert engine.tally["questions"] >= 1
    assert told and all(0 <= done <= total for done, total in told)
    assert any(done == total for done, total in told)
    first = len(told)
    CALLS[name](progress=lambda *n: told.append(n))
    assert len(told) > first


@pytest.mark.parametrize("name", having("engine"))
@pytest.mark.parametrize(
    "given", [{"keys": ["one"]}, {"images": np.zeros((1, 3))}, {"set_name": 3}]
)
def test_names_that_do_not_fit_are_refused_before_anything_is_compared(
    name: str, given: dict[str, object]
) -> None:
    told: list[tuple[int, int]] = []
    with pytest.raises(ProtocolError):
        CALLS[name](progress=lambda *n: told.append(n), **given)
    assert told == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_keys_and_set_name_are_of_the_comparisons(name: str) -> None:
    keys = [f"{row}.jpg" for row in range(N)]
    made = (
        CALLS[name](keys=keys, set_name="mine")
        if name != "megaface"
        else CALLS[name](
            keys=keys[:30], distractor_keys={"distractors=30": keys[30:]}, set_name="mine"
        )
    )
    assert made.identity.set == "mine" and made.identity.keys is not None


@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize(
    ("name", "keyword"), [(n, k) for k in ("keys", "images", "groups") for n in having(k)]
)
def test_what_is_of_each_row_is_as_long_as_the_rows(name: str, keyword: str, off: int) -> None:
    """One value too many or too few is refused, in words, by every protocol."""
    count = (30 if name == "megaface" else N) + off
    given: dict[str, Any] = {
        "keys": [f"{row}.jpg" for row in range(count)],
        "images": np.zeros((count, 32), np.uint8),
        "groups": [Grouping.of("sex", ["f", "m"] * count).take(np.arange(count))],
    }
    subjects = {"subject": WHO} if name == "score" else {}
    with pytest.raises(
        ProtocolError, match=rf"\b{count - off} \w+ (have|are)\b|there are {count - off}\b"
    ):
        CALLS[name](**{keyword: given[keyword]}, **subjects)


@pytest.mark.parametrize("name", [*FUNCTIONS, "demo"])
def test_every_row_with_an_interval_is_paired(name: str) -> None:
    if name == "demo":
        report = together(CALLS["lfw"](fars=FARS), CALLS["all-vs-all"](threshold=0.5))
    elif "threshold" in inspect.signature(FUNCTIONS[name]).parameters:
        report = CALLS[name](threshold=0.5)
    else:
        report = CALLS[name]()
    drawn = {
        n
        for n, m in report.metrics.items()
        if m.low is not None and "-discarded=" not in n  # not in the outcomes
    }
    assert drawn <= set(compare(report, report, ignore=SAME_SET, draws=9).differences)
    assert bool(drawn) == (report.outcomes is not None)


@pytest.mark.parametrize("evaluate", [verification.evaluate, lfw.evaluate])
def test_a_flip_that_contradicts_the_recipe_is_refused(evaluate: Callable[..., Report]) -> None:
    recipe = Recipe(name="mine", fusion="concat", threshold="insightface")
    usual = evaluate(X, PAIRS, recipe=recipe)
    assert evaluate(X, PAIRS, recipe=recipe, flip="concat").metrics == usual.metrics
    with pytest.raises(ProtocolError, match="flip 'sum' beside recipe 'mine', which fuses"):
        evaluate(X, PAIRS, recipe=recipe, flip="sum")


def test_ijb_compares_pairs_or_searches() -> None:
    pairs = ijb.evaluate(TEMPLATES, PAIRS, fars=FARS, insightface=True)
    assert (
        pairs.metrics
        == ijb.verify(TEMPLATES, LEFT, RIGHT, PAIRS.genuine, fars=FARS, nearest=True).metrics
    )
    searched = ijb.evaluate(TEMPLATES, galleries=[GALLERY], probe=PROBE, fpirs=0.1, depths=[2])
    assert searched.protocol == "ijb-1:N" and set(searched.metrics) == {"tpir@fpir=0.1", "rank-2"}
    for wrong in ({}, {"probe": PROBE}, {"galleries": [GALLERY]}):
        with pytest.raises(ProtocolError, match="pairs for 1:1; galleries="):
            ijb.evaluate(TEMPLATES, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="one of the two"):
        ijb.evaluate(TEMPLATES, PAIRS, galleries=[GALLERY], probe=PROBE)
