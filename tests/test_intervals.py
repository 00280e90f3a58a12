import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import ndtr
from scipy.stats import binomtest

from evalkit.errors import ProtocolError
from evalkit.protocols import metrics, verification
from evalkit.protocols.metrics import vocabulary
from evalkit.protocols.metrics.kfold import kfold_accuracy
from evalkit.protocols.metrics.vocabulary import part_of
from evalkit.protocols.score import best_accuracy
from evalkit.protocols.uncertainty import resampled_rates, resampling
from evalkit.protocols.uncertainty.bootstrap import shrinkage, shrinkage_of_difference
from evalkit.protocols.uncertainty.intervals import (
    affordable,
    bounded,
    independent,
    with_intervals,
)
from evalkit.protocols.uncertainty.outcomes import DrawnOutcomes, parts_of, to_arrays
from evalkit.protocols.uncertainty.resampled_rates import excess, reaching
from evalkit.protocols.uncertainty.resampling import (
    metric_draws,
    metric_ends,
    paired_draws,
    threshold_draws,
)
from evalkit.protocols.uncertainty.sample import (
    ComparisonSample,
    Searches,
    people_of_pairs,
    sample_of,
)
from evalkit.protocols.uncertainty.weights import SCALE, canonical_order, subject_draws
from evalkit.types import Estimate

pytestmark = pytest.mark.once

BEST = "accuracy@threshold=best"
MEAN = "tpr@far=1e-1,mean=subject"
SEARCH = ("rank", "rank_subject")
NAMES = ["accuracy", "auc", "eer", "tpr@far=1e-1", "tpr@far=0.02", BEST]


def pair_list(seed: int = 0, people: int = 12, pairs: int = 60) -> dict[str, NDArray]:
    """Both kinds of pairs, quantised so that scores tie, and one failure of each kind."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(people), 3).astype(np.int32)
    genuine = np.arange(pairs) % 2 == 0
    left = rng.integers(0, 3 * people, pairs)
    right = np.where(genuine, left // 3 * 3 + (left + 1) % 3, (left + rng.integers(3, 9, pairs)))
    right %= 3 * people
    effect = rng.normal(0, 0.1, people)
    score = np.where(genuine, 0.6, 0.2) + effect[subject[left]] + rng.normal(0, 0.15, pairs)
    score = np.round(score, 2)
    score[[0, 1]] = -np.inf
    return {
        "score": score,
        "genuine": genuine,
        "left": left,
        "right": right,
        "left_subject": subject[left],
        "right_subject": subject[right],
        "fold": (np.arange(pairs) // 6 % 5).astype(np.int16),
    }


def all_pairs(seed: int = 0, people: int = 9, images: int = 3) -> dict[str, NDArray]:
    """Every pair of one set, as a list."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(people), images)
    left, right = np.triu_indices(people * images, 1)
    genuine = subject[left] == subject[right]
    effect = rng.normal(0, 0.1, people)
    noise = rng.normal(0, 0.15, len(left))
    score = np.where(genuine, 0.7, 0.2) + effect[subject[left]] + effect[subject[right]] + noise
    return {
        "score": score,
        "genuine": genuine,
        "left": left,
        "right": right,
        "left_subject": subject[left],
        "right_subject": subject[right],
    }


def as_sets(o: dict[str, NDArray], stored: int) -> dict[str, NDArray]:
    """The same comparisons, with the `stored` highest impostors and counts of images."""
    g, i = o["genuine"], np.flatnonzero(~o["genuine"])
    top = i[np.argsort(-o["score"][i])][:stored]
    images = np.full(9, 3)
    return {
        "genuine_score": o["score"][g],
        "genuine_subject": o["left_subject"][g],
        "impostor_score": o["score"][top],
        "impostor_left": o["left_subject"][top],
        "impostor_right": o["right_subject"][top],
        "left_images": images,
        "right_images": images,
        "impostors": np.array(len(i)),
    }


def plain_values(o: dict[str, NDArray]) -> dict[str, float]:
    g, i = o["score"][o["genuine"]], o["score"][~o["genuine"]]
    found = {
        "accuracy": kfold_accuracy(o["score"], o["genuine"], o["fold"]),
        "auc": metrics.auc(g, i),
        "eer": metrics.eer(g, i),
        "tpr@far=1e-1": metrics.tpr_at_far(g, i, "1e-1"),
        BEST: best_accuracy(o["score"], o["genuine"]),
    }
    return {name: m.value for name, m in found.items() if m.value is not None}


def test_a_draw_in_which_all_weigh_the_same_is_the_metric_itself() -> None:
    for seed in range(5):
        o = pair_list(seed)
        s = sample_of(o)
        drawn = metric_draws(s, NAMES, weights=[(np.full(s.subjects, SCALE), 0)])
        for name, value in {**plain_values(o), "accuracy": slow_accuracy(o)}.items():
            assert drawn[name][0] == pytest.approx(value, abs=1e-12), name


def slow_accuracy(o: dict[str, NDArray]) -> float:
    """Each fold at the middle of the best thresholds of the others, out of all scores."""
    cuts = sorted({*o["score"][np.isfinite(o["score"])].tolist(), 9.0}, reverse=True)
    accuracy = []
    for k in np.unique(o["fold"]):
        here = o["fold"] == k
        right = [((o["score"] >= t) == o["genuine"]) for t in cuts]
        train = [int(r[~here].sum()) for r in right]
        best = [n for n, v in enumerate(train) if v == max(train)]
        accuracy.append(right[best[(len(best) - 1) // 2]][here].mean())
    return float(np.mean(accuracy))


def slow_shrinkage(s: ComparisonSample, e: NDArray[np.float64]) -> float:
    """The same quotient by looking at every two pairs."""
    clustered = product = fourth = 0.0
    per = np.zeros(s.subjects)
    for p in range(len(e)):
        mine = {int(s.left[p]), int(s.right[p])}
        for q in range(len(e)):
            shared = len(mine & {int(s.left[q]), int(s.right[q])})
            clustered += e[p] * e[q] * (shared > 0)
            product += e[p] * e[q] * {0: 0, 1: 1, 2: 3}[shared]
        for person in mine:
            per[person] += e[p]
    fourth = (per**2).sum() ** 2 / (per**4).sum()
    from scipy.stats import norm, t

    wide = t.ppf(0.975, max(fourth, 5)) / norm.ppf(0.975)
    return float(math.sqrt(max(clustered / product, 1 / 3)) * wide)


@pytest.mark.parametrize("seed", range(4))
def test_shrinkage_is_the_quotient_of_two_sums_over_pairs_of_pairs(seed: int) -> None:
    s = sample_of(pair_list(seed))
    e = np.random.default_rng(seed).normal(size=len(s.impostor))
    e -= e.mean()
    assert shrinkage(s, e) == pytest.approx(slow_shrinkage(s, e), rel=1e-9)


@pytest.mark.parametrize("name", ["accuracy", "auc", "eer", "tpr@far=0.1", BEST])
def test_a_difference_shrinks_by_the_difference_of_the_excesses(name: str) -> None:
    o = pair_list(1, people=24, pairs=240)
    other = {**o, "score": o["score"] + np.random.default_rng(5).normal(0, 0.2, 240).round(2)}
    a, b = sample_of(o), sample_of(other)
    e = np.zeros(240)
    for s, sign in ((a, -1), (b, 1)):
        found = excess(s, name)
        assert not isinstance(found, int) and found is not None and s.place is not None
        e[s.place] += sign * found
    impostor = np.flatnonzero(~o["genuine"])
    by_place = replace(a, left=o["left_subject"][impostor], right=o["right_subject"][impostor])
    c = shrinkage_of_difference(a, b, excess(a, name), excess(b, name))
    assert c == pytest.approx(slow_shrinkage(by_place, e[impostor]), rel=1e-9)
    drawn = paired_draws(a, b, [name], 20)[name]
    own = excess(a, name)
    assert own is not None and c is not None and c != pytest.approx(shrinkage(a, own))
    order = canonical_order(a, b)
    one, two = (
        metric_draws(s, [name], c={name: c}, weights=subject_draws(s, 20, 0, order))[name]
        for s in (a, b)
    )
    np.testing.assert_array_equal(drawn, two - one)


def test_of_two_tails_only_what_one_model_accepts_counts() -> None:
    o = all_pairs(1)
    other = {**o, "score": o["score"] + np.random.default_rng(2).normal(0, 0.1, len(o["score"]))}
    whole = [sample_of(x) for x in (o, other)]
    tails = []
    for x in (o, other):
        i = np.flatnonzero(~x["genuine"])
        top = i[np.argsort(-x["score"][i])][:200]
        rows = np.stack([x["left"][top], x["right"][top]], axis=1)
        tails.append(sample_of({**as_sets(x, 200), "impostor_rows": rows}))
    for far in ("0.05", "0.2"):
        c = [
            shrinkage_of_difference(*s, *(excess(one, f"tpr@far={far}") for one in s))
            for s in (whole, tails)
        ]
        assert isinstance(excess(tails[0], f"tpr@far={far}"), int)
        assert c[0] == pytest.approx(c[1])
    unnamed = replace(tails[0], place=None)
    assert shrinkage_of_difference(unnamed, tails[1], 10, 10) is None
    name = "tpr@far=0.05"  # each model then has the shrinkage of its own impostors
    drawn, order = (
        paired_draws(unnamed, tails[1], [name], 5)[name],
        canonical_order(unnamed, tails[1]),
    )
    one, two = (
        metric_draws(s, [name], weights=subject_draws(s, 5, 0, order))[name]
        for s in (unnamed, tails[1])
    )
    np.testing.assert_array_equal(drawn, two - one)


@pytest.mark.parametrize("accepted", [3, 20, 100])
def test_the_tail_alone_shrinks_as_all_pairs_do(accepted: int) -> None:
    o = all_pairs()
    s, sets = sample_of(o), sample_of(as_sets(o, accepted))
    e = (np.arange(len(s.impostor)) < accepted).astype(float)
    assert shrinkage(sets, accepted) == pytest.approx(shrinkage(s, e - e.mean()))


def test_the_tail_alone_draws_as_all_pairs_do() -> None:
    o = all_pairs(3)
    names = ["tpr@far=0.05", "tpr@far=0.1"]
    full, tail = (
        metric_draws(sample_of(o), names, 50),
        metric_draws(sample_of(as_sets(o, 200)), names, 50),
    )
    for name in names:
        np.testing.assert_allclose(full[name], tail[name], atol=1e-12)


def twin(o: dict[str, NDArray], weight: NDArray, unseen: float, c: dict[str, float]) -> dict:
    """TPR, its mean, AUC, EER and best accuracy of a draw at every threshold tried, both ends."""
    s = sample_of(o)
    w, size = weight / SCALE, len(s.genuine) / len(np.unique(s.genuine_subject))
    found: dict[str, list[float]] = {}
    for score in (-np.inf, 99.0):  # the person unseen fails in everything, or succeeds
        g = np.append(s.genuine, score)
        v = np.append(w[s.genuine_subject], size * unseen / SCALE)
        u = {name: 1 + k * (w[s.left] * w[s.right] - 1) for name, k in c.items()}
        cuts = np.unique([*g[np.isfinite(g)], *s.impostor[np.isfinite(s.impostor)], 100.0])[::-1]
        tpr = np.array([v[g >= t].sum() for t in cuts]) / v.sum()
        far = {
            n: np.array([k[s.impostor >= t].sum() for t in cuts]) / k.sum() for n, k in u.items()
        }
        allowed = far["tpr@far=1e-1"] <= 0.1 + 1e-12
        found.setdefault("tpr@far=1e-1", []).append(tpr[allowed][-1])
        bar, total, weights = cuts[allowed][-1], unseen / SCALE * (score > 0), unseen / SCALE
        for person in set(s.genuine_subject.tolist()):
            total += w[person] * np.mean(s.genuine[s.genuine_subject == person] >= bar)
            weights += w[person]
        found.setdefault(MEAN, []).append(total / weights)
        gap = far["eer"] + tpr - 1
        found.setdefault("eer", []).append(np.interp(0, gap, far["eer"]) if gap[-1] >= 0 else 1.0)
        wins = (g[:, None] > s.impostor) + 0.5 * (g[:, None] == s.impostor)
        wins *= np.isfinite(g)[:, None]
        auc = (v[:, None] * wins * u["auc"]).sum() / v.sum() / u["auc"].sum()
        found.setdefault("auc", []).append(auc)
        best = [v[g >= t].sum() + u[BEST][s.impostor < t].sum() for t in cuts]
        found.setdefault(BEST, []).append(max(best) / (v.sum() + u[BEST].sum()))
    return found


def test_draws_are_the_same_to_the_bit_however_they_are_weighed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tail = as_sets(all_pairs(), 200)
    tail |= {"sampled_score": np.linspace(-1, 1, 40), "sampled_left": np.arange(40) % 4}
    tail |= {"sampled_right": np.arange(40) % 4 + 4}
    far = ["tpr@far=0.05", "tpr@far=0.05,mean=subject", "tpr@far=0.9", "fmr@threshold=0.9"]
    of = {"list": (pair_list(), [*NAMES[:4], MEAN, BEST]), "tail": (tail, far)}
    of["searches"] = (searches(2, 0), ["rank-1", "tpir@fpir=0.2", "fnir@threshold=0.5"])
    found = []
    # One draw a block, a few with a rest, all; genuine pairs by subject, and one by one; threads.
    for cells, few, worth in ((1, 0, 1), (400, 1 << 30, 1 << 30), (1 << 16, 0, 1 << 30)):
        monkeypatch.setattr(resampling, "WORTH_THREADS", worth)
        monkeypatch.setattr(resampling, "CELLS", cells)
        monkeypatch.setattr(resampling, "LARGEST", cells)
        monkeypatch.setattr(resampled_rates, "_FEW", few)
        drawn = {k: metric_ends(sample_of(o), names, 23) for k, (o, names) in of.items()}
        assert [[*drawn[k]] for k in of] == [names for _, names in of.values()]
        thresholds = threshold_draws(sample_of(tail), "0.05", 23)
        assert thresholds is not None
        found.append([thresholds, *(v for d in drawn.values() for v in d.values())])
    for o, names in of.values():  # with the people under their own numbers
        s = sample_of(o)
        placed = metric_ends(s, names, weights=subject_draws(s, 23, 0))
        for name, drawn_of in metric_ends(s, names, 23).items():
            np.testing.assert_array_equal(placed[name], drawn_of)
    for one, few, all_ in zip(*found, strict=True):
        np.testing.assert_array_equal(one, all_)
        np.testing.assert_array_equal(few, all_)


@pytest.mark.parametrize(("seed", "given_c"), [(0, None), (1, 0.5), (2, None)])
def test_both_ends_of_a_draw_by_trying_every_threshold(seed: int, given_c: float | None) -> None:
    o = pair_list(seed)
    s = sample_of(o)
    names = ["tpr@far=1e-1", MEAN, "auc", "eer", BEST]
    c = {}
    for name in names:
        e = excess(s, name)
        assert e is not None
        c[name] = shrinkage(s, e) if given_c is None else given_c
    drawn = metric_ends(s, names, draws=10, seed=5, c=None if given_c is None else c)
    for d, (weight, unseen) in enumerate(subject_draws(s, 10, 5)):
        for name, ends in twin(o, weight, unseen, c).items():
            assert drawn[name][d] == pytest.approx(ends), name


def slow_folds(
    o: dict[str, NDArray], s: ComparisonSample, weight: NDArray, unseen: float, c: float
) -> tuple[float, float]:
    """Accuracy of folds in a draw over all thresholds: the person unseen fails, and succeeds."""
    assert s.order is not None
    people = np.empty((2, len(s.order)), np.int64)
    people[:, s.order] = np.hstack([[s.genuine_subject] * 2, [s.left, s.right]])
    of_one, of_other = weight[people] / SCALE
    w = np.where(o["genuine"], of_one, 1 - c + c * of_one * of_other)
    cuts = sorted({*o["score"][np.isfinite(o["score"])].tolist(), 9.0}, reverse=True)
    right = np.array([((o["score"] >= t) == o["genuine"]) * w for t in cuts])
    folds, with_genuine = np.unique(o["fold"]), len(np.unique(s.genuine_subject))
    own = unseen / SCALE * o["genuine"].sum() / with_genuine / len(folds)
    ends = []
    for here in (o["fold"] == k for k in folds):
        train = right[:, ~here].sum(axis=1)
        best = np.flatnonzero(train >= train.max() - 1e-9)
        part, whole = right[best[(len(best) - 1) // 2], here].sum(), w[here].sum() + own
        ends.append((part / whole, (part + own) / whole))
    return tuple(np.clip(ends, 0, 1).mean(axis=0).tolist())


@pytest.mark.parametrize("mates", [1, 6, 11])
@pytest.mark.parametrize("c", [0.0, 0.5])
def test_accuracy_of_folds_in_a_draw_by_trying_every_threshold(mates: int, c: float) -> None:
    """Where nearly all pairs are of one kind, to accept none, or all but failures, is best."""
    rng, o = np.random.default_rng(mates), pair_list(7)
    genuine = np.arange(60) % 6 + 6 * (np.arange(60) >= 30) < mates  # of the 12 pairs of a fold
    o["right_subject"] = np.where(
        genuine, o["left_subject"], (o["left_subject"] + rng.integers(1, 12, 60)) % 12
    )
    o |= {"genuine": genuine, "left": np.arange(60), "right": 60 + np.arange(60)}
    if not c:
        o["score"] = o["score"].clip(-1)  # none failed
    assert_folds_are_slow_ones(o, c, draws=12)


def test_accuracy_of_a_long_list_in_a_draw_needs_no_threshold_far_from_the_best() -> None:
    assert_folds_are_slow_ones(pair_list(9, people=40, pairs=600), 0.5, draws=4)


def assert_folds_are_slow_ones(o: dict[str, NDArray], c: float, draws: int) -> None:
    s = sample_of(o)
    found = metric_ends(s, ["accuracy"], draws, 1, c={"accuracy": c})["accuracy"]
    for ends, (weight, unseen) in zip(found, subject_draws(s, draws, 1), strict=True):
        assert ends == pytest.approx(slow_folds(o, s, weight, unseen, c))


@pytest.mark.parametrize("far", ["0.02", "0.3", "0.99"])
def test_the_threshold_of_a_draw_accepts_the_far_of_its_weights(far: str) -> None:
    """Of 3,960 impostor pairs up to 3,920 are accepted: many more than small samples have."""
    s = sample_of(all_pairs(5, people=45, images=2))
    e = excess(s, f"tpr@far={far}")
    thresholds = threshold_draws(s, far, 15, 2)
    assert e is not None and thresholds is not None
    c = shrinkage(s, e)
    for threshold, (weight, _) in zip(thresholds[:, 0], subject_draws(s, 15, 2), strict=True):
        w = 1 - c + c * weight[s.left] * weight[s.right] / SCALE**2
        accepted = np.cumsum(w) <= float(far) * w.sum()
        k = len(w) if accepted.all() else int(np.argmin(accepted))
        assert threshold == s.impostor[k]


def half_total_error(genuine: NDArray, impostor: NDArray) -> Estimate:
    """Mean of FMR and FNMR at 0.45; None where nobody is compared with himself."""
    if not len(genuine):
        return Estimate(value=None)
    return Estimate(value=(np.mean(genuine < 0.45) + np.mean(impostor >= 0.45)) / 2)


def test_a_function_of_scores_is_drawn_with_each_comparison_twice_as_often_as_it_weighs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A metric of one record: no statistic of its own, and no `shrinkage`."""
    monkeypatch.setattr(vocabulary, "METRICS", [*vocabulary.METRICS])
    record = {"grammar": "hter", "means": "half total error rate", "better": "lower"}
    vocabulary.register(
        vocabulary.Metric(**record, resampled="scores", of_scores=half_total_error)  # type: ignore[arg-type]
    )
    s = sample_of(pair_list(4))
    size = len(s.genuine) / len(np.unique(s.genuine_subject))
    ends = metric_ends(s, ["hter"], 8, 3)["hter"]
    for found, (weight, unseen) in zip(ends, subject_draws(s, 8, 3), strict=True):
        w, of_unseen = weight / SCALE, round(2 * size * unseen / SCALE)
        often = [round(2 * w[who]) for who in s.genuine_subject]
        pairs = [round(2 * w[i] * w[j]) for i, j in zip(s.left, s.right, strict=True)]
        fmr = np.average(s.impostor >= 0.45, weights=pairs)
        missed, every = np.dot(often, s.genuine < 0.45), sum(often) + of_unseen
        fails, succeeds = (missed + of_unseen) / every, missed / every
        assert found == pytest.approx([(fmr + fails) / 2, (fmr + succeeds) / 2])
    nobody = [(np.zeros(s.subjects, np.int64), 0)]
    assert np.isnan(metric_ends(s, ["hter"], weights=nobody)["hter"]).all()


def test_a_draw_that_would_accept_more_than_is_stored_ends_at_the_last_that_is() -> None:
    s = sample_of(as_sets(all_pairs(), 33))  # FAR 0.1 of 324 impostors accepts 32
    thresholds = threshold_draws(s, "0.1", 40)
    assert thresholds is not None and thresholds.min() == s.impostor[-1]
    assert 3 < (thresholds[:, 0] == s.impostor[-1]).sum() < 37


def test_the_crossing_at_the_first_threshold_and_at_none() -> None:
    """All scores tie: any threshold accepts all or nothing, whoever weighs what."""
    o = pair_list()
    tied = sample_of(o | {"score": np.full(60, 0.5)})
    ends = metric_ends(tied, ["eer"], draws=4, c={"eer": 0.5})["eer"]
    unseen = np.array([unseen for _, unseen in subject_draws(tied, 4, 0)])
    weight = np.array([w[tied.genuine_subject].sum() for w, _ in subject_draws(tied, 4, 0)])
    share = weight / (weight + unseen * 30 / len(np.unique(tied.genuine_subject)))
    # FAR = 1 - TPR on the line from (0, 0) to (1, share) where the unseen person fails, else on
    # that from (0, 1 - share) to (1, 1).
    assert ends == pytest.approx(np.stack([1 / (1 + share), share / (1 + share)], axis=1))
    failed = sample_of(o | {"score": np.where(o["genuine"], -np.inf, 0.5)})
    assert (metric_ends(failed, ["eer"], draws=4)["eer"][:, 0] == 1).all()


def test_what_each_impostor_adds_by_its_definition() -> None:
    o = pair_list(3)
    s = sample_of(o)
    wins = [sum((g > i) + 0.5 * (g == i) for g in s.genuine if g > -np.inf) for i in s.impostor]
    eer = metrics.eer(s.genuine, s.impostor)
    added = {
        "auc": wins,
        "tpr@far=0.1": [n < 3 for n in range(30)],
        "fmr@threshold=0.3": (s.impostor >= 0.3).tolist(),
        "eer": (s.impostor >= eer.threshold).tolist(),
    }
    for name, each in added.items():
        centred = np.asarray(each, float)
        assert excess(s, name) == pytest.approx(centred - centred.mean()), name
    assert excess(s, "rank-1") is None and excess(replace(s, order=None), "accuracy") is None
    tail = sample_of(as_sets(all_pairs(), 50))
    assert [excess(tail, name) for name in ("tpr@far=0.05", "auc", "eer")] == [16, None, None]


def test_a_rate_beyond_the_tail_is_read_off_the_random_part() -> None:
    tail = as_sets(all_pairs(), 50)
    assert reaching(alone := sample_of(tail), "tpr@far=0.9") is alone
    tail |= {"sampled_score": np.linspace(-1, 1, 40), "sampled_left": np.arange(40) % 4}
    both = sample_of(tail | {"sampled_right": np.arange(40) % 4 + 4})
    lowest = float(both.impostor[-1])
    near = ["tpr@far=0.05", f"fmr@threshold={lowest + 0.01}", "tpr@far=one"]
    assert all(reaching(both, name) is both for name in near)
    beyond = ["tpr@far=0.9", "tpr@far=0.9,mean=subject", f"fmr@threshold={lowest - 0.01}"]
    beyond += ["auc", "eer"]
    assert all(reaching(both, name) is both.thinned for name in beyond)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(2, 3), st.integers(8, 40))
def test_two_or_three_people_have_an_interval_and_no_draw_divides_by_nothing(
    seed: int, people: int, pairs: int
) -> None:
    rng = np.random.default_rng(seed)
    subject = np.concatenate([[0, 0, 0, 0, 1, 1, 1, 1], rng.integers(0, people, 2 * pairs)])
    left, right = subject[::2], subject[1::2]
    left[2:4] = 0  # two genuine and two impostor pairs at least
    right[2:4] = 1
    genuine = left == right
    fold = np.empty(len(left), np.int16)
    for kind in (genuine, ~genuine):
        fold[kind] = np.arange(np.count_nonzero(kind)) % 2
    score = np.round(0.4 * genuine + rng.normal(0, 0.3, len(left)), 1)
    rows = np.arange(len(left))
    o = {"score": score, "genuine": genuine, "fold": fold, "left": rows, "right": rows}
    o |= {"left_subject": left, "right_subject": right}
    plain = verification.measures(score, genuine, fold, ["0.5"])
    plain[BEST] = best_accuracy(score, genuine)
    for name, m in with_intervals(plain, o, draws=60).items():
        assert m.value is not None and m.low is not None and m.high is not None, name
        assert 0 <= m.low <= m.value <= m.high <= 1, name


def test_a_name_that_only_looks_like_a_rate_is_not_computed() -> None:
    o = pair_list() | {
        "rank": np.ones(3, np.int64),
        "rank_subject": np.arange(3),
    }
    names = ["tpr@far=1e9999999999", "tpr@far=1/0", "tpr@far=", "tpr@far=1e-1@pairs=all"]
    names += ["tpir@fpir=1e9999999999", "rank-1e9", "rank-", "AUC", "far=1e-1"]
    assert metric_draws(sample_of(o), names, 5) == {}


def near(m: Estimate, low: float, high: float) -> bool:
    """Whether an interval of 4,000 draws is that of infinitely many: a tenth of a tail's chance."""
    assert m.low is not None and m.high is not None
    return math.isclose(m.low, low, abs_tol=0.01) and math.isclose(m.high, high, abs_tol=0.01)


@pytest.mark.parametrize(("hits", "n"), [(0, 8), (8, 8), (7, 8), (3, 30), (30, 30), (150, 300)])
def test_one_comparison_a_person_has_clopper_pearsons_interval(hits: int, n: int) -> None:
    ranks = {"rank": np.where(np.arange(n) < hits, 1, 2), "rank_subject": np.arange(n)}
    score = np.where(np.arange(2 * n) < hits, 1.0, 0.5 * (np.arange(2 * n) % 2 == 0))
    score[n:] = 0.7 * (np.arange(n) % 10 == 0)
    pairs = {"score": np.where(score < 0.6, 0.0, score), "genuine": np.arange(2 * n) < n}
    rank = with_intervals({"rank-1": Estimate(value=hits / n)}, ranks, draws=4000)["rank-1"]
    tpr = with_intervals({"tpr@far=1": Estimate(value=hits / n)}, pairs, draws=4000)["tpr@far=1"]
    exact = binomtest(hits, n).proportion_ci()
    assert near(rank, exact.low, exact.high)
    assert tpr.low is not None  # all is accepted at FAR 1
    assert rank.interval.endswith(f"seed 0, room for one unseen beside {n}")


def test_people_who_all_do_alike_are_not_certain() -> None:
    """Half of everybody's searches are right: nothing varies, but four people are few."""
    o = {"rank": np.tile([1, 2], 4), "rank_subject": np.repeat(np.arange(4), 2)}
    m = with_intervals({"rank-1": Estimate(value=0.5)}, o, draws=4000)["rank-1"]
    of_all = binomtest(4, 4).proportion_ci().low
    assert near(m, of_all / 2, 1 - of_all / 2)


def test_people_are_those_who_could_err_and_nobody_where_nobody_is_known() -> None:
    searched = {"rank": np.tile([1, 2], 4), "rank_subject": np.repeat(np.arange(4), 2)}
    assert with_intervals({"rank-1": Estimate(value=0.5)}, searched)["rank-1"].people == 4
    genuine = np.arange(8) % 4 < 2  # of persons 0 and 1; two more are in impostor pairs alone
    listed = {"score": np.arange(8.0), "genuine": genuine, "left": np.arange(8) % 2 + 2 * ~genuine}
    known = with_intervals({"auc": Estimate(value=0.5)}, listed | {"right": listed["left"]})
    assert known["auc"].people == 2
    del listed["left"]
    assert with_intervals({"auc": Estimate(value=0.5)}, listed)["auc"].people is None


def test_each_kind_of_metric_counts_those_who_could_err_in_it() -> None:
    listed = {"score": np.arange(6.0), "genuine": np.array([True, True, True, False, False, False])}
    people = {"left_subject": np.array([0, 0, 1, 0, 1, 2]), "right_subject": [0, 0, 1, 3, 4, 6]}
    rows = {"left": np.arange(6), "right": np.arange(6, 12)}
    pairs = sample_of(listed | rows | {n: np.asarray(c) for n, c in people.items()})
    assert independent(pairs, "tpr@far=1e-1") == independent(pairs, "eer") == 2
    assert independent(pairs, "fmr@threshold=0.5") == 3  # six people, two in each comparison
    assert independent(replace(pairs, drawn={"eer": np.zeros(5)}), "eer") == pairs.subjects == 6
    one = replace(pairs, left=np.array([4]), right=np.array([4]))
    assert independent(one, "fmr@threshold=0.5") == 1
    probe = {"left": np.zeros(3, int), "right": np.arange(3, 6), "left_images": np.eye(6)[0]}
    of_sets = [replace(pairs, **probe, right_images=n) for n in (1 - np.eye(6)[0], np.ones(6))]
    # One probe has part in all pairs of two sets; of one set four people are two pairs.
    assert [independent(sets, "fmr@threshold=0.5") for sets in of_sets] == [1, 2]
    found = [
        Searches(mate=np.zeros(2), mate_subject=m, nonmate=np.zeros(3), nonmate_subject=r)
        for m, r in ((np.array([0, 1]), np.array([5, 6, 6])), (np.array([1, 2]), np.arange(5, 8)))
    ]
    searched = replace(pairs, searches=tuple(found), rank_subject=np.array([0, 0, 1, 2, 3]))
    names = ["rank-1", "fpir@threshold=0.5", "fnir@threshold=0.5", "tpir@fpir=0.1"]
    assert [independent(searched, name) for name in names] == [4, 3, 3, 3]
    assert independent(pairs, "rank-1") == 2


@pytest.mark.parametrize("shift", [0.0, 0.1, 1 / 3])
def test_one_person_has_seen_nobody_else(shift: float) -> None:
    rng = np.random.default_rng(3)
    genuine = np.arange(60) % 2 == 0
    o = {"genuine": genuine, "left": np.arange(60), "right": np.arange(60, 120)}
    o |= {"left_subject": np.zeros(60, int), "right_subject": np.zeros(60, int)}
    o |= {"score": genuine * 0.5 + shift + rng.normal(0, 0.5, 60), "fold": np.arange(60) // 6}
    plain = verification.measures(o["score"], genuine, o["fold"], ["0.1"])
    for name, m in with_intervals(plain, o, draws=400).items():
        assert m.low is not None and m.high is not None
        least, most = (0.0, 1.0) if "accuracy" not in name else (0.5, 0.5)
        assert m.low <= least + 0.05 and m.high >= most - 0.05, name


def test_parts_have_the_metrics_that_end_with_their_names() -> None:
    parts = ["distractors=10", "distractors=10,cleaned=facex", "distractors=100,set=2"]
    assert part_of("rank-1@distractors=10", parts) == "distractors=10"
    assert part_of("tpr@far=1e-6,distractors=10,cleaned=facex", parts) == parts[1]
    assert part_of("tpr@far=1e-6,distractors=100,set=2", parts) == parts[2]
    assert part_of("tpr@far=1e-6,distractors=100", parts) is None
    assert part_of("tpr@far=1e-6,distractors=10,rule=devkit", parts) is None
    assert part_of("auc", [""]) == ""
    both = ["", "pairs=all"]
    assert part_of("tpr@far=1e-6", both) == "" == part_of("tpr@far=1e-6,rule=nearest-far", both)
    assert part_of("tpr@far=1e-6,pairs=all", both) == "pairs=all"
    assert part_of("tpr@far=1e-6,pairs=all", [""]) is None
    o = {f"{part}/{name}": np.ones(n) for part, n in (("a=1", 1), ("b=2", 3)) for name in SEARCH}
    o |= {"score": np.ones(4), "genuine": np.ones(4), "c=3/unknown": np.ones(2)}
    split = {
        part: {n: len(c) for n, c in to_arrays(of).items()} for part, of in parts_of(o).items()
    }
    searched = {"a=1": dict.fromkeys(SEARCH, 1), "b=2": dict.fromkeys(SEARCH, 3)}
    assert split == {**searched, "": {"score": 4, "genuine": 4}}


def test_distractors_are_drawn_among_themselves() -> None:
    o = as_sets(all_pairs(), 50)
    o["left_images"] = np.where(np.arange(9) < 4, 3, 0)
    for w, _ in subject_draws(sample_of(o), 5, 0):
        assert w[:4].sum() == pytest.approx(4 * SCALE, abs=4)
        assert w[4:].sum() == pytest.approx(5 * SCALE, abs=5)


def test_the_same_seed_gives_the_same_interval_and_says_so() -> None:
    o = pair_list()
    plain = {n: Estimate(value=v) for n, v in plain_values(o).items()}
    a, b = (with_intervals(plain, o, draws=100, seed=7) for _ in range(2))
    c = with_intervals(plain, o, draws=100, seed=8)
    assert a == b
    assert a != c
    people = len(np.unique(o["left_subject"][o["genuine"]]))
    for m in a.values():
        assert m.low is not None
        assert m.high is not None
        assert m.value is not None
        assert 0 <= m.low < m.value < m.high <= 1
        how = f"95% by subject, 100 draws, seed 7, room for one unseen beside {people}"
        assert m.interval == how


def searches(seed: int = 0, galleries: int = 1) -> dict[str, NDArray]:
    """Ranks and open-set searches of 14 people, with ties and failures."""
    rng = np.random.default_rng(seed)
    mate, non = rng.integers(0, 20, 60) / 10, rng.integers(0, 12, 50) / 10
    mate[:5] = -np.inf
    o = {
        "rank": rng.integers(0, 4, 60),
        "rank_subject": rng.integers(0, 9, 60),
        "mate_score": mate,
        "mate_subject": rng.integers(0, 9, 60),
        "nonmate_score": non,
        "nonmate_subject": rng.integers(3, 14, 50),
    }
    if galleries == 2:
        o |= {"mate_gallery": np.arange(60) % 2, "nonmate_gallery": np.arange(50) % 2}
    return o


PEOPLE = ("subject", "impostor_left", "impostor_right")


@pytest.mark.parametrize(
    ("o", "names"),
    [
        (all_pairs(2), ["auc", "eer", "tpr@far=0.05", BEST]),
        (as_sets(all_pairs(2), 150), ["tpr@far=0.05", "tpr@far=0.1"]),
        (searches(1), ["rank-1", "tpir@fpir=0.2"]),
        (pair_list(2), [MEAN]),
    ],
)
def test_neither_the_numbers_of_people_nor_the_order_of_rows_move_an_interval(
    o: dict[str, NDArray], names: list[str]
) -> None:
    rng = np.random.default_rng(0)
    number, rows = rng.permutation(14), {n: rng.permutation(n) for n in map(np.size, o.values())}
    if "left_images" in o:
        number = rng.permutation(9)
    again = {}
    for name, column in o.items():
        moved = number[column] if name.endswith(PEOPLE) else column
        again[name] = moved if column.ndim == 0 else moved[rows[column.size]]
        if name.endswith("images"):
            again[name] = column[number.argsort()]
    plain = {n: Estimate(value=0.5) for n in names}
    one, two = (with_intervals(plain, a, draws=50) for a in (o, again))
    assert one == two
    assert all(m.low is not None for m in one.values())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(8, 80), st.booleans())
def test_the_interval_of_tpr_never_rises_as_far_falls(
    seed: int, people: int, pairs: int, tied: bool
) -> None:
    rng = np.random.default_rng(seed)
    left = rng.integers(0, people, pairs)
    right = np.where(np.arange(pairs) % 2, left, (left + 1 + rng.integers(0, people - 1)) % people)
    score = (left == right) + rng.normal(0, 0.7, pairs) + rng.normal(0, 0.5, people)[left]
    score = np.round(score, 1) if tied else score
    o = {"score": score, "genuine": left == right, "left": np.arange(pairs)}
    o |= {"right": np.arange(pairs), "left_subject": left, "right_subject": right}
    fars = ["1", "0.5", "0.35", "0.3", "0.2", "0.1", "0.06"]
    g, i = score[o["genuine"]], score[~o["genuine"]]
    for mean in ("", ",mean=subject"):
        plain = {f"tpr@far={far}{mean}": metrics.tpr_at_far(g, i, far) for far in fars}
        ends = [(m.low, m.high) for m in with_intervals(plain, o, draws=60).values() if m.value]
        assert ends == sorted(ends, reverse=True)
        assert [high for _, high in ends] == sorted([high for _, high in ends], reverse=True)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(0, 60))
def test_an_easier_metric_has_no_lower_bound_below_a_harder_one(
    seed: int, people: int, misses: int
) -> None:
    """No cliff at zero errors: of the same people's searches, each error only lowers the ends."""
    rng = np.random.default_rng(seed)
    who = rng.permutation(np.concatenate([np.arange(people), rng.integers(0, people, 100)]))
    hard = np.where(np.isin(np.arange(len(who)), rng.integers(0, len(who), misses)), 2, 1)
    plain = {"rank-1": Estimate(value=float(np.mean(hard == 1)))}
    one = with_intervals(plain, {"rank": hard, "rank_subject": who}, draws=60)["rank-1"]
    easy = {"rank-1": Estimate(value=1.0)}
    sure = {"rank": np.ones(len(who), np.int64), "rank_subject": who}
    two = with_intervals(easy, sure, draws=60)["rank-1"]
    assert one.low is not None and two.low is not None and one.low <= two.low < 1
    assert two.high == 1


def test_intervals_at_two_fars_are_lengthened_until_neither_end_falls_as_far_rises() -> None:
    ends = {"tpr@far=0.05": (0.2, 0.5), "tpr@far=1e-2": (0.3, 0.6), "tpr@far=0.5": (0.4, 0.7)}
    ends |= {"tpr@far=0.05@distractors=10": (0.1, 0.9), "eer": (0.0, 0.1)}  # another curve; none
    ends |= {"tpr@far=0.05,mean=subject": (0.25, 0.3), "tpr@far=1e-2,mean=subject": (0.1, 0.2)}
    made = {name: Estimate(value=0.45, low=a, high=b) for name, (a, b) in ends.items()}
    made["tpr@far=1e-3"] = Estimate(value=None)
    found = with_intervals(made, pair_list(), draws=5)
    assert {name: (found[name].low, found[name].high) for name in ends} == ends | {
        "tpr@far=0.05": (0.2, 0.6),
        "tpr@far=1e-2": (0.2, 0.6),
    }
    assert found["tpr@far=1e-3"] == made["tpr@far=1e-3"]


def test_an_estimate_without_value_or_with_interval_stays() -> None:
    o = pair_list()
    none = Estimate(value=None, note="why")
    held = Estimate(value=0.5, low=0.4, high=0.6, interval="own")
    other = Estimate(value=0.5)
    given_ = {"auc": none, "eer": held, "norm": other}
    assert with_intervals(given_, o, draws=5) == given_


def test_no_errors_is_not_certainty() -> None:
    o = pair_list()
    o["score"] = np.where(o["genuine"], 1.0, 0.0)
    m = with_intervals({"eer": Estimate(value=0.0)}, o, draws=4000)["eer"]
    n = len(np.unique(o["left_subject"][o["genuine"]]))
    assert m.low == 0 and m.high is not None
    lowest = binomtest(n, n).proportion_ci().low
    assert 0.5 * (1 - lowest) < m.high < 2 * (1 - lowest)


def test_ranks_resample_probes_by_subject() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(40), 25)
    easy = np.repeat(rng.random(40) < 0.8, 25)
    o = {"rank": np.where(easy, 1, 7), "rank_subject": subject}
    m = with_intervals({"rank-1": Estimate(value=float(easy.mean()))}, o)["rank-1"]
    assert m.low is not None
    assert m.high is not None
    # 40 people, not 1,000 probes, carry the number.
    assert m.high - m.low > 2.5 * 2 * 1.96 * math.sqrt(0.16 / 1000)


def test_a_metric_without_comparisons_of_its_kind_is_not_drawn() -> None:
    sides = {"mate": np.array([0.9, 0.4]), "mate_subject": np.array([0, 1])}
    known = Searches(**sides, nonmate=np.array([0.5]), nonmate_subject=np.array([2]))
    empty = replace(known, nonmate=np.empty(0), nonmate_subject=np.empty(0, int))
    s = replace(sample_of(pair_list()), searches=(known, empty))
    names = ["tpir@fpir=0.5", "fpir@threshold=0.5", "fnir@threshold=0.5", "tpir@threshold=0.5"]
    assert [*metric_ends(s, names, 3)] == names[2:]
    assert metric_ends(replace(s, searches=()), names, 3) == {}
    s = replace(s, genuine=s.genuine[:0], genuine_subject=s.genuine_subject[:0])
    assert [*metric_ends(s, ["fnmr@threshold=0.5", "fmr@threshold=0.5", "auc"], 3)] == [
        "fmr@threshold=0.5"
    ]


def test_people_are_drawn_a_thousand_times_where_nothing_else_is_said() -> None:
    s = sample_of(pair_list())
    assert metric_ends(s, ["tpr@far=1e-1"])["tpr@far=1e-1"].shape == (1000, 2)
    thresholds = threshold_draws(s, "1e-1")
    assert thresholds is not None and thresholds.shape == (1000, 2)
    assert paired_draws(s, s, ["auc"])["auc"].tolist() == [0] * 1000


@pytest.mark.parametrize("galleries", [1, 2])
def test_a_draw_of_searches_is_the_metric_with_each_probe_as_often_as_its_person(
    galleries: int,
) -> None:
    o = searches(galleries, galleries)
    sample = sample_of(o)
    drawn = metric_ends(sample, ["rank-1", "tpir@fpir=0.2"], 50)
    seen = np.unique(np.concatenate([o[f"{n}_subject"] for n in ("rank", "mate", "nonmate")]))
    for d, (w, unseen) in enumerate(subject_draws(sample, 50, 0)):
        rank, mate, non = (
            w[np.searchsorted(seen, o[f"{n}_subject"])] for n in ("rank", "mate", "nonmate")
        )
        add = unseen * 60 / len(np.unique(o["rank_subject"]))
        hits, whole = rank[o["rank"] == 1].sum(), rank.sum() + add
        assert drawn["rank-1"][d] == pytest.approx([hits / whole, (hits + add) / whole])
        found = []
        for g in range(galleries):
            m, r = np.arange(60) % galleries == g, np.arange(50) % galleries == g
            bars = sorted({*o["nonmate_score"][r].tolist(), -np.inf}, reverse=True)
            false = [non[r & (o["nonmate_score"] > bar)].sum() for bar in bars]
            bar = [b for b, f in zip(bars, false, strict=True) if f <= 0.2 * non[r].sum()][-1]
            hits = mate[m & (o["mate_score"] > bar)].sum()
            add = unseen * m.sum() / len(np.unique(o["mate_subject"][m]))
            found.append([hits, hits + add] / (mate[m].sum() + add))
        assert drawn["tpir@fpir=0.2"][d] == pytest.approx(np.mean(found, axis=0))


def test_people_without_names_are_joined_by_genuine_pairs() -> None:
    left, right = np.array([0, 4, 1, 5]), np.array([1, 5, 2, 3])
    genuine = np.array([True, True, True, False])
    assert people_of_pairs(left, right, genuine).tolist() == [0, 0, 0, 3, 4, 4]


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15), st.booleans()), min_size=1))
def test_joined_people_equal_a_search_through_the_graph(rows: list[tuple[int, int, bool]]) -> None:
    left, right, genuine = (np.array(c) for c in zip(*rows, strict=True))
    person = people_of_pairs(left, right, genuine)
    same = {i: {i} for i in range(len(person))}
    for a, b, g in rows:
        if g:
            joined = same[a] | same[b]
            for i in joined:
                same[i] = joined
    assert person.tolist() == [min(same[i]) for i in range(len(person))]


def test_a_sample_of_each_kind_of_outcomes_numbers_the_people() -> None:
    genuine = np.array([True, True, False, False])
    o = {"score": np.array([0.5, 0.9, 0.1, 0.2]), "genuine": genuine}
    assert (s := sample_of(o)).unit == "comparison" and s.subjects == 6
    rows = {"left": np.array([0, 1, 0, 4]), "right": np.array([1, 2, 3, 3])}
    joined = sample_of(o | rows)  # 0, 1 and 2 are one person, 3 and 4 others
    assert (joined.unit, joined.subjects) == ("subject", 3)
    assert joined.genuine_subject.tolist() == [0, 0] and joined.place is not None
    assert (joined.left.tolist(), joined.right.tolist()) == ([2, 0], [1, 1])
    assert (joined.impostor.tolist(), joined.place.tolist()) == ([0.2, 0.1], [3, 2])
    who = {"left_subject": np.array([5, 5, 5, -1]), "right_subject": np.array([5, 5, -1, -1])}
    named = sample_of(o | rows | who)  # rows 3 and 4 are unlabelled: of one person each
    assert named.subjects == 3 and named.left[0] != named.right[0] == named.right[1]
    rows = {"left": np.array([0, 1, 4, 6]), "right": np.array([1, 2, 3, 5])}
    who = {"left_subject": np.array([3, 3, -1, 3]), "right_subject": np.array([3, 3, -1, -1])}
    assert sample_of(o | rows | who).subjects == 4  # person 3, and rows 3, 4 and 5
    searched = sample_of({"rank": np.array([1, 2]), "rank_subject": np.array([7, 9])})
    assert (searched.subjects, searched.impostors) == (2, 0)
    assert searched.rank_subject is not None and searched.rank_subject.tolist() == [0, 1]
    ranks = {"rank": np.array([1, 3]), "rank_subject": np.array([4, 6])}
    sets = as_sets(all_pairs(), 20) | ranks
    for images in (True, False):
        if not images:
            sets = {n: c for n, c in sets.items() if not n.endswith("_images")}
            sets["impostors"] = np.array(20)
        of_sets = sample_of(sets)
        assert of_sets.subjects == 9 and of_sets.rank is not None and of_sets.searches == ()
        assert (of_sets.rank.tolist(), len(of_sets.impostor)) == ([1, 3], 20)
        assert (of_sets.left_images is not None) == images
    nobody = {n: c[:0] for n, c in as_sets(all_pairs(), 20).items() if c.ndim and "images" not in n}
    assert sample_of(nobody | {"impostors": np.array(0)}).subjects == 0
    drawn = {"auc": np.array([0.5, 0.75])}
    kept = sample_of(DrawnOutcomes(subject=np.array([4, 4, 7, 9]), drawn=drawn))
    assert (kept.subjects, kept.impostors, kept.drawn) == (3, 0, drawn)


def test_long_lists_are_drawn_less_often_but_two_hundred_times_at_least() -> None:
    s = sample_of(pair_list())  # 60 comparisons
    assert [affordable(1000, s, 60 * n) for n in (0, 199, 200, 201, 999, 1001)] == [
        *(200, 200, 200, 201, 999, 1000)
    ]
    assert affordable(1000, replace(s, thinned=s), 90 * 250) == 250  # 30 impostors more
    assert affordable(7, s, 0) == 7


@pytest.mark.parametrize(("people", "drawn"), [(True, 1000), (False, 250)])
def test_comparisons_of_nobody_known_are_drawn_a_tenth_as_often(
    people: bool, drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.protocols.uncertainty.intervals.WORK", 60 * 2500)
    o = {n: c for n, c in pair_list().items() if people or n in ("score", "genuine")}
    m = with_intervals({"auc": Estimate(value=0.9)}, o)["auc"]
    assert m.interval is not None and f", {drawn:,} draws, seed 0" in m.interval
    assert m.interval.endswith("too short where people recur") != people


def test_mistakes_are_named() -> None:
    with pytest.raises(ProtocolError, match="nothing to resample"):
        sample_of({})


def test_subject_draws_are_wider_than_pair_draws_where_people_differ() -> None:
    rng = np.random.default_rng(0)
    ability = np.repeat(rng.normal(0, 1, 100), 10)
    score = 1 + ability + rng.normal(0, 0.3, 1000)
    o = {
        "score": np.concatenate([score, rng.normal(-3, 1, 1000)]),
        "genuine": np.arange(2000) < 1000,
        "left": np.arange(2000),
        "right": np.concatenate([np.arange(1000), rng.permutation(1000)]),
    }
    subject = np.concatenate([np.repeat(np.arange(100), 10), np.arange(100, 1100)])
    people = {"left_subject": subject, "right_subject": subject[o["right"]]}
    by_subject = metric_draws(sample_of({**o, **people}), ["tpr@far=1e-2"], 300)[
        "tpr@far=1e-2"
    ].std()
    by_pair = metric_draws(sample_of(o), ["tpr@far=1e-2"], 300)["tpr@far=1e-2"].std()
    assert by_subject > 1.5 * by_pair


def test_few_people_some_of_them_hardly_recognised_are_covered() -> None:
    """Of 30 people one in twenty scores like a stranger; the spread of draws held EER in 68 %."""
    rng, held = np.random.default_rng(0), []
    who = np.repeat(np.arange(30), 6)
    o = {"genuine": np.arange(600) < 180, "left": np.arange(600), "right": np.arange(600)}
    impostor = np.arange(420)
    o["left_subject"] = np.append(who, impostor % 30)
    o["right_subject"] = np.append(who, (impostor + 1 + impostor // 30) % 30)
    mean, goat = 5.0, 2.5
    crossing = optimize.brentq(
        lambda t: 0.95 * ndtr(t - mean) + 0.05 * ndtr(t - goat) - ndtr(-t), 0, 5
    )
    for seed in range(60):
        own = np.where(rng.random(30) < 0.05, goat, mean)
        o["score"] = np.append(own[who], np.zeros(420)) + rng.normal(size=600)
        g, i = o["score"][o["genuine"]], o["score"][~o["genuine"]]
        m = with_intervals({"eer": metrics.eer(g, i)}, o, draws=60, seed=seed)["eer"]
        assert m.low is not None and m.high is not None
        held.append(m.low <= ndtr(-crossing) <= m.high)
    assert np.mean(held) > 0.92


@pytest.mark.parametrize("people", [2, 10, 40])
def test_an_accuracy_of_few_people_ends_where_students_t_does(people: int) -> None:
    drawn = np.repeat(np.random.default_rng(0).normal(0.5, 0.1, 20_000)[:, None], 2, axis=1)
    m = Estimate(value=0.5)
    plain, far = (bounded(m, drawn, people, expanded=e) for e in (False, True))
    t = {2: 12.7062, 10: 2.26216, 40: 2.02269}[people] * math.sqrt(people / (people - 1))
    tail = ndtr(-t)
    assert far.low == pytest.approx(np.quantile(drawn, tail), abs=0.01)
    assert far.high == pytest.approx(np.quantile(drawn, 1 - tail), abs=0.01)
    assert far.low < plain.low < plain.high < far.high
    o = pair_list(3, people=people if people > 2 else 12)
    found = with_intervals({"accuracy": Estimate(value=0.9)}, o, draws=60)["accuracy"]
    ends = metric_ends(sample_of(o), ["accuracy"], 60)["accuracy"]
    who = found.people
    assert who is not None
    assert (
        found
        == replace(bounded(Estimate(value=0.9), ends, who, expanded=True), people=who)
        != replace(bounded(Estimate(value=0.9), ends, who), people=who)
    )
