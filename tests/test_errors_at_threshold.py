"""FMR and FNMR at a given threshold, drawn by subject."""

import numpy as np
import pytest

from evalkit.protocols import all_vs_all
from evalkit.protocols.metrics import errors_at
from evalkit.protocols.uncertainty.intervals import clopper_pearson, with_intervals
from evalkit.protocols.uncertainty.outcomes import from_arrays
from evalkit.protocols.uncertainty.resampling import metric_draws
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.types import Report


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
        assert m.high == pytest.approx(clopper_pearson(0, n)[1], rel=0.1)


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
