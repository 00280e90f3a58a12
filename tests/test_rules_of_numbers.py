"""Rules that the numbers of every protocol keep, in small random worlds."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from evalkit.protocols import (
    all_vs_all,
    blufr,
    ijb,
    megaface,
    people,
    quality,
    score,
    search,
    trillion,
    verification,
    ytf,
)
from evalkit.protocols.groups import Grouping
from evalkit.protocols.ijb import splits
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.types import PairSet, Report
from evalkit.verdict.compare import compare

pytestmark = pytest.mark.once

Measure = Callable[..., Report]
FARS = ("0.5", "1/3", "1e-1", "0.05", "1e-2", "1/300")
AT = 0.4  # a threshold given
LISTED = ("verification", "score", "nobody known", "ytf", "quality", "ijb 1:1")
NAMES = (*LISTED, "all pairs", "one set", "people", "trillion", "search", "megaface")
NAMES += ("ijb 1:N", "ijba", "blufr")
POOLING = ijb.Pooling(flip="none", detector_score=False)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw little: what is held here does not depend on how often."""
    monkeypatch.setitem(with_intervals.__kwdefaults__ or {}, "draws", 60)
    for module in (quality, blufr, splits):
        monkeypatch.setattr(module, "DRAWS", 60)


def faces(rng: np.random.Generator, who: np.ndarray) -> np.ndarray:
    """Draw vectors (N, 6), some of them the one before again."""
    centre, spread = rng.normal(size=(who.max() + 1, 6)), rng.lognormal(-0.5, 0.5, who.max() + 1)
    x = centre[who] + spread[who, None] * rng.normal(size=(len(who), 6))
    twice = np.flatnonzero((who[1:] == who[:-1]) & (rng.random(len(who) - 1) < 0.15)) + 1
    x[twice] = x[twice - 1]
    return x.astype(np.float32)


def unlike(seed: int) -> np.ndarray:
    """People of the rows, (N,): few, and the first one has a third to a half of all images."""
    sizes = [(9, 3, 2, 2, 2), (4, 1, 2, 3, 1, 2, 2, 1, 3, 2)][seed % 2]
    return np.repeat(np.arange(len(sizes)), sizes)


def protocols(who: np.ndarray) -> tuple[dict[str, Measure], np.ndarray]:
    """Every protocol of vectors (N, D) of these people; the rows that are searched for."""
    n, at = len(who), {"threshold": AT}
    left, right = np.triu_indices(n, 1)
    genuine = who[left] == who[right]
    fold = np.where(genuine, np.cumsum(genuine), np.cumsum(~genuine)) % 4
    pairs = PairSet(left, right, genuine, fold)
    first = np.unique(who, return_index=True)[1]
    rest, some = np.setdiff1d(np.arange(n), first), len(first) // 2 + 1
    known = first[:some]
    far: dict[str, Any] = {"fars": FARS, **at}
    grouped = {"groups": [Grouping.of("sex", [["f", "m"][k % 2] for k in range(n)])]}
    rows = np.arange(n)
    gallery = ijb.Enrolled(known, who[known])
    probe, parted = ijb.Enrolled(rest, who[rest]), np.where(who < some, who, -1)
    parts = {"row": rows, "template": rows, "media": rows, "gallery": gallery, "probe": probe}
    every = splits.Split(**parts, pairs=pairs)
    fewer = splits.Split(**parts, pairs=PairSet(*(c[::2] for c in (left, right, genuine))))
    trials = [blufr.Trial(rows, first, rest), blufr.Trial(rows, known, rest)]

    def pool(x: np.ndarray) -> ijb.Templates:
        return ijb.pool(x, rows, rows, None, POOLING)

    def cosine(x: np.ndarray) -> np.ndarray:
        y = x / np.linalg.norm(x, axis=1, keepdims=True)
        s = np.einsum("nd,nd->n", y[left], y[right]).astype(np.float64)
        return np.where(np.isfinite(s), s, -np.inf)

    def probes(x: np.ndarray) -> Report:
        half = n // 2
        sets = {"distractors=4": x[half : half + 4], f"distractors={n - half}": x[half:]}
        return megaface.evaluate(x[:half], who[:half], sets, **far)

    return {
        "verification": lambda x: verification.evaluate(x, pairs, who, **far, **grouped),
        "score": lambda x: score.evaluate(cosine(x), genuine, fold, pairs=pairs, **far),
        "nobody known": lambda x: score.evaluate(cosine(x), genuine, fold, **far),
        "ytf": lambda x: ytf.evaluate(x, rows, pairs, who, **far),
        "quality": lambda x: quality.evaluate(
            x, pairs, who, quality={"a": rows % 5, "b": rows * 7 % 11}, fars=FARS[2:4]
        ),
        "ijb 1:1": lambda x: ijb.verify(pool(x), left, right, genuine, nearest=True, **far),
        "all pairs": lambda x: all_vs_all.evaluate(x, who, galleries=2, **far, **grouped),
        "one set": lambda x: trillion.evaluate_one_set(x, who, **far, **grouped),
        "people": lambda x: people.evaluate(x, who, unknown=who >= some, **far, **grouped),
        "trillion": lambda x: trillion.evaluate(x, parted, fpir="0.1", **far, **grouped),
        "search": lambda x: search.evaluate(x, parted, first, rest, fpirs=FARS[:3], **at),
        "megaface": probes,
        "ijb 1:N": lambda x: ijb.identify(
            pool(x), [gallery], probe, fpirs=FARS[:3], insightface=True, **at
        ),
        "ijba": lambda x: splits.evaluate(x, [every, fewer], who, fars=FARS, fpirs=FARS[:3]),
        "blufr": lambda x: blufr.evaluate(x, who, trials, far="0.05", fpir="0.1", **at, **grouped),
    }, rest


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("quality", "ijba")])
def test_a_failure_never_raises_far_and_never_finds_anybody(name: str, seed: int) -> None:
    """At a threshold; each comparison is counted as before."""
    rng, who = np.random.default_rng(seed), unlike(seed)
    measure, looked_for = protocols(who)
    x = faces(rng, who)
    y = x.copy()
    y[rng.choice(looked_for, 3, replace=False)] = np.nan
    before, after = (measure[name](v).metrics for v in (x, y))
    at = [n for n in before if "@threshold=0.4" in n and before[n].value is not None]
    assert {n.partition("@")[0] for n in at} & {"fmr", "fpir"}
    for n in at:
        a, b = before[n].value or 0.0, after[n].value
        assert b is not None and before[n].n == after[n].n, n
        worse = n.startswith(("fnmr", "fnir"))
        assert b >= a - 1e-15 if worse else b <= a + 1e-15, n


RATE = re.compile("(tpr|fnmr|tpir)@(?:far|fpir)=([^,@]+)(.*)")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_intervals_hold_their_value_and_that_of_tpr_never_rises_as_far_falls(
    name: str, seed: int
) -> None:
    who = unlike(seed)
    report = protocols(who)[0][name](faces(np.random.default_rng(seed), who))
    curves: dict[tuple[str, str], list[tuple[Fraction, Any]]] = {}
    for full, m in report.metrics.items():
        if m.low is None or m.high is None:
            continue
        assert m.low <= (m.value or 0.0) <= m.high, full
        if found := RATE.fullmatch(full):
            curve = curves.setdefault((found[1], found[3]), [])
            sign = -1 if found[1] == "fnmr" else 1
            curve.append((Fraction(found[2]), sorted((sign * m.low, sign * m.high))))
    held = [c for (rate, rest), c in curves.items() if rate != "tpir" and "discarded" not in rest]
    assert bool(held) == (name not in ("search", "ijb 1:N"))
    for curve in held:
        ends = np.array([e for _, e in sorted(curve, key=lambda point: point[0])])
        assert (np.diff(ends, axis=0) >= 0).all(), name


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_p_is_below_alpha_exactly_where_the_interval_excludes_0(name: str, seed: int) -> None:
    rng, who = np.random.default_rng(seed), unlike(seed)
    x, measure = faces(rng, who), protocols(who)[0][name]
    y = x + 0.5 * rng.normal(size=x.shape).astype(np.float32)
    y[rng.choice(len(x), 2)] = np.nan
    base, other = measure(x), measure(y)
    for alpha in (0.05, 0.5):
        found = compare(base, other, alpha=alpha, draws=20, ignore=["comparisons"])
        assert found.differences
        for row, d in found.differences.items():
            assert d.low <= d.value <= d.high, row
            assert (d.p < alpha) == (d.low > 0 or d.high < 0), row
            assert 0 < d.detectable <= 1, row
