"""FMR and FNMR at a given threshold, drawn by subject."""

import numpy as np
import pytest
from scipy.stats import binomtest

from evalkit.protocols import all_vs_all, megaface, people, trillion
from evalkit.protocols.metrics import errors_at
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import from_arrays
from evalkit.protocols.uncertainty.resampling import metric_draws
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.protocols.uncertainty.weights import SCALE
from evalkit.types import Report

pytestmark = pytest.mark.once


def test_each_draw_is_the_weighted_share_at_the_threshold(two_reports: tuple[Report, ...]) -> None:
    sample = sample_of(two_reports[0].outcomes or {})
    names = ["fmr@threshold=0.5", "fnmr@threshold=0.5"]
    weights = np.random.default_rng(0).integers(0, 3, (5, sample.subjects))
    drawn = metric_draws(sample, names, c={names[0]: 1.0}, weights=[(w, 0) for w in weights])
    for w, fmr, fnmr in zip(weights, *drawn.values(), strict=True):
        pair, mate = w[sample.left] * w[sample.right], w[sample.genuine_subject]
        assert fmr == pytest.approx(pair[sample.impostor >= 0.5].sum() / pair.sum())
        assert fnmr == pytest.approx(mate[sample.genuine < 0.5].sum() / mate.sum())


def test_intervals_hold_the_rates_and_are_by_subject(two_reports: tuple[Report, ...]) -> None:
    o, at = two_reports[0].outcomes or {}, two_reports[0].metrics["eer"].threshold
    assert at is not None
    found = errors_at(o["score"][o["genuine"]], o["score"][~o["genuine"]], at)
    for m in with_intervals(found, o).values():
        assert m.value is not None and m.low is not None and m.high is not None
        assert m.low < m.value < m.high
        assert m.interval.startswith("95% by subject")


def test_without_an_error_there_is_room_for_one_unseen() -> None:
    """Where nobody is compared twice the ends are Clopper and Pearson's, of FMR too."""
    genuine = np.arange(300) < 100
    o = {"score": genuine.astype(float), "genuine": genuine}
    found = errors_at(o["score"][genuine], o["score"][~genuine], 0.5)
    for (name, m), n in zip(with_intervals(found, o, draws=4000).items(), (200, 100), strict=True):
        assert (m.value, m.low) == (0, 0), name
        assert m.high == pytest.approx(binomtest(0, n).proportion_ci().high, rel=0.1)


def test_a_threshold_below_the_stored_tail_is_not_resampled() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(40), 5)
    x = rng.normal(size=(40, 8))[subject] + rng.normal(size=(200, 8))
    report = all_vs_all.evaluate(x.astype("f4"), subject, fars=("1e-3",))
    sample = sample_of(from_arrays(report.outcomes or {}))
    assert len(sample.impostor) < sample.impostors
    low, high = sample.impostor[[-1, 50]].tolist()
    names = [f"fmr@threshold={low - 1e-9!r}", f"fmr@threshold={high!r}", "fmr@threshold=x"]
    assert list(metric_draws(sample, names, 3)) == names[1:2]


def labelled(seed: int = 0, people: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Images of people, and of as many strangers."""
    rng = np.random.default_rng(seed)
    subject = np.concatenate([np.repeat(np.arange(people), 4), np.full(4 * people, -1)])
    centre = rng.normal(size=(people + 1, 8))
    x = centre[subject] * (subject >= 0)[:, None] + 0.8 * rng.normal(size=(len(subject), 8))
    x[5] = np.nan
    return x.astype("f4"), subject


@pytest.mark.parametrize("threshold", [-0.5, 0.3, 0.8, 2.0])
def test_all_pairs_of_a_set_are_counted_at_a_threshold(threshold: float) -> None:
    x, subject = labelled()
    unit = normalise(x)
    i, j = np.triu_indices(len(x), 1)
    score = exact_scores(unit, i, unit, j)
    same = (subject[i] == subject[j]) & (subject[i] >= 0)
    for protocol in (all_vs_all.evaluate, trillion.evaluate_one_set):
        report = protocol(x, subject, fars=["1e-2"], threshold=threshold)
        fmr, fnmr = (report.metrics[f"{n}@threshold={threshold}"] for n in ("fmr", "fnmr"))
        assert fmr.false_accepts == np.count_nonzero(score[~same] >= threshold)
        assert fmr.value == np.mean(score[~same] >= threshold)
        assert fnmr.value == np.mean(~(score[same] >= threshold))
        for m in (fmr, fnmr):
            assert m.low is not None and m.high is not None and m.value is not None
            assert m.low <= m.value <= m.high


@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_searches_among_distractors_are_counted_at_a_threshold(threshold: float) -> None:
    x, subject = labelled(1)
    report = trillion.evaluate(x, subject, fars=["1e-2"], fpir="0.1", threshold=[threshold, 0.9])
    unit = normalise(x)
    probe, gallery, who = unit[subject >= 0], unit[subject < 0], subject[subject >= 0]
    p, g = np.indices((len(probe), len(gallery))).reshape(2, -1)
    among = exact_scores(probe, p, gallery, g)
    best = among.reshape(len(probe), -1).max(axis=1)
    hits, searches = 0, 0
    for a in range(len(who)):
        for b in np.flatnonzero(who == who[a]):
            if a != b:
                (s,) = exact_scores(probe, np.array([a]), probe, np.array([b]))
                searches, hits = searches + 1, hits + (s >= max(threshold, best[a]))
    got = {n: m for n, m in report.metrics.items() if n.endswith(f"@threshold={threshold}")}
    value = {name.partition("@")[0]: m.value for name, m in got.items()}
    assert value["fpir"] == np.mean(best >= threshold)
    assert value["tpir"] == hits / searches
    assert value["fnir"] == (searches - hits) / searches
    assert value["fmr"] == np.mean(among >= threshold)
    for m in got.values():
        assert m.low is not None and m.high is not None and m.value is not None
        assert m.low <= m.value <= m.high and m.interval.startswith("95% by subject")
    sample = sample_of(from_arrays(report.outcomes or {}))
    names = [n for n in got if n.startswith(("fpir", "fnir", "tpir"))]
    once = [(np.full(sample.subjects, SCALE), 0)]
    for name, drawn in metric_draws(sample, names, 1, weights=once).items():
        assert drawn[0] == pytest.approx(got[name].value)


def test_a_threshold_is_judged_at_every_number_of_distractors() -> None:
    x, subject = labelled(2)
    probe, who, others = x[subject >= 0], subject[subject >= 0], x[subject < 0]
    sets = {"distractors=50": others[:50], "distractors=120": others}
    report = megaface.evaluate(probe, who, sets, fars=["1e-2"], threshold=0.4)
    unit = normalise(probe)
    for name, distractors in sets.items():
        p, d = np.indices((len(probe), len(distractors))).reshape(2, -1)
        score = exact_scores(unit, p, normalise(distractors), d)
        fmr, fnmr = (report.metrics[f"{n}@threshold=0.4,{name}"] for n in ("fmr", "fnmr"))
        assert fmr.value == np.mean(score >= 0.4)
        rows = np.concatenate([probe, distractors])
        alone = np.append(who, np.full(len(distractors), -1))
        same = trillion.evaluate(rows, alone, fars=["1e-2"], fpir="0.1", threshold=0.4).metrics
        searched = [f"{n}@threshold=0.4" for n in ("fpir", "fnir", "tpir")]
        for n in searched:
            assert report.metrics[f"{n},{name}"].value == same[n].value
        for m in (fmr, fnmr, *(report.metrics[f"{n},{name}"] for n in searched)):
            assert m.low is not None and m.high is not None and m.value is not None
            assert m.low <= m.value <= m.high


def test_ones_own_people_are_judged_at_a_threshold() -> None:
    x, subject = labelled(3)
    known = subject >= 0
    own = people.evaluate(x[known], subject[known], threshold=0.4).metrics
    every = all_vs_all.evaluate(x[known], subject[known], threshold=0.4).metrics
    for name in ("fmr@threshold=0.4", "fnmr@threshold=0.4"):
        assert own[name].value == every[name].value
        assert own[name].low is not None
