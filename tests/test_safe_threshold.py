"""The safe threshold: its bound on the FAR, its rule in the user's unit, its reasons for none."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import ProtocolError, ReportError
from evalkit.protocols import score
from evalkit.protocols.uncertainty.deployed_threshold import (
    ALONE,
    deployed_threshold,
    interval_of_threshold,
    safe_threshold,
)
from evalkit.protocols.uncertainty.false_matches import (
    Sharing,
    sharing,
    upper_mean,
)
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, SetOutcomes
from evalkit.protocols.uncertainty.resampling import threshold_draws
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.types import Estimate, Report
from evalkit.verdict.threshold import operating_point, operating_row

pytestmark = pytest.mark.once

Two = tuple[Report, Report]


def strangers(impostor: np.ndarray) -> PairOutcomes:
    """Impostor pairs of people who are in no other pair, and four genuine pairs."""
    values = np.concatenate([np.full(4, 9.0), impostor])
    return PairOutcomes(score=values, genuine=np.arange(len(values)) < 4)


def crowd(rng: np.random.Generator, wolves: int = 0, pairs: int = 20_000) -> PairOutcomes:
    """Draw impostor pairs of 300 people; the first few are taken for others."""
    i, j = rng.integers(0, 300, pairs), rng.integers(1, 300, pairs)
    j = (i + j) % 300
    s = rng.normal(size=pairs) + 2 * ((i < wolves) | (j < wolves))
    return PairOutcomes(
        score=np.concatenate([np.full(4, 9.0), s]),
        genuine=np.arange(pairs + 4) < 4,
        left=np.concatenate([np.arange(4), i]),
        right=np.concatenate([np.arange(4), j]),
        left_subject=np.concatenate([np.arange(4), i]),
        right_subject=np.concatenate([np.arange(4), j]),
    )


@given(st.integers(0, 50), st.floats(0.5, 0.999))
def test_independent_accepts_have_the_exact_poisson_bound(count: int, confidence: float) -> None:
    exact = chi2.ppf(confidence, 2 * (count + 1)) / 2
    assert upper_mean(count, Sharing(), confidence) == pytest.approx(exact)


@given(st.floats(1, 50), st.integers(1, 200), st.floats(0.5, 0.999))
@example(1.0, 101, 0.99)  # of a gamma alone 465.1198 at one accept, 465.1199 at none
@example(1.0, 200, 0.999)  # 6 % lower at 60
def test_the_bound_rises_with_the_accepts(per: float, largest: int, confidence: float) -> None:
    bounds = [upper_mean(k, Sharing(per, largest), confidence) for k in range(200)]
    none = max(largest, per) * -np.log1p(-confidence)
    assert bounds[0] == pytest.approx(none, rel=1e-9)
    assert (np.diff(bounds) >= -1e-12 * none).all()
    assert upper_mean(10_000, Sharing(per, largest), confidence) > none


@pytest.mark.parametrize(("count", "bounded"), [(3680, False), (3700, True)])
def test_a_threshold_has_no_upper_end_where_none_accepted_is_likely(
    count: int, bounded: bool
) -> None:
    """Of a mean of 3.69 independent accepts none is seen in 2.5 % of samples."""
    impostor = np.random.default_rng(0).normal(size=count)
    ends = interval_of_threshold(sample_of(strangers(impostor)), "1e-3", 50)
    assert ends is not None and bounded == (np.exp(-count / 1000) < 0.025)
    assert ends[0] < np.sort(impostor)[-4] and bounded == (ends[1] <= impostor.max())


def test_an_open_end_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = np.append(np.random.default_rng(0).normal(size=2000), np.full(9, 9.0))
    for turned, shown in ((scores, r"\[[\d.]+, no bound\]$"), (-scores, r"\[no bound, -.* dist")):
        path = tmp_path / "r.json"
        report = score.evaluate(scores, scores == 9)
        if turned is not scores:
            report = replace(
                report, provenance=report.provenance | {"score": "minus the distance given"}
            )
        reports.write(report, path)
        assert run(["threshold", str(path), "--far", "1e-3", "--json"]) == 0
        point = json.loads(capsys.readouterr().out)
        assert point["threshold_low"] < point["threshold"] and point["threshold_high"] is None
        assert run(["threshold", str(path), "--far", "1e-3"]) == 0
        assert re.search(shown, capsys.readouterr().out.splitlines()[0])


def test_the_rule_of_three() -> None:
    impostor = np.random.default_rng(0).normal(size=3000)
    found = safe_threshold(strangers(impostor), "1e-3")
    assert (found.false_accepts, found.largest) == (0, 1)
    assert found.threshold == np.nextafter(impostor.max(), np.inf)
    assert found.far_high == pytest.approx(-np.log(0.05) / 3000)
    none = safe_threshold(strangers(impostor[:2000]), "1e-3")
    assert none.threshold is None and none.impostors == 2996
    assert "takes about 2,996 of them" in none.note


def test_a_safe_threshold_says_what_was_measured_at_it() -> None:
    rng = np.random.default_rng(4)
    o = crowd(rng, pairs=2000)
    o = replace(o, score=np.where(o.genuine, [9.0, 9.0, 9.0, -9.0] + [0.0] * 2000, o.score))
    found = safe_threshold(o, "2e-2", draws=20)
    assert found.threshold is not None and found.false_accepts
    assert found.far == found.false_accepts / 2000 and found.note == ""
    name = f"fnmr@threshold={found.threshold!r}"
    fnmr = with_intervals({name: Estimate(value=0.25)}, o, draws=20)[name]
    assert (found.fnmr, found.fnmr_low, found.fnmr_high) == (0.25, fnmr.low, fnmr.high)
    assert safe_threshold(strangers(rng.normal(size=3000)), "1e-3", draws=2).note == ALONE
    all_ = safe_threshold(strangers(np.zeros(3000)), "1")
    assert all_.threshold == np.nextafter(0, 1) and all_.far == 0


def of_two_sets(impostors: int, stored: int) -> SetOutcomes:
    """The highest of all impostor pairs of five probes' people and three of the gallery's."""
    return SetOutcomes(
        genuine_score=np.array([3.0, 2.0, -1.0]),
        genuine_subject=np.array([0, 1, 1]),
        impostor_score=np.linspace(1, 0, stored),
        impostor_left=np.arange(stored) % 5,
        impostor_right=np.arange(stored) % 3 + 5,
        left_images=np.array([4, 4, 4, 4, 4, 0, 0, 0, 0]),  # the last one is only searched for
        right_images=np.array([0, 0, 0, 0, 0, 9, 9, 9, 0]),
        impostors=impostors,
    )


def test_where_the_outcomes_end_or_support_nothing() -> None:
    with pytest.raises(ProtocolError, match=r"the outcomes end before FAR 0\.1"):
        safe_threshold(of_two_sets(impostors=540, stored=54), "0.1")
    none = safe_threshold(of_two_sets(impostors=540, stored=54), "1e-3")
    assert none.threshold is None and none.impostors is not None
    assert none.people == int(np.ceil(none.impostors / 540 * 8))
    assert none.note.endswith(f"them, and {none.people:,} people, not 8")
    assert safe_threshold(strangers(np.zeros(9)), "1e-3").people is None  # nobody is known


def test_the_threshold_of_an_estimate_has_the_ends_of_its_draws() -> None:
    far, m = "5e-2", Estimate(value=0.5, far=0.05, low=0.1, high=0.9, false_accepts=100, note="so")
    alone = deployed_threshold(m, 1.5, far, None)
    given = (1.5, 0.05, 0.5, 0.1, 0.9, 100, "so")
    for found in (alone, sure := deployed_threshold(m, 1.5, far, sample_of(tail := crowd_of()))):
        held = (found.threshold, found.far, found.tpr, found.tpr_low, found.tpr_high)
        assert (*held, found.false_accepts, found.note) == given
    ends = (alone.threshold_low, alone.threshold_high, alone.far_low, alone.far_high)
    assert ends == (None,) * 4 and alone.draws == 0
    assert (alone.independent, alone.impostors, alone.subjects) == (None,) * 3
    drawn = threshold_draws(sample_of(tail), far)
    assert drawn is not None
    ends = np.quantile(drawn[:, 0], [0.025, 0.975]).tolist()
    assert [sure.threshold_low, sure.threshold_high] == ends
    name = "fmr@threshold=1.5"
    fmr = with_intervals({name: Estimate(value=0.05)}, tail)[name]
    assert (sure.far_low, sure.far_high) == (fmr.low, fmr.high)
    assert (sure.draws, sure.impostors, sure.subjects) == (1000, 400, 40)
    shared = sharing(sample_of(tail), 100).per_accept
    assert sure.independent == 100 / shared
    few = deployed_threshold(m, 1.5, "1e-9", sample_of(tail))  # no FAR so low: no draw has one
    assert (few.threshold_low, few.far_low, few.draws, few.impostors) == (None, None, 0, 400)
    unknown = deployed_threshold(m, 1.5, far, sample_of(strangers(np.arange(400.0))))
    assert (unknown.subjects, unknown.impostors) == (None, 400)


def crowd_of() -> PairOutcomes:
    """Draw 400 impostor pairs of 40 people, two in a pair."""
    i = np.arange(400) % 40
    return PairOutcomes(
        score=np.concatenate([np.full(4, 9.0), np.random.default_rng(5).normal(size=400)]),
        genuine=np.arange(404) < 4,
        left=np.arange(404),
        right=np.arange(404) + 404,
        left_subject=np.concatenate([np.arange(4), i]),
        right_subject=np.concatenate([np.arange(4), (i + 1 + np.arange(400) // 40) % 40]),
    )


def test_it_is_the_lowest_threshold_whose_bound_is_kept() -> None:
    o = crowd(np.random.default_rng(1))
    sample = sample_of(o)
    shared = sharing(sample, 200)
    found = safe_threshold(o, "1e-2")
    assert found.threshold is not None and found.false_accepts is not None
    assert found.false_accepts == np.count_nonzero(o.score[~o.genuine] >= found.threshold) < 200
    most = 0.01 * sample.impostors
    assert upper_mean(found.false_accepts, shared, 0.95) <= most
    assert upper_mean(found.false_accepts + 1, shared, 0.95) > most
    thresholds = [safe_threshold(o, far).threshold for far in ("5e-3", "1e-2", "2e-2", "1e-1")]
    assert thresholds == sorted(thresholds, reverse=True)
    surer = safe_threshold(o, "1e-2", 0.99)
    assert surer.threshold is not None and surer.threshold > found.threshold


def test_a_threshold_safe_at_a_lower_far_is_safe_at_a_higher_one() -> None:
    """One person has most of the false accepts at 1e-2, and none of those at 1e-3."""
    rng, pairs = np.random.default_rng(6), 40_000
    o = crowd(rng, pairs=pairs)
    wolf = ((o.left_subject == 0) | (o.right_subject == 0)) & ~o.genuine
    o = replace(o, score=np.where(wolf, rng.uniform(2.7, 2.9, pairs + 4), o.score))
    alone = sharing(sample_of(o), 400)
    assert upper_mean(0, alone, 0.95) > 400  # no bound at 1e-2 itself
    low, high = safe_threshold(o, "1e-3"), safe_threshold(o, "1e-2")
    assert low.threshold is not None and low.bounded_at == "1e-3" and low.note == ""
    kept = ("threshold", "far", "far_high", "false_accepts", "largest", "fnmr", "bounded_at")
    assert [getattr(high, name) for name in kept] == [getattr(low, name) for name in kept]
    assert high.note == (
        f"that of FAR 1e-3: one person has part in {alone.largest} of the 400 false accepts at "
        "1e-2, too many for a bound there"
    )
    found = [safe_threshold(o, far, draws=2).threshold for far in ("1e-4", "1e-3", "1e-2", "0.1")]
    assert found[:3] == [None, low.threshold, low.threshold]
    assert found[3] is not None and found[3] < low.threshold


def test_people_who_are_taken_for_others_are_counted_once() -> None:
    rng = np.random.default_rng(2)
    same, wolves = crowd(rng), crowd(rng, wolves=6)
    shares = [sharing(sample_of(o), 200) for o in (same, wolves)]
    assert shares[0].per_accept < 2 and shares[1].per_accept > 5
    assert shares[1].largest > 20
    found = [safe_threshold(o, "1e-2").false_accepts or 0 for o in (same, wolves)]
    assert found[0] > 150 and found[1] < 100


def test_the_true_far_is_kept_where_the_measured_threshold_exceeds_it() -> None:
    rng = np.random.default_rng(3)
    kept = [safe_threshold(crowd(rng, pairs=10_000), "1e-3", draws=2).threshold for _ in range(60)]
    assert np.mean([norm.sf(t or np.inf) <= 1e-3 for t in kept]) >= 0.95


@pytest.mark.parametrize("accepted", [0, 19, 20, 21, 30])
def test_sharing_is_that_of_plain_loops(accepted: int) -> None:
    rng = np.random.default_rng(accepted)
    for people in (8, 12):
        left = np.repeat([0, 1, 2], 20)  # one who is taken for others has all of the tail
        right = (left + rng.integers(1, people, 60)) % people
        o = PairOutcomes(
            score=np.linspace(1, 0, 61),
            genuine=np.arange(61) == 0,
            left=np.arange(61),
            right=np.arange(61) + 100,
            left_subject=np.append(0, left),
            right_subject=np.append(0, right),
        )
        pairs = [{int(a), int(b)} for a, b in zip(left, right, strict=True)]
        counted = pairs[: max(accepted, 20)]
        parts = [sum(who in pair for pair in counted) for who in range(people)]
        share = [len(counted) / 60 * sum(who in pair for pair in pairs) for who in range(people)]
        twice = sum(counted.count(pair) for pair in counted)  # over people, squares of the same
        variance = sum((p - e) ** 2 for p, e in zip(parts, share, strict=True)) - twice
        assert variance > len(counted)
        found = sharing(sample_of(o), accepted)
        assert found.per_accept == pytest.approx(max(1, variance / len(counted)))
        assert found.largest == max(parts)
    assert sharing(sample_of(strangers(np.arange(9.0))), 5) == Sharing()
    nobody = replace(sample_of(o), impostor=np.zeros(0), left=left[:0], right=right[:0])
    assert sharing(nobody, 5) == Sharing()


@pytest.mark.parametrize("confidence", [0.3, 1.0, float("nan")])
def test_a_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ProtocolError, match="a confidence of"):
        safe_threshold(strangers(np.arange(10.0)), "0.5", confidence)


def test_the_command_prints_both_thresholds(
    tmp_path: Path, two_reports: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    reports.write(two_reports[0], path)
    assert run(["threshold", str(path), "--far", "1e-1", "--json"]) == 0
    point = json.loads(capsys.readouterr().out)
    safe = point["safe"]
    assert safe["confidence"] == 0.95
    assert safe["threshold"] > point["threshold"] and safe["far_high"] <= 0.1
    assert safe["fnmr_low"] <= safe["fnmr"] <= safe["fnmr_high"]
    assert run(["threshold", str(path), "--far", "1e-1", "--confidence", "0.9"]) == 0
    out = capsys.readouterr().out
    assert f"accept if and only if score >= {point['threshold']!r}" in out
    assert "safe: FAR <= 1e-1 at 0.9 confidence" in out
    assert run(["threshold", str(path), "--far", "1e-2"]) == 0
    out = capsys.readouterr().out
    assert "safe: none for FAR <= 1e-2 at 0.95 confidence" in out
    assert "without one false accept among 400 impostor comparisons FAR may still be" in out
    assert "rule of 30: they weigh as" in out
    assert run(["threshold", str(path)]) == 2
    assert "give --far FAR (1e-1, 1e-2 in r.json), or --metric NAME" in capsys.readouterr().err


def test_every_row_with_a_threshold_has_an_answer(
    tmp_path: Path, two_reports: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    report = two_reports[0]
    for name, m in report.metrics.items():
        if m.threshold is not None:
            row = operating_row(report, name)
            assert (row["threshold"], row["accept"]) == (m.threshold, f"score >= {m.threshold!r}")
    with pytest.raises(ReportError, match=r"has no threshold at 'auc' \(did you mean|known are"):
        operating_row(report, "auc")
    reports.write(report, tmp_path / "r.json")
    assert run(["threshold", str(tmp_path / "r.json"), "--metric", "eer"]) == 0
    assert f"score >= {report.metrics['eer'].threshold!r}" in capsys.readouterr().out


def test_a_distance_stays_a_distance_and_accepts_the_same_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    genuine = np.arange(6000) < 3000
    distance = np.where(genuine, 0.5, 1.3) + 0.2 * rng.normal(size=6000)
    lines = [f"{int(g)} {d!r}" for g, d in zip(genuine, distance.tolist(), strict=True)]
    (tmp_path / "d.txt").write_text("\n".join(lines))
    report = tmp_path / "r.json"
    assert run(["score", str(tmp_path / "d.txt"), "--distance", "--out", str(report)]) == 0
    capsys.readouterr()
    for far in ("1e-2", "1e-3"):
        assert run(["threshold", str(report), "--far", far, "--json"]) == 0
        point = json.loads(capsys.readouterr().out)
        for each in (point, point["safe"]):
            rule, _, number = each["accept"].rpartition(" ")
            assert rule == "distance <="
            accepted = distance <= float(number)
            assert np.count_nonzero(accepted & ~genuine) == each["false_accepts"]
        tpr = np.mean(distance[genuine] <= float(point["accept"].rpartition(" ")[2]))
        assert tpr == point["tpr"]
    assert run(["threshold", str(report), "--far", "1e-2"]) == 0
    first, *_, safe = [line for line in capsys.readouterr().out.split("\n") if "threshold " in line]
    assert first.split()[1] == repr(-operating_point(reports.read(report), "1e-2")["threshold"])
    low, high = (float(end) for end in first.partition("[")[2].partition("]")[0].split(", "))
    assert 0 < low <= float(first.split()[1]) <= high and first.endswith("  distance")
    assert safe.split()[2:] == ["distance"] and 0 < float(safe.split()[1]) <= high
    assert run(["threshold", str(report), "--metric", "eer"]) == 0
    assert 0.5 < float(capsys.readouterr().out.split()[1]) < 1.3


def test_a_recipe_that_scores_squared_distances_says_so(two_reports: Two) -> None:
    fields = {"recipe_fields": {"score": "-l2^2"}}
    held = replace(two_reports[0], provenance={**two_reports[0].provenance, **fields})
    threshold = held.metrics["tpr@far=1e-1"].threshold
    assert threshold is not None
    assert operating_point(held, "1e-1")["accept"] == f"squared distance <= {-threshold!r}"


@pytest.mark.parametrize("smallest", [5e-324, -5e-324, 0.0, 1e-310])
def test_thresholds_too_small_for_five_decimals_are_printed_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], smallest: float
) -> None:
    impostor = np.array([*np.linspace(-1, -0.5, 18), smallest, smallest])
    s, genuine = np.concatenate([np.ones(20), impostor]), np.arange(40) < 20
    report = score.evaluate(s, genuine, fars=("0.05",))
    reports.write(report, tmp_path / "r.json")
    assert run(["threshold", str(tmp_path / "r.json"), "--far", "0.05"]) == 0
    out = capsys.readouterr().out
    number = out.split("score >= ")[1].split("\n")[0]
    at = report.metrics["tpr@far=0.05"].threshold
    assert at is not None and ((s >= float(number)) == (s >= at)).all()
