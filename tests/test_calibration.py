"""Cllr in closed form and by loops, both fits, their file, and the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from evalkit.cli import run as run_command
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import calibration
from evalkit.protocols.calibration import fits
from evalkit.protocols.calibration.fits import Calibration, fitted
from evalkit.protocols.metrics.cllr import cllr, cllr_min, isotonic_llr
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, to_arrays

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages

# Two scores, right three times in four: llr is +-log 3, Cllr the entropy of (3/4, 1/4).
TWO = [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]
ENTROPY = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))


def test_a_set_whose_cllr_is_known() -> None:
    assert cllr_min(*TWO) == pytest.approx(ENTROPY, abs=1e-15)
    made = fitted(*TWO, "logistic")
    assert made.of([0.0, 1.0]) == pytest.approx([-math.log(3), math.log(3)], abs=1e-6)
    assert cllr(made.of(TWO[0]), made.of(TWO[1])) == pytest.approx(ENTROPY, abs=1e-12)
    assert made.posterior([1.0], 0.5) == pytest.approx([0.75], abs=1e-6)
    assert made.posterior([1.0], 0.1) == pytest.approx([3 / 12], abs=1e-6)  # 3/9 odds
    assert cllr([0.0] * 3, [0.0] * 5) == 1.0  # worth nothing
    assert cllr([np.inf], [-np.inf]) == 0.0 and cllr([-np.inf], [0.0]) == np.inf


def test_a_class_without_a_finite_score_says_nothing() -> None:
    assert cllr_min([-np.inf, -np.inf], [0.5]) == cllr_min([0.5], [-np.inf]) == 1.0
    # Of two genuine comparisons one failed, a bit; the other is parted from both impostors.
    assert cllr_min([-np.inf, 2.0], [0.0, 1.0]) == pytest.approx((0.5 + 0) / 2)


@pytest.mark.parametrize(
    "ratios", [([], [0.0]), ([0.0], []), ([0.0, np.nan], [0.0]), ([0.0], [0.0, np.nan])]
)
def test_cllr_of_an_empty_class_or_of_nan_is_refused(ratios: tuple[list[float], ...]) -> None:
    with pytest.raises(
        ProtocolError, match=r"Cllr of \d genuine and \d impostor ratios, or of NaN"
    ):
        cllr(*ratios)


def test_normal_scores_have_their_slope_and_cllr() -> None:
    """Genuine N(1, 1), impostor N(-1, 1): llr = 2 score, Cllr an integral."""
    rng = np.random.default_rng(0)
    genuine, impostor = rng.normal(1, 1, 20_000), rng.normal(-1, 1, 30_000)
    made = fitted(genuine, impostor, "logistic")
    assert (made.slope, made.offset) == pytest.approx((2, 0), abs=0.06)

    def cost(s: float) -> float:
        density = math.exp(-((s - 1) ** 2) / 2) / math.sqrt(2 * math.pi)
        return density * math.log2(1 + math.exp(-2 * s))

    truth = quad(cost, -9, 11)[0]
    assert cllr(2 * genuine, 2 * impostor) == pytest.approx(truth, abs=0.01)
    assert cllr(made.of(genuine), made.of(impostor)) == pytest.approx(truth, abs=0.01)
    assert truth - 0.01 < cllr_min(genuine, impostor) < cllr(2 * genuine, 2 * impostor)


def _pooled(genuine: list[float], impostor: list[float]) -> dict[float, float]:
    """Ratio of each score by pooling, one violator at a time."""
    scores = sorted({*genuine, *impostor})
    blocks = [[[s], genuine.count(s), impostor.count(s)] for s in scores]
    k = 0
    while k < len(blocks) - 1:
        (a, g, i), (b, h, j) = blocks[k], blocks[k + 1]
        if g * (h + j) >= h * (g + i):
            blocks[k : k + 2] = [[a + b, g + h, i + j]]
            k = max(k - 1, 0)
        else:
            k += 1
    found = {}
    for members, g, i in blocks:
        ratio = math.inf if not i else -math.inf
        if g and i:
            ratio = math.log(g / len(genuine) / (i / len(impostor)))
        found |= dict.fromkeys(members, ratio)
    return found


def test_pooling_by_loops() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        g = rng.integers(2, 9, 12).astype(float).tolist()
        i = rng.integers(0, 7, 15).astype(float).tolist()
        score, llr = isotonic_llr(g, i)
        expected = _pooled(g, i)
        assert score.tolist() == sorted(expected)
        assert llr == pytest.approx([expected[s] for s in score])
        of_g, of_i = ([expected[s] for s in side] for side in (g, i))
        bits = (
            [math.log2(1 + math.exp(-v)) for v in of_g],
            [math.log2(1 + math.exp(v)) for v in of_i],
        )
        assert cllr_min(g, i) == pytest.approx(np.mean(bits[0]) / 2 + np.mean(bits[1]) / 2)


def test_an_isotonic_fit_is_finite_and_rises() -> None:
    rng = np.random.default_rng(2)
    g, i = rng.normal(2, 1, 80), rng.normal(0, 1, 90)
    made = fitted(g, i, "isotonic")
    at = made.of(np.linspace(-9, 9, 400))
    assert np.isfinite(at).all() and (np.diff(at) >= 0).all()
    assert fitted([3.0, 4.0], [0.0, 1.0], "isotonic").of([9.0])[0] < math.inf
    assert made.of([-np.inf]).tolist() == [0.0]  # a failure says nothing
    with pytest.raises(ProtocolError, match="do not overlap"):
        fitted([3.0, 4.0], [0.0, 1.0], "logistic")
    with pytest.raises(ProtocolError, match="0 genuine and 1 impostor"):
        fitted([-np.inf], [0.0], "logistic")
    with pytest.raises(ProtocolError, match="outside"):
        made.posterior([0.0], 1.0)


def test_the_fold_that_alone_overlaps_is_named() -> None:
    score = np.tile([0.0, 1.0, 2.0, 3.0], 10)  # two impostors and two genuine pairs a fold
    score[3 * 4 + 3] = 0.5
    genuine, fold = np.tile([False, False, True, True], 10), np.repeat(np.arange(10), 4)
    with pytest.raises(ProtocolError, match=r"^without fold 4, genuine and impostor scores do not"):
        calibration.across_folds(score, genuine, fold, "logistic")


def _outcomes() -> PairOutcomes:
    rng = np.random.default_rng(3)
    left, right = np.triu_indices(60, 1)
    who = np.repeat(np.arange(20), 3)
    same = who[left] == who[right]
    keep = same | (np.arange(len(left)) % 9 == 0)
    left, right, same = left[keep], right[keep], same[keep]
    score = rng.normal(np.where(same, 1.5, -0.5), 1)
    score[5] = -np.inf
    return PairOutcomes(
        score=score,
        genuine=same,
        left=left,
        right=right,
        fold=np.arange(len(left)) % 5,
        left_subject=who[left],
        right_subject=who[right],
    )


def test_a_fold_is_fitted_on_the_others() -> None:
    o = _outcomes()
    report = calibration.evaluate(o, prior=0.2)
    for fit in fits.FITS:
        llr = np.empty(len(o.score))
        for k in range(5):
            others = o.fold != k
            made = fitted(o.score[others & o.genuine], o.score[others & ~o.genuine], fit)
            for n in np.flatnonzero(o.fold == k):
                llr[n] = made.of(o.score[n : n + 1])[0]
        bits = [
            math.log2(1 + math.exp(-v if g else v)) for v, g in zip(llr, o.genuine, strict=True)
        ]
        by_class = [
            np.mean([b for b, g in zip(bits, o.genuine, strict=True) if g == c]) for c in (1, 0)
        ]
        m = report.metrics[f"cllr@fit={fit}"]
        assert m.value == pytest.approx(np.mean(by_class)) and m.low < m.value < m.high
        assert m.people == 20
        curve = report.curves[f"reliability@fit={fit}"]
        assert sum(curve["genuine"]) == o.genuine.sum()
        assert sum(curve["impostor"]) == (~o.genuine).sum()
    assert report.metrics["cllr-min"].value < report.metrics["cllr@fit=logistic"].value
    assert report.provenance["failed"] == 1


def test_the_file_is_applied_as_it_says(tmp_path: Path) -> None:
    o = _outcomes()
    for fit in fits.FITS:
        made = fitted(o.score[o.genuine], o.score[~o.genuine], fit)
        fits.write(made, tmp_path / "c.json")
        assert fits.read(tmp_path / "c.json") == made
        held = json.loads((tmp_path / "c.json").read_text())
        s = np.linspace(-4, 4, 9)
        told = (
            held["slope"] * s + held["offset"]
            if fit == "logistic"
            else np.interp(s, held["score"], held["llr"])
        )
        assert made.of(s) == pytest.approx(told)
    start = '{"format": "evalkit-calibration", "version": 1, "fit": '
    for text in (
        "{}",
        "[1]",
        "x",
        start.replace("1", "9") + '"logistic"}',
        start + '"other", "slope": 1}',
        start + '"isotonic"}',
        start + '"isotonic", "score": [0, 1], "llr": [1, 0]}',
        start + '"logistic", "slope": NaN}',
        start + '"logistic", "slop": 1}',
    ):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(DataError, match="not a calibration"):
            fits.read(tmp_path / "c.json")
    assert Calibration(fit="logistic", slope=1.0).of([2.0]).tolist() == [2.0]


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calibration, "DRAWS", 50)
    o = _outcomes()
    rows = zip(o.genuine, o.score, o.fold, strict=True)
    lines = (f"{int(g)} {s if np.isfinite(s) else 'nan'} {f}" for g, s, f in rows)
    Path("s.txt").write_text("\n".join(lines))
    words = "score s.txt --allow-failures --far 0.1 --out r.json --quiet"
    assert run_command(words.split()) == 0
    capsys.readouterr()
    assert (
        run_command(
            ["calibrate", "r.json", "--save", "c.json", "--fit", "isotonic", "--out", "k.json"]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert "cllr@fit=logistic" in out and "cllr-min" in out
    assert "1 failed comparisons say nothing" in err and "isotonic fit to all pairs" in err
    assert json.loads(Path("c.json").read_text())["fit"] == "isotonic"
    kept = json.loads(Path("k.json").read_text())
    assert kept["protocol"] == "calibration" and kept["provenance"]["folds"] == "from the list"
    report = json.loads(Path("r.json").read_text())
    report["provenance"]["folds"] = "the list has none: cut by place"
    Path("r.json").write_text(json.dumps(report))
    assert run_command(["calibrate", "r.json", "--json", "-"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["provenance"]["folds"] == "the list has none: cut by place"
    Path("bare.txt").write_text("\n".join(f"{k % 2} {k % 2 + k / 99}" for k in range(8)))
    assert run_command(["score", "bare.txt", "--far", "0.5", "--out", "b.json", "--quiet"]) == 0
    assert run_command(["calibrate", "b.json"]) == 3
    assert "fewer than 10 pairs of a class" in capsys.readouterr().err


def test_what_is_no_outcome_and_no_prior_is_told() -> None:
    outcomes = PairOutcomes(score=np.arange(4.0), genuine=np.array([True, False] * 2))
    for wrong, prior, told in ((to_arrays(outcomes), 0.5, "outcomes"), (outcomes, "0.1", "prior")):
        with pytest.raises(ProtocolError, match=f"{told} given as"):
            calibration.evaluate(wrong, prior=prior)  # type: ignore[arg-type]


def test_scores_turned_round_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calibration, "DRAWS", 50)
    for sign, told in ((-1, True), (1, False)):
        lines = (f"{k % 2} {sign * (k % 2) + k % 7 / 5}" for k in range(60))
        Path("s.txt").write_text("\n".join(lines))
        assert run_command(["score", "s.txt", "--far", "0.5", "--out", "r.json", "--quiet"]) == 0
        capsys.readouterr()
        assert run_command(["calibrate", "r.json"]) == 0
        assert ("warning: genuine pairs score below" in capsys.readouterr().err) == told
