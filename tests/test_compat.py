"""Other people's rules: loops written as they write them, and the numbers they gave."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evalkit.datasets import lfw as lists
from evalkit.errors import ProtocolError
from evalkit.keys import rows_of
from evalkit.protocols.metrics import compat, eer
from evalkit.protocols.metrics.kfold import kfold_accuracy
from evalkit.protocols.metrics.similarity import exact_scores, minus_squared_distances, normalise

pytestmark = pytest.mark.once

Pairs = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]


def drawn(seed: int, pairs: int = 200) -> Pairs:
    """Cosines in steps that put some on the grids themselves."""
    rng = np.random.default_rng(seed)
    genuine = np.arange(pairs) % 2 == 0
    cosine = np.clip(rng.normal(0.35 * genuine, 0.2), -1, 1)
    cosine[::5] = np.round(cosine[::5], 2)
    return cosine, genuine, np.arange(pairs) // (pairs // 10)


def insightface_loop(d: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    best, at = -1.0, 0.0
    for t in np.arange(0, 4, 0.01):
        accuracy = np.mean((d < t) == same)
        if accuracy > best:
            best, at = float(accuracy), float(t)
    return at


def sphereface_loop(c: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    grid = np.arange(-10_000, 10_001) / 10_000
    right = [np.sum(c[same] > t) + np.sum(c[~same] < t) for t in grid]
    return float(np.mean(grid[right == np.max(right)]))


def facex_loop(c: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    best, at = -2.0, 0.0
    for k in range(1, 1001):
        t = c.min() + k * (c.max() - c.min()) / 1000
        youden = float(np.mean(c[same] > t) - np.mean(c[~same] > t))
        if youden > best:
            best, at = youden, float(t)
    return at


def clcarwin_loop(c: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    best, at = -1.0, 0.0
    for t in np.arange(-1.0, 1.0, 0.005):
        accuracy = np.mean((c > t) == same)
        if accuracy >= best:
            best, at = float(accuracy), float(t)
    return at


def xqlfw_loop(d: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    right = [np.mean((d < t) == same) for t in np.arange(0, 2, 0.001)]
    return float(np.arange(0, 2, 0.001)[np.argmax(right)])


def by_folds(
    value: NDArray[np.float64],
    same: NDArray[np.bool_],
    fold: NDArray[np.int64],
    choose: Callable[[NDArray[np.float64], NDArray[np.bool_]], float],
    accept: Callable[[NDArray[np.float64], float], NDArray[np.bool_]],
) -> list[float]:
    """Accuracy of each fold as the peers' scripts compute it."""
    accuracy = []
    for k in range(10):
        t = choose(value[fold != k], same[fold != k])
        accuracy.append(float(np.mean(accept(value[fold == k], t) == same[fold == k])))
    return accuracy


@pytest.mark.parametrize(
    ("grid", "tried", "first", "last"),
    [
        (compat.DISTANCE_GRID, 400, 0, 3.99),
        (compat.FACENET_VAL_GRID, 4000, 0, 3.999),
        (compat.SPHEREFACE_GRID, 20_001, -1, 1),
        (compat.CLCARWIN_GRID, 400, -1, 0.995),
        (compat.XQLFW_GRID, 2000, 0, 1.999),
    ],
)
def test_thresholds_tried_are_those_of_the_scripts(
    grid: NDArray[np.float64], tried: int, first: float, last: float
) -> None:
    """Few scores lie between two of them, or beyond their ends, where a rule would show it."""
    assert grid == pytest.approx(np.linspace(first, last, tried), abs=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_each_threshold_rule_decides_as_its_script_does(seed: int) -> None:
    cosine, same, fold = drawn(seed)
    distance = 2 - 2 * cosine
    scripts = {
        "insightface": (-distance, distance, insightface_loop, np.less),
        "sphereface": (cosine, cosine, sphereface_loop, np.greater),
        "facex-zoo": (cosine, cosine, facex_loop, np.greater),
        "clcarwin": (cosine, cosine, clcarwin_loop, np.greater),
        "xqlfw": (cosine - 1, 1 - cosine, xqlfw_loop, np.less),
    }
    assert scripts.keys() == compat.THRESHOLD_RULES.keys()
    for name, (score, value, choose, accept) in scripts.items():
        got = kfold_accuracy(score, same, fold, compat.THRESHOLD_RULES[name])
        assert list(got.folds) == by_folds(value, same, fold, choose, accept), name


@pytest.mark.parametrize("seed", range(3))
def test_facenet_val_is_interpolation_on_nine_folds(seed: int) -> None:
    cosine, same, fold = drawn(seed)
    d = 2 - 2 * cosine
    grid, expected, realised = np.arange(0, 4, 0.001), [], []
    for k in range(10):
        train, test = fold != k, fold == k
        far = np.array([np.mean(d[train & ~same] < t) for t in grid])
        t = np.interp(0.01, far, grid) if far.max() >= 0.01 else 0.0
        expected.append(float(np.mean(d[test & same] < t)))
        realised.append(float(np.mean(d[test & ~same] < t)))
    got = compat.facenet_val(-d, same, fold, "1e-2")
    assert got.folds == pytest.approx(expected, abs=1e-12)
    assert got.value == pytest.approx(np.mean(expected)) and got.n == 200
    assert got.far == pytest.approx(np.mean(realised))
    assert got.note == f"deviation over folds (divisor F) {np.std(expected):.5f}"


def test_facenets_val_is_zero_where_no_distance_of_its_grid_reaches_the_far() -> None:
    """Squared distances beyond 3.999 are on no grid: FAR of the others ends at 1/2."""
    same, fold = np.arange(80) % 2 == 0, np.arange(80) // 8
    d = np.where(same, 0.05, np.where(np.arange(80) % 4 == 1, 0.5, 4.5))
    at_half, beyond = (compat.facenet_val(-d, same, fold, far) for far in ("0.5", "0.51"))
    assert (at_half.value, at_half.far) == (1.0, 0.5)
    assert (beyond.value, beyond.far) == (0.0, 0.0)


def test_to_sphereface_a_score_at_a_threshold_is_wrong_for_either_class() -> None:
    """Of 0.3, 0.3001, ..., 0.5 the ends are not best, so that the mean is in the middle."""
    s, genuine = np.array([0.3, 0.5]), np.array([False, True])
    assert compat.sphereface(s, genuine) == pytest.approx(0.4, abs=1e-9)
    assert compat.sphereface(s[:1], genuine[:1]) == pytest.approx((0.3001 + 1) / 2, abs=1e-9)
    assert compat.sphereface(s[1:], genuine[1:]) == pytest.approx((0.4999 - 1) / 2, abs=1e-9)


def test_scores_of_other_pairs_are_refused() -> None:
    _, same, fold = drawn(0)
    for rule in (compat.facenet_curve, lambda *of: compat.facenet_val(*of, "0.1")):
        with pytest.raises(ProtocolError, match="200 pairs have 199 scores"):
            rule(np.zeros(199), same, fold)


def test_facex_zoos_range_is_that_of_the_finite_scores() -> None:
    """Failures widen no range of thresholds, and where all fail nothing is accepted."""
    cosine, same, _ = drawn(1)
    order = np.argsort(cosine)
    s, g = cosine[order], same[order]
    failing = compat.facex_zoo(np.append([-np.inf] * 3, s), np.append([True, False, True], g))
    assert failing == compat.facex_zoo(s, g)
    assert compat.facex_zoo(np.full(4, -np.inf), np.arange(4) < 2) == np.finfo(np.float64).max
    one = np.array([0.1, 0.2, 0.4, 0.9])  # of one class: the first step, which parts off the lowest
    assert 0.1 < compat.facex_zoo(one, np.ones(4, bool)) <= 0.2
    assert (one < compat.facex_zoo(one, np.zeros(4, bool))).all()


@pytest.mark.parametrize("seed", range(2))
def test_facenets_curve_is_the_mean_of_the_folds_rates(seed: int) -> None:
    """Each fold counts once: one of 80 pairs as much as those of 20."""
    cosine, same, fold = drawn(seed)
    d, fold = 2 - 2 * cosine, np.minimum(fold, 6)
    rates = [
        [
            (np.mean(d[(fold == k) & ~same] < t), np.mean(d[(fold == k) & same] < t))
            for t in np.arange(0, 4, 0.01)
        ]
        for k in range(7)
    ]
    expected = np.mean(rates, axis=0).T
    far, tpr = compat.facenet_curve(-d, same, fold)
    assert np.allclose([far, tpr], expected, atol=1e-12)
    area = sum((far[k] - far[k - 1]) * (tpr[k] + tpr[k - 1]) / 2 for k in range(1, len(far)))
    got = compat.facenet_auc(far, tpr)
    assert got.value == pytest.approx(area, abs=1e-12) and far[-1] == 1 and got.note == ""
    x = compat.facenet_eer(far, tpr).value
    assert x is not None and abs(1 - x - np.interp(x, far, tpr)) < 1e-9 and 0.05 < x < 0.4


def test_facenets_curve_that_ends_early_is_said() -> None:
    far, tpr = np.array([0.0, 0.2]), np.array([0.1, 0.9])
    assert compat.facenet_auc(far, tpr).note == "the grid of distances ends at FPR 0.200"
    eer = compat.facenet_eer(far, tpr)
    assert eer.value is None and "where the original raises" in eer.note
    worse_than_chance = compat.facenet_eer(np.array([0, 0.8, 1]), np.array([0, 0.1, 1]))
    assert worse_than_chance.value == pytest.approx(9 / 11)


@given(st.integers(0, 10**6), st.sampled_from(["1e-1", "1e-2", "0.05"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_nearest_far_is_scikit_learns_curve(seed: int, far: str, drop: bool) -> None:
    roc_curve = pytest.importorskip("sklearn.metrics").roc_curve
    rng = np.random.default_rng(seed)
    g, i = rng.normal(1, 1, 40).round(1), rng.normal(0, 1, 60).round(1)
    fpr, tpr, _ = roc_curve(np.r_[np.ones(40), np.zeros(60)], np.r_[g, i], drop_intermediate=drop)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    at = int(np.argmin(np.abs(fpr - float(far))))
    got = compat.nearest_far(g, i, far, drop)
    assert (got.value, got.far) == (pytest.approx(tpr[at]), pytest.approx(fpr[at]))
    assert got.threshold is not None and got.n == 100
    assert (np.sum(i >= got.threshold), np.mean(g >= got.threshold)) == (
        got.false_accepts,
        pytest.approx(got.value),
    )


def test_failed_pairs_are_accepted_at_the_end_of_the_scripts_curve_alone() -> None:
    """Two of three genuine and one of four impostors fail; the scripts' lowest score is -inf."""
    g, i = [0.9, -np.inf, -np.inf], [0.5, 0.3, 0.1, -np.inf]
    found = compat.nearest_fars(g, i, ["0.3", "0.375", "0.75", "0.9"])
    counts = {far: (m.value, m.far, m.false_accepts, m.threshold) for far, m in found.items()}
    lowest = float(np.finfo(np.float64).min)
    assert counts["0.75"] == (pytest.approx(1 / 3), 0.75, 3, 0.1)
    assert counts["0.9"] == (1.0, 1.0, 4, lowest)
    assert counts["0.3"] == (pytest.approx(1 / 3), 0.0, 0, 0.9)  # 0.25 and 0.5 are in a run
    every = compat.nearest_fars(g, i, ["0.3", "0.375"], drop=False)
    assert [(m.far, m.threshold) for m in every.values()] == [(0.25, 0.5), (0.5, 0.3)]
    assert compat.nearest_far(g, i, "0.75") == found["0.75"]
    whole = compat.nearest_far([0.9, 0.4], [0.5, 0.3, 0.1], "1")
    assert (whole.far, whole.threshold) == (1.0, 0.1)  # without failures there is no other end
    assert compat.nearest_far([0.9, 0.05], [0.5, 0.1], "1").threshold == 0.05
    none = compat.nearest_far([], i, "0.75")
    assert (none.value, none.n) == (None, 4)


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5, -np.inf]), min_size=1, max_size=9),
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5, -np.inf]), min_size=1, max_size=9),
    st.fractions(0, 1, max_denominator=20),
)
def test_blufr_accepts_the_k_highest_impostors_and_their_equals(
    g: list[float], i: list[float], far: Fraction
) -> None:
    """k = x N rounded, half up; failures are never accepted."""
    k = int(far * len(i) + Fraction(1, 2))
    got, highest = compat.blufr(g, i, far), sorted(i, reverse=True)
    taken = [s for s in i if k and s >= highest[k - 1] and s > -np.inf]
    assert (got.false_accepts, got.far) == (len(taken), len(taken) / len(i))
    right = [s for s in g if s > -np.inf and (s >= highest[k - 1] if k else s > highest[0])]
    assert (got.value, got.n) == (pytest.approx(len(right) / len(g)), len(g) + len(i))


def test_blufr_accepts_the_rounded_count() -> None:
    impostor = np.arange(10.0)
    got = compat.blufr([4.0, 7.5, 9.0], impostor, "0.25")  # round(2.5) = 3: threshold 7
    assert (got.threshold, got.false_accepts, got.value) == (7.0, 3, pytest.approx(2 / 3))


def test_minus_squared_distance_is_exact() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 5)).astype(np.float32)
    y = (x + 1e-4 * rng.standard_normal((6, 5))).astype(np.float32)
    rows = np.arange(6)
    for a, b, s in zip(x, y, minus_squared_distances(x, rows, y, rows), strict=True):
        exact = sum(
            (Fraction(float(u)) - Fraction(float(v))) ** 2 for u, v in zip(a, b, strict=True)
        )
        assert s == -float(exact)


def reference(shared_data: Path) -> dict[str, dict[str, dict[str, object]]]:
    path = shared_data / "features" / "REFERENCE_mobilefacenet_lfw.json"
    whole: dict[str, dict[str, dict[str, object]]] = json.loads(path.read_text())[
        "mobilefacenet_foamliu"
    ]
    return whole


def test_insightfaces_grid_gives_the_published_folds(shared_data: Path) -> None:
    manifest, pairs = lists.official_pairs().resolve()
    have = (shared_data / "features" / "lfw_paths.txt").read_text().split()
    x = np.load(shared_data / "features" / "lfw_mobilefacenet_flipsum_l2.npy")
    x = normalise(x[rows_of(manifest.keys, have)])
    assert pairs.fold is not None
    score = 2 * exact_scores(x, pairs.left, x, pairs.right) - 2
    got = kfold_accuracy(score, pairs.genuine, pairs.fold, compat.insightface)
    wanted = reference(shared_data)["flipsum"]["lfw_10fold_insightface_grid_l2sq_0_4_0.01"]
    assert got.value == pytest.approx(wanted["mean"], abs=1e-6)
    assert list(got.folds) == pytest.approx(wanted["folds"], abs=1e-6)


def lower_middle(s: NDArray[np.float64], genuine: NDArray[np.bool_]) -> float:
    """Of equally good midpoints the middle one, of two middle ones the lower."""
    value = np.unique(s)
    middle = (value[1:] + value[:-1]) / 2
    right = [np.sum((s >= t) == genuine) for t in middle]
    best = np.flatnonzero(right == np.max(right))
    return float(middle[best[(len(best) - 1) // 2]])


@pytest.mark.parametrize("views", ["noflip", "flipsum", "flipcat"])
def test_the_reference_is_reproduced_fold_by_fold(shared_data: Path, views: str) -> None:
    """golden: cosines of the 6,000 pairs by MobileFaceNet, run from the crops by ONNX Runtime.

    The reference's exact search differs from evalkit's rule in the tie of two middle thresholds.
    """
    golden = Path(__file__).parent / "golden" / "lfw_mobilefacenet_scores.npz"
    with np.load(golden) as held:
        score = held[views].astype(np.float64)
    fold, genuine = np.arange(6000) // 600, np.arange(6000) % 600 < 300
    wanted = reference(shared_data)[views]
    grid = kfold_accuracy(2 * score - 2, genuine, fold, compat.insightface)
    exact = kfold_accuracy(score, genuine, fold, lower_middle)
    own = kfold_accuracy(score, genuine, fold)
    for got, name in (
        (grid, "lfw_10fold_insightface_grid_l2sq_0_4_0.01"),
        (exact, "lfw_10fold_exact_threshold"),
    ):
        assert list(got.folds) == pytest.approx(wanted[name]["folds"], abs=1e-6)
        assert got.value == pytest.approx(wanted[name]["mean"], abs=1e-6)
    assert own.value is not None and exact.value is not None
    assert abs(own.value - exact.value) < (4 if views == "flipcat" else 2) / 6000


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.8, -np.inf]), min_size=1, max_size=12),
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.8, -np.inf]), min_size=1, max_size=12),
)
def test_the_equal_error_rates_of_others_lie_around_the_crossing(g, i):
    """By hand over every threshold: the closest rates, and FVC's two around the crossing."""
    finite = sorted({s for s in g + i if s > -np.inf}, reverse=True)
    points = []
    for t in [np.inf, *finite]:
        fmr, fnmr = np.mean([s >= t for s in i]), np.mean([s < t for s in g])
        points.append((fmr, fnmr))
    closest, upper = compat.eer_closest(g, i), compat.eer_upper(g, i)
    for m in (closest, upper):
        if m.value is not None:
            at = (m.far, m.false_accepts, m.n)
            accepted = sum(s >= m.threshold for s in i)
            assert at == (pytest.approx(accepted / len(i)), accepted, len(g) + len(i))
    gaps = [abs(a - b) for a, b in points]
    near = [(a + b) / 2 for (a, b), gap in zip(points, gaps, strict=True) if gap < min(gaps) + 1e-9]
    assert closest.value == pytest.approx(near[0])
    crossing = [p for p in points if p[0] >= p[1] - 1e-12]
    if not crossing:
        assert upper.value is None and "failures" in upper.note
        return
    before = [p for p in points if p[0] <= p[1] + 1e-12]
    ends = sorted((sum(p), max(p)) for p in (crossing[0], before[-1]))
    assert upper.value in [pytest.approx(m) for s, m in ends if s < ends[0][0] + 1e-9]
    assert upper.value >= eer(g, i).value - 1e-12


def test_equal_error_rates_of_one_class_have_no_value():
    for rule in (compat.eer_closest, compat.eer_upper):
        assert rule([], [0.5]).value is None and rule([0.5], []).note
    for rates in (([], [0.5, 0.1]), ([0.5, 0.1], [])):
        none = compat.blufr(*rates, "0.1")
        assert (none.value, none.n, none.note) == (None, 2, "a class has no comparisons")


def test_failures_of_most_genuine_comparisons_leave_no_equal_error_rate():
    """Of three genuine two fail: FNMR is 2/3 or more, FMR of what may be accepted at most 1/2."""
    none = compat.eer_upper([-np.inf, -np.inf, 0.9], [0.5, -np.inf])
    assert (none.value, none.n) == (None, 5)
    assert none.note == "failures keep FNMR above FMR at every threshold"
