"""All against all, beside loops over every pair."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evalkit.protocols import all_vs_all
from evalkit.protocols.metrics.similarity import normalise
from evalkit.types import Report


def people(
    seed: int = 0, n: int = 60, ids: int = 12
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    rng = np.random.default_rng(seed)
    subject = rng.integers(-1, ids, n).astype(np.int32)
    centre = rng.standard_normal((ids + 1, 6))
    return (centre[subject] + 0.7 * rng.standard_normal((n, 6))).astype(np.float32), subject


def score(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return math.fsum(float(u) * float(v) for u, v in zip(a, b, strict=True))


def test_tpr_is_the_count_over_every_pair() -> None:
    features, subject = people()
    report = all_vs_all.evaluate(features, subject, fars=["1e-2"])
    x, n = normalise(features), len(features)
    genuine, impostor = [], []
    for i in range(n):
        for j in range(i + 1, n):
            same = subject[i] == subject[j] and subject[i] >= 0
            (genuine if same else impostor).append(score(x[i], x[j]))
    bar = sorted(impostor, reverse=True)[len(impostor) // 100]
    m = report.metrics["tpr@far=1e-2"]
    assert m.value == sum(s > bar for s in genuine) / len(genuine)
    assert m.threshold == np.nextafter(bar, np.inf)
    assert (report.provenance["genuine"], report.provenance["impostor"]) == (
        len(genuine),
        len(impostor),
    )
    assert m.low is not None and m.high is not None and m.low <= m.value <= m.high


def test_rank_1_is_the_search_by_hand() -> None:
    features, subject = people(3)
    x = normalise(features)
    first = {int(s): k for k, s in reversed(list(enumerate(subject))) if s >= 0}
    probes = [k for k, s in enumerate(subject) if s >= 0 and first[int(s)] != k]
    hits = 0
    for p in probes:
        mate = score(x[p], x[first[int(subject[p])]])
        others = [score(x[p], x[g]) for s, g in first.items() if s != subject[p]]
        hits += all(o <= mate for o in others)
    rank_1 = all_vs_all.evaluate(features, subject, fars=["1e-2"]).metrics["rank-1"]
    assert (rank_1.value, rank_1.n) == (hits / len(probes), len(probes))


def test_a_failed_image_lowers_tpr_and_rank_and_is_counted() -> None:
    features, subject = people(1)
    whole = all_vs_all.evaluate(features, subject, fars=["1e-2"])
    lost = int(np.flatnonzero(subject == subject.max())[0])
    features[lost] = np.nan
    report = all_vs_all.evaluate(features, subject, fars=["1e-2"])
    mates = int((subject == subject[lost]).sum()) - 1
    assert report.failures.images == 1
    assert report.failures.genuine == mates
    assert report.failures.impostor == len(features) - 1 - mates
    assert report.provenance["genuine"] == whole.provenance["genuine"]
    far = report.metrics["tpr@far=1e-2"].far
    assert far is not None and far <= 0.01


@pytest.mark.parametrize("n", [1, 2])
def test_sets_too_small_to_measure_say_so(n: int) -> None:
    report = all_vs_all.evaluate(np.eye(n, 4, dtype=np.float32), np.arange(n), fars=["1e-2"])
    assert report.metrics["rank-1"].value is None
    assert report.metrics["tpr@far=1e-2"].value is None
    assert report.metrics["tpr@far=1e-2"].note


def test_subjects_may_have_numbers_of_any_size() -> None:
    subject = np.arange(30) // 3
    x = np.random.default_rng(0).normal(size=(30, 4))
    x[4] = np.nan
    small, large = (all_vs_all.evaluate(x, s, fars=["0.1"]) for s in (subject, subject * 10**13))
    assert small.metrics == large.metrics and small.failures == large.failures


def test_one_person_has_no_impostors_and_is_always_found() -> None:
    report = all_vs_all.evaluate(np.eye(5, 4, dtype=np.float32) + 1, np.zeros(5, int))
    assert report.metrics["rank-1"].value == 1 and report.metrics["rank-1"].low is not None
    assert report.metrics["tpr@far=1e-3"].value is None


def test_the_demo_prints_the_published_numbers(shared_data: Path) -> None:
    from evalkit.cli.demo import measure

    reference = json.loads((shared_data / "features/REFERENCE_mobilefacenet_lfw.json").read_text())
    every = reference["mobilefacenet_foamliu"]["all_pairs_flipsum"]
    got = measure().metrics
    for far, name in (("1e-3", "0.001"), ("1e-4", "0.0001"), ("1e-5", "1e-05"), ("1e-6", "1e-06")):
        assert got[f"tpr@far={far},pairs=all"].value == pytest.approx(
            every[f"TPR@FAR={name}"], abs=1e-4
        )
    rank_1 = reference["mobilefacenet_foamliu"]["closed_set_id_flipsum"]["rank1"]
    assert got["rank-1"].value == pytest.approx(rank_1, abs=1e-4)


def test_no_number_depends_on_the_order_of_rows_that_have_keys() -> None:
    features, subject = people(7, n=90)
    keys = [f"{s}/{row:03}.jpg" for row, s in enumerate(subject)]
    order = np.random.default_rng(0).permutation(len(keys))

    def measured(rows: NDArray[np.int64], named: bool) -> Report:
        names = [keys[row] for row in rows] if named else None
        how = {"fars": ["1e-2", "1e-1"], "galleries": 3, "keys": names}
        return all_vs_all.evaluate(features[rows], subject[rows], **how)

    one, other = (measured(rows, True) for rows in (np.arange(len(keys)), order))
    assert one.metrics == other.metrics
    assert one.curves == other.curves
    assert one.provenance["gallery"] == "first image of each subject by key"
    rows = (one.outcomes or {})["genuine_rows"], order[(other.outcomes or {})["genuine_rows"]]
    assert {frozenset(pair) for pair in rows[0].tolist()} == {
        frozenset(pair) for pair in rows[1].tolist()
    }
    unnamed = measured(order, False)
    assert unnamed.provenance["gallery"] == "first image of each subject by row"
    assert unnamed.metrics["rank-1"].value != one.metrics["rank-1"].value


def test_drawn_galleries_have_their_mean_and_spread() -> None:
    features, subject = people(3)
    report = all_vs_all.evaluate(features, subject, fars=["1e-2"], galleries=8)
    m = report.metrics["rank-1@gallery=drawn"]
    assert len(m.folds) == 8 and len(set(m.folds)) > 1
    assert m.value == np.mean(m.folds)
    assert f"standard deviation {100 * np.std(m.folds, ddof=1):.2f} points" in m.note
    assert m.n == report.metrics["rank-1"].n


def test_drawn_galleries_say_that_few_misses_decide() -> None:
    features = np.repeat(np.eye(4, 8, dtype=np.float32), 3, axis=0)
    report = all_vs_all.evaluate(features, np.repeat(np.arange(4), 3), fars=["1e-1"], galleries=2)
    assert report.metrics["rank-1@gallery=drawn"].note.endswith(
        "; a gallery has no misses: only a bound is known"
    )
