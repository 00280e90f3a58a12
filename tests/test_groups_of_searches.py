"""Groups of probes, of MegaFace's probes and of IJB's templates against plain loops."""

import numpy as np
import pytest

from evalkit.errors import ProtocolError
from evalkit.protocols import ijb, megaface, search
from evalkit.protocols.groups import Condition, Grouping, PairCondition
from evalkit.protocols.metrics.similarity import exact_scores, normalise
from evalkit.report.table import table
from evalkit.types import Estimate, PairSet, Report
from evalkit.verdict.compare import compare

pytestmark = pytest.mark.once

RNG = np.random.default_rng(2)
WHO = np.repeat(np.arange(24), 3)
X = (RNG.normal(size=(24, 6))[WHO] + 0.7 * RNG.normal(size=(72, 6))).astype(np.float32)
X[4] = np.nan
SEX = np.array(["female", "male", "male", ""])[WHO % 4]
BY = Grouping.of("sex", SEX.tolist())
AGE_GAP = Condition.of("age-gap", np.arange(72.0), "gap", [5])
D = RNG.normal(size=(80, 6)).astype(np.float32)


def _scores(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    i, j = np.indices((len(x), len(y)))
    return exact_scores(normalise(x), i.ravel(), normalise(y), j.ravel()).reshape(i.shape)


def _is(m: Estimate, part: int, whole: int) -> None:
    """Hold a rate against counts, and its interval around it."""
    assert (m.n, m.value) == (whole, part / whole)
    assert m.low is not None and m.high is not None and m.low <= part / whole <= m.high
    assert m.people


@pytest.fixture(scope="module")
def searched() -> Report:
    """Search 16 of the people, one image each, with the other images and those of strangers."""
    gallery = np.flatnonzero((np.arange(72) % 3 == 0) & (WHO < 16))
    probe = np.setdiff1d(np.arange(72), gallery)
    options = {"fpirs": "0.2", "depths": (1, 2), "threshold": 0.6, "template": "image"}
    return search.evaluate(X, WHO, gallery, probe, groups=[BY], **options)  # type: ignore[arg-type]


def test_searches_by_group_of_the_probe_are_what_loops_count(searched: Report) -> None:
    score, gallery = _scores(X, X), [g for g in range(72) if g % 3 == 0 and WHO[g] < 16]
    bars = {"fpir=0.2": searched["tpir@fpir=0.2"].threshold or 0.0, "threshold=0.6": 0.6}
    for group in ("female", "male"):
        own = [p for p in range(72) if p not in gallery and SEX[p] == group]
        known, others = [p for p in own if WHO[p] < 16], [p for p in own if WHO[p] >= 16]
        mate = {p: score[p, 3 * WHO[p]] for p in known}
        best = {p: max(score[p, g] for g in gallery) for p in own}
        above = {p: sum(score[p, g] > mate[p] for g in gallery) for p in known}
        for k in (1, 2):
            hits = sum(above[p] < k for p in known if np.isfinite(mate[p]))
            _is(searched[f"rank-{k}@sex={group}"], hits, len(known))
        for point, bar in bars.items():
            found = sum(above[p] == 0 and mate[p] >= bar for p in known)
            _is(searched[f"tpir@{point},sex={group}"], found, len(known))
            alarms = sum(best[p] >= bar for p in others)
            _is(searched[f"fpir@{point},sex={group}"], alarms, len(others))
        missed = len(known) - sum(above[p] == 0 and mate[p] >= 0.6 for p in known)
        _is(searched[f"fnir@threshold=0.6,sex={group}"], missed, len(known))
    told = searched.provenance["groups"]["sex"]
    assert {g: n["images"] for g, n in told.items()} == {
        g or "unknown": sum(p not in gallery and SEX[p] == g for p in range(72)) for g in set(SEX)
    }


def test_the_table_has_searches_by_group(searched: Report) -> None:
    text = table(searched)
    assert "by sex, FPIR 0.2 of all searches, threshold 0." in text
    assert "RANK-1" in text and "alarms" in text and "found" in text


@pytest.mark.parametrize("by", [AGE_GAP, PairCondition.of("rain", ["yes"] * 72)])
def test_a_search_has_no_condition_of_two_images(by: Condition) -> None:
    with pytest.raises(ProtocolError, match="is of two images, and a search"):
        search.evaluate(X, WHO, np.arange(0, 72, 3), np.arange(1, 72, 3), groups=[by])


@pytest.fixture(scope="module")
def among_distractors() -> Report:
    """Search among two sets of distractors, whose groups nobody knows."""
    sets = {"distractors=40": D[:40], "distractors=80": D}
    options = {"fars": "5e-2", "depths": (1, 3), "threshold": 0.7}
    return megaface.evaluate(X, WHO, sets, groups=[BY], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [40, 80])
@pytest.mark.parametrize("point", ["far=5e-2", "threshold=0.7"])
def test_megaface_by_group_of_the_probe_is_what_loops_count(
    size: int, point: str, among_distractors: Report
) -> None:
    report, part = among_distractors, f"distractors={size}"
    whole = report[f"{'tpr' if 'far' in point else 'fmr'}@{point},{part}"]
    own, other = _scores(X, X), _scores(X, D[:size])
    assert whole.threshold is not None
    for group in ("female", "male"):
        mine = [p for p in range(72) if SEX[p] == group]
        pairs = [(p, q) for p in mine for q in mine if WHO[p] == WHO[q] and p != q]
        false = sum(int((other[p] >= whole.threshold).sum()) for p in mine)
        _is(report[f"fmr@{point},sex={group},{part}"], false, len(mine) * size)
        missed = sum(not own[p, q] >= whole.threshold for p, q in pairs if p < q)
        _is(report[f"fnmr@{point},sex={group},{part}"], missed, len(pairs) // 2)
        for k in (1, 3):
            hits = sum(
                np.isfinite(own[p, q]) and (other[p] > own[p, q]).sum() < k for p, q in pairs
            )
            _is(report[f"rank-{k}@sex={group},{part}"], int(hits), len(pairs))
        if "threshold" in point:
            alarms = sum(bool((other[p] >= 0.7).any()) for p in mine)
            _is(report[f"fpir@{point},sex={group},{part}"], alarms, len(mine))
    assert f"by sex, {part}, FAR 5e-2 of all pairs, threshold" in table(report)


def test_megaface_by_group_stays_pooled_and_is_compared(among_distractors: Report) -> None:
    sets = {"distractors=40": D[:40]}
    alone = megaface.evaluate(X, WHO, sets, fars="5e-2", depths=(1, 3), threshold=0.7)
    for name, m in alone.metrics.items():
        assert among_distractors[name] == m
    found = compare(among_distractors, among_distractors, ignore=["keys", "set"]).differences
    assert found["fmr@far=5e-2,sex=male,distractors=40"].p == 1
    assert "fnmr@threshold=0.7,sex=female,distractors=80" in found
    with pytest.raises(ProtocolError, match="those of one side are not known"):
        megaface.evaluate(X, WHO, sets, groups=[AGE_GAP])


def _templates() -> ijb.Templates:
    """Give every person three templates of one image."""
    how = ijb.Pooling(flip="none", detector_score=False)
    return ijb.pool(X, np.arange(72) + 500, np.arange(72), None, how)


@pytest.mark.parametrize("far", ["1e-2", "5e-1"])  # a part of the impostors stored, and all
def test_templates_by_group_and_condition_are_what_loops_count(far: str) -> None:
    i, j = np.triu_indices(72, 1)
    turn = (i + j) % 2 == 1  # a list has its sides in any order
    left, right = np.where(turn, j, i), np.where(turn, i, j)
    pairs = PairSet(left + 500, right + 500, WHO[left] == WHO[right])
    rain = PairCondition.of("rain", [("yes", "no", "")[k % 3] for k in range(len(left))])
    asked = {"fars": far, "groups": [BY, AGE_GAP, rain]}
    report = ijb.evaluate(_templates(), pairs, **asked)  # type: ignore[arg-type]
    threshold, score = report[f"tpr@far={far}"].threshold, _scores(X, X)
    assert threshold is not None
    cells: dict[tuple[str, str], list[int]] = {}
    for k, (a, b, same) in enumerate(zip(left, right, pairs.genuine, strict=True)):
        named = {
            "age-gap": "up to 5" if abs(a - b) <= 5 else "over 5",
            "rain": ("yes", "no")[k % 3] if k % 3 < 2 else "",
        }
        both = sorted({SEX[a], SEX[b]})
        named["sex"] = "" if "" in both else "+".join(both)
        for column, group in named.items():
            n = cells.setdefault((column, group), [0, 0, 0, 0])
            n[3 if same else 1] += 1
            n[2 if same else 0] += (
                not score[a, b] >= threshold if same else score[a, b] >= threshold
            )
    for (column, group), (false, impostors, missed, genuine) in cells.items():
        if group:
            _is(report[f"fmr@far={far},{column}={group}"], false, impostors)
            if genuine:
                _is(report[f"fnmr@far={far},{column}={group}"], missed, genuine)
    assert report["fte@sex=" + SEX[4]].value == 1 / np.count_nonzero(SEX[4] == SEX)


def test_two_galleries_by_group_of_the_probe_are_what_loops_count() -> None:
    first = np.arange(0, 72, 3)
    galleries = [ijb.Enrolled(g + 500, WHO[g]) for g in (first[:12], first[12:])]
    rest = np.setdiff1d(np.arange(72), first)
    probe = ijb.Enrolled(rest + 500, WHO[rest])
    options = {"fpirs": "0.2", "threshold": 0.7, "groups": [BY], "depths": (1,)}
    report = ijb.identify(_templates(), galleries, probe, **options)  # type: ignore[arg-type]
    score = _scores(X, X)
    for group in ("female", "male"):
        shares: dict[str, list[float]] = {}
        ranked = []
        for enrolled in (first[:12], first[12:]):
            best = {p: max(score[p, g] for g in enrolled) for p in rest}
            inside = {p: WHO[p] in WHO[enrolled] for p in rest}
            alarms = sorted((best[p] for p in rest if not inside[p]), reverse=True)
            bar = np.nextafter(alarms[int(0.2 * len(alarms))], np.inf)
            mine = [p for p in rest if SEX[p] == group]
            mate = {p: score[p, 3 * WHO[p]] for p in mine}
            first_found = {p: np.isfinite(mate[p]) and mate[p] >= best[p] for p in mine}
            ranked += [first_found[p] for p in mine if inside[p]]
            for point, t in (("fpir=0.2", bar), ("threshold=0.7", 0.7)):
                hit = [first_found[p] and mate[p] >= t for p in mine if inside[p]]
                alarm = [best[p] >= t for p in mine if not inside[p]]
                shares.setdefault(f"tpir@{point}", []).append(float(np.mean(hit)))
                shares.setdefault(f"fpir@{point}", []).append(float(np.mean(alarm)))
        assert report[f"rank-1@sex={group}"].value == np.mean(ranked)
        for name, of in shares.items():
            m = report[f"{name},sex={group}"]
            assert m.value == pytest.approx(np.mean(of), abs=1e-15) and m.folds == tuple(of)
            assert m.low is not None and m.high is not None and m.low <= np.mean(of) <= m.high


def test_a_template_is_of_the_group_of_its_images() -> None:
    template = np.array([9, 9, 7, 7, 8, 8])
    by = Grouping.of("sex", ["male", "", "female", "male", "", ""])
    assert ijb.of_templates(by, template).code.tolist() == [-1, -1, 1]  # type: ignore[union-attr]
    camera = Condition.alike("camera-same", ["a", "a", "b", "", "", "b"])
    found = ijb.of_templates(camera, template)
    assert found.value.tolist() == [1, 1, 0]  # type: ignore[union-attr]
    yaw = Condition.of("yaw-max", np.array([10, 20, np.nan, 5, np.nan, np.nan]), "max", [15])
    found = ijb.of_templates(yaw, template)
    np.testing.assert_array_equal(found.value, [5, np.nan, 15])  # type: ignore[union-attr]
