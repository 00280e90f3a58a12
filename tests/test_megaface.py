import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evalkit.errors import ProtocolError, ReportError
from evalkit.protocols import megaface
from evalkit.protocols.megaface import devkit
from evalkit.protocols.metrics import tpr_at_far
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.recipes.joint_bayesian import JointBayesian
from evalkit.protocols.uncertainty.outcomes import parts_of, to_arrays
from evalkit.types import Report
from evalkit.verdict.compare import compare
from evalkit.verdict.gate import Rule, check
from evalkit.verdict.threshold import operating_point

pytestmark = pytest.mark.once


def _scores(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    i, j = np.indices((len(x), len(y)))
    return exact_scores(normalise(x), i.ravel(), normalise(y), j.ravel()).reshape(i.shape)


def _slow_rank(x: np.ndarray, subject: np.ndarray, d: np.ndarray, k: int) -> float:
    """Rank-k by three loops."""
    own, other = _scores(x, x), _scores(x, d)
    hits = []
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j and subject[i] == subject[j]:
                hits.append(np.isfinite(own[i, j]) and (other[i] > own[i, j]).sum() < k)
    return float(np.mean(hits))


_COARSE = st.integers(-3, 3).map(float) | st.just(np.nan)  # many ties, and failures


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float32, (7, 3), elements=_COARSE),
    hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=_COARSE),
    st.permutations([0, 0, 0, 1, 1, 2, 2]),
)
def test_ranks_and_tpr_are_what_loops_give(x: np.ndarray, d: np.ndarray, who: list[int]) -> None:
    subject = np.array(who)
    report = megaface.evaluate(x, subject, {"distractors=9": d}, fars=["0.5"], depths=[1, 3])
    for k in (1, 3):
        found = report.metrics[f"rank-{k}@distractors=9"]
        assert found.value == _slow_rank(x, subject, d, k) and found.n == 10
    own = _scores(x, x)
    genuine = own[np.triu(subject[:, None] == subject, 1)]
    ours = report.metrics["tpr@far=0.5,distractors=9"]
    true = tpr_at_far(genuine, _scores(x, d).ravel(), "0.5")
    assert (ours.value, ours.threshold, ours.false_accepts, ours.n) == (
        true.value,
        true.threshold,
        true.false_accepts,
        true.n,
    )


@pytest.mark.parametrize(
    "size", [10, 100, *(pytest.param(n, marks=pytest.mark.slow) for n in (1000, 4000))]
)
def test_rank_1_of_real_features_is_the_official_programs(shared_data: Path, size: int) -> None:
    run = shared_data / "megaface" / "official_devkit_run"
    x = np.load(shared_data / "features" / "lfw_mobilefacenet_flipsum_l2.npy")
    keys = (shared_data / "features" / "lfw_paths.txt").read_text().splitlines()
    row = {key: r for r, key in enumerate(keys)}
    probes = json.loads((run / "probe_list.json").read_text())
    distractors = json.loads((run / f"dist_list.json_{size}_1").read_text())
    name = f"distractors={size}"
    report = megaface.evaluate(
        x[[row[p] for p in probes["path"]]],
        np.unique(probes["id"], return_inverse=True)[1],
        {name: x[[row[p] for p in distractors["path"]]]},
    )
    official = json.loads((run / f"cmc_facescrub_megaface_foam_{size}_1.json").read_text())
    rank_1 = report.metrics[f"rank-1@{name}"]
    assert rank_1.value == pytest.approx(official["cmc"][1][0], abs=1e-7)
    assert rank_1.low is not None and rank_1.low < official["cmc"][1][0] < (rank_1.high or 0)
    if size == 4000:  # measured with numpy when the official programs were run
        found = [report.metrics[f"tpr@far={far},{name}"].value for far in megaface.FARS]
        assert found == pytest.approx([0.96976, 0.94459, 0.37187], abs=1e-5)


def _small() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(4), 5)
    x = rng.normal(size=(4, 6))[subject] + 0.8 * rng.normal(size=(20, 6))
    return x, subject, rng.normal(size=(200, 6))


@pytest.mark.parametrize("rule", ["insightface", "facex"])
def test_both_numbers_are_shown_where_noises_are_known(rule: megaface.CleaningRule) -> None:
    x, subject, d = _small()
    x[3] = -x[0]
    d[5] = x[1]
    noises = megaface.Noises([rule], np.arange(20) == 3, {"distractors=200": np.arange(200) == 5})
    found = megaface.evaluate(x, subject, {"distractors=200": d}, noises=noises).metrics
    plain, cleaned = (found[f"rank-1@distractors=200{c}"] for c in ("", f",cleaned={rule}"))
    assert plain.value is not None and cleaned.value is not None
    assert plain.n == cleaned.n and plain.value < cleaned.value


def test_the_two_cleaning_rules_differ_where_a_mate_scores_below_zero() -> None:
    x = np.array([[1, 0], [-1, 0.1]])
    d = np.array([[1.0, 0]])
    none, one = np.zeros(2, bool), np.ones(1, bool)
    found = {
        rule: megaface.evaluate(
            x, np.zeros(2, int), {"d": d}, noises=megaface.Noises([rule], none, {"d": one})
        ).metrics[f"rank-1@d,cleaned={rule}"]
        for rule in ("insightface", "facex")
    }
    assert (found["insightface"].value, found["facex"].value) == (1.0, 0.0)


def test_a_cleaned_probe_is_its_subjects_centre() -> None:
    x, subject, d = _small()
    p, e = megaface.clean(x, subject, d, np.arange(20) == 3, np.arange(200) < 2, "facex")
    centre = (x[:5] / np.linalg.norm(x[:5], axis=1, keepdims=True))[[0, 1, 2, 4]].sum(axis=0)
    np.testing.assert_allclose(p[3], centre / np.linalg.norm(centre), rtol=1e-5)
    assert not e[:2].any() and np.array_equal(e[2:], d[2:].astype(np.float32))
    with pytest.raises(ProtocolError, match="all probes of the subject of probe 0"):
        megaface.clean(x, subject, d, subject == 0, np.zeros(200, bool), "facex")
    x[1] = np.nan  # has no template, so it is no part of the centre
    assert np.isfinite(
        megaface.clean(x, subject, d, np.arange(20) == 3, d[:, 0] > 9, "facex")[0][3]
    ).all()


def test_a_noisy_probe_of_a_subject_without_templates_has_none() -> None:
    x, subject, d = _small()
    x[subject == subject[0]] = np.nan
    bad = np.arange(len(x)) == 0
    p, _ = megaface.clean(x, subject, d, bad, np.zeros(len(d), bool), "insightface")
    assert np.isnan(p[0]).all()


def test_a_joint_bayesian_model_scores_by_its_own_rule() -> None:
    x, subject, d = _small()
    x, d = x.astype(np.float32), d.astype(np.float32)
    rng = np.random.default_rng(1)
    model = JointBayesian(*(rng.normal(size=s).astype("f4") for s in [(6,), (3, 6), (2, 6)]))
    found = megaface.evaluate(x, subject, {"d": d}, model=model, depths=[1]).metrics["rank-1@d"]
    official = devkit.evaluate(devkit.project(x, model), subject, devkit.project(d, model))
    assert found.value == pytest.approx(official.cmc[1][0], abs=1e-7)


@pytest.mark.parametrize(
    ("probe", "subject", "distractor", "message"),
    [
        (np.ones((3, 2)), np.zeros(2), np.ones((4, 2)), "have subjects of shape"),
        (np.ones((3, 2)), np.zeros(3), np.ones((4, 3)), "for probes of shape"),
        (np.ones((3, 2)), np.zeros(3), np.ones((0, 2)), "for probes of shape"),
        (np.ones((3, 2)), np.arange(3), np.ones((4, 2)), "no pair is genuine"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    probe: np.ndarray, subject: np.ndarray, distractor: np.ndarray, message: str
) -> None:
    with pytest.raises(ProtocolError, match=message):
        megaface.evaluate(probe, subject, {"d": distractor})
    with pytest.raises(ProtocolError, match="no distractors"):
        megaface.evaluate(np.ones((2, 2)), np.zeros(2, int), {})


def test_probes_of_nobody_known_are_refused() -> None:
    x = np.random.default_rng(0).normal(size=(6, 4))
    with pytest.raises(ProtocolError, match="of 2 of 4 probes the subject is below 0"):
        megaface.evaluate(x[:4], np.array([0, 0, -1, -1]), {"distractors=2": x[4:]})


def test_a_joint_bayesian_model_is_not_cleaned() -> None:
    x, subject, d = _small()
    noises = megaface.Noises(["facex"], np.arange(20) == 3, {"d": np.zeros(200, bool)})
    jb = JointBayesian(*(np.eye(6, dtype=np.float32) for _ in range(2)), np.eye(6))
    with pytest.raises(ProtocolError, match="made for cosines"):
        megaface.evaluate(x, subject, {"d": d}, noises=noises, model=jb)


def test_failures_are_counted_and_never_help() -> None:
    x, subject, d = _small()
    x[0], d[3] = np.nan, np.inf
    report = megaface.evaluate(x, subject, {"d": d}, depths=[1, 200])
    f = report.failures
    assert (f.images, f.genuine, f.impostor) == (2, 4, 200 + 19)
    assert report.metrics["rank-200@d"].value == 1 - 8 / 80


def test_every_number_of_every_size_has_its_interval() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(12), 4)
    probe = rng.normal(size=(12, 8))[subject] + 0.8 * rng.normal(size=(48, 8))
    others = rng.normal(size=(300, 8))
    sizes = {"distractors=50": others[:50], "distractors=300": others}
    probe, sizes = normalise(probe), {name: normalise(d) for name, d in sizes.items()}
    report = megaface.evaluate(probe, subject, sizes, fars=["1e-2"])
    devkits = [name for name in report.metrics if name.endswith(",rule=devkit")]
    assert len(report.metrics) == 8 and len(devkits) == 2
    for name, m in report.metrics.items():
        if name in devkits:
            assert m.value is not None and "of 12 people: no interval" in m.note
            continue
        assert m.value is not None and m.low is not None and m.high is not None, name
        assert m.low <= m.value <= m.high, name


@pytest.mark.parametrize("length", [1, 8])
def test_the_devkits_distances_of_vectors_of_several_lengths_say_so(length: float) -> None:
    x, subject, d = _small()
    unit = {"d": length * normalise(d)}
    name = "tpr@far=0.1,d,rule=devkit"
    same = megaface.evaluate(length * normalise(x), subject, unit, fars=["0.1"]).metrics[name]
    assert "long" not in same.note
    x = normalise(x)
    x[0] *= 3
    mixed = megaface.evaluate(length * x, subject, unit, fars=["0.1"]).metrics[name]
    assert mixed.note.endswith(f"distances of vectors as given, {length} to {3 * length} long")


def of_sizes(x: np.ndarray, subject: np.ndarray, d: np.ndarray, *sizes: int) -> Report:
    sets = {f"distractors={n}": d[:n] for n in sizes}
    known: dict[str, Any] = {"keys": range(len(x)), "set_name": "people"}
    known["distractor_keys"] = {name: [f"d{k}" for k in range(len(y))] for name, y in sets.items()}
    return megaface.evaluate(x, subject, sets, fars=["1e-2"], depths=[1], **known)


def test_models_are_paired_at_every_size() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(40), 5)
    x = rng.normal(size=(40, 16))[subject] + 0.8 * rng.normal(size=(200, 16))
    d = rng.normal(size=(300, 16))
    base = of_sizes(x, subject, d, 50, 300)
    now = of_sizes(x + 0.5 * rng.normal(size=x.shape), subject, d, 50, 300)
    found = compare(base, now, draws=200)
    own = [name for name in base.metrics if not ("tpr" in name and "rule=devkit" in name)]
    assert list(found.differences) == own and not found.why_unpaired
    for n in (50, 300):
        one, other = of_sizes(x, subject, d, n), one_size(now, n)
        alone = compare(one, other, draws=200, ignore=["comparisons"])
        names = [f"rank-1@distractors={n}", f"tpr@far=1e-2,distractors={n}"]
        assert [found.differences[m] for m in names] == [alone.differences[m] for m in names]
        rank = found.differences[f"rank-1@distractors={n}"]
        assert (
            rank.test == "subject t test"
            and rank.mcnemar is None
            and rank.lost is not None
            and rank.gained is not None
        )
        hits = [r.metrics[f"rank-1@distractors={n}"].value for r in (base, now)]
        assert (rank.gained - rank.lost) / 800 == pytest.approx((hits[1] or 0) - (hits[0] or 0))
    verdict = check(now, base, [Rule(metric="rank-1@distractors=300", test="paired")])
    assert not verdict.passed and verdict.rulings[0].p is not None


def one_size(report: Report, n: int) -> Report:
    """The report with one size only, its outcomes as an older evalkit named them."""
    name = f"distractors={n}"
    metrics = {k: m for k, m in report.metrics.items() if k.endswith(name)}
    return replace(
        report, metrics=metrics, outcomes=to_arrays(parts_of(report.outcomes or {})[name])
    )


def test_only_sizes_that_both_reports_have_are_paired() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(20), 3)
    x, d = rng.normal(size=(60, 8)), rng.normal(size=(90, 8))
    one, two = of_sizes(x, subject, d, 30, 90), of_sizes(x, subject, d, 60, 90)
    with pytest.raises(ReportError, match="'list'"):
        compare(one, two)
    found = compare(one, two, draws=20, ignore=["comparisons"])
    shared = ["rank-1@distractors=90", "tpr@far=1e-2,distractors=90"]
    assert list(found.differences) == [*shared, "rank-1@distractors=90,rule=devkit"]
    assert "only the first report has outcomes of distractors=30" in found.why_unpaired
    assert "only the second report has outcomes of distractors=60" in found.why_unpaired
    other = of_sizes(x, np.sort(subject % 7), d, 30, 90)
    found = compare(one, other, draws=20, ignore=["comparisons"])
    assert "of distractors=90 are of different comparisons" in found.why_unpaired


def test_a_threshold_is_that_of_the_size_named() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(20), 3)
    report = of_sizes(rng.normal(size=(60, 8)), subject, rng.normal(size=(90, 8)), 30, 90)
    for n in (30, 90):
        m = report.metrics[f"tpr@far=1e-2,distractors={n}"]
        point = operating_point(report, f"1e-2,distractors={n}")
        assert (point["threshold"], point["impostors"]) == (m.threshold, 60 * n)
        assert point["threshold_low"] < point["threshold"] < point["threshold_high"]
    with pytest.raises(ReportError, match=r"did you mean 'tpr@far=1e-2,distractors=[39]0'"):
        operating_point(report, "1e-2")


@pytest.mark.parametrize("depth", [1, 3])
def test_ranks_of_vectors_of_several_lengths_are_the_devkits_beside_ours(depth: int) -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(8), 3)
    x = rng.integers(-6, 7, (24, 5)) + 4 * rng.integers(-3, 4, (8, 5))[who]
    d = rng.integers(-9, 10, (40, 5))
    name = "distractors=40"
    report = megaface.evaluate(x.astype("f4"), who, {name: d.astype("f4")}, depths=[depth])
    own = -((x[:, None] - x) ** 2).sum(axis=2)
    other = -((x[:, None] - d) ** 2).sum(axis=2)
    i, j = np.nonzero((who[:, None] == who) & ~np.eye(24, dtype=bool))
    by_hand = np.mean((other[i] > own[i, j][:, None]).sum(axis=1) < depth)
    theirs = report.metrics[f"rank-{depth}@{name},rule=devkit"]
    assert theirs.value == by_hand != report.metrics[f"rank-{depth}@{name}"].value
    assert theirs.note.startswith("distances of vectors as given")
    assert theirs.low is not None and theirs.low <= by_hand
    if depth == 1:
        sides = (devkit.project(each.astype("f4")) for each in (x, d))
        probe, distractor = sides
        assert devkit.evaluate(probe, who, distractor).cmc[1][0] == pytest.approx(by_hand)
    unit = megaface.evaluate(normalise(x), who, {name: normalise(d)}, depths=[depth])
    assert f"rank-{depth}@{name},rule=devkit" not in unit.metrics
