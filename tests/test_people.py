"""People: every number against its brute-force twin, and what a caller can get wrong."""

from typing import Any

import numpy as np
import pytest

from evalkit.errors import ProtocolError
from evalkit.protocols import people
from evalkit.protocols.metrics import auc, dir_at_fpir, eer, tpr_at_far
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.uncertainty.deployed_threshold import safe_threshold
from evalkit.protocols.uncertainty.outcomes import parts_of
from evalkit.verdict.compare import compare

pytestmark = pytest.mark.once

PEOPLE, IMAGES = 12, 5


def faces(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    subject = rng.permutation(np.repeat(np.arange(PEOPLE), IMAGES))
    centre = rng.normal(size=(PEOPLE, 8))
    return (centre[subject] + rng.normal(0, 0.9, (len(subject), 8))).astype(np.float32), subject


def all_scores(x: np.ndarray) -> np.ndarray:
    unit = normalise(x)
    i, j = np.indices((len(x), len(x))).reshape(2, -1)
    return exact_scores(unit, i, unit, j).reshape(len(x), len(x))


def brute_force(
    x: np.ndarray, subject: np.ndarray, unknown: np.ndarray, enrolled: np.ndarray
) -> dict[str, float | None]:
    s = all_scores(x)
    known = [r for r in range(len(x)) if not unknown[r]]
    pairs = [(a, b) for a in known for b in known if a < b]
    genuine = [s[a, b] for a, b in pairs if subject[a] == subject[b]]
    impostor = [s[a, b] for a, b in pairs if subject[a] != subject[b]]
    found = {
        "auc": auc(genuine, impostor).value,
        "eer": eer(genuine, impostor).value,
        "tpr@far=1e-2": tpr_at_far(genuine, impostor, "1e-2").value,
    }
    ranks, mates = [], []
    for probe in (r for r in known if not enrolled[r]):
        best = {p: max(s[probe, enrolled & (subject == p)]) for p in np.unique(subject[enrolled])}
        own = best.pop(subject[probe])
        ranks.append(1 + sum(score > own for score in best.values()))
        mates.append(own)
    strangers = [max(s[r, enrolled]) for r in range(len(x)) if unknown[r]]
    for k in (1, 5):
        found[f"rank-{k}"] = float(np.mean(np.array(ranks) <= k))
    if strangers:
        found["tpir@fpir=1e-1"] = dir_at_fpir(mates, ranks, strangers, "1e-1").value
        first = [r == 1 and m >= 0.6 for r, m in zip(ranks, mates, strict=True)]
        found["tpir@threshold=0.6"] = sum(first) / len(first)
        found["fnir@threshold=0.6"] = 1 - sum(first) / len(first)
        found["fpir@threshold=0.6"] = sum(s >= 0.6 for s in strangers) / len(strangers)
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("several", [False, True])
def test_equals_the_brute_force(seed: int, several: bool) -> None:
    x, subject = faces(seed)
    unknown = subject >= PEOPLE - 3
    first = np.unique(subject, return_index=True)[1]
    enrolled = np.isin(np.arange(len(x)), first) & ~unknown
    if several:
        enrolled |= (np.arange(len(x)) % 3 == 0) & ~unknown
        report = people.evaluate(x, subject, unknown=unknown, enrolled=enrolled, threshold=0.6)
    else:
        report = people.evaluate(x, subject, unknown=unknown, threshold=0.6, sizes=[PEOPLE - 3])
        sized = report[f"fnir@fpir=1e-1,rank=1,gallery={PEOPLE - 3}"].value
        assert sized == 1 - report["tpir@fpir=1e-1"].value
    expected = brute_force(x, subject, unknown, enrolled)
    assert len(expected) == 9 and 0 < expected["fpir@threshold=0.6"] < 1
    for name, value in expected.items():
        assert report[name].value == pytest.approx(value, abs=1e-12), name
        assert report[name].low <= report[name].value <= report[name].high


def test_a_mean_template_is_the_unit_mean_of_unit_vectors() -> None:
    x, subject = faces(7)
    enrolled = np.arange(len(x)) % 2 == 0
    report = people.evaluate(x, subject, enrolled=enrolled, template="mean")
    unit = normalise(x).astype(np.float64)
    centre = np.array([unit[enrolled & (subject == p)].mean(axis=0) for p in range(PEOPLE)])
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    score = unit[~enrolled] @ centre.T
    own = score[np.arange(len(score)), subject[~enrolled]]
    first = (score > own[:, None]).sum(axis=1) == 0
    assert report["rank-1"].value == pytest.approx(first.mean())


def test_rows_of_nobody_are_unknown() -> None:
    x, subject = faces(2)
    away = subject >= PEOPLE - 2
    named = people.evaluate(x, subject, unknown=away).metrics
    nobody = people.evaluate(x, np.where(away, -1, subject)).metrics
    assert {n: m.value for n, m in named.items()} == {n: m.value for n, m in nobody.items()}


def test_the_order_of_rows_changes_nothing_where_they_have_keys() -> None:
    x, subject = faces(3)
    keys = [f"{s}/{k}" for k, s in enumerate(subject)]
    order = np.random.default_rng(0).permutation(len(x))
    one = people.evaluate(x, subject, keys=keys)
    other = people.evaluate(x[order], subject[order], keys=[keys[k] for k in order])
    assert {n: m.value for n, m in one.metrics.items()} == {
        n: m.value for n, m in other.metrics.items()
    }


def test_a_failed_row_is_rejected_and_counted() -> None:
    x, subject = faces(4)
    first = np.isin(np.arange(len(x)), np.unique(subject, return_index=True)[1])
    failing = int(np.flatnonzero(~first)[0])
    x[failing] = np.nan
    report = people.evaluate(x, subject)
    assert report.failures.images == 1 and report.failures.genuine == IMAGES - 1
    expected = brute_force(x, subject, np.zeros(len(x), bool), first)
    for name in ("auc", "eer", "tpr@far=1e-2"):
        assert report[name].value == pytest.approx(expected[name], abs=1e-12), name
    bare = [name for name, m in report.metrics.items() if m.low is None]
    assert bare == ["auc", "eer"] and all("no interval" in report[name].note for name in bare)
    ranks = people.evaluate(np.delete(x, failing, 0), np.delete(subject, failing))
    hits = ranks["rank-1"].value * ranks["rank-1"].n
    assert report["rank-1"].value == pytest.approx(hits / (ranks["rank-1"].n + 1))


def test_beyond_the_limit_auc_and_eer_are_of_random_impostors() -> None:
    x, subject = faces(1)
    whole = people.evaluate(x, subject)
    impostors = PEOPLE * (PEOPLE - 1) // 2 * IMAGES**2
    some = people.evaluate(x, subject, longest=impostors // 2)
    told = f"of 500,000 of {impostors:,} impostor pairs, at random"
    for name in ("auc", "eer"):
        assert told in some[name].note and told not in whole[name].note
        assert some.flat()[name] == pytest.approx(whole.flat()[name], abs=2e-3)
    assert some.flat()["auc"] != whole.flat()["auc"]
    exact = [name for name in whole.metrics if name not in ("auc", "eer")]
    assert {n: some.flat()[n] for n in exact} == {n: whole.flat()[n] for n in exact}
    kept = parts_of(some.outcomes or {})[""]
    assert len(kept.sampled_score) == 500_000 and len(kept.impostor_score) < impostors
    for name in ("auc", "eer"):
        whole_one, one = whole[name], some[name]
        assert one.low < one.value < one.high and one.people == whole_one.people
        assert one.high - one.low == pytest.approx(whole_one.high - whole_one.low, rel=0.1)
        assert one.interval.endswith("of a random sample of impostors")
    moved = {"keys": range(len(x)), "set_name": "same", "longest": impostors // 2}
    worse = x + np.random.default_rng(1).normal(scale=0.3, size=x.shape)
    pair = [people.evaluate(v, subject, **moved) for v in (x, worse.astype(x.dtype))]
    assert set(compare(*pair).differences) == set(whole.metrics)


def test_only_supported_fars_are_reported() -> None:
    x, subject = faces(5)
    names = [n for n in people.evaluate(x, subject).metrics if n.startswith("tpr")]
    pairs = len(x) * (len(x) - 1) // 2 - PEOPLE * IMAGES * (IMAGES - 1) // 2
    assert names == [f"tpr@far={f}" for f in ("1e-1", "1e-2", "1e-3") if float(f) * pairs >= 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subject": np.arange(60)}, "no pair is genuine (a subject is whom an image shows"),
        ({"unknown": np.zeros(3, bool)}, "unknown is bool of shape (3,)"),
        ({"unknown": np.ma.masked_array([True] * 60, [True] * 60)}, "'unknown' masks 60"),
        ({"sizes": ["3"]}, "people of a gallery given as '3'"),
        ({"sizes": [3.0]}, "people of a gallery given as 3.0"),
        ({"sizes": 3}, "sizes given as 3"),
        ({"enrolled": np.zeros(60)}, "enrolled is float64 of shape (60,)"),
        ({"enrolled": np.ones(60, bool), "unknown": np.arange(60) == 4}, "row 4 is both"),
        ({"template": "median"}, "no template 'median'"),
    ],
)
def test_mistakes_are_said(change: dict[str, Any], said: str) -> None:
    x, subject = faces(0)
    with pytest.raises(ProtocolError) as error:
        people.evaluate(**{"features": x, "subject": subject, **change})
    assert said in str(error.value)


def test_unknown_people_are_not_counted_among_the_compared() -> None:
    x, subject = faces(6)
    report = people.evaluate(x, subject, unknown=subject >= PEOPLE - 3)
    safe = safe_threshold(parts_of(report.outcomes or {})[""], "1e-3")
    assert safe.threshold is None and f"not {PEOPLE - 3}" in safe.note
