"""Quality against error by plain loops, the rules of papers, files of qualities, the command."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit import run
from evalkit.cli import run as run_command
from evalkit.datasets import quality_table
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import quality
from evalkit.protocols.metrics import threshold_at_far
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.protocols.quality import compat
from evalkit.protocols.quality.discarding import by_image
from evalkit.protocols.quality.resampled import adjusted, difference, edc_draws
from evalkit.protocols.uncertainty.bootstrap import shrinkage, unseen_genuine
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.protocols.uncertainty.weights import SCALE, subject_draws
from evalkit.protocols.verification import outcomes
from evalkit.types import Estimate, PairSet

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages

N, FAR, SHARES = 90, "5e-2", ("0.1", "0.3")
WHO = np.repeat(np.arange(30), 3)
RNG = np.random.default_rng(4)
GOOD = np.round(RNG.random(N), 1)  # ties
X = RNG.normal(size=(30, 8))[WHO] + (1.6 - GOOD)[:, None] * RNG.normal(size=(N, 8))
X = X.astype(np.float32)
LEFT, RIGHT = np.triu_indices(N, 1)
KEPT = (WHO[LEFT] == WHO[RIGHT]) | (np.arange(len(LEFT)) % 8 == 0)  # some impostor pairs will do
LEFT, RIGHT = LEFT[KEPT], RIGHT[KEPT]
PAIRS = PairSet(LEFT, RIGHT, WHO[LEFT] == WHO[RIGHT])
SCORE = exact_scores(normalise(X), LEFT, normalise(X), RIGHT)
KEYS = [f"p{w:02}/{k}.jpg" for k, w in enumerate(WHO)]
GIVEN = {"good": GOOD, "poor": np.round(RNG.random(N), 2)}


@pytest.fixture(autouse=True, scope="module")
def fewer_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "DRAWS", 100)
        yield


@pytest.fixture(scope="module")
def report(fewer_draws: None) -> Any:
    return quality.evaluate(
        X, PAIRS, WHO, quality=GIVEN, fars=[FAR], discard=SHARES, keys=KEYS, set_name="small"
    )


def _left(q: np.ndarray, share: str, way: str) -> list[int]:
    """Pairs left when at most a share of the images or genuine pairs is discarded, by loops."""
    lower = [min(q[i], q[j]) for i, j in zip(LEFT, RIGHT, strict=True)]
    items = (
        list(q)
        if way == "images-discarded"
        else [v for v, same in zip(lower, PAIRS.genuine, strict=True) if same]
    )
    border = -np.inf
    for value in sorted(set(items)):
        if sum(v < value for v in items) <= float(share) * len(items) + 1e-9:
            border = value
    return [k for k, v in enumerate(lower) if v >= border or border == min(items)]


@pytest.mark.parametrize("way", quality.WAYS)
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", [*GIVEN, "norm"])
def test_fnmr_without_low_quality_by_loops(report: Any, name: str, share: str, way: str) -> None:
    q = GIVEN.get(name, np.linalg.norm(X.astype(np.float64), axis=1))
    left = _left(q, share, way)
    genuine = [SCORE[k] for k in left if PAIRS.genuine[k]]
    for at, impostor in (
        ("far", SCORE[~PAIRS.genuine]),
        ("far-of-kept", [SCORE[k] for k in left if not PAIRS.genuine[k]]),
    ):
        threshold = threshold_at_far(impostor, FAR)
        m = report.metrics[f"fnmr@{at}={FAR},{way}={share},quality={name}"]
        assert threshold is not None and m.threshold == threshold
        assert m.value == sum(s < threshold for s in genuine) / len(genuine)
        assert m.n == len(genuine) and m.low < m.value < m.high and m.people == 30


def test_partial_area_is_the_mean_of_the_steps(report: Any) -> None:
    threshold = threshold_at_far(SCORE[~PAIRS.genuine], FAR)
    for way in quality.WAYS:
        grid = (np.arange(2000) + 0.5) / 2000 * 0.3
        heights = []
        for x in np.unique(np.floor(grid * 90)) / 90:  # 90 genuine pairs, and 90 images
            left = [SCORE[k] for k in _left(GOOD, str(x + 1e-6), way) if PAIRS.genuine[k]]
            heights.append(sum(s < threshold for s in left) / len(left))
        m = report.metrics[f"edc-area@far={FAR},{way}=0.3,quality=good"]
        assert m.value == pytest.approx(np.mean(heights), abs=1e-12)


def test_two_qualities_are_compared_by_their_areas(report: Any) -> None:
    at = f"far={FAR},images-discarded=0.3,quality=norm,from=good"
    m, p = (report.metrics[f"edc-area-{what}@{at}"] for what in ("difference", "equality"))
    areas = [
        report.metrics[f"edc-area@far={FAR},images-discarded=0.3,quality={n}"].value
        for n in ("norm", "good")
    ]
    assert m.value == areas[0] - areas[1]
    assert m.low < 0 < m.high and p.value > 0.05 and "one of 6 tests" in p.note


def test_p_and_interval_are_of_one_error() -> None:
    drawn = np.random.default_rng(0).normal(0.02, 0.01, 400)
    base = Estimate(value=0.1)
    for value in np.linspace(0.105, 0.14, 8):
        m, p = difference(base, Estimate(value=value), drawn, 40)
        assert m.low is not None and m.high is not None
        assert (p < 0.05) == (m.low > 0 or m.high < 0)
    m, p = difference(base, base, np.zeros(9), 40)
    assert (m.value, m.low, m.high, p) == (0.0, 0.0, 0.0, 1.0)
    few, p = difference(base, Estimate(value=0.3), np.full(9, 0.2), 3)
    assert p >= 0.25 and few.low is not None and few.low <= 0
    assert adjusted({"a": 0.5})["a"] == Estimate(value=0.5)
    missing, p = difference(Estimate(value=None, note="why"), base, drawn, 40)
    assert missing.note == "why" and np.isnan(p)


def test_a_draw_by_loops() -> None:
    """One draw of people: images, threshold and misses weighed by hand."""
    sample = sample_of(outcomes(SCORE, PAIRS, None, WHO))
    assert sample.order is not None
    lower = np.minimum(GOOD[LEFT], GOOD[RIGHT])[sample.order]
    g = len(sample.genuine)
    of = by_image(GOOD, WHO, lower[:g], lower[g:])
    points = [("before", "0.3"), ("anew", "0.3"), ("area", "0.3")]
    made = edc_draws(sample, of, FAR, points, 3, 7)
    weight, unseen = list(subject_draws(sample, 3, 7))[-1]
    total = sum(weight[w] for w in WHO)
    border = max(
        v for v in set(GOOD) if sum(weight[WHO[k]] for k in range(N) if GOOD[k] < v) <= 0.3 * total
    )
    for point in points[:2]:
        kept = lower[g:] >= (np.sort(np.unique(GOOD))[of.level("0.3")] if point[0] == "anew" else 0)
        accepted = np.arange(kept.sum()) < int(0.05 * kept.sum())
        some = {"impostor": sample.impostor[kept], "left": sample.left[kept]}
        part = replace(sample, **some, right=sample.right[kept], impostors=int(kept.sum()))
        c = shrinkage(part, accepted - accepted.mean())
        on = lower[g:] >= border if point[0] == "anew" else np.ones(len(lower) - g, bool)
        pair = 1 + c * (weight[sample.left] * weight[sample.right] / SCALE**2 - 1)
        gone, bar = 0.0, -np.inf
        for s, w in zip(sample.impostor[on], pair[on], strict=True):
            gone += max(w, 0)
            if gone > 0.05 * np.maximum(pair[on], 0).sum():
                bar = s
                break
        own = weight[sample.genuine_subject]
        left = lower[:g] >= border
        missed = own[left & (sample.genuine <= bar)].sum()
        whole = own[left].sum()
        more = unseen_genuine(sample) * unseen * whole / own.sum()
        ends = (missed + more) / (whole + more), missed / (whole + more), missed / whole
        assert made[point][-1] == pytest.approx(ends, rel=1e-9)


def _magface(score: np.ndarray, same: np.ndarray, q: np.ndarray) -> list[float]:
    """MagFace's rule in distances, one step after the other."""
    found = []
    order = sorted(range(len(q)), key=lambda k: q[k])
    for rate in np.arange(0, 0.98, 0.05):
        kept = order[int(rate * len(q)) :]
        near = sorted(-score[k] for k in kept if same[k])
        far = sorted(-score[k] for k in kept if not same[k])
        fmr, place = 1.0, len(far) - 1
        while place >= 0:
            if fmr == 1e-3:
                found.append(1 - sum(d < far[place] for d in near) / len(near))
            if place == 0:
                break
            place, fmr = int(place / 10), fmr / 10
    return found


def test_magface_and_crfiqa_by_loops() -> None:
    order = np.argsort(~PAIRS.genuine, kind="stable")[:600]  # genuine pairs come first
    q = np.minimum(GIVEN["poor"][LEFT], GIVEN["poor"][RIGHT])[order]
    s, is_same = SCORE[order], PAIRS.genuine[order]
    sides = s[is_same], s[~is_same], q[is_same], q[~is_same]
    got = compat.magface(*sides)
    assert 0 < len(got.fnmr) < 20  # too few impostors in the end
    assert got.fnmr.tolist() == pytest.approx(_magface(s, is_same, q))
    got = compat.crfiqa(*sides, fmr=1e-2)
    ranked = sorted(range(len(q)), key=lambda k: q[k])
    for rate, fnmr in list(zip(got.discarded, got.fnmr, strict=True))[::6]:
        kept = ranked[int(rate * len(q)) :]
        g, i = ([s[k] for k in kept if is_same[k] == want] for want in (True, False))
        off = {t: abs(sum(v >= t for v in i) / len(i) - 1e-2) for t in sorted({*g, *i})}
        threshold = min(off, key=lambda t: off[t])
        assert fnmr == pytest.approx(1 - sum(v > threshold for v in g) / len(g))


def test_serfiq_and_ofiq_by_loops() -> None:
    q = GIVEN["poor"]
    got = compat.serfiq(q, LEFT, RIGHT, SCORE, PAIRS.genuine, fmr=1e-2)
    order = sorted(range(N), key=lambda k: q[k])
    kept = set(order[int(0.25 * N) :])
    pairs = [k for k in range(len(PAIRS)) if LEFT[k] in kept and RIGHT[k] in kept]
    g, i = ([SCORE[k] for k in pairs if PAIRS.genuine[k] == want] for want in (True, False))
    threshold = threshold_at_far(i, "1e-2")
    assert got.fnmr[5] == pytest.approx(sum(v < threshold for v in g) / len(g))
    lower = np.minimum(GOOD[LEFT], GOOD[RIGHT])[PAIRS.genuine]
    genuine = SCORE[PAIRS.genuine]
    edc = compat.ofiq(genuine, lower, starting_error=0.2, limit=0.3)
    bar = np.quantile(genuine, 0.2)
    for share, fnmr in zip(edc.discarded, edc.fnmr, strict=True):
        left = genuine[np.argsort(lower, kind="stable")][round(share * 90) :]
        assert fnmr == pytest.approx(np.mean(left < bar))
    steps = [edc.fnmr[edc.discarded <= x][-1] for x in (np.arange(2700) + 0.5) / 9000]
    assert edc.area == pytest.approx(np.mean(steps) * 0.3, abs=1e-9)


def test_a_table_of_qualities(tmp_path: Path) -> None:
    (tmp_path / "ofiq.csv").write_text("key,quality,pose\na/1.jpg,3,0.5\nb/2.jpg,,0.25\n")
    table = quality_table.read(tmp_path / "ofiq.csv")
    found = quality_table.of_rows([table], ["b/2", "x/3.jpg", "a/1.png"])
    assert list(found) == ["ofiq", "pose"]
    np.testing.assert_array_equal(found["ofiq"], [np.nan, np.nan, 3])
    np.testing.assert_array_equal(found["pose"], [0.25, np.nan, 0.5])
    with pytest.raises(DataError, match="two qualities are called 'ofiq'"):
        quality_table.of_rows([table, table], ["b/2.jpg"])
    for text, wrong in (
        ("subject,q\na,1", "bad.csv names a subject a line"),
        ("key,q\na,high", "q of 'a' in .* is 'high'"),
        ("key,q\na,inf", "is 'inf'"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(DataError, match=wrong):
            quality_table.read(tmp_path / "bad.csv")


@pytest.mark.parametrize("apart", [" ", "\t", ",", ";"])
def test_qualities_without_a_header(tmp_path: Path, apart: str) -> None:
    (tmp_path / "xqlfw_scores.txt").write_text(f"a_0001.jpg{apart}0.25\nb_0002.jpg{apart}nan\n")
    (tmp_path / "other.csv").write_text("key,other\nA/a_0001.jpg,1\n")
    tables = [quality_table.read(tmp_path / name) for name in ("xqlfw_scores.txt", "other.csv")]
    qualities = quality_table.of_rows(tables, ["B/b_0002.jpg", "A/a_0001.jpg"])
    np.testing.assert_array_equal(qualities["xqlfw_scores"], [np.nan, 0.25])
    np.testing.assert_array_equal(qualities["other"], [np.nan, 1])
    (tmp_path / "other.csv").write_text("a_0001.jpg,0.5\nb_0002.jpg,high\n")
    with pytest.raises(DataError, match=r"quality of 'b_0002.jpg' in other.csv is 'high'"):
        quality_table.read(tmp_path / "other.csv")


def test_qualities_that_cannot_be_used() -> None:
    few = np.where(np.arange(N) == 5, np.nan, GOOD)
    with pytest.raises(ProtocolError, match=r"1 of 90 images have no quality 'q', such as 'p01/5"):
        quality.evaluate(X, PAIRS, WHO, quality={"q": few}, keys=KEYS)
    lost = X.copy()
    lost[5] = np.nan  # no template, so no quality is needed
    made = quality.evaluate(lost, PAIRS, WHO, quality={"q": few}, fars=[FAR], discard=["0.1"])
    assert list(made.provenance["qualities"]) == ["q", "norm"]
    with pytest.raises(
        ProtocolError, match="no quality is given, and all vectors have the same length"
    ):
        quality.evaluate(normalise(X), PAIRS, WHO)
    for wrong in ({"a=b": GOOD}, {"a": GOOD[:-1]}):
        with pytest.raises(ProtocolError, match="quality"):
            quality.evaluate(X, PAIRS, WHO, quality=wrong)


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("F.npy", X)
    Path("K.txt").write_text("\n".join(KEYS))
    lines = (
        f"{KEYS[i]} {KEYS[j]} {int(WHO[i] == WHO[j])}" for i, j in zip(LEFT, RIGHT, strict=True)
    )
    Path("pairs.txt").write_text("\n".join(lines))
    rows = (f"{k},{g},{1 - g:.1f}" for k, g in zip(KEYS, GOOD, strict=True))
    Path("q.csv").write_text("\n".join(["key,good,bad", *rows]))
    words = "quality pairs.txt --features F.npy --keys K.txt --quality q.csv --far 5e-2"
    assert run_command([*words.split(), "--out", "q.json"]) == 0
    out, err = capsys.readouterr()
    assert "FNMR without the images of lowest quality, FAR 5e-2" in out
    assert "bad less good, mean to 0.2:" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    told = re.findall(
        r"\[(\S+), (\S+)\], p \S+ adjusted by Holm \(.*?alone p = ([^)]+)\)", " ".join(out.split())
    )
    assert len(told) == 6  # of good, bad and norm, in two ways
    for low, high, p in told:  # of one resampling, as the interval beside it
        assert (float(p) < 0.05) == (float(low) > 0 or float(high) < 0)
    assert "warning: FNMR rises without the images of lowest bad: is low better?" in err
    assert "lowest good" not in err
    held = json.loads(Path("q.json").read_text())
    assert held["provenance"]["quality files"] == "q.csv"
    again = run.evaluate(
        "quality", X, "pairs.txt", keys=KEYS, quality={"good": GOOD, "bad": 1 - GOOD}, fars=["5e-2"]
    )
    assert (
        again.metrics[f"edc-area@far=5e-2,{quality.WAYS[0]}=0.2,quality=good"].value
        == (held["metrics"][f"edc-area@far=5e-2,{quality.WAYS[0]}=0.2,quality=good"]["value"])
    )


def test_the_picture(report: Any) -> None:
    pytest.importorskip("matplotlib")
    axes = report.plot("edc").axes[0]
    assert [line.get_label() for line in axes.lines] == ["good", "poor", "norm"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"quality": GOOD}, "quality given as array"),
        ({"quality": {3: GOOD}}, "a quality is called 3"),
        ({"discard": []}, "no share to discard is given"),
    ],
)
def test_qualities_that_mean_nothing_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        quality.evaluate(X, PAIRS, WHO, **wrong)


def test_a_share_may_be_a_fraction() -> None:
    shares = [
        quality.evaluate(X, PAIRS, WHO, fars=[FAR], quality={"good": GOOD}, discard=[share])
        for share in ("0.5", "1/2")
    ]
    values = [[m.value for m in report.metrics.values()] for report in shares]
    assert values[0] == values[1]
